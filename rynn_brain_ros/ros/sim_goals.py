"""Action goals as errands of a simulated robot: accepted at once, carried out in the world's own
thread, waited for without holding an executor's thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future as PlainFuture
from typing import Any, Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from rynn_brain_ros.sim.live import Cause, Ending, Errand, LiveWorld

Publish = Callable[[Any], None]
"""Takes a feedback message."""


class Job(Protocol):
    """One goal. `begin` and `report` are called in the world's thread, `result` is not."""

    allowed_s: float

    def begin(self, goal_id: str) -> Ending | None:
        """Sends one goal to the actuator, or tells how it ended already."""

    def report(self, fraction: float) -> None: ...

    def result(self, ending: Ending) -> Any:
        """The action's result message."""


class GoalServers:
    """Action servers and services of one simulated robot; `close` them."""

    def __init__(self, node: Node, live: LiveWorld, is_active: Callable[[], bool]) -> None:
        self._node, self._live, self._is_active = node, live, is_active
        # Nobody holds the group while a goal is under way; a cancel must always get through.
        self._group = ReentrantCallbackGroup()
        self._servers: list[ActionServer] = []
        self._services: list[Any] = []

    def action(self, type_: Any, name: str, lane: str, make: Callable[[Any, Publish], Job]) -> None:
        """``make`` gets the goal's message."""

        async def execute(handle: Any) -> Any:
            def publish(feedback: Any) -> None:
                try:
                    handle.publish_feedback(feedback)
                except RuntimeError:
                    if self._node.context.ok() and handle.is_active:
                        raise

            job = make(handle.request, publish)
            ending = await self._carry_out(lane, job, handle)
            _finish(handle, ending)
            if ending.cause is not Cause.DONE:
                self._node.get_logger().info(f"{name}: {ending.cause.value}: {ending.text}")
            return job.result(ending)

        def accept(_: Any) -> GoalResponse:
            if not self._is_active():
                self._node.get_logger().warning(f"{name}: refused, the simulator is not active")
                return GoalResponse.REJECT
            return GoalResponse.ACCEPT

        self._servers.append(
            ActionServer(
                self._node,
                type_,
                name,
                execute_callback=execute,
                goal_callback=accept,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
                callback_group=self._group,
            )
        )

    def service(self, type_: Any, name: str, answer: Callable[[Any, Any], Any]) -> None:
        """``answer`` gets request and response in the world's thread, as a service callback."""

        async def callback(request: Any, response: Any) -> Any:
            return await self._awaited(self._live.call(lambda: answer(request, response)))

        self._services.append(
            self._node.create_service(type_, name, callback, callback_group=self._group)
        )

    def close(self) -> None:
        for server in self._servers:
            server.destroy()
        for service in self._services:
            self._node.destroy_service(service)
        self._servers.clear()
        self._services.clear()

    async def _carry_out(self, lane: str, job: Job, handle: Any) -> Ending:
        ended: PlainFuture[Ending] = PlainFuture()
        errand = Errand(
            begin=job.begin,
            end=ended.set_result,
            report=job.report,
            is_cancelled=lambda: bool(handle.is_cancel_requested),
            allowed_s=job.allowed_s or math.inf,
        )
        self._live.submit(lane, errand)
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


def _finish(handle: Any, ending: Ending) -> None:
    if ending.cause is Cause.DONE:
        handle.succeed()
    elif handle.is_cancel_requested:
        handle.canceled()
    else:
        handle.abort()


def seconds(duration: Any) -> float:
    """Of a builtin_interfaces/Duration."""
    return int(duration.sec) + int(duration.nanosec) / 1e9
