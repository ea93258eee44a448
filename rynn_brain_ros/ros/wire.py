"""The way to a robot's servers: calls that never block, and their replies.

What is asked of a client is posted to where it is used.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from action_msgs.msg import GoalStatus
from rosidl_runtime_py.utilities import get_message

from rynn_brain_ros.actuators import Call, Publication, Reply
from rynn_brain_ros.actuators.distributions import fitted, missing
from rynn_brain_ros.ros.clients import Action, Clients, Server
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.values import GoalEventKind, RynnBrainError

_ENDS = {
    GoalStatus.STATUS_SUCCEEDED: GoalEventKind.SUCCEEDED,
    GoalStatus.STATUS_CANCELED: GoalEventKind.CANCELLED,
    GoalStatus.STATUS_ABORTED: GoalEventKind.ABORTED,
}
_UNKNOWN = "it does not know the goal any more: was it started anew?"


class RosWire:
    """A `Wire` to the servers that it is connected to. Replies to an earlier wire's calls never
    come to this one."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._servers: Mapping[str, Server] = {}
        self._watched: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._inbox: deque[tuple[str, Reply]] = deque()
        self._goals: dict[str, Any] = {}
        self._cancelled: set[str] = set()
        self._closed = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Which servers this installation cannot talk to, and what is missing."""
        return tuple(self._clients.problems)

    def connect(self, servers: Mapping[str, str], watched: Mapping[str, str] | None = None) -> None:
        """``servers`` are types by name; of those ``watched`` only who works for whom is wanted.
        Nobody is waited for."""
        self._servers = self._clients.connect({**(watched or {}), **servers})
        self._watched = frozenset(self._servers).difference(servers)

    def announce(self, publication: Publication) -> None:
        """Who hears its topic meets this node now: what is published on a topic in the moment that
        it is made may be heard by nobody."""
        self._clients.publisher(publication.topic, get_message(publication.type))

    def close(self) -> None:
        """A goal that is only taken after that is cancelled: nobody follows it any more."""
        self._closed = True

    # --- Wire ------------------------------------------------------------------------------------

    def call(self, call_id: str, call: Call) -> None:
        server = self._servers[call.server]
        try:
            request = to_ros(server.request, fitted(call, server.fields))
        except (RynnBrainError, AssertionError, AttributeError, TypeError, ValueError) as error:
            self._hear(call_id, GoalEventKind.REJECTED, None, f"it cannot be sent: {error}")
            return
        if isinstance(server, Action):
            self._clients.post(lambda: self._send(call_id, server, request))
        else:
            self._clients.post(lambda: self._request(call_id, server, request))

    def cancel(self, call_id: str) -> None:
        self._clients.post(lambda: self._cancel(call_id))

    def replies(self) -> tuple[tuple[str, Reply], ...]:
        with self._lock:
            replies = tuple(self._inbox)
            self._inbox.clear()
        return replies

    def is_there(self, call: Call) -> bool:
        server = self._servers.get(call.server)
        return server is not None and server.is_there()

    def is_taken(self, server: str) -> bool:
        known = self._servers.get(server)
        return known is not None and known.is_taken

    def lacks(self, call: Call) -> tuple[str, ...]:
        server = self._servers.get(call.server)
        return () if server is None else missing(call, server.fields)

    def publish(self, publication: Publication) -> None:
        class_ = get_message(publication.type)
        message = to_ros(class_, publication.message)
        self._clients.publisher(publication.topic, class_).publish(message)

    def preview(self, call: Call, topic: str) -> None:
        """The same request as a message on ``topic``, and nothing to the server."""
        server = self._servers.get(call.server)
        if server is not None:
            request = to_ros(server.request, fitted(call, server.fields))
            self._clients.publisher(topic, server.request).publish(request)

    def absent(self) -> list[str]:
        """Names of servers that are not there now."""
        called = (item for item in self._servers.items() if item[0] not in self._watched)
        return [name for name, server in called if not server.is_there()]

    def taken(self) -> list[str]:
        """Names of servers that are at work for somebody else."""
        return [name for name, server in self._servers.items() if server.is_taken]

    # --- in the clients' own callback group ------------------------------------------------------

    def _request(self, call_id: str, server: Server, request: Any) -> None:
        future = server.client.call_async(request)
        future.add_done_callback(
            lambda done: self._hear(call_id, GoalEventKind.SUCCEEDED, done.result())
        )

    def _send(self, call_id: str, server: Action, goal: Any) -> None:
        if self._closed or call_id in self._cancelled:
            self._hear(call_id, GoalEventKind.CANCELLED, None, "cancelled before it was sent")
            return

        def feedback(message: Any) -> None:
            self._hear(call_id, GoalEventKind.FEEDBACK, message.feedback)

        future = server.client.send_goal_async(goal, feedback, server.goals.new_id())
        future.add_done_callback(
            lambda done: self._clients.post(lambda: self._taken(call_id, done.result()))
        )

    def _taken(self, call_id: str, goal: Any) -> None:
        if not goal.accepted:
            self._hear(call_id, GoalEventKind.REJECTED, None, "the server does not take the goal")
            return
        self._goals[call_id] = goal
        self._hear(call_id, GoalEventKind.ACCEPTED)
        goal.get_result_async().add_done_callback(
            lambda end: self._clients.post(lambda: self._ended(call_id, end.result()))
        )
        if self._closed or call_id in self._cancelled:
            goal.cancel_goal_async()

    def _ended(self, call_id: str, response: Any) -> None:
        self._goals.pop(call_id, None)
        self._cancelled.discard(call_id)
        kind = _ENDS.get(response.status)
        if kind is None:
            self._hear(call_id, GoalEventKind.LOST, None, _UNKNOWN)
        else:
            self._hear(call_id, kind, response.result)

    def _cancel(self, call_id: str) -> None:
        """Kept for a goal that the server has not taken yet."""
        self._cancelled.add(call_id)
        if call_id in self._goals:
            self._goals[call_id].cancel_goal_async()

    def _hear(self, call_id: str, kind: GoalEventKind, message: Any = None, text: str = "") -> None:
        with self._lock:
            self._inbox.append((call_id, Reply(kind, message, text)))
