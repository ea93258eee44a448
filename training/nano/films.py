"""Films of a table on which things come, go and are moved: what a frame buffer holds.

`PER_FILM` pictures of each table, the oldest first. A thing that is gone is in no picture's list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from rynn_brain_ros.sim.objects import PAINT, SHAPES
from rynn_brain_ros.sim.table_layout import X_M, Y_M, random_scene
from rynn_brain_ros.sim.table_scene import TableScene
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import InputError, Point2
from training.nano.pictures import Pose, TablePicture, pictures_of, random_table

PER_FILM = 8
_EPISODES = 0.7
"""How many tables are set as episodes set them, the others wildly."""
_GAP_M = 0.1
"""From a moved thing to any other's middle."""


def film_pictures(seed: int) -> Iterator[TablePicture]:
    """Without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        scene = random_table(rng) if rng.random() > _EPISODES else _episode_table(rng)
        if scene is not None and scene.things:
            yield from pictures_of(scene, _poses(scene, rng), rng)


def _episode_table(rng: np.random.Generator) -> TableScene | None:
    kinds = [(str(color), str(rng.choice(SHAPES))) for color in rng.permutation(list(PAINT))]
    try:
        return random_scene(int(rng.integers(1 << 30)), kinds[: int(rng.integers(3, 6))], 1)
    except InputError:  # no room for so many
        return None


def _poses(scene: TableScene, rng: np.random.Generator) -> list[Pose]:
    gone: list[set[str]] = [set() for _ in range(PER_FILM)]
    moved: list[dict[str, tuple[tuple[float, float, float], int]]] = [{} for _ in range(PER_FILM)]
    for thing in scene.things:
        when, fate = int(rng.integers(1, PER_FILM)), rng.random()
        if fate < 0.3:
            _each(gone[when:], thing.name)
        elif fate < 0.5:
            _each(gone[:when], thing.name)
        elif fate < 0.65:
            spot = _other_spot(scene, thing, rng)
            if spot is not None:
                for places in moved[when:]:
                    places[thing.name] = ((*spot, thing.size_m[2] / 2), 0)
    arms = rng.random(PER_FILM) < 0.5
    return [
        Pose(moved=places, gone=frozenset(names), mixed=False, arm_moves=bool(moves))
        for places, names, moves in zip(moved, gone, arms, strict=True)
    ]


def _each(gone: list[set[str]], name: str) -> None:
    for names in gone:
        names.add(name)


def _other_spot(scene: TableScene, thing: Thing, rng: np.random.Generator) -> Point2 | None:
    for _ in range(20):
        spot = (float(rng.uniform(*X_M)), float(rng.uniform(*Y_M)))
        if all(math.dist(spot, o.xy_m) > _GAP_M for o in scene.things if o is not thing):
            return spot
    return None
