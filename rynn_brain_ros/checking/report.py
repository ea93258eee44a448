"""What a check leaves: a table, ``verdict.json``, a picture for each failing case, and a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from rynn_brain_ros import __version__
from rynn_brain_ros.checking.cases import CaseSet
from rynn_brain_ros.checking.check import CaseResult, EngineCheck
from rynn_brain_ros.checking.pictures import compared
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.replay import RunKind, claim_run_folder
from rynn_brain_ros.safety.engine_verdict import FORMAT
from rynn_brain_ros.view.page import STORY_STYLE
from rynn_brain_ros.view.parts import document, pairs

VERDICT, PAGE, PICTURES = "verdict.json", "report.html", "pictures"


def check_record(
    checks: Sequence[EngineCheck], cases: CaseSet, now: datetime | None = None
) -> dict[str, Any]:
    """The whole check as plain values: what ``verdict.json`` holds."""
    when = (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")
    known = {(c.expected.model, c.expected.revision, c.expected.quantization) for c in cases.cases}
    return {
        "format": FORMAT,
        "when": when,
        "rynn_brain_ros": __version__,
        "cases": {
            "file": str(cases.path),
            "sha256": cases.sha256,
            "cases": len(cases.cases),
            "left_out": list(cases.problems),
        },
        "expected_from": [
            {"model": model, "revision": revision, "quantization": quantization}
            for model, revision, quantization in sorted(known)
        ],
        "limits": asdict(checks[0].limits) if checks else {},
        "engines": [_engine_record(check) for check in checks],
    }


def _engine_record(check: EngineCheck) -> dict[str, Any]:
    return {
        "spec": check.spec,
        **asdict(check.identity),
        "passed": check.passed,
        "reasons": list(check.reasons),
        "not_asked": check.not_asked,
        "numbers": check.numbers,
        "cases": [_case_record(result) for result in check.results],
    }


def _case_record(result: CaseResult) -> dict[str, Any]:
    drift = result.drift
    return {
        "case": result.case.name,
        "task": result.case.query.task.value,
        "passed": result.passed,
        "skipped": result.skipped,
        "failures": list(result.failures),
        "expected": result.case.expected.text,
        "got": None if result.answer is None else result.answer.text,
        "iou": [round(value, 4) for value in drift.ious],
        "units": [round(value, 3) for value in drift.units],
        "angles_deg": [round(value, 3) for value in drift.angles_deg],
    }


def write_check(
    out: Path, checks: Sequence[EngineCheck], cases: CaseSet, record: Mapping[str, Any]
) -> Path:
    """Writes the pictures, the page and, last, the verdict, each whole; what an earlier check left
    in ``out`` goes first. Returns the verdict's path. Raises `OutputError`, also where no check
    wrote what lies there."""
    claim_run_folder(out, RunKind.CHECK, (VERDICT, PAGE, f"{PICTURES}/*.png"))
    named: dict[tuple[int, str], str] = {}
    for column, check in enumerate(checks):
        for result in check.asked:
            png = None if result.passed else compared(result)
            if png is not None:
                name = f"{PICTURES}/{_plain(result.case.name)}_{column + 1}.png"
                write_whole(out / name, png)
                named[column, result.case.name] = name
    write_whole(out / PAGE, _page(checks, cases, record, named))
    text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(out / VERDICT, text.encode() + b"\n")
    return out / VERDICT


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)[:80]


# --- the table ------------------------------------------------------------------------------------


def check_table(checks: Sequence[EngineCheck]) -> tuple[str, ...]:
    """Lines for a terminal: a measure a line, an engine a column."""
    rows = [("", *(check.spec for check in checks)), *_rows(checks)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(checks) + 1)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _rows(checks: Sequence[EngineCheck]) -> list[tuple[str, ...]]:
    """Those measures that at least one engine has."""
    rows = [(name, *(_cell(tell, check) for check in checks)) for name, tell in _MEASURES]
    return [row for row in rows if any(cell != "–" for cell in row[1:])]


def _cell(tell: Callable[[Mapping[str, Any]], str | None], check: EngineCheck) -> str:
    return tell({**check.numbers, **asdict(check.identity), "verdict": check.passed}) or "–"


def _of(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """``19 of 20``"""

    def tell(numbers: Mapping[str, Any]) -> str | None:
        counts = numbers[name]
        return None if counts is None else f"{counts[0]} of {counts[1]}"

    return tell


def _two(first: str, second: str, form: str) -> Callable[[Mapping[str, Any]], str | None]:
    def tell(numbers: Mapping[str, Any]) -> str | None:
        if numbers[first] is None:
            return None
        return form.format(numbers[first], numbers[second])

    return tell


_MEASURES: tuple[tuple[str, Callable[[Mapping[str, Any]], str | None]], ...] = (
    ("model", lambda n: n["model"]),
    ("quantization", lambda n: n["quantization"]),
    ("cases passed", _two("passed", "cases", "{} of {}")),
    ("no answer", lambda n: str(n["unanswered"]) if n["unanswered"] else None),
    ("boxes: overlap, mean and worst", _two("iou_mean", "iou_min", "{:.3f}, {:.3f}")),
    (
        "points and paths: of 1000, mean and worst",
        _two("units_mean", "units_max", "{:.1f}, {:.1f}"),
    ),
    ("grasps: worst angle", _two("angle_deg_max", "angle_deg_max", "{:.1f}°")),
    ("same key frame", _of("key_frames")),
    ("in the format", _of("format")),
    ("same abstention", _of("abstention")),
    ("same orders, counts, arrows, end", _of("decisions")),
    ("same words", _of("same_words")),
    ("median time of an answer", _two("median_s", "median_s", "{:.2f} s")),
    ("verdict", lambda n: "passed" if n["verdict"] else "FAILED"),
)


# --- the page -------------------------------------------------------------------------------------


def _page(
    checks: Sequence[EngineCheck],
    cases: CaseSet,
    record: Mapping[str, Any],
    pictures: Mapping[tuple[int, str], str],
) -> bytes:
    verdicts = "".join(_verdict(check) for check in checks)
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in cases.problems)
    if problems:
        problems = f'<div class="problems"><b>Problems</b><ul>{problems}</ul></div>'
    known = [
        ("Cases", str(cases.path)),
        ("Cases, sha256", str(record["cases"]["sha256"])),
        ("Expected from", ", ".join(str(e["model"]) for e in record["expected_from"])),
        ("Limits", ", ".join(f"{name} {value:g}" for name, value in record["limits"].items())),
        ("Checked", f"{record['when']} by rynn_brain_ros {record['rynn_brain_ros']}"),
    ]
    failing = "".join(_failing(i, check, pictures) for i, check in enumerate(checks))
    title = f"{len(cases.cases)} cases on {', '.join(check.spec for check in checks)}"
    body = (
        f'<header><h1>Engine check</h1><p class="sub">{escape(title)}</p>{verdicts}{problems}'
        f"</header><main><h3>Drift</h3>{_html_table(checks)}"
        f"<h3>Provenance</h3>{pairs(known)}{failing}</main>"
        "<footer>Distances are thousandths of the sides of the frame that an answer names, and are "
        "measured only where both answers name the same frame.</footer>"
    )
    return document("Engine check", STORY_STYLE, body, local_media=True)


def _verdict(check: EngineCheck) -> str:
    mark, sign = ("ok", "✓") if check.passed else ("no", "✗")
    said = "passed" if check.passed else "; ".join(check.reasons)
    said += f" ({check.not_asked})" if check.not_asked else ""
    return (
        f'<div class="verdict {mark}"><span class="sign">{sign}</span><div>'
        f"<b>{escape(check.spec)}</b><p>{escape(str(check.identity))}</p><p>{escape(said)}</p>"
        "</div></div>"
    )


def _html_table(checks: Sequence[EngineCheck]) -> str:
    head = "".join(f"<th>{escape(check.spec)}</th>" for check in checks)
    rows = "".join(_html_row(row, checks) for row in _rows(checks))
    return (
        f'<table class="wide"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _html_row(row: Sequence[str], checks: Sequence[EngineCheck]) -> str:
    cells = "".join(
        f'<td data-label="{escape(check.spec)}">{escape(cell)}</td>'
        for check, cell in zip(checks, row[1:], strict=True)
    )
    return f'<tr><td data-label="">{escape(row[0])}</td>{cells}</tr>'


def _failing(column: int, check: EngineCheck, pictures: Mapping[tuple[int, str], str]) -> str:
    results = [result for result in check.asked if not result.passed]
    return "".join(
        _case(check, result, pictures.get((column, result.case.name))) for result in results
    )


def _case(check: EngineCheck, result: CaseResult, picture: str | None) -> str:
    query = result.case.query
    figure = (
        f'<h3>Pictures</h3><figure class="film"><img src="{escape(picture)}" '
        f'alt="expected and got"></figure>'
        if picture
        else ""
    )
    got = "" if result.answer is None else _said("Got", result.answer.text)
    return (
        f'<section class="query"><div class="eyebrow">{escape(check.spec)} · '
        f"{query.task.value} · {escape(result.case.name)}</div>"
        f"<h2>{escape(query.instruction)}</h2>{_chips(result.failures)}"
        f"{_said('Expected', result.case.expected.text)}{got}{figure}</section>"
    )


def _chips(failures: Iterable[str]) -> str:
    return "".join(f'<p><span class="chip no">failed</span> {escape(f)}</p>' for f in failures)


def _said(who: str, text: str) -> str:
    return f'<h3>{who}</h3><div class="said" dir="auto">{escape(text) or "<i>(empty)</i>"}</div>'
