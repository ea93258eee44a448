"""The ``act`` lifecycle node: tasks in plain words in, goals for MoveIt, a gripper or Nav2 out.

    ros2 run rynn_brain_ros act --ros-args -p robot:=franka_panda

It moves nothing unless ``dry_run`` is false, the engine has passed its check, and a person has
armed it (``~/arm``), which expires. It connects: what is decided is decided in rooms that know no
ROS, and one thread (`Acting`) moves the robot.
"""

from __future__ import annotations

import math
import signal
import threading
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import NameValidationException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import SetBool
from visualization_msgs.msg import MarkerArray

from rynn_brain_ros import messages
from rynn_brain_ros.action import ExecuteTask
from rynn_brain_ros.actuators import read_profile
from rynn_brain_ros.actuators.settings import ActConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines, open_engines
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan
from rynn_brain_ros.ros.acting import Acting, TaskRun
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.lifecycle import refuse_wrong_transitions
from rynn_brain_ros.ros.parameters import declare, read
from rynn_brain_ros.ros.telling import PREVIEW_PATH, PREVIEW_TEXT
from rynn_brain_ros.srv import Approve
from rynn_brain_ros.values import RynnBrainError, Status
from rynn_brain_ros.view.publications import GROUNDINGS, MARKERS, PATH, TARGET
from rynn_brain_ros.view.turn_messages import PLAN

_STATUS_PERIOD_S = 1.0
_CLASSES = {
    GROUNDINGS: GroundingArray,
    MARKERS: MarkerArray,
    TARGET: PoseStamped,
    PATH: PathMessage,
    PLAN: Plan,
    PREVIEW_PATH: PathMessage,
    PREVIEW_TEXT: String,
}
_STATUSES = {
    Status.SUCCEEDED: ExecuteTask.Result.STATUS_SUCCEEDED,
    Status.FAILED: ExecuteTask.Result.STATUS_FAILED,
    Status.CANCELLED: ExecuteTask.Result.STATUS_CANCELLED,
    Status.REFUSED: ExecuteTask.Result.STATUS_REFUSED,
}


class ActNode(LifecycleNode):
    """See the module's docstring. Parameters are the fields of `ActConfig`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("act", **kwargs)
        refuse_wrong_transitions(self)
        declare(self, ActConfig)
        self._config = ActConfig()
        self._engines: Engines | None = None
        self.acting: Acting | None = None
        self._active = False
        self._outputs = {
            name: self.create_lifecycle_publisher(class_, f"~/{name}", 10)
            for name, class_ in _CLASSES.items()
        }
        self._status = self.create_lifecycle_publisher(BrainStatus, "~/status", 10)
        self._status_timer = self.create_timer(_STATUS_PERIOD_S, self._publish_status)
        group = ReentrantCallbackGroup()
        self.create_service(SetBool, "~/arm", self._on_arm, callback_group=group)
        self.create_service(Approve, "~/approve", self._on_approve, callback_group=group)
        self._tasks = ActionServer(
            self,
            ExecuteTask,
            "~/execute_task",
            execute_callback=self._on_task,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            callback_group=group,
        )

    # --- life ------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._config = config = read(self, ActConfig)
            profile = read_profile(config.robot)
            self._engines = open_engines(config.engine)
            self.acting = Acting(self, config, profile, self._engines, self._show)
        except (RynnBrainError, NameValidationException) as error:
            self.get_logger().error(f"cannot configure: {error}")
            self.release()
            return TransitionCallbackReturn.FAILURE
        for problem in self.acting.wire.problems:
            self.get_logger().warning(problem)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self.acting is not None:
            self.acting.start()
        self._active = True
        config = self._config
        means = "previews only" if config.dry_run else "moves once it is armed (~/arm)"
        self.get_logger().info(f"{config.robot}, watching {config.color_topic}: {means}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest("the node was deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_shutdown(state)

    def _rest(self, why: str) -> None:
        """Cancels what is in flight and disarms. Returns when nothing moves any more."""
        self._active = False
        if self.acting is not None:
            self.acting.stop(why)

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""
        self._rest("the node was shut down")
        acting, self.acting = self.acting, None
        if acting is not None:
            acting.close()
        if self._engines is not None:
            self._engines.close()
            self._engines = None

    # --- a person's word ------------------------------------------------------------------------

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        acting = self.acting
        if acting is None or not self._active:
            response.message = "act is not active: activate it first (ros2 lifecycle set)"
            return response
        if not request.data:
            acting.arming.disarm("a person disarmed it")
            response.success, response.message = True, "disarmed"
            return response
        if self.get_clock().now().nanoseconds == 0:  # what is armed now would have expired soon
            response.message = "there is no time yet: use_sim_time is on and /clock is silent"
            return response
        try:
            acting.arm()
        except TimeoutError as error:
            response.message = str(error)
            return response
        dry = "; dry_run is on: nothing moves" if self._config.dry_run else ""
        response.success = True
        response.message = f"armed for {self._config.armed_s:g} s{dry}"
        self.get_logger().warning(response.message)
        return response

    def _on_approve(self, request: Approve.Request, response: Approve.Response) -> Approve.Response:
        acting = self.acting
        if acting is None or not self._active:
            response.message = "act is not active"
            return response
        response.message = acting.approvals.answer(
            request.query_id, request.step_index, request.approve
        )
        response.success = not response.message
        word = "yes" if request.approve else "no"
        if response.success:
            self.get_logger().info(f"a person said {word}: {request.reason or 'no reason given'}")
        return response

    # --- tasks -----------------------------------------------------------------------------------

    def _on_goal(self, goal: ExecuteTask.Goal) -> GoalResponse:
        why = self._why_not(goal)
        if why:
            self.get_logger().warning(f"task {goal.task!r} is not taken: {why}")
        return GoalResponse.REJECT if why else GoalResponse.ACCEPT

    def _why_not(self, goal: ExecuteTask.Goal) -> str:
        acting = self.acting
        if acting is None or not self._active:
            return "act is not active"
        if acting.task is not None:
            return f"busy with {acting.task.text!r}: cancel it first"
        if goal.camera and self.resolve_topic_name(goal.camera) != acting.eyes.camera:
            return f"no camera {goal.camera!r}: it watches {acting.eyes.camera}"
        return "" if goal.task.strip() else "it says nothing"

    def _on_cancel(self, handle: Any) -> CancelResponse:
        task = self.acting.task if self.acting is not None else None
        if task is not None:
            task.cancel.set()
        return CancelResponse.ACCEPT

    def _on_task(self, handle: Any) -> ExecuteTask.Result:
        goal = handle.request

        def report(feedback: MessageDict) -> None:
            if handle.is_active:
                handle.publish_feedback(to_ros(ExecuteTask.Feedback, feedback))

        task = TaskRun(goal.task, goal.dry_run, goal.max_turns, report)
        acting = self.acting
        if acting is None or not acting.begin(task):
            task.error = "act was not free any more"
        else:
            if handle.is_cancel_requested:
                task.cancel.set()
            task.done.wait()
        result = _result(task)
        if handle.is_cancel_requested and result.status == ExecuteTask.Result.STATUS_CANCELLED:
            handle.canceled()
        elif result.status == ExecuteTask.Result.STATUS_SUCCEEDED:
            handle.succeed()
        else:
            handle.abort()
        return result

    # --- what others see -------------------------------------------------------------------------

    def _show(self, name: str, data: MessageDict) -> None:
        self._outputs[name].publish(to_ros(_CLASSES[name], data))

    def _publish_status(self) -> None:
        acting = self.acting
        if acting is None or not self._active:
            return
        now_ns, eyes = acting.clock.now_ns(), acting.eyes
        stats = eyes.perception.buffer.stats()
        track = next((c for c in stats.cameras if c.camera == eyes.camera), None)
        newest_age_s = math.nan if track is None else (now_ns - track.newest_ns) / 1e9
        problems = self._problems(acting, newest_age_s)
        idle = BrainStatus.STATE_DEGRADED if problems else BrainStatus.STATE_READY
        armed_s = acting.armed_for_s
        status = {
            "stamp": messages.stamp(now_ns),
            "state": idle if acting.task is None else BrainStatus.STATE_BUSY,
            "engine": self._config.engine,
            "model": self._engines.model if self._engines is not None else "",
            "armed": armed_s > 0,
            "armed_for": armed_s,
            "dry_run": acting.robot.limits.dry_run,
            "frames": stats.frames,
            "buffer_bytes": stats.n_bytes,
            "oldest_frame_age": math.nan if track is None else (now_ns - track.oldest_ns) / 1e9,
            "newest_frame_age": newest_age_s,
            "frames_dropped": eyes.seen.dropped,
            "last_answer_latency": math.nan,
            "problems": problems,
        }
        self._status.publish(to_ros(BrainStatus, status))

    def _problems(self, acting: Acting, newest_age_s: float) -> list[str]:
        problems = [f"no server at {name}: previews only" for name in acting.wire.absent()]
        problems += acting.wire.problems
        limit_s = acting.robot.watchdog.max_frame_age_s
        if not newest_age_s <= limit_s:
            seen = "none came" if math.isnan(newest_age_s) else f"it is {newest_age_s:.1f} s old"
            problems.append(f"no new image on {acting.eyes.camera}: {seen}")
        if acting.stopped_why:
            problems.append(f"stopped: {acting.stopped_why}")
        return [*problems, *acting.eyes.mismatches(), *acting.eyes.seen.problems]


def _result(task: TaskRun) -> ExecuteTask.Result:
    episode = task.episode
    if episode is None:
        return ExecuteTask.Result(
            status=ExecuteTask.Result.STATUS_CANCELLED
            if task.cancel.is_set()
            else ExecuteTask.Result.STATUS_FAILED,
            cause="cancelled" if task.cancel.is_set() else "failed",
            message=task.error,
        )
    fields = {
        "status": _STATUSES[episode.status],
        "cause": episode.cause,
        "task_confirmed": episode.confirmed,
        "message": episode.text,
        "plan": task.plan,
    }
    return to_ros(ExecuteTask.Result, fields)


def main(arguments: list[str] | None = None) -> int:
    """The context outlives the signal: what is in flight is cancelled through it."""
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    node = ActNode()
    executor = MultiThreadedExecutor(num_threads=6)
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor, ending), daemon=True)
    spinner.start()
    while not ending.wait(0.2):
        pass
    node.release()
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.try_shutdown()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.SIG_IGN
        )  # one more, while the interpreter ends, changes nothing
    return 0


def _spin(executor: MultiThreadedExecutor, ending: threading.Event) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass  # somebody else ended the context
    finally:
        ending.set()
