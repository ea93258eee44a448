"""Where the distributions' interfaces differ from Jazzy's, by name: anything else that a request
names and an interface lacks is an error."""

from __future__ import annotations

from collections.abc import Mapping

from rynn_brain_ros.actuators.calls import Call
from rynn_brain_ros.actuators.moveit import CARTESIAN_PATH
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.values import ConfigError

MAY_BE_MISSING: Mapping[str, frozenset[str]] = {
    # Humble: the path is then planned at full speed, and slowed down before it is executed.
    CARTESIAN_PATH: frozenset({"max_velocity_scaling_factor", "max_acceleration_scaling_factor"}),
}
_NESTED = "nav_msgs/Goals"
"""What Kilted and later want in NavigateThroughPoses where a list of poses was before."""


def missing(call: Call, fields: Mapping[str, str]) -> tuple[str, ...]:
    """Names in the request that are not among ``fields`` (name → type) and may be missing.

    Raises `ConfigError` for any other.
    """
    absent = [name for name in call.request if name not in fields]
    allowed = MAY_BE_MISSING.get(call.type, frozenset())
    for name in absent:
        if name not in allowed:
            raise ConfigError(
                f"{call.type} has no field {name!r} here; it has {', '.join(fields) or 'none'}"
            )
    return tuple(absent)


def fitted(call: Call, fields: Mapping[str, str]) -> MessageDict:
    """The request as this distribution's interface takes it. Raises `ConfigError`."""
    absent = missing(call, fields)
    request = {name: value for name, value in call.request.items() if name not in absent}
    if fields.get("poses") == _NESTED:
        poses = request["poses"]
        head = poses[0]["header"] if poses else {}
        request["poses"] = {"header": head, "goals": poses}
    return request
