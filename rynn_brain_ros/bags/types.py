"""Message types without ROS: the type store, and messages written as nested dicts.

The store is Jazzy's (rosbags ships it) plus this package's own interfaces, read from their .msg
files. A message is written once, as data: a nested dict that `message` fills into a rosbags type
and that the ROS nodes fill into the real class.
"""

from __future__ import annotations

import difflib
import operator
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from rynn_brain_ros.values import ConfigError

PACKAGE = "rynn_brain_ros"

# rosbags drops the defaults that .msg files give to fields; among the standard messages one
# matters: a quaternion of length zero is no rotation.
_DEFAULTS: dict[tuple[str, str], float] = {("geometry_msgs/msg/Quaternion", "w"): 1.0}

# Stands in for the fields of a message that has none; never written by hand.
_EMPTY_FIELD = "structure_needs_at_least_one_member"

# What parsing or executing a foreign definition, or decoding foreign bytes, was seen to raise.
DECODE_ERRORS = (
    SerdeError,
    TypesysError,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    SyntaxError,
    RecursionError,
    MemoryError,
)


def normalise_type(typename: str) -> str:
    """``sensor_msgs/Image``, as written before Foxy, becomes ``sensor_msgs/msg/Image``."""
    parts = typename.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else typename


class _Entry(Protocol):
    """What a path and a resource of an installed package have in common."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def iterdir(self) -> Iterator[_Entry]: ...
    def read_text(self, encoding: str) -> str: ...


def interface_definitions(folder: Path | None = None) -> dict[str, str]:
    """Text of this package's .msg files by type name; empty when none are installed.

    Looked for in ``folder``, or inside the installed package (a wheel holds them), beside it (a
    checkout), in ``sys.prefix`` and in the workspaces of ``AMENT_PREFIX_PATH``; the first place
    that has any wins.
    """
    for place in (folder,) if folder is not None else _interface_folders():
        files = [file for file in _files(place) if file.name.endswith(".msg")]
        if files:
            return {f"{PACKAGE}/msg/{f.name.removesuffix('.msg')}": _read_text(f) for f in files}
    return {}


def _interface_folders() -> list[_Entry]:
    prefixes = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":"))]
    shares = (Path(prefix) / "share" / PACKAGE / "msg" for prefix in prefixes)
    packaged = resources.files(PACKAGE) / "interfaces" / "msg"
    return [packaged, Path(__file__).resolve().parents[2] / "msg", *shares]


def _files(folder: _Entry) -> list[_Entry]:
    try:
        files = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ConfigError(f"The interface folder {folder} cannot be read: {error}.") from error
    return sorted(files, key=lambda file: file.name)


def _read_text(file: _Entry) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The interface file {file} cannot be read: {error}.") from error


@lru_cache(maxsize=8)
def typestore(folder: Path | None = None) -> Typestore:
    """The store for everything this package writes. Shared: do not register types in it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    parsed: dict[str, Any] = {}
    for name, text in interface_definitions(folder).items():
        try:
            parsed.update(get_types_from_msg(text, name))
        except TypesysError as error:
            raise ConfigError(f"The definition of {name} cannot be parsed: {error}") from error
    if parsed:
        store.register(parsed)
    for name in parsed:
        try:
            store.get_msgdef(name)
        except DECODE_ERRORS as error:
            raise ConfigError(f"The definition of {name} uses an unknown type: {error}") from error
    return store


# --- definitions found in bags -------------------------------------------------------------------


class Definitions:
    """Which store decodes a connection of a bag, and why none does.

    The bytes of a bag are laid out by the definition that was valid when it was recorded, so an
    embedded definition wins over ours; only where both agree is ours used (it is compiled
    already). Nothing here raises: a type that cannot be understood costs one topic, not the bag.
    """

    def __init__(self, base: Typestore) -> None:
        self._base = base
        self._known: dict[tuple[str, str, str], tuple[Typestore | None, str]] = {}

    def find(self, typename: str, encoding: str, schema: str) -> tuple[Typestore | None, str]:
        """The store for ``typename`` (normalised), or ``None`` and a sentence that says why."""
        key = (typename, encoding, schema)
        if key not in self._known:
            self._known[key] = self._find(typename, encoding, schema)
        return self._known[key]

    def _find(self, typename: str, encoding: str, schema: str) -> tuple[Typestore | None, str]:
        problem = f"type {typename} is not known and the bag holds no definition of it"
        if "/srv/" in typename:
            return None, f"{typename} records service calls, which are not decoded"
        if schema.strip():
            try:
                store = self._embedded(typename, encoding, schema)
                store.get_msgdef(typename)
            except DECODE_ERRORS as error:
                problem = (
                    f"the definition of {typename} in the bag cannot be used ({_short(error)})"
                )
            else:
                return store, ""
        if typename not in self._base.fielddefs:
            return None, problem
        return self._base, ""

    def _embedded(self, typename: str, encoding: str, schema: str) -> Typestore:
        if encoding in ("ros2idl", "omgidl"):
            parsed = get_types_from_idl(schema)
        else:
            parsed = get_types_from_msg(schema, typename)
        if all(self._agrees(name, definition) for name, definition in parsed.items()):
            return self._base
        store = Typestore()
        store.register(parsed)
        for name in self._base.fielddefs.keys() - store.fielddefs.keys():
            store.fielddefs[name] = self._base.fielddefs[name]
            store.types[name] = self._base.types[name]
        return store

    def _agrees(self, name: str, definition: tuple[Any, Any]) -> bool:
        ours = self._base.fielddefs.get(name)
        return ours is not None and list(ours[1]) == list(definition[1])


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__


# --- a message as data ---------------------------------------------------------------------------


def message(typename: str, data: Mapping[str, Any], store: Typestore | None = None) -> Any:
    """Fill a rosbags message from a nested dict.

    Missing fields get their ROS defaults. Numbers are cast to what the field is, and refused
    where that would change them; big byte fields may be bytes, a memoryview or an array and are
    not copied.

    Raises:
        ConfigError: unknown type or field, or a value that the field cannot hold.
    """
    store = store if store is not None else typestore()
    typename = normalise_type(typename)
    if typename not in store.fielddefs:
        raise ConfigError(
            f"There is no message type {typename}{_nearest(typename, store.fielddefs)}. "
            "Types outside ROS's common interfaces need their .msg text in the store."
        )
    return _fill(store, typename, data, typename)


def _fill(store: Typestore, typename: str, data: Any, where: str) -> Any:
    if getattr(data, "__msgtype__", None) == typename:
        return data
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where} must be a dict of {typename}'s fields, not {type(data).__name__}."
        )
    fields = [(name, desc) for name, desc in store.fielddefs[typename][1] if name != _EMPTY_FIELD]
    names = [name for name, _ in fields]
    for name in data:
        if name not in names:
            raise ConfigError(f"{where} has no field {name!r}{_nearest(str(name), names)}.")
    values = [
        _value(store, desc, data[name], f"{where}.{name}")
        if name in data
        else _default(store, typename, name, desc)
        for name, desc in fields
    ]
    if not fields:
        values = [0] * len(store.fielddefs[typename][1])
    return cast(Any, store.types[typename])(*values)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _default(store: Typestore, typename: str, name: str, desc: Any) -> Any:
    if (typename, name) in _DEFAULTS:
        return _DEFAULTS[typename, name]
    kind, content = desc
    if kind == Nodetype.BASE:
        return {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(content[0], 0)
    if kind == Nodetype.NAME:
        return _fill(store, content, {}, content)
    (inner_kind, inner), size = content
    count = size if kind == Nodetype.ARRAY else 0
    if inner_kind == Nodetype.NAME:
        return [_fill(store, inner, {}, inner) for _ in range(count)]
    return [""] * count if inner[0] == "string" else np.zeros(count, _dtype(inner[0]))


def _value(store: Typestore, desc: Any, value: Any, where: str) -> Any:
    kind, content = desc
    if kind == Nodetype.BASE:
        return _scalar(content, value, where)
    if kind == Nodetype.NAME:
        return _fill(store, content, value, where)
    (inner_kind, inner), size = content
    if inner_kind == Nodetype.NAME:
        filled: Any = [
            _fill(store, inner, item, f"{where}[{i}]")
            for i, item in enumerate(_items(value, where))
        ]
    elif inner[0] == "string":
        filled = [
            _scalar(inner, item, f"{where}[{i}]") for i, item in enumerate(_items(value, where))
        ]
    else:
        filled = _numbers(inner[0], value, where)
    if (kind == Nodetype.ARRAY and len(filled) != size) or (size and len(filled) > size):
        raise ConfigError(f"{where} has {len(filled)} elements; the field holds {size}.")
    return filled


def _items(value: Any, where: str) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)):
        raise ConfigError(f"{where} must be a list, not {type(value).__name__}.")
    try:
        return list(value)
    except TypeError as error:
        raise ConfigError(f"{where} must be a list, not {type(value).__name__}.") from error


def _scalar(base: tuple[str, int], value: Any, where: str) -> Any:
    name, limit = base
    if name == "string":
        if not isinstance(value, str) or (limit and len(value) > limit):
            raise ConfigError(f"{where} must be text{f' of at most {limit}' if limit else ''}.")
        return str.__str__(value)
    try:
        if name == "bool":
            number = operator.index(value)
            if number not in (0, 1):
                raise ValueError("not a truth value")
            return bool(number)
        if name.startswith("float"):
            if isinstance(value, (str, bytes)):
                raise TypeError("text is no number")
            return float(value)
        number = operator.index(value)
    except (TypeError, ValueError, OverflowError) as error:
        # numpy's own booleans are no integers to operator.index, and always right here.
        if name == "bool" and isinstance(value, np.bool_):
            return bool(value)
        raise ConfigError(f"{where} must be a {name}, not {value!r}.") from error
    limits = np.iinfo(_dtype(name))
    if not limits.min <= number <= limits.max:
        raise ConfigError(f"{where} = {number} is outside {name} ({limits.min}…{limits.max}).")
    return number


def _numbers(base: str, value: Any, where: str) -> np.ndarray[Any, np.dtype[Any]]:
    """``value`` as the one-dimensional array that rosbags wants; without a copy where it fits."""
    dtype = _dtype(base)
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return np.frombuffer(value, dtype=np.uint8).astype(dtype, casting="unsafe", copy=False)
        array = np.asarray(value).reshape(-1)
        if array.dtype == dtype:
            return array
        if array.size == 0:
            return np.zeros(0, dtype)
        if dtype.kind in "iu" and array.dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise ValueError(f"a value is outside {limits.min}…{limits.max}")
            return array.astype(dtype)
        return array.astype(dtype, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be an array of {base}: {error}.") from error


@lru_cache(maxsize=32)
def _dtype(base: str) -> np.dtype[Any]:
    return np.dtype({"byte": "uint8", "char": "uint8", "octet": "uint8"}.get(base, base))
