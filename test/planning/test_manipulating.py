"""Whole tasks of an arm at a table: picked, placed and confirmed, or refused or stopped by name."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from played_robot import (
    BALL,
    CUBE,
    PLATE,
    SLOW,
    T_WORLD_ARM,
    WELL,
    Listener,
    Played,
    PlayedTable,
    ScriptedEngine,
    Switch,
    TimedActuator,
    at,
    ending,
    pick,
    place,
    played,
    tag,
)

from rynn_brain_ros.planning.episode import (
    Answered,
    Decided,
    Episode,
    EpisodeEnded,
    EpisodeEvent,
    Looked,
    StageBegan,
    TurnEnded,
)
from rynn_brain_ros.planning.goals import GoalTimeouts
from rynn_brain_ros.planning.holding import Hand
from rynn_brain_ros.planning.robots import Robot, panda
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import (
    Cause,
    EngineError,
    GoalEventKind,
    ImagePart,
    Message,
    Motion,
    Query,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Stage,
    Status,
    Step,
    TextPart,
)

PANDA = panda(dry_run=False, engine_verdict="not_required")
ON_PLATE = (PLATE.xy_m, PLATE.size_m[2])
ELSEWHERE = (0.5, 0.28)


def limited(**limits: object) -> Robot:
    return replace(PANDA, limits=replace(PANDA.limits, **limits))


class Scene:
    """A table with a cube, a ball and a plate, and a robot that is told what to do."""

    def __init__(self, *things: Thing) -> None:
        self.table = PlayedTable(things or (CUBE, BALL, PLATE))
        self.engine = ScriptedEngine()

    def pick(self, name: str = "red cube") -> Scene:
        self.engine.lines.append(pick(self.table, name))
        return self

    def place(self, xy_m: tuple[float, float] = PLATE.xy_m, z_m: float = PLATE.size_m[2]) -> Scene:
        self.engine.lines.append(place(self.table, xy_m, z_m))
        return self

    def says(self, *lines: object) -> Scene:
        self.engine.lines += lines
        return self

    def robot(self, settings: Robot = PANDA, hear: Listener | None = None, **how: object) -> Played:
        return played(self.table, self.engine, settings, hear=hear, **how)

    def run(self, settings: Robot = PANDA, hear: Listener | None = None, **how: object) -> Episode:
        return self.robot(settings, hear, **how).carry_out()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def codes(episode: Episode) -> list[RefusalCode]:
    return [refusal.code for refusal in episode.refusals]


def causes(episode: Episode) -> list[Cause | None]:
    """How the motions ended."""
    moves = [move for turn in episode.turns for move in turn.moves]
    return [None if move.outcome is None else move.outcome.cause for move in moves]


def has_moved(episode: Episode) -> bool:
    return any(turn.moved for turn in episode.turns)


# --- a whole task ---------------------------------------------------------------------------------


@cache
def _carried_out() -> tuple[Scene, Played, Episode]:
    scene = Scene().pick().place().says("Done.")
    robot = scene.robot()
    return scene, robot, robot.carry_out("put the red cube on the plate.")


@pytest.fixture
def whole() -> tuple[Scene, Played, Episode]:
    """Put the cube on the plate, then say so. Not to be changed."""
    return _carried_out()


Whole = tuple[Scene, Played, Episode]


def test_a_thing_is_picked_placed_and_confirmed(whole: Whole):
    scene, _, episode = whole
    assert (episode.status, episode.cause) == (Status.SUCCEEDED, "done")
    assert episode.confirmed
    assert math.dist(scene.table.things["red cube"].xy_m, PLATE.xy_m) < 0.02
    assert causes(episode) == [Cause.DONE, Cause.DONE]


def test_a_thing_is_let_go_just_over_what_it_is_put_on(whole: Whole):
    (bottom_m,) = whole[0].table.released
    assert 0.0 < bottom_m - PLATE.size_m[2] < 0.015


def test_nothing_else_is_moved(whole: Whole):
    things = whole[0].table.things
    assert (things["blue ball"], things["yellow plate"]) == (BALL, PLATE)


def test_a_turn_holds_all_that_it_came_to(whole: Whole):
    first, second, last = whole[2].turns
    assert [turn.number for turn in (first, second, last)] == [0, 1, 2]
    assert first.step is not None and first.step.skill is Skill.PICK
    assert second.step is not None and second.step.skill is Skill.PLACE
    assert last.confirmation is not None and last.moves == ()
    assert all(turn.response is not None and len(turn.frames) > 0 for turn in (first, second, last))


def test_a_turn_tells_how_long_its_parts_took(whole: Whole):
    times = whole[2].turns[0].times
    assert all(t >= 0 for t in (times.look_s, times.ask_s, times.plan_s, times.gate_s))


def test_a_turn_is_told_in_the_order_in_which_it_happens(whole: Whole):
    told = [event for event in whole[1].events if isinstance(event, Looked | Answered | Decided)]
    numbers = [event.number for event in told]
    assert numbers == sorted(numbers)
    kinds = [type(event) for event in told if event.number == 0]
    assert kinds == [Looked, Answered, Decided]


def test_a_motion_is_decided_with_every_check_before_it_moves(whole: Whole):
    (move,) = whole[2].turns[0].moves
    assert move.decision.approved
    assert len(move.decision.checks) > 15
    assert all(check.passed for check in move.decision.checks)


def test_the_chain_holds_from_the_recorded_frame_to_the_goal(whole: Whole):
    turn = whole[2].turns[0]
    assert turn.step is not None and turn.step.grasp is not None
    assert turn.step.grasp.frame is turn.frames[-1]


# --- what the planner is shown --------------------------------------------------------------------


def texts(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def images(message: Message) -> int:
    return sum(isinstance(part, ImagePart) for part in message.parts)


def test_the_first_question_is_the_goal_and_one_picture(whole: Whole):
    (message,) = whole[1].engine.chat(0)
    assert "the goal: put the red cube on the plate." in texts(message)
    assert texts(message).endswith("<frame 0>: ")
    assert images(message) == 1


def test_the_goal_is_said_once_and_later_turns_are_pictures_only(whole: Whole):
    chat = whole[1].engine.chat(2)
    assert [message.role for message in chat] == ["user", "assistant"] * 2 + ["user"]
    assert texts(chat[2]) == texts(chat[4]) == "<frame 0>: <frame 1>: "
    assert [images(message) for message in chat] == [1, 0, 2, 0, 2]


def test_earlier_answers_are_repeated_verbatim(whole: Whole):
    _, robot, episode = whole
    said = [turn.response.answer.text for turn in episode.turns if turn.response is not None]
    chat = robot.engine.chat(2)
    assert [texts(chat[1]), texts(chat[3])] == said[:2]


def test_later_pictures_were_taken_since_the_motion_before_began(whole: Whole):
    turns = whole[2].turns
    for before, turn in pairwise(turns):
        (move,) = before.moves
        assert move.outcome is not None
        stamps = [frame.frame.stamp_ns for frame in turn.frames]
        assert move.outcome.start_ns < stamps[0] < stamps[-1]
        assert stamps[-1] > move.outcome.end_ns


def test_a_refused_answer_is_not_part_of_the_history(scene: Scene):
    scene.says("I like cubes.").pick().place().says("Done.")
    robot = scene.robot()
    assert robot.carry_out().confirmed
    assert len(robot.engine.chat(1)) == 1
    assert "I like cubes." not in texts(robot.engine.chat(3)[1])


def test_a_motion_that_failed_is_part_of_the_history(scene: Scene):
    robot = scene.pick().pick().place().says("Done.").robot()
    robot.actuator.scripts = [WELL, ending(GoalEventKind.ABORTED)]
    assert robot.carry_out().confirmed
    assert len(robot.engine.chat(1)) == 3


def test_how_many_pictures_are_shown_is_a_setting(scene: Scene):
    settings = replace(PANDA, executive=replace(PANDA.executive, frames=4))
    episode = scene.pick().place().says("Done.").run(settings)
    assert [len(turn.frames) for turn in episode.turns] == [1, 4, 4]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("There is no red cube. <no object>", RefusalCode.NO_GROUNDING),
        ("♥ ♥ ♥", RefusalCode.UNKNOWN_SKILL),
        ("Pick it up at <affordance> <frame 99>: (500, 500) </affordance>.",
         RefusalCode.INCOMPLETE_STEP),
        ("Pick it up at <affordance> <frame 0>: (1500, 500) </affordance>.",
         RefusalCode.OUT_OF_RANGE),
        ("Pick it up.", RefusalCode.INCOMPLETE_STEP),
        ("Place it on <area> <frame 0>: (484, 577) </area>.", RefusalCode.OUT_OF_ORDER),
        ("Pour it into <area> <frame 0>: (484, 577) </area>.", RefusalCode.OUT_OF_ORDER),
        ("Hand over <object> <frame 0>: (400, 400), (600, 700) </object>.",
         RefusalCode.OUT_OF_ORDER),
        ("Pick it up at <affordance> <frame 0>: (300, 700) </affordance>.", RefusalCode.NO_GRASP),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name_and_nothing_moves(
    answer: str, code: RefusalCode, scene: Scene
):
    robot = scene.says(*[answer] * 3).robot()
    episode = robot.carry_out()
    assert codes(episode) == [code] * 3
    assert (episode.status, episode.cause) == (Status.REFUSED, code.value)
    assert robot.actuator.said == []


def test_after_nonsense_the_planner_is_asked_again(scene: Scene):
    episode = scene.says("Dance!").pick().place().says("Done.").run()
    assert codes(episode) == [RefusalCode.UNKNOWN_SKILL]
    assert episode.confirmed


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"workspace_x_max_m": 0.3}, RefusalCode.OUTSIDE_WORKSPACE),
        ({"reach_max_m": 0.3}, RefusalCode.OUT_OF_REACH),
        ({"max_grip_width_m": 0.03}, RefusalCode.TOO_WIDE),
        ({"max_speed": 0.1}, RefusalCode.TOO_FAST),
        ({"max_force_n": 5.0}, RefusalCode.TOO_STRONG),
        ({"max_sigma_m": 0.00001}, RefusalCode.UNCERTAIN),
        ({"unknown_confidence": "refuse"}, RefusalCode.LOW_CONFIDENCE),
        ({"dry_run": True}, RefusalCode.DRY_RUN),
    ],
)
def test_a_limit_of_the_gate_refuses_the_motion(limits: dict, code: RefusalCode, scene: Scene):
    robot = scene.pick().pick().pick().robot(limited(**limits))
    episode = robot.carry_out()
    assert codes(episode) == [code] * 3
    (move,) = episode.turns[0].moves
    assert move.outcome is None and move.decision.refusal == episode.refusals[0]
    assert robot.actuator.said == []


def test_a_dry_run_fails_at_nothing_else(scene: Scene):
    episode = scene.pick().pick().pick().run(limited(dry_run=True))
    (move,) = episode.turns[0].moves
    assert [check.name for check in move.decision.checks if not check.passed] == ["dry_run"]


def test_a_robot_that_is_not_armed_moves_nothing(scene: Scene):
    robot = scene.pick().pick().pick().robot()
    robot.arming.disarm()
    assert codes(robot.carry_out()) == [RefusalCode.NOT_ARMED] * 3
    assert robot.actuator.said == []


def test_a_second_thing_is_not_picked_with_a_full_hand(scene: Scene):
    scene.pick().pick("blue ball").place().says("Done.")
    episode = scene.run()
    assert codes(episode) == [RefusalCode.OUT_OF_ORDER]
    assert episode.confirmed


def test_a_full_hand_is_not_used_to_push(scene: Scene):
    def push(query: object) -> str:
        ends = scene.table.pixel(scene.table.top("blue ball")), scene.table.pixel((0.5, 0.0, 0.0))
        return f"Push it along {tag('trajectory', query, *ends)}."

    episode = scene.pick().says(push).place().says("Done.").run()
    assert codes(episode) == [RefusalCode.OUT_OF_ORDER]
    assert scene.table.things["blue ball"] == BALL


def test_a_thing_near_the_hand_is_the_robot_itself(scene: Scene):
    x, y, _ = scene.table.hand_fixed_m
    scene.table.move("red cube", (x, y))
    scene.table.hand_m = (*scene.table.hand_m[:2], 0.1)
    episode = scene.pick().pick().pick().run()
    assert codes(episode) == [RefusalCode.ON_ROBOT] * 3


# --- a person's word ------------------------------------------------------------------------------


class Person:
    def __init__(self, *says: bool) -> None:
        self.says = list(says)
        self.asked: list[tuple[Skill | None, Motion]] = []

    def __call__(self, step: Step | None, motion: Motion) -> bool:
        self.asked.append((None if step is None else step.skill, motion))
        return self.says.pop(0)


def test_a_person_is_asked_about_every_motion(scene: Scene):
    person = Person(True, True)
    episode = scene.pick().place().says("Done.").run(limited(require_approval=True), approve=person)
    assert episode.confirmed
    assert [skill for skill, _ in person.asked] == [Skill.PICK, Skill.PLACE]
    assert [motion for _, motion in person.asked] == [t.moves[0].motion for t in episode.turns[:2]]


def test_a_persons_no_moves_nothing(scene: Scene):
    person = Person(False, False, False)
    scene.pick().pick().pick()
    robot = scene.robot(limited(require_approval=True), approve=person)
    assert codes(robot.carry_out()) == [RefusalCode.NOT_APPROVED] * 3
    assert robot.actuator.said == []


def test_a_person_is_not_asked_about_what_is_forbidden_anyway(scene: Scene):
    person = Person()
    scene.pick().pick().pick()
    settings = limited(require_approval=True, reach_max_m=0.3)
    assert codes(scene.run(settings, approve=person)) == [RefusalCode.OUT_OF_REACH] * 3


def give(query: Query) -> str:
    """A planner's sentence that hands over what is held."""
    return f"Hand over the cube {tag('object', query, (400, 400), (600, 600))}."


@pytest.mark.parametrize("says", [True, False])
def test_a_person_may_think_for_long_about_a_thing_that_is_held_out(says: bool, scene: Scene):
    def approve(step: Step | None, motion: Motion) -> bool:
        scene.table.camera_on = False  # 500 pictures would take their time
        scene.table.wait(49.0)
        scene.table.camera_on = True
        scene.table.wait(1.0)
        return says

    episode = scene.pick().says(give, "Done.", "Done.", "Done.").run(approve=approve)
    assert RefusalCode.STALE not in codes(episode)
    carried, gave, *back = episode.turns[1].moves
    assert carried.outcome is not None
    assert gave.decision.approved is says
    assert (scene.table.held is None) is says
    ways_back = [move.outcome is not None and move.outcome.cause for move in back]
    assert ways_back == ([] if says else [Cause.DONE])


# --- engine and camera ----------------------------------------------------------------------------


def test_an_engine_that_fails_is_asked_again(scene: Scene):
    episode = scene.says(EngineError("no answer within 60 s")).pick().place().says("Done.").run()
    assert codes(episode) == [RefusalCode.ENGINE_FAILED]
    assert episode.confirmed


def test_an_engine_that_keeps_failing_ends_the_task(scene: Scene):
    episode = scene.says(*[EngineError("connection refused")] * 3).run()
    assert (episode.status, episode.cause) == (Status.REFUSED, "engine_failed")
    assert "connection refused" in episode.text


def test_an_engine_that_thinks_for_long_does_not_make_the_scene_old(scene: Scene):
    def slowly(query: object) -> str:
        scene.table.wait(8.0)
        line = pick(scene.table, "red cube")
        assert callable(line)
        return line(query)

    assert scene.says(slowly).place().says("Done.").run().confirmed


def test_a_camera_that_is_silent_before_a_look_is_refused(scene: Scene):
    scene.table.camera_on = False
    robot = scene.robot()
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.STALE] * 3
    assert robot.engine.queries == []


def test_a_camera_that_goes_silent_in_a_motion_stops_it(scene: Scene):
    robot = scene.pick().robot(hear=at(Stage.APPROACH, lambda: blind(scene)))
    robot.actuator.scripts = [WELL, WELL, SLOW]
    episode = robot.carry_out()
    assert (episode.status, episode.cause) == (Status.FAILED, "stale")
    assert robot.actuator.said[-1] == "cancel"


class DamagingTable(PlayedTable):
    """Of ``every`` so many pictures one arrives with a wrong byte in a Huffman table."""

    every, n = 0, 0

    def encoded(self, rgb: np.ndarray) -> bytes:
        jpeg = bytearray(super().encoded(rgb))
        self.n += 1
        if self.every and self.n % self.every == 0:
            jpeg[jpeg.find(b"\xff\xc4") + 4] = 0xFF
        return bytes(jpeg)


def test_a_damaged_picture_is_as_good_as_none(scene: Scene):
    scene.table = table = DamagingTable()
    table.every = 2
    assert scene.pick().place().says("Done.").run().confirmed


def test_a_camera_whose_pictures_are_all_damaged_is_silent(scene: Scene):
    scene.table = table = DamagingTable()

    def hear(event: EpisodeEvent) -> None:
        table.every = table.every or int(isinstance(event, TurnEnded))

    robot = scene.pick().robot(hear=hear)
    episode = robot.carry_out()
    assert codes(episode) == [RefusalCode.STALE] * 3
    assert isinstance(robot.events[-1], EpisodeEnded)


def blind(scene: Scene) -> None:
    scene.table.camera_on = False


def test_a_camera_that_goes_silent_before_the_claim_is_checked_confirms_nothing(scene: Scene):
    def claim(query: object) -> str:
        blind(scene)
        return "Done."

    episode = scene.pick().place().says(claim).run()
    assert not episode.confirmed
    assert set(codes(episode)) == {RefusalCode.STALE}


def test_without_depth_nothing_is_picked(scene: Scene):
    scene.table.with_depth = False
    episode = scene.pick().pick().pick().run()
    assert codes(episode) == [RefusalCode.NO_DEPTH] * 3


def test_without_the_cameras_pose_nothing_is_picked(scene: Scene):
    scene.table.perception.transforms.clear_dynamic()
    scene.table.with_pose = False
    episode = scene.pick().pick().pick().run()
    assert codes(episode) == [RefusalCode.NO_TRANSFORM] * 3
    assert not has_moved(episode)


def test_an_arm_with_links_that_are_not_told_moves_nothing_and_names_them(scene: Scene):
    scene.table.silent = ("panda_link3", "panda_hand")
    scene.table.perception.transforms.clear_dynamic()
    episode = scene.pick().pick().pick().run()
    assert codes(episode) == [RefusalCode.NO_TRANSFORM] * 3
    assert "its links panda_link3, panda_hand;" in episode.text
    assert not has_moved(episode)


def test_an_arm_whose_profile_names_no_links_moves_nothing(scene: Scene):
    nameless = replace(PANDA, body=replace(PANDA.body, links=()))
    episode = scene.pick().pick().pick().run(nameless)
    assert codes(episode) == [RefusalCode.NO_TRANSFORM] * 3
    assert not has_moved(episode)


def test_links_that_fall_silent_on_the_way_stop_the_hand_before_it_comes_down(scene: Scene):
    def hush() -> None:
        scene.table.silent = ("panda_link3",)

    episode = scene.pick().says("Done.", "Done.", "Done.").run(hear=at(Stage.PRE, hush))
    assert causes(episode) == [Cause.SCENE_CHANGED]
    assert "its links panda_link3;" in episode.turns[0].moves[0].outcome.text


# --- the world changes ----------------------------------------------------------------------------


def test_a_thing_moved_before_the_approach_is_left_alone_then_found_again(scene: Scene):
    away = at(Stage.PRE, lambda: scene.table.move("red cube", (0.42, 0.28)))
    episode = scene.pick().pick().place().says("Done.").run(hear=away)
    assert causes(episode) == [Cause.SCENE_CHANGED, Cause.DONE, Cause.DONE]
    assert episode.confirmed


def test_a_plate_taken_away_before_the_hand_comes_down_stops_it(scene: Scene):
    def hear(event: object) -> None:
        if isinstance(event, Decided) and event.motion.skill is Skill.PLACE:
            scene.table.move("yellow plate", ELSEWHERE)

    robot = scene.pick().place().place(ELSEWHERE, PLATE.size_m[2]).says("Done.").robot(hear=hear)
    episode = robot.carry_out()
    assert causes(episode) == [Cause.DONE, Cause.SCENE_CHANGED, Cause.DONE]
    assert episode.confirmed


def test_the_hand_does_not_come_down_on_what_somebody_has_put_before_the_target(scene: Scene):
    def hide() -> None:
        scene.table.things["hand"] = Thing("hand", "purple", "cube", CUBE.xy_m, (0.1, 0.08, 0.12))

    episode = scene.pick().says("Done.", "Done.", "Done.").run(hear=at(Stage.PRE, hide))
    assert causes(episode) == [Cause.SCENE_CHANGED]
    assert scene.table.held is None


class RollingTable(PlayedTable):
    """The arm's base can roll; transforms tell where it is."""

    T_world_arm = T_WORLD_ARM

    def transforms(self) -> list[RigidTransform]:
        _, *others = super().transforms()
        return [self.T_world_arm, *others]

    def roll(self, away_m: float = 0.12) -> None:
        x, y, z = T_WORLD_ARM.translation_m
        self.T_world_arm = replace(T_WORLD_ARM, translation_m=(x, y + away_m, z))
        self.wait(0.5)


@pytest.fixture
def rolling() -> Scene:
    scene = Scene()
    scene.table = RollingTable()
    return scene


@pytest.mark.parametrize("asks", [False, True])
def test_nothing_is_gripped_where_the_base_rolled_while_the_engine_thought(
    asks: bool, rolling: Scene
):
    def think(query: Query) -> str:
        said = pick(rolling.table, "red cube")(query)
        rolling.table.roll()
        return said

    person = Person()
    robot = rolling.says(think, "Done.", "Done.").robot(
        limited(require_approval=asks), approve=person if asks else None
    )
    episode = robot.carry_out()
    assert codes(episode)[0] is RefusalCode.SCENE_CHANGED
    assert "panda_link0 moved 0.12 m and turned 0.0°" in episode.refusals[0].text
    assert robot.actuator.said == [] and person.asked == []


def test_nothing_is_gripped_where_the_base_rolled_while_a_person_was_asked(rolling: Scene):
    def approve(step: object, motion: object) -> bool:
        rolling.table.roll()
        return True

    robot = (
        rolling.pick().says("Done.", "Done.").robot(limited(require_approval=True), approve=approve)
    )
    assert codes(robot.carry_out())[0] is RefusalCode.SCENE_CHANGED
    assert robot.actuator.said == []


def test_the_hand_does_not_come_down_where_the_base_rolled_on_the_way(rolling: Scene):
    episode = (
        rolling.pick().says("Done.", "Done.", "Done.").run(hear=at(Stage.PRE, rolling.table.roll))
    )
    assert causes(episode) == [Cause.SCENE_CHANGED]
    (move,) = episode.turns[0].moves
    assert move.outcome is not None and "panda_link0 moved 0.12 m" in move.outcome.text


def test_a_thing_that_is_held_out_is_taken_back_where_the_base_rolled(rolling: Scene):
    """A posture is the same wherever the base stands."""

    def approve(step: object, motion: object) -> bool:
        rolling.table.roll()
        return True

    episode = rolling.pick().says(give, "Done.", "Done.", "Done.").run(approve=approve)
    assert codes(episode)[0] is RefusalCode.SCENE_CHANGED
    assert causes(episode) == [Cause.DONE, Cause.DONE, None, Cause.DONE]
    assert rolling.table.held is not None


def test_a_base_that_is_told_to_stand_a_little_elsewhere_stands(rolling: Scene):
    hear = at(Stage.PRE, lambda: rolling.table.roll(0.005))
    assert causes(rolling.pick().says("Done.").run(hear=hear)) == [Cause.DONE]


def test_the_way_of_a_push_is_looked_at_again(scene: Scene):
    end = (CUBE.xy_m[0], 0.36, 0.0)

    def say(query: Query) -> str:
        start = scene.table.pixel(scene.table.top("red cube"))
        path = tag("trajectory", query, start, scene.table.pixel(end))
        scene.table.things["glass"] = Thing(
            "glass", "green", "cylinder", (CUBE.xy_m[0], 0.33), (0.05, 0.05, 0.1)
        )
        scene.table.wait(0.5)  # it is put there while the planner thinks
        return f"Push {tag('object', query, *scene.table.box('red cube'))} along {path}."

    episode = scene.says(say, "Done.", "Done.", "Done.").run()
    assert not has_moved(episode)
    assert codes(episode)[0] is RefusalCode.SCENE_CHANGED
    assert "on the way of the push" in str(episode.refusals[0])


def test_the_spot_that_a_thing_is_put_on_is_looked_at_where_it_is():
    """It is not where was pointed, and something stands there by now."""
    block = Thing("purple block", "purple", "cube", (0.50, 0.02), (0.05, 0.05, 0.12))
    long = replace(CUBE, xy_m=(0.42, -0.22), size_m=(0.15, 0.05, 0.05), yaw_rad=0.0)
    scene = Scene(long, block)

    def say(query: Query) -> str:
        x, y = scene.table.pixel((0.50, 0.065, 0.0))
        return f"Place it on <area> <frame 0>: ({x}, {y}) </area>."

    can = Thing("can", "green", "cylinder", (0.50, 0.162), (0.05, 0.05, 0.05))
    put = at(Stage.RETREAT, lambda: scene.table.things.setdefault("can", can))
    episode = scene.pick().says(say, "Done.").run(hear=put)
    assert "around the spot it is put on" in str(episode.refusals[0])
    assert scene.table.held is not None


def test_fingers_that_close_on_nothing_pick_again(scene: Scene):
    away = at(Stage.GRIP, lambda: scene.table.move("red cube", (0.42, 0.28)))
    episode = scene.pick().pick().place().says("Done.").run(hear=away)
    assert causes(episode) == [Cause.NOTHING_GRIPPED, Cause.DONE, Cause.DONE]
    assert episode.confirmed


def test_a_thing_dropped_on_the_way_is_picked_again(scene: Scene):
    episode = scene.pick().pick().place().says("Done.").run(hear=at(Stage.LIFT, scene.table.drop))
    assert causes(episode) == [Cause.DROPPED, Cause.DONE, Cause.DONE]
    assert episode.confirmed


def test_a_thing_that_was_dropped_is_missing_when_the_rest_is_done(scene: Scene):
    scene.pick().place().pick("blue ball").says("Done.", "Done.", "Done.")
    actuator = TimedActuator(scene.table)
    retreats: list[bool] = []

    def hear(event: EpisodeEvent) -> None:
        second = isinstance(event, StageBegan) and event.number == 2
        if second and event.stage.stage is Stage.RETREAT and not retreats:
            retreats.append(True)
            scene.table.drop()

    episode = scene.run(hear=hear, actuator=actuator)
    assert causes(episode)[2] is Cause.DROPPED
    assert episode.status is Status.REFUSED and not episode.confirmed
    assert "it fell out of the hand" in episode.text


def test_what_one_task_took_the_next_can_place_and_nothing_else_is_taken(scene: Scene):
    hand = Hand()
    took = scene.pick().says("Done.").run(hand=hand)
    assert took.status is Status.SUCCEEDED and scene.table.held is not None
    second = scene.pick("blue ball").says("Done.", "Done.", "Done.").run(hand=hand)
    assert second.status is Status.REFUSED and not has_moved(second)
    assert codes(second) == [RefusalCode.OUT_OF_ORDER, *[RefusalCode.UNCONFIRMED] * 2]
    assert scene.table.held is not None
    third = scene.place().says("Done.").run(hand=hand)
    assert third.status is Status.SUCCEEDED
    assert hand.held is None and scene.table.held is None


def test_a_thing_held_when_lifting_failed_can_be_placed(scene: Scene):
    robot = scene.pick().place().says("Done.").robot()
    robot.actuator.scripts = [WELL] * 4 + [ending(GoalEventKind.ABORTED)]
    episode = robot.carry_out()
    assert causes(episode) == [Cause.ABORTED, Cause.DONE]
    assert episode.confirmed
    assert len(scene.table.released) == 1


# --- how motions end ------------------------------------------------------------------------------


def test_a_person_stops_the_task_in_the_middle_of_a_motion(scene: Scene):
    switch = Switch()
    robot = scene.pick().robot(hear=at(Stage.APPROACH, lambda: setattr(switch, "on", True)))
    robot.actuator.scripts = [WELL, WELL, SLOW]
    episode = robot.carry_out(cancel=switch)
    assert (episode.status, episode.cause) == (Status.CANCELLED, "cancelled")
    assert robot.actuator.said[-1] == "cancel"


def test_a_person_who_stops_while_the_planner_thinks_moves_nothing(scene: Scene):
    switch = Switch()

    def stop(query: object) -> str:
        switch.on = True
        line = pick(scene.table, "red cube")
        assert callable(line)
        return line(query)

    robot = scene.says(stop).robot()
    episode = robot.carry_out(cancel=switch)
    assert episode.status is Status.CANCELLED
    assert robot.actuator.said == []


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (GoalEventKind.REJECTED, Cause.REJECTED),
        (GoalEventKind.ABORTED, Cause.ABORTED),
    ],
)
def test_a_goal_that_is_not_done_is_tried_again(kind: GoalEventKind, cause: Cause, scene: Scene):
    robot = scene.pick().pick().place().says("Done.").robot()
    robot.actuator.scripts = [WELL, ending(kind)]
    episode = robot.carry_out()
    assert causes(episode) == [cause, Cause.DONE, Cause.DONE]
    assert episode.confirmed


def test_a_motion_that_takes_too_long_is_cancelled_and_tried_again(scene: Scene):
    settings = replace(PANDA, timeouts=GoalTimeouts(arm_s=2.0))
    robot = scene.pick().pick().place().says("Done.").robot(settings)
    robot.actuator.scripts = [WELL, SLOW]
    episode = robot.carry_out()
    assert causes(episode)[0] is Cause.TIMEOUT
    assert "cancel" in robot.actuator.said
    assert episode.confirmed


def test_a_lost_server_ends_the_task(scene: Scene):
    robot = scene.pick().robot()
    robot.actuator.scripts = [WELL, ending(GoalEventKind.LOST)]
    episode = robot.carry_out()
    assert (episode.status, episode.cause) == (Status.FAILED, "lost_server")
    assert robot.actuator.said[-1] == "stop"


def test_too_many_failures_end_the_task(scene: Scene):
    scene.table.slippery = True
    episode = scene.pick().pick().pick().pick().run()
    assert causes(episode) == [Cause.NOTHING_GRIPPED] * 4
    assert (episode.status, episode.cause) == (Status.FAILED, "nothing_gripped")


def test_too_many_turns_end_the_task(scene: Scene):
    settings = replace(PANDA, executive=replace(PANDA.executive, max_turns=2))
    episode = scene.pick().place().run(settings)
    assert (episode.status, episode.cause) == (Status.FAILED, "too_many_turns")
    assert not episode.confirmed


# --- Done. ----------------------------------------------------------------------------------------


def test_a_claim_without_deeds_is_not_believed(scene: Scene):
    robot = scene.says("Done.", "Done.", "Done.").robot()
    episode = robot.carry_out()
    assert (episode.status, episode.cause) == (Status.REFUSED, "unconfirmed")
    assert "nothing was moved" in episode.text
    assert robot.actuator.said == []


def test_a_claim_is_not_believed_where_the_thing_is_elsewhere(scene: Scene):
    def claim(query: object) -> str:
        scene.table.move("red cube", ELSEWHERE)
        return "Done."

    episode = scene.pick().place().says(claim, claim, claim).run()
    assert (episode.status, episode.cause) == (Status.REFUSED, "unconfirmed")
    look = episode.turns[2].confirmation
    assert look is not None and not look.confirmed
    assert "0% of its picture seen there" in look.text


def test_a_claim_is_checked_in_a_picture_that_the_planner_has_not_seen(scene: Scene):
    """The thing is taken away after the last picture that the planner was shown."""

    def claim(query: object) -> str:
        scene.table.things.pop("red cube", None)
        return "Done."

    assert not scene.pick().place().says(claim, claim, claim).run().confirmed


def test_a_thing_that_is_only_to_be_taken_is_confirmed_in_the_hand(scene: Scene):
    assert scene.pick().says("Done.").run().confirmed


def test_an_unbelieved_claim_lets_the_task_go_on(scene: Scene):
    slip = at(Stage.RELEASE, lambda: misplace(scene))
    scene.pick().place().says("Done.").pick().place().says("Done.")
    episode = scene.run(hear=slip)
    assert codes(episode) == [RefusalCode.UNCONFIRMED]
    assert episode.confirmed


def misplace(scene: Scene) -> None:
    """A nudge: what is let go comes to stand elsewhere."""
    x, y, z = scene.table.hand_m
    scene.table.hand_m = (x - 0.1, y + 0.22, z)


def test_a_thing_put_twice_counts_where_it_was_put_last(scene: Scene):
    scene.pick().place(ELSEWHERE, 0.0).pick().place().says("Done.")
    episode = scene.run()
    assert episode.confirmed
    look = episode.turns[-1].confirmation
    assert look is not None
    assert len(look.checks) == 2


def test_two_things_put_are_both_looked_for(scene: Scene):
    scene.pick().place(ELSEWHERE, 0.0).pick("blue ball").place().says("Done.")
    episode = scene.run()
    look = episode.turns[-1].confirmation
    assert look is not None
    assert (len(look.checks), look.confirmed) == (4, True)


def test_a_push_moves_the_thing_to_the_end_of_its_path(scene: Scene):
    def push(query: object) -> str:
        thing = tag("object", query, *scene.table.box("red cube"))
        return f"Push {thing} to {tag('area', query, scene.table.pixel((0.36, 0.25, 0.0)))}."

    robot = scene.says(push, "Done.").robot()
    episode = robot.carry_out()
    assert causes(episode) == [Cause.DONE]
    assert math.dist(scene.table.things["red cube"].xy_m, (0.36, 0.25)) < 0.025
    assert episode.confirmed


def test_the_base_need_not_be_the_fixed_frame(whole: Whole):
    """What the arm was told lies where the thing was, seen from the arm and not from the world."""
    (move,) = whole[2].turns[0].moves
    assert move.motion.base_frame == "panda_link0"
    tool = next(s.goal for s in move.motion.stages if s.stage is Stage.APPROACH).T_base_tcp
    assert isinstance(tool, RigidTransform)
    assert math.dist(tool.translation_m[:2], CUBE.xy_m) > 0.04
    assert not isinstance(move.decision.refusal, Refusal)
