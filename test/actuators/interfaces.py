"""Requests as real messages: filled into `rosbags` types, where unknown fields and wrong types are
errors, and sent through CDR. `spoken` is compared with the installed interfaces where ROS is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from spoken import SPOKEN

from rynn_brain_ros.actuators import Call
from rynn_brain_ros.bags import message


@lru_cache(maxsize=1)
def store() -> Typestore:
    types = get_typestore(Stores.ROS2_JAZZY)
    parsed: dict[str, Any] = {}
    for name, fields in SPOKEN.items():
        text = "".join(f"{type_} {field}\n" for field, type_ in fields.items())
        parsed.update(get_types_from_msg(text, name))
    types.register(parsed)
    return types


def part(type_: str, name: str, fields: dict[str, Any] | None = None) -> Any:
    """One part of an interface, filled: ``part("nav2_msgs/action/Spin", "Result")``."""
    package, _, short = type_.split("/")
    return message(f"{package}/msg/{short}_{name}", fields or {}, store())


def filled(call: Call) -> Any:
    """The call's request as the real message, sent through CDR and back."""
    package, _, short = call.type.split("/")
    name = f"{package}/msg/{short}_{'Request' if call.is_service else 'Goal'}"
    raw = store().serialize_cdr(message(name, call.request, store()), name)
    return store().deserialize_cdr(raw, name)
