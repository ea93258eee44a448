"""What a robot may do at most: one frozen value, which a running system can only tighten."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.config import Setting, checked, configure, setting, settings
from rynn_brain_ros.values import ConfigError, Vector3


@dataclass(frozen=True)
class SafetyLimits:
    """The gate's limits; the defaults suit a Franka arm at a table.

    The workspace is a box in the frame that goals are told in (`Motion.base_frame`): an arm's
    base, or the map that a robot navigates in. Raises `ConfigError` for a value out of its own
    limits and for a box or a ring without inside.
    """

    workspace_x_min_m: float = setting(
        0.05, "workspace box, smallest x [m]", -1e4, 1e4, tighter="higher"
    )
    workspace_x_max_m: float = setting(
        0.85, "workspace box, largest x [m]", -1e4, 1e4, tighter="lower"
    )
    workspace_y_min_m: float = setting(
        -0.7, "workspace box, smallest y [m]", -1e4, 1e4, tighter="higher"
    )
    workspace_y_max_m: float = setting(
        0.7, "workspace box, largest y [m]", -1e4, 1e4, tighter="lower"
    )
    workspace_z_min_m: float = setting(
        -0.1, "workspace box, smallest z [m]", -1e4, 1e4, tighter="higher"
    )
    workspace_z_max_m: float = setting(
        0.9, "workspace box, largest z [m]", -1e4, 1e4, tighter="lower"
    )
    reach_min_m: float = setting(
        0.25, "how near to its base's axis an arm may work [m]", 0.0, 10.0, tighter="higher"
    )
    reach_max_m: float = setting(
        0.8, "how far from its base's axis an arm may work [m]", 0.0, 10.0, tighter="lower"
    )
    floor_z_m: float = setting(
        0.0, "height in the base frame below which no tool goes [m]", -10.0, 10.0, tighter="higher"
    )
    support_clearance_m: float = setting(
        0.005, "how far a tool stays above floor and support [m]", 0.0, 1.0, tighter="higher"
    )
    robot_radius_m: float = setting(
        0.13, "what is this near to the line of the robot's links is robot [m]",
        0.0, 2.0, tighter="higher",
    )  # fmt: skip
    max_sigma_m: float = setting(
        0.02, "largest standard deviation of a target's place [m]", 0.0, 1.0, tighter="lower"
    )
    min_confidence: float = setting(
        0.2, "smallest mean probability of a target's coordinates", 0.0, 1.0, tighter="higher"
    )
    unknown_confidence: str = setting(
        "allow", "what to do where an engine tells no confidence: allow or refuse",
        choices=("allow", "refuse"), tighter="higher",
    )  # fmt: skip
    max_frame_age_s: float = setting(
        1.0, "how old the newest image may be when something begins to move [s]",
        0.01, 60.0, tighter="lower",
    )  # fmt: skip
    max_answer_age_s: float = setting(
        30.0, "how old an answer may be when it begins to move something; a person's time to say "
        "yes does not count [s]",
        0.01, 3600.0, tighter="lower",
    )  # fmt: skip
    max_speed: float = setting(
        0.7, "largest scaling of the actuator's own speed limits", 0.001, 1.0, tighter="lower"
    )
    max_grip_width_m: float = setting(
        0.08, "how wide the fingers open, and the widest thing to grip [m]",
        0.0, 1.0, tighter="lower",
    )  # fmt: skip
    max_force_n: float = setting(
        40.0, "how hard the fingers may press [N]", 0.0, 1000.0, tighter="lower"
    )
    scene_radius_m: float = setting(
        0.08, "how much around a target must look as it did [m]", 0.01, 1.0
    )
    scene_depth_tolerance_m: float = setting(
        0.006, "how much depth may differ beyond its noise in an unchanged scene [m]",
        0.0, 0.5, tighter="lower",
    )  # fmt: skip
    scene_color_tolerance: float = setting(
        0.15, "how much colour may differ in an unchanged scene, of full scale",
        0.0, 1.0, tighter="lower",
    )  # fmt: skip
    scene_changed_share: float = setting(
        0.01, "share of a target's surroundings that may look different",
        0.0, 1.0, tighter="lower",
    )  # fmt: skip
    scene_hidden_share: float = setting(
        0.01, "share of a target's surroundings that something new may stand in front of",
        0.0, 1.0, tighter="lower",
    )  # fmt: skip
    scene_seen_share: float = setting(
        0.5, "share of a target's surroundings that must still be seen", 0.0, 1.0, tighter="higher"
    )
    max_drive_m: float = setting(1.0, "longest straight drive [m]", 0.0, 100.0, tighter="lower")
    max_spin_rad: float = setting(
        3.2, "largest turn on the spot, either way [rad]", 0.0, 10.0, tighter="lower"
    )
    robot_width_m: float = setting(
        0.4, "diameter of the circle around every corner of the driving base, which is what it "
        "sweeps when it turns [m]", 0.01, 10.0, tighter="higher",
    )  # fmt: skip
    robot_height_m: float = setting(
        0.6, "height of the driving robot above the ground [m]", 0.01, 10.0, tighter="higher"
    )
    clearance_m: float = setting(
        0.1, "how far from everything a driving base stays [m]", 0.0, 10.0, tighter="higher"
    )
    ground_z_m: float = setting(
        0.0, "height of the ground in the driving base's own frame [m]", -10.0, 10.0
    )
    ground_tolerance_m: float = setting(
        0.03, "how far from flat the ground may be and is still ground [m]",
        0.0, 0.5, tighter="lower",
    )  # fmt: skip
    max_blind_m: float = setting(
        0.6, "how far from the base the ground may be unseen below the camera [m]",
        0.0, 10.0, tighter="lower",
    )  # fmt: skip
    engine_verdict: str = setting(
        "required", "whether an engine must have passed rynn-brain check-engine before anything "
        "moves: not_required (simulators) or required",
        choices=("not_required", "required"), tighter="higher",
    )  # fmt: skip
    dry_run: bool = setting(True, "check everything and move nothing", tighter="higher")
    require_approval: bool = setting(
        False, "a person must say yes to each motion", tighter="higher"
    )

    def __post_init__(self) -> None:
        for item in settings(type(self)):
            checked(item, getattr(self, item.name))
        for low, high in _RANGES:
            if getattr(self, low) >= getattr(self, high):
                raise ConfigError(
                    f"{low} is {getattr(self, low):g} and {high} is {getattr(self, high):g}: "
                    "nothing lies between them"
                )

    @property
    def workspace_min_m(self) -> Vector3:
        return (self.workspace_x_min_m, self.workspace_y_min_m, self.workspace_z_min_m)

    @property
    def workspace_max_m(self) -> Vector3:
        return (self.workspace_x_max_m, self.workspace_y_max_m, self.workspace_z_max_m)


_RANGES = (
    ("workspace_x_min_m", "workspace_x_max_m"),
    ("workspace_y_min_m", "workspace_y_max_m"),
    ("workspace_z_min_m", "workspace_z_max_m"),
    ("reach_min_m", "reach_max_m"),
)


def tightened(limits: SafetyLimits, **changes: Any) -> SafetyLimits:
    """``limits`` with some of them tighter: what a running system may be told.

    A change that widens a limit, or touches one that has no tighter side, is a `ConfigError`
    naming it with both values: limits are widened in the configuration, before the start.
    """
    new = configure(SafetyLimits, {**dataclasses.asdict(limits), **changes})
    for problem in _widened(limits, new):
        raise ConfigError(problem)
    return new


def _widened(old: SafetyLimits, new: SafetyLimits) -> Iterator[str]:
    for item in settings(SafetyLimits):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if before != after and not _is_tighter(item, before, after):
            side = f"only be made {item.tighter}" if item.tighter else "not be changed"
            yield (
                f"limit {item.name!r} is {before!r} and was asked to become {after!r}: while the "
                f"robot runs it may {side}; change the configuration and start again"
            )


def _is_tighter(item: Setting, before: Any, after: Any) -> bool:
    if item.choices:
        before, after = item.choices.index(before), item.choices.index(after)
    return bool(after < before if item.tighter == "lower" else item.tighter and after > before)
