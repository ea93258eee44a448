"""Sentences for skills beyond pick and place, written from the truth, and episodes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from episodes import Planner, Say
from stage_hands import Result

from rynn_brain_ros.demo import Ears, Stage, StageConfig, make_stage, play
from rynn_brain_ros.geometry import PinholeCamera, apply, invert
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning.episode import EpisodeEvent
from rynn_brain_ros.planning.executive import Approve
from rynn_brain_ros.sim.table_furnishing import handle_m
from rynn_brain_ros.values import Vector3

Meddle = Callable[[Stage], Callable[[EpisodeEvent], None] | None]


def do(
    kind: str,
    *lines: Say,
    seed: int = 0,
    approve: Approve | None = None,
    prepare: Callable[[Stage], Stage] = lambda stage: stage,
    meddle: Meddle = lambda stage: None,
) -> tuple[Stage, Result]:
    """One episode of ``lines`` on the table of ``kind``; the stage may still be asked for truth."""
    stage = prepare(make_stage(StageConfig(seed=seed, kind=kind)))
    events: list[EpisodeEvent] = []
    listener = meddle(stage)

    def hear(event: EpisodeEvent) -> None:
        events.append(event)
        if listener is not None:
            listener(event)

    try:
        engines = Engines.one(Planner(stage, *lines))
        episode = play(stage, engines, Ears(event=hear), approve=approve).episode
        return stage, Result(episode, stage.measure(), events)
    finally:
        stage.close()


def thing(stage: Stage, shape: str) -> str:
    """The name of the one thing of that shape."""
    (name,) = (each.name for each in stage.world.scene.things if each.shape == shape)
    return name


def pixel(stage: Stage, place_m: Vector3) -> tuple[int, int]:
    """0…1000."""
    info = stage.world.camera_info("front")
    seen = apply(invert(stage.world.scene.T_base_front), [place_m])
    ((u, v),) = PinholeCamera.from_info(info).project(seen)
    return round(1000 * u / (info.width - 1)), round(1000 * v / (info.height - 1))


def _seen(stage: Stage, name: str) -> np.ndarray:
    """Pixels [N, 2] (x, y) that show a thing, 0…1000."""
    rows, columns = np.nonzero(stage.world.mask("front", name))
    scale = np.array((stage.world.width - 1, stage.world.height - 1))
    return np.round(1000 * np.column_stack([columns, rows]) / scale).astype(int)


def box(stage: Stage, name: str, frame: int) -> str:
    (x0, y0), (x1, y1) = _seen(stage, name).min(axis=0), _seen(stage, name).max(axis=0)
    return f"<object> <frame {frame}>: ({x0}, {y0}), ({x1}, {y1}) </object>"


def area(stage: Stage, name: str, frame: int) -> str:
    x, y = _seen(stage, name).mean(axis=0).round().astype(int)
    return f"<area> <frame {frame}>: ({x}, {y}) </area>"


def push(shape: str, by_m: tuple[float, float]) -> Say:
    """To so far from where it is."""

    def say(stage: Stage, frame: int) -> str:
        x, y, _ = stage.world.things()[thing(stage, shape)].translation_m
        u, v = pixel(stage, (x + by_m[0], y + by_m[1], 0.0))
        what = box(stage, thing(stage, shape), frame)
        return f"Push {what} to <area> <frame {frame}>: ({u}, {v}) </area>."

    return say


def pick(shape: str) -> Say:
    """A mug by the rim that is nearest to the camera, everything else by its top."""

    def say(stage: Stage, frame: int) -> str:
        name = thing(stage, shape)
        x, y, z = stage.world.things()[name].translation_m
        width, _, height = stage.world.thing_size(name)
        eye = stage.world.scene.T_base_front.translation_m
        bearing, rim_m = math.atan2(eye[1] - y, eye[0] - x), width / 2 - 0.003
        if shape == "mug":
            x, y = x + rim_m * math.cos(bearing), y + rim_m * math.sin(bearing)
        u, v = pixel(stage, (x, y, z + height / 2))
        grasp = f"<affordance> <frame {frame}>: ({u}, {v}) </affordance>"
        return f"Pick up {grasp} of {box(stage, name, frame)}."

    return say


def pour(shape: str = "bowl") -> Say:
    return lambda stage, frame: f"Pour it into {area(stage, thing(stage, shape), frame)}."


def give(shape: str = "cube") -> Say:
    return lambda stage, frame: f"Hand over {box(stage, thing(stage, shape), frame)}."


def drag(verb: str, by_m: float) -> Say:
    """The drawer, by its handle, so far out."""

    def say(stage: Stage, frame: int) -> str:
        top = handle_m(stage.world.scene.drawer, stage.world.drawer_out_m())
        corners = [
            pixel(stage, (top[0] + i * 0.013, top[1] + j * 0.018, top[2] - k * 0.05))
            for i in (-1, 1)
            for j in (-1, 1)
            for k in (0, 1)
        ]
        (u0, v0), (u1, v1) = np.min(corners, axis=0), np.max(corners, axis=0)
        (u, v), (ue, ve) = pixel(stage, top), pixel(stage, (top[0], top[1] - by_m, top[2]))
        tag = f"<frame {frame}>:"
        return (
            f"{verb} <object> {tag} ({u0}, {v0}), ({u1}, {v1}) </object> by "
            f"<affordance> {tag} ({u}, {v}) </affordance> along "
            f"<trajectory> {tag} ({u}, {v}), ({ue}, {ve}) </trajectory>."
        )

    return say
