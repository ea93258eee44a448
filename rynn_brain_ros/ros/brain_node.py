"""The ``brain`` lifecycle node: questions in, groundings in space out.

    ros2 run rynn_brain_ros brain --ros-args -p color_topic:=/camera/color/image_raw

It connects: what is asked, seen, parsed and lifted happens in rooms that know no ROS.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String

from rynn_brain_ros import messages
from rynn_brain_ros.action import AskQuestion
from rynn_brain_ros.config import BrainConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.msg import Grounding, GroundingArray, Plan, Thought
from rynn_brain_ros.planning import Question
from rynn_brain_ros.ros.answering import THOUGHTS, Answering, Asked, StaleError
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.seeing_node import SeeingNode
from rynn_brain_ros.ros.spinning import execute, spin
from rynn_brain_ros.ros.vitals import Vitals
from rynn_brain_ros.srv import Ask, Ground
from rynn_brain_ros.values import InputError, RefusalCode, RynnBrainError, Task
from rynn_brain_ros.view.publications import GROUNDINGS, PATH, TARGET
from rynn_brain_ros.view.turn_messages import PLAN

_THREADS = 6
"""Two may wait for an answer (a service's and a goal's), and images and transforms never do."""
_QUESTIONS = 100
"""Messages of ~/question: more than may wait for their answer, so that the surplus is told."""
_CLASSES = {
    GROUNDINGS: GroundingArray,
    TARGET: PoseStamped,
    PATH: PathMessage,
    THOUGHTS: Thought,
    PLAN: Plan,
}
_NOT_ACTIVE = "the brain is not active: activate it first (ros2 lifecycle set)"


class BrainNode(SeeingNode[BrainConfig]):
    """See the module's docstring. Parameters are the fields of `BrainConfig`, and those of
    `CameraConfig` for each of its ``cameras``. Outside of the active state services answer
    "not active".
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("brain", BrainConfig, _CLASSES, **kwargs)
        self._numbers = itertools.count(1)
        self._answering: Answering | None = None
        self._goals: dict[bytes, Asked] = {}
        # Who calls a service waits for the answer, one after the other; nothing else does.
        waiting, free = MutuallyExclusiveCallbackGroup(), ReentrantCallbackGroup()
        self.create_service(Ask, "~/ask", self._on_ask, callback_group=waiting)
        self.create_service(Ground, "~/ground", self._on_ground, callback_group=waiting)
        self.create_subscription(
            String, "~/question", self._on_question, _QUESTIONS, callback_group=free
        )
        self._action = ActionServer(
            self,
            AskQuestion,
            "~/ask_question",
            execute_callback=self._on_begun,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            callback_group=free,
        )

    # --- life --------------------------------------------------------------------------------

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        eyes, engines = self.eyes, self._engines
        if eyes is not None and engines is not None:
            eyes.start()
            self._answering = Answering(
                self, self._config, engines, eyes, show=self._show, numbers=self._numbers
            )
            self._vitals = Vitals(
                self,
                self._config,
                engines,
                eyes,
                answers=self._answering,
                max_frame_age_s=self._config.max_frame_age_s,
            )
            watched = ", ".join(eyes.cameras.values())
            self.get_logger().info(f"watching {watched}, answering with {self._config.engine}")
        return result

    def _rest(self, why: str) -> None:
        """Takes no more questions, ends the one being answered, and looks no longer."""
        super()._rest(why)
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.stop()
        if self.eyes is not None:
            self.eyes.stop()

    # --- questions: services -----------------------------------------------------------------

    def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        try:
            asked = self._wait_for(_asked(request))
            answered = asked.complete
        except Exception as error:  # noqa: BLE001  # no question may kill the node
            response.message = _explain(error)
            return response
        response.success = True
        response.query_id = answered.query.query_id
        response.answer = answered.answer.text
        response.groundings = to_ros(GroundingArray, messages.grounding_array(answered))
        response.latency = asked.latency_s
        return response

    def _on_ground(self, request: Ground.Request, response: Ground.Response) -> Ground.Response:
        try:
            self._ground(request, response)
        except StaleError as error:
            response.refusal_code = RefusalCode.STALE.value
            response.message = str(error)
        except Exception as error:  # noqa: BLE001  # no question may kill the node
            response.message = _explain(error)
        return response

    def _ground(self, request: Ground.Request, response: Ground.Response) -> None:
        task = _task(request.kind or "affordance")
        if not task.needs_grounding:
            raise InputError(f"kind {request.kind!r} names no place: ask for it with ~/ask")
        asked = Asked(Question(request.target, task), request.camera)
        answered = self._wait_for(asked).complete
        lifted = answered.lifted[0]
        response.query_id = answered.query.query_id
        grounding = messages.grounding(lifted, response.query_id, False)
        response.grounding = to_ros(Grounding, grounding)
        pose = messages.target_pose(lifted)
        if lifted.refusal is not None or pose is None:
            why = lifted.refusal or lifted.pose_refusal
            response.refusal_code = why.code.value if why else ""
            response.message = why.text if why else "there is no target"
            return
        target = to_ros(PoseStamped, pose)
        response.target.header = target.header
        response.target.point = target.pose.position
        response.success = True
        if not lifted.fixed_frame_id:
            why = f": {lifted.pose_refusal.text}" if lifted.pose_refusal else ""
            response.message = (
                f"it is told in the camera's own frame, {target.header.frame_id}{why}"
            )

    def _wait_for(self, asked: Asked) -> Asked:
        self._put(asked)
        asked.done.wait()
        return asked

    def _put(self, asked: Asked) -> None:
        """Raises `InputError` where no question can be taken."""
        answering = self._answering
        if answering is None:
            raise InputError(_NOT_ACTIVE)
        answering.put(asked)

    # --- questions: topic and action ---------------------------------------------------------

    def _on_question(self, message: String) -> None:
        word, colon, rest = message.data.partition(":")
        has_task = bool(colon) and word.strip() in {task.value for task in Task}
        task = Task(word.strip() if has_task else self._config.question_task)
        text = (rest if has_task else message.data).strip()

        def end() -> None:
            if asked.error is not None:
                self.get_logger().warning(f"{text!r} has no answer: {_explain(asked.error)}")

        asked = Asked(Question(text, task), end=end)
        try:
            self._put(asked)
        except InputError as error:
            self.get_logger().warning(f"{text!r} has no answer: {error}")

    def _on_goal(self, goal: AskQuestion.Goal) -> GoalResponse:
        if self._answering is not None:
            return GoalResponse.ACCEPT
        self.get_logger().warning(f"{goal.question!r} is not taken: {_NOT_ACTIVE}")
        return GoalResponse.REJECT

    def _on_accepted(self, handle: Any) -> None:
        def hear(thought: MessageDict) -> None:
            if handle.is_active and self.context.ok():
                handle.publish_feedback(to_ros(AskQuestion.Feedback, {"thought": thought}))

        try:
            asked = _asked(handle.request)
        except InputError as error:
            asked = Asked(Question(""), error=error)
        asked.begin, asked.hear = partial(execute, handle), hear
        self._goals[bytes(handle.goal_id.uuid)] = asked
        try:
            self._put(asked) if asked.error is None else asked.give_up(asked.error)
        except InputError as error:
            asked.give_up(error)

    def _on_cancel(self, handle: Any) -> CancelResponse:
        asked, answering = self._goals.get(bytes(handle.goal_id.uuid)), self._answering
        if asked is not None and answering is not None:
            answering.cancel(asked)
        return CancelResponse.ACCEPT

    def _on_begun(self, handle: Any) -> AskQuestion.Result:
        asked = self._goals[bytes(handle.goal_id.uuid)]
        asked.done.wait()
        del self._goals[bytes(handle.goal_id.uuid)]
        result = AskQuestion.Result(latency=asked.latency_s)
        answered = asked.response
        if answered is not None:
            result.query_id = answered.query.query_id
            result.answer = answered.answer.text
            result.groundings = to_ros(GroundingArray, messages.grounding_array(answered))
        try:
            asked.complete  # noqa: B018  # raises what kept it from being that
        except Exception as error:  # noqa: BLE001  # no question may kill the node
            result.message = _explain(error)
            handle.canceled() if handle.is_cancel_requested else handle.abort()
            return result
        result.success = True
        handle.succeed()
        return result


def _asked(request: Any) -> Asked:
    """Of an Ask.Request or an AskQuestion.Goal."""
    return Asked(
        Question(request.question, _task(request.task or "describe"), request.thinking),
        request.camera,
        request.frames,
        messages.stamp_ns_of(request.stamp),
    )


def _task(name: str) -> Task:
    try:
        return Task(name)
    except ValueError:
        known = ", ".join(task.value for task in Task)
        raise InputError(f"unknown task {name!r}: use one of {known}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, RynnBrainError):
        return str(error)
    return f"internal error, see the node's log: {type(error).__name__}: {error}"


def main(arguments: list[str] | None = None) -> int:
    return spin(
        BrainNode,
        lambda: MultiThreadedExecutor(num_threads=_THREADS),
        # Ends the question being answered, so that the executor can end.
        lambda node: node.release(),
        arguments,
    )
