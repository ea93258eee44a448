"""A whole run as one HTML file that needs nothing else: no network, no fonts, no other files."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import (
    FinishReason,
    Flag,
    FrameSet,
    LiftedGrounding,
    NoGrounding,
    Reading,
    Refusal,
    Response,
    Vector3,
)
from rynn_brain_ros.view.colors import PALETTE, is_unusable
from rynn_brain_ros.view.page import SCRIPT, STYLE
from rynn_brain_ros.view.pictures import KEY_SIDE_PX, THUMBNAIL_SIDE_PX, Pictures
from rynn_brain_ros.view.svg import overlay_svg

_REASONING_SIDE_PX = 640


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
        self._sections.append(_query(_Section(len(self._summaries), response, self._pictures)))

    def finish(self, path: Path, head: ReportHead) -> None:
        """Writes the page to ``path``, whole or not at all. Raises `OutputError`."""
        # A lone surrogate, which a hostile answer may hold, has no UTF-8 form.
        write_whole(path, self._page(head).encode("utf-8", "xmlcharrefreplace"))

    def _page(self, head: ReportHead) -> str:
        # Only this very style and script may act, whatever an answer manages to smuggle in.
        policy = (
            f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; "
            f"script-src {_hash(SCRIPT)}"
        )
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(head.title)}</title><style>{STYLE}</style></head>\n<body>"
            f"{self._pictures.definitions()}{_header(head, self._summaries)}"
            f"<main>{_contents(self._summaries)}{''.join(self._sections)}</main>"
            "<footer>Each answer is bound to the exact frames it was computed from. Hover or click "
            "a grounding to find it in text, picture and table.</footer>"
            f"<script>{SCRIPT}</script></body></html>\n"
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


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# --- above the questions -------------------------------------------------------------------------


def _header(run: ReportHead, summaries: Sequence[_Summary]) -> str:
    refusals = sum((summary.refusals for summary in summaries), Counter[str]())
    rejected = sum(summary.rejected for summary in summaries)
    tiles = (
        _tile(len(summaries), "query", "queries")
        + _tile(sum(s.groundings for s in summaries), "grounding", "groundings")
        + _tile(sum(s.lifted for s in summaries), "lifted to metres")
        + _tile(sum(refusals.values()), "refused")
        + (_tile(rejected, "rejected part", "rejected parts") if rejected else "")
    )
    chips = " ".join(
        f'<span class="chip no">{code} × {count}</span>' for code, count in sorted(refusals.items())
    )
    note = f'<div class="note">{escape(run.engine_note)}</div>' if run.engine_note else ""
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in run.problems)
    if problems:
        problems = f'<div class="problems"><b>Problems</b><ul>{problems}</ul></div>'
    provenance = _pairs(run.provenance.items())
    return (
        f'<header><h1>{escape(run.title)}</h1><p class="sub">{escape(run.subtitle)}</p>{note}'
        f'<div class="tiles">{tiles}</div><p>{chips}</p>{problems}'
        f"{'<h3>Provenance</h3>' + provenance if run.provenance else ''}</header>"
    )


def _tile(count: int, one: str, many: str = "") -> str:
    return f"<div><b>{count}</b><span>{one if count == 1 else many or one}</span></div>"


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


@dataclass(frozen=True)
class _Section:
    """One response on its way into the page; ``key`` starts the names of its groundings."""

    number: int
    response: Response
    pictures: Pictures

    @property
    def key(self) -> str:
        return f"q{self.number}g"

    @property
    def frames(self) -> FrameSet:
        return self.response.query.frames


def _query(section: _Section) -> str:
    query, reading = section.response.query, section.response.reading
    lifted, number = section.response.lifted, section.number
    pointed = _key_frames(lifted, section.frames)
    keys = pointed or tuple(range(len(section.frames)))[-1:]
    figures = "".join(_figure(section, i, lifted, 0, KEY_SIDE_PX) for i in keys)
    heading = "Where the answer points" if pointed else "Now"
    return (
        f'<section class="query" id="q{number}"><div class="eyebrow"><span>{number}</span>'
        f"<span>{query.task.value}</span><code>{escape(query.query_id)}</code>"
        f'<a href="#">top</a></div><h2 dir="auto">{escape(query.instruction)}</h2>'
        f"{_strip(section, keys)}"
        f'<div class="look"><div class="keys"><h3>{heading}</h3>{figures}</div>'
        f"<div>{_answer(section)}<h3>Engine</h3>{_engine(section.response)}</div></div>"
        f"{_table(lifted, section.key)}{_rejected(reading)}</section>\n"
    )


def _key_frames(lifted: Sequence[LiftedGrounding], frames: FrameSet) -> tuple[int, ...]:
    named = {i.grounding.frame for i in lifted if i.points_px and i.grounding.frame is not None}
    return tuple(sorted(index for index in named if 0 <= index < len(frames)))


def _strip(section: _Section, keys: Sequence[int]) -> str:
    if len(section.frames) < 2:
        return ""
    figures = "".join(
        f"<figure{' class=key' if i in keys else ''}>"
        f"{_picture(section, i, THUMBNAIL_SIDE_PX)}"
        f"<figcaption><code>&lt;frame {i}&gt;</code> {_age(section.frames, i)}</figcaption>"
        "</figure>"
        for i in range(len(section.frames))
    )
    return f'<h3>Frames, as the model saw them</h3><div class="strip">{figures}</div>'


def _figure(
    section: _Section, i: int, lifted: Sequence[LiftedGrounding], first_index: int, side_px: int
) -> str:
    frame = section.frames[i]
    overlay = overlay_svg(lifted, frame, first_index=first_index, key=section.key)
    stamp = f"{frame.frame.stamp_ns // 10**9}.{frame.frame.stamp_ns % 10**9:09d}"
    return (
        f"<figure>{_picture(section, i, side_px, overlay)}"
        f"<figcaption><code>&lt;frame {i}&gt;</code> {_age(section.frames, i)} · "
        f"{escape(frame.frame.camera)} · {frame.width} × {frame.height} · stamp {stamp} · "
        f'<span title="sha256 {escape(frame.sha256)}">{escape(frame.sha256[:12])}</span>'
        "</figcaption></figure>"
    )


def _picture(section: _Section, i: int, side_px: int, overlay: str = "") -> str:
    """An SVG in full pixels whose integer coordinates are pixel centres, as in `values`."""
    frame = section.frames[i]
    box = f"-0.5 -0.5 {max(1, frame.width)} {max(1, frame.height)}"
    return (
        f'<svg class="over" viewBox="{box}" role="img" aria-label="frame {i}">'
        f"{section.pictures.use(frame, side_px)}{overlay}</svg>"
    )


def _age(frames: FrameSet, index: int) -> str:
    """Seconds before the last frame, which is "now"."""
    age_s = (frames[len(frames) - 1].frame.stamp_ns - frames[index].frame.stamp_ns) / 1e9
    return "now" if age_s == 0 else f"{'−' if age_s > 0 else '+'}{abs(age_s):.1f} s"


def _answer(section: _Section) -> str:
    response, reading = section.response, section.response.reading
    start = _answer_start(reading)
    said = _marked(response, start, len(reading.text), section.key)
    chips = []
    if response.answer.finish_reason is FinishReason.LENGTH:
        chips.append('<span class="chip no">cut off by the token budget</span>')
    if reading.actions:
        chips.append(f'<span class="chip">{escape(" ".join(reading.actions))}</span>')
    if reading.done:
        chips.append('<span class="chip ok">the planner says that the task is done</span>')
    return (
        f'<h3>Answer</h3><div class="said" dir="auto">{said or "<i>(empty)</i>"}</div>'
        f"<p>{' '.join(chips)}</p>{_reasoning(section, start) if start else ''}"
    )


def _reasoning(section: _Section, end: int) -> str:
    response, first = section.response, len(section.response.lifted)
    figures = "".join(
        _figure(section, i, response.reasoning, first, _REASONING_SIDE_PX)
        for i in _key_frames(response.reasoning, section.frames)
    )
    count = len(response.reasoning)
    return (
        f"<details><summary>Reasoning, with {count} grounding{'s' * (count != 1)}: evidence, never "
        f'goals</summary><div class="said" dir="auto">{_marked(response, 0, end, section.key)}'
        f'</div><div class="keys">{figures}</div></details>'
    )


def _answer_start(reading: Reading) -> int:
    """Where the reasoning ends; 0 where there is none."""
    if not reading.reasoning_text:
        return 0
    return max(0, reading.text.rfind(reading.answer_text))


def _marked(response: Response, start: int, end: int, key: str) -> str:
    """The text's characters ``start:end``, verbatim, with groundings and rejected parts marked."""
    text = response.reading.text
    marks = [
        (item.grounding.span, f'<mark class="{_tint(i, item)}" data-g="{key}{i}" tabindex="0">')
        for i, item in enumerate((*response.lifted, *response.reasoning))
        if not isinstance(item.grounding, NoGrounding)
    ]
    marks += [
        (part.span, f'<mark class="bad" title="{escape(f"{part.reason}: {part.detail}")}">')
        for part in response.reading.rejected
    ]
    pieces, at = list[str](), start
    for (left, right), tag in sorted(marks):
        if at <= left < right <= end:
            pieces += [escape(text[at:left]), tag, escape(text[left:right]), "</mark>"]
            at = right
    return "".join([*pieces, escape(text[at:end])])


def _tint(index: int, item: LiftedGrounding) -> str:
    return "cx" if is_unusable(item) else f"c{index % len(PALETTE)}"


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
        f'<h3>Groundings</h3><table class="wide"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(index: int, item: LiftedGrounding, key: str) -> str:
    grounding = item.grounding
    points = item.points or ((item.target,) if item.target is not None else ())
    label = f'<br><span class="soft">{escape(grounding.label)}</span>' if grounding.label else ""
    flags = "".join(f' <span class="chip">{flag.value}</span>' for flag in _sorted(grounding.flags))
    fixed = [_metres(p.point_fixed_m) for p in points if p.point_fixed_m is not None]
    if fixed:
        fixed.append(f'<span class="soft">{escape(item.fixed_frame_id)}</span>')
    cells = (
        f'<span class="dot {_tint(index, item)}">{index + 1}</span>'
        f"{grounding.kind.replace('_', ' ')}{label}{flags}",
        "–" if grounding.frame is None else str(grounding.frame),
        _lines(f"({x:g}, {y:g})" for x, y in grounding.points),
        _lines(f"{u:.1f}, {v:.1f}" for u, v in item.points_px),
        _lines(_metres(p.point_camera_m) + ("*" if p.interpolated else "") for p in points),
        _lines(fixed),
        _lines(f"{p.sigma_m * 1000:.1f}" for p in points),
        f"{item.confidence:.2f}" if math.isfinite(item.confidence) else "–",
        _verdict(item),
    )
    styles = ("kind", "mono", "mono", "mono", "mono", "mono", "mono", "mono", "why")
    tds = "".join(
        f'<td class="{style}" data-label="{column}"><div>{cell}</div></td>'
        for style, column, cell in zip(styles, _COLUMNS, cells, strict=True)
    )
    return f'<tr class="{_tint(index, item)}" data-g="{key}{index}" tabindex="0">{tds}</tr>'


def _verdict(item: LiftedGrounding) -> str:
    if item.refusal is not None:
        return _no(item.refusal)
    if item.target is None:
        return '<span class="soft">not lifted</span>'
    mid_air = any(point.interpolated for point in item.points)
    note = '<br><span class="soft">* depth interpolated in mid-air</span>' if mid_air else ""
    pose = "" if item.pose_refusal is None else f"<br>in the camera only: {_no(item.pose_refusal)}"
    return f'<span class="chip ok">lifted</span>{pose}{note}'


def _no(refusal: Refusal) -> str:
    return f'<span class="chip no">{refusal.code.value}</span> {escape(refusal.text)}'


def _metres(point: Vector3) -> str:
    return ", ".join(f"{value:.3f}" for value in point).replace("-", "−")


def _lines(lines: Iterable[str]) -> str:
    return "<br>".join(lines) or "–"


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
    return _pairs(
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


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"
