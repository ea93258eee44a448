"""A policy in the place of planned motions: a demonstration done once more, from what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("ruckig")
pytest.importorskip("websockets")
pytest.importorskip("msgpack")

from rynn_brain_ros.data import Dataset
from rynn_brain_ros.data.conditioning import GROUNDINGS, PLAN
from rynn_brain_ros.data.converting import convert
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.demo.evaluating import Evaluation, play_and_score
from rynn_brain_ros.demo.piloted import Driver, Piloting
from rynn_brain_ros.demo.running import Played, play
from rynn_brain_ros.demo.stages import Measured, StageConfig, make_stage_at
from rynn_brain_ros.demo.teleoperating import demonstrate
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.values import Cause, Outcome
from rynn_brain_ros.vla.aiming import Aim
from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.normalization import compute, provenance_of
from rynn_brain_ros.vla.serving import PolicyServer
from rynn_brain_ros.vla.values import Observation

CONTRACT = find_contract("sim_table")
SCENE = StageConfig(seed=3, task="put the red cube into the bowl")
HORIZON = 16


@dataclass(frozen=True, eq=False)
class Demonstrated:
    """Of T frames: states [T, 8], actions [T, 8], the step that the brain had told, and what that
    points at."""

    states: np.ndarray
    actions: np.ndarray
    steps: list[str]
    pointed: list[str]


class AgainPolicy:
    """Does of the told step what was done, from where the arm is in it, and then stays."""

    def __init__(self, shown: Demonstrated) -> None:
        self._shown, self._row, self._told = shown, 0, ""
        samples = [
            (s, self._chunk(row, len(shown.steps)), ()) for row, s in enumerate(shown.states)
        ]
        self.spec = RuntimeSpec(HORIZON, compute(samples, provenance_of(CONTRACT)))

    def _chunk(self, row: int, end: int) -> Chunk:
        return self._shown.actions[np.minimum(np.arange(row, row + HORIZON), end - 1)]

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        verb = observation.step.split(" ")[0]
        rows = self._rows(verb)
        if verb != self._told:
            self._told, self._row = verb, rows[0]
        near = np.array([row for row in rows if self._row <= row < self._row + 12])
        off = np.abs(self._shown.states[near] - observation.state).max(axis=1)
        self._row = int(near[off.argmin()])
        return self._chunk(self._row, rows[-1] + 1)

    def _rows(self, verb: str) -> list[int]:
        return [n for n, step in enumerate(self._shown.steps) if step.split(" ")[0] == verb]


class ByHeartPolicy(AgainPolicy):
    """Does all of it once more, and wants to hear nothing."""

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        assert not observation.step
        return super().infer(observation)

    def _rows(self, verb: str) -> list[int]:
        return list(range(len(self._shown.steps)))


class LazyPolicy(AgainPolicy):
    """Stays where the arm is."""

    def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
        return np.repeat(observation.state[None], HORIZON, axis=0)


def baseline() -> Engines:
    return Engines.one(ColorBaselineEngine())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Demonstrated:
    folder = tmp_path_factory.mktemp("shown")
    bag = folder / "shown.mcap"
    assert demonstrate(SCENE, baseline(), CONTRACT, bag).success
    convert([bag], CONTRACT, folder / "set")
    dataset = Dataset(folder / "set")
    (episode,) = dataset.episodes
    columns = dataset.columns(episode, ["observation.state", "action", PLAN, GROUNDINGS])
    return Demonstrated(
        np.asarray(columns["observation.state"], np.float64),
        np.asarray(columns["action"], np.float64),
        list(columns[PLAN]),
        list(columns[GROUNDINGS]),
    )


def drive(policy: AgainPolicy, **config: float) -> tuple[Played, Measured, bool]:
    stage = make_stage_at(SCENE, float(CONTRACT.fps))
    try:
        driver = Driver(policy, CONTRACT, replace(Piloting(), **config))
        played = play(stage, baseline(), driver=driver)
        measured = stage.measure()
        return played, measured, stage.judge(played.episode, measured)
    finally:
        stage.close()


def test_every_step_of_a_demonstration_comes_with_the_point_that_is_its_own(shown: Demonstrated):
    told = list(dict.fromkeys(zip(shown.steps, shown.pointed, strict=True)))
    assert [text.split(" ")[0] for text, _ in told] == ["", "Pick", "Place"]
    points = [Aim(3, frame="panda_link0").point(pointed) for _, pointed in told]
    assert points[0] == ()
    assert len({len(point) for point in points[1:]} | {3}) == 1
    assert points[1] != points[2]


def test_what_was_demonstrated_is_done_again_from_pictures_state_and_the_brains_words(
    shown: Demonstrated,
):
    played, measured, success = drive(AgainPolicy(shown))
    assert success, played.episode.text
    assert measured.done
    assert measured.violations == 0
    outcomes = outcomes_of(played)
    assert [outcome.cause for outcome in outcomes] == [Cause.DONE, Cause.DONE]
    assert outcomes[0].gripper_width_m > 0.02


def outcomes_of(played: Played) -> list[Outcome]:
    moves = [move for turn in played.episode.turns for move in turn.moves]
    return [move.outcome for move in moves if move.outcome is not None]


def test_a_served_policy_moves_the_arm_in_an_evaluation(shown: Demonstrated):
    with PolicyServer(AgainPolicy(shown), port=0) as server:
        score = play_and_score(Evaluation(SCENE, 1, "color-baseline", policy=server.url))
    assert score.success
    assert not score.collisions


@pytest.mark.parametrize(("policy", "success"), [(ByHeartPolicy, True), (LazyPolicy, False)])
def test_a_policy_alone_is_told_the_task_and_judged_by_the_truth(
    shown: Demonstrated, policy: type[AgainPolicy], success: bool
):
    with PolicyServer(policy(shown), port=0) as server:
        score = play_and_score(
            Evaluation(SCENE, 1, "no such engine", policy=server.url, alone=True)
        )
    assert score.success == success
    assert (score.cause, score.claimed, score.turns) == ("done", False, 0)


def test_a_policy_that_does_nothing_has_gripped_nothing_and_is_asked_again(shown: Demonstrated):
    played, measured, success = drive(LazyPolicy(shown))
    assert not success
    assert not measured.done
    outcomes = outcomes_of(played)
    assert {outcome.cause for outcome in outcomes} == {Cause.NOTHING_GRIPPED}
    assert len(outcomes) > 1


def test_a_policy_that_cannot_answer_ends_the_step_with_its_reason(shown: Demonstrated):
    class Broken(AgainPolicy):
        def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
            raise RuntimeError("out of memory")

    played, _, success = drive(Broken(shown))
    assert not success
    assert {outcome.cause for outcome in outcomes_of(played)} == {Cause.ABORTED}
    assert all("out of memory" in outcome.text for outcome in outcomes_of(played))


def test_a_policy_that_never_rests_is_stopped(shown: Demonstrated):
    class Restless(AgainPolicy):
        def infer(self, observation: Observation, previous: Leftover | None = None) -> Chunk:
            chunk = np.repeat(observation.state[None], HORIZON, axis=0)
            chunk[:, 0] += 0.15 if observation.state[0] < 0 else -0.15
            return chunk

    played, _, _ = drive(Restless(shown), max_step_s=4.0)
    assert outcomes_of(played)[0].cause is Cause.TIMEOUT
