"""A robot's profile: its frames, the servers that move it, its limits; one YAML file each.

A file names only what differs from the defaults here, and an arm its links; the files that come
with the package name everything. Unknown keys are errors that name the nearest. Names of servers
and topics are resolved in the namespace of the node, so that two robots differ by it alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pyquaternion import Quaternion

from rynn_brain_ros.config import bundled, configure, read_yaml, setting, unknown
from rynn_brain_ros.geometry import GraspLimits
from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.executive import ExecutiveConfig
from rynn_brain_ros.planning.motions import MotionConfig
from rynn_brain_ros.planning.navigating import NavigationConfig
from rynn_brain_ros.planning.robots import Robot
from rynn_brain_ros.safety import SafetyLimits
from rynn_brain_ros.values import ConfigError, RigidTransform

C = TypeVar("C")
Posture = tuple[str, tuple[float, ...]]

_METRES = (2.0, "it is told in metres, at most 2 either way; is this in mm?")
_TABLE_METRES = (10.0, "it is told in metres, at most 10 either way; is this in mm?")
_RADIANS = (2 * math.pi + 1e-3, "it is told in rad, at most 2π either way; is this in degrees?")
_DEGREES = (360.0, "it is told in degrees, at most 360 either way")
_ROS_NAME = re.compile(r"(?:~?/)?[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*")

READY_RAD = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)


@dataclass(frozen=True)
class ArmProfile:
    """An arm behind MoveIt."""

    base_frame: str = setting("panda_link0", "frame of the arm's base: goals are told in it")
    tool_frame: str = setting("panda_tcp", "name of the tool centre point, need not be on /tf")
    links: tuple[str, ...] = setting(
        (),
        "frames on /tf from the base to the hand: the robot is known by them in its own pictures, "
        "so every arm names its own",
    )
    group: str = setting("panda_arm", "MoveIt's planning group")
    link: str = setting("panda_link8", "the group's last link, which MoveIt brings to poses")
    tool_offset_m: tuple[float, float, float] = setting(
        (0.0, 0.0, 0.1034), "tool centre point in the frame of that link [m]"
    )
    tool_turn_deg: tuple[float, float, float] = setting(
        (0.0, 0.0, -45.0), "roll, pitch, yaw of the tool in the frame of that link [°]"
    )
    touch_links: tuple[str, ...] = setting(
        ("panda_hand", "panda_leftfinger", "panda_rightfinger"),
        "links that may touch what the hand holds",
    )
    joints: tuple[str, ...] = setting(
        tuple(f"panda_joint{i}" for i in range(1, 8)), "the group's joints, in their order"
    )
    postures: tuple[Posture, ...] = setting(
        (("ready", READY_RAD),), "postures by name, one angle for each joint [rad]"
    )
    hand_over_m: tuple[float, float, float] = setting(
        (0.45, -0.35, 0.35), "where a thing is held out to a person, in the base frame [m]"
    )
    table_m: tuple[float, ...] = setting(
        (),
        "table that planned (not straight) motions keep clear of: x min, x max, y min, y max, "
        "height of its top [m]; put it into MoveIt's own scene for straight paths, too",
    )
    move_action: str = setting("move_action", "moveit_msgs/action/MoveGroup")
    cartesian_service: str = setting("compute_cartesian_path", "moveit_msgs/srv/GetCartesianPath")
    execute_action: str = setting("execute_trajectory", "moveit_msgs/action/ExecuteTrajectory")
    recovery_action: str = setting(
        "", "franka_msgs/action/ErrorRecovery, run before the motion after a failed one; or empty"
    )
    stop_topic: str = setting(
        "trajectory_execution_event",
        "std_msgs/String topic that 'stop' is published on: MoveIt carries on with what it "
        "executes until it hears that",
    )
    pipeline_id: str = setting("", "MoveIt's planning pipeline; empty: its default")
    planner_id: str = setting("", "planner of that pipeline; empty: its default")
    planning_time_s: float = setting(5.0, "how long MoveIt may plan one motion [s]", 0.1, 60.0)
    planning_attempts: int = setting(3, "how often MoveIt plans to choose the best", 1, 100)
    position_tolerance_m: float = setting(
        0.002, "how far off its place the link may end [m]", 1e-5, 0.05
    )
    orientation_tolerance_rad: float = setting(
        0.02, "how far off its turn the link may end, about each axis [rad]", 1e-4, 0.5
    )
    joint_tolerance_rad: float = setting(
        0.005, "how far off a posture each joint may end [rad]", 1e-5, 0.5
    )
    velocity_scale: float = setting(
        0.3, "share of the joints' own speed limits at a goal's full speed", 0.001, 1.0
    )
    acceleration_scale: float = setting(
        0.3, "share of the joints' own acceleration limits at a goal's full speed", 0.001, 1.0
    )
    max_step_m: float = setting(0.005, "distance of the points of a straight path [m]", 1e-4, 0.05)
    min_fraction: float = setting(
        0.99, "share of a straight path that must be possible before any of it is done", 0.5, 1.0
    )
    max_joint_jump_rad: float = setting(
        0.5,
        "a straight path on which a joint turns through 3 rad and this, as by a jump, is refused "
        "(MoveIt's service does not obey it, and is told a ratio instead); 0: any [rad]",
        0.0,
        6.3,
    )

    def __post_init__(self) -> None:
        for name in ("links", "touch_links", "joints"):
            _names(name, getattr(self, name))
        _frames(self, "base_frame", "tool_frame", "link")
        _servers(self, "move_action", "cartesian_service", "execute_action", "stop_topic")
        _servers(self, "recovery_action", or_empty=True)
        if not self.group:
            raise ConfigError("setting 'group' is empty: name MoveIt's planning group")
        if len(self.links) < 2:
            raise ConfigError(
                f"setting 'links' is {list(self.links)}: name two and more of the arm's frames on "
                "/tf, from its base to its hand; without them a place on the arm itself is not told"
            )
        if not self.joints:
            raise ConfigError("setting 'joints' is empty: name the group's joints")
        _numbers("tool_offset_m", self.tool_offset_m, 3, _METRES)
        _numbers("tool_turn_deg", self.tool_turn_deg, 3, _DEGREES)
        _numbers("hand_over_m", self.hand_over_m, 3, _METRES)
        if self.table_m:
            x0, x1, y0, y1, _ = _numbers("table_m", self.table_m, 5, _TABLE_METRES)
            if not (x0 < x1 and y0 < y1):
                raise ConfigError(f"setting 'table_m' is {list(self.table_m)}: it has no inside")
        for name, angles in _pairs("postures", self.postures):
            _numbers(f"postures.{name}", angles, len(self.joints), _RADIANS)

    @property
    def T_link_tcp(self) -> RigidTransform:
        roll, pitch, yaw = (math.radians(angle) for angle in self.tool_turn_deg)
        turn = (
            Quaternion(axis=(0, 0, 1), radians=yaw)
            * Quaternion(axis=(0, 1, 0), radians=pitch)
            * Quaternion(axis=(1, 0, 0), radians=roll)
        )
        xyzw = (float(turn.x), float(turn.y), float(turn.z), float(turn.w))
        return RigidTransform(self.link, self.tool_frame, self.tool_offset_m, xyzw)


@dataclass(frozen=True)
class GripperProfile:
    """Two fingers behind one of the usual actions. Widths are between the fingers."""

    kind: str = setting(
        "gripper_command",
        "franka: franka_msgs Grasp, Move and Homing; gripper_command or parallel_gripper: "
        "control_msgs GripperCommand or ParallelGripperCommand",
        choices=("franka", "gripper_command", "parallel_gripper"),
    )
    action: str = setting(
        "panda_hand_controller/gripper_cmd", "the action of both control_msgs kinds"
    )
    joint: str = setting(
        "panda_finger_joint1", "joint named in a ParallelGripperCommand and its result"
    )
    position_per_width: float = setting(
        0.5, "a commanded position is this times the width (one of two fingers: 0.5)", 1e-3, 1e3
    )
    width_per_report: float = setting(2.0, "the width is this times a reported position", 1e-3, 1e3)
    grasp_action: str = setting("franka_gripper/grasp", "franka_msgs/action/Grasp")
    move_action: str = setting("franka_gripper/move", "franka_msgs/action/Move")
    homing_action: str = setting("franka_gripper/homing", "franka_msgs/action/Homing")
    home_first: bool = setting(
        False, "run Homing before the first grip: it must have run once since power came on"
    )
    speed_m_s: float = setting(0.05, "speed of the fingers, franka only [m/s]", 0.001, 0.5)
    max_width_m: float = setting(0.08, "widest opening of the hand [m]", 0.001, 1.0)

    def __post_init__(self) -> None:
        franka = self.kind == "franka"
        _servers(self, "action", or_empty=franka)
        _servers(self, "grasp_action", "move_action", "homing_action", or_empty=not franka)


@dataclass(frozen=True)
class BaseProfile:
    """A driving base behind Nav2. Nav2's own configuration limits its speed on the way to a place;
    drives and turns carry theirs."""

    base_frame: str = setting("base_link", "frame of the driving base")
    map_frame: str = setting("map", "frame that places to drive to are told in")
    navigate_action: str = setting("navigate_to_pose", "nav2_msgs/action/NavigateToPose")
    through_poses_action: str = setting(
        "navigate_through_poses", "nav2_msgs/action/NavigateThroughPoses"
    )
    follow_action: str = setting("follow_path", "nav2_msgs/action/FollowPath")
    spin_action: str = setting("spin", "nav2_msgs/action/Spin")
    drive_action: str = setting("drive_on_heading", "nav2_msgs/action/DriveOnHeading")
    back_up_action: str = setting("backup", "nav2_msgs/action/BackUp")
    follow: str = setting(
        "follow_path",
        "how a path on the floor is driven: follow_path keeps to it, through_poses goes around "
        "what is in the way",
        choices=("follow_path", "through_poses"),
    )
    behavior_tree: str = setting(
        "", "behavior tree of navigation, a path on bt_navigator's machine, for "
        "navigate_through_poses, too; empty: Nav2's default, which as a recovery turns (1.57 rad) "
        "and backs up (0.30 m) by itself, several times: the gate does not see that",
    )  # fmt: skip
    controller_id: str = setting("", "controller that follows paths; empty: Nav2's default")
    speed_m_s: float = setting(0.3, "speed of drives at a goal's full speed [m/s]", 0.01, 5.0)
    turn_rad_s: float = setting(
        0.8, "speed of turns at a goal's full speed, to know how long one may take [rad/s]",
        0.01, 10.0,
    )  # fmt: skip
    stop_topic: str = setting("cmd_vel", "topic that standing still is published on; or empty")
    stop_type: str = setting(
        "twist", "its type: twist (Humble, Jazzy) or twist_stamped (Kilted and later)",
        choices=("twist", "twist_stamped"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        _frames(self, "base_frame", "map_frame")
        if self.base_frame == self.map_frame:
            raise ConfigError(f"settings 'base_frame' and 'map_frame' are both {self.map_frame!r}")
        _servers(self, "navigate_action", "spin_action", "drive_action", "back_up_action")
        keeps = self.follow == "follow_path"
        _servers(self, "follow_action", or_empty=not keeps)
        _servers(self, "through_poses_action", or_empty=keeps)
        _servers(self, "stop_topic", or_empty=True)


@dataclass(frozen=True)
class RobotProfile:
    """A whole robot: an arm with a gripper, or a driving base."""

    name: str
    arm: ArmProfile | None = None
    gripper: GripperProfile | None = None
    base: BaseProfile | None = None
    motion: MotionConfig = field(default_factory=MotionConfig)
    limits: SafetyLimits = field(default_factory=SafetyLimits)

    def __post_init__(self) -> None:
        if (self.arm is None) == (self.base is None):
            raise ConfigError("a profile has one of the sections 'arm' and 'base'")
        if (self.arm is None) != (self.gripper is None):
            raise ConfigError("the sections 'arm' and 'gripper' belong together")
        if self.arm is not None:
            _check_arm(self.arm, self.motion, self.limits)

    @property
    def robot(self) -> Robot:
        """The settings of the loop."""
        if self.base is not None:
            body = NavigationConfig(base_frame=self.base.base_frame, map_frame=self.base.map_frame)
            looking = ExecutiveConfig(max_turns=80, settle_s=0.1)
            return Robot(self.name, body, self.limits, looking)
        arm = self.arm
        assert arm is not None
        hands = Arm(
            base_frame=arm.base_frame,
            tool_frame=arm.tool_frame,
            links=arm.links,
            grasp=GraspLimits(tool_frame=arm.tool_frame),
            motion=self.motion,
            hand_over_m=arm.hand_over_m,
        )
        return Robot(self.name, hands, self.limits)


def _check_arm(arm: ArmProfile, motion: MotionConfig, limits: SafetyLimits) -> None:
    """What the gate would refuse each time is no profile."""
    postures = dict(arm.postures)
    if motion.posture not in postures:
        raise ConfigError(
            f"motion.posture is {motion.posture!r}, and arm.postures has "
            f"{', '.join(postures) or 'none'}"
        )
    for name, most in _WITHIN:
        if getattr(motion, name) > getattr(limits, most):
            raise ConfigError(
                f"motion.{name} is {getattr(motion, name):g} and limits.{most} "
                f"{getattr(limits, most):g}: each such motion would be refused"
            )
    away_m = math.hypot(*arm.hand_over_m[:2])
    if away_m > limits.reach_max_m:
        raise ConfigError(
            f"arm.hand_over_m is {list(arm.hand_over_m)}, {away_m:.2f} m from the base's axis, and "
            f"limits.reach_max_m {limits.reach_max_m:g}: each handing over would be refused"
        )


_WITHIN = (
    *((name, "max_speed") for name in ("speed", "approach_speed", "push_speed", "tilt_speed")),
    ("grip_force_n", "max_force_n"),
)
"""Settings of motions, and the limits that they stay within."""

SECTIONS: Mapping[str, type[Any]] = {
    "arm": ArmProfile,
    "gripper": GripperProfile,
    "base": BaseProfile,
    "motion": MotionConfig,
    "limits": SafetyLimits,
}
NOT_IN_A_PROFILE = ("dry_run", "require_approval", "engine_verdict")
"""Limits that are said when the robot is started, each time."""


def read_profile(spec: str) -> RobotProfile:
    """The profile in the file ``spec``, or the one of that name that comes with the package.

    Raises `ConfigError` where there is none or something in it is wrong, naming file and key.
    """
    path = _find(spec)
    try:
        plain = read_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ConfigError("it holds no settings")
        return _profile(plain)
    except RecursionError as error:  # a list that holds itself
        raise ConfigError(f"{path} is no robot's profile: it is nested too deeply") from error
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path} is no robot's profile: {error}") from error


def profile_names() -> list[str]:
    """Of the profiles that come with the package."""
    return list(bundled("robots"))


def _find(spec: str) -> Path:
    if spec.endswith((".yaml", ".yml")):
        return Path(spec)
    known = bundled("robots")
    if spec in known:
        return known[spec]
    names = ", ".join(known) or "none"
    raise ConfigError(f"no robot {spec!r}: known are {names}; or give a .yaml file")


def _profile(plain: Mapping[str, Any]) -> RobotProfile:
    known = ("name", *SECTIONS)
    for key in plain:
        if key not in known:
            raise ConfigError(unknown("section", str(key), known))
    if not isinstance(plain.get("name"), str) or not plain["name"].strip():
        raise ConfigError("the profile has no 'name'")
    if "base" in plain and "motion" in plain:
        raise ConfigError(
            "section 'motion' is an arm's; a base's speeds are base.speed_m_s and base.turn_rad_s"
        )
    given = {key: _section(key, value) for key, value in plain.items() if key != "name"}
    return RobotProfile(plain["name"], **given)


def _section(key: str, plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        raise ConfigError(f"section {key!r} holds {plain!r}, not settings")
    if key == "limits":
        for name in set(plain) & set(NOT_IN_A_PROFILE):
            raise ConfigError(f"limits.{name} is said when the robot is started: see act.yaml")
    return _read(SECTIONS[key], key, plain)


def _read(config: type[C], section: str, plain: Mapping[str, Any]) -> C:
    try:
        return configure(config, {str(name): _frozen(value) for name, value in plain.items()})
    except ConfigError as error:
        raise ConfigError(f"section {section!r}: {error}") from error


def _frozen(value: Any) -> Any:
    """Lists become tuples, and mappings tuples of pairs; numbers in them floats."""
    if isinstance(value, Mapping):
        return tuple((str(name), _frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(float(v) if type(v) is int else _frozen(v) for v in value)
    return value


def _frames(profile: Any, *names: str) -> None:
    """Names as /tf has them."""
    for name in names:
        value: str = getattr(profile, name)
        if not value or value != value.strip() or value.startswith("/"):
            raise ConfigError(
                f"setting {name!r} is {value!r}; it must be a frame's name, without a slash before"
            )


def _servers(profile: Any, *names: str, or_empty: bool = False) -> None:
    """Names of topics, services and actions."""
    for name in names:
        value: str = getattr(profile, name)
        if not _ROS_NAME.fullmatch(value) and not (or_empty and not value):
            raise ConfigError(
                f"setting {name!r} is {value!r}; it must be a name in ROS: letters, digits and _, "
                "with slashes between"
            )


def _names(name: str, values: tuple[Any, ...]) -> None:
    named = all(isinstance(value, str) and value.strip() for value in values)
    if not named or len(set(values)) != len(values):
        raise ConfigError(f"setting {name!r} is {list(values)}; it must be names, each one once")


def _pairs(name: str, values: tuple[Any, ...]) -> tuple[Posture, ...]:
    pairs = [value for value in values if isinstance(value, tuple) and len(value) == 2]
    right = all(isinstance(key, str) and isinstance(held, tuple) for key, held in pairs)
    if len(pairs) != len(values) or not right:
        raise ConfigError(f"setting {name!r} is {list(values)}; it must be lists by name")
    return tuple(pairs)


def _numbers(
    name: str, values: tuple[Any, ...], count: int, bound: tuple[float, str]
) -> tuple[float, ...]:
    """``bound`` is how large each may be, and what to say of one that is larger."""
    right = len(values) == count and all(type(v) is float and math.isfinite(v) for v in values)
    if not right:
        raise ConfigError(f"setting {name!r} is {list(values)}; it must be {count} numbers")
    most, why = bound
    for value in values:
        if abs(value) > most:
            raise ConfigError(f"setting {name!r} holds {value:g}: {why}")
    return values
