"""Motion is off until a person arms it, and only for a while."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.values import ConfigError, InputError, RefusalCode

S = 1_000_000_000
START = 5_000 * S


@pytest.fixture
def armed() -> Arming:
    arming = Arming(expires_s=60.0)
    arming.arm(START)
    return arming


def test_it_is_disarmed_at_first():
    arming = Arming()
    assert not arming.is_armed(START)
    assert arming.remaining_s(START) == 0.0
    assert arming.check(START).code is RefusalCode.NOT_ARMED


def test_it_is_armed_until_it_expires(armed: Arming):
    assert armed.is_armed(START)
    assert armed.is_armed(START + 60 * S - 1)
    assert not armed.is_armed(START + 60 * S)


def test_what_has_expired_stays_so(armed: Arming):
    assert "expired after 60 s" in armed.check(START + 61 * S).text
    assert not armed.is_armed(START + 61 * S)
    armed.arm(START + 62 * S)
    assert armed.is_armed(START + 63 * S)


def test_the_rest_of_the_time_is_told(armed: Arming):
    assert armed.remaining_s(START + 45 * S) == pytest.approx(15.0)
    assert armed.remaining_s(START + 61 * S) == 0.0


def test_asking_for_the_rest_of_the_time_changes_nothing(armed: Arming):
    assert armed.remaining_s(START - S) == 0.0
    assert armed.is_armed(START + S)


def test_disarming_is_at_once_and_says_why(armed: Arming):
    armed.disarm("the emergency stop was pressed")
    assert not armed.is_armed(START)
    assert armed.check(START).text.startswith("motion is off: the emergency stop was pressed")


def test_arming_again_begins_anew(armed: Arming):
    armed.arm(START + 50 * S)
    assert armed.is_armed(START + 100 * S)


def test_whoever_arms_may_ask_for_less():
    arming = Arming(expires_s=60.0)
    arming.arm(START, for_s=5.0)
    assert arming.remaining_s(START) == pytest.approx(5.0)


def test_whoever_arms_cannot_ask_for_more():
    arming = Arming(expires_s=60.0)
    arming.arm(START, for_s=3600.0)
    assert arming.remaining_s(START) == pytest.approx(60.0)


def test_the_configured_time_cannot_be_changed(armed: Arming):
    with pytest.raises(AttributeError):
        armed.expires_s = 3600.0


def test_a_clock_that_jumps_back_disarms_for_good(armed: Arming):
    assert armed.is_armed(START + 30 * S)
    assert "jumped back by 10 s" in armed.check(START + 20 * S).text
    assert not armed.is_armed(START + 31 * S)


def test_a_clock_before_the_arming_disarms(armed: Arming):
    assert not armed.is_armed(START - 1)


@pytest.mark.parametrize("expires_s", [0.0, -1.0, math.nan, math.inf])
def test_arming_for_ever_or_never_is_a_mistake(expires_s: float):
    with pytest.raises(ConfigError, match="give a positive number"):
        Arming(expires_s)


@pytest.mark.parametrize("for_s", [0.0, -1.0, math.nan])
def test_arming_for_no_time_is_a_mistake(for_s: float):
    arming = Arming()
    with pytest.raises(InputError, match="give a positive number"):
        arming.arm(START, for_s)
    assert not arming.is_armed(START)


def test_who_asked_to_arm_before_it_was_disarmed_does_not_arm_it():
    arming = Arming()
    early = arming.ticket()
    arming.disarm("a person disarmed it")
    assert not arming.arm(START, ticket=early)
    assert not arming.is_armed(START)
    assert "a person disarmed it" in str(arming.check(START))
    assert arming.arm(START, ticket=arming.ticket())
    assert arming.is_armed(START)


@given(st.lists(st.tuples(st.sampled_from(["arm", "disarm", "ask"]), st.integers(-50, 50))))
def test_armed_means_armed_before_and_not_disarmed_since(steps: list[tuple[str, int]]):
    """Against a plain account: when it was armed last, and the latest time that was seen."""
    arming, now_ns, since_ns, latest_ns = Arming(expires_s=60.0), START, None, START
    for act, seconds in steps:
        now_ns += seconds * S
        if act == "arm":
            arming.arm(now_ns)
            since_ns = latest_ns = now_ns
        elif act == "disarm":
            arming.disarm()
            since_ns = None
        else:
            kept = since_ns is not None and latest_ns <= now_ns < since_ns + 60 * S
            assert arming.is_armed(now_ns) is kept
            since_ns, latest_ns = since_ns if kept else None, now_ns
