"""From a policy's action to messages: `fields` backwards, by the same contract.

The converter reads the action out of these messages again. A message holds the fields that the
contract selects and, where its type has one, a header with the stamp; the others, such as a pose's
frame_id, keep their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rynn_brain_ros import messages
from rynn_brain_ros.data.contract import JOINT_STATE, Contract, Feature, Operator, Source
from rynn_brain_ros.data.field_paths import JOINT_COLUMNS
from rynn_brain_ros.data.fields import GRIPPER_OUTSIDE, Floats
from rynn_brain_ros.data.sampling import Features
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.values import ConfigError, InputError

_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


class ActionError(InputError):
    """An action that must not be sent."""


@dataclass(frozen=True)
class Command:
    """A message for a topic, as a nested dict."""

    topic: str
    type: str
    message: MessageDict


@dataclass
class _Topic:
    """What goes to one topic: raw values of its fields, from which sources."""

    type: str
    safety: str
    stamped: bool
    fields: dict[str, float] = field(default_factory=dict)


class Commander:
    """Makes the commands of one contract.

    ``names``: of the numbers of each action, as the policy's data set holds them
    (`FeatureSpec.names`). Raises `ConfigError` where they are not the contract's in its order, and
    where the contract can be read but not be sent.
    """

    def __init__(self, contract: Contract, names: Mapping[str, Sequence[str]]) -> None:
        self._contract = contract
        _same_names(contract, names)
        self._topics = _topics(contract)
        self._zeros(0)  # shows what cannot be a message

    def commands(
        self, actions: Mapping[str, ArrayLike], seen: Features, stamp_ns: int
    ) -> tuple[Command, ...]:
        """One message for each topic.

        ``actions``: [n] by feature, as the data set holds them: a gripper 1 open and 0 closed,
        units after ``apply``. ``seen``: what deltas are told against, of the same time. Clamped
        is what the contract clamps; a gripper may overshoot as in recordings.

        Raises `ActionError`: a vector of another length, a number that is not finite or would not
        be in a message, a gripper far outside, observations with faults.
        """
        if seen.faults:
            told = "; ".join(fault.told(seen.t_ns) for fault in seen.faults)
            raise ActionError(f"no action without whole observations: {told}")
        values: dict[str, dict[str, float]] = {}
        for source, numbers in self._parts(actions):
            told_against = _observed(self._contract, source, seen)
            raw = _raw(source, numbers + told_against)
            if not np.isfinite(raw).all():
                told = f"{_list(source.select)} would be {raw.tolist()}"
                raise ActionError(f"{source.channel.topic}: {told}: nothing is sent")
            found = values.setdefault(source.channel.topic, {})
            found.update(zip(source.select, raw.tolist(), strict=True))
        return tuple(self._command(topic, values[topic], stamp_ns) for topic in self._topics)

    def stop(self, last: Sequence[Command], stamp_ns: int) -> tuple[Command, ...]:
        """What the contract's ``safety`` says to send when the policy stops: the ``last`` commands
        again (``hold``; nothing where there were none), zeros in all raw fields, or nothing."""
        sent = {command.topic: command for command in last}
        found = []
        for command in self._zeros(stamp_ns):
            topic = self._topics[command.topic]
            if topic.safety == "hold" and command.topic in sent:
                again = sent[command.topic].message
                new = {"header": command.message["header"]} if topic.stamped else {}
                found.append(Command(command.topic, command.type, {**again, **new}))
            elif topic.safety == "zeros":
                found.append(command)
        return tuple(found)

    def _zeros(self, stamp_ns: int) -> list[Command]:
        return [self._command(name, topic.fields, stamp_ns) for name, topic in self._topics.items()]

    def _command(self, name: str, values: Mapping[str, float], stamp_ns: int) -> Command:
        topic = self._topics[name]
        make = _joints if topic.type == JOINT_STATE else _fields
        message = make(name, values)
        if topic.stamped:
            message = {"header": messages.header(stamp_ns, ""), **message}
        return Command(name, topic.type, message)

    def _parts(self, actions: Mapping[str, ArrayLike]) -> Iterator[tuple[Source, Floats]]:
        """The numbers of each source, checked."""
        wanted = {feature.key for feature in self._contract.actions}
        if set(actions) != wanted:
            raise ActionError(
                f"the action has {_list(actions)}; the contract wants {_list(sorted(wanted))}"
            )
        for feature in self._contract.actions:
            numbers = _checked(feature, actions[feature.key])
            at = 0
            for source in feature.sources:
                yield source, numbers[at : at + len(source.select)]
                at += len(source.select)


# --- numbers -------------------------------------------------------------------------------------


def _checked(feature: Feature, action: ArrayLike) -> Floats:
    numbers = np.asarray(action, np.float64)
    if numbers.shape != (len(feature.names),):
        raise ActionError(
            f"{feature.key} has the shape {numbers.shape}, not ({len(feature.names)},): "
            f"{_list(feature.names)}"
        )
    bad = [name for name, ok in zip(feature.names, np.isfinite(numbers), strict=True) if not ok]
    if bad:
        raise ActionError(f"{feature.key}: {_list(bad)} is not a finite number")
    return numbers


def _observed(contract: Contract, source: Source, seen: Features) -> Floats:
    """What `sample` told a delta against, the observation of the same fields; else zeros."""
    if source.representation != "delta":
        return np.zeros(len(source.select))
    state: dict[str, float] = {}
    for feature in contract.observations:
        if not feature.is_image and feature.key in seen.values:
            state.update(zip(feature.names, seen.values[feature.key].tolist(), strict=True))
    missing = [name for name in source.select if name not in state]
    if missing:
        raise ActionError(f"no observation of {_list(missing)} to add the delta to")
    return np.array([state[name] for name in source.select])


def _raw(source: Source, values: Floats) -> Floats:
    """`fields.applied` backwards. Raises `ActionError`."""
    if source.kind == "binary":
        values = np.asarray(values >= 0.5, np.float64)
    for operator in reversed(source.apply):
        values = _undone(operator, values)
    gripper = source.gripper
    if gripper is None:
        return values
    if not -GRIPPER_OUTSIDE <= values[0] <= 1 + GRIPPER_OUTSIDE:
        raise ActionError(
            f"{source.channel.topic}: {source.select[0]} is {values[0]:.2f}; a gripper is 1 open "
            "and 0 closed"
        )
    return gripper.closed + np.clip(values, 0.0, 1.0) * (gripper.open - gripper.closed)


def _undone(operator: Operator, values: Floats) -> Floats:
    if operator.name == "rad2deg":
        return np.asarray(np.radians(values), np.float64)
    if operator.name == "scale":
        return values / operator.numbers[0]
    low, high = operator.numbers
    return np.clip(values, low, high)


# --- messages ------------------------------------------------------------------------------------


def _joints(topic: str, values: Mapping[str, float]) -> MessageDict:
    """A JointState of all joints that are selected; a column is whole or empty."""
    columns: dict[str, dict[str, float]] = {column: {} for column in JOINT_COLUMNS}
    for path, value in values.items():
        column, _, joint = path.partition(".")
        columns[column][joint] = value
    names = list(dict.fromkeys(joint for column in columns.values() for joint in column))
    for column, found in columns.items():
        missing = [joint for joint in names if found and joint not in found]
        if missing:
            raise ConfigError(
                f"{topic}: a message with {column} needs that of {_list(missing)} too"
            )
    return {"name": names, **{c: [f[j] for j in names if f] for c, f in columns.items()}}


def _fields(topic: str, values: Mapping[str, float]) -> MessageDict:
    """Nested as the paths are: ``pose.position.x``, ``data.0``."""
    root: dict[str, Any] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        place = root
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{topic}: {path!r} is a field inside of a number")
        if last in place:
            raise ConfigError(f"{topic}: {path!r} is both a number and a message")
        place[last] = value
    return {name: _listed(part, f"{topic}: {name}") for name, part in root.items()}


def _listed(part: Any, where: str) -> Any:
    """Numbered fields are the elements of a list."""
    if not isinstance(part, dict):
        return part
    inner = {name: _listed(value, f"{where}.{name}") for name, value in part.items()}
    if not any(name.isdigit() for name in inner):
        return inner
    wanted = [str(i) for i in range(len(inner))]
    if sorted(inner) != sorted(wanted):
        raise ConfigError(f"{where} is a list: select its elements from 0 on, all of them")
    return [inner[i] for i in wanted]


# --- the contract --------------------------------------------------------------------------------


def _topics(contract: Contract) -> dict[str, _Topic]:
    """What goes where. Raises `ConfigError` where that is not one thing."""
    observed = {source.channel.topic for f in contract.observations for source in f.sources}
    topics: dict[str, _Topic] = {}
    for source in (source for feature in contract.actions for source in feature.sources):
        name, kind, safety = source.channel.topic, source.channel.type, source.channel.safety
        topic = topics.setdefault(name, _Topic(kind, safety, kind == JOINT_STATE))
        topic.stamped |= source.align.timeline == "header"
        twice = [path for path in source.select if path in topic.fields]
        checks = (
            (name in observed, "it is observed too; commands need a topic of their own"),
            (kind == _TRAJECTORY, "a path cannot name joints; command them as a JointState"),
            (topic.safety != safety, f"its safety is both {topic.safety} and {safety}"),
            (bool(twice), f"{_list(twice)} would be set twice"),
            (any(o == Operator("scale", (0.0,)) for o in source.apply), "scale: 0 has no way back"),
        )
        for wrong, told in checks:
            if wrong:
                raise ConfigError(f"actions cannot be sent to {name}: {told}")
        topic.fields.update(dict.fromkeys(source.select, 0.0))
    if not topics:
        raise ConfigError("the contract has no actions: there is nothing to command")
    return topics


def _same_names(contract: Contract, names: Mapping[str, Sequence[str]]) -> None:
    for feature in contract.actions:
        told = tuple(names.get(feature.key, ()))
        if told == feature.names:
            continue
        if sorted(told) == sorted(feature.names):
            i = next(i for i, name in enumerate(told) if name != feature.names[i])
            raise ConfigError(
                f"{feature.key} is in another order: number {i + 1} is {told[i]} in the policy's "
                f"data set and {feature.names[i]} in the contract"
            )
        raise ConfigError(
            f"{feature.key} is {_list(told)} in the policy's data set and {_list(feature.names)} "
            "in the contract"
        )


def _list(names: Any) -> str:
    return ", ".join(names) or "nothing"
