"""The act node's settings: one source for its parameters and config/act.yaml."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rynn_brain_ros.actuators.profile import RobotProfile
from rynn_brain_ros.config import SeeingConfig, setting
from rynn_brain_ros.planning.robots import Robot
from rynn_brain_ros.safety import read_verdicts

NOT_REQUIRED = "not_required"


@dataclass(frozen=True)
class ActConfig(SeeingConfig):
    """Depth has another default than the brain's: nothing is gripped without it."""

    depth_topic: str = setting(
        "camera/aligned_depth_to_color/image_raw",
        "depth images, best aligned to colour: nothing is gripped without",
    )
    robot: str = setting(
        "franka_panda",
        "profile of the robot: franka_panda, franka_fr3, mobile_base, or a .yaml file",
    )
    dry_run: bool = setting(
        True, "check everything, publish previews of the goals, and send none of them"
    )
    require_approval: bool = setting(
        False, "a person must say yes to each motion, with the service ~/approve"
    )
    engine_verdict: str = setting(
        "",
        "verdict.json of rynn-brain check-engine for the engine: nothing moves without one; "
        "not_required is for simulators",
    )
    armed_s: float = setting(300.0, "how long ~/arm arms motion [s]", 1.0, 36000.0)
    approval_s: float = setting(
        60.0, "how long a person's yes is waited for, which then counts as no [s]", 1.0, 3600.0
    )

    def robot_of(self, profile: RobotProfile) -> Robot:
        """The profile's robot with what is said at the start. Raises `ConfigError`."""
        needs_verdict = self.engine_verdict != NOT_REQUIRED
        limits = replace(
            profile.limits,
            dry_run=self.dry_run,
            require_approval=self.require_approval,
            engine_verdict="required" if needs_verdict else NOT_REQUIRED,
        )
        path = self.engine_verdict if needs_verdict else ""
        verdicts = read_verdicts(Path(path)) if path else ()
        return replace(profile.robot, limits=limits, armed_s=self.armed_s, verdicts=verdicts)
