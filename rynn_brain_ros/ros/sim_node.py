"""The ``sim`` lifecycle node: a simulated robot behind the interfaces of a real one.

    ros2 run rynn_brain_ros sim --ros-args -p world:=table

Cameras, joint states, transforms and the servers that MoveIt, Nav2 and the controllers would have
are there, and none of these need be installed. The world runs in a thread of its own: no callback
waits for it, but those that switch it on and off.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from cv_bridge import CvBridge
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from rosidl_runtime_py.utilities import get_message
from std_msgs.msg import Header

from rynn_brain_ros import messages
from rynn_brain_ros.bags import typestore
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.parameters import declare, read, refuse_unknown
from rynn_brain_ros.ros.sim_arm import serve_arm
from rynn_brain_ros.ros.sim_base import map_message, odometry, serve_base
from rynn_brain_ros.ros.sim_frames import Frames
from rynn_brain_ros.ros.sim_goals import GoalServers
from rynn_brain_ros.ros.spinning import spin
from rynn_brain_ros.sim.live import LiveWorld, Running
from rynn_brain_ros.sim.robots import RoomRobot, SimConfig, TableRobot
from rynn_brain_ros.sim.sensing import JOINT_STATE, CameraStream
from rynn_brain_ros.sim.world import Picture
from rynn_brain_ros.values import InputError, RynnBrainError

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_GONE = "_NODE_NAME_UNKNOWN_"
"""The graph's name of a node that was closed and whose publishers it did not forget yet."""
_SWITCHED_OFF = "the simulator was switched off"


class SimNode(ManagedNode):
    """See the module's docstring. Parameters are the fields of `SimConfig`.

    The world is made by `on_configure`, goes on while the node is active, and what moves comes to
    rest before `on_deactivate` is done. `robot` is for judging in tests: its world is the world's
    thread's own while the node is active.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sim", **kwargs)
        declare(self, SimConfig)
        self._config = SimConfig()
        self._store, self._bridge = typestore(), CvBridge()
        self._frames = Frames(self)
        self._is_active = False
        self._told_ns = 0
        self._topics: dict[str, Any] = {}
        self._live: LiveWorld | None = None
        self._servers = GoalServers(self, lambda: self._is_active)
        self.robot: TableRobot | RoomRobot | None = None

    # --- life --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            refuse_unknown(self)
            self._config = read(self, SimConfig)
            if not self._config.publish_clock and self._config.realtime_factor != 1.0:
                raise InputError("without publish_clock the realtime_factor must be 1")
            self._live = LiveWorld(self._make, self._config.realtime_factor, self._on_failure)
            self._open(self._live)
        except RynnBrainError as error:
            self.get_logger().error(f"cannot configure: {error}")
            self.release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        assert self._live is not None
        assert self.robot is not None
        self._is_active = True
        self._live.resume()
        self._frames.mount(self.robot.world.static_transforms())
        if isinstance(self.robot, RoomRobot):
            self._topics["map"].publish(to_ros(OccupancyGrid, map_message(self.robot)))
        self._warn_of_other_clocks()
        factor = self._config.realtime_factor
        self.get_logger().info(f"simulating the {self._config.world} at {factor:g} times real time")
        return result

    def _warn_of_other_clocks(self) -> None:
        if not self._config.publish_clock:
            return
        names = (
            f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            for publisher in self.get_publishers_info_by_topic("/clock")
            if publisher.node_name != _GONE
        )
        others = set(names) - {self.get_fully_qualified_name()}
        if others:
            self.get_logger().error(
                f"{', '.join(sorted(others))} publishes /clock too, and time will jump: give all "
                "simulators but one publish_clock:=false"
            )

    def _rest(self, why: str) -> None:
        if self._live is not None:
            self._live.pause(_SWITCHED_OFF)
        self._is_active = False

    def release(self) -> None:
        """Ends the world. Publishers and servers stay: the middleware keeps some memory of each
        that ever was. May be called twice."""
        self._is_active = False
        if self._live is not None:
            self._live.close()
            self._live = None
        self._servers.leave()
        if self.robot is not None:
            self.robot = None
            gc.collect()  # the robot's parts know each other, and MuJoCo's memory is not Python's

    def _open(self, live: LiveWorld) -> None:
        """Publishers and servers of the robot that has been made."""
        assert self.robot is not None
        for stream in self.robot.streams:
            self._publish_to(stream.raw_color_topic, messages.IMAGE)
            self._publish_to(stream.color_topic, messages.COMPRESSED_IMAGE)
            self._publish_to(stream.depth_topic, messages.IMAGE)
            self._publish_to(stream.info_topic, messages.CAMERA_INFO)
            self._publish_to(_depth_info_topic(stream), messages.CAMERA_INFO)
        self._publish_to("/joint_states", JOINT_STATE)
        if self._config.publish_clock:
            self._publisher("/clock", Clock, QoSProfile(depth=1))
        self._servers.enter(live)
        if isinstance(self.robot, TableRobot):
            serve_arm(self._servers, self.robot)
            return
        self._publisher("odom", Odometry, QoSProfile(depth=10))
        self._publisher("map", OccupancyGrid, _LATCHED)
        serve_base(self._servers, self.robot)

    def _publisher(self, topic: str, type_: Any, qos: QoSProfile) -> None:
        if topic not in self._topics:
            self._topics[topic] = self.create_publisher(type_, topic, qos)

    def _publish_to(self, topic: str, typename: str) -> None:
        """Topics are the node's namespace's own; the transforms' are not before they are remapped
        (/tf:=tf /tf_static:=tf_static)."""
        if topic not in self._topics:
            self._topics[topic] = self.create_publisher(
                get_message(typename), topic.removeprefix("/"), QoSProfile(depth=5)
            )

    # --- in the world's thread -----------------------------------------------------------------

    def _make(self) -> Running:
        kind = TableRobot if self._config.world == "table" else RoomRobot
        send, watch = map(self._until_the_end, (self._send, self._send_raw))
        self.robot = kind(self._config, [send], watch)
        return self.robot.running

    def _send(self, topic: str, typename: str, value: Any, now_ns: int) -> None:
        if not self._is_active:
            return
        self._tell_time(now_ns)
        if not self._config.publish_clock:
            _shift(value, self._shift_ns())
        if typename == messages.TF_MESSAGE:  # of what moves: on_activate tells the rest
            self._frames.move(value.transforms)
            return
        raw = bytes(self._store.serialize_cdr(value, typename))
        self._topics[topic].publish(raw)
        if typename == messages.CAMERA_INFO:  # depth is aligned to colour: one lens for both
            camera = CameraStream(topic.split("/", maxsplit=2)[1])
            self._topics[_depth_info_topic(camera)].publish(raw)

    def _send_raw(self, picture: Picture) -> None:
        topic = CameraStream(picture.camera).raw_color_topic
        publisher = self._topics.get(topic)
        if publisher is None or not self._is_active or not publisher.get_subscription_count():
            return
        assert self.robot is not None
        frame_id = self.robot.world.camera_info(picture.camera).frame_id
        header = to_ros(Header, messages.header(picture.stamp_ns + self._shift_ns(), frame_id))
        publisher.publish(self._bridge.cv2_to_imgmsg(picture.rgb, "rgb8", header))

    def _tell_time(self, now_ns: int) -> None:
        """Before anything else of this moment is published."""
        if now_ns == self._told_ns:
            return
        self._told_ns = now_ns
        if self._config.publish_clock:
            self._topics["/clock"].publish(to_ros(Clock, {"clock": messages.stamp(now_ns)}))
        if isinstance(self.robot, RoomRobot):
            state = odometry(self.robot, now_ns + self._shift_ns())
            self._topics["odom"].publish(to_ros(Odometry, state))

    def _until_the_end(self, send: Callable[..., None]) -> Callable[..., None]:
        """Into nothing once Ctrl-C has ended ROS: the world goes on until it is closed."""

        def sent(*what: Any) -> None:
            try:
                send(*what)
            except RuntimeError:
                if self.context.ok():
                    raise

        return sent

    def _on_failure(self, error: Exception) -> None:
        self._is_active = False
        trace = "".join(traceback.format_exception(error))
        self.get_logger().fatal(f"the simulated world broke; clean up and configure again: {trace}")

    def _shift_ns(self) -> int:
        shifts = self._live is not None and not self._config.publish_clock
        return self._live.shift_ns if shifts and self._live is not None else 0


def _depth_info_topic(stream: CameraStream) -> str:
    return stream.depth_topic.replace("image_raw", "camera_info")


def _shift(value: Any, shift_ns: int) -> None:
    """Moves every stamp of a message of ours."""
    parts = value.transforms if hasattr(value, "transforms") else [value]
    for part in parts:
        stamp = part.header.stamp
        stamp.sec, stamp.nanosec = divmod(messages.stamp_ns_of(stamp) + shift_ns, 1_000_000_000)


def main(arguments: list[str] | None = None) -> int:
    return spin(SimNode, partial(MultiThreadedExecutor, 4), SimNode.release, arguments)
