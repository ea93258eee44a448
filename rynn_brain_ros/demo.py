"""The demo: a scene whose truth is known goes in as a bag, answers in metres come out.

No answer is written by hand: the pictures are rendered, recorded and replayed like any robot's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig, read_answers, replay
from rynn_brain_ros.sim import Tabletop, example_scene, write_bag
from rynn_brain_ros.values import InputError, RigidTransform, Task, Vector3

QUESTIONS = (
    Question("Pick up the red cube", Task.AFFORDANCE),
    Question("Find the blue ball", Task.OBJECT),
    Question("Free space on the yellow plate", Task.AREA),
    Question("Move the red cube onto the yellow plate", Task.TRAJECTORY),
    Question("Pick up the purple cube", Task.AFFORDANCE),
)
"""The last thing is not in the scene: it must not be found."""

MAX_ERROR_M = 0.005


@dataclass(frozen=True)
class DemoOutcome:
    """What to print: lines for people, one JSON object for programs."""

    lines: tuple[str, ...]
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Place:
    """Where an answer points: the true surface along that ray, and how far it is, in metres."""

    wanted: str
    found: str
    error_m: float

    @property
    def right(self) -> bool:
        return self.found == self.wanted and self.error_m <= MAX_ERROR_M


@dataclass(frozen=True)
class _Check:
    """One answer against the truth. ``places`` is empty where nothing was found; a trajectory has
    two, its start and its end."""

    ask: str
    text: str
    refusal: str
    wanted: tuple[str, ...]
    places: tuple[_Place, ...]

    @property
    def right(self) -> bool:
        if not self.places:
            return not self.wanted and bool(self.refusal)
        found_all = len(self.places) == len(self.wanted)
        return found_all and all(place.right for place in self.places)


def run_demo(out: Path, seed: int, scratch: Path) -> DemoOutcome:
    """Renders and records the scene of ``seed``, replays it with ``color-baseline`` and compares
    every answer with the truth. Raises `InputError` for a negative seed, `OutputError` when ``out``
    cannot be written."""
    if seed < 0:
        raise InputError(f"there is no scene {seed}: give a seed of 0 or more")
    scene = example_scene(seed)
    bag = scratch / "tabletop.mcap"
    write_bag(scene, bag, seed=seed)
    result = replay(bag, ReplayConfig(QUESTIONS), Engines.one(ColorBaselineEngine()), out)
    checks = [_check(scene, record) for record in read_answers(out / "answers.jsonl")]
    errors = [place.error_m for check in checks for place in check.places]
    summary = {
        "success": all(check.right for check in checks),
        "engine": "color-baseline",
        "questions": len(checks),
        "right": sum(check.right for check in checks),
        "max_error_mm": round(1000 * max(errors, default=math.nan), 2),
        "run": str(out),
        "report": str(result.report),
    }
    lines = [
        "A rendered table, recorded as a bag and asked like a robot's recording.",
        "Engine: color-baseline, a colour and shape segmenter (not RynnBrain).",
        "",
        *(line for check in checks for line in _lines(check)),
        "",
        f"Report, pictures and run.mcap: {out}",
    ]
    return DemoOutcome(tuple(lines), summary)


def _check(scene: Tabletop, record: dict[str, Any]) -> _Check:
    wanted = _wanted(scene, record["ask"])
    grounding = record["groundings"][0]
    refusal = (grounding["refusal"] or {}).get("code", "")
    base = (record["ask"], record["text"], refusal, wanted)
    if grounding["point_camera_m"] is None:
        return _Check(*base, ())
    points = [grounding["point_camera_m"]]
    if record["task"] == Task.TRAJECTORY.value:
        points += grounding["points_camera_m"][-1:]
    pose = scene.pose_at(grounding["frame_stamp_ns"])
    names = [*wanted, *[""] * len(points)]
    places = (_place(scene, pose, p, name) for p, name in zip(points, names, strict=False))
    return _Check(*base, tuple(places))


def _wanted(scene: Tabletop, ask: str) -> tuple[str, ...]:
    """The things of the scene that the question names, in its order."""
    named = [thing.name for thing in scene.things if thing.name in ask]
    return tuple(sorted(named, key=ask.index))


def _place(scene: Tabletop, pose: RigidTransform, point_camera_m: Vector3, wanted: str) -> _Place:
    x, y, z = point_camera_m
    k = scene.camera_info.k
    truth, found = scene.surface_at((k[0] * x / z + k[2], k[4] * y / z + k[5]), pose)
    return _Place(wanted, found, math.dist(truth, (x, y, z)))


def _lines(check: _Check) -> tuple[str, str]:
    verdict = ", then ".join(
        f"on the {p.found}, {1000 * p.error_m:.1f} mm from the true surface" for p in check.places
    )
    mark = "✓" if check.right else "✗"
    line = f"{mark} {check.ask}: {verdict or f'refused ({check.refusal})'}"
    return (line, f"    {check.text}")
