"""The ``brain`` lifecycle node: questions in, groundings in space out.

    ros2 run rynn_brain_ros brain --ros-args -p color_topic:=/camera/color/image_raw

It connects: what is asked, seen, parsed and lifted happens in rooms that know no ROS.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from typing import Any

import cv2
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage
from visualization_msgs.msg import MarkerArray

from rynn_brain_ros import messages
from rynn_brain_ros.config import BrainConfig, Setting, configure, settings
from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.models import Engines, open_engine
from rynn_brain_ros.msg import BrainStatus, Grounding, GroundingArray
from rynn_brain_ros.planning import Question, ask, make_query
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.srv import Ask, Ground
from rynn_brain_ros.values import InputError, Response, RynnBrainError, Task
from rynn_brain_ros.view import annotated_frames, marker_array

_STATUS_PERIOD_S = 1.0


class BrainNode(LifecycleNode):
    """See the module's docstring. Parameters are the fields of `BrainConfig`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("brain", **kwargs)
        for item in settings(BrainConfig):
            self.declare_parameter(item.name, item.default, _descriptor(item))
        self._numbers = itertools.count(1)
        self._config = BrainConfig()
        self._engines: Engines | None = None
        self.eyes: Eyes | None = None
        self._active = False
        self._stop_asking = threading.Event()
        self._asking = ""
        self._latency_s = math.nan
        # Questions wait for the engine, one after the other; images must not wait for them.
        self._questions = MutuallyExclusiveCallbackGroup()

    # --- life --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        values = {item.name: self.get_parameter(item.name).value for item in settings(BrainConfig)}
        try:
            self._config = configure(BrainConfig, values)
            self._engines = Engines.one(open_engine(self._config.engine))
            self.eyes = Eyes(self, self._config)
        except RynnBrainError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self._groundings = self.create_lifecycle_publisher(GroundingArray, "~/groundings", 10)
        self._markers = self.create_lifecycle_publisher(MarkerArray, "~/markers", 10)
        self._targets = self.create_lifecycle_publisher(PoseStamped, "~/target", 10)
        self._paths = self.create_lifecycle_publisher(PathMessage, "~/path", 10)
        self._annotated = self.create_lifecycle_publisher(
            CompressedImage, "~/annotated/compressed", 10
        )
        self._status = self.create_lifecycle_publisher(BrainStatus, "~/status", 10)
        group = self._questions
        self._question_services = [
            self.create_service(Ask, "~/ask", self._on_ask, callback_group=group),
            self.create_service(Ground, "~/ground", self._on_ground, callback_group=group),
        ]
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self.eyes is not None:
            self.eyes.start()
        self._stop_asking.clear()
        self._active = True
        self._timer = self.create_timer(_STATUS_PERIOD_S, self._publish_status)
        info = next(iter(self._engines.by_role.values())).info if self._engines else None
        self.get_logger().info(
            f"watching {self._config.color_topic}, answering with {info.name if info else '–'}"
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._stop_asking.set()
        self.destroy_timer(self._timer)
        if self.eyes is not None:
            self.eyes.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_shutdown(state)

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""
        self._active = False
        self._stop_asking.set()
        if self.eyes is not None:
            self.eyes.stop()
            self.eyes = None
        if self._engines is not None:
            self._engines.close()
            self._engines = None
            for service in self._question_services:
                self.destroy_service(service)
            for publisher in (
                self._groundings,
                self._markers,
                self._targets,
                self._paths,
                self._annotated,
                self._status,
            ):
                self.destroy_publisher(publisher)

    # --- questions ---------------------------------------------------------------------------

    def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        started = time.monotonic()
        try:
            answered = self._ask(request.question, request.task or "describe", request)
        except RynnBrainError as error:
            response.message = str(error)
            return response
        response.success = True
        response.query_id = answered.query.query_id
        response.answer = answered.answer.text
        response.groundings = to_ros(GroundingArray, messages.grounding_array(answered))
        response.latency = time.monotonic() - started
        return response

    def _on_ground(self, request: Ground.Request, response: Ground.Response) -> Ground.Response:
        try:
            answered = self._ask(request.target, request.kind or "affordance", request)
        except RynnBrainError as error:
            response.message = str(error)
            return response
        lifted = answered.lifted[0]
        identity = answered.query.query_id
        response.query_id = identity
        response.grounding = to_ros(Grounding, messages.grounding(lifted, identity, False))
        if lifted.refusal is not None:
            response.refusal_code = lifted.refusal.code.value
            response.message = lifted.refusal.text
            return response
        pose = messages.target_pose(lifted)
        if pose is not None:
            stamped = to_ros(PoseStamped, pose)
            response.success = True
            response.target.header = stamped.header
            response.target.point = stamped.pose.position
        return response

    def _ask(self, text: str, task: str, request: Any) -> Response:
        eyes, engines, config = self.eyes, self._engines, self._config
        if not self._active or eyes is None or engines is None:
            raise InputError("the brain is not active: activate it first (ros2 lifecycle set)")
        if request.camera and self.resolve_topic_name(request.camera) != eyes.camera:
            raise InputError(f"no camera {request.camera!r}: this brain watches {eyes.camera}")
        question = Question(text, _task(task))
        until_ns = eyes.wait_for_newest(timeout_s=1.0 + config.max_wait_s)
        if until_ns is None:
            raise InputError(
                f"no image has arrived on {eyes.camera}: is the camera publishing (ros2 topic hz)?"
            )
        wanted = getattr(request, "stamp", None)
        if wanted is not None and messages.stamp_ns_of(wanted) > 0:
            until_ns = min(until_ns, messages.stamp_ns_of(wanted))
        policy = SelectionPolicy(n=getattr(request, "frames", 0) or config.frames, fps=config.fps)
        frames = eyes.perception.select(policy, eyes.camera, until_ns)
        query = make_query(next(self._numbers), question, frames)
        self._asking = query.query_id
        try:
            answered = ask(engines.select(query), query, cancel=self._stop_asking)
        finally:
            self._asking = ""
        self._latency_s = answered.answer.timings.total_s
        self._publish(answered)
        return answered

    # --- what others see ---------------------------------------------------------------------

    def _publish(self, answered: Response) -> None:
        groundings = messages.grounding_array(answered)
        self._groundings.publish(to_ros(GroundingArray, groundings))
        markers = marker_array(answered, lifetime_s=self._config.marker_lifetime_s)
        self._markers.publish(to_ros(MarkerArray, markers))
        for lifted in answered.lifted:
            pose, path = messages.target_pose(lifted), messages.path(lifted)
            if pose is not None:
                self._targets.publish(to_ros(PoseStamped, pose))
            if path is not None:
                self._paths.publish(to_ros(PathMessage, path))
        for _, selected, picture in annotated_frames(answered):
            jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
            frame = selected.frame
            data = messages.compressed_image(
                jpeg, "rgb8; jpeg compressed bgr8", frame.stamp_ns, frame.frame_id
            )
            self._annotated.publish(to_ros(CompressedImage, data))

    def _publish_status(self) -> None:
        eyes, engines = self.eyes, self._engines
        if eyes is None or engines is None:
            return
        now_ns = self.get_clock().now().nanoseconds
        info = next(iter(engines.by_role.values())).info
        stats = eyes.perception.buffer.stats()
        track = next((c for c in stats.cameras if c.camera == eyes.camera), None)
        problems = self._problems(eyes, track)
        idle = BrainStatus.STATE_DEGRADED if problems else BrainStatus.STATE_READY
        status = {
            "stamp": messages.stamp(now_ns),
            "state": BrainStatus.STATE_BUSY if self._asking else idle,
            "engine": info.name,
            "model": info.model,
            "query_id": self._asking,
            "armed": False,
            "dry_run": True,
            "frames": stats.frames,
            "buffer_bytes": stats.n_bytes,
            "oldest_frame_age": _age_s(now_ns, track.oldest_ns if track else None),
            "newest_frame_age": _age_s(now_ns, track.newest_ns if track else None),
            "frames_dropped": sum(eyes.dropped.values()),
            "last_answer_latency": self._latency_s,
            "problems": problems,
        }
        self._status.publish(to_ros(BrainStatus, status))

    def _problems(self, eyes: Eyes, track: Any) -> list[str]:
        missing = eyes.perception.stats(eyes.camera).missing
        return [
            *([] if track else [f"no image has arrived on {eyes.camera}"]),
            *(f"{count} frames came without {what}" for what, count in sorted(missing.items())),
            *eyes.perception.problems,
        ]


def _task(name: str) -> Task:
    try:
        return Task(name)
    except ValueError:
        known = ", ".join(task.value for task in Task)
        raise InputError(f"unknown task {name!r}: use one of {known}") from None


def _age_s(now_ns: int, stamp_ns: int | None) -> float:
    return math.nan if stamp_ns is None else (now_ns - stamp_ns) / 1e9


def _descriptor(item: Setting) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=item.description)
    if item.minimum is None or item.maximum is None:
        return descriptor
    if isinstance(item.default, int):
        low, high = int(item.minimum), int(item.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    else:
        low, high = float(item.minimum), float(item.maximum)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor


def main(arguments: list[str] | None = None) -> int:
    rclpy.init(args=arguments)
    node = BrainNode()
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # Ctrl-C and SIGTERM are how a node ends
    finally:
        node.release()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
