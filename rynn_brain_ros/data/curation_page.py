"""The page on which a person judges a curation: one file, without a network, its pictures inside.

It is drawn here and comes alive by `curation_script.SCRIPT`, which also writes the review.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from rynn_brain_ros.data.curation import PAGE, Curation, Proposal, ProposedAnswer
from rynn_brain_ros.data.curation_script import CURATION_STYLE, SCRIPT
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import Box, SelectedFrame
from rynn_brain_ros.view.page import STYLE
from rynn_brain_ros.view.parts import document


def write_curation_page(curation: Curation, folder: Path) -> Path:
    """Writes the page into the curation's ``folder`` and returns its path. Raises `OutputError`."""
    write_whole(folder / PAGE, curation_page(curation, folder))
    return folder / PAGE


def curation_page(curation: Curation, folder: Path) -> bytes:
    """The page of a curation that lies in ``folder``, which its reviews will name."""
    shown = {
        item.name: _picture(answer, item)
        for answer in curation.answers
        for item in answer.proposals
    }
    pictures = {frame.sha256: _uri(frame) for frame in shown.values() if frame is not None}
    data = {
        "curation": curation.sha256,
        "folder": str(folder.resolve()),
        "pictures": pictures,
        "proposals": [_plain(item, shown[item.name]) for item in curation.proposals.values()],
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    count = len(data["proposals"])
    body = (
        f"<header><h1>Curate {count} proposals</h1>"
        '<p class="sub">Accept what is right. Drag what is not: a point, a corner of a box, a '
        "point of a trajectory; a trajectory and an area can be given points and lose some. Reject "
        "what cannot be mended. An answer becomes training data when all of its proposals are "
        "kept.</p></header>"
        f"{_BAR}<main>{''.join(_article(answer) for answer in curation.answers)}</main>"
        f"<footer>Curation {curation.sha256[:12]}, {len(curation.answers)} answers. Keys: A "
        "accepts, R rejects, U undoes, J and K go on and back; arrows move a focused handle, "
        "Delete removes its point; Shift and a click in the picture add one.</footer>"
        f'<script type="application/json" id="data">{text}</script>'
    )
    return document("Curate", STYLE + CURATION_STYLE, body, script=SCRIPT)


_BAR = (
    '<div class="bar"><output id="count"></output>'
    '<label>Reviewer <input id="reviewer" autocomplete="name"></label>'
    '<label class="file">Open a review <input id="open" type="file" accept=".json"></label>'
    '<button id="save">Save review</button><span id="told" role="status"></span></div>'
)
_POINTS = (
    '<span class="points"><button data-do="add">Add point</button>'
    '<button data-do="remove">Remove point</button></span>'
)
_HINT = '<span class="hint" role="status"></span>'


def _picture(answer: ProposedAnswer, item: Proposal) -> SelectedFrame | None:
    """What is pointed into; else what the robot saw last."""
    frames = answer.case.query.frames
    if item.grounding is not None and item.grounding.frame is not None:
        return frames[item.grounding.frame]
    return frames[-1] if len(frames) else None


def _uri(frame: SelectedFrame) -> str:
    return f"data:{frame.mime};base64,{base64.b64encode(frame.image).decode()}"


def _plain(item: Proposal, frame: SelectedFrame | None) -> dict[str, Any]:
    grounding = item.grounding
    return {
        "name": item.name,
        "box": isinstance(grounding, Box),
        "line": grounding is not None and grounding.kind == "trajectory",
        "loop": grounding is not None and grounding.kind == "grasp_rectangle",
        "points": grounding.points if grounding is not None and item.movable else [],
        "least": item.counts[0],
        "most": item.counts[1],
        "problem": item.problem,
        "sha256": None if frame is None else frame.sha256,
    }


def _article(answer: ProposedAnswer) -> str:
    case = answer.case
    about = (
        Path(answer.run).name,
        case.query.task.value,
        case.name,
        f"{answer.engine}, {case.expected.model}",
    )
    sections = "".join(_section(answer, item, i) for i, item in enumerate(answer.proposals))
    return (
        f'<article class="query"><div class="eyebrow">{"".join(map(_span, about))}</div>'
        f"<h2>{escape(case.query.instruction)}</h2>"
        f'<p class="said">{_said(answer)}</p><div class="proposals">{sections}</div></article>'
    )


def _span(text: str) -> str:
    return f"<span>{escape(text)}</span>"


def _said(answer: ProposedAnswer) -> str:
    """The answer's words, each thing that is pointed at in its colour."""
    text, pieces, cursor = answer.case.expected.text, list[str](), 0
    for index, item in enumerate(answer.proposals):
        if item.grounding is not None:
            start, end = item.grounding.span
            pieces.append(escape(text[cursor:start]))
            pieces.append(f'<mark class="c{index % 7}">{escape(text[start:end])}</mark>')
            cursor = end
    return "".join([*pieces, escape(text[cursor:])])


def _section(answer: ProposedAnswer, item: Proposal, index: int) -> str:
    frame, grounding = _picture(answer, item), item.grounding
    what = "whole answer" if grounding is None else grounding.tag
    number = "" if grounding is None or grounding.frame is None else f"frame {grounding.frame} · "
    facts = "" if frame is None else f"{number}{_frame_facts(frame)}"
    varies = item.counts[0] != item.counts[1]
    return (
        f'<section class="proposal c{index % 7}" data-proposal="{item.name}" tabindex="0">'
        f'<p class="head"><span class="dot">{item.name}</span>{escape(what)} '
        '<span class="chip">open</span></p>'
        f"{_svg(frame)}<p class=mono></p>{_problems(item)}"
        '<p class="buttons"><button data-do="accept">Accept</button>'
        '<button data-do="reject">Reject</button><button data-do="undo">Undo</button>'
        f"{_POINTS if varies else ''}{_HINT if item.movable else ''}</p>"
        f'<p class="facts">{escape(facts)}</p></section>'
    )


def _svg(frame: SelectedFrame | None) -> str:
    """Pixel centres are whole numbers, so the picture begins half a pixel before 0."""
    if frame is None:
        return ""
    size = f'width="{frame.width}" height="{frame.height}"'
    return (
        f'<svg viewBox="-0.5 -0.5 {frame.width} {frame.height}" data-w="{frame.width}" '
        f'data-h="{frame.height}"><image x="-0.5" y="-0.5" {size}/><g></g></svg>'
    )


def _problems(item: Proposal) -> str:
    if not item.problem:
        return ""
    way = "correct or reject it" if item.movable else "it can only be rejected"
    return f'<p class="problem">{escape(item.problem)}: {way}</p>'


def _frame_facts(frame: SelectedFrame) -> str:
    parts: Iterable[str] = (
        frame.frame.camera,
        f"stamp {frame.frame.stamp_ns // 10**9}.{frame.frame.stamp_ns % 10**9:09d}",
        f"{frame.width} × {frame.height}",
        f"sha256 {frame.sha256[:12]}",
    )
    return " · ".join(parts)
