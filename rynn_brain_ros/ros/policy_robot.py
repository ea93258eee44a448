"""What a policy sends, on its way to a robot's controllers: topics, and goals that are followed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping

from rynn_brain_ros.actuators import Call, Publication, Reply
from rynn_brain_ros.actuators.calls import somebody_elses
from rynn_brain_ros.actuators.grippers import why_unmoved
from rynn_brain_ros.data.commands import Command as Message
from rynn_brain_ros.ros.clients import Clients
from rynn_brain_ros.ros.wire import RosWire
from rynn_brain_ros.values import GoalEventKind
from rynn_brain_ros.vla.sending import HANDS

_ENDS = {
    GoalEventKind.SUCCEEDED: "",
    GoalEventKind.CANCELLED: "somebody else cancelled what it was told",
    GoalEventKind.REJECTED: "it does not take what it is told",
    GoalEventKind.ABORTED: "it gave up what it was told",
    GoalEventKind.LOST: "it is lost",
}
"""What it means for the newest goal of a server; where it is replaced nobody minds."""
_GONE = "no server at {}"
_SETTLE_S = 2.0


class PolicyRobot:
    """A `vla.piloting.Robot` on ROS. ``servers`` are the actions that goals go to, ``watched``
    those that move the same joints: types by name.
    ``problems`` says which of them this installation cannot talk to."""

    def __init__(
        self, clients: Clients, servers: Mapping[str, str], watched: Mapping[str, str]
    ) -> None:
        self._wire = RosWire(clients)
        self._wire.connect(servers, watched)
        self._types = dict(servers)
        self.problems = self._wire.problems
        self._numbers = itertools.count(1)
        self._newest: dict[str, str] = {}
        self._in_flight: dict[str, str] = {}
        self._failures: list[str] = []

    def send(self, message: Message) -> None:
        if not _is_goal(message):
            self._wire.publish(Publication(message.topic, message.type, message.message))
            return
        call = Call(message.topic, message.type, message.message)
        if not self._wire.is_there(call):
            self._failures.append(_GONE.format(call.server))
            return
        call_id = f"{call.server}#{next(self._numbers)}"
        self._newest[call.server] = call_id
        self._in_flight[call_id] = call.server
        self._wire.call(call_id, call)

    def preview(self, message: Message) -> None:
        topic = f"~/preview/{message.topic.strip('/')}"
        if _is_goal(message):
            self._wire.preview(Call(message.topic, message.type, message.message), topic)
        else:
            self._wire.publish(Publication(topic, message.type, message.message))

    def cancel(self) -> None:
        self._newest.clear()
        for call_id in self._in_flight:
            self._wire.cancel(call_id)

    def failures(self) -> tuple[str, ...]:
        self._hear()
        for server in {*self._in_flight.values()} & {*self.absent()}:
            self._failures.append(_GONE.format(server))
            self._newest.pop(server, None)
            self._in_flight = {i: s for i, s in self._in_flight.items() if s != server}
        found, self._failures = tuple(self._failures), []
        return found

    def absent(self) -> tuple[str, ...]:
        return tuple(self._wire.absent())

    def taken(self) -> tuple[str, ...]:
        return tuple(map(somebody_elses, self._wire.taken()))

    def settle(self) -> bool:
        """Waits for the end of what was cancelled; another thread has to spin. Whether it came."""
        deadline_s = time.monotonic() + _SETTLE_S
        while self._in_flight and time.monotonic() < deadline_s:
            self._hear()
            time.sleep(0.01)
        return not self._in_flight

    def close(self) -> None:
        self._wire.close()

    def _is_hands_abort(self, server: str, reply: Reply) -> bool:
        aborted = reply.kind is GoalEventKind.ABORTED and reply.message is not None
        return aborted and self._types[server] in HANDS.values()

    def _failure(self, server: str, reply: Reply) -> str:
        """A sentence; empty for what is no failure. Fingers that something keeps apart are none:
        franka_gripper, among others, calls that an abort. What they hold is for the policy to see.
        """
        ending = _ENDS[reply.kind]
        words = reply.text or str(getattr(reply.message, "error_string", ""))
        if self._is_hands_abort(server, reply):
            words = why_unmoved(reply.message)
            ending = ending if words else ""
        told = f": {words}" if words else ""
        return f"{server}: {ending}{told}" if ending else ""

    def _hear(self) -> None:
        for call_id, reply in self._wire.replies():
            if reply.kind not in _ENDS or call_id not in self._in_flight:
                continue
            server = self._in_flight.pop(call_id)
            if self._newest.get(server) != call_id:
                continue
            del self._newest[server]
            if failure := self._failure(server, reply):
                self._failures.append(failure)


def _is_goal(message: Message) -> bool:
    return "/action/" in message.type
