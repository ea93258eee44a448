"""What the loop itself costs: milliseconds a turn, without the engine and without the world.

    python benchmarks/loop.py [--scenes 3] [--profile 10]

Plays demo scenes of the table with color-baseline and times every part of a turn. Time in
``engine.ask``, in the world's clock (physics, rendering, encoding) and in the simulated arm's own
motion planning is taken off.

What the robot waits for is one sum: "look" to "confirm", decoding included; "recheck" is the look
at the target before the hand comes down. ``ratio`` is the target of 20 ms over it. What runs beside
a motion of several seconds is the other: "watch" is following its goals and the watchdog at 25 Hz,
"frames" assembling what arrives, "intake" taking in the messages.

Time is the processor time of the one thread that the loop runs in, so that a busy machine does not
count. Needs ``pip install '.[sim]'``. About ten seconds a scene.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import pstats
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from rynn_brain_ros.demo import StageConfig, make_stage, play
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning import Perception, executive, manipulating
from rynn_brain_ros.planning.executive import Brain
from rynn_brain_ros.planning.manipulating import Manipulation
from rynn_brain_ros.planning.moving import Mover
from rynn_brain_ros.safety import Gate
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.sensing import WorldClock

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "look": ((Brain, "look"), (Brain, "wait_for_new_frame")),
    "lift": ((executive, "ask"),),
    "plan": ((manipulating, "read_step"), (Manipulation, "_scene"), (manipulating, "make_target")),
    "gate": ((Manipulation, "_decide"),),
    "recheck": ((Gate, "target_moved"),),
    "confirm": ((manipulating, "confirm"), (manipulating, "witness")),
}
BESIDE: dict[str, tuple[tuple[Any, str], ...]] = {
    "watch": ((Mover, "run"),),
    "frames": ((Perception, "poll"),),
    "intake": tuple(
        (Perception, f"add_{what}") for what in ("color", "depth", "color_info", "transforms")
    ),
}
OUTSIDE = {
    "engine": ((ColorBaselineEngine, "ask"),),
    "world": ((WorldClock, "wait"), (WorldClock, "__init__")),
    "robot": ((ArmActuator, "send"), (ArmActuator, "poll")),
}
TARGET_MS = 20.0


class Stopwatch:
    """Seconds in each part, without those of the parts inside it. With a profile: of the rest."""

    def __init__(self, profile: cProfile.Profile | None) -> None:
        self.spent_s: Counter[str] = Counter()
        self.profile = profile
        self._stack = ["other"]
        self._last_s = 0.0

    def begin(self) -> None:
        self._last_s = time.thread_time()
        if self.profile is not None:
            self.profile.enable()

    def end(self) -> None:
        self._lap()
        if self.profile is not None:
            self.profile.disable()

    def _lap(self) -> None:
        now_s = time.thread_time()
        self.spent_s[self._stack[-1]] += now_s - self._last_s
        self._last_s = now_s

    def wrap(self, owner: Any, name: str, part: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*values: Any, **named: Any) -> Any:
            self._enter(part)
            try:
                return function(*values, **named)
            finally:
                self._leave(part)

        setattr(owner, name, timed)

    def _enter(self, part: str) -> None:
        self._lap()
        self._stack.append(part)
        if self.profile is not None and part in OUTSIDE:
            self.profile.disable()

    def _leave(self, part: str) -> None:
        self._lap()
        self._stack.pop()
        if self.profile is not None and part in OUTSIDE:
            self.profile.enable()


def wrapped(profile: cProfile.Profile | None) -> Stopwatch:
    watch = Stopwatch(profile)
    for part, places in {**PARTS, **BESIDE, **OUTSIDE}.items():
        for owner, name in places:
            watch.wrap(owner, name, part)
    return watch


def play_scene(seed: int, watch: Stopwatch) -> int:
    """The number of turns."""
    stage = make_stage(StageConfig(seed=seed))
    try:
        watch.begin()
        episode = play(stage, Engines.one(ColorBaselineEngine())).episode
        watch.end()
        return len(episode.turns)
    finally:
        stage.close()


def show_profile(profile: cProfile.Profile, n_rows: int, n_turns: int) -> None:
    """The functions with the most time of their own, per turn."""
    rows = sorted(pstats.Stats(profile).stats.items(), key=lambda row: -row[1][2])  # type: ignore[attr-defined]
    print(f"\n{'own time':44}{'ms a turn':>10}{'calls a turn':>14}")
    for (file, _, name), (_, calls, own_s, *_) in rows[:n_rows]:
        where = f"{Path(file).stem}.{name}" if file != "~" else name
        print(f"{where[:43]:44}{1000 * own_s / n_turns:10.2f}{calls / n_turns:14.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="rows (slower)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    watch = wrapped(cProfile.Profile() if arguments.profile else None)
    n_turns = sum(play_scene(seed, watch) for seed in range(arguments.scenes))
    ms = {part: 1000 * s / n_turns for part, s in watch.spent_s.items()}
    waited = {part: ms.get(part, 0.0) for part in (*PARTS, "other")}
    beside = {part: ms.get(part, 0.0) for part in BESIDE}
    waited_ms, beside_ms = sum(waited.values()), sum(beside.values())
    print(f"{arguments.scenes} scenes, {n_turns} turns\n\n{'part':18}{'ms a turn':>10}")
    rows = (*waited.items(), ("= waited for", waited_ms), *beside.items(), ("= beside", beside_ms))
    for part, value in (*rows, *((f"({part})", ms.get(part, 0.0)) for part in OUTSIDE)):
        print(f"{part:18}{value:10.2f}")
    if watch.profile is not None:
        show_profile(watch.profile, arguments.profile, n_turns)
    figures = {f"{part}_ms": round(value, 2) for part, value in {**waited, **ms}.items()}
    told = {
        "name": "loop",
        "turns": n_turns,
        "waited_ms_per_turn": round(waited_ms, 2),
        "beside_ms_per_turn": round(beside_ms, 2),
    }
    print(json.dumps({**told, **figures, "ratio": round(TARGET_MS / waited_ms, 2)}))


if __name__ == "__main__":
    main()
