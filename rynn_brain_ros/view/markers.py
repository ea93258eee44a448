"""Groundings as visualization_msgs/MarkerArray, written as nested dicts with ROS's field names.

`ros/` fills the message classes from them, `bags/` the recording; nothing here needs ROS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rynn_brain_ros.values import (
    LiftedGrounding,
    LiftedPoint,
    Matrix3,
    Quaternion,
    Trajectory,
    Vector3,
)
from rynn_brain_ros.view.colors import Color, color_of
from rynn_brain_ros.view.shapes import label_texts

Fields = dict[str, Any]

_ARROW, _SPHERE, _LINE_STRIP, _SPHERE_LIST, _TEXT = 0, 2, 4, 7, 9  # Marker.ARROW and so on
_ADD, _DELETE_ALL = 0, 3
_CHI2_95_3D = 7.814727903251178  # squared radius that holds 95 % of a 3D normal distribution
_IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)
_ORIGIN: Vector3 = (0.0, 0.0, 0.0)


def marker_array(
    query_id: str,
    lifted: Sequence[LiftedGrounding],
    *,
    lifetime_s: float = 10.0,
    fixed_frame: bool = True,
    beside: int = 0,
) -> Fields:
    """A visualization_msgs/MarkerArray of everything in an answer that has a place in space.

    Its first marker deletes all of the topic: an answer takes the place of the one before, also
    where nothing of it has a place. One that was asked for at the same moment as others stands
    ``beside`` so many groundings of theirs: it deletes nothing, and its numbers go on after them.

    Markers stand in the fixed frame where the camera's pose is known and ``fixed_frame`` is
    true, else in the camera's optical frame; their stamp is always that of the image. In the
    fixed frame they are ``frame_locked``, so that a viewer keeps showing a place seen longer ago
    than its transform buffer reaches; in the camera's frame they stay where the camera was.

    Per grounding: its points, its uncertainty (the ellipsoid that holds 95 %), a text, and for a
    trajectory its line with an arrow. Refused ones are grey and say why. ``ns`` is
    ``<query id>/<kind>``, ids are unique in the array.
    """
    markers = [
        marker
        for index, item in enumerate(lifted, beside)
        if (place := _place(item, fixed_frame)) is not None
        for marker in _markers(query_id, index, item, place)
    ]
    seconds, fraction = divmod(round(lifetime_s * 1e9), 1_000_000_000)
    for number, marker in enumerate(markers, start=1):
        marker["id"] = number
        marker["lifetime"] = {"sec": seconds, "nanosec": fraction}
    return {"markers": markers if beside else [*delete_all()["markers"], *markers]}


def delete_all() -> Fields:
    """A MarkerArray that removes every marker of this topic from a viewer."""
    marker = _blank()
    marker["action"] = _DELETE_ALL
    return {"markers": [marker]}


@dataclass(frozen=True)
class _Place:
    """Where a grounding is: metres in ``frame_id``; ``points`` are (place, measured)."""

    frame_id: str
    stamp_ns: int
    locked: bool
    up: Vector3
    points: tuple[tuple[Vector3, bool], ...]
    target: Vector3
    covariance_m2: Matrix3 | None
    size_m: float


def _place(item: LiftedGrounding, fixed_frame: bool) -> _Place | None:
    points = item.points or ((item.target,) if item.target is not None else ())
    if item.frame is None or not points:
        return None
    target = item.target or points[0]
    known = item.fixed_frame_id and all(p.point_fixed_m is not None for p in (*points, target))
    fixed = fixed_frame and bool(known)
    xyz = [_xyz(point, fixed) for point in points]
    frame_id = item.fixed_frame_id if fixed else item.frame.frame.frame_id
    if not frame_id or not np.isfinite([*xyz, _xyz(target, fixed)]).all():
        return None
    covariance = target.covariance_fixed_m2 if fixed else target.covariance_camera_m2
    return _Place(
        frame_id=frame_id,
        stamp_ns=item.frame.frame.stamp_ns,
        locked=fixed,
        up=(0.0, 0.0, 1.0) if fixed else (0.0, -1.0, 0.0),
        points=tuple((p, not q.interpolated) for p, q in zip(xyz, points, strict=True)),
        target=_xyz(target, fixed),
        covariance_m2=covariance,
        # Far things are looked at from farther away.
        size_m=min(max(0.015 * math.dist(_ORIGIN, target.point_camera_m), 0.008), 0.08),
    )


def _xyz(point: LiftedPoint, fixed: bool) -> Vector3:
    if fixed and point.point_fixed_m is not None:
        return point.point_fixed_m
    return point.point_camera_m


def _markers(query_id: str, index: int, item: LiftedGrounding, place: _Place) -> Iterator[Fields]:
    refused = item.refusal is not None
    color, alpha = color_of(index, refused=refused), 0.5 if refused else 1.0
    seconds, nanoseconds = divmod(place.stamp_ns, 1_000_000_000)

    def marker(kind: int, scale: Sequence[float], opacity: float = alpha) -> Fields:
        fields = _blank()
        stamp = {"sec": seconds, "nanosec": nanoseconds}
        fields["header"] = {"stamp": stamp, "frame_id": place.frame_id}
        fields["ns"] = f"{query_id}/{item.grounding.kind}"
        fields["type"] = kind
        fields["scale"] = _vector(scale)
        fields["color"] = _rgba(color, opacity)
        fields["frame_locked"] = place.locked
        return fields

    size = place.size_m
    yield _points(marker(_SPHERE_LIST, [size] * 3), place, color, alpha)
    if isinstance(item.grounding, Trajectory):
        path = [p for i, (p, _) in enumerate(place.points) if not i or p != place.points[i - 1][0]]
        if len(path) > 1:
            line = marker(_LINE_STRIP, (0.4 * size, 0.0, 0.0))
            yield line | {"points": [_vector(p) for p in path]}
            arrow = marker(_ARROW, (0.5 * size, 1.2 * size, 1.5 * size))
            yield arrow | {"points": [_vector(p) for p in path[-2:]]}
    if place.covariance_m2 is not None and np.isfinite(place.covariance_m2).all():
        axes_m, rotation = _ellipsoid(place.covariance_m2)
        yield marker(_SPHERE, axes_m, 0.3 * alpha) | {"pose": _pose(place.target, rotation)}
    # RViz takes x for the width of a space; without, it is that of text one metre high.
    text = marker(_TEXT, (1.2 * size, 0.0, 2 * size))
    above = tuple(p + 2.5 * size * u for p, u in zip(place.target, place.up, strict=True))
    words = label_texts(item, index)[0].replace(" · ", ", ")  # RViz's font holds ASCII only
    yield text | {"pose": _pose(above, _IDENTITY), "text": words}


def _points(marker: Fields, place: _Place, color: Color, alpha: float) -> Fields:
    """One sphere, or a list of them in which points not measured are paler."""
    if len(place.points) == 1:
        return marker | {"type": _SPHERE, "pose": _pose(place.points[0][0], _IDENTITY)}
    return marker | {
        "points": [_vector(point) for point, _ in place.points],
        "colors": [_rgba(color, alpha if m else 0.4 * alpha) for _, m in place.points],
    }


def _ellipsoid(covariance_m2: Matrix3) -> tuple[tuple[float, ...], Quaternion]:
    """Full lengths of the 95 % ellipsoid's axes in metres, and their orientation."""
    matrix = np.array(covariance_m2).reshape(3, 3)
    variances, axes = np.linalg.eigh((matrix + matrix.T) / 2)
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # a rotation, not a mirror
    vector = cv2.Rodrigues(axes)[0].ravel()
    angle = float(np.linalg.norm(vector))
    x, y, z = (vector * (math.sin(angle / 2) / angle if angle else 0.0)).tolist()
    # RViz refuses a scale of zero, which a plane's covariance may well have.
    lengths = 2 * np.sqrt(_CHI2_95_3D * np.maximum(variances, 1e-10))
    return tuple(lengths.tolist()), (x, y, z, math.cos(angle / 2))


def _blank() -> Fields:
    """A visualization_msgs/Marker with every field of Humble to Lyrical at its default."""
    header = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""}
    return {
        "header": header,
        "ns": "",
        "id": 0,
        "type": _ARROW,
        "action": _ADD,
        "pose": _pose(_ORIGIN, _IDENTITY),
        "scale": _vector((0.0, 0.0, 0.0)),
        "color": _rgba((0, 0, 0), 0.0),
        "lifetime": {"sec": 0, "nanosec": 0},
        "frame_locked": False,
        "points": [],
        "colors": [],
        "texture_resource": "",
        "texture": {"header": header, "format": "", "data": []},
        "uv_coordinates": [],
        "text": "",
        "mesh_resource": "",
        "mesh_file": {"filename": "", "data": []},
        "mesh_use_embedded_materials": False,
    }


def _pose(position: Sequence[float], rotation: Quaternion) -> Fields:
    orientation = dict(zip("xyzw", rotation, strict=True))
    return {"position": _vector(position), "orientation": orientation}


def _vector(xyz: Sequence[float]) -> dict[str, float]:
    return {axis: float(value) for axis, value in zip("xyz", xyz, strict=True)}


def _rgba(color: Color, alpha: float) -> dict[str, float]:
    red, green, blue = (channel / 255 for channel in color)
    return {"r": red, "g": green, "b": blue, "a": alpha}
