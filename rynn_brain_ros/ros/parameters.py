"""ROS parameters from the same dataclasses as the YAML: their names, defaults, limits and words."""

from __future__ import annotations

from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from rynn_brain_ros.config import Setting, configure, settings

C = TypeVar("C")


def declare(node: Node, config: type[Any], prefix: str = "") -> None:
    """One parameter for each setting of a configuration class, unless it is there already."""
    for item in settings(config):
        if not node.has_parameter(prefix + item.name):
            node.declare_parameter(prefix + item.name, item.default, _descriptor(item))


def read(node: Node, config: type[C], prefix: str = "") -> C:
    """The configuration that the parameters are now. Raises `ConfigError`."""
    names = [item.name for item in settings(config)]
    return configure(config, {name: node.get_parameter(prefix + name).value for name in names})


def _descriptor(item: Setting) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=item.description)
    if item.choices:
        descriptor.additional_constraints = f"one of {', '.join(item.choices)}"
    if item.minimum is None or item.maximum is None:
        return descriptor
    if isinstance(item.default, int):
        low, high = int(item.minimum), int(item.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    else:
        low, high = float(item.minimum), float(item.maximum)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
