"""The loop around every task: when it is over and why, what is told, and what a turn is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from played_robot import (
    CUBE,
    START_NS,
    Played,
    PlayedTable,
    ScriptedEngine,
    Switch,
    TimedActuator,
    played,
)

from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.episode import (
    Answered,
    Confirmation,
    Episode,
    EpisodeEnded,
    Looked,
    Move,
    TurnEnded,
    TurnRecord,
)
from rynn_brain_ros.planning.executive import Brain, ExecutiveConfig, Run, carry_out
from rynn_brain_ros.planning.robots import panda
from rynn_brain_ros.safety import Proposal, SafetyLimits, Situation
from rynn_brain_ros.values import (
    Cause,
    Decision,
    EngineError,
    FrameSet,
    Motion,
    Outcome,
    PostureGoal,
    Refusal,
    RefusalCode,
    Response,
    Skill,
    Status,
    Step,
    Task,
)

NO = Refusal(RefusalCode.NO_GRASP, "no top face")
MOTION = motions.single(Skill.MOVE_TO, PostureGoal(speed=0.5), (0.4, 0.0, 0.3), "panda_link0")
CONFIG = ExecutiveConfig(max_turns=10, max_reasks=2, max_failures=1)

MOVING = {"dry_run": False, "engine_verdict": "not_required"}
# What a turn may bring.
REFUSED = {"refusal": NO}
CONFIRMED = {"confirmation": Confirmation(True, "it is there")}
UNCONFIRMED = {
    "confirmation": Confirmation(False, "it is not there"),
    "refusal": Refusal(RefusalCode.UNCONFIRMED, "it is not there"),
}


def moved(cause: Cause = Cause.DONE, *more: Cause, refusal: Refusal | None = None) -> dict:
    decision = Decision(START_NS, ())
    ends = [Outcome(each, f"it {each.value}", START_NS, START_NS + 1) for each in (cause, *more)]
    moves = tuple(Move(MOTION, decision, end) for end in ends)
    return {"moves": moves, "refusal": refusal}


def not_moved() -> dict:
    """The gate said no."""
    return {"moves": (Move(MOTION, Decision(START_NS, (), NO)),), "refusal": NO}


@dataclass
class Turns:
    """Takes turns as they were written down; the last one again and again."""

    brought: Sequence[dict]
    cancel: Switch | None = None
    cancel_in: int = -1
    numbers: list[int] = field(default_factory=list)

    def turn(self, run: Run) -> TurnRecord:
        number = len(run.turns)
        self.numbers.append(number)
        if self.cancel is not None and number == self.cancel_in:
            self.cancel.on = True
        brought = self.brought[min(number, len(self.brought) - 1)]
        return TurnRecord(number, START_NS, FrameSet(), **brought)


def robot(engine: ScriptedEngine | None = None, **config: object) -> Played:
    """On a table seen in few pixels."""
    table = PlayedTable((CUBE,), width=32)
    settings = replace(panda(**MOVING), executive=replace(CONFIG, **config))
    return played(table, engine or ScriptedEngine(), settings)


@pytest.fixture
def whole() -> Played:
    return robot()


def end(brought: Sequence[dict], **config: object) -> Episode:
    return carry_out("tidy up", Turns(brought), robot(**config).brain)


# --- when it is over ------------------------------------------------------------------------------


def test_a_confirmed_end_is_the_only_success():
    episode = end([moved(), CONFIRMED])
    assert (episode.status, episode.cause) == (Status.SUCCEEDED, "done")
    assert (episode.confirmed, episode.text) == (True, "it is there")
    assert len(episode.turns) == 2


def test_a_no_is_asked_again_a_few_times_and_then_ends_the_task():
    episode = end([REFUSED])
    assert (episode.status, episode.cause, episode.text) == (
        Status.REFUSED,
        "no_grasp",
        "no top face",
    )
    assert len(episode.turns) == 3
    assert episode.refusals == (NO,) * 3


def test_without_reasks_the_first_no_ends_it():
    assert len(end([REFUSED], max_reasks=0).turns) == 1


def test_an_unbelieved_claim_counts_as_a_no():
    episode = end([UNCONFIRMED])
    assert (episode.status, episode.cause) == (Status.REFUSED, "unconfirmed")
    assert not episode.confirmed
    assert len(episode.turns) == 3


def test_a_motion_in_between_lets_a_no_be_asked_again_as_often():
    episode = end([REFUSED, REFUSED, moved(), REFUSED, REFUSED, CONFIRMED])
    assert episode.status is Status.SUCCEEDED


def test_a_motion_that_the_gate_forbade_is_no_motion():
    assert len(end([not_moved()]).turns) == 3


def test_a_turn_that_moved_before_its_no_is_progress():
    episode = end([moved(refusal=NO)], max_turns=5)
    assert (episode.cause, len(episode.turns)) == ("too_many_turns", 5)


def test_endless_turns_come_to_an_end():
    episode = end([moved()])
    assert (episode.status, episode.cause) == (Status.FAILED, "too_many_turns")
    assert "10 turns" in episode.text
    assert len(episode.turns) == 10


def test_a_success_in_the_last_turn_is_one():
    assert end([moved(), CONFIRMED], max_turns=2).status is Status.SUCCEEDED


def test_failed_motions_are_tried_again_until_they_are_too_many():
    episode = end([moved(Cause.NOTHING_GRIPPED), moved(), moved(Cause.ABORTED)])
    assert (episode.status, episode.cause) == (Status.FAILED, "aborted")
    assert len(episode.turns) == 3


def test_a_failure_that_may_be_repeated_does_not_end_it():
    assert end([moved(Cause.DROPPED), CONFIRMED]).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (Cause.CANCELLED, Status.CANCELLED),
        (Cause.DISARMED, Status.CANCELLED),
        (Cause.PREEMPTED, Status.CANCELLED),
        (Cause.STALE, Status.FAILED),
        (Cause.LOST_SERVER, Status.FAILED),
    ],
)
def test_after_a_stop_nothing_is_tried_again(cause: Cause, status: Status):
    episode = end([moved(cause)])
    assert (episode.status, episode.cause) == (status, cause.value)
    assert episode.text == f"it {cause.value}"
    assert len(episode.turns) == 1


def test_the_last_of_several_motions_says_how_a_turn_ended():
    assert end([moved(Cause.DONE, Cause.STALE)]).cause == "stale"


def test_a_task_stopped_before_it_began_takes_no_turn(whole: Played):
    switch, turns = Switch(), Turns([CONFIRMED])
    switch.on = True
    episode = carry_out("tidy up", turns, whole.brain, switch)
    assert (episode.status, episode.cause) == (Status.CANCELLED, "cancelled")
    assert turns.numbers == []


def test_a_stop_between_two_turns_is_heard(whole: Played):
    switch = Switch()
    turns = Turns([moved()], switch, cancel_in=1)
    episode = carry_out("tidy up", turns, whole.brain, switch)
    assert episode.status is Status.CANCELLED
    assert turns.numbers == [0, 1]


def test_what_was_confirmed_before_a_stop_stays_confirmed(whole: Played):
    switch = Switch()
    episode = carry_out("t", Turns([CONFIRMED], switch, cancel_in=0), whole.brain, switch)
    assert episode.confirmed


# --- what is told ---------------------------------------------------------------------------------


def test_every_turn_is_told_and_the_whole_at_the_end(whole: Played):
    episode = carry_out("tidy up", Turns([moved(), CONFIRMED]), whole.brain)
    told = [type(event) for event in whole.events]
    assert told == [TurnEnded, TurnEnded, EpisodeEnded]
    assert [e.record for e in whole.events if isinstance(e, TurnEnded)] == list(episode.turns)
    assert whole.events[-1] == EpisodeEnded(episode)


def test_an_episode_says_what_was_asked_of_whom_and_when(whole: Played):
    class Waiting(Turns):
        def turn(self, run: Run) -> TurnRecord:
            whole.world.wait(1.5)
            run.engine = "some engine"
            return super().turn(run)

    begin_ns = whole.world.now_ns()
    episode = carry_out("tidy up", Waiting([CONFIRMED]), whole.brain)
    assert (episode.task, episode.engine) == ("tidy up", "some engine")
    assert (episode.start_ns, episode.end_ns) == (begin_ns, begin_ns + 1_500_000_000)


# --- looking and asking ---------------------------------------------------------------------------


def run_of(brain: Brain, since_ns: int | None = None) -> Run:
    now_ns = brain.now_ns()
    return Run("tidy up", now_ns, now_ns - 1 if since_ns is None else since_ns)


def test_the_scene_rests_before_it_is_looked_at(whole: Played):
    now_ns = whole.world.now_ns()
    frames = whole.brain.look(run_of(whole.brain), 0, 1)
    assert isinstance(frames, FrameSet)
    assert frames[-1].frame.stamp_ns > now_ns + round(CONFIG.settle_s * 1e9)


def test_a_look_is_told(whole: Played):
    frames = whole.brain.look(run_of(whole.brain), 3, 1)
    (looked,) = whole.events
    assert isinstance(looked, Looked)
    assert (looked.number, looked.frames) == (3, frames)


def test_a_look_shows_what_was_done_since_the_motion_began(whole: Played):
    whole.world.wait(2.0)
    since_ns = whole.brain.now_ns()
    frames = whole.brain.look(run_of(whole.brain, since_ns), 0, 4)
    assert isinstance(frames, FrameSet)
    stamps = [frame.frame.stamp_ns for frame in frames]
    assert len(stamps) == 4
    assert since_ns < stamps[0] < stamps[-1]


def test_a_silent_camera_is_no_look(whole: Played):
    whole.world.camera_on = False
    refusal = whole.brain.look(run_of(whole.brain), 0, 1)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.STALE
    assert whole.events == []


def test_a_clock_that_jumped_back_behind_the_last_motion_is_no_look(whole: Played):
    run = run_of(whole.brain)
    whole.world.reset(300.0)
    refusal = whole.brain.look(run, 0, 1)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.STALE
    assert "the clock jumped back" in refusal.text


def test_a_cancel_is_heard_while_a_picture_is_waited_for(whole: Played):
    switch = Switch()
    whole.world.camera_on = False
    run = replace(run_of(whole.brain), cancel=switch)
    switch.on = True
    begin_ns = whole.world.now_ns()
    assert isinstance(whole.brain.look(run, 0, 1), Refusal)
    assert (whole.world.now_ns() - begin_ns) / 1e9 <= CONFIG.settle_s + CONFIG.tick_s


def ask(whole: Played, run: Run | None = None) -> Response | Refusal:
    run = run or run_of(whole.brain)
    frames = whole.brain.look(run, 0, 1)
    assert isinstance(frames, FrameSet)
    return whole.brain.ask(run, whole.brain.query(run, Task.PLAN, frames, 0), 0)


def test_an_answer_is_told_and_its_time_kept():
    whole = robot(ScriptedEngine("Done."))
    run = run_of(whole.brain)
    response = ask(whole, run)
    assert isinstance(response, Response)
    answered = whole.events[-1]
    assert isinstance(answered, Answered)
    assert (answered.response, answered.stamp_ns) == (response, run.answered_ns)
    assert run.engine == "scripted"


def test_an_engine_that_fails_is_a_refusal_with_its_words():
    whole = robot(ScriptedEngine(EngineError("the server answers 500")))
    refusal = ask(whole)
    assert refusal == Refusal(RefusalCode.ENGINE_FAILED, "the server answers 500")


@pytest.mark.parametrize("line", ["Done.", EngineError("gone")])
def test_an_engine_is_watched_only_while_it_is_asked(line: str | EngineError):
    whole = robot(ScriptedEngine(line))
    ask(whole)
    for _ in range(200):
        now_ns = whole.brain.sight.tick(0.1)
    assert whole.brain.sight.watchdog.check(now_ns) is None


def test_after_a_long_thought_the_scene_is_as_it_is_by_then():
    whole = robot(engine := ScriptedEngine())

    def think(query: object) -> str:
        whole.world.wait(5.0)
        return "Done."

    engine.lines = [think]
    run = run_of(whole.brain)
    ask(whole, run)
    newest = whole.brain.sight.newest
    assert newest is not None
    assert (whole.world.now_ns() - newest.stamp_ns) / 1e9 < 0.2
    assert run.answered_ns == whole.world.now_ns()
    assert whole.brain.sight.watchdog.check(whole.world.now_ns()) is None


def test_a_question_names_the_task_and_carries_the_history(whole: Played):
    run = run_of(whole.brain)
    frames = whole.brain.look(run, 0, 1)
    assert isinstance(frames, FrameSet)
    query = whole.brain.query(run, Task.PLAN, frames, 4)
    assert (query.instruction, query.task, query.frames) == ("tidy up", Task.PLAN, frames)
    assert query.history is run.history
    assert query.query_id.startswith("q0005-")


# --- the newest picture ---------------------------------------------------------------------------


def test_the_newest_picture_is_the_cameras_and_not_the_one_shown(whole: Played):
    frames = whole.brain.look(run_of(whole.brain), 0, 1)
    assert isinstance(frames, FrameSet)
    assert whole.brain.newest(frames[-1]) is frames[-1]
    whole.brain.sight.tick(0.3)
    assert whole.brain.newest(frames[-1]).frame is whole.brain.sight.newest


# --- a person's word ------------------------------------------------------------------------------


class Person:
    """Says what it was made to say, and lets time pass before."""

    def __init__(self, says: bool, world: PlayedTable, thinks_s: float = 0.0) -> None:
        self.says, self.world, self.thinks_s = says, world, thinks_s
        self.asked: list[tuple[Step | None, Motion]] = []

    def __call__(self, step: Step | None, motion: Motion) -> bool:
        self.asked.append((step, motion))
        self.world.wait(self.thinks_s)
        return self.says


def judged(
    says: bool = True, thinks_s: float = 0.0, armed: bool = True, **limits: object
) -> tuple[Decision, Person]:
    table = PlayedTable((CUBE,), width=32)
    person = Person(says, table, thinks_s)
    settings = replace(
        panda(), limits=SafetyLimits(**{**MOVING, "require_approval": True, **limits})
    )
    whole = played(table, ScriptedEngine(), settings, approve=person)
    frames = whole.brain.look(run_of(whole.brain), 0, 1)
    assert isinstance(frames, FrameSet)
    now_ns = table.now_ns()
    proposal = Proposal(MOTION, (), frames, now_ns)
    situation = Situation(now_ns, frames[-1], armed=armed)
    return whole.brain.judge(run_of(whole.brain), proposal, situation), person


@pytest.mark.parametrize("says", [True, False])
def test_a_persons_word_decides(says: bool):
    decision, person = judged(says)
    assert decision.approved is says
    assert person.asked == [(None, MOTION)]


def test_nobody_is_asked_where_no_word_is_needed():
    decision, person = judged(require_approval=False)
    assert decision.approved
    assert person.asked == []


@pytest.mark.parametrize("limits", [{"dry_run": True}, {"max_speed": 0.1}])
def test_nobody_is_asked_about_what_is_forbidden_anyway(limits: dict):
    decision, person = judged(**limits)
    assert not decision.approved
    assert person.asked == []


def test_nobody_is_asked_while_it_is_not_armed():
    decision, person = judged(armed=False)
    assert decision.refusal is not None
    assert decision.refusal.code is RefusalCode.NOT_ARMED
    assert person.asked == []


def test_a_yes_to_what_was_seen_long_ago_is_judged_with_what_is_seen_now():
    decision, _ = judged(thinks_s=5.0)
    (age,) = [check for check in decision.checks if check.name == "frame_age"]
    assert decision.approved, decision.refusal
    assert "is 0.0" in age.found


def test_while_a_person_thinks_the_answer_grows_no_older():
    decision, _ = judged(thinks_s=5.0, max_answer_age_s=2.0)
    (age,) = [check for check in decision.checks if check.name == "answer_age"]
    assert decision.approved, decision.refusal
    assert "is 0.0" in age.found


def test_a_yes_does_not_make_the_answer_younger_than_it_was():
    whole = played(
        table := PlayedTable((CUBE,), width=32),
        ScriptedEngine(),
        replace(panda(), limits=SafetyLimits(**MOVING, require_approval=True)),
        approve=Person(True, table, 60.0),
    )
    run = run_of(whole.brain)
    run.answered_ns = table.now_ns()
    frames = whole.brain.look(run, 0, 1)
    assert isinstance(frames, FrameSet)
    for _ in range(2):
        whole.brain.sight.tick(20.0)
        now_ns = whole.brain.sight.tick(0.1)
        proposal = Proposal(MOTION, (), frames, run.answered_ns)
        situation = Situation(now_ns, whole.brain.newest(frames[-1]), armed=True)
        decision = whole.brain.judge(run, proposal, situation)
        (age,) = [check for check in decision.checks if check.name == "answer_age"]
    assert "is 40." in age.found and not age.passed


def test_without_anybody_to_ask_what_needs_a_word_is_refused():
    table = PlayedTable((CUBE,), width=32)
    settings = replace(panda(), limits=SafetyLimits(**MOVING, require_approval=True))
    whole = played(table, ScriptedEngine(), settings, actuator=TimedActuator(table))
    frames = whole.brain.look(run_of(whole.brain), 0, 1)
    assert isinstance(frames, FrameSet)
    now_ns = table.now_ns()
    proposal, situation = Proposal(MOTION, (), frames, now_ns), Situation(now_ns, frames[-1])
    decision = whole.brain.judge(run_of(whole.brain), proposal, replace(situation, armed=True))
    assert decision.refusal is not None
    assert decision.refusal.code is RefusalCode.NOT_APPROVED
