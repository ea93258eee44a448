"""Tables set at random: no two alike, nothing hidden, room for a hand between the things."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import DepthNoise
from rynn_brain_ros.sim.objects import PAINT, THING_GROUP, foot_radius_m
from rynn_brain_ros.sim.rendering import SceneRenderer, load_mujoco
from rynn_brain_ros.sim.table_scene import (
    FRONT_EYE_M,
    FRONT_TARGET_M,
    Look,
    TableScene,
    look_at,
    ready_data,
    scene_spec,
)
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import InputError, RigidTransform, Vector3

Kind = tuple[str, str]
"""A colour and a shape."""

X_M, Y_M = (0.35, 0.65), (-0.33, 0.33)
"""Where things stand: within the arm's comfortable reach."""
GAP_M = 0.05
"""Between any two things, for a finger and what it is off by; tall things keep `TALL_GAP_M`."""
TALL_GAP_M = 0.075
TALL_M = 0.06
"""Higher than this, a thing may touch the hand's palm while the fingers grip its neighbour."""
MIN_VISIBLE = 0.6
MIN_VISIBLE_PX = 60
"""Of 320 × 240."""
_LOOK_PX = (320, 240)
_ATTEMPTS = 60
_SPOTS = 200
_GRIPPABLE = ("cube", "ball", "cylinder")
_TABLES: tuple[tuple[Vector3, Vector3], ...] = (
    ((0.62, 0.56, 0.49), (0.57, 0.51, 0.45)),
    ((0.70, 0.69, 0.66), (0.64, 0.63, 0.61)),
    ((0.48, 0.49, 0.51), (0.44, 0.45, 0.47)),
    ((0.55, 0.50, 0.46), (0.49, 0.45, 0.41)),
    ((0.75, 0.72, 0.67), (0.71, 0.68, 0.64)),
)


def random_scene(
    seed: int,
    wanted: Sequence[Kind] | None = None,
    n_clutter: int = 2,
    clutter: Sequence[str] = (*_GRIPPABLE, "mug"),
    small: bool = False,
) -> TableScene:
    """A table with the ``wanted`` things, in their order, and ``n_clutter`` others of shapes from
    ``clutter``, in colours that nothing else has; light, table and camera vary too.

    Without ``wanted``: two things to grip, a bowl and a plate. ``small`` makes the things to grip
    small, so that several go into one bowl. A second thing of the same kind is called
    ``red cube 2``. Each thing is visible to the front camera by `MIN_VISIBLE`. `InputError` when
    the table cannot hold so many.
    """
    rng = np.random.default_rng(seed)
    look, T_base_front, noise = _random_look(rng), _random_front(rng), _random_noise(rng)
    kinds = list(_random_kinds(rng) if wanted is None else wanted)
    kinds += _clutter(rng, kinds, n_clutter, clutter)
    things = [
        Thing(name, color, shape, (0.0, 0.0), _random_size(rng, shape, small))
        for name, (color, shape) in zip(_names(kinds), kinds, strict=True)
    ]
    for _ in range(_ATTEMPTS):
        placed = _placed(rng, things)
        if placed is not None:
            scene = TableScene(placed, T_base_front, look, noise, seed)
            if all_visible(scene):
                return scene
    raise InputError(
        f"no room for {len(things)} things on the table, each visible and with {GAP_M} m around; "
        "ask for fewer"
    )


def _random_kinds(rng: np.random.Generator) -> list[Kind]:
    colors = [str(color) for color in rng.permutation(list(PAINT))]
    shapes = [str(shape) for shape in rng.choice(_GRIPPABLE, 2)]
    return list(zip(colors, (*shapes, "bowl", "plate"), strict=False))


def _clutter(
    rng: np.random.Generator, kinds: Sequence[Kind], count: int, shapes: Sequence[str]
) -> list[Kind]:
    taken = {color for color, _ in kinds}
    free = [str(color) for color in rng.permutation(list(PAINT)) if color not in taken]
    return [(color, str(rng.choice(list(shapes)))) for color in free[:count]]


def _names(kinds: Sequence[Kind]) -> Iterator[str]:
    for index, (color, shape) in enumerate(kinds):
        before = list(kinds[:index]).count((color, shape))
        yield f"{color} {shape}" + (f" {before + 1}" if before else "")


def _random_size(rng: np.random.Generator, shape: str, small: bool) -> Vector3:
    """Millimetre steps; what is to be gripped is 3.5 to 5 cm wide."""

    def between(low_mm: int, high_mm: int) -> float:
        return float(rng.integers(low_mm, high_mm + 1)) / 1000

    if shape in _GRIPPABLE:
        width = between(35, 38) if small else between(37, 50)
        return (width, width, width if shape != "cylinder" else between(55, 75))
    if shape == "mug":
        return (0.068, 0.068, between(70, 80))
    width = between(155, 170)
    return (width, width, 0.05 if shape == "bowl" else 0.014)


def _placed(rng: np.random.Generator, things: Sequence[Thing]) -> tuple[Thing, ...] | None:
    """At random, the widest first; ``None`` where they did not fit this time."""
    standing: dict[str, Thing] = {}
    for thing in sorted(things, key=lambda thing: -foot_radius_m(thing)):
        spot = _spot(rng, thing, list(standing.values()))
        if spot is None:
            return None
        standing[thing.name] = spot
    return tuple(standing[thing.name] for thing in things)


def _spot(rng: np.random.Generator, thing: Thing, others: Sequence[Thing]) -> Thing | None:
    for _ in range(_SPOTS):
        xy = (float(rng.uniform(*X_M)), float(rng.uniform(*Y_M)))
        here = replace(thing, xy_m=xy, yaw_rad=float(rng.uniform(-math.pi, math.pi)))
        if all(_apart(here, other) for other in others):
            return here
    return None


def _apart(a: Thing, b: Thing) -> bool:
    tall = max(a.size_m[2], b.size_m[2]) > TALL_M
    gap = math.dist(a.xy_m, b.xy_m) - foot_radius_m(a) - foot_radius_m(b)
    return gap >= (TALL_GAP_M if tall else GAP_M)


def _random_look(rng: np.random.Generator) -> Look:
    return Look(
        _TABLES[int(rng.integers(len(_TABLES)))],
        str(rng.choice(("flat", "checker", "gradient"))),
        (float(rng.uniform(0.1, 1.2)), float(rng.uniform(-1.2, 1.2)), float(rng.uniform(1.8, 2.6))),
        lamp=float(rng.uniform(0.35, 0.6)),
        room=float(rng.uniform(0.32, 0.45)),
    )


def _random_front(rng: np.random.Generator) -> RigidTransform:
    """Some centimetres and degrees off."""
    eye = rng.uniform(-0.03, 0.03, 3) + FRONT_EYE_M
    target = rng.uniform(-0.03, 0.03, 3) + FRONT_TARGET_M
    return look_at(_vector(eye), _vector(target), float(rng.uniform(-0.03, 0.03)))


def _random_noise(rng: np.random.Generator) -> DepthNoise:
    """From a good depth camera to a tired one."""
    scale = float(rng.uniform(0.6, 1.3))
    usual = DepthNoise()
    return replace(usual, floor_m=usual.floor_m * scale, growth_per_m=usual.growth_per_m * scale)


def _vector(values: Any) -> Vector3:
    x, y, z = map(float, values)
    return (x, y, z)


# --- is everything seen? --------------------------------------------------------------------------


def all_visible(scene: TableScene) -> bool:
    """To the front camera with the arm at READY: each thing wholly inside the picture, and by
    `MIN_VISIBLE` and `MIN_VISIBLE_PX`."""
    return all(
        view.fraction >= MIN_VISIBLE and view.pixels >= MIN_VISIBLE_PX and view.inside
        for view in visibility(scene).values()
    )


@dataclass(frozen=True)
class Visibility:
    """What the front camera sees of a thing: in how many pixels of 320 × 240, what share that is
    of what it would see if there were nothing else, and whether it is clear of the border."""

    pixels: int
    fraction: float
    inside: bool


def visibility(scene: TableScene) -> dict[str, Visibility]:
    """Of each thing, with the arm at READY."""
    model = scene_spec(scene, *_LOOK_PX).compile()
    renderer = SceneRenderer(model, *_LOOK_PX)
    data = ready_data(model)
    names = [thing.name for thing in scene.things]
    try:
        seen = {name: _mask(model, data, renderer, name) for name in names}
        alone = {
            name: _mask(model, _without(names, name, model, data), renderer, name, (THING_GROUP,))
            for name in names
        }
    finally:
        renderer.close()
    return {
        name: Visibility(
            int(seen[name].sum()),
            float(seen[name].sum() / max(1, alone[name].sum())),
            not _touches_border(alone[name]),
        )
        for name in names
    }


def _without(names: Sequence[str], kept: str, model: Any, data: Any) -> Any:
    """A copy of ``data`` in which all things but one are far below."""
    mj = load_mujoco()
    alone = mj.MjData(model)
    alone.qpos[:] = data.qpos
    for name in names:
        if name != kept:
            alone.joint(name).qpos[2] -= 50.0
    mj.mj_forward(model, alone)
    return alone


def _mask(
    model: Any,
    data: Any,
    renderer: SceneRenderer,
    name: str,
    groups: Sequence[int] | None = None,
) -> NDArray[np.bool_]:
    geoms = renderer.geoms_seen(data, "front", groups)
    owner = np.append(model.geom_bodyid, -1)  # −1, no geom, is nobody's
    return np.asarray(owner[geoms] == model.body(name).id, np.bool_)


def _touches_border(mask: NDArray[np.bool_]) -> bool:
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
