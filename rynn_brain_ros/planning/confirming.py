"""``Done.`` is a claim. This is the separate look that believes it or not.

Nothing that the engine said is used here: the newest picture and its depth are compared with what
was planned. A thing that was put somewhere must be seen there, by its colours and at its height,
and no longer where it stood; a thing that was only taken must be gone from there and in the hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.config import setting
from rynn_brain_ros.geometry import DepthView, apply, invert, ray_grid, to_matrix
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.aftermath import handed_check, shift_check
from rynn_brain_ros.planning.appearance import Appearance
from rynn_brain_ros.planning.episode import Confirmation
from rynn_brain_ros.planning.holding import Doings, Put, Taken
from rynn_brain_ros.planning.pouring import pour_check
from rynn_brain_ros.planning.remeasuring import Shown
from rynn_brain_ros.values import Check, Refusal, RigidTransform, SelectedFrame, Vector3

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

_ON_M = 0.006
"""A thing on a support is seen at least this far above it."""


@dataclass(frozen=True)
class ConfirmConfig:
    """How much of a thing must be seen to believe that it is there."""

    min_share: float = setting(
        0.12, "share of a thing's expected picture that must be seen at its place", 0.01, 1.0
    )
    max_left_share: float = setting(
        0.3, "share of a thing's picture that may still be seen where it stood", 0.0, 1.0
    )
    slack_m: float = setting(0.02, "how far a thing may lie from its planned place [m]", 0.0, 0.2)
    shift_slack_m: float = setting(
        0.03, "how far off a thing may be that was pushed or pulled [m]", 0.001, 0.2
    )


class _Look:
    """One frame, opened: its depth, its colours, and how to look for a place in the base frame."""

    def __init__(
        self, view: DepthView, rgb: NDArray[np.uint8], T_base_camera: RigidTransform
    ) -> None:
        self.rgb = rgb
        self.shown = Shown(view, rgb, T_base_camera)
        self._depth_m = view.depth_m
        self._camera = view.camera
        self._T_camera_base = invert(T_base_camera)
        self._up, self._eye_z_m = to_matrix(T_base_camera)[2, :3], T_base_camera.translation_m[2]
        self._rays = ray_grid(view.camera)

    def near(self, middle: Vector3, radius_m: float, above_z_m: float = -math.inf) -> Mask:
        """Pixels that show a place within a radius and higher than ``above_z_m``. Only what has
        the right depth is measured, in the camera's frame, where distances are the same."""
        center = apply(self._T_camera_base, middle)[0]
        mask, window = np.zeros(self._depth_m.shape, bool), self._window(center, radius_m)
        depth_m = self._depth_m[window]
        near: Mask = (depth_m > 0) & (np.abs(depth_m - center[2]) <= radius_m)
        points = self._rays[window][near] * depth_m[near, None]
        within = np.linalg.norm(points - center, axis=1) <= radius_m
        near[near] = within & (points @ self._up + self._eye_z_m > above_z_m)
        mask[window] = near
        return mask

    def _window(self, center: Floats, radius_m: float) -> tuple[slice, slice]:
        """Rows and columns that can show a ball in the camera's frame: all of them where it
        reaches up to the lens, or the lens bends much."""
        camera, nearest_m = self._camera, center[2] - radius_m
        if nearest_m <= radius_m or camera.distortion:
            return slice(None), slice(None)
        corners = camera.project(
            [
                (*(center[:2] + s * radius_m), z)
                for s in (-1, 1)
                for z in (nearest_m, center[2] + radius_m)
            ]
        )
        (u0, v0), (u1, v1) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        across = slice(max(0, int(u0)), max(0, int(u1) + 1))
        return slice(max(0, int(v0)), max(0, int(v1) + 1)), across

    def showing(self, looks: Appearance, where: Mask) -> Mask:
        """Of the pixels ``where``, those that have a thing's colours."""
        u, v, width, height = cv2.boundingRect(where.view(np.uint8))
        window = (slice(v, v + height), slice(u, u + width))
        found = np.zeros(where.shape, bool)
        if width and height:
            found[window] = where[window] & looks.found_in(self.rgb[window])
        return found

    def expected_pixels(self, middle: Vector3, size_m: Vector3) -> float:
        """How many pixels a thing of this size covers from here, unhidden, about."""
        z = float(apply(self._T_camera_base, middle)[0, 2])
        across_m = math.sqrt(max(size_m[0] * size_m[2], size_m[0] * size_m[1]))
        return max(1.0, self._camera.fx * self._camera.fy * across_m**2 / max(z, 0.05) ** 2)


def confirm(
    doings: Doings,
    now: SelectedFrame,
    T_base_camera: RigidTransform | Refusal,
    config: ConfirmConfig,
    opened: OpenFrames,
) -> Confirmation:
    """Whether what was done is what is seen in ``now``, a frame taken after the last motion."""
    if doings.is_nothing:
        return Confirmation(False, "nothing was moved in this task, so there is nothing to confirm")
    look = _open(now, T_base_camera, opened)
    if isinstance(look, Refusal):
        return Confirmation(False, f"cannot look again: {look}")
    checks = [check for put in doings.put for check in _put_checks(look, put, doings, config)]
    checks += [
        shift_check(each, look.shown, config.shift_slack_m, config.min_share)
        for each in doings.shifted
    ]
    checks += [pour_check(each, look.shown) for each in doings.poured]
    for handed in doings.handed:
        checks.append(_left(look, handed.taken, (), config))
        checks.append(handed_check(handed, look.shown, config.max_left_share))
    if doings.held is not None and not doings.brought:
        checks.append(_left(look, doings.held, (), config))
    checks += [
        Check("thing that fell", False, "it fell out of the hand", "taken again")
        for _ in doings.fallen
    ]
    failed = [check for check in checks if not check.passed]
    if failed:
        texts = "; ".join(f"{c.name}: {c.found}, wanted {c.allowed}" for c in failed)
        return Confirmation(False, texts, tuple(checks))
    return Confirmation(True, "looked again: everything is where it was meant to go", tuple(checks))


def witness(
    doings: Doings,
    now: SelectedFrame,
    T_base_camera: RigidTransform | Refusal,
    config: ConfirmConfig,
    opened: OpenFrames,
) -> Doings:
    """The same, and what is seen at its place in ``now`` is noted: later things may hide it."""
    if all(put.seen for put in doings.put):
        return doings
    look = _open(now, T_base_camera, opened)
    if isinstance(look, Refusal):
        return doings
    put = tuple(
        replace(put, seen=put.seen or _share(look, put, config) >= config.min_share)
        for put in doings.put
    )
    return replace(doings, put=put)


def _open(
    now: SelectedFrame, T_base_camera: RigidTransform | Refusal, opened: OpenFrames
) -> _Look | Refusal:
    view = opened.depth(now)
    if isinstance(view, Refusal):
        return view
    if isinstance(T_base_camera, Refusal):
        return T_base_camera
    return _Look(view, opened.color(now), T_base_camera)


def _radius_m(put: Put, config: ConfirmConfig) -> float:
    return max(put.place.radius_m, max(put.taken.grasp.size_m) * 0.75) + config.slack_m


def _share(look: _Look, put: Put, config: ConfirmConfig) -> float:
    """Of the thing's expected picture, how much is seen about its place."""
    on_m = put.place.position_m[2] + _ON_M  # what fell beside a stack is near it, and lower
    there = look.near(put.middle_m, _radius_m(put, config), on_m)
    there = look.showing(put.taken.looks, there)
    return float(there.sum()) / look.expected_pixels(put.middle_m, put.taken.grasp.size_m)


def _put_checks(
    look: _Look, put: Put, doings: Doings, config: ConfirmConfig
) -> tuple[Check, Check]:
    share = _share(look, put, config)
    hidden = share < config.min_share and put.seen and doings.is_under_another(put)
    x, y, z = put.middle_m
    found = f"{share:.0%} of its picture seen there"
    arrived = Check(
        f"thing at ({x:.2f}, {y:.2f}, {z:.2f}) m",
        share >= config.min_share or hidden,
        f"{found}; it was seen before another was put over it" if hidden else found,
        f"at least {config.min_share:.0%}",
    )
    ignore = (put.middle_m, _radius_m(put, config))
    return arrived, _left(look, put.taken, ignore, config)


def _left(
    look: _Look, taken: Taken, ignore: tuple[()] | tuple[Vector3, float], config: ConfirmConfig
) -> Check:
    """The thing is no longer seen where it stood, ``ignore`` (where it is now) aside."""
    radius_m = max(taken.grasp.size_m) * 0.6
    still = look.showing(taken.looks, look.near(taken.from_m, radius_m))
    if ignore:
        still &= ~look.near(*ignore)
    share = float(still.sum()) / max(1, taken.looks.n_pixels)
    x, y, z = taken.from_m
    return Check(
        f"thing gone from ({x:.2f}, {y:.2f}, {z:.2f}) m",
        share <= config.max_left_share,
        f"{share:.0%} of its picture still there",
        f"at most {config.max_left_share:.0%}",
    )
