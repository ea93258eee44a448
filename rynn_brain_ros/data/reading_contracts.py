"""A contract from YAML: every key known, every value in its limits, every error with its place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rynn_brain_ros.config import configure, read_yaml, unknown
from rynn_brain_ros.data.contract import (
    KIND_SIZES,
    Align,
    Channel,
    Conditioning,
    Contract,
    Episodes,
    Feature,
    Gripper,
    Limits,
    Operator,
    Source,
)
from rynn_brain_ros.data.field_paths import path_problem
from rynn_brain_ros.values import ConfigError

C = TypeVar("C")
Values = Mapping[str, Any]

_TOP = (
    *("robot_type", "robot_interface", "fps", "observations", "actions", "tasks", "adjunct"),
    *("conditioning", "episodes", "limits"),
)
_ROSETTA_ONLY = ("teleop", "rewards", "signals", "info", "complementary_data")
_SOURCE = (
    *("channel", "align", "select", "apply", "kind", "units", "rate_hz", "gripper"),
    *("representation", "sparse"),
)
_QOS = ("reliability", "durability", "history", "depth")
_CHANNEL = ("topic", "type", "dtype", "safety", "qos")
_OPERATORS = {"rad2deg": 0, "scale": 1, "clamp": 2, "resize": 2}
_MAX_SIDE_PX = 8192


def read_contract(path: Path) -> Contract:
    """Raises `ConfigError`: what is wrong, at which key, and what to write instead."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the contract {path} cannot be read: {error}") from error
    try:
        return contract_from(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def contract_from(text: str) -> Contract:
    """The contract in a YAML text. Raises `ConfigError`."""
    told = _mapping(read_yaml(text), "the contract")
    top = {name: value for name, value in told.items() if not name.startswith("x-")}
    for name in _ROSETTA_ONLY:
        if name in top:
            raise ConfigError(f"the section {name!r} of rosetta's contracts is not known here")
    _known(top, _TOP, "the contract")
    if top.get("robot_interface") != "ros2":
        raise ConfigError("robot_interface must be ros2")
    task = _mapping(top.get("tasks", {}), "tasks")
    _known(task, ("task",), "tasks")
    contract = Contract(
        robot_type=_text(top, "robot_type", "the contract"),
        fps=_fps(top.get("fps")),
        observations=_features(top.get("observations"), "observations"),
        actions=_features(top.get("actions", {}), "actions"),
        task=_only_channel(task["task"], "tasks.task") if task else None,
        conditioning=_conditioning(top.get("conditioning", {})),
        episodes=_configured(Episodes, top.get("episodes", {}), "episodes"),
        limits=_configured(Limits, top.get("limits", {}), "limits"),
        adjunct=tuple(
            _only_channel(entry, f"adjunct.{i}")
            for i, entry in enumerate(_entries(top.get("adjunct"), "adjunct"))
        ),
        text=text,
    )
    _check_whole(contract)
    return contract


# --- sections ------------------------------------------------------------------------------------


def _features(data: Any, where: str) -> tuple[Feature, ...]:
    entries = _mapping(data, where)
    if not entries and where == "observations":
        raise ConfigError("observations are missing: name at least one feature")
    return tuple(_feature(key, entry, f"{where}.{key}") for key, entry in entries.items())


def _feature(key: str, data: Any, where: str) -> Feature:
    prefix = where.partition(".")[0].removesuffix("s")
    if key != prefix and not key.startswith(f"{prefix}."):
        raise ConfigError(f"{where}: the name must begin with {prefix!r}, as LeRobot's do")
    parts = data if isinstance(data, list) else [data]
    if not parts:
        raise ConfigError(f"{where}: the list of sources is empty")
    sources = tuple(_source(_mapping(part, where), where) for part in parts)
    if len(sources) > 1 and any(source.channel.is_image for source in sources):
        raise ConfigError(f"{where}: a camera cannot share its feature with other sources")
    if len({source.channel.dtype for source in sources}) > 1:
        raise ConfigError(f"{where}: its sources differ in dtype")
    return Feature(key, sources)


def _source(data: Values, where: str) -> Source:
    _known(data, _SOURCE, where)
    channel = _channel(data.get("channel"), f"{where}.channel")
    align = _configured(Align, data.get("align", {}), f"{where}.align")
    if not align.strategy or not align.timeline:
        raise ConfigError(f"{where}: align needs a strategy and a timeline; there is no default")
    gripper = data.get("gripper")
    source = Source(
        channel=channel,
        align=align,
        select=_names(data.get("select", []), f"{where}.select"),
        apply=tuple(
            _operator(step, f"{where}.apply")
            for step in _entries(data.get("apply"), f"{where}.apply")
        ),
        kind=str(data.get("kind", "continuous")),
        units=str(data.get("units", "")),
        rate_hz=_positive(data.get("rate_hz", 0), f"{where}.rate_hz"),
        gripper=None if gripper is None else _configured(Gripper, gripper, f"{where}.gripper"),
        representation=str(data.get("representation", "absolute")),
        sparse=_yes(data.get("sparse", False), f"{where}.sparse"),
    )
    for problem in _source_problems(source, where.startswith("actions")):
        raise ConfigError(f"{where}: {problem}")
    for path in source.select:
        if problem := path_problem(channel.type, path):
            raise ConfigError(f"{where}.select: {path}: {problem}")
    return source


def _source_problems(source: Source, is_action: bool) -> list[str]:
    strategy, names = source.align.strategy, [operator.name for operator in source.apply]
    image, n = source.channel.is_image, len(source.select)
    wanted = KIND_SIZES.get(source.kind, 0)
    checks = (
        (image and n > 0, "an image has nothing to select"),
        (not image and n == 0, "select names no field: [position.JOINT, …] or [path.to.field]"),
        (image and strategy in ("linear", "slerp"), "images cannot be interpolated: use hold"),
        (image and any(name != "resize" for name in names), "images know no operator but resize"),
        (not image and "resize" in names, "only images are resized"),
        (strategy == "asof" and not source.align.tolerance_ms, "asof needs a tolerance_ms"),
        (strategy == "slerp" and source.kind != "quaternion", "slerp is for kind quaternion"),
        (
            source.kind == "quaternion" and strategy == "linear",
            "a quaternion between two others is found by slerp, not linear",
        ),
        (
            source.kind not in ("continuous", *KIND_SIZES),
            f"unknown kind {source.kind!r}: continuous, {', '.join(KIND_SIZES)}",
        ),
        (wanted not in (0, n), f"kind {source.kind} selects {wanted} fields, not {n}"),
        (source.gripper is not None and n != 1, "a gripper is one field"),
        (
            source.gripper is not None
            and not math.isfinite(source.gripper.open - source.gripper.closed),
            "a gripper's open and closed must be finite numbers",
        ),
        (
            source.gripper is not None and source.gripper.open == source.gripper.closed,
            "a gripper's open and closed must differ",
        ),
        (
            source.representation not in ("absolute", "delta"),
            f"unknown representation {source.representation!r}: absolute or delta",
        ),
        (
            source.sparse and strategy != "hold",
            "what is sparse is held: the strategy must be hold",
        ),
        (source.representation == "delta" and not is_action, "only an action can be a delta"),
        (
            source.representation == "delta" and source.gripper is not None,
            "a gripper's action is absolute",
        ),
    )
    return [text for wrong, text in checks if wrong]


def _check_whole(contract: Contract) -> None:
    """What only shows when all parts are looked at together."""
    keys = [feature.key for feature in contract.features]
    for source in contract.sources:
        others = [s for s in contract.sources if s.channel.topic == source.channel.topic]
        if any(other.channel.type != source.channel.type for other in others):
            raise ConfigError(f"{source.channel.topic} is given two types")
    state = {name for feature in contract.observations for name in feature.names}
    for feature in contract.actions:
        if feature.is_image:
            raise ConfigError(f"actions.{feature.key}: an action is no image")
        for source in feature.sources:
            if source.representation == "delta" and not set(source.select) <= state:
                raise ConfigError(
                    f"actions.{feature.key}: a delta needs the same fields among the observations"
                )
    if len(set(keys)) != len(keys):
        raise ConfigError("a feature is named twice")


# --- small parts ---------------------------------------------------------------------------------


def _channel(data: Any, where: str) -> Channel:
    values = _mapping(data, where)
    _known(values, _CHANNEL, where)
    qos = _mapping(values.pop("qos", {}), f"{where}.qos")
    _known(qos, _QOS, f"{where}.qos")
    channel = _configured(Channel, {**values, **qos}, where)
    for name in ("topic", "type"):
        if not getattr(channel, name):
            raise ConfigError(f"{where}: {name} is missing")
    _check_topic(channel.topic, where)
    if channel.type.count("/") != 2 or "/msg/" not in channel.type:
        raise ConfigError(f"{where}: the type {channel.type!r} is not written package/msg/Name")
    return channel


def _check_topic(topic: str, where: str) -> None:
    if not topic.startswith("/"):
        raise ConfigError(f"{where}: the topic {topic!r} must begin with a slash")


def _conditioning(data: Any) -> Conditioning:
    found = _configured(Conditioning, data, "conditioning")
    for name in ("plan", "groundings"):
        if topic := getattr(found, name):
            _check_topic(topic, f"conditioning.{name}")
    return found


def _only_channel(data: Any, where: str) -> Channel:
    """An entry that has a channel and nothing else."""
    entry = _mapping(data, where)
    _known(entry, ("channel",), where)
    return _channel(entry.get("channel"), f"{where}.channel")


def _operator(data: Any, where: str) -> Operator:
    told = {data: ()} if isinstance(data, str) else _mapping(data, where)
    if len(told) != 1:
        raise ConfigError(f"{where}: one operator a line, in their order")
    ((name, value),) = told.items()
    if name not in _OPERATORS:
        raise ConfigError(_unknown(name, tuple(_OPERATORS), where, "operator"))
    if name == "clamp":
        bounds = _mapping(value, f"{where}.clamp")
        _known(bounds, ("min", "max"), f"{where}.clamp")
        value = [bounds.get("min"), bounds.get("max")]
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    finite = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
    if not finite or len(numbers) != _OPERATORS[name]:
        raise ConfigError(f"{where}: {name} takes {_OPERATORS[name]} numbers, not {value!r}")
    if name == "resize" and not all(
        type(n) is int and 16 <= n <= _MAX_SIDE_PX and n % 2 == 0 for n in numbers
    ):
        raise ConfigError(f"{where}: resize is [height, width] in even pixels, not {value!r}")
    if name == "clamp" and numbers[0] >= numbers[1]:
        raise ConfigError(f"{where}: clamp's min must be below its max")
    return Operator(name, tuple(float(n) for n in numbers))


def _configured(kind: type[C], data: Any, where: str) -> C:
    """`configure`, with the place in what it complains of."""
    try:
        return configure(kind, _mapping(data, where))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if data is None:
        raise ConfigError(f"{where} is missing or empty")
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{where} must be a mapping of names, not {type(data).__name__}")
    return dict(data)


def _known(data: Values, names: tuple[str, ...], where: str) -> None:
    for name in data:
        if name not in names:
            raise ConfigError(_unknown(name, names, where, "key"))


def _unknown(name: str, names: tuple[str, ...], where: str, what: str) -> str:
    return f"{where}: {unknown(what, name, names)}"


def _entries(data: Any, where: str) -> list[Any]:
    """None where the key is there and nothing behind it."""
    if data is not None and not isinstance(data, list):
        raise ConfigError(f"{where} must be a list, not {data!r}")
    return data or []


def _names(data: Any, where: str) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(n, str) and n for n in data):
        raise ConfigError(f"{where} must be a list of fields, not {data!r}")
    if len(set(data)) != len(data):
        raise ConfigError(f"{where} names a field twice")
    return tuple(data)


def _text(data: Values, name: str, where: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {name} is missing")
    return value


def _yes(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise ConfigError(f"{where} is {value!r}; it must be true or false")
    return value


def _fps(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1000:
        raise ConfigError(f"fps is {value!r}; it must be a whole number of frames a second")
    return value


def _positive(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ConfigError(f"{where} is {value!r}; it must be a number, 0 or more")
    return float(value)
