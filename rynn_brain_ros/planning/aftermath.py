"""What must be seen after a thing was pushed, pulled or handed over.

As in `confirming`, nothing that an engine said is used: the newest picture is compared with what
was seen before and what was planned.
"""

from __future__ import annotations

import math

from rynn_brain_ros.geometry import Capsule
from rynn_brain_ros.planning.holding import Handed, Shifted, Surface
from rynn_brain_ros.planning.remeasuring import Shown, surface_of
from rynn_brain_ros.values import Check

_FALLEN_M = 0.2
"""How far aside a thing may lie that fell."""
_HALF_WAY = 0.5
"""A thing that is off by this share of its way may as well not have moved."""


def shift_check(shifted: Shifted, shown: Shown, slack_m: float, min_share: float) -> Check:
    """The thing has moved as far as it was pushed, within ``slack_m``, and at least ``min_share``
    of what was seen of it is seen again."""
    now = surface_of(shifted.looks, shifted.way, shifted.support_z_m, shown)
    x, y, _ = shifted.to_m
    slack_m = min(slack_m, _HALF_WAY * shifted.by_m)
    off_m = math.inf if now is None else _off_m(shifted, now)
    share = 0.0 if now is None else now.n_pixels / shifted.seen.n_pixels
    return Check(
        f"thing moved by {shifted.by_m:.3f} m to ({x:.2f}, {y:.2f}) m",
        off_m <= slack_m and share >= min_share,
        _told(shifted, now, off_m),
        f"within {slack_m:.3f} m",
    )


def _off_m(shifted: Shifted, now: Surface) -> float:
    """How far its surface is from where it would be had it moved as planned."""
    moved = [a - b for a, b in zip(now.middle_m, shifted.seen.middle_m, strict=True)]
    wanted = [a - b for a, b in zip(shifted.to_m, shifted.from_m, strict=True)]
    return math.dist(moved[:2], wanted[:2])


def _told(shifted: Shifted, now: Surface | None, off_m: float) -> str:
    if now is None:
        return "it is not seen on the way it was pushed, nor at its end"
    moved_m = math.dist(now.middle_m[:2], shifted.seen.middle_m[:2])
    return f"it has moved by {moved_m:.3f} m and is {off_m:.3f} m off"


def handed_check(handed: Handed, shown: Shown, max_left_share: float) -> Check:
    """The hand let go of it, and it does not lie below that place: a person has it."""
    x, y, z = handed.at_m
    name = f"thing handed over at ({x:.2f}, {y:.2f}, {z:.2f}) m"
    if not handed.let_go:
        return Check(name, False, "it was offered and the hand did not open", "taken by a person")
    looks, support_z_m = handed.taken.looks, handed.taken.grasp.support_z_m
    below = Capsule((x, y, support_z_m), (x, y, z), _FALLEN_M)
    fallen = surface_of(looks, below, support_z_m, shown)
    share = 0.0 if fallen is None else fallen.n_pixels / max(1, looks.n_pixels)
    return Check(
        name,
        share <= max_left_share,
        f"{share:.0%} of its picture seen there or below",
        f"at most {max_left_share:.0%}",
    )
