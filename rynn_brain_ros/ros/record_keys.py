"""``ros2 run rynn_brain_ros record_keys``: a terminal's keys as the recorder's services.

With another name or namespace of the recorder: ``--ros-args -p recorder:=/arm/record``.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from rynn_brain_ros.srv import StartEpisode

_ENDINGS = {"e": "stop", "y": "success", "n": "failure", "d": "discard"}
_HELP = (
    "s start, e end, y end as a success, n end as a failure, d discard, t say the task, "
    "i how it is, q quit"
)
_PATIENCE_S = 10.0


class RecordKeys(Node):
    """Each key is one call, which is waited for."""

    def __init__(self) -> None:
        super().__init__("record_keys")
        name = self.declare_parameter("recorder", "record").value
        self._task, self._status = "", "nothing is known of the recorder"
        self._start = self.create_client(StartEpisode, f"{name}/start")
        self._ends = {
            key: self.create_client(Trigger, f"{name}/{service}")
            for key, service in _ENDINGS.items()
        }
        self.create_subscription(String, f"{name}/status", self._on_status, 10)

    def press(self, key: str) -> None:
        """Anything else than a key of the help shows the help."""
        if key == "s":
            self._call(self._start, StartEpisode.Request(task=self._task))
        elif key in self._ends:
            self._call(self._ends[key], Trigger.Request())
        elif key == "i":
            self.get_logger().info(self._status)
        else:
            self.get_logger().info(_HELP)

    def say_task(self, task: str) -> None:
        self._task = task
        self.get_logger().info(f"the next episode: {task or 'the same task as before'}")

    def _on_status(self, status: String) -> None:
        self._status = status.data

    def _call(self, client: Any, request: Any) -> None:
        if not client.wait_for_service(timeout_sec=_PATIENCE_S):
            self.get_logger().error(f"nobody serves {client.srv_name}: is the recorder running?")
            return
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self, future, timeout_sec=_PATIENCE_S)
        answer = future.result() if future.done() else None
        if answer is None:
            self.get_logger().error(f"{client.srv_name} does not answer")
        elif answer.success:
            self.get_logger().info(answer.message)
        else:
            self.get_logger().warning(answer.message)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Keys come one by one, and the terminal is as it was afterwards."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin, termios.TCSANOW)  # what has been typed meanwhile counts
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _serve(node: RecordKeys) -> None:
    node.press("h")
    while rclpy.ok():
        with _single_keys():
            while rclpy.ok() and not select.select([sys.stdin], [], [], 0.0)[0]:
                rclpy.spin_once(node, timeout_sec=0.1)
            key = os.read(sys.stdin.fileno(), 1).decode(errors="replace")  # none are read ahead
            if key in ("q", ""):
                return
            if key != "t":
                node.press(key)
        if key == "t":
            node.get_logger().info("what is done? Then Enter.")
            node.say_task(sys.stdin.readline().strip())


def main(arguments: list[str] | None = None) -> int:
    rclpy.init(args=arguments)
    node = RecordKeys()
    if not sys.stdin.isatty():
        node.get_logger().error("record_keys reads a terminal's keys, and this is none")
        return 2
    try:
        _serve(node)
    except KeyboardInterrupt:
        pass  # as good as q
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
