"""A robot's drivers and a brain in one process, on real rclpy."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import numpy as np
from asking import Asking
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan, Thought
from rynn_brain_ros.srv import Ask, Ground
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.models import Engines
from rynn_brain_ros.ros.brain_node import BrainNode
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.ros.spinning import keep_spinning
from rynn_brain_ros.sim.tabletop import OPTICAL_FRAME, example_scene
from rynn_brain_ros.values import EncodedImage, Engine, RigidTransform

SECOND_NS = 1_000_000_000
_PACKED_DEPTH_HEAD = bytes(12)
"""compressed_depth_image_transport's ConfigHeader: unused for 16UC1."""


def now_ns() -> int:
    return time.time_ns()


class Camera:
    """What one camera's driver publishes, ``packed`` as compressed and compressedDepth."""

    def __init__(self, node: Node, name: str, packed: bool = False) -> None:
        self.packed = packed
        self.depth_scene = example_scene()
        """As the depth camera sees it, from the same place."""
        type_ = CompressedImage if packed else Image
        color, depth = ("/compressed", "/compressedDepth") if packed else ("", "")
        self.color_topic = f"/{name}/color/image_raw{color}"
        self.depth_topic = f"/{name}/depth/image_raw{depth}"
        self.color = node.create_publisher(type_, self.color_topic, 10)
        self.depth = node.create_publisher(type_, self.depth_topic, 10)
        self.info = node.create_publisher(CameraInfo, f"/{name}/color/camera_info", 10)

    def publish(self, stamp_ns: int, pose: RigidTransform, with_depth: bool = True) -> None:
        scene = example_scene()
        rgb, _ = scene.render(pose)
        _, z_m = self.depth_scene.render(pose)
        depth_mm = np.round(z_m * 1000).astype(np.uint16)
        self.info.publish(to_ros(CameraInfo, messages.camera_info(scene.camera_info, stamp_ns)))
        if with_depth:
            self._publish(self.depth, stamp_ns, self._depth(depth_mm))
        self._publish(self.color, stamp_ns, self._color(rgb))

    def _publish(self, publisher: Any, stamp_ns: int, image: EncodedImage) -> None:
        fields = messages.image(image, stamp_ns, OPTICAL_FRAME)[1]
        publisher.publish(to_ros(CompressedImage if self.packed else Image, fields))

    def _color(self, rgb: Any) -> EncodedImage:
        if self.packed:
            png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
            return EncodedImage("rgb8; png compressed bgr8", png, compressed=True)
        height, width = rgb.shape[:2]
        return EncodedImage("rgb8", rgb.tobytes(), width, height, step=3 * width)

    def _depth(self, depth_mm: Any) -> EncodedImage:
        if self.packed:
            png = _PACKED_DEPTH_HEAD + cv2.imencode(".png", depth_mm)[1].tobytes()
            return EncodedImage("16UC1; compressedDepth png", png, compressed=True)
        height, width = depth_mm.shape
        return EncodedImage("16UC1", depth_mm.tobytes(), width, height, step=2 * width)


class Robot(Node):
    """What a robot's drivers publish: one camera on a moving arm; and what its user hears."""

    def __init__(self, packed: bool = False) -> None:
        super().__init__("robot")
        self.scene = example_scene()
        self.camera = Camera(self, "camera", packed)
        self.tf = self.create_publisher(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        self.received: dict[str, list[Any]] = {}
        for type_, name in (
            (GroundingArray, "/brain/groundings"),
            (PoseStamped, "/brain/target"),
            (Thought, "/brain/thoughts"),
            (Plan, "/brain/plan"),
            (BrainStatus, "/brain/status"),
            (DiagnosticArray, "/diagnostics"),
        ):
            got = self.received.setdefault(name.rpartition("/")[2], [])
            self.create_subscription(type_, name, got.append, 10)

    def publish_frame(self, stamp_ns: int, with_tf: bool = True, with_depth: bool = True) -> None:
        if with_tf:
            self.publish_tf(stamp_ns)
        self.camera.publish(stamp_ns, self.scene.pose_at(stamp_ns), with_depth)

    def publish_tf(self, stamp_ns: int) -> None:
        """Samples on both sides of the stamp, as a driver's stream has."""
        for offset_ns in (-20_000_000, 20_000_000):
            pose = self.scene.pose_at(stamp_ns + offset_ns)
            self.tf.publish(to_ros(TFMessage, messages.tf_message([pose])))


class Graph(Asking):
    """A robot and a brain in one process, on an executor of their own."""

    patience_s = 30.0

    def __init__(self, packed: bool = False, **parameters: Any) -> None:
        self.robot = Robot(packed)
        camera = self.robot.camera
        # A busy machine may need seconds between a picture and its question.
        patient = {"max_frame_age_s": 120.0}
        topics = {"color_topic": camera.color_topic, "depth_topic": camera.depth_topic}
        values = {**topics, **patient, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.brain = BrainNode(parameter_overrides=overrides)
        self.executor = MultiThreadedExecutor(num_threads=6)
        self.executor.add_node(self.robot)
        self.executor.add_node(self.brain)
        self.spinner = threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True)
        self.spinner.start()
        self.change = self.robot.create_client(ChangeState, "/brain/change_state")
        self.ask_client = self.robot.create_client(Ask, "/brain/ask")
        self.ground_client = self.robot.create_client(Ground, "/brain/ground")

    @property
    def eyes(self) -> Eyes:
        assert self.brain.eyes is not None
        return self.brain.eyes

    def ask(self, question: str, task: str = "object", **fields: Any) -> Any:
        return self.call(self.ask_client, Ask.Request(question=question, task=task, **fields))

    def bring_up(self, engine: Engine | None = None) -> None:
        """Active, and connected to the robot's camera. ``engine`` answers instead of its own."""
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        if engine is not None:
            self.brain._engines = Engines.one(engine)
        assert self.transition(Transition.TRANSITION_ACTIVATE)
        camera = self.robot.camera
        for publisher in (camera.color, camera.depth, camera.info, self.robot.tf):
            self.wait_until(publisher.get_subscription_count, publisher.topic_name)

    def show(self, stamp_ns: int, **kwargs: bool) -> None:
        self.robot.publish_frame(stamp_ns, **kwargs)
        self.wait_for_frame(self.eyes.camera, stamp_ns)

    def wait_for_frame(self, camera: str, stamp_ns: int) -> None:
        buffer = self.eyes.perception.buffer

        def seen() -> bool:
            newest = buffer.latest(camera)
            return newest is not None and newest.stamp_ns >= stamp_ns

        self.wait_until(seen, "the frame in the buffer")

    def close(self) -> None:
        self.brain.release()
        self.executor.shutdown()
        self.spinner.join()
        self.brain.destroy_node()
        self.robot.destroy_node()
