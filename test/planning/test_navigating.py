"""Driving by words: arrows become exact drives, STOP is measured, the way back is remembered."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from played_robot import (
    SLOW,
    WELL,
    Listener,
    Played,
    PlayedFloor,
    ScriptedEngine,
    Switch,
    box_of,
    ending,
    played,
    tag,
)

from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.planning.episode import Decided, Episode, TurnEnded
from rynn_brain_ros.planning.navigating import NavigationConfig
from rynn_brain_ros.planning.robots import Robot, rover
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import (
    Answer,
    Cause,
    DriveGoal,
    EngineError,
    FinishReason,
    FrameSet,
    GoalEventKind,
    ImagePart,
    NavigateGoal,
    Query,
    RefusalCode,
    RigidTransform,
    SpinGoal,
    Stage,
    Status,
    Task,
    TextPart,
)

ROVER = rover(dry_run=False, engine_verdict="not_required")
FORWARD = DriveGoal(0.25, 0.6)
LEFT, RIGHT = SpinGoal(math.radians(15), 0.6), SpinGoal(-math.radians(15), 0.6)


def with_limits(**limits: object) -> Robot:
    return replace(ROVER, limits=replace(ROVER.limits, **limits))


def with_turns(max_turns: int) -> Robot:
    return replace(ROVER, executive=replace(ROVER.executive, max_turns=max_turns))


class Room:
    """A floor with a red block ahead, and a base that is told arrows."""

    def __init__(self, away_m: float = 3.0, aside_m: float = 0.0) -> None:
        self.floor = PlayedFloor()
        self.put("red block", "red", away_m, aside_m)

    def put(self, name: str, color: str, away_m: float, aside_m: float = 0.0) -> None:
        xy_m = self.floor.ahead(away_m, aside_m)
        self.floor.things[name] = Thing(name, color, "cube", xy_m, (0.3, 0.3, 0.4), 0.4)

    def robot(self, *lines: object, settings: Robot = ROVER, **how: object) -> Played:
        return played(self.floor, ScriptedEngine(*lines), settings, **how)

    def run(self, *lines: object, settings: Robot = ROVER, hear: Listener | None = None) -> Episode:
        return self.robot(*lines, settings=settings, hear=hear).carry_out("go to the red block")

    def where(self) -> object:
        """An answer to where the block is."""
        return box_of(self.floor, "red block")


@pytest.fixture
def room() -> Room:
    return Room()


def codes(episode: Episode) -> list[RefusalCode]:
    return [refusal.code for refusal in episode.refusals]


def causes(episode: Episode) -> list[Cause | None]:
    moves = [move for turn in episode.turns for move in turn.moves]
    return [None if move.outcome is None else move.outcome.cause for move in moves]


# --- arrows ---------------------------------------------------------------------------------------


def test_arrows_become_exact_drives_and_turns_in_their_order(room: Room):
    robot = room.robot("↑←→↑", settings=with_turns(1))
    episode = robot.carry_out()
    assert robot.actuator.said == [FORWARD, LEFT, RIGHT, FORWARD]
    assert causes(episode) == [Cause.DONE] * 4


def test_an_arrow_moves_the_base_as_far_as_it_says(room: Room):
    x, y = room.floor.ahead(0.5)
    yaw_rad = room.floor.yaw_rad
    room.run("↑↑←", settings=with_turns(1))
    assert room.floor.xy_m == pytest.approx((x, y))
    assert room.floor.yaw_rad - yaw_rad == pytest.approx(math.radians(15))


def test_the_size_of_an_arrow_is_a_setting(room: Room):
    body = NavigationConfig(step_m=0.1, turn_deg=30.0, speed=0.4)
    robot = room.robot("↑→", settings=replace(with_turns(1), body=body))
    robot.carry_out()
    assert robot.actuator.said == [DriveGoal(0.1, 0.4), SpinGoal(-math.radians(30), 0.4)]


def test_every_arrow_is_decided_on_its_own_with_a_new_picture(room: Room):
    newest: list[float] = []

    def hear(event: object) -> None:
        if isinstance(event, Decided):
            (age,) = [c for c in event.decision.checks if c.name == "frame_age"]
            newest.append(room.floor.perception.buffer.latest("/camera/image").stamp_ns)
            assert age.passed

    episode = room.run("↑↑↑", settings=with_turns(1), hear=hear)
    assert newest == sorted(set(newest))
    ends = [move.outcome.end_ns for move in episode.turns[0].moves]
    assert all(stamp > end for stamp, end in zip(newest[1:], ends, strict=False))


def test_after_the_last_arrow_a_new_picture_is_awaited(room: Room):
    robot = room.robot("↑", settings=with_turns(1))
    episode = robot.carry_out()
    (move,) = episode.turns[0].moves
    newest = robot.brain.sight.newest
    assert newest is not None and move.outcome is not None
    assert newest.stamp_ns > move.outcome.end_ns


def test_after_four_arrows_of_an_answer_it_looks_again(room: Room):
    robot = driven(room, ["←" * 6 + "STOP", "→"])
    assert robot.actuator.said == [LEFT] * 4 + [RIGHT]
    (turn,) = robot.engine.queries[1].history
    assert (turn.answer, turn.refused) == ("←←←←", "")


def test_a_stop_after_four_arrows_is_heard(room: Room):
    episode = room.run("←→←→STOP", room.where(), settings=with_turns(1))
    assert codes(episode) == [RefusalCode.UNCONFIRMED]


@pytest.mark.parametrize("answer", ["↑" * 32, "↑", "I go there: {}."])
def test_an_answer_that_was_cut_off_is_not_driven(answer: str, room: Room):
    class CutOff(ScriptedEngine):
        def ask(self, query: Query, *others: object, **more: object) -> Answer:
            answered = super().ask(query, *others, **more)
            return replace(answered, finish_reason=FinishReason.LENGTH)

    engine = CutOff(lambda query: answer.format(room.where()(query)))
    robot = played(room.floor, engine, with_turns(1))
    (refusal,) = robot.carry_out().refusals
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "cut off (length)" in refusal.text
    assert robot.actuator.said == []


def test_a_motion_of_one_arrow_is_one_stage_of_the_base(room: Room):
    episode = room.run("↑", settings=with_turns(1))
    motion = episode.turns[0].moves[0].motion
    assert [stage.stage for stage in motion.stages] == [Stage.DRIVE]
    assert motion.base_frame == "base_link"


# --- what the model is shown ----------------------------------------------------------------------


def driven(room: Room, turns: list[object], settings: Robot | None = None) -> Played:
    """The base after these answers; the next question is the last one asked."""
    robot = room.robot(*turns, settings=settings or with_turns(len(turns)))
    robot.carry_out("go to the red block")
    return robot


def stamps(frames: FrameSet) -> list[int]:
    return [frame.frame.stamp_ns for frame in frames]


def test_the_first_question_shows_the_view_now_and_no_history(room: Room):
    query = driven(room, ["↑"]).engine.queries[0]
    assert (query.task, query.instruction) == (Task.NAVIGATE, "go to the red block")
    assert (len(query.frames), query.history) == (1, ())


def test_a_view_is_remembered_with_the_arrows_driven_from_it(room: Room):
    first, second, third = driven(room, ["↑←", "→", "↑"]).engine.queries
    assert [turn.answer for turn in third.history] == ["↑←", "→"]
    views = [stamps(turn.frames) for turn in third.history]
    assert views == [[first.frames[-1].frame.stamp_ns], [second.frames[-1].frame.stamp_ns]]


def test_arrows_that_were_refused_midway_were_not_driven():
    room = Room(away_m=1.15)
    robot = driven(room, ["↑↑↑↑", "←"], with_turns(2))
    (turn,) = robot.engine.queries[1].history
    done = [goal for goal in robot.actuator.sent if isinstance(goal, DriveGoal)]
    assert turn.answer == "↑" * len(done)
    assert 1 <= len(done) < 4


def test_an_arrow_that_failed_was_not_driven(room: Room):
    robot = room.robot("↑↑↑", "↑", settings=with_turns(2))
    robot.actuator.scripts = [WELL, ending(GoalEventKind.ABORTED)]
    episode = robot.carry_out()
    assert causes(episode) == [Cause.DONE, Cause.ABORTED, Cause.DONE]
    (turn,) = robot.engine.queries[1].history
    assert turn.answer == "↑"


def test_a_base_that_somebody_else_took_is_not_taken_back(room: Room):
    robot = room.robot("↑↑↑", "↑", settings=with_turns(2))
    robot.actuator.scripts = [WELL, ending(GoalEventKind.PREEMPTED)]
    episode = robot.carry_out()
    assert robot.actuator.said == [FORWARD, FORWARD], "nothing after it, not even a stop"
    assert (episode.status, episode.cause) == (Status.CANCELLED, "preempted")


def test_what_was_refused_is_remembered_with_its_reason():
    room = Room(away_m=0.8)
    _, second, third = driven(room, ["↑↑", "←", "←"]).engine.queries
    (turn,) = second.history
    assert turn.answer == ""
    assert turn.refused.startswith("↑↑: ") and "ahead are seen free" in turn.refused
    assert [t.answer for t in third.history] == ["", "←"]


def test_what_is_left_of_an_answer_that_was_refused_midway_is_remembered():
    room = Room(away_m=1.15)
    robot = driven(room, ["↑↑↑↑", "←"], with_turns(2))
    (turn,) = robot.engine.queries[1].history
    left = turn.refused.partition(":")[0]
    assert turn.answer + left == "↑↑↑↑"


def test_a_stop_that_was_not_believed_is_remembered_with_the_distance(room: Room):
    robot = driven(room, ["STOP", room.where(), "↑"], with_turns(2))
    (turn,) = robot.engine.queries[2].history
    assert turn.refused.startswith("STOP: ") and "still 2." in turn.refused


def test_an_arrow_that_failed_is_remembered_with_its_cause(room: Room):
    robot = room.robot("↑↑↑", "↑", settings=with_turns(2))
    robot.actuator.scripts = [WELL, ending(GoalEventKind.ABORTED)]
    robot.carry_out()
    (turn,) = robot.engine.queries[1].history
    assert turn.refused.startswith("↑↑: ")


def test_a_refusal_is_told_before_the_next_view():
    room = Room(away_m=0.8)
    chat = driven(room, ["↑", "←"]).engine.chat(1)
    assert [message.role for message in chat] == ["user", "user"]
    (text,) = [part.text for part in chat[1].parts if isinstance(part, TextPart)]
    assert text.startswith("Not carried out: ↑: ") and text.endswith("you can see ")


def test_an_arrow_after_which_the_camera_went_silent_was_driven(room: Room):
    def drive(query: Query) -> str:
        room.floor.camera_on = False
        return "↑↑"

    def hear(event: object) -> None:
        room.floor.camera_on = room.floor.camera_on or isinstance(event, TurnEnded)

    robot = room.robot(drive, "←", settings=with_turns(2), hear=hear)
    episode = robot.carry_out()
    assert causes(episode) == [Cause.DONE, Cause.DONE]
    assert codes(episode) == [RefusalCode.STALE]
    (turn,) = robot.engine.queries[1].history
    assert turn.answer == "↑"


def spinning(room: Room, n: int) -> tuple[Query, Query]:
    """The first question, and the one after ``n`` turns of one arrow each."""
    queries = driven(room, ["←"] * (n + 1)).engine.queries
    return queries[0], queries[-1]


def test_the_last_eight_views_are_shown_with_their_arrows(room: Room):
    _, query = spinning(room, 11)
    assert len(query.history) == 8
    assert all(turn.answer == "←" for turn in query.history)


def test_older_views_are_shown_without_arrows_before_the_one_now(room: Room):
    _, query = spinning(room, 11)
    shown = stamps(query.frames)
    assert len(shown) == 3 + 1
    assert shown == sorted(shown)
    assert shown[-2] < min(stamps(query.history[0].frames))


def test_of_many_older_views_at_most_eight_are_shown_from_the_whole_way(room: Room):
    first, query = spinning(room, 8 + 20)
    assert 4 <= len(query.frames) - 1 <= 8
    assert stamps(query.frames)[0] == stamps(first.frames)[0]
    assert query.frames.max_visual_tokens == VISUAL_TOKENS // len(query.frames)


def test_the_chat_is_as_the_models_were_trained(room: Room):
    robot = driven(room, ["↑←", "→"])
    chat = robot.engine.chat(1)
    assert [message.role for message in chat] == ["user", "user", "assistant", "user"]
    said = [part.text for part in chat[2].parts if isinstance(part, TextPart)]
    assert said == ["↑←"]
    assert [sum(isinstance(p, ImagePart) for p in m.parts) for m in chat] == [0, 1, 0, 1]


# --- pointing -------------------------------------------------------------------------------------


def test_what_is_pointed_at_is_driven_to_as_a_place_on_the_map(room: Room):
    block_m = room.floor.things["red block"].xy_m
    robot = room.robot(room.where(), settings=with_turns(1))
    episode = robot.carry_out()
    (goal,) = robot.actuator.sent
    assert isinstance(goal, NavigateGoal)
    assert (goal.T_map_base.parent, goal.T_map_base.child) == ("map", "base_link")
    assert causes(episode) == [Cause.DONE]
    assert 0.75 < math.dist(room.floor.xy_m, block_m) < 2.0


def test_the_robot_then_looks_at_what_it_was_sent_to(room: Room):
    room.run(room.where(), settings=with_turns(1))
    x, y = np.subtract(room.floor.things["red block"].xy_m, room.floor.xy_m)
    off_rad = math.remainder(math.atan2(y, x) - room.floor.yaw_rad, 2 * math.pi)
    assert abs(off_rad) < math.radians(10)


def test_far_things_are_gone_to_in_legs():
    """This low camera sees the ground near it only."""
    room = Room(away_m=3.0, aside_m=0.8)
    episode = room.run(room.where(), room.where(), "STOP", room.where())
    assert episode.confirmed, episode.text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Do not go to {}.", RefusalCode.UNKNOWN_SKILL),
        ("I cannot see the blue ball; there is only {}.", RefusalCode.UNKNOWN_SKILL),
        ("I go anywhere but there: {}.", RefusalCode.UNKNOWN_SKILL),
        ("Stay away from {}.", RefusalCode.UNKNOWN_SKILL),
        ("<no object> There is no blue ball. The nearest thing is {}.", RefusalCode.NO_GROUNDING),
        ("I go there: {0}, or there: {0}.", RefusalCode.AMBIGUOUS),
        ("I go there: {}, <object> (1, 2) </object>.", RefusalCode.INCOMPLETE_STEP),
    ],
)
def test_words_that_do_not_plainly_send_it_there_drive_nowhere(
    words: str, code: RefusalCode, room: Room
):
    robot = room.robot(lambda query: words.format(room.where()(query)), "←", settings=with_turns(2))
    episode = robot.carry_out()
    assert codes(episode) == [code]
    assert robot.actuator.said == [LEFT]
    (turn,) = robot.engine.queries[1].history
    assert turn.answer == "" and turn.refused


def test_words_around_what_is_pointed_at_are_passed_over(room: Room):
    def say(query: Query) -> str:
        return (
            f"The red block, away from the wall: I go to it, 'do not touch' {room.where()(query)}."
        )

    assert causes(room.run(say, settings=with_turns(1))) == [Cause.DONE]


def test_where_it_was_sent_is_remembered_as_it_was_said(room: Room):
    robot = driven(room, [room.where(), "←"])
    (turn,) = robot.engine.queries[1].history
    assert turn.answer.startswith("<object>") and turn.refused == ""


def test_a_thing_that_is_reached_already_is_no_place_to_go_to():
    room = Room(away_m=1.1)
    robot = room.robot(room.where(), "←", settings=with_turns(2))
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.OBSTACLE]
    assert "nearer" in episode.turns[0].refusal.text
    (turn,) = robot.engine.queries[1].history
    assert turn.answer == "" and turn.refused.startswith("<object>")


def test_a_way_that_the_navigation_did_not_find_is_told(room: Room):
    robot = room.robot(room.where(), "←", settings=with_turns(2))
    robot.actuator.scripts = [ending(GoalEventKind.ABORTED)]
    episode = robot.carry_out()
    assert causes(episode) == [Cause.ABORTED, Cause.DONE]
    (turn,) = robot.engine.queries[1].history
    assert turn.answer == "" and turn.refused.startswith("<object>")


def test_without_a_map_nothing_is_driven_to(room: Room):
    settings = replace(with_turns(1), body=NavigationConfig(map_frame="atlas"))
    robot = room.robot(room.where(), settings=settings)
    assert codes(robot.carry_out()) == [RefusalCode.NO_TRANSFORM]
    assert robot.actuator.said == []


class WithoutOdom(PlayedFloor):
    fixed = "base_link"

    def transforms(self) -> list[RigidTransform]:
        return [self.T_base_camera]


def test_without_odom_no_arrow_is_driven(room: Room):
    """What was seen would be remembered in a frame that drives along."""
    room.floor = WithoutOdom()
    robot = room.robot("↑", settings=with_turns(1))
    (refusal,) = robot.carry_out().refusals
    assert refusal.code is RefusalCode.NO_TRANSFORM and "is odom published?" in refusal.text
    assert robot.actuator.said == []


def test_a_place_beyond_the_fence_is_not_driven_to(room: Room):
    fenced = replace(with_limits(workspace_y_max_m=0.0), executive=with_turns(1).executive)
    robot = room.robot(room.where(), settings=fenced)
    assert codes(robot.carry_out()) == [RefusalCode.OUTSIDE_WORKSPACE]
    assert robot.actuator.said == []


def test_what_has_no_depth_is_not_driven_to(room: Room):
    room.floor.with_depth = False
    robot = room.robot(room.where(), settings=with_turns(1))
    assert codes(robot.carry_out()) == [RefusalCode.NO_DEPTH]
    assert robot.actuator.said == []


# --- STOP -----------------------------------------------------------------------------------------


def test_a_stop_near_the_thing_is_confirmed_by_its_distance():
    room = Room(away_m=1.1)
    episode = room.run("STOP", room.where())
    assert (episode.status, episode.cause) == (Status.SUCCEEDED, "done")
    (check,) = episode.turns[0].confirmation.checks
    told_m = float(check.found.removesuffix(" m"))
    assert told_m == pytest.approx(1.1 - 0.15, abs=0.08)


def test_a_stop_far_from_the_thing_is_refused(room: Room):
    lines = ["STOP", room.where()] * 3
    episode = room.run(*lines)
    assert (episode.status, episode.cause) == (Status.REFUSED, "unconfirmed")
    assert "still 2." in episode.text


def test_how_near_counts_as_arrived_is_a_setting(room: Room):
    settings = replace(ROVER, body=NavigationConfig(arrive_m=3.5))
    assert room.run("STOP", room.where(), settings=settings).confirmed


def test_arrows_before_a_stop_are_driven_and_those_after_it_are_not(room: Room):
    robot = room.robot("↑←STOP", room.where(), settings=with_turns(1))
    robot.carry_out("go to the red block")
    assert robot.actuator.said == [FORWARD, LEFT]


def test_the_distance_is_measured_from_where_the_base_is_by_then():
    room = Room(away_m=1.9)
    robot = room.robot("↑↑↑", "↑STOP", room.where())
    episode = robot.carry_out()
    assert episode.confirmed, episode.text
    (check,) = episode.turns[1].confirmation.checks
    assert float(check.found.removesuffix(" m")) == pytest.approx(0.9 - 0.15, abs=0.08)


def test_a_stop_is_checked_by_asking_where_the_thing_is_in_a_new_picture():
    room = Room(away_m=1.1)
    robot = room.robot("←→", "STOP", room.where())
    robot.carry_out("go to the red block")
    _, claim, check = robot.engine.queries
    assert (check.task, check.instruction) == (Task.OBJECT, "go to the red block")
    assert (len(check.frames), check.history) == (1, ())
    assert check.frames[-1].frame.stamp_ns > claim.frames[-1].frame.stamp_ns


def test_the_distance_is_measured_over_the_floor(room: Room):
    """Only the upper part of a pillar is pointed at."""
    xy_m = room.floor.ahead(2.0)
    room.floor.things = {
        "pillar": Thing("pillar", "red", "cylinder", xy_m, (0.3, 0.3, 1.5)),
    }

    def upper_part(query: Query) -> str:
        (left, _), (right, _) = room.floor.box("pillar")
        low = room.floor.pixel((*room.floor.ahead(1.85), 0.5))
        return tag("object", query, (left, 0), (right, low[1]))

    episode = room.run("STOP", upper_part, settings=with_turns(1))
    (check,) = episode.turns[0].confirmation.checks
    assert float(check.found.removesuffix(" m")) == pytest.approx(1.85, abs=0.04)


def test_a_stop_is_not_believed_where_the_thing_is_not_found(room: Room):
    episode = room.run(*["STOP", "<no object>"] * 3)
    assert (episode.status, episode.cause) == (Status.REFUSED, "unconfirmed")
    assert not episode.turns[0].confirmation.confirmed


def test_a_stop_is_not_believed_without_depth():
    room = Room(away_m=1.1)
    room.floor.with_depth = False
    assert codes(room.run(*["STOP", room.where()] * 3)) == [RefusalCode.UNCONFIRMED] * 3


def test_a_stop_is_not_checked_where_an_arrow_before_it_was_refused():
    room = Room(away_m=0.7)
    robot = room.robot("↑STOP", settings=with_turns(1))
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.OBSTACLE]
    assert len(robot.engine.queries) == 1


def test_a_stop_is_not_checked_where_an_arrow_before_it_failed(room: Room):
    robot = room.robot("↑STOP", settings=with_turns(1))
    robot.actuator.scripts = [ending(GoalEventKind.ABORTED)]
    robot.carry_out()
    assert len(robot.engine.queries) == 1


def test_after_an_unbelieved_stop_the_drive_goes_on():
    room = Room(away_m=1.7)
    episode = room.run("STOP", room.where(), "↑↑↑", "STOP", room.where())
    assert codes(episode) == [RefusalCode.UNCONFIRMED]
    assert episode.confirmed


# --- refusals and ends ----------------------------------------------------------------------------


def test_an_answer_without_a_way_is_refused(room: Room):
    robot = room.robot(*["I see a red block."] * 3)
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.NO_GROUNDING] * 3
    assert "I see a red block." in episode.text
    assert robot.actuator.said == []


def test_a_way_that_is_not_free_is_refused():
    room = Room(away_m=0.8)
    robot = room.robot("↑", "↑", "↑")
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.OBSTACLE] * 3
    assert robot.actuator.said == []


def test_something_that_comes_into_the_way_stops_the_next_arrow(room: Room):
    arrived: list[object] = []

    def hear(event: object) -> None:
        if isinstance(event, Decided) and not arrived:
            arrived.append(event)
            room.put("box", "blue", 1.0)

    episode = room.run("↑↑↑", settings=with_turns(1), hear=hear)
    assert causes(episode) == [Cause.DONE, None]
    assert codes(episode) == [RefusalCode.OBSTACLE]


def test_turning_on_the_spot_needs_no_free_way():
    room = Room(away_m=0.8)
    assert causes(room.run("←", settings=with_turns(1))) == [Cause.DONE]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_drive_m": 0.2}, RefusalCode.OUT_OF_REACH),
        ({"max_speed": 0.1}, RefusalCode.TOO_FAST),
        ({"max_blind_m": 0.1}, RefusalCode.OBSTACLE),
        ({"dry_run": True}, RefusalCode.DRY_RUN),
    ],
)
def test_a_limit_of_the_gate_refuses_an_arrow(limits: dict, code: RefusalCode, room: Room):
    robot = room.robot(
        "↑↑", settings=replace(with_limits(**limits), executive=with_turns(1).executive)
    )
    episode = robot.carry_out()
    assert codes(episode) == [code]
    assert causes(episode) == [None]
    assert robot.actuator.said == []


def test_a_person_is_asked_about_each_arrow(room: Room):
    asked: list[object] = []

    def approve(step: object, motion: object) -> bool:
        asked.append(step)
        return len(asked) < 3

    settings = replace(with_limits(require_approval=True), executive=with_turns(1).executive)
    robot = room.robot("↑↑↑↑", settings=settings, approve=approve)
    episode = robot.carry_out()
    assert causes(episode) == [Cause.DONE, Cause.DONE, None]
    assert codes(episode) == [RefusalCode.NOT_APPROVED]
    assert asked == [None] * 3


def test_a_base_that_is_moved_while_a_person_is_asked_is_told(room: Room):
    """What was approved was told and judged from where it stood."""

    def approve(step: object, motion: object) -> bool:
        room.floor.xy_m = room.floor.ahead(0.35)
        room.floor.wait(0.2)
        return True

    settings = replace(with_limits(require_approval=True), executive=with_turns(1).executive)
    robot = room.robot("↑", settings=settings, approve=approve)
    (refusal,) = robot.carry_out().refusals
    assert refusal.code is RefusalCode.SCENE_CHANGED
    assert "base_link moved 0.35 m and turned 0.0° since the picture" in refusal.text
    assert robot.actuator.said == []


def test_arrows_are_not_driven_where_the_base_was_turned_while_the_engine_thought(room: Room):
    def think(query: Query) -> str:
        room.floor.yaw_rad += math.radians(90)
        room.floor.wait(0.5)
        return "↑↑"

    robot = room.robot(think, "→", settings=with_turns(2))
    episode = robot.carry_out()
    (refusal,) = episode.refusals
    assert refusal.code is RefusalCode.SCENE_CHANGED
    assert "base_link moved 0.00 m and turned 90.0°" in refusal.text
    assert robot.actuator.said == [RIGHT]
    (told,) = robot.engine.queries[1].history
    assert told.answer == "" and told.refused.startswith("↑↑: base_link moved")


def test_a_thing_that_is_pointed_at_is_gone_to_though_the_base_was_moved():
    """Its place is told in the fixed frame."""
    room = Room(away_m=2.0)
    where = room.where()

    def think(query: Query) -> str:
        said = where(query)
        room.floor.xy_m = room.floor.ahead(0.2)
        room.floor.wait(0.5)
        return said

    assert causes(room.run(think, settings=with_turns(1))) == [Cause.DONE]


def test_an_engine_that_fails_is_told(room: Room):
    episode = room.run(*[EngineError("no answer")] * 3)
    assert (episode.status, episode.cause) == (Status.REFUSED, "engine_failed")


def test_an_engine_that_fails_at_the_check_of_a_stop_is_told():
    room = Room(away_m=1.1)
    episode = room.run(*["STOP", EngineError("no answer")] * 3)
    assert (episode.status, episode.cause) == (Status.REFUSED, "engine_failed")


def test_without_the_bases_pose_nothing_drives(room: Room):
    room.floor.perception.transforms.clear_dynamic()
    room.floor.with_pose = False
    robot = room.robot("↑", "↑", "↑")
    assert codes(robot.carry_out()) == [RefusalCode.NO_TRANSFORM] * 3
    assert robot.actuator.said == []


def test_a_silent_camera_stops_a_drive(room: Room):
    def drive(query: Query) -> str:
        room.floor.camera_on = False
        return "↑"

    robot = room.robot(drive)
    robot.actuator.scripts = [SLOW]
    episode = robot.carry_out()
    assert (episode.status, episode.cause) == (Status.FAILED, "stale")
    assert robot.actuator.said[-1] == "cancel"


def test_a_person_stops_a_drive_and_no_further_arrow_is_driven(room: Room):
    switch = Switch()

    def hear(event: object) -> None:
        switch.on = switch.on or isinstance(event, Decided)

    robot = room.robot("↑↑↑", hear=hear)
    episode = robot.carry_out(cancel=switch)
    assert episode.status is Status.CANCELLED
    assert len(robot.actuator.sent) <= 1
    assert len(robot.engine.queries) == 1


def test_a_drive_that_never_ends_is_out_of_turns(room: Room):
    episode = room.run("←", "→", "←", settings=with_turns(3))
    assert (episode.status, episode.cause) == (Status.FAILED, "too_many_turns")
