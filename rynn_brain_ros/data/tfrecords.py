"""BridgeData V2 as RLDS keeps it, without TensorFlow: TFRecord files of tf.train.Example.

A record is length (u64), its masked CRC-32C (u32), the payload, the payload's CRC (u32). An
Example is protobuf: ``features{feature{key, value{bytes_list|float_list|int64_list}}}``. Sources:
tensorflow/core/lib/io/record_writer.h, tensorflow/core/example/feature.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import InputError

Values = list[bytes] | NDArray[np.float32] | NDArray[np.int64]
Example = dict[str, Values]

_MAX_RECORD = 1 << 30
_BYTES, _FLOATS, _INTS = 1, 2, 3


def examples(path: Path) -> Iterator[Example]:
    """Every record of a file. Raises `InputError` for one that is cut or no Example."""
    try:
        with path.open("rb") as file:
            while header := file.read(12):
                if len(header) < 12:
                    raise InputError(f"{path} is cut in the middle of a record")
                (length,) = struct.unpack_from("<Q", header)
                payload = file.read(length) if length <= _MAX_RECORD else b""
                if len(payload) != length or len(file.read(4)) != 4:
                    raise InputError(f"{path} is cut in the middle of a record")
                yield _example(payload)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except (IndexError, ValueError, struct.error) as error:
        raise InputError(f"{path} holds a record that is no tf.train.Example: {error}") from error


def _example(payload: bytes) -> Example:
    found: Example = {}
    for _, features in _fields(payload):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            found[parts[1].decode()] = _values(parts[2])
    return found


def _values(feature: bytes) -> Values:
    for kind, content in _fields(feature):
        if kind == _BYTES:
            return [value for _, value in _fields(content)]
        packed = b"".join(value for _, value in _fields(content))
        if kind == _FLOATS:
            return np.frombuffer(packed, "<f4").astype(np.float32)
        return np.array(list(_varints(packed)), np.int64)
    return []


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of a message's fields; those of 32 bits and varints as their bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        if tag & 7 == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("a field is longer than its message")
        elif tag & 7 == 5:
            length = 4
        elif tag & 7 == 0:
            _, end = _varint(data, place)
            length = end - place
        else:
            raise ValueError(f"wire type {tag & 7} is not known")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value - (1 << 64) if value >= 1 << 63 else value
