"""Recorded demonstrations of the simulated arm, and the unsteady hand that makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rynn_brain_ros.bags import ENDING, BagReader
from rynn_brain_ros.cli import main
from rynn_brain_ros.demo.teleoperating import UnsteadyHand
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.values import (
    Answer,
    Goal,
    GoalEvent,
    GripGoal,
    PostureGoal,
    Query,
    ReachGoal,
    RigidTransform,
)

pytest.importorskip("pyarrow")
pytest.importorskip("mujoco")


class Hands:
    """An actuator that keeps what it is told."""

    name = "kept"
    goals: frozenset[type[Goal]] = frozenset({ReachGoal, GripGoal})

    def __init__(self) -> None:
        self.told: list[tuple[str, Goal | None]] = []

    def send(self, goal_id: str, goal: Goal) -> None:
        self.told.append((goal_id, goal))

    def cancel(self, goal_id: str) -> None:
        self.told.append((goal_id, None))

    def stop(self) -> None:
        self.told.append(("stop", None))

    def poll(self) -> tuple[GoalEvent, ...]:
        return ()


def reach(straight: bool) -> ReachGoal:
    return ReachGoal(RigidTransform("base", "tool", (0.5, 0.0, 0.2)), straight=straight)


def test_a_person_hesitates_is_slower_and_a_little_off():
    now = [0]
    hands = Hands()
    person = UnsteadyHand(hands, lambda: now[0], seed=4)
    person.send("a", reach(straight=False))
    person.poll()
    assert hands.told == []
    now[0] = 400_000_000
    person.poll()
    ((_, goal),) = hands.told
    assert isinstance(goal, ReachGoal) and 0.4 <= goal.speed < 1.0
    x, y, z = goal.T_base_tcp.translation_m
    assert 0 < abs(x - 0.5) <= 0.008 and 0 < abs(y) <= 0.008 and z == 0.2
    person.send("b", reach(straight=True))
    person.send("c", GripGoal(0.03))
    person.stop()
    straight = hands.told[1][1]
    assert isinstance(straight, ReachGoal)
    assert abs(straight.T_base_tcp.translation_m[0] - 0.5) <= 0.001
    assert hands.told[2:] == [("c", GripGoal(0.03)), ("stop", None)], "fingers are not unsteady"


def test_the_same_seed_is_the_same_hand():
    def goals(seed: int) -> list[tuple[str, Goal | None]]:
        hands = Hands()
        person = UnsteadyHand(hands, lambda: 10**12, seed)
        for number, goal in enumerate([reach(False), PostureGoal(), reach(True)]):
            person.send(str(number), goal)
        person.cancel("2")
        return hands.told

    assert goals(7) == goals(7) != goals(8)


@pytest.mark.slow
def test_a_demonstration_is_recorded_and_becomes_a_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from rynn_brain_ros.data import Dataset  # noqa: PLC0415
    from rynn_brain_ros.data.verifying import problems  # noqa: PLC0415

    out = ["--operator", "scripted", "--out", str(tmp_path / "bags")]
    assert main(["record", "--episodes", "1", *out]) == 0
    assert "success, move the green cylinder" in capsys.readouterr().out
    (bag,) = (tmp_path / "bags").glob("*.mcap")
    contract = Path(__file__).resolve().parents[2] / "config/contracts/sim_table.yaml"
    into = ["--contract", str(contract), "--out", str(tmp_path / "set")]
    assert main(["convert", str(bag), *into]) == 0
    dataset = Dataset(tmp_path / "set")
    assert list(problems(dataset)) == []
    (episode,) = dataset.episodes
    columns = dataset.columns(episode)
    assert any("Pick up" in text for text in columns["annotation.plan"])
    state, action = columns["observation.state"], columns["action"]
    assert state[0, 7] == pytest.approx(1.0, abs=0.01), "the hand begins open"
    assert action[:, 7].min() < 0.5, "and was told to close"
    assert abs(state[1:, :7] - action[:-1, :7]).max() < 0.1, "joints follow what they are told"


class Interrupted(ColorBaselineEngine):
    """Ctrl-C arrives in the second episode: at the first question about another task."""

    def __init__(self) -> None:
        super().__init__()
        self._task = ""

    def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
        self._task = self._task or query.instruction
        if query.instruction != self._task:
            raise KeyboardInterrupt
        return super().ask(query, on_text, cancel)


@pytest.mark.slow
def test_an_interrupted_recording_keeps_what_is_whole_names_what_is_not_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    command = ["record", "--episodes", "2", "--seed", "3", "--operator", "scripted"]
    command += ["--out", str(tmp_path)]
    first, second = (tmp_path / f"table-scripted-0000{seed}.mcap" for seed in (3, 4))
    partial = tmp_path / "table-scripted-00004.partial.mcap"
    with monkeypatch.context() as stopped:
        stopped.setattr(
            "rynn_brain_ros.cli.datasets.open_engines", lambda *_: Engines.one(Interrupted())
        )
        assert main(command) == 130
    assert capsys.readouterr().err == (
        "interrupted: 1 of 2 episodes are whole; "
        f"of the one begun, {partial} holds what was done.\n"
        "the same command goes on from there\n"
    )
    assert sorted(tmp_path.iterdir()) == [first, partial]
    with BagReader(partial, recover=False) as bag:
        assert bag.info().metadata[ENDING]["ending"] == "interrupted"
    before = first.read_bytes()
    assert main(command) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[0] == f"{first}: recorded before"
    assert again[1].startswith(f"{second}: ")
    assert sorted(tmp_path.iterdir()) == [first, second]
    assert first.read_bytes() == before
    assert main([*command, "--kind", "absent"]) == 4, "another demonstration is not overwritten"
    assert f"{first} exists already" in capsys.readouterr().err
