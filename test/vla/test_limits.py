"""Guards, and commands that keep their limits whatever is asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest
from policy_parts import (
    CONTRACT,
    HOME,
    HORIZON,
    LIMITS,
    RATE_HZ,
    SPEC,
    TRAINED_STATES,
    ramp,
    spec_for,
)

from rynn_brain_ros.values import ConfigError, InputError
from rynn_brain_ros.vla.aiming import Aim
from rynn_brain_ros.vla.chunks import RuntimeSpec
from rynn_brain_ros.vla.limits import (
    Hold,
    HoldCause,
    MotionLimits,
    Shaper,
    broken_chunk,
    unusual_state,
    unusual_target,
)
from rynn_brain_ros.vla.normalization import compute
from rynn_brain_ros.vla.values import PolicyError

N_SAMPLES = 10
DT = 1 / RATE_HZ / N_SAMPLES


# --- guards --------------------------------------------------------------------------------------


def test_a_state_as_in_training_passes():
    assert unusual_state(SPEC, HOME, max_z=6.0) is None


def test_a_state_outside_training_is_named_with_its_number():
    hold = unusual_state(SPEC, HOME + np.array((0.0, 9.0, 0.0)), max_z=6.0)
    assert hold.cause is HoldCause.OUT_OF_RANGE
    assert "position.b is 10 (trained " in hold.text
    assert "position.a" not in hold.text


@pytest.mark.parametrize("state", [(0.0, np.nan, 0.5), (0.0, 1.0, np.inf), (0.0, 1.0)])
def test_a_state_that_is_none_is_named(state):
    hold = unusual_state(SPEC, np.array(state), max_z=6.0)
    assert hold.cause is HoldCause.STATE_UNUSABLE
    assert "position.a, position.b, position.finger" in hold.text


METRES = spec_for(CONTRACT, Aim(3, frame="base"))
PIXELS = spec_for(CONTRACT, Aim(2, camera="/wrist"))


@pytest.mark.parametrize(
    ("spec", "point"),
    [(METRES, (0.45, 0.0, 0.1)), (METRES, (1.0, 0.0, 0.1)), (METRES, ()), (SPEC, ())],
)
def test_a_target_point_as_in_training_passes_and_so_does_none(spec, point):
    assert unusual_target(spec, point, max_z=6.0) is None


@pytest.mark.parametrize(
    ("spec", "point", "named"),
    [
        (
            METRES,
            (50.0, 0.0, 0.1),
            r"x is 50 \(trained 0.5 ± 0.1\): more than 6 standard deviations",
        ),
        (METRES, (np.nan, 0.0, 0.1), "finite numbers"),
        (METRES, (500.0, 300.0), "2 numbers.* 3 in base"),
        (SPEC, (0.5, 0.0, 0.1), "3 numbers.* none"),
    ],
)
def test_a_target_point_that_nobody_trained_with_is_named(spec, point, named):
    hold = unusual_target(spec, point, max_z=6.0)
    assert hold.cause is HoldCause.TARGET_UNUSABLE
    assert re.search(named, hold.text)


def test_a_point_of_the_picture_may_be_some_pixels_beside_where_all_were_in_training():
    assert unusual_target(PIXELS, (30.0, 30.0), max_z=6.0) is None
    assert unusual_target(PIXELS, (500.0, 0.0), max_z=6.0) is not None


def check(chunk: np.ndarray) -> Hold | None:
    return broken_chunk(SPEC, chunk, HOME, max_z=15.0)


def test_a_good_chunk_passes():
    assert check(ramp()) is None


def test_a_chunk_that_goes_where_no_demonstration_did_is_a_failure_of_the_policy():
    chunk = ramp()
    chunk[3, 1] = 1000.0
    hold = check(chunk)
    assert hold.cause is HoldCause.POLICY_FAILED
    assert re.search(r"position\.b of step 3 is 1000; .*than 15 standard deviations", hold.text)


def test_a_joint_that_never_moved_in_training_may_move_only_a_little():
    still = compute(
        ((s, np.tile(s, (HORIZON, 1)), ()) for s in TRAINED_STATES), SPEC.statistics.provenance
    )
    spec = RuntimeSpec(HORIZON, still)
    assert broken_chunk(spec, ramp(step_rad=0.01), HOME, max_z=15.0) is None
    hold = broken_chunk(spec, ramp(step_rad=0.1), HOME, max_z=15.0)
    assert "position.a" in hold.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_with_a_number_that_is_none_is_named_with_its_place(bad):
    chunk = ramp()
    chunk[3, 1] = bad
    hold = check(chunk)
    assert hold.cause is HoldCause.NOT_FINITE
    assert "position.b of step 3" in hold.text


def test_a_chunk_of_another_shape_is_a_failure_of_the_policy():
    assert check(ramp()[:-1]).cause is HoldCause.POLICY_FAILED


@pytest.mark.parametrize("velocity", [(), (0.0,), (-1.0,), (float("nan"),), (float("inf"),)])
def test_motion_limits_that_limit_nothing_are_an_error(velocity):
    with pytest.raises(ConfigError, match="above 0"):
        MotionLimits(velocity, (1.0,) * len(velocity), (1.0,) * len(velocity))


# --- motion --------------------------------------------------------------------------------------


@pytest.fixture
def shaper() -> Shaper:
    pytest.importorskip("ruckig", reason="the extra policy is not installed")
    shaper = Shaper(LIMITS, 1 / RATE_HZ, N_SAMPLES)
    shaper.start(HOME)
    return shaper


def assert_within_limits(positions: np.ndarray) -> None:
    """By differences of what a robot is sent; a mean over an interval is no more than its peak."""
    slack = 1 + 1e-6
    path = np.concatenate([np.tile(HOME, (3, 1)), positions])
    for order, limit in enumerate((LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk), 1):
        rates = np.diff(path, order, axis=0) / DT**order
        noise = 1e-12 / DT**order
        assert np.all(np.abs(rates) <= np.array(limit) * slack + noise), f"derivative {order}"


def test_a_target_far_away_is_approached_within_all_limits(shaper):
    still, far = np.zeros(3), HOME + np.array((3.0, -2.0, 0.5))
    positions = np.concatenate([shaper.towards(far, still) for _ in range(40)])
    assert_within_limits(positions)
    np.testing.assert_allclose(positions[-1], far, atol=1e-9)


def test_limits_are_kept_whatever_is_asked_for(shaper):
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(400):
        if rng.random() < 0.2:
            steps.append(shaper.rest())
        else:
            wild = HOME + rng.normal(0, 2, 3)
            steps.append(shaper.towards(wild, rng.uniform(-5, 5, 3)))
    assert_within_limits(np.concatenate(steps))


def test_a_path_within_the_limits_is_followed_to_each_waypoint(shaper):
    def at(step: int) -> np.ndarray:
        return HOME + 0.2 * (1 - np.cos(step / 8)) * np.ones(3)

    told = []
    for step in range(1, 60):
        velocity = (at(step + 1) - at(step - 1)) * RATE_HZ / 2
        told.append(shaper.towards(at(step), velocity)[-1])
    np.testing.assert_allclose(told, [at(step) for step in range(1, 60)], atol=1e-9)


def test_coming_to_rest_in_full_motion_keeps_the_limits_and_ends_still(shaper):
    moving = [shaper.towards(HOME + np.array((9.0, 0.0, 0.0)), np.zeros(3)) for _ in range(5)]
    resting = [shaper.rest() for _ in range(10)]
    assert_within_limits(np.concatenate([*moving, *resting]))
    np.testing.assert_allclose(np.diff(np.concatenate(resting[-2:]), axis=0), 0.0, atol=1e-12)


def test_commands_begin_where_the_robot_is(shaper):
    first = shaper.towards(HOME + np.array((1.0, 0.0, 0.0)), np.zeros(3))[0]
    assert np.all(np.abs(first - HOME) < 1e-3)


def test_the_seam_between_two_of_ruckigs_cases_is_stepped_over(shaper):
    """From rest, 2 a³ / j² away: full acceleration is reached for just a moment."""
    for _ in range(20):
        told = shaper.towards(HOME + 0.1, np.zeros(3))
    np.testing.assert_allclose(told[-1], HOME + 0.1, atol=1e-6)


def test_what_cannot_be_done_in_time_is_approached_and_not_run_up_to():
    pytest.importorskip("ruckig", reason="the extra policy is not installed")
    gentle = Shaper(MotionLimits((0.5,), (2.0,), (20.0,)), 1 / 30, N_SAMPLES)
    gentle.start(np.zeros(1))
    for step in range(1, 31):
        told = gentle.towards(np.array([0.5 * step / 30]), np.array([0.5]))
        assert told.min() >= -1e-12
    assert told[-1, 0] > 0.25


@pytest.mark.parametrize("far", [1e9, 1e300])
def test_a_target_too_far_for_ruckig_is_an_error_and_changes_nothing(shaper, far):
    with pytest.raises(PolicyError, match="no motion within the limits"):
        shaper.towards(HOME + np.array((far, 0.0, 0.0)), np.zeros(3))
    np.testing.assert_array_equal(shaper.rest(), np.tile(HOME, (N_SAMPLES, 1)))


def test_a_target_that_is_no_number_is_an_error_and_changes_nothing(shaper):
    before = shaper.towards(HOME + 0.1, np.zeros(3))[-1]
    with pytest.raises(PolicyError, match="no motion within the limits"):
        shaper.towards(np.array((np.nan, 1.0, 0.5)), np.zeros(3))
    after = shaper.rest()[0]
    assert np.abs(after - before).max() < max(LIMITS.velocity) * DT


def test_without_ruckig_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .*'ruckig>=0\.12'"):
        Shaper(LIMITS, 0.1, 1)
