"""Many tasks at once: how often they succeed, how they end, and what they cost."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rynn_brain_ros.view.charts import PANEL, Counts, cause_panel, stage_panel, success_panel
from rynn_brain_ros.view.page import STORY_STYLE
from rynn_brain_ros.view.parts import document, pairs, tile
from rynn_brain_ros.view.svg import drawing, element
from rynn_brain_ros.view.telling import percent, plain, seconds

_Z95 = 1.959963984540054  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class EpisodeScore:
    """One evaluated episode against the truth.

    ``success`` is what the truth says, ``claimed`` what the brain says; where nobody ``judged`` the
    truth is not known, and it is no success. ``cause`` is the short name of why it ended.
    ``refusals`` are the codes of everything refused on the way, ``wrong_moves`` says of each motion
    on a wrong thing what it did. ``robot_s`` is the robot's time, ``wall_s`` is wall time,
    ``stage_s`` that of a turn by stage (look, ask, …), all in seconds.
    """

    seed: int
    instruction: str
    kind: str
    success: bool
    claimed: bool
    cause: str
    refusals: tuple[str, ...] = ()
    wrong_moves: tuple[str, ...] = ()
    collisions: int = 0
    limit_violations: int = 0
    turns: int = 0
    robot_s: float = math.nan
    wall_s: float = math.nan
    stage_s: Mapping[str, float] = field(default_factory=dict)
    judged: bool = True

    @property
    def false_claim(self) -> bool:
        """It says that it succeeded, and it did not."""
        return self.claimed and self.judged and not self.success


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of ``n`` > 0, which stays inside 0…1 for small ``n``.

    Wilson, Probable inference, JASA 22 (1927) 209.
    """
    share, z2 = successes / n, _Z95**2
    middle = share + z2 / (2 * n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return (max(0.0, min(low, share)), min(1.0, max(high, share)))  # rounding may cross it


def summary(scores: Sequence[EpisodeScore]) -> dict[str, Any]:
    """Everything in figures, ready for JSON; ``None`` where there is nothing to count.

    ``kinds`` holds episodes, those of them that nobody judged, and successes by kind; ``stage_s``
    the median seconds per stage over the episodes that tell it.
    """
    n, won = sum(score.judged for score in scores), sum(score.success for score in scores)
    return {
        "episodes": len(scores),
        "unjudged": len(scores) - n,
        "successes": won,
        "success_rate": won / n if n else None,
        "success_interval_95": list(wilson(won, n)) if n else None,
        "causes": _counted(score.cause for score in scores),
        "kinds": {
            kind: {
                "episodes": len(of),
                "unjudged": sum(not score.judged for score in of),
                "successes": sum(score.success for score in of),
            }
            for kind, of in _by_kind(scores).items()
        },
        "refusals": _counted(code for score in scores for code in score.refusals),
        "wrong_moves": sum(len(score.wrong_moves) for score in scores),
        "collisions": sum(score.collisions for score in scores),
        "false_claims": sum(score.false_claim for score in scores),
        "limit_violations": sum(score.limit_violations for score in scores),
        "median_turns": _median(score.turns for score in scores),
        "median_robot_s": _median(score.robot_s for score in scores),
        "median_wall_s": _median(score.wall_s for score in scores),
        "stage_s": {name: _median(of) for name, of in _by_stage(scores).items()},
    }


def _by_kind(scores: Sequence[EpisodeScore]) -> dict[str, list[EpisodeScore]]:
    kinds: dict[str, list[EpisodeScore]] = {}
    for score in scores:
        kinds.setdefault(score.kind, []).append(score)
    return kinds


def _by_stage(scores: Sequence[EpisodeScore]) -> dict[str, list[float]]:
    """Known seconds per stage, stages in the order in which they first occur."""
    stages: dict[str, list[float]] = {}
    for name, value in (item for score in scores for item in score.stage_s.items()):
        if math.isfinite(value):
            stages.setdefault(name, []).append(value)
    return stages


def _counted(names: Iterable[str]) -> dict[str, int]:
    """Most frequent first, then by name: the same scores give the same order."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return statistics.median(known) if known else None


# --- for the terminal ----------------------------------------------------------------------------

_COLUMNS = (
    *("seed", "", "kind", "instruction", "ended", "refused"),
    *("wrong", "hits", "limits", "turns", "robot", "wall"),
)
_LONGEST = 38


def _several(codes: Sequence[str]) -> str:
    """``no_grasp ×2, too_wide``"""
    counts = Counter(codes).items()
    return ", ".join(code if n == 1 else f"{code} ×{n}" for code, n in counts)


def _cells(score: EpisodeScore) -> tuple[str, ...]:
    """One for each of `_COLUMNS`."""
    return (
        str(score.seed),
        ("✓" if score.success else "✗") if score.judged else "?",
        score.kind,
        score.instruction,
        plain(score.cause) + (", claimed" if score.false_claim else ""),
        _several(score.refusals),
        str(len(score.wrong_moves) or ""),
        str(score.collisions or ""),
        str(score.limit_violations or ""),
        str(score.turns),
        seconds(score.robot_s),
        seconds(score.wall_s),
    )


def score_table(scores: Sequence[EpisodeScore]) -> tuple[str, ...]:
    """Lines for a terminal: a line for each episode, then the figures of all.

    Columns in which nothing is told are left out.
    """
    rows = [_COLUMNS, *(tuple(_shortened(cell) for cell in _cells(s)) for s in scores)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    shown = [i for i in range(len(_COLUMNS)) if _is_told(rows, i)]
    lines = ["  ".join(row[i].ljust(widths[i]) for i in shown).rstrip() for row in rows]
    return (*lines, "", *(f"{name}: {value}" for name, value in _figures(scores)))


def _is_told(rows: Sequence[Sequence[str]], column: int) -> bool:
    return any(row[column] for row in rows[1:])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _figures(scores: Sequence[EpisodeScore]) -> list[tuple[str, str]]:
    told = summary(scores)
    robot_s, turns = told["median_robot_s"], told["median_turns"]
    refusals = ", ".join(f"{code} × {count}" for code, count in told["refusals"].items())
    stages = ", ".join(f"{name} {seconds(value)}" for name, value in told["stage_s"].items())
    return [
        ("succeeded", _success(told)),
        *([("not judged", str(told["unjudged"]))] if told["unjudged"] else []),
        ("claimed and not true", str(told["false_claims"])),
        ("wrong moves", str(told["wrong_moves"])),
        ("collisions", str(told["collisions"])),
        ("limit violations", str(told["limit_violations"])),
        ("refusals", refusals or "none"),
        ("median turns", "–" if turns is None else f"{turns:g}"),
        ("median robot time", "–" if robot_s is None else seconds(robot_s)),
        ("median wall time per stage", stages or "–"),
    ]


def _success(told: Mapping[str, Any]) -> str:
    n = told["episodes"] - told["unjudged"]
    if not n:
        return "no episode was scored" if not told["episodes"] else "nobody knows"
    low, high = told["success_interval_95"]
    share = f"{told['successes']} of {n}, {percent(told['success_rate'])}"
    return f"{share} (95% interval {100 * low:.0f}–{100 * high:.0f}%)"


# --- for people ----------------------------------------------------------------------------------


def evaluation_picture(scores: Sequence[EpisodeScore]) -> str:
    """One SVG of three panels: how the episodes ended, the success rate as episodes came in with
    its 95 % interval, and the wall time per stage."""
    width, height = PANEL
    panels = (
        element("svg", panel, x=i * (width + 24), y=0, width=width, height=height)
        for i, panel in enumerate(_panels(scores))
    )
    return drawing(3 * width + 48, height, "evaluation", "".join(panels))


def _panels(scores: Sequence[EpisodeScore]) -> tuple[str, str, str]:
    ended: dict[str, Counts] = {}
    for score in scores:
        won, lost, unjudged = ended.get(score.cause, (0, 0, 0))
        failed = score.judged and not score.success
        ended[score.cause] = (won + score.success, lost + failed, unjudged + (not score.judged))
    steps, won = [], 0
    for n, score in enumerate((score for score in scores if score.judged), 1):
        won += score.success
        steps.append((won / n, *wilson(won, n)))
    return (cause_panel(ended), success_panel(steps), stage_panel(_by_stage(scores)))


def evaluation_page(
    title: str,
    scores: Sequence[EpisodeScore],
    *,
    engine_note: str = "",
    provenance: Mapping[str, str] | None = None,
) -> str:
    """A page that needs nothing else, as text: the figures, the picture, and every episode.

    ``engine_note`` is what a reader must know about the engine before believing anything,
    ``provenance`` where the scores come from, in the order to be shown.
    """
    note = f'<div class="note">{escape(engine_note)}</div>' if engine_note else ""
    known = f"<h3>Provenance</h3>{pairs(provenance.items())}" if provenance else ""
    panels = "".join(
        f'<figure class="chart">{drawing(*PANEL, "chart", panel)}</figure>'
        for panel in _panels(scores)
    )
    told = summary(scores)
    body = (
        f"<header><h1>{escape(title)}</h1>"
        f'<p class="sub">Succeeded: {_success(told)}</p>{note}<div class="tiles">{_tiles(told)}'
        f'</div></header><main><div class="charts">{panels}</div><h3>Figures</h3>'
        f"{pairs(_figures(scores))}{_table(scores)}{known}</main><footer>Success is judged by the "
        "scene's own truth, never by what the brain says of itself.</footer>"
    )
    return document(title, STORY_STYLE, body).decode()


def _tiles(told: Mapping[str, Any]) -> str:
    named = (
        ("false_claims", "claimed and not true"),
        ("wrong_moves", "wrong move", "wrong moves"),
        ("collisions", "collision", "collisions"),
        ("limit_violations", "limit violation", "limit violations"),
    )
    return "".join(tile(told[key], *words) for key, *words in named)


def _table(scores: Sequence[EpisodeScore]) -> str:
    titles = [title or "success" for title in _COLUMNS]
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = "".join(
        f'<tr class="{"won" if score.success else "failed" if score.judged else ""}">'
        + "".join(
            f'<td data-label="{title}"><div>{escape(cell)}</div></td>'
            for title, cell in zip(titles, _cells(score), strict=True)
        )
        + "</tr>"
        for score in scores
    )
    return (
        f'<h3>Episodes</h3><table class="wide scores"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
