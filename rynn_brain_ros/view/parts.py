"""Parts that every page is made of: the document itself, and one answer shown on it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from rynn_brain_ros.values import (
    FinishReason,
    FrameSet,
    LiftedGrounding,
    NoGrounding,
    Reading,
    Refusal,
    Response,
    SelectedFrame,
    Vector3,
)
from rynn_brain_ros.view.colors import PALETTE, is_unusable
from rynn_brain_ros.view.page import SCRIPT
from rynn_brain_ros.view.pictures import KEY_SIDE_PX, THUMBNAIL_SIDE_PX, Pictures
from rynn_brain_ros.view.svg import overlay_svg

_REASONING_SIDE_PX = 640


def document(
    title: str, style: str, body: str, *, local_media: bool = False, script: str = SCRIPT
) -> bytes:
    """A whole page that needs nothing else: no network, no fonts, no other files.

    ``local_media`` allows a picture or a film beside the page, named in ``body``.
    """
    beside = " 'self' file:" if local_media else ""
    # Only this very style and script may act, whatever an answer manages to smuggle in.
    policy = (
        f"default-src 'none'; img-src data:{beside}; style-src {_hash(style)}; "
        f"script-src {_hash(script)}" + (f"; media-src{beside}" if beside else "")
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>"
        f"{body}<script>{script}</script></body></html>\n"
    )
    # A lone surrogate, which a hostile answer may hold, has no UTF-8 form.
    return page.encode("utf-8", "xmlcharrefreplace")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def tile(count: int | str, one: str, many: str = "") -> str:
    """A figure with what it counts below."""
    return f"<div><b>{count}</b><span>{one if count == 1 else many or one}</span></div>"


@dataclass(frozen=True)
class Shown:
    """One response on its way into a page; ``key`` starts the names of its groundings."""

    key: str
    response: Response
    pictures: Pictures

    @property
    def frames(self) -> FrameSet:
        return self.response.query.frames


def looks(shown: Shown) -> str:
    """The frames that the answer points into, or the newest, under a heading."""
    lifted = shown.response.lifted
    pointed = _key_frames(lifted, shown.frames)
    heading = "Where the answer points" if pointed else "Now"
    figures = "".join(_figure(shown, i, lifted, 0, KEY_SIDE_PX) for i in _keys(shown))
    return f"<h3>{heading}</h3>{figures}"


def _keys(shown: Shown) -> tuple[int, ...]:
    pointed = _key_frames(shown.response.lifted, shown.frames)
    return pointed or tuple(range(len(shown.frames)))[-1:]


def _key_frames(lifted: Sequence[LiftedGrounding], frames: FrameSet) -> tuple[int, ...]:
    named = {i.grounding.frame for i in lifted if i.points_px and i.grounding.frame is not None}
    return tuple(sorted(index for index in named if 0 <= index < len(frames)))


def strip(shown: Shown) -> str:
    """Every frame of the question, small; those pointed into are framed."""
    if len(shown.frames) < 2:
        return ""
    keys = _keys(shown)
    figures = "".join(
        f"<figure{' class=key' if i in keys else ''}>"
        f"{_picture(shown.pictures, shown.frames[i], i, THUMBNAIL_SIDE_PX)}"
        f"<figcaption><code>&lt;frame {i}&gt;</code> {_age(shown.frames, i)}</figcaption>"
        "</figure>"
        for i in range(len(shown.frames))
    )
    return f'<h3>Frames, as the model saw them</h3><div class="strip">{figures}</div>'


def _figure(
    shown: Shown, i: int, lifted: Sequence[LiftedGrounding], first_index: int, side_px: int
) -> str:
    frame = shown.frames[i]
    overlay = overlay_svg(lifted, frame, first_index=first_index, key=shown.key)
    stamp = f"{frame.frame.stamp_ns // 10**9}.{frame.frame.stamp_ns % 10**9:09d}"
    return (
        f"<figure>{_picture(shown.pictures, frame, i, side_px, overlay)}"
        f"<figcaption><code>&lt;frame {i}&gt;</code> {_age(shown.frames, i)} · "
        f"{escape(frame.frame.camera)} · {frame.width} × {frame.height} · stamp {stamp} · "
        f'<span title="sha256 {escape(frame.sha256)}">{escape(frame.sha256[:12])}</span>'
        "</figcaption></figure>"
    )


def still(pictures: Pictures, frames: FrameSet) -> str:
    """The newest of ``frames``, with nothing drawn into it."""
    if not len(frames):
        return ""
    last = len(frames) - 1
    return f"<h3>Now</h3><figure>{_picture(pictures, frames[last], last, KEY_SIDE_PX)}</figure>"


def _picture(
    pictures: Pictures, frame: SelectedFrame, i: int, side_px: int, overlay: str = ""
) -> str:
    """An SVG in full pixels whose integer coordinates are pixel centres, as in `values`."""
    box = f"-0.5 -0.5 {max(1, frame.width)} {max(1, frame.height)}"
    return (
        f'<svg class="over" viewBox="{box}" role="img" aria-label="frame {i}">'
        f"{pictures.use(frame, side_px)}{overlay}</svg>"
    )


def _age(frames: FrameSet, index: int) -> str:
    """Seconds before the last frame, which is "now"."""
    age_s = (frames[len(frames) - 1].frame.stamp_ns - frames[index].frame.stamp_ns) / 1e9
    return "now" if age_s == 0 else f"{'−' if age_s > 0 else '+'}{abs(age_s):.1f} s"


def answer(shown: Shown) -> str:
    response, reading = shown.response, shown.response.reading
    start = _answer_start(reading)
    said = _marked(response, start, len(reading.text), shown.key)
    chips = []
    if response.answer.finish_reason is FinishReason.LENGTH:
        chips.append('<span class="chip no">cut off by the token budget</span>')
    if reading.actions:
        chips.append(f'<span class="chip">{escape(" ".join(reading.actions))}</span>')
    if reading.done:
        chips.append('<span class="chip ok">the planner says that the task is done</span>')
    return (
        f'<h3>Answer</h3><div class="said" dir="auto">{said or "<i>(empty)</i>"}</div>'
        f"<p>{' '.join(chips)}</p>{_reasoning(shown, start) if start else ''}"
    )


def _reasoning(shown: Shown, end: int) -> str:
    response, first = shown.response, len(shown.response.lifted)
    figures = "".join(
        _figure(shown, i, response.reasoning, first, _REASONING_SIDE_PX)
        for i in _key_frames(response.reasoning, shown.frames)
    )
    count = len(response.reasoning)
    return (
        f"<details><summary>Reasoning, with {count} grounding{'s' * (count != 1)}: evidence, never "
        f'goals</summary><div class="said" dir="auto">{_marked(response, 0, end, shown.key)}'
        f'</div><div class="keys">{figures}</div></details>'
    )


def _answer_start(reading: Reading) -> int:
    """Where the reasoning ends; 0 where there is none."""
    if not reading.reasoning_text:
        return 0
    return reading.answer_start if reading.answer_text else len(reading.text)


def _marked(response: Response, start: int, end: int, key: str) -> str:
    """The text's characters ``start:end``, verbatim, with groundings and rejected parts marked."""
    text = response.reading.text
    marks = [
        (item.grounding.span, f'<mark class="{tint(i, item)}" data-g="{key}{i}" tabindex="0">')
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


def tint(index: int, item: LiftedGrounding) -> str:
    return "cx" if is_unusable(item) else f"c{index % len(PALETTE)}"


def no(refusal: Refusal) -> str:
    return f'<span class="chip no">{refusal.code.value}</span> {escape(refusal.text)}'


def metres(point: Vector3) -> str:
    return ", ".join(f"{value:.3f}" for value in point).replace("-", "−")


def lines(texts: Iterable[str]) -> str:
    return "<br>".join(texts) or "–"


def pairs(named: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in named)
    return f"<dl>{rows}</dl>"
