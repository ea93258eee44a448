"""Real robots as an `Actuator`: goals become the messages of MoveIt, grippers and Nav2, and what
their servers say becomes goal events. ROS is behind the `Wire`; nothing here imports it."""

from rynn_brain_ros.actuators.arm import ArmBody
from rynn_brain_ros.actuators.base import BaseBody
from rynn_brain_ros.actuators.calls import Call, GoalFailed, Plan, Publication, Reply, Wire
from rynn_brain_ros.actuators.profile import RobotProfile, read_profile
from rynn_brain_ros.actuators.remote import Body, RemoteActuator, body_of

__all__ = [
    "ArmBody",
    "BaseBody",
    "Body",
    "Call",
    "GoalFailed",
    "Plan",
    "Publication",
    "RemoteActuator",
    "Reply",
    "RobotProfile",
    "Wire",
    "body_of",
    "read_profile",
]
