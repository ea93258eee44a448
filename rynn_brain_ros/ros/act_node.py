"""The ``act`` lifecycle node: tasks in plain words in, goals for MoveIt, a gripper or Nav2 out.

    ros2 run rynn_brain_ros act --ros-args -p robot:=franka_panda

It moves nothing unless ``dry_run`` is false, the engine has passed its check, and a person has
armed it (``~/arm``), which expires. It connects: what is decided is decided in rooms that know no
ROS, and one thread (`Acting`) moves the robot.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String
from std_srvs.srv import SetBool

from rynn_brain_ros.action import ExecuteTask
from rynn_brain_ros.actuators import read_profile
from rynn_brain_ros.actuators.settings import ActConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines
from rynn_brain_ros.msg import BrainStatus, GroundingArray, Plan
from rynn_brain_ros.ros.acting import Acting, TaskRun
from rynn_brain_ros.ros.clients import Clients
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.ros.seeing_node import SeeingNode
from rynn_brain_ros.ros.spinning import execute, spin
from rynn_brain_ros.ros.telling import PREVIEW_PATH, PREVIEW_TEXT
from rynn_brain_ros.ros.vitals import Vitals
from rynn_brain_ros.srv import Approve
from rynn_brain_ros.values import InputError, Status
from rynn_brain_ros.view.publications import GROUNDINGS, PATH, TARGET
from rynn_brain_ros.view.turn_messages import PLAN

_THREADS = 6
_LOOK_S = 0.2
"""How often a task that runs is looked at for a wish to cancel it."""
_CLASSES = {
    GROUNDINGS: GroundingArray,
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


class ActNode(SeeingNode[ActConfig]):
    """See the module's docstring. Parameters are the fields of `ActConfig`, and those of
    `CameraConfig` for each of its ``cameras``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("act", ActConfig, _CLASSES, **kwargs)
        self.acting: Acting | None = None
        self._robot_clients = Clients(self)
        self._active = False
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
            handle_accepted_callback=execute,
            callback_group=group,
        )

    # --- life ------------------------------------------------------------------------------------

    def _prepare(self, eyes: Eyes, engines: Engines) -> None:
        profile = read_profile(self._config.robot)
        self.acting = Acting(
            self, self._config, profile, engines, eyes, clients=self._robot_clients, show=self._show
        )
        for problem in self.acting.wire.problems:
            self.get_logger().warning(problem)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        acting, engines, config = self.acting, self._engines, self._config
        if acting is not None and acting.is_alive:
            self.get_logger().error("cannot activate: the task of before has not ended yet")
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        if acting is not None and engines is not None:
            acting.start()
            self._vitals = Vitals(
                self,
                config,
                engines,
                acting.eyes,
                answers=acting,
                max_frame_age_s=acting.robot.watchdog.max_frame_age_s,
            )
            self._active = True
            watched = ", ".join(acting.eyes.cameras.values())
            means = "previews only" if config.dry_run else "moves once it is armed (~/arm)"
            self.get_logger().info(f"{config.robot}, watching {watched}: {means}")
        return result

    def _rest(self, why: str) -> None:
        """Cancels what is in flight and disarms. Returns when nothing moves any more."""
        self._active = False
        super()._rest(why)
        acting = self.acting
        if acting is not None:
            acting.stop(why)

    def release(self) -> None:
        super().release()
        acting, self.acting = self.acting, None
        if acting is not None:
            acting.close()

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
        if dangers := acting.dangers:
            response.message = "; ".join(dangers)
            return response
        if self.get_clock().now().nanoseconds == 0:  # what is armed now would have expired soon
            response.message = "there is no time yet: use_sim_time is on and /clock is silent"
            return response
        try:
            armed = acting.arm()
        except TimeoutError as error:
            response.message = str(error)
            return response
        if not armed:
            response.message = "it was disarmed meanwhile and stays so"
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
        try:
            acting.eyes.camera_of(goal.camera)
        except InputError as no:
            return str(no)
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

        task = TaskRun(goal.task, goal.dry_run, goal.max_turns, report, goal.camera)
        acting = self.acting
        if acting is None or not acting.begin(task):
            task.error = "act was not free any more"
        else:
            while not task.done.wait(_LOOK_S):
                if handle.is_cancel_requested:  # perhaps from before it had begun
                    task.cancel.set()
        result = _result(task)
        if handle.is_cancel_requested and result.status == ExecuteTask.Result.STATUS_CANCELLED:
            handle.canceled()
        elif result.status == ExecuteTask.Result.STATUS_SUCCEEDED:
            handle.succeed()
        else:
            handle.abort()
        return result

    # --- what others see -------------------------------------------------------------------------

    def _publish_status(self) -> None:
        """Looks at the topics' other ends, too: by the pictures of two robots, or where nobody
        would hear it stop, nothing may move."""
        acting = self.acting
        if acting is not None and acting.armed_for_s > 0 and (dangers := acting.dangers):
            acting.arming.disarm("; ".join(dangers))
        super()._publish_status()

    def _completed(self, status: MessageDict) -> MessageDict:
        acting = self.acting
        if acting is None:
            return status
        problems = [*self._problems(acting), *status["problems"]]
        idle = BrainStatus.STATE_DEGRADED if problems else BrainStatus.STATE_READY
        armed_s = acting.armed_for_s
        return {
            **status,
            "state": idle if acting.task is None else BrainStatus.STATE_BUSY,
            "armed": armed_s > 0,
            "armed_for": armed_s,
            "dry_run": acting.robot.limits.dry_run,
            "problems": problems,
        }

    def _problems(self, acting: Acting) -> list[str]:
        problems = [f"no server at {name}: previews only" for name in acting.wire.absent()]
        problems += [*acting.wire.problems, *filter(None, [acting.unheard_stop])]
        unseen = ", ".join(acting.unseen_links)
        problems += [f"not on /tf, so that the arm goes nowhere: {unseen}"] if unseen else []
        return [*problems, *([f"stopped: {acting.stopped_why}"] if acting.stopped_why else [])]


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
    return spin(
        ActNode,
        lambda: MultiThreadedExecutor(num_threads=_THREADS),
        # The context outlives the signal: what is in flight is cancelled through it.
        lambda node: node.release(),
        arguments,
    )
