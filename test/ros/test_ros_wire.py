"""The wire to a robot's servers, and the clients that outlive it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

from asking import Asking  # noqa: E402
from mortal import mortal_server  # noqa: E402
from nav2_msgs.action import NavigateToPose, Spin  # noqa: E402
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse  # noqa: E402
from rclpy.callback_groups import ReentrantCallbackGroup  # noqa: E402
from rclpy.executors import MultiThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from rynn_brain_ros.actuators import Call  # noqa: E402
from rynn_brain_ros.ros.clients import Action, Clients  # noqa: E402
from rynn_brain_ros.ros.spinning import keep_spinning  # noqa: E402
from rynn_brain_ros.ros.wire import RosWire  # noqa: E402
from rynn_brain_ros.values import GoalEventKind  # noqa: E402

pytestmark = pytest.mark.ros
GO, TURN = "wire/navigate_to_pose", "wire/spin"
SERVERS = {GO: "nav2_msgs/action/NavigateToPose", TURN: "nav2_msgs/action/Spin"}


class Robot(Node):
    """Takes its time to take a goal, and then works on it until that is cancelled."""

    def __init__(self) -> None:
        super().__init__("slow_to_take")
        events = (threading.Event() for _ in range(4))
        self.asked, self.may_take, self.cancelled, self.ending = events
        self.server = ActionServer(
            self,
            NavigateToPose,
            GO,
            self._work,
            goal_callback=self._take,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def _take(self, goal: Any) -> GoalResponse:
        self.asked.set()
        self.may_take.wait(20)
        return GoalResponse.ACCEPT

    def _work(self, handle: Any) -> Any:
        while not handle.is_cancel_requested:
            if self.ending.wait(0.01):
                return NavigateToPose.Result()
        self.cancelled.set()
        handle.canceled()
        return NavigateToPose.Result()


class Graph(Asking):
    def __init__(self) -> None:
        self.robot, self.node = Robot(), Node("wired")
        self.clients = Clients(self.node)
        self.executor = MultiThreadedExecutor(num_threads=6)
        for node in (self.robot, self.node):
            self.executor.add_node(node)
        threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True).start()

    def wire(self, **servers: str) -> RosWire:
        wire = RosWire(self.clients)
        wire.connect(servers or SERVERS)
        return wire


@pytest.fixture
def graph() -> Iterator[Graph]:
    rclpy.init()
    made = Graph()
    yield made
    made.robot.may_take.set()
    made.robot.ending.set()
    made.executor.shutdown(5.0)
    made.robot.server.destroy()  # or who comes later is told of its goals
    rclpy.shutdown()


def go() -> Call:
    return Call(GO, SERVERS[GO], {"pose": {"header": {"frame_id": "map"}}})


def test_a_goal_that_is_taken_after_the_wire_was_closed_is_cancelled(graph: Graph) -> None:
    wire = graph.wire()
    graph.wait_until(lambda: wire.is_there(go()), "the server")
    wire.call("1", go())
    graph.wait_until(graph.robot.asked.is_set, "the goal's arrival")
    wire.close()
    graph.robot.may_take.set()
    graph.wait_until(graph.robot.cancelled.is_set, "the cancel")


def test_replies_to_an_earlier_wire_do_not_come_to_the_next_which_works(graph: Graph) -> None:
    earlier = graph.wire()
    graph.wait_until(lambda: earlier.is_there(go()), "the server")
    earlier.call("1", go())
    graph.wait_until(graph.robot.asked.is_set, "the goal's arrival")
    earlier.close()
    later = graph.wire()
    graph.robot.may_take.set()
    graph.wait_until(graph.robot.cancelled.is_set, "the cancel")
    heard = []

    def accepted() -> bool:
        heard.extend(later.replies())
        return bool(heard)

    later.call("2", go())
    graph.wait_until(accepted, "a reply")
    call_id, reply = heard[0]
    assert (call_id, reply.kind) == ("2", GoalEventKind.ACCEPTED)
    later.close()


def goes_for(graph: Graph, action: str = GO) -> Any:
    """Somebody else's goal, which is under way when this returns."""
    client = ActionClient(graph.node, NavigateToPose, action)
    graph.wait_until(client.server_is_ready, "the server")
    handle = graph.result_of(
        client.send_goal_async(NavigateToPose.Goal()), "the goal's being taken"
    )
    assert handle.accepted
    return handle


def test_a_server_that_works_for_somebody_else_is_taken_until_that_ends(graph: Graph) -> None:
    graph.robot.may_take.set()
    wire = graph.wire()
    assert not wire.is_taken(GO)
    handle = goes_for(graph)
    graph.wait_until(lambda: wire.is_taken(GO), "word of the goal")
    assert (wire.taken(), wire.is_taken(TURN)) == ([GO], False)
    handle.cancel_goal_async()
    graph.wait_until(lambda: not wire.is_taken(GO), "word of its end")


def test_a_server_that_is_only_watched_is_not_missed_and_may_be_taken(graph: Graph) -> None:
    graph.robot.may_take.set()
    wire = RosWire(graph.clients)
    wire.connect({TURN: SERVERS[TURN]}, {GO: SERVERS[GO], "wire/nobody": SERVERS[GO]})
    assert wire.absent() == [TURN]
    goes_for(graph)
    graph.wait_until(lambda: wire.taken() == [GO], "word of the goal")


def test_goals_of_before_are_told_to_who_connects_later(graph: Graph) -> None:
    graph.robot.may_take.set()
    goes_for(graph)
    wire = graph.wire()
    graph.wait_until(lambda: wire.is_taken(GO), "word of the goal")


def test_a_server_that_works_for_this_node_is_not_taken(graph: Graph) -> None:
    """Nor by what an earlier wire of it sent and gave up."""
    graph.robot.may_take.set()
    earlier, other = graph.wire(), graph.wire()
    graph.wait_until(lambda: earlier.is_there(go()), "the server")
    earlier.call("1", go())
    graph.wait_until(earlier.replies, "its being taken")
    known = graph.clients.connect(SERVERS)[GO]
    assert isinstance(known, Action)
    graph.wait_until(lambda: known.goals.under_way, "word of the goal")
    assert not earlier.is_taken(GO)
    assert not other.is_taken(GO)


def test_what_a_server_was_at_work_on_when_it_died_does_not_count(graph: Graph) -> None:
    wire = graph.wire(**{"wire/mortal": SERVERS[GO]})
    with living("wire/mortal"):
        goes_for(graph, "wire/mortal")
        graph.wait_until(lambda: wire.is_taken("wire/mortal"), "word of the goal")
    with living("wire/mortal"):
        graph.wait_until(lambda: not wire.is_taken("wire/mortal"), "its being forgotten")


@contextmanager
def living(server: str) -> Iterator[None]:
    """A server that is killed at the end."""
    command = [sys.executable, "-c", mortal_server("nav2_msgs/NavigateToPose", server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def test_clients_that_are_wanted_again_are_the_same_and_others_are_let_go(graph: Graph) -> None:
    first = graph.clients.connect(SERVERS)
    second = graph.clients.connect({GO: SERVERS[GO]})
    assert second == {GO: first[GO]}
    assert first[TURN].client not in list(graph.node.waitables)
    third = graph.clients.connect({GO: SERVERS[TURN]})  # another type by the same name
    assert third[GO].request is Spin.Goal
    assert first[GO].client not in list(graph.node.waitables)


def test_a_type_that_is_not_installed_is_a_problem_once(graph: Graph) -> None:
    for _ in range(2):
        assert not graph.clients.connect({"arm": "no_such_msgs/action/Move"})
        (problem,) = graph.clients.problems
        assert "install no_such_msgs" in problem
