"""The model card: what nano was measured to do, its learning curve, and pictures of its answers.

    python -m training.nano.report RUN [--questions 300] [--seed 900000]

``RUN`` is the folder of a training run; card, curve and pictures go into its checkpoint.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.local.engine import LocalEngine
from rynn_brain_ros.models.local.loading import load
from rynn_brain_ros.models.profiles import NANO
from rynn_brain_ros.planning import ask
from rynn_brain_ros.values import Query
from rynn_brain_ros.view.overlay import draw
from training.nano.evaluate import (
    HELD_OUT_SEED,
    KINDS,
    QUANTIZED,
    ROOM,
    ROUTES,
    evaluate,
    held_out,
)
from training.nano.evaluate_tasks import FRAMES
from training.nano.evaluate_tasks import KINDS as TASK_KINDS
from training.nano.save import BEGAN_WITH, PROVENANCE
from training.nano.train import NAME

EVALUATION = "evaluation.json"
_QUANTIZED_NAMES = {"none": "16 bits", "int8": "int8", "nf4": "nf4"}
_ROWS = (
    ("point_inside", "points inside the named thing", "share"),
    ("point_off", "median distance of points, 1/1000 of the width", "number"),
    ("box_half", "boxes that overlap the true one by half", "share"),
    ("box_off", "median distance of box sides, 1/1000", "number"),
    ("frame_right", "the right frame", "share"),
    ("inside_of_right_frame", "points inside, of those in the right frame", "share"),
    ("abstained_right", "`<no object>` where the thing is not there", "share"),
    ("abstained_wrong", "`<no object>` where it is there", "share"),
    ("valid", "answers in the right form, no grammar used", "share"),
)
_PLAN_ROWS = (
    ("step_right", "the right step: pick up, place, done, or not there", "share"),
    ("first_step_right", "of first turns", "share"),
    ("declined_right", "of those where nothing can be done: not there, or not known", "share"),
    ("point_inside", "grasp points inside the thing", "share"),
    ("box_half", "boxes that overlap the true one by half", "share"),
    ("area_off", "median distance of destinations, 1/1000", "number"),
)
_TASK_ROWS = (
    ("right", "the right answer, where there is one", "share"),
    ("right_in_or_on", "… of places in or on things", "share"),
    ("right_next_to", "… of places next to things", "share"),
    ("abstained_right", "`<no object>`, or 0, where nothing like it is there", "share"),
    ("grounded", "a right box in the reasoning", "share"),
    ("valid", "answers in the right form, no grammar used", "share"),
)
_WAY_ROWS = (
    ("all_right", "the right arrows, all of them", "share"),
    ("first_right", "the right first arrow", "share"),
    ("stop_right", "`STOP` where it is arrived", "share"),
    ("stop_wrong", "`STOP` where it is not", "share"),
    ("declined_right", "says that it is not there where it is not", "share"),
    ("declined_wrong", "says so where it is", "share"),
)
_QUANTIZED_ROWS = (
    *_ROWS[:4],
    ("same", "answers that are word for word those in 32 bits", "share"),
)
_LEGEND = {
    "color": "colour of its thing",
    "shape": "shape of its thing",
    "point": "its thing's point",
    "box": "its thing's box",
    "spot": "the free spot beside its thing",
    "near": "coordinates within 20/1000",
    "decided": "deciding words that are right",
    "looked": "attention on the right thing",
}
_SEEING = ("see parts", "see whole", "see more parts", "see more whole")
_CURVES = (
    (_SEEING, ("color", "shape"), "share of visual tokens that are right"),
    (_SEEING, ("point", "box", "spot"), "median error, 1/1000"),
    (("speak", "everything"), ("near", "decided", "looked"), "share"),
)


def write_report(run: Path, count: int, seed: int) -> None:
    """Asks the questions, and writes everything into the run's checkpoint."""
    path = run / NAME
    found = evaluate(path, count, seed)
    (path / EVALUATION).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    lines = (run / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    draw_curves([json.loads(line) for line in lines], path / "curve.png")
    engine = LocalEngine(load(path, dtype="F32"), constrain=False)
    try:
        asked = (asked for kind in ("episode", "wild") for asked in held_out(kind, seed, 9))
        picture = examples(engine, [each.query for each in asked])
    finally:
        engine.close()
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    cv2.imwrite(str(path / "examples.jpg"), picture[..., ::-1], quality)
    told = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
    (path / "README.md").write_text(card(found, told), encoding="utf-8")


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    mpl.use("agg")
    known = {line["stage"] for line in lines}
    curves = [
        ([stage for stage in stages if stage in known], names, label)
        for stages, names, label in _CURVES
        if known.intersection(stages)  # a nano that learned on did not learn to see again
    ]
    figure = Figure(figsize=(4 * len(curves), 3.4), layout="constrained")
    (row,) = figure.subplots(1, len(curves), squeeze=False)
    for axes, (stages, names, label) in zip(row, curves, strict=True):
        told = [line for stage in stages for line in _lasting(lines, stage)]
        ends = np.cumsum([_last_step(told, stage) for stage in stages])
        starts = dict(zip(stages, [0, *ends], strict=False))
        steps = [starts[line["stage"]] + line["step"] for line in told]
        for name in names:
            axes.plot(steps, [line.get(name, np.nan) for line in told], label=_LEGEND[name])
        for end in ends[:-1]:
            axes.axvline(end, color="0.7", linewidth=1)
        axes.set(xlabel=f"step ({', then '.join(stages)})", ylabel=label)
        if label.startswith("median"):
            axes.set_yscale("log")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=90)


def _lasting(lines: Sequence[Mapping[str, Any]], stage: str) -> list[Mapping[str, Any]]:
    """Without those of steps that were taken again, where a run was stopped and went on."""
    lasting: list[Mapping[str, Any]] = []
    for line in lines:
        if line["stage"] == stage:
            while lasting and lasting[-1]["step"] >= line["step"]:
                lasting.pop()
            lasting.append(line)
    return lasting


def _last_step(lines: Sequence[Mapping[str, Any]], stage: str) -> int:
    return max((int(line["step"]) for line in lines if line["stage"] == stage), default=0)


def examples(engine: LocalEngine, queries: Sequence[Query], columns: int = 3) -> Any:
    """One picture of several answers, uint8 [H, W, 3]."""
    tiles = []
    for query in queries:
        response = ask(engine, query)
        frame = query.frames[-1]
        rgb = decode_color(frame.frame.color)
        caption = f"{query.instruction}  {response.answer.text}"
        drawn = draw(rgb, response.lifted, frame, caption=caption)
        tiles.append(cv2.resize(drawn, (480, 360), interpolation=cv2.INTER_AREA))
    rows = [np.hstack(tiles[n : n + columns]) for n in range(0, len(tiles), columns)]
    return np.vstack([row for row in rows if row.shape == rows[0].shape])


def card(found: Mapping[str, Mapping[str, float]], told: Mapping[str, Any]) -> str:
    """The model card (`card.md`), in the form that model hubs read."""
    kinds = {name: found[name] for name in KINDS}
    quantized = {_QUANTIZED_NAMES[how]: found[how] for how in QUANTIZED}
    template = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    return template.format(
        **{key: told[key] for key in ("code", "minutes", "machine", "torch")},
        **{key: _told(found["controls"][key], "share") for key in ("other_picture", "other_thing")},
        questions=int(found["episode"]["questions"]),
        frames=NANO.most_frames,
        table=_table(kinds, _ROWS),
        quantized=_table(quantized, _QUANTIZED_ROWS),
        plans=_plans(found["plans"]),
        tasks=_tasks({kind: found[kind] for kind in TASK_KINDS if kind in found}),
        rooms=_rooms(found),
        recipe=json.dumps(told["recipe"]),
        began=_began(told.get(BEGAN_WITH)),
    )


def _began(earlier: Mapping[str, Any] | None) -> str:
    """What it learned on from, and that from …"""
    if earlier is None:
        return ""
    told = (
        f"It learned on from an earlier one: code {earlier['code']}, {earlier['minutes']:g} "
        f"minutes, recipe `{json.dumps(earlier['recipe'])}`."
    )
    return f"\n\n{told}{_began(earlier.get(BEGAN_WITH))}"


def _plans(found: Mapping[str, float]) -> str:
    told = f"{int(found['turns'])} turns of a planner, each with the true history before it:"
    return f"{told}\n\n{_table({'plans': found}, _PLAN_ROWS)}\n\n"


def _tasks(found: Mapping[str, Mapping[str, float]]) -> str:
    (count,) = {int(values["questions"]) for values in found.values()}
    shown = f"half about a crowded table, half about {FRAMES} frames of a film"
    told = f"Taught and not known yet, {count} questions of each kind, {shown}:"
    return f"{told}\n\n{_table(found, _TASK_ROWS)}\n\n"


def _rooms(found: Mapping[str, Mapping[str, float]]) -> str:
    """Nothing of what was measured before there were rooms."""
    if ROOM not in found:
        return ""
    room, routes = found[ROOM], found[ROUTES]
    views = f"Nor does it know rooms: furniture in {int(room['questions'])} views of them"
    ways = f"{int(routes['ways'])} answers on the way to it, each with the true way before it"
    tables = (_table({"rooms": room}, _ROWS), _table({"ways": routes}, _WAY_ROWS))
    return f"{views}, and {ways}:\n\n{tables[0]}\n\n{tables[1]}\n\n"


def _table(columns: Mapping[str, Mapping[str, float]], rows: Sequence[tuple[str, str, str]]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for key, label, kind in rows:
        if not any(key in values for values in columns.values()):
            continue
        told = [_told(values[key], kind) if key in values else "" for values in columns.values()]
        lines.append([label, *told])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _told(value: float, kind: str) -> str:
    return f"{100 * value:.1f} %" if kind == "share" else f"{value:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args(arguments)
    write_report(options.run, options.questions, options.seed)


if __name__ == "__main__":
    main()
