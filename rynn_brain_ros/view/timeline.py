"""A task over time: when it looked, what thinking cost, how it moved, and how each turn ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rynn_brain_ros.planning.episode import Episode, Move, StageBegan, TurnRecord
from rynn_brain_ros.view.colors import BAD, GOOD, REFUSED, rim_of, turn_color
from rynn_brain_ros.view.svg import drawing, element, hex_of, titled, words
from rynn_brain_ros.view.telling import Verdict, doing, ended, name, plain, seconds, verdict

_WIDTH, _LEFT, _RIGHT = 1000.0, 74.0, 96.0
_TOP, _ROW, _BAR, _LETTER = 36.0, 24.0, 30.0, 6.4
_THINKING = ("look", "ask", "plan", "gate")
_MOTION_Y = _TOP + _ROW * len(_THINKING)
_ENDED_Y = _MOTION_Y + _BAR + 8
_AXIS_Y = _ENDED_Y + _ROW + 6
_HEIGHT = _AXIS_Y + 40
_SIGNS = {"ok": "✓", "no": "✕", "halt": "■", "": "·"}
_COLORS = {"ok": GOOD, "no": BAD, "halt": (230, 159, 0), "": REFUSED}


def timeline(episode: Episode, stages: Sequence[StageBegan] = ()) -> str:
    """An SVG with one lane for each stage of a turn, over the robot's time in seconds.

    Looking, asking, planning and the gate are instants with their wall time; motions are bars,
    divided at ``stages`` where those were kept; below, how each turn ended. What has no room for
    its text tells it when pointed at.
    """
    axis = _Axis.over(episode)
    layers = (
        *_bands(episode, axis),
        *_lanes(),
        *_ticks(axis),
        *_thoughts(episode, axis),
        *(_bar(turn, move, stages, axis) for turn in episode.turns for move in turn.moves),
        *_ends(episode, axis),
        _end(episode, axis),
    )
    return drawing(_WIDTH, _HEIGHT, "the task over time", "".join(layers))


@dataclass(frozen=True)
class _Axis:
    start_ns: int
    end_ns: int

    @classmethod
    def over(cls, episode: Episode) -> _Axis:
        stamps = [episode.start_ns, episode.end_ns, *(t.stamp_ns for t in episode.turns)]
        outcomes = (move.outcome for turn in episode.turns for move in turn.moves)
        stamps += [outcome.end_ns for outcome in outcomes if outcome is not None]
        return cls(min(stamps), max(*stamps, min(stamps) + 1))

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def at(self, stamp_ns: int) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        return _LEFT + room * (stamp_ns - self.start_ns) / (self.end_ns - self.start_ns)


@dataclass
class _Lane:
    """Keeps texts in one line from running into each other."""

    taken_to: float = -math.inf
    limit: float = _WIDTH

    def fits(self, left: float, text: str) -> bool:
        right = left + _LETTER * len(text)
        if left < self.taken_to or right > self.limit:
            return False
        self.taken_to = right + 4
        return True


# --- behind everything ---------------------------------------------------------------------------


def _bands(episode: Episode, axis: _Axis) -> Iterator[str]:
    """A pale band for each turn, and above it the turn's number, which leads to its card."""
    stamps = [*(turn.stamp_ns for turn in episode.turns), axis.end_ns]
    lane = _Lane()  # numbers stand apart also where they reach beyond their bands
    for turn, start_ns, end_ns in zip(episode.turns, stamps, stamps[1:], strict=False):
        left, right = axis.at(start_ns), max(axis.at(end_ns), axis.at(start_ns) + 2)
        color = hex_of(turn_color(turn.number))
        box = {"x": left, "width": right - left}
        band = element(
            "rect", **box, y=_TOP - 6, height=_AXIS_Y - _TOP + 6, fill=color, opacity=0.1
        )
        edge = element("rect", **box, y=_TOP - 8, height=3, fill=color)
        number = str(turn.number + 1)
        label = ""
        for told, lane.limit in ((f"{number}  {doing(turn)}", right), (number, _WIDTH)):
            if not label and lane.fits(left + 2, told):
                label = told
        text = words(left + 2, _TOP - 14, label, font_weight=600) if label else ""
        link = element("a", band + edge + text, href=f"#t{turn.number + 1}")
        yield titled(f"{name(turn)}: {doing(turn)}", link)


def _lanes() -> Iterator[str]:
    names = [*_THINKING, "motion", "ended"]
    middles = [_middle(i) for i in range(4)] + [_MOTION_Y + _BAR / 2, _ENDED_Y + _ROW / 2]
    for lane, y in zip(names, middles, strict=True):
        yield words(0, y + 4, lane, fill_opacity=0.68)
        yield _rule(_LEFT, y, _WIDTH - _RIGHT, y, 0.1)


def _middle(lane: int) -> float:
    return _TOP + _ROW * (lane + 0.5)


def _ticks(axis: _Axis) -> Iterator[str]:
    yield _rule(_LEFT, _AXIS_Y, _WIDTH - _RIGHT, _AXIS_Y, 0.45)
    step_s = _round_step(axis.seconds / 10)
    for k in range(math.floor(axis.seconds / step_s + 1e-9) + 1):
        x = axis.at(axis.start_ns + round(k * step_s * 1e9))
        yield _rule(x, _AXIS_Y, x, _AXIS_Y + 5, 0.45)
        text = f"{k * step_s:g}"
        yield words(x, _AXIS_Y + 18, text, text_anchor="middle", fill_opacity=0.68)
    yield words(_LEFT, _AXIS_Y + 34, "robot's time, s", fill_opacity=0.68)


def _round_step(about: float) -> float:
    power = 10 ** math.floor(math.log10(max(about, 1e-9)))
    return next(float(step * power) for step in (1, 2, 5, 10) if step * power >= about * 0.999)


def _rule(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    return element(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_opacity=opacity
    )


# --- thinking ------------------------------------------------------------------------------------


def _thoughts(episode: Episode, axis: _Axis) -> Iterator[str]:
    """A dot for every stage that took place, with its wall time; a cross where it refused."""
    lanes = [_Lane(limit=_WIDTH) for _ in _THINKING]
    stamps = [*(turn.stamp_ns for turn in episode.turns[1:]), None]
    for turn, next_ns in zip(episode.turns, stamps, strict=False):
        times = (turn.times.look_s, turn.times.ask_s, turn.times.plan_s, turn.times.gate_s)
        x, refused = axis.at(turn.stamp_ns), _refusing_lane(turn)
        for i, (lane, took_s) in enumerate(zip(lanes, times, strict=True)):
            lane.limit = _WIDTH if next_ns is None else axis.at(next_ns)
            if not math.isfinite(took_s) and i != refused:
                continue
            text = seconds(took_s) if math.isfinite(took_s) else ""
            shown = text if lane.fits(x + 13, text) else ""
            mark = _cross(x + 5, _middle(i)) if i == refused else _dot(x + 5, _middle(i), turn)
            label = words(x + 13, _middle(i) + 4, shown, font_size=11) if shown else ""
            yield titled(f"{name(turn)}: {_THINKING[i]} {text}", mark + label)


def _refusing_lane(turn: TurnRecord) -> int | None:
    """Where nothing came of a turn: no answer, no motion, or the gate."""
    if turn.refusal is None:
        return None
    if turn.response is None:
        return 1
    return 3 if any(not move.decision.approved for move in turn.moves) else 2


def _dot(x: float, y: float, turn: TurnRecord) -> str:
    return element("circle", cx=x, cy=y, r=4, fill=hex_of(turn_color(turn.number)))


def _cross(x: float, y: float) -> str:
    way = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return element("path", d=way, stroke=hex_of(BAD), stroke_width=2.6, fill="none")


# --- moving --------------------------------------------------------------------------------------


def _bar(turn: TurnRecord, move: Move, stages: Sequence[StageBegan], axis: _Axis) -> str:
    """One motion: a part for each stage whose beginning is known, else one part for all."""
    outcome = move.outcome
    if outcome is None:
        return ""
    begun = [
        stage
        for stage in stages
        if stage.number == turn.number and outcome.start_ns <= stage.stamp_ns <= outcome.end_ns
    ]
    if not begun:
        done, of = outcome.stages_done, len(move.motion.stages)
        text = f"{plain(move.motion.skill.value)} {done}/{of}"
        return _part(turn, text, outcome.start_ns, outcome.end_ns, axis, place=0)
    cuts = [*(stage.stamp_ns for stage in begun), outcome.end_ns]
    return "".join(
        _part(turn, plain(stage.stage.stage.value), start_ns, end_ns, axis, place=i)
        for i, (stage, (start_ns, end_ns)) in enumerate(zip(begun, pairwise(cuts), strict=True))
    )


def _part(
    turn: TurnRecord, text: str, start_ns: int, end_ns: int, axis: _Axis, *, place: int
) -> str:
    """Neighbours differ in shade."""
    left, right, color = axis.at(start_ns), axis.at(end_ns), turn_color(turn.number)
    bar = element(
        "rect",
        x=left,
        y=_MOTION_Y,
        width=max(1.5, right - left - 1),
        height=_BAR,
        rx=3,
        fill=hex_of(color),
        fill_opacity=1 if place % 2 == 0 else 0.78,
    )
    fits = _LETTER * len(text) + 8 < right - left
    ink: dict[str, str | float] = {
        "fill": hex_of(rim_of(color)),
        "font_size": 11.5,
        "text_anchor": "middle",
    }
    label = words((left + right) / 2, _MOTION_Y + _BAR / 2 + 4, text, **ink) if fits else ""
    took = seconds((end_ns - start_ns) / 1e9)
    return titled(f"{name(turn)}: {text}, {took}", bar + label)


# --- ending --------------------------------------------------------------------------------------


def _ends(episode: Episode, axis: _Axis) -> Iterator[str]:
    lane, y = _Lane(_LEFT), _ENDED_Y + _ROW / 2
    places = [_end_place(turn, axis) for turn in episode.turns]
    limits = [*(place - 8 for place in places[1:]), _WIDTH - _RIGHT]
    for turn, x, lane.limit in zip(episode.turns, places, limits, strict=False):
        end = ended(turn)
        text = end.word.removeprefix("refused: ")
        yield titled(f"{name(turn)}: {end.word} {end.because}", _ending(end, text, x, y, lane))


def _end_place(turn: TurnRecord, axis: _Axis) -> float:
    outcomes = [move.outcome for move in turn.moves if move.outcome is not None]
    return axis.at(outcomes[-1].end_ns) if outcomes else axis.at(turn.stamp_ns) + 5


def _ending(end: Verdict, text: str, x: float, y: float, lane: _Lane) -> str:
    """The sign stands where it happened, its text to the left of it, else to the right; it is
    left out where there is no room."""
    color = hex_of(_COLORS[end.mark])
    sign = words(x, y + 5, _SIGNS[end.mark], fill=color, font_weight=700, text_anchor="middle")
    if x - 9 - _LETTER * len(text) > lane.taken_to:
        lane.taken_to = x + 9
        return sign + words(x - 9, y + 4, text, font_size=11, text_anchor="end")
    return sign + (words(x + 9, y + 4, text, font_size=11) if lane.fits(x + 9, text) else "")


def _end(episode: Episode, axis: _Axis) -> str:
    """The last word: a line at the end of the motions' lane, and the verdict beside it."""
    end, x = verdict(episode), axis.at(episode.end_ns)
    color = hex_of(_COLORS[end.mark])
    line = element("line", x1=x, y1=_MOTION_Y - 3, x2=x, y2=_AXIS_Y, stroke=color, stroke_width=2)
    lines = end.word.replace(", ", " ").replace(" and ", "\n& ").split("\n")
    text = "".join(
        words(x + 8, _MOTION_Y + 14 + 15 * i, part, fill=color, font_weight=700)
        for i, part in enumerate(lines)
    )
    return titled(f"{end.word}: {end.because}", line + text)
