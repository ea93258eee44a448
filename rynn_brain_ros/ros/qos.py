"""The quality of service that a contract asks for, publishers whose messages never come (it, or
their type, does not fit), those whose messages come among those of others, and what is published
that nobody hears.

DDS says nothing where a reliable subscription meets a best-effort publisher, or a latched one a
volatile one. Both profiles are told instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from rynn_brain_ros.data.contract import Channel
from rynn_brain_ros.data.recording_session import is_static

_ONLOOKERS = ("_ros2cli", "rosbag2", "rqt", "rosbridge", "foxglove_bridge")
"""How the nodes of tools are named that show or record whatever is published."""
_ENDLESS_S = 1e6
"""What no deadline looks like: each middleware has its own largest number."""


def of_channel(channel: Channel, reliability: str, *, depth: int = 1) -> QoSProfile:
    """To hear what comes on it. As the contract says; where it says nothing, ``reliability``, and
    reliably what is kept for those who come later, or it is not kept for them. ``depth`` is the
    least."""
    static = is_static(channel)
    reliability = channel.reliability or ("reliable" if static else reliability)
    return QoSProfile(
        depth=max(channel.depth, depth),
        history=HistoryPolicy[(channel.history or "keep_last").upper()],
        reliability=ReliabilityPolicy[reliability.upper()],
        durability=DurabilityPolicy["TRANSIENT_LOCAL" if static else "VOLATILE"],
    )


def mismatches(node: Node, subscriptions: Iterable[Any]) -> tuple[str, ...]:
    """One sentence for each publisher that is there now and that a subscription does not hear."""
    told = (
        _mismatch(subscription, publisher)
        for subscription in subscriptions
        for publisher in node.get_publishers_info_by_topic(subscription.topic_name)
    )
    return tuple(dict.fromkeys(text for text in told if text))


def fitting(node: Node, subscriptions: Iterable[Any], topic: str) -> int:
    """How many publishers there are that a subscription to the topic hears."""
    return sum(
        not _mismatch(subscription, publisher)
        for subscription in subscriptions
        if subscription.topic_name == topic
        for publisher in node.get_publishers_info_by_topic(topic)
    )


def crowds(node: Node, topics: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """One sentence for each topic, of (name, type), that several publish now. Their messages look
    like those of one."""
    told = []
    for topic, typename in topics:
        ends = node.get_publishers_info_by_topic(topic)
        names = sorted(_full_name(end) for end in ends if end.topic_type == typename)
        if len(names) > 1:
            told.append(
                f"{topic}: {len(names)} publish it, {' and '.join(names)}, and nothing tells them "
                "apart: end all but one, or give each robot a namespace"
            )
    return tuple(told)


def unheard(node: Node, topic: str, typename: str, *, by_all: bool) -> str:
    """One sentence where nobody listens to messages of this type on a topic; with ``by_all`` also
    where nobody listens to it at all. Who only looks is nobody."""
    ends = [
        end
        for end in node.get_subscriptions_info_by_topic(topic)
        if not end.node_name.startswith(_ONLOOKERS)
    ]
    if any(end.topic_type == typename for end in ends):
        return ""
    if not ends:
        return f"{topic}: nobody listens" if by_all else ""
    takers = sorted({f"{_full_name(end)} takes {end.topic_type}" for end in ends})
    return f"{topic}: {' and '.join(takers)}, and nobody hears {typename}"


def _full_name(end: Any) -> str:
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def _mismatch(subscription: Any, publisher: Any) -> str:
    topic = subscription.topic_name
    who = _full_name(publisher)
    wanted = _type_name(subscription.msg_type)
    if publisher.topic_type != wanted:
        return f"{topic}: {who} publishes {publisher.topic_type}, and {wanted} is wanted"
    offered, asked = publisher.qos_profile, subscription.qos_profile
    fits, _ = qos_check_compatible(offered, asked)
    if fits != QoSCompatibility.ERROR:
        return ""
    return (
        f"{topic}: nothing comes from {who}: it offers {_profile(offered)}, and this node asks "
        f"for {_profile(asked)}"
    )


def _type_name(type_: Any) -> str:
    package, kind, *_ = type_.__module__.split(".")
    return f"{package}/{kind}/{type_.__name__}"


def _profile(qos: QoSProfile) -> str:
    """What decides whether two ends meet, but liveliness, which nobody sets."""
    seconds = qos.deadline.nanoseconds / 1e9
    is_none = seconds == 0 or seconds > _ENDLESS_S
    deadline = "no deadline" if is_none else f"deadline {seconds:g} s"
    return f"{qos.reliability.name.lower()}, {qos.durability.name.lower()}, {deadline}"
