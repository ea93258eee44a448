"""``answers.jsonl``: one line per question, the same bytes for the same bag and answers.

Lengths are metres rounded to a tenth of a micrometre, pixels to a thousandth; what is unknown is
``null``. Timings are not in it: they differ from run to run and are in ``run.mcap``'s report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.geometry.grasping import angle_between
from rynn_brain_ros.language import parse
from rynn_brain_ros.planning.steps import different_orders
from rynn_brain_ros.values import (
    AnyGrounding,
    ContactPoint,
    Count,
    FinishReason,
    InputError,
    LiftedGrounding,
    LiftedPoint,
    NoGrounding,
    Reading,
    Refusal,
    Response,
    Task,
)


def answer_line(response: Response) -> str:
    """One JSON line, ending in a newline."""
    return json.dumps(answer_record(response), ensure_ascii=False, allow_nan=False) + "\n"


def answer_record(response: Response) -> dict[str, Any]:
    query, answer = response.query, response.answer
    return {
        "query_id": query.query_id,
        "task": query.task.value,
        "ask": query.instruction,
        "stamp_ns": query.frames[-1].frame.stamp_ns if len(query.frames) else None,
        "engine": answer.engine,
        "model": answer.model,
        "text": answer.text,
        "finish_reason": answer.finish_reason.value,
        "frames": [
            {"camera": f.frame.camera, "stamp_ns": f.frame.stamp_ns, "sha256": f.sha256}
            for f in query.frames
        ],
        "groundings": [_lifted_record(lifted) for lifted in response.lifted],
        "reasoning": [_lifted_record(lifted) for lifted in response.reasoning],
        "rejected": rejected_records(response.reading),
    }


def grounding_record(grounding: AnyGrounding) -> dict[str, Any]:
    """A grounding as the model wrote it: what `rynn-brain parse` prints."""
    record: dict[str, Any] = {
        "kind": grounding.kind,
        "tag": grounding.tag,
        "label": grounding.label,
        "frame": grounding.frame,
        "points": [list(point) for point in grounding.points],
        "flags": sorted(flag.value for flag in grounding.flags),
        "actionable": grounding.actionable,
        "span": list(grounding.span),
    }
    if isinstance(grounding, ContactPoint):
        record["angle_deg"] = grounding.angle_deg
    if isinstance(grounding, Count):
        record["count"] = grounding.count
    if isinstance(grounding, NoGrounding):
        record["abstained"], record["reason"] = grounding.abstained, grounding.reason
    return record


def rejected_records(reading: Reading) -> list[dict[str, Any]]:
    return [
        {"reason": r.reason, "detail": r.detail, "text": r.text, "span": list(r.span)}
        for r in reading.rejected
    ]


def _lifted_record(lifted: LiftedGrounding) -> dict[str, Any]:
    item, target = lifted.grounding, lifted.target
    frame = lifted.frame.frame if lifted.frame is not None else None
    record = {
        "kind": item.kind,
        "label": item.label,
        "frame": item.frame,
        "camera": frame.camera if frame else None,
        "frame_stamp_ns": frame.stamp_ns if frame else None,
        "frame_id": frame.frame_id if frame else None,
        "points_norm": [list(point) for point in item.points],
        "points_px": [_rounded(point, 3) for point in lifted.points_px],
        "flags": sorted(flag.value for flag in item.flags),
        "point_camera_m": _rounded(target.point_camera_m, 7) if target else None,
        "point_fixed_m": _fixed(target),
        "fixed_frame_id": lifted.fixed_frame_id or None,
        "points_camera_m": [_rounded(point.point_camera_m, 7) for point in lifted.points],
        "covariance": [_significant(v) for v in target.covariance_camera_m2] if target else None,
        "confidence": None if math.isnan(lifted.confidence) else _significant(lifted.confidence),
        "refusal": _refusal(lifted.refusal),
        "pose_refusal": _refusal(lifted.pose_refusal),
    }
    if isinstance(item, ContactPoint):
        record["angle_deg"] = item.angle_deg
    if isinstance(item, Count):
        record["count"] = item.count
    return record


def _fixed(target: LiftedPoint | None) -> list[float] | None:
    if target is None or target.point_fixed_m is None:
        return None
    return _rounded(target.point_fixed_m, 7)


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    # + 0.0 turns −0.0 into 0.0: one number, one spelling.
    return [round(float(value), digits) + 0.0 for value in values]


def _significant(value: float) -> float:
    return float(f"{value:.6g}") + 0.0


def _refusal(refusal: Refusal | None) -> dict[str, str] | None:
    return {"code": refusal.code.value, "text": refusal.text} if refusal else None


# --- comparing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may drift: pixels for image points, metres for places, degrees for the
    turn of a grasp."""

    px: float = 2.0
    m: float = 0.01
    deg: float = 10.0

    def __post_init__(self) -> None:
        for value, unit in ((self.px, "px"), (self.m, "m"), (self.deg, "°")):
            if not value >= 0:
                raise InputError(f"a tolerance of {value} {unit} is none: give 0 {unit} or more")


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The records of an answers.jsonl. Raises `InputError` with the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read expected answers from {path}: {error}") from error
    records = []
    # splitlines() would also split at U+2028 and U+0085, which JSON may hold inside a string.
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            record = json.loads(line)
            _check_record(record)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number} is no answer ({type(error).__name__}: {error}); expected "
                "is an answers.jsonl that a replay wrote"
            ) from error
        records.append(record)
    return records


def _check_record(record: Mapping[str, Any]) -> None:
    """Raises one of many errors unless the record holds what comparing needs."""
    _ = record["query_id"], record["text"]
    if record.get("task") == Task.PLAN.value:
        _read(record)
    for grounding in record["groundings"]:
        _ = grounding["kind"], (grounding.get("refusal") or {"code": ""})["code"]
        for pixel in grounding["points_px"]:
            math.dist(pixel, (0.0, 0.0))
        math.isfinite(grounding.get("angle_deg", 0.0))
        for point in grounding.get("points_camera_m", ()):
            math.dist(point, (0.0,) * 3)
        for name in ("point_camera_m", "point_fixed_m"):
            math.dist(grounding.get(name) or (0.0,) * 3, (0.0,) * 3)


def compare_answers(
    expected: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]], within: Tolerance
) -> list[str]:
    """What drifted, as sentences; empty when every answer still says and points the same.

    Questions are matched by their place. Words may change where there are groundings, as long as
    these agree and a plan orders the same; without groundings the words are the answer.
    """
    drifts = []
    if len(expected) != len(actual):
        drifts.append(f"expected {len(expected)} answers, got {len(actual)}")
    for want, got in zip(expected, actual, strict=False):
        name = str(got["query_id"])
        if (want.get("task"), want.get("ask")) != (got["task"], got["ask"]):
            drifts.append(
                f"{name}: expected the question {want.get('task')} {want.get('ask')!r}, asked was "
                f"{got['task']} {got['ask']!r}"
            )
            continue
        drifts += [f"{name}: {drift}" for drift in _compare_one(want, got, within)]
    return drifts


def _compare_one(want: Mapping[str, Any], got: Mapping[str, Any], within: Tolerance) -> list[str]:
    a, b = want["groundings"], got["groundings"]
    if not a and not b:
        same = want["text"] == got["text"]
        return [] if same else [f"expected {want['text']!r}, answered {got['text']!r}"]
    if [g["kind"] for g in a] != [g["kind"] for g in b]:
        return [f"expected {_kinds(a)}, got {_kinds(b)}"]
    return _compare_orders(want, got) + [
        f"{g['kind']} {index}: {drift}"
        for index, (w, g) in enumerate(zip(a, b, strict=True))
        for drift in _compare_grounding(w, g, within)
    ]


def _compare_orders(want: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    plans = got["task"] == Task.PLAN.value
    orders = different_orders(_read(want), _read(got)) if plans else None
    return [] if orders is None else [f"expected the order {orders[0]!r}, got {orders[1]!r}"]


def _read(record: Mapping[str, Any]) -> Reading:
    finish = FinishReason(record["finish_reason"])
    return parse(record["text"], len(record["frames"]), task=Task.PLAN, finish_reason=finish)


def _kinds(groundings: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(g["kind"]) for g in groundings) or "no groundings"


def _compare_grounding(
    want: Mapping[str, Any], got: Mapping[str, Any], within: Tolerance
) -> list[str]:
    drifts = [
        f"{name} was {want.get(name)!r}, is {got.get(name)!r}"
        for name in ("camera", "frame_stamp_ns", "frame_id", "fixed_frame_id", "count")
        if want.get(name) != got.get(name)
    ]
    drifts += _distance("image points", want["points_px"], got["points_px"], within.px, "px")
    code_want, code_got = (r and r["code"] for r in (want.get("refusal"), got.get("refusal")))
    if code_want != code_got:
        drifts.append(f"refusal was {code_want or 'none'}, is {code_got or 'none'}")
    for name in ("point_camera_m", "point_fixed_m"):
        w, g = want.get(name), got.get(name)
        drifts += _distance(name, [w] if w else [], [g] if g else [], within.m, "m")
    path_want, path_got = (side.get("points_camera_m", ()) for side in (want, got))
    drifts += _distance("points_camera_m", path_want, path_got, within.m, "m")
    turned = angle_between(want.get("angle_deg", math.nan), got.get("angle_deg", math.nan))
    if turned > within.deg:
        drifts.append(f"turned by {turned:.4g}° (allowed {within.deg:g}°)")
    return drifts


def _distance(
    name: str, want: Sequence[Any], got: Sequence[Any], limit: float, unit: str
) -> list[str]:
    if len(want) != len(got):
        return [f"{name}: expected {len(want)}, got {len(got)}"]
    worst = max((math.dist(w, g) for w, g in zip(want, got, strict=True)), default=0.0)
    if worst <= limit:
        return []
    return [f"{name} moved by {worst:.4g} {unit} (allowed {limit:g} {unit}): {want} → {got}"]
