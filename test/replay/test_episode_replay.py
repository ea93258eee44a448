"""A recorded episode is decided again, exactly; where it is not, the first difference is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mujoco")

from episodes import NONSENSE, Switch, pick, record, tampered

from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.cli import main
from rynn_brain_ros.demo import StageConfig, run_demo
from rynn_brain_ros.language import format_actions
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning.episode import (
    Answered,
    Decided,
    EpisodeEvent,
    Looked,
    StageBegan,
)
from rynn_brain_ros.replay import HeardActuator, PlayedActuator, replay_episode
from rynn_brain_ros.replay.episode_folder import ACTUATOR, ANSWERS, ENDED, STRING
from rynn_brain_ros.values import (
    BagError,
    Cause,
    EngineError,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    InputError,
    NavigateGoal,
    OutputError,
    Stage,
)

COLOR = "/front/color/image_raw/compressed"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nonsense, asked again, the cube taken, and confirmed: three turns."""
    out = tmp_path_factory.mktemp("episode")
    episode = record(out, NONSENSE, pick).episode
    assert [refusal.code.value for refusal in episode.refusals] == ["unknown_skill"]
    assert episode.confirmed
    return out / "run.mcap"


def reproduced(out: Path) -> bool:
    return replay_episode(out / "run.mcap").drifts == ()


# --- the same again ------------------------------------------------------------------------------


def test_an_episode_with_a_refusal_and_a_second_try_is_reproduced(bag: Path):
    result = replay_episode(bag)
    assert result.drifts == ()
    assert (result.n_recorded, len(result.episode.turns)) == (3, 3)
    assert result.episode.confirmed


def stop_at(switch: Switch, *kinds: type, stage: Stage | None = None) -> Callable[[Any], None]:
    """Presses the stop at the first event of one of these kinds (and stage)."""

    def hear(event: EpisodeEvent) -> None:
        if isinstance(event, kinds) and (stage is None or event.stage.stage is stage):
            switch.press()

    return hear


@pytest.mark.parametrize(
    ("event", "stage"),
    [(Looked, None), (Answered, None), (Decided, None), (StageBegan, Stage.APPROACH)],
    ids=["before the question", "after the answer", "after the gate", "in the motion"],
)
def test_an_episode_that_a_person_stopped_is_reproduced(
    event: type, stage: Stage | None, tmp_path: Path
):
    switch = Switch()
    played = record(tmp_path, pick, hear=stop_at(switch, event, stage=stage), cancel=switch)
    assert played.episode.cause == "cancelled"
    assert reproduced(tmp_path)


def test_a_stop_just_after_a_refused_answer_is_reproduced(tmp_path: Path):
    switch = Switch()
    played = record(tmp_path, NONSENSE, hear=stop_at(switch, Answered), cancel=switch)
    assert [turn.response.answer.text for turn in played.episode.turns] == [NONSENSE]
    assert reproduced(tmp_path)


@pytest.mark.parametrize("said", [[False, True], [False, False, False]], ids=["allowed", "denied"])
def test_what_a_person_allowed_is_reproduced(said: list[bool], tmp_path: Path):
    config, left = StageConfig(require_approval=True), list(said)
    played = record(
        tmp_path, pick, pick, pick, config=config, approve=lambda step, motion: left.pop(0)
    )
    assert left == []
    assert played.episode.confirmed is said[-1]
    assert reproduced(tmp_path)


def test_an_episode_without_a_motion_is_reproduced(tmp_path: Path):
    played = record(tmp_path, pick, pick, pick, config=StageConfig(dry_run=True))
    assert played.episode.cause == "dry_run"
    assert reproduced(tmp_path)


def test_a_drive_is_reproduced(tmp_path: Path):
    arrows = format_actions(("FORWARD", "LEFT"))
    episode = record(tmp_path, arrows, arrows, config=StageConfig(world="room")).episode
    outcomes = [move.outcome for turn in episode.turns for move in turn.moves]
    assert sum(outcome is not None and outcome.cause is Cause.DONE for outcome in outcomes) >= 2
    assert reproduced(tmp_path)


def test_a_drive_to_a_place_on_the_map_is_reproduced(tmp_path: Path):
    engines = Engines.one(ColorBaselineEngine())
    episode = run_demo(StageConfig("room", 1025), engines, tmp_path, lambda line: None).episode
    moves = [move for turn in episode.turns for move in turn.moves]
    goals = [stage.goal for move in moves for stage in move.motion.stages]
    assert any(isinstance(goal, NavigateGoal) for goal in goals)
    assert episode.confirmed
    assert reproduced(tmp_path)


def test_an_engine_that_failed_fails_again_in_the_same_words(tmp_path: Path):
    gone = [EngineError(f"the server is gone ({n})") for n in range(2)]
    played = record(tmp_path, gone[0], NONSENSE, gone[1])
    assert [refusal.text for refusal in played.episode.refusals][::2] == list(map(str, gone))
    assert reproduced(tmp_path)


@pytest.mark.parametrize("task", ['"take" the red cube', "true", "1e5"])
def test_a_task_that_looks_like_json_is_still_words(task: str, tmp_path: Path):
    record(tmp_path, *[NONSENSE] * 3, config=StageConfig(task=task))
    result = replay_episode(tmp_path / "run.mcap")
    assert result.drifts == ()
    assert result.episode.task == task


# --- not the same --------------------------------------------------------------------------------


def other_answer(topic: str, message: Any) -> Any:
    if topic != ANSWERS or NONSENSE in message.data:
        return message
    return {"data": message.data.replace("Pick up", "Push away")}


def test_another_answer_is_a_drift_of_its_turn_and_field(bag: Path, tmp_path: Path):
    drifts = replay_episode(tampered(bag, tmp_path / "other.mcap", other_answer)).drifts
    assert drifts[0].startswith("turn 2: text was 'Pick up <affordance>")
    assert "is 'Push away <affordance>" in drifts[0]


def test_a_changed_setting_is_named_with_both_values(bag: Path, tmp_path: Path):
    def faster(head: dict[str, str]) -> dict[str, Any]:
        settings = json.loads(head["settings"])
        settings["limits"]["max_speed_scaling"] = 0.123
        return {**head, "settings": settings}

    drifts = replay_episode(tampered(bag, tmp_path / "other.mcap", head=faster)).drifts
    (drift,) = drifts
    assert drift.startswith("setting limits.max_speed_scaling was 0.123 in the recording and is ")


def test_a_lost_image_is_a_drift_of_the_turn_that_showed_it(bag: Path, tmp_path: Path):
    shown_ns = replay_episode(bag).episode.turns[0].frames[-1].frame.stamp_ns

    def lose(topic: str, message: Any) -> Any:
        lost = topic == COLOR and stamp_of(message) == shown_ns
        return None if lost else message

    drifts = replay_episode(tampered(bag, tmp_path / "other.mcap", lose)).drifts
    assert drifts[0].startswith("turn 1: stamp_ns was ")


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def test_another_end_is_a_drift(bag: Path, tmp_path: Path):
    def unconfirm(topic: str, message: Any) -> Any:
        if topic != ENDED:
            return message
        return {"data": message.data.replace('"confirmed": true', '"confirmed": false')}

    drifts = replay_episode(tampered(bag, tmp_path / "other.mcap", unconfirm)).drifts
    assert drifts == ("the end: confirmed was False, is True",)


def test_another_order_to_the_robot_is_a_drift(bag: Path, tmp_path: Path):
    def weaker(topic: str, message: Any) -> Any:
        if topic != ACTUATOR or "GripGoal" not in message.data:
            return message
        return {"data": json.dumps({**json.loads(message.data), "force_n": 0.5})}

    drifts = replay_episode(tampered(bag, tmp_path / "other.mcap", weaker)).drifts
    assert drifts
    assert all(drift.startswith("told the robot ") for drift in drifts)


# --- recordings that cannot be decided again -----------------------------------------------------


def test_an_episode_that_was_cut_off_is_no_whole_episode(bag: Path, tmp_path: Path):
    cut = tampered(bag, tmp_path / "cut.mcap", lambda topic, m: None if topic == ENDED else m)
    with pytest.raises(BagError, match="3 turns of an episode that was cut off"):
        replay_episode(cut)


def test_an_ordinary_recording_is_no_episode(small_bag: Path):
    with pytest.raises(BagError, match="holds no episode"):
        replay_episode(small_bag)


def test_an_unknown_robot_is_refused_with_those_that_are_known(bag: Path, tmp_path: Path):
    other = tampered(bag, tmp_path / "o.mcap", head=lambda head: {**head, "robot": "hal"})
    with pytest.raises(BagError, match="robot 'hal'; known are panda, rover"):
        replay_episode(other)


def test_a_record_that_is_damaged_is_bad_input(bag: Path, tmp_path: Path):
    other = tampered(bag, tmp_path / "o.mcap", head=lambda head: {**head, "settings": "{"})
    with pytest.raises(InputError, match=r"rynn_brain_ros\.episode' cannot be read"):
        replay_episode(other)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_that_everything_was_reproduced(bag: Path, capsys):
    assert main(["replay", str(bag)]) == 0
    assert capsys.readouterr().out == (
        "put the red cube into the bowl: every decision of 3 turns reproduced\n"
    )


def test_the_command_ends_with_1_where_something_drifted(bag: Path, tmp_path: Path, capsys):
    other = tampered(bag, tmp_path / "other.mcap", other_answer)
    assert main(["replay", str(other)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("drift: turn 2: text was ")
    assert "not all decisions of 3 turns reproduced" in out


def test_the_command_prints_one_json_object(bag: Path, capsys):
    assert main(["replay", str(bag), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["turns"], told["drifts"], told["confirmed"]) == (3, [], True)
    assert told["refusals"] == ["unknown_skill"]


def test_the_command_takes_the_answers_of_a_file_instead(bag: Path, capsys):
    answers = bag.parent / "answers.recorded.jsonl"
    assert main(["replay", str(bag), "--engine", f"recorded:{answers}"]) == 0
    assert "every decision of 3 turns" in capsys.readouterr().out


def test_an_ordinary_recording_without_a_question_is_bad_input(small_bag: Path, capsys):
    assert main(["replay", str(small_bag)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is no recorded episode: say what to --ask it")


# --- the robot in between ------------------------------------------------------------------------


class Hand:
    """An actuator that has done everything as soon as it is asked, with a clock."""

    name, goals = "hand", frozenset({GripGoal})

    def __init__(self) -> None:
        self.time_ns = 1000
        self.told: list[str] = []
        self._events: list[GoalEvent] = []

    def now_ns(self) -> int:
        return self.time_ns

    def wait(self, seconds: float) -> None:
        self.time_ns += round(seconds * 1e9)

    def send(self, goal_id: str, goal: Any) -> None:
        self.told.append("send")
        values = (("width_m", goal.width_m), ("slip_m", float("nan")))
        self._events.append(
            GoalEvent(goal_id, GoalEventKind.SUCCEEDED, self.time_ns, 1.0, "closed", values)
        )

    def cancel(self, goal_id: str) -> None:
        self.told.append("cancel")

    def stop(self) -> None:
        self.told.append("stop")

    def poll(self) -> tuple[GoalEvent, ...]:
        events, self._events = tuple(self._events), []
        return events


def test_events_are_played_at_the_times_at_which_they_were_heard():
    hand, kept = Hand(), []
    heard = HeardActuator(hand, hand, kept.append)
    heard.send("g", GripGoal(0.02))
    hand.wait(0.5)
    (then,) = heard.poll()
    clock = Hand()
    again = PlayedActuator("hand", heard.goals, json.loads(json.dumps(kept)), clock)
    again.send("g", GripGoal(0.02))
    assert again.poll() == ()
    clock.wait(0.5)
    (now,) = again.poll()
    assert (now.goal_id, now.kind, now.stamp_ns, now.text) == (
        *("g", GoalEventKind.SUCCEEDED, then.stamp_ns, "closed"),
    )
    assert now.value("width_m") == 0.02
    assert again.drifts == []


def test_what_is_said_otherwise_or_too_much_is_a_drift():
    hand, kept = Hand(), []
    HeardActuator(hand, hand, kept.append).send("g", GripGoal(0.02))
    again = PlayedActuator("hand", hand.goals, json.loads(json.dumps(kept)), hand)
    again.send("g", GripGoal(0.03))
    again.stop()
    assert len(again.drifts) == 2
    assert "'width_m': 0.03" in again.drifts[0] and "'width_m': 0.02" in again.drifts[0]
    assert again.drifts[1] == "told the robot {'said': 'stop'}, and in the recording None"


def test_a_cancel_and_a_stop_reach_a_robot_whose_recording_fails(tmp_path: Path):
    hand = Hand()
    with BagWriter(tmp_path / "run.mcap") as kept:
        heard = HeardActuator(
            hand, hand, lambda record: kept.write("/said", STRING, {"data": str(record)}, 0)
        )
    with pytest.raises(OutputError):
        heard.cancel("g")
    with pytest.raises(OutputError):
        heard.stop()
    with pytest.raises(OutputError):
        heard.send("h", GripGoal(0.02))
    assert hand.told == ["cancel", "stop"]
