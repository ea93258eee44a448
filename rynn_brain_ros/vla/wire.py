"""What passes between a policy and those who ask it: msgpack, as openpi's client speaks it.

Written after openpi's ``packages/openpi-client`` and ``serving/websocket_policy_server.py`` (commit
15a9616): the server's first frame describes the policy; then each binary frame is one observation,
a map of str, and is answered by a map with ``actions`` [H, D], or by a text frame that says what
was wrong. Arrays are maps of bytes: ``__ndarray__``, ``data``, ``dtype``, ``shape``.

Our keys: ``observation/state`` [S], ``observation/images/<camera>`` uint8 [height, width, 3],
``prompt`` and, optional, ``step``, ``observation/target_point``, ``previous/actions`` [K, D] and
``previous/delay_steps``. Nothing that is read can run code: no pickle, no objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.normalization import statistics_from
from rynn_brain_ros.vla.values import Observation, PolicyError

PROTOCOL = "rynn_brain_ros/policy/1"
MAX_BYTES = 64 << 20
"""Of one message, in either direction: some ten uncompressed pictures in full HD."""
_STATE, _IMAGES, _TARGET = "observation/state", "observation/images/", "observation/target_point"
_PROMPT, _STEP = "prompt", "step"
_LEFT, _DELAY = "previous/actions", "previous/delay_steps"
_KINDS = "biuf"
_NUMBERS = re.compile(r"[<>|=]?[biuf][0-9]{1,2}")
"""numpy's names of such kinds; anything else would be read as a description of records."""


# --- bytes ---------------------------------------------------------------------------------------


def pack(record: Mapping[str, Any]) -> bytes:
    """Arrays and numpy's numbers become maps. Raises `PolicyError` for what has no place here."""
    try:
        return bytes(msgpack.packb(record, default=_to_map))
    except (TypeError, ValueError, OverflowError) as error:
        raise PolicyError(f"a message cannot be written: {error}") from error


def unpack(data: bytes) -> dict[str, Any]:
    """Of `pack`, or of openpi's. Arrays are read-only views. Raises `PolicyError`."""
    try:
        record = msgpack.unpackb(data, object_hook=_from_map)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise PolicyError(f"a message is not msgpack as openpi writes it: {error}") from error
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        raise PolicyError("a message must be one map whose keys are strings")
    return record


def _to_map(value: object) -> object:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} is neither plain nor an array")
    if value.dtype.kind not in _KINDS:
        raise TypeError(f"an array of {value.dtype} is not sent; only numbers are")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return {
        b"__ndarray__": True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }


def _from_map(record: dict[Any, Any]) -> object:
    if b"__ndarray__" in record:
        return _array(record)
    if b"__npgeneric__" in record:
        return _dtype(record.get(b"dtype")).type(record.get(b"data"))
    return record


def _array(record: dict[Any, Any]) -> np.ndarray[Any, Any]:
    dtype, data, shape = _dtype(record.get(b"dtype")), record.get(b"data"), record.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list):
        raise ValueError("an array without its data or shape")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array cannot have the shape {shape}")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are not an array of {dtype} and shape {shape}")
    array: np.ndarray[Any, Any] = np.frombuffer(data, dtype).reshape(shape)
    return array


def _dtype(name: object) -> np.dtype[Any]:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise ValueError(f"an array of {name!r} is not read; only numbers are")
    try:
        return np.dtype(name)
    except TypeError as error:
        raise ValueError(f"there is no array of {name!r}") from error


# --- what the bytes mean -------------------------------------------------------------------------


def metadata_of(spec: RuntimeSpec) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "horizon": spec.horizon,
        "statistics": spec.statistics.record(),
    }


def spec_from(metadata: Mapping[str, Any]) -> RuntimeSpec:
    """Raises `PolicyError` for a server that is not one of ours, or whose policy has no
    statistics."""
    said = metadata.get("protocol")
    if said != PROTOCOL:
        raise PolicyError(
            f"the server speaks {said!r} and not {PROTOCOL!r}: its first frame does not tell the "
            "cameras, names, units and rate of its policy; serve it with rynn_brain_ros"
        )
    statistics = statistics_from(metadata.get("statistics"), "the server's first frame")
    return RuntimeSpec(metadata.get("horizon", 0), statistics)


def request_of(observation: Observation, previous: Leftover | None) -> dict[str, Any]:
    record: dict[str, Any] = {_STATE: observation.state, _PROMPT: observation.instruction}
    record |= {_IMAGES + camera: image for camera, image in observation.images.items()}
    if observation.step:
        record[_STEP] = observation.step
    if observation.target_point:
        record[_TARGET] = np.array(observation.target_point)
    if previous is not None:
        record |= {_LEFT: previous.actions, _DELAY: previous.delay_steps}
    return record


def request_from(
    record: Mapping[str, Any], spec: RuntimeSpec
) -> tuple[Observation, Leftover | None]:
    """Checked against the policy. Raises `PolicyError` that names the key."""
    state = _finite(_STATE, _numbers(record, _STATE, (len(spec.state_names),)))
    images = {camera: _image(record, _IMAGES + camera) for camera in spec.cameras}
    target = np.empty(0)
    if _TARGET in record:
        target = _finite(_TARGET, _numbers(record, _TARGET, (None,)))
    observation = Observation(
        images, state, _words(record, _PROMPT), _words(record, _STEP), tuple(target.tolist())
    )
    if _LEFT not in record:
        return observation, None
    delay_steps = record.get(_DELAY)
    if type(delay_steps) is not int or delay_steps < 0:
        raise PolicyError(f"{_DELAY} is {delay_steps!r}; it must be a count of steps")
    left = _finite(_LEFT, _numbers(record, _LEFT, (None, spec.n_dims)))
    return observation, Leftover(left, delay_steps)


def chunk_from(answer: Mapping[str, Any], spec: RuntimeSpec) -> Chunk:
    """[H, D]; whether it is finite is for whoever moves. Raises `PolicyError`."""
    return _numbers(answer, "actions", (spec.horizon, spec.n_dims))


def _numbers(record: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> Chunk:
    value = record.get(key)
    if not isinstance(value, np.ndarray):
        raise PolicyError(f"{key} is missing or not an array; given are {_keys(record)}")
    right = len(value.shape) == len(shape) and all(
        wanted in (None, given) for wanted, given in zip(shape, value.shape, strict=True)
    )
    if not right:
        told = ", ".join("any" if n is None else str(n) for n in shape)
        raise PolicyError(f"{key} has the shape {list(value.shape)}; it must be [{told}]")
    return value.astype(np.float64)


def _finite(key: str, numbers: Chunk) -> Chunk:
    """A policy would answer what is not finite with more of it."""
    if not np.isfinite(numbers).all():
        raise PolicyError(f"{key} holds numbers that are not finite; send what was measured")
    return numbers


def _image(record: Mapping[str, Any], key: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    value = record.get(key)
    if not isinstance(value, np.ndarray):
        raise PolicyError(f"the camera {key} is missing; given are {_keys(record)}")
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise PolicyError(
            f"{key} is {value.dtype} {list(value.shape)}; it must be RGB, uint8 [height, width, 3]"
        )
    return value


def _words(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key, "")
    if not isinstance(value, str):
        raise PolicyError(f"{key} must be text, not {type(value).__name__}")
    return value


def _keys(record: Mapping[str, Any]) -> str:
    return ", ".join(sorted(record)) or "none"
