"""From messages to numbers: selected fields, joints by their names, operators in their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.data.contract import JOINT_STATE, Operator, Source
from rynn_brain_ros.data.faults import FaultKind
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.messages import compressed_image_of, image_of, stamp_ns_of
from rynn_brain_ros.values import EncodedImage, ImageError

Floats = NDArray[np.float64]
RGB = NDArray[np.uint8]

GRIPPER_OUTSIDE = 0.15
"""A gripper's value may lie outside open…closed by this share: hands overshoot."""


class FieldError(Exception):
    """A message that does not hold what the contract selects."""

    def __init__(self, kind: FaultKind, text: str) -> None:
        super().__init__(text)
        self.kind, self.text = kind, text


def header_stamp_ns(message: Any) -> int:
    """Of its header; 0 where it has none or it was not set."""
    header = getattr(message, "header", None)
    return 0 if header is None else stamp_ns_of(header.stamp)


def selected(source: Source, message: Any) -> Floats:
    """The selected fields, float64 [n], as they were sent. Raises `FieldError`."""
    if source.channel.type == JOINT_STATE:
        values = _joints(message, source.select)
    else:
        values = [_field(message, path) for path in source.select]
    numbers = np.array(values, np.float64)
    if not np.isfinite(numbers).all():
        bad = [n for n, v in zip(source.select, values, strict=True) if not math.isfinite(v)]
        raise FieldError(FaultKind.NOT_FINITE, f"{', '.join(bad)} is not a finite number")
    return numbers


def encoded_image(source: Source, message: Any) -> EncodedImage:
    if source.channel.type.endswith("/CompressedImage"):
        return compressed_image_of(message)
    return image_of(message)


def pixels(source: Source, image: EncodedImage) -> RGB:
    """RGB, uint8 [H, W, 3], after the source's resize (area averaging where it shrinks).
    Raises `FieldError`."""
    try:
        rgb = decode_color(image)
    except ImageError as error:
        raise FieldError(FaultKind.UNREADABLE, str(error)) from error
    size = source.size
    if size is None or rgb.shape[:2] == size:
        return rgb
    method = cv2.INTER_AREA if size[0] <= rgb.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (size[1], size[0]), interpolation=method), np.uint8)


def applied(source: Source, values: Floats) -> Floats:
    """After gripper and operators. Raises `FieldError`."""
    gripper = source.gripper
    if gripper is not None:
        values = (values - gripper.closed) / (gripper.open - gripper.closed)
        if not -GRIPPER_OUTSIDE <= values[0] <= 1 + GRIPPER_OUTSIDE:
            raise FieldError(
                FaultKind.GRIPPER_RANGE,
                f"{source.select[0]} is at {values[0]:.2f} of its way from closed to open; check "
                "the gripper's open, closed and units",
            )
        values = np.clip(values, 0.0, 1.0)
    for operator in source.apply:
        values = _operated(operator, values)
    if not np.isfinite(values).all():
        text = f"{', '.join(source.select)}: what the contract applies leaves no finite numbers"
        raise FieldError(FaultKind.NOT_FINITE, text)
    return values


def _operated(operator: Operator, values: Floats) -> Floats:
    if operator.name == "rad2deg":
        return np.asarray(np.degrees(values), np.float64)
    if operator.name == "scale":
        return values * operator.numbers[0]
    low, high = operator.numbers
    return np.clip(values, low, high)


def _joints(message: Any, select: Sequence[str]) -> list[float]:
    names = list(message.name)
    values = []
    for path in select:
        column, _, joint = path.partition(".")
        numbers = getattr(message, column)
        if joint not in names or len(numbers) != len(names):
            raise FieldError(
                FaultKind.FIELD_MISSING,
                f"no {column} of {joint!r}; the message has {', '.join(names) or 'no joint'}",
            )
        values.append(float(numbers[names.index(joint)]))
    return values


def _field(message: Any, path: str) -> float:
    """``pose.position.x``, ``data.0``, ``transforms.1.transform.rotation.w``."""
    value = message
    for part in path.split("."):
        try:
            value = value[int(part)] if part.isdigit() else getattr(value, part)
        except (AttributeError, IndexError, TypeError) as error:
            raise FieldError(FaultKind.FIELD_MISSING, f"no field {path!r} ({error})") from error
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise FieldError(FaultKind.FIELD_MISSING, f"{path!r} is no number ({error})") from error
