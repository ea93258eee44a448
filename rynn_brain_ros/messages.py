"""Values ↔ ROS messages, written once and without ROS.

A message to be sent is a nested dict with the fields of its ``.msg``: ``ros/`` fills the real
classes from it, ``bags/`` the types of rosbags. A message received is any object with the fields
of its ``.msg``: those of rclpy and of rosbags both serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import zip_longest
from typing import Any

import numpy as np

from rynn_brain_ros.values import (
    Affordance,
    AnyGrounding,
    Area,
    Box,
    Box3D,
    CameraInfo,
    ContactPoint,
    Count,
    EncodedImage,
    Flag,
    Frame,
    GraspRectangle,
    LiftedGrounding,
    LiftedPoint,
    Matrix3,
    NoGrounding,
    Point2,
    Refusal,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Trajectory,
    Vector3,
)

MessageDict = dict[str, Any]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
PATH = "nav_msgs/msg/Path"
GROUNDING_ARRAY = "rynn_brain_ros/msg/GroundingArray"

_KINDS = {
    "no_grounding": 0,
    "object": 1,
    "area": 2,
    "affordance": 3,
    "trajectory": 4,
    "grasp_rectangle": 5,
    "contact_point": 6,
    "count": 7,
    "box_3d": 8,
}


class StepState(IntEnum):
    """The ``STATE_*`` of a rynn_brain_ros/PlanStep."""

    PROPOSED = 0
    APPROVED = 1
    RUNNING = 2
    DONE = 3
    REFUSED = 4
    FAILED = 5
    CANCELLED = 6


GOES_WELL = (StepState.PROPOSED, StepState.APPROVED, StepState.RUNNING, StepState.DONE)
"""In every other state, known or not, a step is given up."""

_NS = 1_000_000_000
_NOWHERE: Vector3 = (math.nan, math.nan, math.nan)
_NAN_COVARIANCE = [math.nan] * 9
_UNKNOWN: Matrix3 = (math.nan,) * 9
_CLASSES: Mapping[int, type[AnyGrounding]] = {
    0: NoGrounding,
    1: Box,
    2: Area,
    3: Affordance,
    4: Trajectory,
    5: GraspRectangle,
    6: ContactPoint,
    7: Count,
    8: Box3D,
}
"""By `_KINDS`."""


# --- received ----------------------------------------------------------------------------------


def stamp_ns_of(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * _NS + int(stamp.nanosec)


def image_of(message: Any) -> EncodedImage:
    """An `EncodedImage` over the bytes of a sensor_msgs/Image, not copied."""
    return EncodedImage(
        encoding=str(message.encoding),
        data=memoryview(message.data).cast("B"),
        width=int(message.width),
        height=int(message.height),
        step=int(message.step),
        is_bigendian=bool(message.is_bigendian),
    )


def compressed_image_of(message: Any) -> EncodedImage:
    """An `EncodedImage` over the bytes of a sensor_msgs/CompressedImage, not copied."""
    data = memoryview(message.data).cast("B")
    return EncodedImage(encoding=str(message.format), data=data, compressed=True)


def camera_info_of(message: Any) -> CameraInfo:
    """Of the picture as it is published: a message tells the full sensor, and beside it which part
    (``roi``) is shown how much smaller (``binning``), as sensor_msgs/CameraInfo defines them."""
    k, p, r = _floats(message.k), _floats(message.p), _floats(message.r)
    roi, bins = message.roi, (max(1, message.binning_x), max(1, message.binning_y))
    corner_px = float(roi.x_offset), float(roi.y_offset)
    return CameraInfo(
        width=int(roi.width or message.width) // bins[0],
        height=int(roi.height or message.height) // bins[1],
        k=_shown(k, corner_px, bins),  # type: ignore[arg-type]  # nine numbers by its definition
        d=_floats(message.d),
        distortion_model=str(message.distortion_model) or "plumb_bob",
        r=r,  # type: ignore[arg-type]
        p=_shown(p, corner_px, bins),
        frame_id=str(message.header.frame_id),
    )


def _shown(
    rows: tuple[float, ...], corner_px: tuple[float, float], bins: tuple[int, int]
) -> tuple[float, ...]:
    """A 3×3 or 3×4 projection onto a part that begins at ``corner_px``, ``bins`` times smaller."""
    projection = np.array(rows, np.float64).reshape(3, -1)
    for axis in range(2):
        projection[axis] = (projection[axis] - corner_px[axis] * projection[2]) / bins[axis]
    return tuple(projection.ravel().tolist())


def transforms_of(message: Any) -> tuple[RigidTransform, ...]:
    """The transforms of a tf2_msgs/TFMessage. Leading slashes of old frame names are dropped."""
    return tuple(
        RigidTransform(
            parent=str(t.header.frame_id).lstrip("/"),
            child=str(t.child_frame_id).lstrip("/"),
            translation_m=_xyz(t.transform.translation),
            rotation_xyzw=(*_xyz(t.transform.rotation), float(t.transform.rotation.w)),
            stamp_ns=stamp_ns_of(t.header.stamp),
        )
        for t in message.transforms
    )


def groundings_of(message: Any) -> tuple[LiftedGrounding, ...]:
    """The groundings of a rynn_brain_ros/GroundingArray that are part of its answer, for a viewer:
    of their frames only camera, stamp and frame id are known."""
    return tuple(lifted_of(item) for item in message.groundings if not item.reasoning)


def is_of_known_kind(message: Any) -> bool:
    """Whether a rynn_brain_ros/Grounding is of a kind that this version knows."""
    return not _unknown_kind(message)


def _unknown_kind(message: Any) -> str:
    """The words for a kind that only a newer brain knows; empty for all others."""
    kind = int(message.kind)
    return "" if kind in _CLASSES else f"unknown kind {kind}"


def lifted_of(message: Any) -> LiftedGrounding:
    """A rynn_brain_ros/Grounding as it was told by `grounding`. One of a kind that only a newer
    brain knows is a `NoGrounding` that says so."""
    target = _target_of(message) if message.lifted else None
    points_px = _pixels_of(message.points_px)
    kind = _CLASSES.get(int(message.kind), NoGrounding)
    pixels = points_px if kind in (Area, Trajectory) else [target.pixel] if target else ()
    spots = zip_longest(pixels, message.points, message.points_fixed, message.measured)
    points = tuple(
        LiftedPoint(
            pixel,
            _xyz(spot),
            _UNKNOWN,
            _xyz(fixed) if fixed is not None else None,
            interpolated=not measured,
        )
        for pixel, spot, fixed, measured in spots
        if spot is not None and math.isfinite(spot.x)
    )
    return LiftedGrounding(
        _grounding_of(message, kind),
        _frame_of(message) if message.camera else None,
        points_px,
        points,
        target,
        str(message.fixed_frame_id),
        refusal=_refusal_of(message),
        confidence=float(message.confidence),
    )


def _grounding_of(message: Any, kind: type[AnyGrounding]) -> AnyGrounding:
    points = _pixels_of(message.points_norm)
    frame = None if message.frame_index < 0 else int(message.frame_index)
    # Which flag it was is not told, only that there was one.
    unknown = _unknown_kind(message)
    flags = frozenset((Flag.TRUNCATED,) if unknown or not message.actionable else ())
    told = kind(frame, points, (0, 0), kind.kind, flags, str(message.label))
    if isinstance(told, NoGrounding) and unknown:
        return replace(told, reason=unknown)
    if isinstance(told, ContactPoint):
        return replace(told, angle_deg=math.degrees(message.angle))
    return replace(told, count=int(message.count)) if isinstance(told, Count) else told


def _frame_of(message: Any) -> SelectedFrame:
    stamp_ns, frame_id = stamp_ns_of(message.header.stamp), str(message.header.frame_id)
    frame = Frame(str(message.camera), stamp_ns, frame_id, EncodedImage("", b""))
    return SelectedFrame(frame, b"", "", "", 0, 0)


def _target_of(message: Any) -> LiftedPoint:
    return LiftedPoint(
        (float(message.target_px.x), float(message.target_px.y)),
        _xyz(message.point),
        _floats(message.covariance),  # type: ignore[arg-type]  # nine numbers by definition
        _xyz(message.point_fixed) if message.fixed else None,
        _floats(message.covariance_fixed) if message.fixed else None,  # type: ignore[arg-type]
    )


def _refusal_of(message: Any) -> Refusal | None:
    code, text = str(message.refusal_code), str(message.refusal_text)
    told = f"{code}: {text}" if code else ""
    if unknown := _unknown_kind(message):
        return Refusal(RefusalCode.UNKNOWN, "; ".join(filter(None, (unknown, told))))
    if not code:
        return None
    if code not in {each.value for each in RefusalCode}:
        return Refusal(RefusalCode.UNKNOWN, f"unknown refusal {told}")
    return Refusal(RefusalCode(code), text)


def _pixels_of(points: Iterable[Any]) -> tuple[Point2, ...]:
    return tuple((float(point.x), float(point.y)) for point in points)


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _xyz(vector: Any) -> Vector3:
    return (float(vector.x), float(vector.y), float(vector.z))


# --- to be sent --------------------------------------------------------------------------------


def stamp(stamp_ns: int) -> MessageDict:
    return {"sec": stamp_ns // _NS, "nanosec": stamp_ns % _NS}


def header(stamp_ns: int, frame_id: str) -> MessageDict:
    return {"stamp": stamp(stamp_ns), "frame_id": frame_id}


def point(xyz: Vector3) -> MessageDict:
    return {"x": float(xyz[0]), "y": float(xyz[1]), "z": float(xyz[2])}


def image(encoded: EncodedImage, stamp_ns: int, frame_id: str) -> tuple[str, MessageDict]:
    """The message type and fields that an `EncodedImage` arrived as."""
    if encoded.compressed:
        return COMPRESSED_IMAGE, {
            "header": header(stamp_ns, frame_id),
            "format": encoded.encoding,
            "data": encoded.data,
        }
    return IMAGE, {
        "header": header(stamp_ns, frame_id),
        "height": encoded.height,
        "width": encoded.width,
        "encoding": encoded.encoding,
        "is_bigendian": int(encoded.is_bigendian),
        "step": encoded.step,
        "data": encoded.data,
    }


def camera_info(info: CameraInfo, stamp_ns: int) -> MessageDict:
    return {
        "header": header(stamp_ns, info.frame_id),
        "height": info.height,
        "width": info.width,
        "distortion_model": info.distortion_model,
        "d": list(info.d),
        "k": list(info.k),
        "r": list(info.r),
        "p": list(info.p) or [*info.k[:3], 0.0, *info.k[3:6], 0.0, *info.k[6:], 0.0],
    }


def transform_stamped(transform: RigidTransform) -> MessageDict:
    x, y, z, w = transform.rotation_xyzw
    return {
        "header": header(transform.stamp_ns, transform.parent),
        "child_frame_id": transform.child,
        "transform": {
            "translation": point(transform.translation_m),
            "rotation": {"x": x, "y": y, "z": z, "w": w},
        },
    }


def tf_message(transforms: Iterable[RigidTransform]) -> MessageDict:
    return {"transforms": [transform_stamped(transform) for transform in transforms]}


def grounding_array(response: Response) -> MessageDict:
    """rynn_brain_ros/GroundingArray: every grounding of an answer, reasoning ones marked."""
    query, answer = response.query, response.answer
    now = query.frames[-1].frame if len(query.frames) else None
    return {
        "header": header(now.stamp_ns, now.frame_id) if now else header(0, ""),
        "query_id": query.query_id,
        "task": query.task.value,
        "question": query.instruction,
        "answer": answer.text,
        "engine": answer.engine,
        "model": answer.model,
        "groundings": [
            *(grounding(lifted, query.query_id, True) for lifted in response.reasoning),
            *(grounding(lifted, query.query_id, False) for lifted in response.lifted),
        ],
    }


def thought(
    query_id: str,
    sequence: int,
    stamp_ns: int,
    *,
    text: str = "",
    reasoning: bool = False,
    groundings: Sequence[MessageDict] = (),
    final: bool = False,
) -> MessageDict:
    """rynn_brain_ros/Thought."""
    return {
        "header": header(stamp_ns, ""),
        "query_id": query_id,
        "sequence": sequence,
        "final": final,
        "reasoning": reasoning,
        "text": text,
        "groundings": list(groundings),
    }


def grounding(lifted: LiftedGrounding, query_id: str, reasoning: bool) -> MessageDict:
    """rynn_brain_ros/Grounding."""
    item, target = lifted.grounding, lifted.target
    frame = lifted.frame.frame if lifted.frame is not None else None
    fixed = target is not None and target.point_fixed_m is not None
    refusal = lifted.refusal
    return {
        "header": header(frame.stamp_ns, frame.frame_id) if frame else header(0, ""),
        "query_id": query_id,
        "kind": _KINDS[item.kind],
        "label": item.label,
        "camera": frame.camera if frame else "",
        "frame_index": -1 if item.frame is None else item.frame,
        "reasoning": reasoning,
        "actionable": item.actionable and not reasoning,
        "points_norm": _planar(item.points),
        "points_px": _planar(lifted.points_px),
        "angle": _angle_rad(item),
        "count": item.count if isinstance(item, Count) else -1,
        "lifted": target is not None,
        "target_px": point((*target.pixel, 0.0) if target else _NOWHERE),
        "point": point(target.point_camera_m if target else _NOWHERE),
        "covariance": list(target.covariance_camera_m2) if target else _NAN_COVARIANCE,
        "points": [point(p.point_camera_m if p else _NOWHERE) for p in lifted.aligned_points],
        "fixed": fixed,
        "fixed_frame_id": lifted.fixed_frame_id if fixed else "",
        "point_fixed": point((target and target.point_fixed_m) or _NOWHERE),
        "covariance_fixed": list((target and target.covariance_fixed_m2) or _NAN_COVARIANCE),
        "points_fixed": [
            point((p and p.point_fixed_m) or _NOWHERE) for p in lifted.aligned_points if fixed
        ],
        "measured": [p is not None and not p.interpolated for p in lifted.aligned_points],
        "confidence": float(lifted.confidence),
        "refusal_code": refusal.code.value if refusal else "",
        "refusal_text": refusal.text if refusal else "",
    }


def _planar(points: Iterable[Point2]) -> list[MessageDict]:
    return [point((x, y, 0.0)) for x, y in points]


def _angle_rad(item: AnyGrounding) -> float:
    return math.radians(item.angle_deg) if isinstance(item, ContactPoint) else math.nan


def place_of(lifted: LiftedGrounding, spot: LiftedPoint, frame: Frame) -> tuple[str, Vector3]:
    """The best known frame of a lifted point and its coordinates there, metres."""
    if spot.point_fixed_m is not None:
        return lifted.fixed_frame_id, spot.point_fixed_m
    return frame.frame_id, spot.point_camera_m


def target_pose(lifted: LiftedGrounding) -> MessageDict | None:
    """geometry_msgs/PoseStamped of the target at the image's stamp; its orientation is the
    frame's own (a point has none). ``None`` without a target, or in a frame without a name."""
    if lifted.target is None or lifted.frame is None:
        return None
    frame = lifted.frame.frame
    frame_id, xyz = place_of(lifted, lifted.target, frame)
    return _pose_stamped(frame.stamp_ns, frame_id, xyz) if frame_id else None


def path(lifted: LiftedGrounding) -> MessageDict | None:
    """nav_msgs/Path of a lifted trajectory at the image's stamp, else ``None``; so in a frame
    without a name."""
    is_path = isinstance(lifted.grounding, Trajectory) and lifted.points
    if not is_path or lifted.frame is None:
        return None
    frame = lifted.frame.frame
    places = [place_of(lifted, spot, frame) for spot in lifted.points]
    if not all(frame_id for frame_id, _ in places):
        return None
    return {
        "header": header(frame.stamp_ns, places[0][0]),
        "poses": [_pose_stamped(frame.stamp_ns, frame_id, xyz) for frame_id, xyz in places],
    }


def _pose_stamped(stamp_ns: int, frame_id: str, xyz: Vector3) -> MessageDict:
    return {
        "header": header(stamp_ns, frame_id),
        "pose": {
            "position": point(xyz),
            "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
        },
    }


def compressed_image(data: bytes, format_: str, stamp_ns: int, frame_id: str) -> MessageDict:
    return {"header": header(stamp_ns, frame_id), "format": format_, "data": data}
