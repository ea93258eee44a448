"""The three panels of an evaluation's picture, each an SVG's content of `PANEL` pixels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from rynn_brain_ros.view.colors import BAD, GOOD, PALETTE, REFUSED
from rynn_brain_ros.view.svg import element, hex_of, points_of, titled, words
from rynn_brain_ros.view.telling import percent, plain, seconds

PANEL = (360.0, 270.0)
"""Width and height in pixels."""
_TOP, _BOTTOM, _LEFT, _RIGHT = 40.0, 240.0, 130.0, 300.0
"""Of bars and lines. What is written right of them is as wide as ``>99.9%`` and ``999 ms``."""
_MOST_ROWS = 9
_FILLS = (GOOD, BAD, REFUSED)
"""Of `Counts`."""
_Scale = Callable[[float], float]


Counts = tuple[int, int, int]
"""Of episodes: succeeded, not succeeded, not judged."""


def cause_panel(causes: Mapping[str, Counts]) -> str:
    """Bars of how episodes ended, by cause."""
    ordered = sorted(causes.items(), key=lambda item: (-sum(item[1]), item[0]))
    rows = ordered[:_MOST_ROWS]
    if len(ordered) > _MOST_ROWS:
        rows = [*ordered[: _MOST_ROWS - 1], _others(ordered[_MOST_ROWS - 1 :])]
    most = max((sum(of) for _, of in rows), default=1)
    bars = (_cause_bar(place, name, of, most) for place, (name, of) in enumerate(rows))
    key = words(_LEFT, _BOTTOM + 20, "■ succeeded", fill=hex_of(GOOD))
    key += words(_LEFT + 92, _BOTTOM + 20, "■ not", fill=hex_of(BAD))
    if any(unjudged for *_, unjudged in causes.values()):
        key += words(_LEFT + 136, _BOTTOM + 20, "■ not judged", fill=hex_of(REFUSED))
    return _title("How the episodes ended") + "".join(bars) + key


def _others(rest: Sequence[tuple[str, Counts]]) -> tuple[str, Counts]:
    won, lost, unjudged = (sum(column) for column in zip(*(of for _, of in rest), strict=True))
    return f"{len(rest)} others", (won, lost, unjudged)


def _cause_bar(place: int, name: str, counts: Counts, most: int) -> str:
    scale, y, x, bars = (_RIGHT - _LEFT) / most, _row(place), _LEFT, ""
    for n, fill in zip(counts, _FILLS, strict=True):
        bars += _rect(x, y, n * scale, hex_of(fill))
        x += n * scale
    won, lost, unjudged = counts
    told = f"{plain(name)}: {won} succeeded, {lost} did not" + (
        f", {unjudged} were not judged" if unjudged else ""
    )
    count = words(x + 6, y + 12, str(sum(counts)), font_weight=600)
    return titled(told, _name(plain(name), y) + bars + count)


def success_panel(steps: Sequence[tuple[float, float, float]]) -> str:
    """(rate, low, high) after each episode: a line in the band of its 95 % interval."""
    left, right = 42.0, _RIGHT
    n = max(1, len(steps) - 1)

    def at(i: int, share: float) -> tuple[float, float]:
        return (left + (right - left) * i / n, _BOTTOM - (_BOTTOM - _TOP) * share)

    parts = [_title("Success rate, episode by episode"), *_shares(left, right)]
    if steps:
        high = [at(i, step[2]) for i, step in enumerate(steps)]
        low = [at(i, step[1]) for i, step in enumerate(steps)]
        line = [at(i, step[0]) for i, step in enumerate(steps)]
        band = points_of([*high, *reversed(low)])
        color = hex_of(GOOD)
        parts.append(element("polygon", points=band, fill=color, opacity=0.18))
        way: dict[str, str | float] = {"stroke": color, "stroke_width": 2.4, "fill": "none"}
        parts.append(element("polyline", points=points_of(line), **way))
        u, v = line[-1]
        parts.append(element("circle", cx=u, cy=v, r=4, fill=color))
        parts.append(words(u + 7, v + 5, percent(steps[-1][0]), fill=color, font_weight=700))
        parts.append(_soft(left, _BOTTOM + 20, "1"))
        parts.append(_soft(right, _BOTTOM + 20, f"{len(steps)} episodes", text_anchor="end"))
    else:
        middle = (left + right) / 2
        parts.append(_soft(middle, (_TOP + _BOTTOM) / 2 - 6, "not judged", text_anchor="middle"))
    return "".join(parts)


def _shares(left: float, right: float) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _BOTTOM - (_BOTTOM - _TOP) * share
        yield element(
            "line", x1=left, y1=y, x2=right, y2=y, stroke="currentColor", stroke_opacity=0.13
        )
        yield _soft(left - 6, y + 4, f"{share:.0%}", text_anchor="end")


def stage_panel(stages: Mapping[str, Sequence[float]]) -> str:
    """Bars of the median wall time of each stage, with a line from the least to the most.

    The scale is logarithmic, since stages differ by orders of magnitude.
    """
    rows = [(name, sorted(of)) for name, of in stages.items() if of][:_MOST_ROWS]
    values = [value for _, of in rows for value in of if value > 0]
    low = math.floor(math.log10(min(values, default=0.001))) - 0.3
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)

    def at(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return _LEFT + (_RIGHT - _LEFT) * share

    bars = "".join(_stage_bar(i, name, of, at) for i, (name, of) in enumerate(rows))
    note = _soft(_LEFT, _BOTTOM + 20, "median, least to most; log scale")
    return _title("Wall time of a turn, by stage") + bars + note


def _stage_bar(place: int, name: str, values: Sequence[float], at: _Scale) -> str:
    y, middle = _row(place), statistics.median(values)
    bar = _rect(_LEFT, y, at(middle) - _LEFT, hex_of(PALETTE[place % len(PALETTE)]))
    least, most = at(values[0]), at(values[-1])
    line = element(
        "line", x1=least, y1=y + 8, x2=most, y2=y + 8, stroke="currentColor", stroke_width=1.6
    )
    text = words(max(most, at(middle)) + 6, y + 12, seconds(middle), font_weight=600)
    told = f"{name}: median {seconds(middle)}, {seconds(values[0])} to {seconds(values[-1])}"
    return titled(told, _name(name, y) + bar + line + text)


def _title(text: str) -> str:
    return words(0, 16, text, font_weight=600, font_size=13)


def _name(text: str, y: float) -> str:
    short = text if len(text) <= 19 else text[:18] + "…"
    return words(_LEFT - 8, y + 12, short, text_anchor="end")


def _row(place: int) -> float:
    return _TOP + 22.0 * place


def _rect(x: float, y: float, width: float, fill: str) -> str:
    return element("rect", x=x, y=y, width=max(0.0, width), height=16, fill=fill, rx=2)


def _soft(x: float, y: float, text: str, **more: str | float) -> str:
    return words(x, y, text, fill_opacity=0.68, **more)
