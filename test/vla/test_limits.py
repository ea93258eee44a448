"""Guards, and commands that keep their limits whatever is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from policy_parts import HOME, LIMITS, RATE_HZ, SPEC, ramp

from rynn_brain_ros.values import ConfigError, InputError
from rynn_brain_ros.vla.limits import (
    HoldCause,
    MotionLimits,
    Shaper,
    broken_chunk,
    unusual_state,
)
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


def test_a_good_chunk_passes():
    assert broken_chunk(SPEC, ramp()) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_with_a_number_that_is_none_is_named_with_its_place(bad):
    chunk = ramp()
    chunk[3, 1] = bad
    hold = broken_chunk(SPEC, chunk)
    assert hold.cause is HoldCause.NOT_FINITE
    assert "position.b of step 3" in hold.text


def test_a_chunk_of_another_shape_is_a_failure_of_the_policy():
    assert broken_chunk(SPEC, ramp()[:-1]).cause is HoldCause.POLICY_FAILED


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


def test_a_target_that_is_no_number_is_an_error_and_changes_nothing(shaper):
    before = shaper.towards(HOME + 0.1, np.zeros(3))[-1]
    with pytest.raises(PolicyError, match="no motion within the limits"):
        shaper.towards(np.array((np.nan, 1.0, 0.5)), np.zeros(3))
    after = shaper.rest()[0]
    assert np.abs(after - before).max() < max(LIMITS.velocity) * DT


def test_without_ruckig_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"rynn_brain_ros\[policy\]"):
        Shaper(LIMITS, 0.1, 1)
