"""Questions by topic and by action: followed while they are answered, and cancelled; and engines
in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from action_msgs.msg import GoalStatus  # noqa: E402
from ament_index_python.packages import get_package_prefix  # noqa: E402
from brain_graph import Graph, now_ns  # noqa: E402
from gated_python import GatedPython  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy.action import ActionClient  # noqa: E402
from rynn_brain_ros.action import AskQuestion  # noqa: E402
from rynn_brain_ros.msg import BrainStatus  # noqa: E402
from rynn_brain_ros.srv import Ask  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from rynn_brain_ros.models import ColorBaselineEngine, WorkerEngine  # noqa: E402
from rynn_brain_ros.ros import answering  # noqa: E402
from rynn_brain_ros.sim.tabletop import FIXED_FRAME  # noqa: E402
from rynn_brain_ros.values import Answer, FinishReason, Query  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


class SpellingEngine(ColorBaselineEngine):
    """Writes its answer letter by letter, each when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)
        self.thinking = threading.Event()
        self.written = ""

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
        answer = super().ask(query)
        self.thinking.set()
        self.written = ""
        for letter in answer.text:
            while not self.allowed.acquire(timeout=0.005):
                if cancel.is_set():
                    return Answer(
                        query.query_id, self.written, FinishReason.CANCELLED, "spelling", "none"
                    )
            self.written += letter
            on_text(letter)
        return answer


class Asking(Graph):
    """A graph whose user asks by action."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.client = ActionClient(self.robot, AskQuestion, "/brain/ask_question")
        self.thoughts: list[Any] = []

    def send(self, question: str, task: str = "object", **fields: Any) -> Any:
        """The goal's handle."""
        self.wait_until(self.client.server_is_ready, "the action")
        goal = AskQuestion.Goal(question=question, task=task, **fields)
        future = self.client.send_goal_async(
            goal, lambda message: self.thoughts.append(message.feedback.thought)
        )
        return self.result_of(future, "the goal's acceptance")

    def end_of(self, handle: Any) -> Any:
        return self.result_of(handle.get_result_async(), "the goal's end")


@pytest.fixture
def graph() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.close()


def test_a_question_on_the_topic_is_answered_with_groundings(graph: Asking) -> None:
    topic = graph.robot.create_publisher(String, "/brain/question", 10)
    graph.bring_up()
    graph.show(now_ns())
    graph.wait_until(topic.get_subscription_count, "the subscription")
    topic.publish(String(data="the red cube"))
    got = graph.robot.received["groundings"]
    graph.wait_until(lambda: got, "the groundings")
    assert (got[0].question, got[0].task) == ("the red cube", "object")
    topic.publish(String(data="affordance: Pick up the red cube"))
    graph.wait_until(lambda: len(got) == 2, "the second groundings")
    assert (got[1].question, got[1].task) == ("Pick up the red cube", "affordance")


def test_questions_that_are_too_many_are_told_one_by_one(
    graph: Asking, capfd: pytest.CaptureFixture[str]
) -> None:
    topic = graph.robot.create_publisher(String, "/brain/question", 100)
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    graph.wait_until(topic.get_subscription_count, "the subscription")
    topic.publish(String(data="the red cube"))
    graph.wait_until(engine.thinking.is_set, "the engine")
    for number in range(29):
        topic.publish(String(data=f"the red cube {number}"))
    told = ""

    def refused() -> int:
        nonlocal told
        told += capfd.readouterr().err
        return told.count("16 questions wait already")

    graph.wait_until(lambda: refused() == 29 - 16, "a word about each that is too many")


def test_an_answer_is_followed_while_it_is_being_written(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    handle = graph.send("the red cube")
    graph.wait_until(engine.thinking.is_set, "the engine")
    engine.allowed.release()
    graph.wait_until(lambda: graph.thoughts, "the first letter")
    assert handle.status == GoalStatus.STATUS_EXECUTING
    assert graph.thoughts[0].text == engine.written
    for _ in range(1000):
        engine.allowed.release()
    end = graph.end_of(handle)
    assert end.status == GoalStatus.STATUS_SUCCEEDED
    assert end.result.success
    graph.wait_until(lambda: graph.thoughts[-1].final, "the last thought")
    assert "".join(thought.text for thought in graph.thoughts) == end.result.answer
    assert [thought.sequence for thought in graph.thoughts] == list(range(len(graph.thoughts)))
    (told,) = [grounding for thought in graph.thoughts for grounding in thought.groundings]
    (final,) = end.result.groundings.groundings
    assert (told.point, told.query_id) == (final.point, end.result.query_id)
    got = graph.robot.received["thoughts"]
    graph.wait_until(lambda: len(got) == len(graph.thoughts), "the thoughts on their topic")


def test_cancelling_stops_the_engine_within_a_token(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    handle = graph.send("the red cube")
    graph.wait_until(engine.thinking.is_set, "the engine")
    engine.allowed.release()
    graph.wait_until(lambda: graph.thoughts, "a letter")
    graph.result_of(handle.cancel_goal_async(), "the cancellation")
    end = graph.end_of(handle)
    assert end.status == GoalStatus.STATUS_CANCELED
    assert len(engine.written) == 1
    assert end.result.answer == engine.written
    assert not end.result.success
    assert graph.robot.received["groundings"] == []


def test_a_goal_that_waits_is_cancelled_at_once_and_the_first_goes_on(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    first = graph.send("the red cube")
    graph.wait_until(engine.thinking.is_set, "the engine")
    second = graph.send("the blue ball")
    graph.result_of(second.cancel_goal_async(), "the cancellation")
    assert graph.end_of(second).status == GoalStatus.STATUS_CANCELED
    for _ in range(1000):
        engine.allowed.release()
    assert graph.end_of(first).status == GoalStatus.STATUS_SUCCEEDED


def test_deactivation_aborts_the_goal_being_answered_and_the_one_that_waits(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    first = graph.send("the red cube")
    graph.wait_until(engine.thinking.is_set, "the engine")
    second = graph.send("the blue ball")
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    ends = [graph.end_of(handle) for handle in (first, second)]
    assert [end.status for end in ends] == [GoalStatus.STATUS_ABORTED] * 2
    assert ends[1].result.message == "the brain was deactivated"


class DeafEngine(ColorBaselineEngine):
    """Answers when it may, and heeds no cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.thinking, self.may = threading.Event(), threading.Event()

    def ask(self, query: Query, on_text: Any = None, cancel: Any = None) -> Answer:
        self.thinking.set()
        self.may.wait()
        return super().ask(query)


def test_whoever_asks_is_answered_though_the_engine_never_ends(
    graph: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DeafEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    handle = graph.send("the red cube")
    graph.wait_until(engine.thinking.is_set, "the engine")
    monkeypatch.setattr(answering, "_END_S", 0.1)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    end = graph.end_of(handle)
    engine.may.set()
    assert end.status == GoalStatus.STATUS_ABORTED
    assert end.result.message == "the brain was deactivated, and its engine goes on"


def test_an_inactive_brain_takes_no_goal_and_an_unknown_task_says_so(graph: Asking) -> None:
    assert not graph.send("the red cube").accepted
    graph.bring_up()
    end = graph.end_of(graph.send("the red cube", task="dance"))
    assert end.status == GoalStatus.STATUS_ABORTED
    assert "unknown task 'dance'" in end.result.message


def test_images_are_taken_in_while_the_engine_is_thinking(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    asked = graph.ask_client.call_async(Ask.Request(question="the red cube", task="object"))
    graph.send("the blue ball")
    graph.wait_until(engine.thinking.is_set, "the engine")
    graph.show(now_ns())
    status = graph.robot.received["status"]
    graph.wait_until(
        lambda: status and status[-1].state == BrainStatus.STATE_BUSY and status[-1].frames == 2,
        "the status",
    )
    for _ in range(2000):
        engine.allowed.release()
    assert graph.result_of(asked).success


class Terminal:
    """``ros2 run rynn_brain_ros ask …`` as a person types it."""

    def __init__(self, *words: str) -> None:
        command = Path(get_package_prefix("rynn_brain_ros")) / "lib/rynn_brain_ros/ask"
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([command, *words], stdout=pipe, stderr=pipe, text=True)

    def end(self) -> tuple[int, str, str]:
        """(exit status, answer, what else was said)."""
        answer, said = self.process.communicate(timeout=60)
        return self.process.returncode, answer, said


def test_the_terminal_writes_the_answer_and_where_it_is(graph: Asking) -> None:
    graph.bring_up()
    graph.show(now_ns())
    status, answer, said = Terminal("the red cube", "--task", "object").end()
    assert status == 0, said
    assert answer == graph.robot.received["groundings"][0].answer + "\n"
    assert f" m in {FIXED_FRAME}\n" in said
    status, answer, said = Terminal("the red cube", "--camera", "tail").end()
    assert (status, answer) == (1, "")
    assert "no camera 'tail'" in said


def test_ctrl_c_in_the_terminal_stops_the_engine(graph: Asking) -> None:
    engine = SpellingEngine()
    graph.bring_up(engine)
    graph.show(now_ns())
    terminal = Terminal("the red cube", "--task", "object")
    graph.wait_until(engine.thinking.is_set, "the engine")
    engine.allowed.release()
    assert terminal.process.stdout is not None
    letter = terminal.process.stdout.read(1)
    terminal.process.send_signal(signal.SIGINT)
    status, answer, said = terminal.end()
    assert (status, letter + answer.strip()) == (130, engine.written)
    assert "cancelled" in said


def test_the_terminal_says_where_nobody_answers() -> None:
    status, answer, said = Terminal("the red cube", "--brain", "/nobody", "--timeout", "0.5").end()
    assert (status, answer) == (1, "")
    assert "nobody answers at /nobody/ask_question" in said


def test_a_local_model_needs_a_python_of_its_own() -> None:
    graph = Asking(engine="local:/models/x")
    assert not graph.transition(Transition.TRANSITION_CONFIGURE)
    graph.close()


class Served(Asking):
    """A brain whose engine runs in a process of its own, which begins when it may."""

    def __init__(self, folder: Path) -> None:
        self.python = GatedPython(folder)
        super().__init__(engine_python=str(self.python.path))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def worker_of(graph: Asking) -> WorkerEngine:
    assert graph.brain._engines is not None
    (worker,) = {id(e): e for e in graph.brain._engines.by_role.values()}.values()
    assert isinstance(worker, WorkerEngine)
    return worker


def test_an_engine_in_its_own_process_is_waited_for_by_name(served: Served) -> None:
    served.bring_up()
    served.show(now_ns())
    response = served.ask("the red cube")
    assert "color-baseline is being started" in response.message
    status = served.robot.received["status"]
    served.wait_until(lambda: status, "the status")
    assert "color-baseline is being started" in status[-1].problems
    served.python.open()
    worker = worker_of(served)
    served.wait_until(lambda: not worker.trouble, "the worker")
    response = served.ask("the red cube")
    assert response.success, response.message


def test_an_engine_that_is_killed_while_it_answers_is_named_and_comes_back(served: Served) -> None:
    served.python.open()
    served.bring_up()
    served.show(now_ns())
    worker = worker_of(served)
    served.wait_until(lambda: not worker.trouble, "the worker")
    process = worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that the question is still being answered
    handle = served.send("the red cube")
    status = served.robot.received["status"]
    served.wait_until(lambda: status and status[-1].query_id, "the question in the status")
    os.kill(process.pid, signal.SIGKILL)
    end = served.end_of(handle)
    assert end.status == GoalStatus.STATUS_ABORTED
    assert "color-baseline died while it was answering q0001" in end.result.message
    served.wait_until(
        lambda: any("died while it was answering" in text for text in status[-1].problems),
        "the named status",
    )
    served.wait_until(lambda: worker.restarts == 1 and not worker.trouble, "the restart")
    response = served.ask("the red cube")
    assert response.success, response.message
    assert served.transition(Transition.TRANSITION_DEACTIVATE)
    assert served.transition(Transition.TRANSITION_CLEANUP)
    assert worker._process is not None
    assert worker._process.returncode is not None
