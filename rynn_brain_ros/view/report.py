"""A whole run as one HTML file that needs nothing else: no network, no fonts, no other files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import (
    Flag,
    LiftedGrounding,
    LiftedPoint,
    NoGrounding,
    Reading,
    Response,
    Vector3,
)
from rynn_brain_ros.view.page import STYLE
from rynn_brain_ros.view.parts import (
    Shown,
    answer,
    document,
    lines,
    looks,
    metres,
    no,
    pairs,
    strip,
    tile,
    tint,
)
from rynn_brain_ros.view.pictures import Pictures


@dataclass(frozen=True)
class ReportHead:
    """What a report says above the questions.

    ``provenance`` says where the run comes from (bag, model, configuration, …) in the order to
    be shown; ``problems`` are sentences about what went wrong; ``engine_note`` is what a reader
    must know about the engine before believing anything, as in "color-baseline: a colour and
    shape segmenter, not RynnBrain".
    """

    title: str
    subtitle: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()
    engine_note: str = ""


@dataclass(frozen=True)
class RunReport(ReportHead):
    """What a report shows: its head and every response."""

    responses: Sequence[Response] = ()


def write_report(path: Path, run: RunReport) -> None:
    """Writes ``run`` to ``path``, whole or not at all.

    The same run gives the same bytes. Pictures are those that the model saw, downscaled to 1280
    pixels where a grounding points into them and to 320 elsewhere. Raises `OutputError`.
    """
    writer = ReportWriter()
    for response in run.responses:
        writer.add(response)
    writer.finish(path, run)


class ReportWriter:
    """Writes a report in parts, for a run whose responses do not fit into memory together.

    Kept of each response are its section, what the head counts, and its pictures as small as they
    are shown; the frames are let go.
    """

    def __init__(self) -> None:
        self._pictures = Pictures()
        self._sections: list[str] = []
        self._summaries: list[_Summary] = []

    def add(self, response: Response) -> None:
        self._summaries.append(_summary(response))
        number = len(self._summaries)
        shown = Shown(f"q{number}g", response, self._pictures)
        self._sections.append(_query(number, shown))

    def finish(self, path: Path, head: ReportHead) -> None:
        """Writes the page to ``path``, whole or not at all. Raises `OutputError`."""
        write_whole(path, document(head.title, STYLE, self._body(head)))

    def _body(self, head: ReportHead) -> str:
        return (
            f"{self._pictures.definitions()}{_header(head, self._summaries)}"
            f"<main>{_contents(self._summaries)}{''.join(self._sections)}</main>"
            "<footer>Each answer is bound to the exact frames it was computed from. Hover or click "
            "a grounding to find it in text, picture and table.</footer>"
        )


@dataclass(frozen=True)
class _Summary:
    """What the head of a report shows of one response."""

    task: str
    instruction: str
    outcome: str
    groundings: int
    lifted: int
    rejected: int
    refusals: Counter[str]


def _summary(response: Response) -> _Summary:
    return _Summary(
        task=response.query.task.value,
        instruction=response.query.instruction,
        outcome=_outcome(response),
        groundings=sum(not isinstance(i.grounding, NoGrounding) for i in response.lifted),
        lifted=sum(_is_lifted(item) for item in response.lifted),
        rejected=len(response.reading.rejected),
        refusals=_refusals(response),
    )


# --- above the questions -------------------------------------------------------------------------


def _header(run: ReportHead, summaries: Sequence[_Summary]) -> str:
    refusals = sum((summary.refusals for summary in summaries), Counter[str]())
    rejected = sum(summary.rejected for summary in summaries)
    tiles = (
        tile(len(summaries), "query", "queries")
        + tile(sum(s.groundings for s in summaries), "grounding", "groundings")
        + tile(sum(s.lifted for s in summaries), "lifted to metres")
        + tile(sum(refusals.values()), "refused")
        + (tile(rejected, "rejected part", "rejected parts") if rejected else "")
    )
    chips = " ".join(
        f'<span class="chip no">{code} × {count}</span>' for code, count in sorted(refusals.items())
    )
    note = f'<div class="note">{escape(run.engine_note)}</div>' if run.engine_note else ""
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in run.problems)
    if problems:
        problems = f'<div class="problems"><b>Problems</b><ul>{problems}</ul></div>'
    provenance = pairs(run.provenance.items())
    return (
        f'<header><h1>{escape(run.title)}</h1><p class="sub">{escape(run.subtitle)}</p>{note}'
        f'<div class="tiles">{tiles}</div><p>{chips}</p>{problems}'
        f"{'<h3>Provenance</h3>' + provenance if run.provenance else ''}</header>"
    )


def _contents(summaries: Sequence[_Summary]) -> str:
    if not summaries:
        return "<p class=soft>No question was asked.</p>"
    rows = "".join(
        f'<tr><td data-label="#">{n}</td><td data-label="task">{s.task}</td>'
        f'<td data-label="question"><a href="#q{n}">{escape(s.instruction)}</a></td>'
        f'<td data-label="outcome"><div>{s.outcome}</div></td></tr>'
        for n, s in enumerate(summaries, 1)
    )
    return (
        '<h3>Questions</h3><table class="wide index"><thead><tr><th>#</th><th>Task</th>'
        f"<th>Question</th><th>Outcome</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _outcome(response: Response) -> str:
    codes = _refusals(response)
    lifted = sum(_is_lifted(item) for item in response.lifted)
    chips = [f'<span class="chip ok">{lifted} lifted</span>'] if lifted else []
    chips += [f'<span class="chip no">{code} × {n}</span>' for code, n in sorted(codes.items())]
    if response.reading.done:
        chips.append('<span class="chip ok">done</span>')
    if response.reading.actions:
        chips.append(f'<span class="chip">{escape(" ".join(response.reading.actions))}</span>')
    return " ".join(chips) or '<span class="soft">text only</span>'


def _refusals(response: Response) -> Counter[str]:
    return Counter(i.refusal.code.value for i in response.lifted if i.refusal is not None)


def _is_lifted(item: LiftedGrounding) -> bool:
    return item.refusal is None and item.target is not None


# --- one question --------------------------------------------------------------------------------


def _query(number: int, shown: Shown) -> str:
    query, lifted = shown.response.query, shown.response.lifted
    return (
        f'<section class="query" id="q{number}"><div class="eyebrow"><span>{number}</span>'
        f"<span>{query.task.value}</span><code>{escape(query.query_id)}</code>"
        f'<a href="#">top</a></div><h2 dir="auto">{escape(query.instruction)}</h2>'
        f"{strip(shown)}"
        f'<div class="look"><div class="keys">{looks(shown)}</div>'
        f"<div>{answer(shown)}<h3>Engine</h3>{_engine(shown.response)}</div></div>"
        f"{_table(lifted, shown.key)}{_rejected(shown.response.reading)}</section>\n"
    )


# --- the table -----------------------------------------------------------------------------------

_COLUMNS = (
    "Grounding",
    "Frame",
    "As written",
    "Pixels",
    "Camera, m",
    "Fixed, m",
    "±σ, mm",
    "Conf.",
    "Outcome",
)


def _table(lifted: Sequence[LiftedGrounding], key: str) -> str:
    if not lifted:
        return ""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "".join(_row(i, item, key) for i, item in enumerate(lifted))
    return (
        f'<h3>Groundings</h3><table class="groundings"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(index: int, item: LiftedGrounding, key: str) -> str:
    grounding = item.grounding
    points = item.aligned_points or ((item.target,) if item.target is not None else ())
    label = f'<br><span class="soft">{escape(grounding.label)}</span>' if grounding.label else ""
    flags = "".join(f' <span class="chip">{flag.value}</span>' for flag in _sorted(grounding.flags))
    fixed = [_place(p.point_fixed_m if p else None) for p in points]
    if fixed and item.fixed_frame_id:
        fixed.append(f'<span class="soft">{escape(item.fixed_frame_id)}</span>')
    cells = (
        f'<span class="dot {tint(index, item)}">{index + 1}</span>'
        f"{grounding.kind.replace('_', ' ')}{label}{flags}",
        "–" if grounding.frame is None else str(grounding.frame),
        lines(f"({x:g}, {y:g})" for x, y in grounding.points),
        lines(f"{u:.1f}, {v:.1f}" for u, v in item.points_px),
        lines(_place(p.point_camera_m if p else None) + _star(p) for p in points),
        lines(fixed),
        lines("–" if p is None else f"{p.sigma_m * 1000:.1f}" for p in points),
        f"{item.confidence:.2f}" if math.isfinite(item.confidence) else "–",
        _verdict(item),
    )
    styles = ("kind", "mono", "mono", "mono", "mono", "mono", "mono", "mono", "why")
    tds = "".join(
        f'<td class="{style}" data-label="{column}"><div>{cell}</div></td>'
        for style, column, cell in zip(styles, _COLUMNS, cells, strict=True)
    )
    return f'<tr class="{tint(index, item)}" data-g="{key}{index}" tabindex="0">{tds}</tr>'


def _place(point: Vector3 | None) -> str:
    return "–" if point is None else metres(point)


def _star(point: LiftedPoint | None) -> str:
    return "*" if point is not None and point.interpolated else ""


def _verdict(item: LiftedGrounding) -> str:
    if item.refusal is not None:
        return no(item.refusal)
    if item.target is None:
        return '<span class="soft">not lifted</span>'
    mid_air = any(point.interpolated for point in item.points)
    note = '<br><span class="soft">* depth interpolated in mid-air</span>' if mid_air else ""
    pose = "" if item.pose_refusal is None else f"<br>in the camera only: {no(item.pose_refusal)}"
    return f'<span class="chip ok">lifted</span>{pose}{note}'


def _sorted(flags: Iterable[Flag]) -> list[Flag]:
    return sorted(flags, key=lambda flag: flag.value)


# --- below the table -----------------------------------------------------------------------------


def _rejected(reading: Reading) -> str:
    if not reading.rejected:
        return ""
    rows = "".join(
        f'<p><span class="chip no">{escape(part.reason)}</span> {escape(part.detail)} '
        f"<code>{escape(part.text)}</code></p>"
        for part in reading.rejected
    )
    return f"<h3>Rejected parts</h3>{rows}"


def _engine(response: Response) -> str:
    answer, timings = response.answer, response.answer.timings
    stages = {
        "queue": timings.queue_s,
        "encode": timings.encode_s,
        "prefill": timings.prefill_s,
        "decode": timings.decode_s,
        "total": timings.total_s,
    }
    known = [f"{name} {s:.3f} s" for name, s in stages.items() if math.isfinite(s)]
    tokens = [
        f"{count} {name}"
        for name, count in (("prompt", answer.prompt_tokens), ("answer", answer.completion_tokens))
        if count >= 0
    ]
    return pairs(
        (
            ("Engine", answer.engine),
            ("Model", answer.model),
            ("Revision", answer.revision or "–"),
            ("Quantization", answer.quantization),
            ("Finished", answer.finish_reason.value),
            (
                "Tokens",
                f"{' · '.join(tokens) or '–'} (budget {response.query.budget.max_new_tokens})",
            ),
            ("Time", " · ".join(known) or "–"),
        )
    )
