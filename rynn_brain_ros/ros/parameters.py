"""ROS parameters from the same dataclasses as the YAML: their names, defaults, limits and words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException

from rynn_brain_ros.config import Setting, configure, settings, unknown
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.values import ConfigError

C = TypeVar("C")
_OF_ROS = ("qos_overrides.", "start_type_description_service")
"""What every node may be told, and rclpy declares late, or not on every distro."""


def declare(node: ManagedNode, config: type[Any], prefix: str = "") -> None:
    """One parameter for each setting of a configuration class, unless it is there already. What it
    was given need not be right yet: `read` says so."""
    for setting in settings(config):
        item = replace(setting, name=prefix + setting.name)
        if not node.has_parameter(item.name):
            _declare(node, item)
            node.configurable[item.name] = item


def read(node: ManagedNode, config: type[C], prefix: str = "") -> C:
    """The configuration that the parameters are now. Raises `ConfigError`."""
    names = [item.name for item in settings(config)]
    values = {name: node.get_parameter(prefix + name).value for name in names}
    try:
        return configure(config, values)
    except ConfigError as error:
        raise ConfigError(f"{prefix.rstrip('.')}: {error}" if prefix else str(error)) from error


def refuse_unknown(node: ManagedNode) -> None:
    """Raises `ConfigError` for a parameter that the node was given and does not have: a misspelled
    ``dry_run`` would be as good as none. To be called when all are declared.

    Other nodes' settings are refused too, also from a file's ``/**``: a node is not told which part
    of a file a parameter came from, and ``require_approval`` would seem to hold where it does not.
    """
    known = (*node.configurable, "autostart", "use_sim_time")
    for name in node._parameter_overrides:  # no distro's rclpy has a public way to them
        if not node.has_parameter(name) and not name.startswith(_OF_ROS):
            hint = "(In a file, what another node is told goes under its name, and not under /**.)"
            raise ConfigError(f"{unknown('parameter', name, known)} {hint}")


def _declare(node: ManagedNode, item: Setting) -> None:
    descriptor = _descriptor(item)
    try:
        node.declare_parameter(item.name, item.default, descriptor)
    except InvalidParameterValueException:  # out of its limits
        descriptor.integer_range, descriptor.floating_point_range = [], []
        node.declare_parameter(item.name, item.default, descriptor)


def _descriptor(item: Setting) -> ParameterDescriptor:
    # Of any type, or else rclpy raises where 20 is written for 20.0, before there is a node.
    descriptor = ParameterDescriptor(description=item.description, dynamic_typing=True)
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
