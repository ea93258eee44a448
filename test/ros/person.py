"""Who stands beside a launched robot: arms it, asks it to do something, and waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rynn_brain_ros.action import ExecuteTask
from std_srvs.srv import SetBool


class Person:
    """A node of their own, spun while they wait; ``patience_s`` is for everything together."""

    def __init__(self, patience_s: float) -> None:
        self.node = Node("person")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._deadline = time.monotonic() + patience_s

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def wait_for(self, future: Any) -> Any:
        self._executor.spin_until_future_complete(future, self._left_s)
        assert future.done(), "waited too long"
        return future.result()

    def spin_until(self, condition: Callable[[], Any], what: str) -> None:
        while not condition():
            assert self._left_s > 0, f"waited too long for {what}"
            self._executor.spin_once(timeout_sec=0.1)

    def ask_until(self, type_: Any, name: str, request: Any, is_good: Callable[[Any], bool]) -> Any:
        """The first answer of a service that is good: whoever answers may not be ready yet."""
        client = self.node.create_client(type_, name)
        while client.wait_for_service(timeout_sec=self._left_s):
            answer = self.wait_for(client.call_async(request))
            if is_good(answer):
                return answer
            time.sleep(0.2)
        raise AssertionError(f"{name} gave no good answer in time")

    def arm(self) -> None:
        self.ask_until(SetBool, "/act/arm", SetBool.Request(data=True), lambda got: got.success)

    def ask_for(self, task: str) -> tuple[Any, list[str]]:
        """The result, and the states that were told on the way."""
        client, states = ActionClient(self.node, ExecuteTask, "/act/execute_task"), []

        def hear(message: Any) -> None:
            states.append(message.feedback.state)

        assert client.wait_for_server(timeout_sec=30.0)
        handle = self.wait_for(client.send_goal_async(ExecuteTask.Goal(task=task), hear))
        assert handle.accepted
        return self.wait_for(handle.get_result_async()).result, states
