"""Asks a running brain and writes the answer while it is being written.

    ros2 run rynn_brain_ros ask "Where is the red cube?" --task object

The answer goes to standard output, where it was seen and what was wrong to standard error. Ctrl-C
cancels the question.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from rynn_brain_ros.action import AskQuestion
from rynn_brain_ros.values import Task

DONE, NO_ANSWER, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_CANCEL_S = 5.0


class Asker:
    """One question to the brain called ``brain``."""

    def __init__(self, node: Node, brain: str, timeout_s: float) -> None:
        self._node, self._until_s = node, time.monotonic() + timeout_s
        self._name = f"{node.resolve_topic_name(brain)}/ask_question"
        self._client = ActionClient(node, AskQuestion, self._name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._written = ""
        self._handle: Any = None

    def ask(self, goal: AskQuestion.Goal) -> int:
        """Returns the exit status."""
        if not self._client.wait_for_server(max(0.0, self._until_s - time.monotonic())):
            _say(f"nobody answers at {self._name}: does the brain run (ros2 node list)?")
            return NO_ANSWER
        self._handle = self._wait(self._client.send_goal_async(goal, self._follow))
        if not self._handle.accepted:
            _say(f"{self._name} takes no questions: activate the brain first (ros2 lifecycle set)")
            return NO_ANSWER
        return self._conclude(self._wait(self._handle.get_result_async()))

    def cancel(self) -> None:
        """Tells the brain, and waits a little for its word."""
        self._until_s = time.monotonic() + _CANCEL_S
        if self._handle is not None:
            self._wait(self._handle.cancel_goal_async())

    def _wait(self, future: Any) -> Any:
        while not future.done():
            if time.monotonic() > self._until_s:
                raise TimeoutError("no answer came in time")
            self._executor.spin_once(timeout_sec=0.1)
        return future.result()

    def _follow(self, message: Any) -> None:
        text = message.feedback.thought.text
        self._written += text
        sys.stdout.write(text)
        sys.stdout.flush()

    def _conclude(self, end: Any) -> int:
        result = end.result
        if self._written != result.answer:  # a piece was lost, or none came
            again = "\n" if self._written else ""
            sys.stdout.write(f"{again}{result.answer}")
        sys.stdout.write("\n" if result.answer else "")
        if end.status != GoalStatus.STATUS_SUCCEEDED:
            _say(result.message)
            return NO_ANSWER
        for grounding in result.groundings.groundings:
            if not grounding.reasoning:
                _say(_told(grounding))
        _say(f"{result.query_id}, {result.groundings.model}, {result.latency:.2f} s")
        return DONE


def _told(grounding: Any) -> str:
    """One grounding for people: what, and where in metres or why not."""
    what = grounding.label or "it"
    if grounding.refusal_code:
        return f"{what}: no place: {grounding.refusal_text}"
    if not grounding.lifted:
        return f"{what}: {grounding.count}" if grounding.count >= 0 else f"{what}: no place"
    point = grounding.point_fixed if grounding.fixed else grounding.point
    frame = grounding.fixed_frame_id if grounding.fixed else grounding.header.frame_id
    return f"{what}: ({point.x:.3f}, {point.y:.3f}, {point.z:.3f}) m in {frame}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    tasks = [task.value for task in Task if task is not Task.NAVIGATE]
    parser = argparse.ArgumentParser(prog="ask", description="Ask a running brain.")
    parser.add_argument("question", help="in plain words")
    parser.add_argument("--task", choices=tasks, default="describe", help="(describe)")
    parser.add_argument("--think", action="store_true", help="reason before the answer")
    parser.add_argument("--camera", default="", help="name or colour topic (the default one)")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="(as configured)")
    parser.add_argument("--brain", default="brain", metavar="NODE", help="(brain)")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="(120)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv if arguments is None else ["ask", *arguments]
    options = _parser().parse_args(remove_ros_args(words)[1:])
    if not options.question.strip() or options.frames < 0:
        _say("ask something, about no or more frames")
        return BAD_INPUT
    # The context outlives Ctrl-C: the question is cancelled through it.
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("ask")
    asker = Asker(node, options.brain, options.timeout)
    goal = AskQuestion.Goal(
        question=options.question,
        task=options.task,
        thinking=options.think,
        camera=options.camera,
        frames=options.frames,
    )
    try:
        return asker.ask(goal)
    except KeyboardInterrupt:
        _give_up(asker.cancel)
        _say("\ncancelled")
        return INTERRUPTED
    except TimeoutError as error:
        _give_up(asker.cancel)
        _say(f"\n{error}")
        return NO_ANSWER
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _give_up(cancel: Callable[[], None]) -> None:
    try:
        cancel()
    except (TimeoutError, ExternalShutdownException):
        _say("\nthe brain does not answer any more")
