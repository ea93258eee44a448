"""A task seen from above: where it acted, and the way that the robot took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rynn_brain_ros.planning.episode import Episode, Move, TurnRecord
from rynn_brain_ros.values import DriveGoal, Motion, Point2, Skill, SpinGoal, Vector3
from rynn_brain_ros.view.colors import rim_of, turn_color
from rynn_brain_ros.view.plane import (
    BARE,
    WIDTH,
    Plane,
    Surroundings,
    background,
    grid,
    plane_over,
    scale_bar,
    soft,
    workspace,
)
from rynn_brain_ros.view.svg import drawing, element, hex_of, points_of, titled, words
from rynn_brain_ros.view.telling import doing, drives, ended, name

Trace = Sequence[tuple[int, Vector3]]
"""(stamp_ns, place of the tool or of the driving base in the base frame, metres), by time."""

_BADGE_PX = 9.5


def top_view(episode: Episode, trace: Trace, around: Surroundings = BARE) -> str:
    """An SVG of the base frame from above, x up and y to the left (REP 103).

    Every turn has its colour and number, at each target of its motions: a disc where it takes, a
    square where it puts, a cross where nothing moved. ``trace`` is the way of the tool, or of the
    base where it drives: then with arrowheads along its heading. Raises `ImageError` for a
    background that is no RGB picture.
    """
    marks = tuple(_marks(episode))
    driving = drives(episode)
    plane = _plane(marks, trace, around, driving)
    ways = tuple(_ways(episode, trace, plane, driving))
    way = "➤ the base's way" if driving else "— the tool's way"
    layers = (
        background(around.background, plane),
        grid(plane),
        workspace(around.workspace_m, plane),
        "" if driving else _base(plane, _frame_of(episode)),
        *ways,
        *(_stops(trace, plane) if driving else ()),
        *_targets(marks, plane),
        scale_bar(plane),
        _legend(marks, plane, way if ways else ""),
    )
    return drawing(WIDTH, plane.height, "the task seen from above", "".join(layers))


def _plane(marks: Sequence[_Mark], trace: Trace, around: Surroundings, driving: bool) -> Plane:
    points_m = [mark.xy_m for mark in marks] + [(p[0], p[1]) for _, p in trace if _is_finite(p)]
    if not driving or not points_m:
        points_m.append((0.0, 0.0))
    picture = None if around.background is None else around.background.bounds_m
    return plane_over(points_m, [b for b in (around.workspace_m, picture) if b is not None])


def _is_finite(point: Vector3) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _base(plane: Plane, frame: str) -> str:
    """The robot's base and its axes, x red and y green as everywhere in ROS."""
    u, v = plane.at(0.0, 0.0)
    return (
        element("circle", cx=u, cy=v, r=13, fill="currentColor", fill_opacity=0.16)
        + element("circle", cx=u, cy=v, r=13, fill="none", stroke="currentColor")
        + element("line", x1=u, y1=v, x2=u, y2=v - 25, stroke="#d5432f", stroke_width=2.6)
        + element("line", x1=u, y1=v, x2=u - 25, y2=v, stroke="#2f9e57", stroke_width=2.6)
        + soft(u + 19, v + 5, frame or "robot")
    )


def _frame_of(episode: Episode) -> str:
    frames = [move.motion.base_frame for turn in episode.turns for move in turn.moves]
    return next(iter(frames), "")


# --- the way -------------------------------------------------------------------------------------


def _ways(episode: Episode, trace: Trace, plane: Plane, driving: bool) -> Iterator[str]:
    """The trace turn by turn, each in its colour, first to last."""
    starts = [turn.stamp_ns for turn in episode.turns]
    points = [(s, plane.at(p[0], p[1])) for s, p in trace if _is_finite(p)]
    begins = [next((i for i, (s, _) in enumerate(points) if s >= t), None) for t in starts]
    cuts = [len(points) if i is None else max(0, i - 1) for i in begins] + [len(points)]
    for turn, start, end in zip(episode.turns, cuts, cuts[1:], strict=False):
        way = _thinned([at for _, at in points[start : end + 1]])
        if len(way) > 1:
            yield titled(f"{name(turn)}: {doing(turn)}", _way(way, turn))
        if driving:
            yield from _headings(points[start : end + 1], turn)


def _way(way: Sequence[Point2], turn: TurnRecord) -> str:
    line = {"points": points_of(way), "fill": "none", "stroke_linejoin": "round"}
    color = turn_color(turn.number)
    rim = element("polyline", **line, stroke=hex_of(rim_of(color)), stroke_width=4, opacity=0.35)
    return rim + element("polyline", **line, stroke=hex_of(color), stroke_width=2.4)


def _thinned(points: Sequence[Point2], least_px: float = 0.6) -> list[Point2]:
    """Without points that nobody can tell from the one before."""
    kept: list[Point2] = []
    for point in points:
        if not kept or math.dist(point, kept[-1]) >= least_px:
            kept.append(point)
    return kept


def _headings(points: Sequence[tuple[int, Point2]], turn: TurnRecord) -> Iterator[str]:
    """An arrowhead about every 34 pixels, along the base's heading: backwards where it backs."""
    run = 10.0
    for (_, a), (stamp_ns, b) in pairwise(points):
        length = math.dist(a, b)
        run += length
        if length > 0 and run >= 34:
            run = 0.0
            sign = -1 if _backs(turn.moves, stamp_ns) else 1
            yield _arrowhead(
                b, (sign * (b[0] - a[0]) / length, sign * (b[1] - a[1]) / length), turn
            )


def _backs(moves: Sequence[Move], stamp_ns: int) -> bool:
    running = (m for m in moves if m.outcome and m.outcome.start_ns <= stamp_ns <= m.outcome.end_ns)
    goals = [stage.goal for move in running for stage in move.motion.stages]
    return any(isinstance(goal, DriveGoal) and goal.distance_m < 0 for goal in goals)


def _arrowhead(at: Point2, direction: Point2, turn: TurnRecord) -> str:
    (u, v), (du, dv) = at, direction
    tip, left, right = (
        (u + du * a - dv * b, v + dv * a + du * b) for a, b in ((7, 0), (-5, 5), (-5, -5))
    )
    color = turn_color(turn.number)
    return element(
        "polygon",
        points=points_of((tip, left, (u - 2 * du, v - 2 * dv), right)),
        fill=hex_of(color),
        stroke=hex_of(rim_of(color)),
        stroke_width=0.7,
    )


def _stops(trace: Trace, plane: Plane) -> Iterator[str]:
    places = [plane.at(p[0], p[1]) for _, p in trace if _is_finite(p)]
    if places:
        yield _stop(places[0], "start", plane)
        yield _stop(places[-1], "end", plane)


def _stop(at: Point2, text: str, plane: Plane) -> str:
    u, v = at
    left, _, width, _ = plane.frame
    inside = u < left + width - 50
    ring = element("circle", cx=u, cy=v, r=4, fill="none", stroke="currentColor", stroke_width=2)
    side = {"text_anchor": "start" if inside else "end"}
    return ring + words(u + (9 if inside else -9), v - 7, text, font_weight=600, **side)


# --- the targets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mark:
    """A place that a turn acts on, or was refused to act on."""

    turn: TurnRecord
    xy_m: Point2
    skill: Skill
    moved: bool


def _marks(episode: Episode) -> Iterator[_Mark]:
    for turn in episode.turns:
        for move in turn.moves:
            x, y, _ = move.motion.target_m
            shown = _is_on_map(move.motion) and not _is_repeated(move, turn)
            if shown and _is_finite(move.motion.target_m):
                yield _Mark(turn, (x, y), move.motion.skill, move.outcome is not None)


def _is_repeated(move: Move, turn: TurnRecord) -> bool:
    """Of several moves in one turn only the last has a place worth a number."""
    return move is not turn.moves[-1]


def _is_on_map(motion: Motion) -> bool:
    """A step of a driving base is told from where the base is; its way says where that was."""
    return not any(isinstance(stage.goal, DriveGoal | SpinGoal) for stage in motion.stages)


def _targets(marks: Sequence[_Mark], plane: Plane) -> Iterator[str]:
    taken: list[Point2] = [plane.at(*mark.xy_m) for mark in marks]
    for mark in marks:
        at = plane.at(*mark.xy_m)
        badge = _free_spot(at, taken, plane)
        taken.append(badge)
        x, y = mark.xy_m
        end = ended(mark.turn).word
        tip = f"{name(mark.turn)}: {doing(mark.turn)} at {x:.3f}, {y:.3f} m · {end}"
        yield titled(tip, _leader(at, badge) + _symbol(mark, at) + _badge(mark.turn, badge))


def _free_spot(at: Point2, taken: Sequence[Point2], plane: Plane) -> Point2:
    """Around the target, as far as possible from everything else, inside the map."""
    left, top, width, height = plane.frame
    spots = [
        (at[0] + r * math.cos(a), at[1] - r * math.sin(a))
        for r in (24.0, 38.0)
        for a in np.radians([45, 135, -45, -135, 0, 180, 90, -90]).tolist()
    ]
    inside = [
        s for s in spots if 12 < s[0] - left < width - 12 and 12 < s[1] - top < height - 12
    ] or spots
    clear = (s for s in inside if all(math.dist(s, other) > 2.2 * _BADGE_PX for other in taken))
    return next(clear, inside[0])


def _leader(at: Point2, badge: Point2) -> str:
    return element(
        "line",
        x1=at[0],
        y1=at[1],
        x2=badge[0],
        y2=badge[1],
        stroke="currentColor",
        stroke_opacity=0.55,
    )


def _symbol(mark: _Mark, at: Point2) -> str:
    (u, v), color = at, turn_color(mark.turn.number)
    paint: dict[str, str | float] = {
        "fill": hex_of(color),
        "stroke": hex_of(rim_of(color)),
        "stroke_width": 1.4,
    }
    if not mark.moved:
        cross = f"M{u - 5:.1f} {v - 5:.1f}l10 10m0 -10l-10 10"
        return element("path", d=cross, fill="none", stroke=hex_of(color), stroke_width=3)
    if mark.skill is Skill.PLACE:
        return element("rect", x=u - 5.5, y=v - 5.5, width=11, height=11, **paint)
    return element("circle", cx=u, cy=v, r=6, **paint)


def _badge(turn: TurnRecord, at: Point2) -> str:
    color = turn_color(turn.number)
    number = words(
        at[0],
        at[1] + 4,
        str(turn.number + 1),
        fill=hex_of(rim_of(color)),
        text_anchor="middle",
        font_weight=700,
    )
    circle = element("circle", cx=at[0], cy=at[1], r=_BADGE_PX, fill=hex_of(color))
    return element("a", circle + number, href=f"#t{turn.number + 1}")


def _legend(marks: Sequence[_Mark], plane: Plane, way: str) -> str:
    """The signs that occur, in a row below."""
    kinds = {
        "refused" if not m.moved else "put" if m.skill is Skill.PLACE else "act" for m in marks
    }
    texts = {"act": "● acts here", "put": "■ puts here", "refused": "✕ nothing moved"}
    shown = [*(texts[kind] for kind in texts if kind in kinds), way]
    return soft(plane.frame[0], plane.height - 10, " \u2002 ".join(shown))
