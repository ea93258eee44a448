"""How fast answers are read, and that hostile ones are not much slower.

Run ``python benchmarks/parser.py``. The table is for people; the last line is one JSON object:
``chars_per_second`` on answers like those of the cookbooks, ``ratio`` the slowest hostile text's
characters per second relative to that, in the same run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rynn_brain_ros.language import parse

ANSWERS = (
    "The object is <object>  <frame 7>:; (644, 0), (1000, 738) </object>.",
    "The area is at <area> <frame 5>: ; (328, 812), (308, 817), (314, 817), (316, 818) </area>",
    "The affordance is at <affordance> <frame 6>:; (235, 419) </affordance>",
    "The start trajectory is at <trajectory> <frame 4>: ; (146, 373), (222, 255), (890, 304),"
    " (999, 479) </trajectory>",
    "Pick up <affordance> <frame 1>: (577, 371) </affordance> of <object> <frame 1>: (541, 248),"
    " (680, 414) </object>.",
    "The optimal grasping pose is <grasp pose> (529, 429), 66.7 </grasp pose>.",
    "↑↑↑←",
)
LONG = 100_000
HOSTILE = ("<object>", "(1,", "<think>", "####", "{", "[[[", "<area> (1, 2), ", '{"point":[1,2]},')


def chain_of_point(length: int) -> str:
    """A long thought with an item per sentence, and its answer."""
    sentence = "Then the red mug <object> <frame 1>: (541, 248), (680, 414) </object> is nearer. "
    answer = "#### <answer><affordance><frame 1>, (577, 371)</affordance></answer>"
    return f"<think>{sentence * (length // len(sentence))}</think>{answer}"


def chars_per_second(texts: Sequence[str], seconds: float = 0.4) -> float:
    """The best of repeated readings of all ``texts``, for about ``seconds``."""
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        for text in texts:
            parse(text, 8)
        best = max(best, sum(map(len, texts)) / (time.perf_counter() - start))
    return best


def main() -> None:
    rows = {
        "answers as recorded": chars_per_second(ANSWERS * 20),
        f"Chain-of-Point, {LONG:,} characters": chars_per_second([chain_of_point(LONG)]),
    }
    hostile = {
        f"{unit!r} × {LONG // len(unit):,}": chars_per_second([unit * (LONG // len(unit))])
        for unit in HOSTILE
    }
    print(f"{'text':<40}{'million characters/s':>22}")
    for name, speed in (rows | hostile).items():
        print(f"{name:<40}{speed / 1e6:>22.2f}")
    real = rows["answers as recorded"]
    figures = {
        "name": "parser",
        "chars_per_second": round(real),
        "ratio": round(min(hostile.values()) / real, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
