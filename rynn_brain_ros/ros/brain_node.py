"""The ``brain`` lifecycle node: questions in, groundings in space out.

    ros2 run rynn_brain_ros brain --ros-args -p color_topic:=/camera/color/image_raw

It connects: what is asked, seen, parsed and lifted happens in rooms that know no ROS.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import traceback
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.exceptions import NameValidationException
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
from rynn_brain_ros.ros.eyes import Eyes, Seen
from rynn_brain_ros.srv import Ask, Ground
from rynn_brain_ros.values import (
    InputError,
    Query,
    RefusalCode,
    Response,
    RynnBrainError,
    Task,
)
from rynn_brain_ros.view import annotated_frames, publications
from rynn_brain_ros.view.publications import ANNOTATED, GROUNDINGS, MARKERS, PATH, TARGET

_STATUS_PERIOD_S = 1.0
_CLASSES = {
    GROUNDINGS: GroundingArray,
    MARKERS: MarkerArray,
    TARGET: PoseStamped,
    PATH: PathMessage,
    ANNOTATED: CompressedImage,
}


class StaleError(InputError):
    """The newest image is older than allowed."""


class BrainNode(LifecycleNode):
    """See the module's docstring. Parameters are the fields of `BrainConfig`.

    Publishers and services live as long as the node: publishers are silent and services answer
    "not active" outside of the active state. What may fail or takes memory (the engine, the
    buffer) comes with `on_configure` and goes with `release`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("brain", **kwargs)
        for item in settings(BrainConfig):
            self.declare_parameter(item.name, item.default, _descriptor(item))
        self._numbers = itertools.count(1)
        self._config = BrainConfig()
        self._engines: Engines | None = None
        self.eyes: Eyes | None = None
        self._active = False
        # Held while a question is answered: what it uses is not taken away before it ended.
        self._answering = threading.Lock()
        self._stop_asking = threading.Event()
        self._asking = ""
        self._latency_s = math.nan
        self._outputs = {
            name: self.create_lifecycle_publisher(_CLASSES[name], f"~/{name}", 10)
            for name in _CLASSES
        }
        self._status = self.create_lifecycle_publisher(BrainStatus, "~/status", 10)
        self._status_timer = self.create_timer(_STATUS_PERIOD_S, self._publish_status)
        # Questions wait for the engine, one after the other; images must not wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Ask, "~/ask", self._on_ask, callback_group=group)
        self.create_service(Ground, "~/ground", self._on_ground, callback_group=group)

    # --- life --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        values = {item.name: self.get_parameter(item.name).value for item in settings(BrainConfig)}
        try:
            self._config = configure(BrainConfig, values)
            self._engines = Engines.one(open_engine(self._config.engine))
            self.eyes = Eyes(self, self._config)
        except (RynnBrainError, NameValidationException) as error:
            self.get_logger().error(f"cannot configure: {error}")
            self.release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self.eyes is not None:
            self.eyes.start()
        self._stop_asking.clear()
        self._active = True
        self.get_logger().info(
            f"watching {self._config.color_topic}, answering with {self._config.engine}"
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_shutdown(state)

    def _rest(self) -> None:
        """Takes no more questions, ends the one being answered, and looks no longer."""
        self._active = False
        self._stop_asking.set()
        if self.eyes is not None:
            self.eyes.stop()
        with self._answering:
            pass

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""
        self._rest()
        self.eyes = None
        if self._engines is not None:
            self._engines.close()
            self._engines = None

    # --- questions ---------------------------------------------------------------------------

    def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        started = time.monotonic()
        try:
            answered = self._answer(request.question, _task(request.task or "describe"), request)
            response.groundings = to_ros(GroundingArray, messages.grounding_array(answered))
        except Exception as error:  # noqa: BLE001  # no question may kill the node
            response.message = self._explain(error)
            return response
        response.success = True
        response.query_id = answered.query.query_id
        response.answer = answered.answer.text
        response.latency = time.monotonic() - started
        return response

    def _on_ground(self, request: Ground.Request, response: Ground.Response) -> Ground.Response:
        try:
            self._ground(request, response)
        except StaleError as error:
            response.refusal_code = RefusalCode.STALE.value
            response.message = str(error)
        except Exception as error:  # noqa: BLE001  # no question may kill the node
            response.message = self._explain(error)
        return response

    def _ground(self, request: Ground.Request, response: Ground.Response) -> None:
        task = _task(request.kind or "affordance")
        if not task.needs_grounding:
            raise InputError(f"kind {request.kind!r} names no place: ask for it with ~/ask")
        answered = self._answer(request.target, task, request)
        lifted = answered.lifted[0]
        response.query_id = answered.query.query_id
        grounding = messages.grounding(lifted, response.query_id, False)
        response.grounding = to_ros(Grounding, grounding)
        pose = messages.target_pose(lifted)
        if lifted.refusal is not None or pose is None:
            response.refusal_code = lifted.refusal.code.value if lifted.refusal else ""
            response.message = lifted.refusal.text if lifted.refusal else "there is no target"
            return
        target = to_ros(PoseStamped, pose)
        response.target.header = target.header
        response.target.point = target.pose.position
        response.success = True

    def _explain(self, error: Exception) -> str:
        if isinstance(error, RynnBrainError):
            return str(error)
        self.get_logger().error("".join(traceback.format_exception(error)))
        return f"internal error, see the node's log: {type(error).__name__}: {error}"

    def _answer(self, text: str, task: Task, request: Any) -> Response:
        with self._answering:
            if not self._active or self.eyes is None or self._engines is None:
                raise InputError("the brain is not active: activate it first (ros2 lifecycle set)")
            query = self._query(self.eyes, Question(text, task), request)
            self._asking = query.query_id
            try:
                engine = self._engines.select(query)
                answered = ask(engine, query, cancel=self._stop_asking)
            finally:
                self._asking = ""
            self._latency_s = answered.answer.timings.total_s
            pictures = annotated_frames(answered)
            lifetime_s = self._config.marker_lifetime_s
            for name, data in publications(answered, pictures, lifetime_s):
                self._outputs[name].publish(to_ros(_CLASSES[name], data))
            return answered

    def _query(self, eyes: Eyes, question: Question, request: Any) -> Query:
        config = self._config
        if request.camera and self.resolve_topic_name(request.camera) != eyes.camera:
            raise InputError(f"no camera {request.camera!r}: this brain watches {eyes.camera}")
        until_ns = eyes.wait_for_newest(timeout_s=1.0 + config.max_wait_s)
        if until_ns is None:
            raise InputError(
                f"no image has arrived on {eyes.camera}: is the camera publishing (ros2 topic hz)?"
            )
        wanted_ns = messages.stamp_ns_of(request.stamp) if hasattr(request, "stamp") else 0
        if wanted_ns > 0:
            until_ns = min(until_ns, wanted_ns)
        else:
            self._check_age(eyes.camera, until_ns)
        policy = SelectionPolicy(n=getattr(request, "frames", 0) or config.frames, fps=config.fps)
        frames = eyes.perception.select(policy, eyes.camera, until_ns)
        return make_query(next(self._numbers), question, frames)

    def _check_age(self, camera: str, stamp_ns: int) -> None:
        age_s = _age_s(self.get_clock().now().nanoseconds, stamp_ns)
        if age_s > self._config.max_frame_age_s:
            raise StaleError(
                f"the newest image on {camera} is {age_s:.1f} s old, more than max_frame_age_s "
                f"({self._config.max_frame_age_s:g}): has the camera stopped, or does its clock "
                "differ from this node's (use_sim_time)?"
            )

    # --- what others see ---------------------------------------------------------------------

    def _publish_status(self) -> None:
        eyes = self.eyes
        if eyes is None or not self._active:
            return
        now_ns = self.get_clock().now().nanoseconds
        seen, stats = eyes.seen, eyes.perception.buffer.stats()
        track = next((c for c in stats.cameras if c.camera == eyes.camera), None)
        newest_age_s = _age_s(now_ns, track.newest_ns if track else None)
        problems = self._problems(eyes.camera, seen, newest_age_s)
        idle = BrainStatus.STATE_DEGRADED if problems else BrainStatus.STATE_READY
        status = {
            "stamp": messages.stamp(now_ns),
            "state": BrainStatus.STATE_BUSY if self._asking else idle,
            "engine": self._config.engine,
            "model": self._engines.model if self._engines is not None else "",
            "query_id": self._asking,
            "armed": False,
            "dry_run": True,
            "frames": stats.frames,
            "buffer_bytes": stats.n_bytes,
            "oldest_frame_age": _age_s(now_ns, track.oldest_ns if track else None),
            "newest_frame_age": newest_age_s,
            "frames_dropped": seen.dropped,
            "last_answer_latency": self._latency_s,
            "problems": problems,
        }
        self._status.publish(to_ros(BrainStatus, status))

    def _problems(self, camera: str, seen: Seen, newest_age_s: float) -> list[str]:
        problems = [f"{count} frames came without {what}" for what, count in seen.missing]
        if math.isnan(newest_age_s):
            problems.append(f"no image has arrived on {camera}")
        elif newest_age_s > self._config.max_frame_age_s:
            problems.append(f"the newest image on {camera} is {newest_age_s:.1f} s old")
        return [*problems, *seen.problems]


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
        node.release()  # ends the question being answered, so that the executor can end
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
