"""Nested dicts → real message objects, and the classes of those."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, TypeVar

from rosidl_runtime_py.set_message import set_message_fields
from rosidl_runtime_py.utilities import get_message

from rynn_brain_ros.values import InputError

M = TypeVar("M")


def to_ros(message_class: type[M], data: Mapping[str, Any]) -> M:
    """Fills a message from a nested dict.

    ``set_message_fields`` casts numbers, which on Jazzy would otherwise be serialised as garbage
    without an error. Bytes are set directly: it would take a Python list of them.
    """
    message = message_class()
    buffers = {k: v for k, v in data.items() if isinstance(v, bytes | bytearray | memoryview)}
    set_message_fields(message, {k: _own(v) for k, v in data.items() if k not in buffers})
    for name, value in buffers.items():
        setattr(message, name, array("B", value))
    return message


def _own(value: Any) -> Any:
    """A copy of all dicts and lists: ``set_message_fields`` puts messages into the lists it gets,
    and who gave them may want to send them again."""
    if isinstance(value, Mapping):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else value


def message_class(topic: str, type_: str) -> Any:
    """Of ``type_``, such as sensor_msgs/msg/Image. Raises `InputError` that names the topic."""
    try:
        return get_message(type_)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{topic}: {type_} is not installed: {error}") from error
