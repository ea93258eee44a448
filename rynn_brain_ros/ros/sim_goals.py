"""Action goals as errands of a simulated robot: accepted at once, carried out in the world's own
thread, waited for without holding an executor's thread."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from concurrent.futures import Future as PlainFuture
from typing import Any, Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from rynn_brain_ros.sim.live import Cause, Ending, Errand, LiveWorld
from rynn_brain_ros.values import InputError

Publish = Callable[[Any], None]
"""Takes a feedback message."""


class Job(Protocol):
    """One goal. `begin` and `report` are called in the world's thread, the others are not."""

    allowed_s: float = math.inf
    heeds_cancel: bool = True

    def is_stopped(self) -> bool:
        """Whether it is to end by something else than its client's cancel."""
        return False

    def begin(self, goal_id: str) -> Ending | None:
        """Sends one goal to the actuator, or tells how it ended already."""

    def report(self, fraction: float) -> None:
        """Most have nothing to tell."""

    def result(self, ending: Ending) -> Any:
        """The action's result message."""


MakeJob = Callable[[Any, Publish], Job]
"""Of a goal's message."""
Answer = Callable[[Any, Any], Any]
"""Of request and response."""
Hear = Callable[[Any], None]
"""Takes a message of a topic."""


class GoalServers:
    """Action servers and services of simulated robots, one after the other. They live as long as
    the node, since the middleware keeps some memory of each that ever was; between `leave` and
    `enter` they refuse."""

    def __init__(self, node: Node, is_active: Callable[[], bool]) -> None:
        self._node, self._is_active = node, is_active
        # Nobody holds the group while a goal is under way; a cancel must always get through.
        self._group = ReentrantCallbackGroup()
        self._live: LiveWorld | None = None
        self._jobs: dict[str, tuple[str, MakeJob]] = {}
        self._answers: dict[str, Answer] = {}
        self._heard: dict[str, Hear] = {}
        self._servers: dict[str, Any] = {}

    def enter(self, live: LiveWorld) -> None:
        """What is asked from now on happens in this world."""
        self._live = live

    def leave(self) -> None:
        self._live = None
        self._jobs.clear()
        self._answers.clear()
        self._heard.clear()

    def action(self, type_: Any, name: str, lane: str, make: MakeJob) -> None:
        """``make`` gets the goal's message."""
        self._jobs[name] = (lane, make)
        if name not in self._servers:
            self._servers[name] = self._action_server(type_, name)

    def service(self, type_: Any, name: str, answer: Answer) -> None:
        """``answer`` gets request and response in the world's thread, as a service callback."""
        self._answers[name] = answer
        if name not in self._servers:
            self._servers[name] = self._service(type_, name)

    def listen(self, type_: Any, name: str, hear: Hear) -> None:
        """``hear`` gets the messages of a topic, in a callback."""
        self._heard[name] = hear
        if name not in self._servers:
            self._servers[name] = self._subscription(type_, name)

    def _subscription(self, type_: Any, name: str) -> Any:
        def take(message: Any) -> None:
            if name in self._heard:
                self._heard[name](message)

        return self._node.create_subscription(type_, name, take, 10, callback_group=self._group)

    def _action_server(self, type_: Any, name: str) -> ActionServer:
        async def execute(handle: Any) -> Any:
            def publish(feedback: Any) -> None:
                try:
                    handle.publish_feedback(feedback)
                except RuntimeError:
                    if self._node.context.ok() and handle.is_active:
                        raise

            there = self._jobs.get(name)
            if there is None:  # cleaned up since it was accepted
                handle.abort()
                return type_.Result()
            lane, make = there
            job = make(handle.request, publish)
            ending = await self._carry_out(lane, job, handle)
            _finish(job, handle, ending)
            if ending.cause is not Cause.DONE:
                self._node.get_logger().info(f"{name}: {ending.cause.value}: {ending.text}")
            return job.result(ending)

        def accept(_: Any) -> GoalResponse:
            if not self._is_active() or name not in self._jobs:
                self._node.get_logger().warning(f"{name}: refused, the simulator is not active")
                return GoalResponse.REJECT
            return GoalResponse.ACCEPT

        return ActionServer(
            self._node,
            type_,
            name,
            execute_callback=execute,
            goal_callback=accept,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=self._group,
        )

    def _service(self, type_: Any, name: str) -> Any:
        async def callback(request: Any, response: Any) -> Any:
            live, answer = self._live, self._answers.get(name)
            if live is None or answer is None:
                self._node.get_logger().warning(f"{name}: nothing is simulated now")
                return response  # as it comes it says that nothing was done
            try:
                return await self._awaited(live.call(lambda: answer(request, response)))
            except InputError as error:  # the world broke: the node lives on until it is made anew
                self._node.get_logger().warning(f"{name}: {error}")
            except Exception as error:  # noqa: BLE001  # no request may end the node
                self._node.get_logger().error("".join(traceback.format_exception(error)))
            return type_.Response()  # this one may be half filled in

        return self._node.create_service(type_, name, callback, callback_group=self._group)

    async def _carry_out(self, lane: str, job: Job, handle: Any) -> Ending:
        ended: PlainFuture[Ending] = PlainFuture()
        errand = Errand(
            begin=job.begin,
            end=ended.set_result,
            report=job.report,
            is_cancelled=lambda: job.is_stopped() or _is_cancelled(job, handle),
            allowed_s=job.allowed_s or math.inf,
        )
        live = self._live
        if live is None:
            return Ending(Cause.STOPPED, "the simulator is being cleaned up")
        live.submit(lane, errand)
        ending: Ending = await self._awaited(ended)
        return ending

    def _awaited(self, future: PlainFuture[Any]) -> Future:
        """For a coroutine that the node's executor runs."""
        waiting = Future(executor=self._node.executor)
        # An executor wakes up for a future's callbacks, not for the one who awaits it.
        waiting.add_done_callback(lambda _: None)

        def pass_on(done: PlainFuture[Any]) -> None:
            error = done.exception()
            if error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result())

        future.add_done_callback(pass_on)
        return waiting


def _is_cancelled(job: Job, handle: Any) -> bool:
    return job.heeds_cancel and bool(handle.is_cancel_requested)


def _finish(job: Job, handle: Any, ending: Ending) -> None:
    if ending.cause is Cause.DONE:
        handle.succeed()
    elif _is_cancelled(job, handle):
        handle.canceled()
    else:
        handle.abort()


def seconds(duration: Any) -> float:
    """Of a builtin_interfaces/Duration."""
    return int(duration.sec) + int(duration.nanosec) / 1e9
