"""The policy node's settings: with those of `RunnerConfig` and `Joining` its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rynn_brain_ros.config import setting
from rynn_brain_ros.values import ConfigError, InputError
from rynn_brain_ros.vla.limits import MotionLimits

TOKEN_VARIABLE = "RYNN_BRAIN_POLICY_TOKEN"
"""Of the environment: the token of a served policy, for who serves and who asks."""
_FOR_ALL = "for each number of an action, with commas between, or one for all"


class Output(str, Enum):
    """In which form commands go to the robot."""

    CONTRACT = "contract"
    """The messages of the contract's actions, many in each step."""
    TOPIC = "trajectory_topic"
    """A JointTrajectory for each new plan, on the controller's topic."""
    ACTION = "trajectory_action"
    """The same as a goal of FollowJointTrajectory."""


class Hand(str, Enum):
    """Of which kind the goals of a hand are; named as in a robot's file."""

    GRIPPER_COMMAND = "gripper_command"
    PARALLEL = "parallel_gripper"


@dataclass(frozen=True)
class PolicyConfig:
    """Which policy drives which robot, and how far it may."""

    contract: str = setting("panda", "panda, fr3, sim_table, or a .yaml file")
    url: str = setting("ws://127.0.0.1:8100", "where the policy is served, ws://HOST:PORT")
    token_file: str = setting("", "file with the endpoint's token; empty: it asks for none")
    task: str = setting(
        "",
        "what is to be done, in words; ~/task and the contract's topic say it too, the last counts",
    )
    plan_topic: str = setting(
        "",
        "rynn_brain_ros/Plan with the brain's step, such as /left/brain/plan; empty: the "
        "contract's",
    )
    groundings_topic: str = setting(
        "",
        "rynn_brain_ros/GroundingArray with its points, of the same node as plan_topic; empty: the "
        "contract's",
    )
    output: str = setting(
        Output.CONTRACT.value,
        "contract: the messages of its actions; trajectory_topic: a JointTrajectory on "
        "CONTROLLER/joint_trajectory; trajectory_action: goals of "
        "CONTROLLER/follow_joint_trajectory",
        choices=tuple(output.value for output in Output),
    )
    controller: str = setting(
        "panda_arm_controller", "trajectories: name of the joints' controller"
    )
    gripper_action: str = setting(
        "",
        "trajectories: action of the hand, such as panda_hand_controller/gripper_cmd; empty: its "
        "joint is one of the controller's",
    )
    gripper_kind: str = setting(
        Hand.GRIPPER_COMMAND.value,
        "of gripper_action: control_msgs GripperCommand or ParallelGripperCommand (all that "
        "ros2_controllers serve since Kilted)",
        choices=tuple(hand.value for hand in Hand),
    )
    gripper_effort: float = setting(20.0, "of gripper_action, at most [N]", 0.0, 1000.0)
    max_velocity: str = setting("0.5", f"per second, {_FOR_ALL}")
    max_acceleration: str = setting("2.0", f"per second², {_FOR_ALL}")
    max_jerk: str = setting("20.0", f"per second³, {_FOR_ALL}")
    dry_run: bool = setting(True, "publish previews of the commands, and send none of them")
    armed_s: float = setting(60.0, "how long ~/arm arms motion [s]", 1.0, 36000.0)

    @property
    def follow_action(self) -> str:
        return f"{self.controller}/follow_joint_trajectory"

    def limits(self, names: tuple[str, ...]) -> MotionLimits:
        """For actions of these numbers. Raises `ConfigError`."""
        return MotionLimits(
            _numbers("max_velocity", self.max_velocity, names),
            _numbers("max_acceleration", self.max_acceleration, names),
            _numbers("max_jerk", self.max_jerk, names),
        )

    def token(self) -> str:
        """Raises `InputError`."""
        if not self.token_file:
            return ""
        try:
            return Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise InputError(f"cannot read a token from {self.token_file}: {error}") from error


def _numbers(setting_name: str, text: str, names: tuple[str, ...]) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{setting_name} is {text!r}: give numbers with commas between"
        ) from error
    if len(found) == 1:
        return found * len(names)
    if len(found) != len(names):
        raise ConfigError(
            f"{setting_name} has {len(found)} numbers; give one, or {len(names)}, for "
            f"{', '.join(names)}"
        )
    return found
