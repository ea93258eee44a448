"""A whole task as one HTML file: what was seen, said, decided and done, turn by turn.

The file needs nothing else but the film, where there is one: that lies beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.planning.episode import Episode, StageBegan, TurnRecord
from rynn_brain_ros.view.page import STORY_STYLE
from rynn_brain_ros.view.parts import Shown, document, pairs, tile
from rynn_brain_ros.view.pictures import Pictures
from rynn_brain_ros.view.plane import BARE, Surroundings
from rynn_brain_ros.view.telling import doing, ended, plain, seconds, verdict
from rynn_brain_ros.view.timeline import timeline
from rynn_brain_ros.view.topview import Trace, top_view
from rynn_brain_ros.view.turncard import turn_card

_SIGNS = {"ok": "✓", "no": "✕", "halt": "■"}
_PICTURES = (".gif", ".png", ".jpg", ".webp")


@dataclass(frozen=True)
class StoryHead:
    """What a story says beside its episode.

    ``title`` is the page's; the headline is the task itself. ``provenance`` says where the run
    comes from, in the order to be shown; ``engine_note`` is what a reader must know about the
    engine before believing anything; ``film`` is a film's path relative to the page, or empty.
    """

    title: str
    subtitle: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    engine_note: str = ""
    film: str = ""


class StoryWriter:
    """Writes a story in parts: a turn's card and its small pictures are made as the turn ends."""

    def __init__(self) -> None:
        self._pictures = Pictures()
        self._cards: list[str] = []
        self._last: TurnRecord | None = None

    def add(self, turn: TurnRecord) -> None:
        """Makes the card of a turn that has ended; its frames may be let go after the next."""
        shown = None
        if turn.response is not None:
            shown = Shown(f"t{turn.number + 1}g", turn.response, self._pictures)
        self._cards.append(turn_card(turn, self._last, shown, self._pictures))
        self._last = turn

    def finish(
        self,
        path: Path,
        head: StoryHead,
        episode: Episode,
        trace: Trace = (),
        *,
        around: Surroundings = BARE,
        stages: Sequence[StageBegan] = (),
    ) -> None:
        """Writes the page to ``path``, whole or not at all.

        ``trace`` is the way of the tool, or of a driving base; ``around`` what is drawn under it;
        ``stages`` divides the timeline's bars. Raises `OutputError`.
        """
        above = _map(episode, trace, around)
        beside, below = (_film(head.film), _index(episode)) if head.film else (_index(episode), "")
        body = (
            f"{self._pictures.definitions()}{_header(head, episode)}"
            f'<main><div class="scene"><div>{beside}</div><div>{above}</div></div>'
            f'<h3>Over time</h3><div class="pan">{timeline(episode, stages)}</div>{below}'
            f"{''.join(self._cards)}{_provenance(head, episode)}</main>"
            "<footer>Each answer is bound to the exact frames it was computed from. Hover or click "
            "a grounding to find it in text, picture and table.</footer>"
        )
        local = bool(head.film)
        write_whole(path, document(head.title, STORY_STYLE, body, local_media=local))


def _header(head: StoryHead, episode: Episode) -> str:
    end = verdict(episode)
    note = f'<div class="note">{escape(head.engine_note)}</div>' if head.engine_note else ""
    cause = "" if episode.cause == "done" else f": {plain(episode.cause)}"
    return (
        f'<header><div class="eyebrow"><span>{escape(head.title)}</span>'
        f"<span>{escape(head.subtitle)}</span></div>"
        f'<h1 dir="auto">{escape(episode.task)}</h1>'
        f'<div class="verdict {end.mark}"><span class="sign">{_SIGNS[end.mark]}</span>'
        f"<div><b>{escape(end.word + cause)}</b><p>{escape(end.because)}</p></div></div>{note}"
        f'<div class="tiles">{_tiles(episode)}</div></header>'
    )


def _tiles(episode: Episode) -> str:
    moves = [move for turn in episode.turns for move in turn.moves]
    stages = [
        (t.times.look_s, t.times.ask_s, t.times.plan_s, t.times.gate_s) for t in episode.turns
    ]
    wall_s = sum(value for value in chain.from_iterable(stages) if math.isfinite(value))
    return (
        tile(len(episode.turns), "turn", "turns")
        + tile(sum(move.outcome is not None for move in moves), "motion", "motions")
        + tile(len(episode.refusals), "refusal", "refusals")
        + tile(seconds((episode.end_ns - episode.start_ns) / 1e9), "of the robot's time")
        + tile(seconds(wall_s), "of thinking, wall time")
    )


def _film(name: str) -> str:
    where = escape(quote(name, errors="replace"))
    if name.lower().endswith(_PICTURES):
        shown = f'<img src="{where}" alt="film of the task">'
    else:
        shown = f'<video src="{where}" controls muted loop playsinline preload="metadata"></video>'
    return (
        f'<figure class="film"><h3>Film</h3>{shown}'
        f'<figcaption><a href="{where}">{escape(name)}</a></figcaption></figure>'
    )


def _map(episode: Episode, trace: Trace, around: Surroundings) -> str:
    return f'<figure class="map"><h3>From above</h3>{top_view(episode, trace, around)}</figure>'


def _index(episode: Episode) -> str:
    if not episode.turns:
        return "<p class=soft>No turn was taken.</p>"
    rows = "".join(_line(turn) for turn in episode.turns)
    return f'<h3>Turns</h3><table class="index"><tbody>{rows}</tbody></table>'


def _line(turn: TurnRecord) -> str:
    end, number = ended(turn), turn.number + 1
    return (
        f'<tr><td><a class="badge t{turn.number % 7}" href="#t{number}">{number}</a></td>'
        f'<td><a href="#t{number}">{escape(doing(turn))}</a></td>'
        f'<td><span class="chip {end.mark}">{escape(end.word)}</span></td></tr>'
    )


def _provenance(head: StoryHead, episode: Episode) -> str:
    known: Iterable[tuple[str, str]] = chain((("Engine", episode.engine),), head.provenance.items())
    return f'<section class="query"><h2>Provenance</h2>{pairs(known)}</section>'
