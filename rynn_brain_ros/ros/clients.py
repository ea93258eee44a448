"""A node's clients of the servers that a robot has, and its publishers to it."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.action import ActionClient
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default
from rosidl_runtime_py.utilities import get_action, get_service
from unique_identifier_msgs.msg import UUID

_KNOWN_S = 2.0
"""A message may come before its sender is known; after so long it is."""
_REMEMBERED = 64
"""Goals that may still be told of: a server keeps those that have ended for a while."""


class Goals:
    """What an action server is at work on, by its status, and which of it was sent from here."""

    def __init__(self, node: Node, server: str, group: CallbackGroup) -> None:
        self._node, self._topic = node, f"{node.resolve_topic_name(server)}/_action/status"
        self._ours: tuple[bytes, ...] = ()
        self.under_way: Mapping[bytes, frozenset[bytes] | None] = {}
        """Goals, and the servers that were there when they were told: ``None`` before that is
        known."""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._settling = node.create_timer(_KNOWN_S, self._settle, group, steady)
        qos = qos_profile_action_status_default
        self._status = node.create_subscription(  # last: what is latched may come at once
            GoalStatusArray, self._topic, self._hear, qos, callback_group=group
        )

    def new_id(self) -> UUID:
        """For a goal that is sent from here."""
        goal_id = uuid.uuid4().bytes
        self._ours = (*self._ours[1 - _REMEMBERED :], goal_id)
        return UUID(uuid=list(goal_id))

    @property
    def are_others(self) -> bool:
        """Whether one is under way that was not sent from here. One of a server that died since
        does not count: the server in its place does not know it."""
        others = [told_by for goal, told_by in self.under_way.items() if goal not in self._ours]
        if not others:
            return False
        there = self._servers()
        return any(told_by is None or not told_by.isdisjoint(there) for told_by in others)

    def close(self) -> None:
        self._node.destroy_subscription(self._status)
        self._node.destroy_timer(self._settling)

    def _hear(self, message: GoalStatusArray) -> None:
        """A server tells all of its goals; where there are two, those of the other one stay."""
        there = self._servers()
        told = {bytes(each.goal_info.goal_id.uuid): each.status for each in message.status_list}
        going = (goal for goal, status in told.items() if status in _UNDER_WAY)
        others = self.under_way.items() if len(there) > 1 else ()
        kept = {goal: told_by for goal, told_by in others if goal not in told}
        self.under_way = kept | dict.fromkeys(going, there or None)
        self._settling.reset()

    def _settle(self) -> None:
        self._settling.cancel()
        there = self._servers()
        self.under_way = {
            goal: told_by or there
            for goal, told_by in self.under_way.items()
            if told_by is None or not told_by.isdisjoint(there)
        }

    def _servers(self) -> frozenset[bytes]:
        """Those that are there now."""
        ends = self._node.get_publishers_info_by_topic(self._topic)
        return frozenset(bytes(end.endpoint_gid) for end in ends)


_UNDER_WAY = (
    GoalStatus.STATUS_ACCEPTED,
    GoalStatus.STATUS_EXECUTING,
    GoalStatus.STATUS_CANCELING,
)


@dataclass(frozen=True)
class Server:
    """``request`` is the class of its goals or requests."""

    type: str
    client: Any
    request: Any
    is_there: Callable[[], bool]

    @property
    def is_taken(self) -> bool:
        """Whether it is at work for somebody else."""
        return False

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.request.get_fields_and_field_types())


@dataclass(frozen=True)
class Action(Server):
    goals: Goals

    @property
    def is_taken(self) -> bool:
        return self.goals.are_others


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

    def _action(self, name: str, type_: str) -> Action:
        action = get_action(type_)
        client = ActionClient(self._node, action, name, callback_group=self._group)
        goals = Goals(self._node, name, self._group)
        return Action(type_, client, action.Goal, client.server_is_ready, goals)

    def _service(self, name: str, type_: str) -> Server:
        service = get_service(type_)
        client = self._node.create_client(service, name, callback_group=self._group)
        return Server(type_, client, service.Request, client.service_is_ready)

    def _close(self, server: Server) -> None:
        """The executor may be about to look at it: an action's client is taken from it and left to
        be destroyed with its last use, since rclpy's own `destroy` would pull it away."""
        if isinstance(server, Action):
            self._node.remove_waitable(server.client)
            server.goals.close()
        else:
            self._node.destroy_client(server.client)
