"""The act node's settings: one source for its parameters and config/act.yaml."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rynn_brain_ros.actuators.profile import RobotProfile
from rynn_brain_ros.config import BrainConfig, setting
from rynn_brain_ros.planning.robots import Robot
from rynn_brain_ros.safety import read_verdicts

NOT_REQUIRED = "not_required"


@dataclass(frozen=True)
class ActConfig:
    """Names of topics are resolved in the node's namespace."""

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
    color_topic: str = setting(
        "camera/color/image_raw",
        "colour images: sensor_msgs/Image, or CompressedImage where the name ends in /compressed",
    )
    color_info_topic: str = setting(
        "", "sensor_msgs/CameraInfo of the colour camera; empty: camera_info beside color_topic"
    )
    depth_topic: str = setting(
        "camera/aligned_depth_to_color/image_raw",
        "depth images, best aligned to colour: nothing is gripped without",
    )
    depth_info_topic: str = setting(
        "", "sensor_msgs/CameraInfo of the depth camera where depth is not aligned to colour"
    )
    fixed_frame: str = setting(
        "", "continuous frame that poses are kept in; empty: odom, else the robot's base"
    )
    engine: str = setting(
        "color-baseline",
        "what answers: color-baseline, recorded:FILE or http://HOST:PORT/v1[#MODEL]; or one for "
        "each role: plan=ENGINE,navigate=ENGINE,ground=ENGINE",
    )
    buffer_mib: int = setting(512, "how much memory frames may take [MiB]", 1, 65536)
    max_wait_s: float = setting(
        0.3, "how long an image waits for depth and transform [s]", 0.0, 5.0
    )

    @property
    def seen(self) -> BrainConfig:
        """What is looked at, as the brain's settings say it."""
        return BrainConfig(
            color_topic=self.color_topic,
            color_info_topic=self.color_info_topic,
            depth_topic=self.depth_topic,
            depth_info_topic=self.depth_info_topic,
            fixed_frame=self.fixed_frame,
            engine=self.engine,
            buffer_mib=self.buffer_mib,
            max_wait_s=self.max_wait_s,
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
