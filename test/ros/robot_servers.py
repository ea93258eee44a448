"""A robot on a network: a camera over a played world, and servers that do, or fail to do, what
they are asked. What they received is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from control_msgs.action import GripperCommand
from geometry_msgs.msg import Twist
from moveit_msgs.action import ExecuteTrajectory, MoveGroup
from moveit_msgs.msg import RobotTrajectory
from moveit_msgs.srv import GetCartesianPath
from nav2_msgs.action import BackUp, DriveOnHeading, FollowPath, NavigateToPose, Spin
from played_robot import PlayedTable
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.actuators import read_profile
from rynn_brain_ros.geometry import compose
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.values import (
    CameraInfo as Lens,
)
from rynn_brain_ros.values import (
    EncodedImage,
    GripGoal,
    PostureGoal,
    ReachGoal,
    RigidTransform,
)

COLOR = "/camera/color/image_raw/compressed"
DEPTH = "/camera/depth/image_raw"
INFO = "/camera/color/camera_info"
_PERIOD_S = 0.1


class Camera:
    """What `Perception` would be given goes over the network instead."""

    def __init__(self, node: Node) -> None:
        qos = qos_profile_sensor_data
        self._color = node.create_publisher(CompressedImage, COLOR, qos)
        self._depth = node.create_publisher(Image, DEPTH, qos)
        self._info = node.create_publisher(CameraInfo, INFO, qos)
        self._tf = node.create_publisher(TFMessage, "/tf", 100)

    def add_transforms(self, transforms: list[RigidTransform], static: bool) -> None:
        self._tf.publish(to_ros(TFMessage, messages.tf_message(transforms)))

    def add_color_info(self, camera: str, info: Lens, stamp_ns: int) -> None:
        self._info.publish(to_ros(CameraInfo, messages.camera_info(info, stamp_ns)))

    def add_depth(self, camera: str, stamp_ns: int, frame_id: str, image: EncodedImage) -> None:
        self._depth.publish(to_ros(Image, messages.image(image, stamp_ns, frame_id)[1]))

    def add_color(self, camera: str, stamp_ns: int, frame_id: str, image: EncodedImage) -> None:
        self._color.publish(to_ros(CompressedImage, messages.image(image, stamp_ns, frame_id)[1]))


class LiveTable(PlayedTable):
    """A played table whose time is the wall's."""

    def __init__(self, node: Node) -> None:
        self.lock = threading.RLock()
        super().__init__()
        self.perception = Camera(node)  # type: ignore[assignment]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(_PERIOD_S):
            with self.lock:
                self._now_ns = self._next_ns = time.time_ns()
                self._publish()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()


@dataclass
class Behaviour:
    """What a server makes of its goals: ``well``, ``reject``, ``abort``, ``hang`` (until it is
    cancelled, and what executes until a stop is published) or ``deaf`` (for good)."""

    name: str = "well"
    goals: list[Any] = field(default_factory=list)
    cancels: int = 0


PATH = {
    "joint_trajectory": {
        "points": [{"positions": [0.1 * k] * 7, "time_from_start": {"sec": k}} for k in range(3)]
    }
}
"""moveit_msgs/RobotTrajectory."""
ACTIONS: dict[str, Any] = {
    "move_action": MoveGroup,
    "execute_trajectory": ExecuteTrajectory,
    "panda_hand_controller/gripper_cmd": GripperCommand,
    "navigate_to_pose": NavigateToPose,
    "follow_path": FollowPath,
    "spin": Spin,
    "drive_on_heading": DriveOnHeading,
    "backup": BackUp,
}


class RobotServers(Node):
    """All servers of an arm and of a base, over a table with things."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.world = LiveTable(self)
        self.group = ReentrantCallbackGroup()
        self.order: list[str] = []
        self.stops: list[Any] = []
        self._ending = threading.Event()
        self._planned: Any = None
        self.fraction = 1.0
        self.does = {name: Behaviour() for name in ACTIONS}
        self.servers = {name: self._serve(name, ACTIONS[name]) for name in self.does}
        self.create_service(
            GetCartesianPath, "compute_cartesian_path", self._cartesian, callback_group=self.group
        )
        self.create_subscription(String, "trajectory_execution_event", self.stops.append, 10)
        self.create_subscription(Twist, "cmd_vel", self.stops.append, 10)

    def kill(self, name: str) -> None:
        """The server is gone, with whatever it was doing."""
        self.servers.pop(name).destroy()

    def close(self) -> None:
        self._ending.set()
        self.world.close()

    def destroy_node(self) -> None:
        """With its servers, or who comes later is told of their goals."""
        for server in self.servers.values():
            server.destroy()
        super().destroy_node()

    def _serve(self, name: str, type_: Any) -> ActionServer:
        does = self.does[name]

        def take(goal: Any) -> GoalResponse:
            self.order.append(name)
            does.goals.append(goal)
            return GoalResponse.REJECT if does.name == "reject" else GoalResponse.ACCEPT

        def cancel(handle: Any) -> CancelResponse:
            does.cancels += 1
            return CancelResponse.REJECT if does.name == "deaf" else CancelResponse.ACCEPT

        def execute(handle: Any) -> Any:
            return self._execute(name, does, handle)

        return ActionServer(
            self,
            type_,
            name,
            execute,
            goal_callback=take,
            cancel_callback=cancel,
            callback_group=self.group,
        )

    def _execute(self, name: str, does: Behaviour, handle: Any) -> Any:
        result = ACTIONS[name].Result()
        hangs, executes = does.name in ("hang", "deaf"), name == "execute_trajectory"

        def is_ended() -> bool:
            return bool(self.stops) if executes else handle.is_cancel_requested

        while hangs and not self._ending.is_set() and not is_ended():
            time.sleep(0.01)  # another thread asks for the cancel
        if hangs:
            _code(result, -7)
            if handle.is_cancel_requested and not executes:
                handle.canceled()
            return result
        if does.name == "abort":
            _code(result, -1)
            handle.abort()
            return result
        with self.world.lock:
            DO.get(name, lambda *_: None)(self, handle.request, result)
        _code(result, 1)
        handle.succeed()
        return result

    def _cartesian(self, request: Any, response: Any) -> Any:
        self.order.append("compute_cartesian_path")
        last = request.waypoints[-1]
        self._planned = ReachGoal(tool_at(last.position, last.orientation), straight=True)
        answer = {"solution": PATH, "fraction": self.fraction, "error_code": {"val": 1}}
        return to_ros(GetCartesianPath.Response, answer)

    # --- what the goals do to the world ----------------------------------------------------------

    def plan(self, goal: Any, result: Any) -> None:
        assert goal.planning_options.plan_only
        result.planned_trajectory = to_ros(RobotTrajectory, PATH)
        (wanted,) = goal.request.goal_constraints
        if wanted.joint_constraints:
            self._planned = PostureGoal()
            return
        position, orientation = wanted.position_constraints[0], wanted.orientation_constraints[0]
        place = position.constraint_region.primitive_poses[0].position
        self._planned = ReachGoal(tool_at(place, orientation.orientation))

    def follow(self, goal: Any, result: Any) -> None:
        self.world.do(self._planned)

    def grip(self, goal: Any, result: Any) -> None:
        told = self.world.do(GripGoal(2 * goal.command.position, goal.command.max_effort))
        result.position, result.stalled = told["width_m"] / 2, True


DO: dict[str, Callable[[RobotServers, Any, Any], None]] = {
    "move_action": RobotServers.plan,
    "execute_trajectory": RobotServers.follow,
    "panda_hand_controller/gripper_cmd": RobotServers.grip,
}


def tool_at(place: Any, turn: Any) -> RigidTransform:
    """``T_base_tcp`` where the flange is as told."""
    arm = read_profile("franka_panda").arm
    assert arm is not None
    link = RigidTransform(
        arm.base_frame, arm.link, (place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w)
    )
    return replace(compose(link, arm.T_link_tcp), child=arm.tool_frame)


def _code(result: Any, code: int) -> None:
    if hasattr(getattr(result, "error_code", None), "val"):
        result.error_code.val = code
    elif hasattr(result, "error_code") and code == -1:
        result.error_code = 105
