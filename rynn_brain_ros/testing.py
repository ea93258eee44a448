"""For users' own tests: a recording must keep giving the answers that it gave.

from rynn_brain_ros.testing import assert_replay

def test_the_brain_still_finds_the_cup():
    assert_replay("cup.mcap", ask="Pick up the cup", task="affordance",
                  engine="recorded:cup_answers.jsonl", expect="cup_expected.jsonl")
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.models import Engines, open_engine
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig, Tolerance, compare_answers, read_answers, replay
from rynn_brain_ros.values import Engine, InputError, Task


def assert_replay(
    bag: Path | str,
    *,
    ask: str,
    expect: Path | str,
    task: str = "describe",
    engine: Engine | str = "color-baseline",
    at_s: float | None = None,
    every_s: float | None = None,
    camera: str = "",
    frames: int = 8,
    tol_px: float = 2.0,
    tol_m: float = 0.01,
) -> None:
    """Replays ``bag`` and compares with ``expect``, an ``answers.jsonl`` of an earlier replay.

    Raises `AssertionError` that lists what drifted by more than ``tol_px`` pixels or ``tol_m``
    metres, and any `RynnBrainError` that the replay itself raises.
    """
    within = Tolerance(tol_px, tol_m)
    question = Question(ask, _task(task))
    expected = read_answers(Path(expect))
    opened = open_engine(engine) if isinstance(engine, str) else engine
    config = ReplayConfig(
        (question,),
        at_s=at_s,
        every_s=every_s,
        camera=camera,
        selection=SelectionPolicy(n=frames),
    )
    with tempfile.TemporaryDirectory() as folder:
        result = replay(Path(bag), config, Engines.one(opened), Path(folder))
        actual = read_answers(result.folder / "answers.jsonl")
    drifts = compare_answers(expected, actual, within)
    if drifts:
        raise AssertionError(f"{bag} is answered differently:\n" + "\n".join(drifts))


def _task(name: str) -> Task:
    try:
        return Task(name)
    except ValueError as error:
        known = ", ".join(task.value for task in Task)
        raise InputError(f"there is no task {name!r}; there are: {known}") from error
