"""A node's clients of the servers that a robot has, and its publishers to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rosidl_runtime_py.utilities import get_action, get_service


@dataclass(frozen=True)
class Server:
    """``request`` is the class of its goals or requests."""

    type: str
    client: Any
    request: Any
    is_there: Callable[[], bool]

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.request.get_fields_and_field_types())


class Clients:
    """They outlive what uses them, up to the end of ``node``: the middleware keeps some memory of
    each client that ever was, so a node that is configured again takes up those that it has.

    All are used in one callback group only, where `post` leaves work to be done: an answer can not
    come before it is waited for. ``problems`` says which servers this installation cannot talk to,
    and what is missing.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._group = node, MutuallyExclusiveCallbackGroup()
        self.problems: list[str] = []
        self._servers: dict[str, Server] = {}
        self._publishers: dict[tuple[str, type], Any] = {}
        self._outbox: deque[Callable[[], None]] = deque()
        self._bell = node.create_guard_condition(self._work, callback_group=self._group)

    def connect(self, servers: Mapping[str, str]) -> Mapping[str, Server]:
        """Clients of ``servers`` (types by name) and of no others. Nobody is waited for."""
        for name, server in list(self._servers.items()):
            if servers.get(name) != server.type:
                self._close(self._servers.pop(name))
        self.problems = []
        for name, type_ in servers.items():
            if name not in self._servers:
                self._open(name, type_)
        return dict(self._servers)

    def publisher(self, topic: str, class_: type) -> Any:
        key = (topic, class_)
        if key not in self._publishers:
            self._publishers[key] = self._node.create_publisher(class_, topic, 10)
        return self._publishers[key]

    def post(self, work: Callable[[], None]) -> None:
        """From any thread."""
        self._outbox.append(work)
        self._bell.trigger()

    def _work(self) -> None:
        while self._outbox:
            self._outbox.popleft()()

    def _open(self, name: str, type_: str) -> None:
        opens = self._service if "/srv/" in type_ else self._action
        try:
            self._servers[name] = opens(name, type_)
        except (ModuleNotFoundError, AttributeError, ValueError) as error:
            package = type_.split("/", maxsplit=1)[0]
            self.problems.append(f"{name}: {type_} is not known here ({error}): install {package}")

    def _action(self, name: str, type_: str) -> Server:
        action = get_action(type_)
        client = ActionClient(self._node, action, name, callback_group=self._group)
        return Server(type_, client, action.Goal, client.server_is_ready)

    def _service(self, name: str, type_: str) -> Server:
        service = get_service(type_)
        client = self._node.create_client(service, name, callback_group=self._group)
        return Server(type_, client, service.Request, client.service_is_ready)

    def _close(self, server: Server) -> None:
        """The executor may be about to look at it: an action's client is taken from it and left to
        be destroyed with its last use, since rclpy's own `destroy` would pull it away."""
        if isinstance(server.client, ActionClient):
            self._node.remove_waitable(server.client)
        else:
            self._node.destroy_client(server.client)
