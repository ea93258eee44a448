"""The way to a robot's servers: action and service clients that never block.

A client is used in one callback group only, and what is asked of it is posted there: an answer can
not come before it is waited for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rosidl_runtime_py.utilities import get_action, get_message, get_service

from rynn_brain_ros.actuators import Call, Publication, Reply
from rynn_brain_ros.actuators.distributions import fitted, missing
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.values import GoalEventKind, RynnBrainError

_ENDS = {
    GoalStatus.STATUS_SUCCEEDED: GoalEventKind.SUCCEEDED,
    GoalStatus.STATUS_CANCELED: GoalEventKind.CANCELLED,
    GoalStatus.STATUS_ABORTED: GoalEventKind.ABORTED,
}
_UNKNOWN = "it does not know the goal any more: was it started anew?"


@dataclass(frozen=True)
class _Server:
    client: Any
    request: Any
    """The class of a goal or a request."""
    is_there: Callable[[], bool]

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.request.get_fields_and_field_types())


class RosWire:
    """A `Wire` of ``node`` to the servers that it was connected to. ``problems`` says which of them
    this installation cannot talk to, and what is missing."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = MutuallyExclusiveCallbackGroup()
        self._lock = threading.Lock()
        self._outbox: deque[Callable[[], None]] = deque()
        self._inbox: deque[tuple[str, Reply]] = deque()
        self._goals: dict[str, Any] = {}
        self._cancelled: set[str] = set()
        self._publishers: dict[str, Any] = {}
        self.problems: list[str] = []
        self._bell = node.create_guard_condition(self._work, callback_group=self._group)
        self._servers: dict[str, _Server] = {}

    def connect(self, servers: Mapping[str, str]) -> None:
        """Opens clients; ``servers`` are types by name. Nobody is waited for."""
        for name, type_ in servers.items():
            self._connect(name, type_)

    def close(self) -> None:
        """The executor may be about to look at a client: an action's is taken from it and left to
        be destroyed with its last use, since rclpy's own `destroy` would pull it away."""
        for server in self._servers.values():
            if isinstance(server.client, ActionClient):
                self._node.remove_waitable(server.client)
            else:
                self._node.destroy_client(server.client)
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._servers.clear()
        self._publishers.clear()
        self._node.destroy_guard_condition(self._bell)

    # --- Wire ------------------------------------------------------------------------------------

    def call(self, call_id: str, call: Call) -> None:
        server = self._servers[call.server]
        try:
            request = to_ros(server.request, fitted(call, server.fields))
        except (RynnBrainError, AssertionError, AttributeError, TypeError, ValueError) as error:
            self._hear(call_id, GoalEventKind.REJECTED, None, f"it cannot be sent: {error}")
            return
        send = self._request if call.is_service else self._send
        self._post(lambda: send(call_id, server, request))

    def cancel(self, call_id: str) -> None:
        self._post(lambda: self._cancel(call_id))

    def replies(self) -> tuple[tuple[str, Reply], ...]:
        with self._lock:
            replies = tuple(self._inbox)
            self._inbox.clear()
        return replies

    def is_there(self, call: Call) -> bool:
        server = self._servers.get(call.server)
        return server is not None and server.is_there()

    def lacks(self, call: Call) -> tuple[str, ...]:
        server = self._servers.get(call.server)
        return () if server is None else missing(call, server.fields)

    def publish(self, publication: Publication) -> None:
        class_ = get_message(publication.type)
        message = to_ros(class_, publication.message)
        self._publisher(publication.topic, class_).publish(message)

    def preview(self, call: Call, topic: str) -> None:
        """The same request as a message on ``topic``, and nothing to the server."""
        server = self._servers.get(call.server)
        if server is not None:
            request = to_ros(server.request, fitted(call, server.fields))
            self._publisher(topic, server.request).publish(request)

    def absent(self) -> list[str]:
        """Names of servers that are not there now."""
        return [name for name, server in self._servers.items() if not server.is_there()]

    # --- in the clients' own callback group ------------------------------------------------------

    def _connect(self, name: str, type_: str) -> None:
        try:
            self._servers[name] = (
                self._service(name, type_) if "/srv/" in type_ else self._action(name, type_)
            )
        except (ModuleNotFoundError, AttributeError, ValueError) as error:
            package = type_.split("/", maxsplit=1)[0]
            self.problems.append(f"{name}: {type_} is not known here ({error}): install {package}")

    def _action(self, name: str, type_: str) -> _Server:
        action = get_action(type_)
        client = ActionClient(self._node, action, name, callback_group=self._group)
        return _Server(client, action.Goal, client.server_is_ready)

    def _service(self, name: str, type_: str) -> _Server:
        service = get_service(type_)
        client = self._node.create_client(service, name, callback_group=self._group)
        return _Server(client, service.Request, client.service_is_ready)

    def _publisher(self, topic: str, class_: Any) -> Any:
        if topic not in self._publishers:
            self._publishers[topic] = self._node.create_publisher(class_, topic, 10)
        return self._publishers[topic]

    def _post(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._outbox.append(work)
        self._bell.trigger()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._outbox:
                    return
                work = self._outbox.popleft()
            work()

    def _request(self, call_id: str, server: _Server, request: Any) -> None:
        future = server.client.call_async(request)
        future.add_done_callback(
            lambda done: self._hear(call_id, GoalEventKind.SUCCEEDED, done.result())
        )

    def _send(self, call_id: str, server: _Server, goal: Any) -> None:
        if call_id in self._cancelled:
            self._hear(call_id, GoalEventKind.CANCELLED, None, "cancelled before it was sent")
            return

        def feedback(message: Any) -> None:
            self._hear(call_id, GoalEventKind.FEEDBACK, message.feedback)

        future = server.client.send_goal_async(goal, feedback)
        future.add_done_callback(lambda done: self._post(lambda: self._taken(call_id, done)))

    def _taken(self, call_id: str, done: Any) -> None:
        goal = done.result()
        if not goal.accepted:
            self._hear(call_id, GoalEventKind.REJECTED, None, "the server does not take the goal")
            return
        self._goals[call_id] = goal
        self._hear(call_id, GoalEventKind.ACCEPTED)
        goal.get_result_async().add_done_callback(
            lambda end: self._post(lambda: self._ended(call_id, end.result()))
        )
        if call_id in self._cancelled:
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
