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
from rynn_brain_ros.values import Task

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
class _Check:
    """One answer against the truth. ``error_m`` is ``None`` where nothing was to be found."""

    ask: str
    text: str
    refusal: str
    wanted: str
    found: str
    error_m: float | None

    @property
    def right(self) -> bool:
        if self.error_m is None:
            return not self.wanted and bool(self.refusal)
        return self.found == self.wanted and self.error_m <= MAX_ERROR_M


def run_demo(out: Path, seed: int, scratch: Path) -> DemoOutcome:
    """Renders and records the scene of ``seed``, replays it with ``color-baseline`` and compares
    every answer with the truth. Raises `OutputError` when ``out`` cannot be written."""
    scene = example_scene(seed)
    bag = scratch / "tabletop.mcap"
    write_bag(scene, bag, seed=seed)
    result = replay(bag, ReplayConfig(QUESTIONS), Engines.one(ColorBaselineEngine()), out)
    checks = [_check(scene, record) for record in read_answers(out / "answers.jsonl")]
    errors = [check.error_m for check in checks if check.error_m is not None]
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
    wanted = next((thing.name for thing in scene.things if thing.name in record["ask"]), "")
    grounding = record["groundings"][0]
    refusal = (grounding["refusal"] or {}).get("code", "")
    base = (record["ask"], record["text"], refusal, wanted)
    if grounding["point_camera_m"] is None:
        return _Check(*base, "", None)
    x, y, z = grounding["point_camera_m"]
    info = scene.camera_info
    pixel = (info.k[0] * x / z + info.k[2], info.k[4] * y / z + info.k[5])
    truth, found = scene.surface_at(pixel, scene.pose_at(grounding["frame_stamp_ns"]))
    return _Check(*base, found, math.dist(truth, (x, y, z)))


def _lines(check: _Check) -> tuple[str, str]:
    if check.error_m is not None:
        verdict = f"on the {check.found}, {1000 * check.error_m:.1f} mm from the true surface"
    else:
        verdict = f"refused ({check.refusal})"
    mark = "✓" if check.right else "✗"
    return (f"{mark} {check.ask}: {verdict}", f"    {check.text}")
