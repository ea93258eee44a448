"""Limits come from the configuration, and a running system can only tighten them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safety_examples import LIMITS, NOW_NS, PROPOSAL, SITUATION

from rynn_brain_ros.config import Setting, configure, settings
from rynn_brain_ros.safety import Gate, SafetyLimits, tightened
from rynn_brain_ros.values import ConfigError

FIELDS = {item.name: item for item in settings(SafetyLimits)}
FIXED = {"scene_radius_m", "ground_z_m"}
"""More of these is neither tighter nor wider."""
TIGHT_IS_HIGH = {
    *("workspace_x_min_m", "workspace_y_min_m", "workspace_z_min_m", "reach_min_m", "floor_z_m"),
    *("support_clearance_m", "robot_radius_m", "min_confidence", "unknown_confidence"),
    *("scene_seen_share", "robot_width_m", "robot_height_m", "clearance_m"),
    *("dry_run", "require_approval", "engine_verdict"),
}


def rank(item: Setting, value: Any) -> float:
    """How tight a value is, as people mean it."""
    number = item.choices.index(value) if item.choices else float(value)
    return number if item.name in TIGHT_IS_HIGH else -number


def values_of(item: Setting) -> st.SearchStrategy[Any]:
    if isinstance(item.default, bool):
        return st.booleans()
    if isinstance(item.default, str):
        return st.sampled_from(item.choices)
    near = st.floats(item.default - 0.5, item.default + 0.5)
    return near | st.floats(item.minimum, item.maximum)


CHANGES = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.none(), max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: values_of(FIELDS[name]) for name in names})
)


@examples(max_examples=200, deadline=None)
@given(CHANGES)
def test_no_combination_of_changes_widens_anything(changes: dict[str, Any]):
    try:
        new = tightened(LIMITS, **changes)
    except ConfigError:
        return
    for name, item in FIELDS.items():
        before, after = getattr(LIMITS, name), getattr(new, name)
        assert before == after or (name not in FIXED and rank(item, after) > rank(item, before))


@examples(max_examples=100, deadline=None)
@given(CHANGES)
def test_what_tighter_limits_approve_wider_ones_approve(changes: dict[str, Any]):
    try:
        new = tightened(LIMITS, **changes)
    except ConfigError:
        return
    situation = dataclasses.replace(SITUATION, newest=PROPOSAL.frames[0], now_ns=NOW_NS)
    tight, wide = (Gate(limits).judge(PROPOSAL, situation) for limits in (new, LIMITS))
    assert wide.approved or not tight.approved


def step_of(item: Setting, tighter: bool) -> Any:
    """A value a little tighter or wider than the default, or ``None`` where there is none."""
    if item.choices:
        end = item.choices[-1 if tighter else 0]
        return end if end != item.default else None
    up = (item.name in TIGHT_IS_HIGH) == tighter
    if isinstance(item.default, bool):
        return up if up != item.default else None
    value = item.default + (1e-3 if up else -1e-3)
    return value if item.minimum <= value <= item.maximum else None


@pytest.mark.parametrize("name", sorted(set(FIELDS) - FIXED))
def test_each_limit_can_be_tightened_and_not_widened(name: str):
    tighter, wider = (step_of(FIELDS[name], side) for side in (True, False))
    base = SafetyLimits()
    if tighter is not None:
        assert getattr(tightened(base, **{name: tighter}), name) == tighter
    if wider is not None:
        with pytest.raises(ConfigError, match=f"limit '{name}' is {base_text(base, name)}"):
            tightened(base, **{name: wider})


def base_text(base: SafetyLimits, name: str) -> str:
    return repr(getattr(base, name)).replace(".", r"\.")


def test_widening_names_the_limit_and_both_values():
    with pytest.raises(ConfigError, match=r"'max_speed' is 0\.7 .* 0\.9: .* only be made lower"):
        tightened(SafetyLimits(), max_speed=0.9)


def test_motion_cannot_be_switched_on_while_it_runs():
    with pytest.raises(ConfigError, match="'dry_run' is True and was asked to become False"):
        tightened(SafetyLimits(), dry_run=False)


def test_an_unknown_confidence_once_refused_stays_refused():
    strict = tightened(SafetyLimits(), unknown_confidence="refuse")
    with pytest.raises(ConfigError, match="unknown_confidence"):
        tightened(strict, unknown_confidence="allow")


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_has_no_tighter_side_stays(name: str):
    with pytest.raises(ConfigError, match=f"'{name}' .* may not be changed"):
        tightened(SafetyLimits(), **{name: FIELDS[name].default + 0.01})


def test_nothing_changed_is_the_same():
    assert tightened(LIMITS) == LIMITS


def test_an_unknown_limit_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'max_speed'"):
        tightened(SafetyLimits(), maxspeed=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_limit_out_of_its_own_limits_is_refused_at_once(value: float):
    with pytest.raises(ConfigError, match="'max_speed'"):
        SafetyLimits(max_speed=value)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("workspace_x_min_m", "workspace_x_max_m"),
        ("workspace_y_min_m", "workspace_y_max_m"),
        ("workspace_z_min_m", "workspace_z_max_m"),
        ("reach_min_m", "reach_max_m"),
    ],
)
def test_a_range_without_inside_is_refused(low: str, high: str):
    with pytest.raises(ConfigError, match=f"{low} is 2 and {high} is 1"):
        SafetyLimits(**{low: 2.0, high: 1.0})


def test_a_word_that_is_no_choice_names_the_choices():
    with pytest.raises(ConfigError, match="'maybe'; it must be one of allow, refuse"):
        configure(SafetyLimits, {"unknown_confidence": "maybe"})


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_limit_says_what_it_is_for_and_which_side_is_tighter(name: str):
    item = FIELDS[name]
    assert len(item.description) > 15
    assert item.tighter in (("",) if name in FIXED else ("lower", "higher"))
    if isinstance(item.default, float):
        assert item.minimum is not None and item.maximum is not None


def test_the_defaults_move_nothing():
    assert SafetyLimits().dry_run
