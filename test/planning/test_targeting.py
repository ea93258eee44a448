"""A typed step made concrete: the frame that it names, the depth behind it, a motion or a no."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from played_robot import (
    BALL,
    CAMERA,
    CUBE,
    PLATE,
    START_NS,
    T_WORLD_ARM,
    Line,
    PlayedTable,
    ScriptedEngine,
    pick,
    place,
    tag,
)

from rynn_brain_ros.geometry import LiftLimits, apply, invert
from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.arm import Arm, Scene, Target
from rynn_brain_ros.planning.asking import Question, ask, make_query
from rynn_brain_ros.planning.holding import Doings
from rynn_brain_ros.planning.steps import read_step
from rynn_brain_ros.planning.targeting import make_target
from rynn_brain_ros.sim.tabletop import Thing
from rynn_brain_ros.values import (
    FollowGoal,
    Motion,
    Query,
    ReachGoal,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Stage,
    Step,
    Task,
    Vector3,
)

ARM = Arm()
T_ARM_WORLD = invert(T_WORLD_ARM)
EMPTY_HAND = Doings()
CUP = Thing("purple cup", "purple", "cylinder", (0.3, -0.12), (0.07, 0.07, 0.09))


def in_base(place_m: Vector3) -> Vector3:
    x, y, z = apply(T_ARM_WORLD, place_m)[0]
    return (float(x), float(y), float(z))


class Eyes:
    """What the arm sees of a table, and steps about it."""

    def __init__(self, table: PlayedTable) -> None:
        self.table, self.opened = table, OpenFrames()
        table.wait(0.35)
        table.perception.poll(table.now_ns())
        table.perception.flush()

    def step(self, line: Line) -> Step:
        frames = self.table.perception.show(self.table.perception.buffer.frames(CAMERA)[-1:])
        query = make_query(1, Question("tidy up", Task.PLAN), frames)
        step = read_step(ask(ScriptedEngine(line), query, opened=self.opened))
        assert isinstance(step, Step), step
        return step

    def target(self, line: Line, doings: Doings = EMPTY_HAND, **scene: object) -> Target | Refusal:
        known = Scene(ARM, LiftLimits(), T_ARM_WORLD, self.opened)
        return make_target(self.step(line), doings, replace(known, **scene))

    def made(self, line: Line, doings: Doings = EMPTY_HAND) -> Target:
        target = self.target(line, doings)
        assert isinstance(target, Target), target
        return target

    def refused(self, line: Line, doings: Doings = EMPTY_HAND, **scene: object) -> Refusal:
        target = self.target(line, doings, **scene)
        assert isinstance(target, Refusal), target
        return target


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    """Of a table that nobody moves anything on."""
    return Eyes(PlayedTable((CUBE, BALL, PLATE, CUP)))


@pytest.fixture(scope="module")
def holding(eyes: Eyes) -> Doings:
    """After the cube was picked."""
    taken = eyes.made(pick(eyes.table, "red cube")).taken
    assert taken is not None
    return Doings().took(taken)


def tool_at(motion: Motion, stage: Stage) -> RigidTransform:
    goal = next(s.goal for s in motion.stages if s.stage is stage)
    assert isinstance(goal, ReachGoal)
    return goal.T_base_tcp


def near(a: Vector3, b: Vector3, within_m: float = 0.008) -> bool:
    return math.dist(a, b) < within_m


# --- picking --------------------------------------------------------------------------------------


def test_a_pick_goes_to_the_thing_in_the_arms_own_frame(eyes: Eyes):
    motion = eyes.made(pick(eyes.table, "red cube")).motion
    tool = tool_at(motion, Stage.APPROACH)
    assert (tool.parent, tool.child) == (ARM.base_frame, ARM.tool_frame)
    assert near(tool.translation_m, in_base((*CUBE.xy_m, 0.025)))
    assert motion.skill is Skill.PICK


def test_a_pick_closes_across_the_things_sides(eyes: Eyes):
    """The cube is turned by 0.3 rad in the world, in which the arm is turned by 0.2 rad."""
    tool = tool_at(eyes.made(pick(eyes.table, "red cube")).motion, Stage.APPROACH)
    x, y, z, w = tool.rotation_xyzw
    closing = math.atan2(1 - 2 * (x * x + z * z), 2 * (x * y - w * z))
    off = (closing - (CUBE.yaw_rad - 0.2) + math.pi / 4) % (math.pi / 2) - math.pi / 4
    assert abs(off) < 0.12


def test_a_box_alone_says_what_to_pick(eyes: Eyes):
    target = eyes.made(
        lambda query: f"Pick up {tag('object', query, *eyes.table.box('blue ball'))}."
    )
    assert near(target.motion.target_m, in_base((*BALL.xy_m, 0.03)), 0.012)


def test_what_a_pick_will_hold_is_known_by_its_colours(eyes: Eyes):
    taken = eyes.made(pick(eyes.table, "red cube")).taken
    assert taken is not None
    shown = eyes.step(pick(eyes.table, "red cube")).groundings[0].frame
    assert shown is not None
    seen = taken.looks.found_in(eyes.opened.color(shown))
    (u, v) = (round(x * 0.319) for x in eyes.table.pixel(eyes.table.top("red cube")))
    (bu, bv) = (round(x * 0.319) for x in eyes.table.pixel(eyes.table.top("blue ball")))
    v, bv = round(v * 239 / 319), round(bv * 239 / 319)
    assert seen[v, u]
    assert not seen[bv, bu]


def test_where_a_thing_stood_is_its_middle(eyes: Eyes):
    taken = eyes.made(pick(eyes.table, "purple cup")).taken
    assert taken is not None
    assert near(taken.from_m, in_base((*CUP.xy_m, CUP.size_m[2] / 2)), 0.012)


def test_neighbours_outside_the_box_do_not_belong_to_the_things_looks():
    beside = Thing("green block", "green", "cube", (0.45, 0.102), (0.05, 0.045, 0.05), 0.0)
    straight = replace(CUBE, yaw_rad=0.0)
    eyes = Eyes(PlayedTable((straight, beside)))
    step = eyes.step(pick(eyes.table, "red cube"))
    taken = make_target(step, EMPTY_HAND, Scene(
        replace(ARM, grasp=replace(ARM.grasp, finger_thickness_m=0.001)),
        LiftLimits(), T_ARM_WORLD, eyes.opened,
    ))  # fmt: skip
    assert isinstance(taken, Target), taken
    assert taken.taken is not None
    frame = step.groundings[0].frame
    assert frame is not None
    green = np.array(eyes.table.pixel(eyes.table.top("green block"))) * (0.319, 0.239)
    u, v = np.rint(green).astype(int)
    assert not taken.taken.looks.found_in(eyes.opened.color(frame))[v, u]


# --- placing --------------------------------------------------------------------------------------


def test_a_place_is_where_it_was_pointed_at(eyes: Eyes, holding: Doings):
    target = eyes.made(place(eyes.table, (0.55, 0.2)), holding)
    assert near(target.motion.target_m, in_base((0.55, 0.2, 0.0)), 0.02)
    assert target.motion.skill is Skill.PLACE
    assert target.place is not None
    assert target.place.position_m == target.motion.target_m


def test_a_place_is_a_place_of_what_is_held(eyes: Eyes, holding: Doings):
    target = eyes.made(place(eyes.table, (0.55, 0.2)), holding)
    assert target.taken is holding.held
    assert target.motion.grip_width_m == holding.held.grasp.width_m


def test_without_something_in_the_hand_there_is_nothing_to_place(eyes: Eyes):
    refusal = eyes.refused(place(eyes.table, (0.55, 0.2)))
    assert refusal.code is RefusalCode.OUT_OF_ORDER


def test_a_place_where_nothing_stays_is_refused(eyes: Eyes, holding: Doings):
    refusal = eyes.refused(place(eyes.table, BALL.xy_m, BALL.size_m[2]), holding)
    assert refusal.code is RefusalCode.NO_FREE_SPACE


# --- pushing and dragging -------------------------------------------------------------------------


def path_of(motion: Motion) -> tuple[RigidTransform, ...]:
    goal = next(s.goal for s in motion.stages if isinstance(s.goal, FollowGoal))
    return goal.path


def test_a_push_along_a_path_acts_on_what_the_path_begins_on(eyes: Eyes):
    def line(query: object) -> str:
        ends = eyes.table.pixel(eyes.table.top("red cube")), eyes.table.pixel((0.45, 0.3, 0.0))
        return f"Push it along {tag('trajectory', query, *ends)}."

    motion = eyes.made(line).motion
    assert (motion.skill, near(motion.target_m, in_base((*CUBE.xy_m, 0.025)), 0.01)) == (
        Skill.PUSH,
        True,
    )
    touching = path_of(motion)[-1].translation_m
    short_m = math.dist(touching[:2], in_base((0.45, 0.3, 0.0))[:2])
    assert 0.02 < short_m < 0.05


def test_a_push_to_an_area_ends_there(eyes: Eyes):
    def line(query: object) -> str:
        thing = tag("object", query, *eyes.table.box("red cube"))
        return f"Push {thing} to {tag('area', query, eyes.table.pixel((0.62, 0.2, 0.0)))}."

    end = path_of(eyes.made(line).motion)[-1].translation_m
    assert 0.02 < math.dist(end[:2], in_base((0.62, 0.2, 0.0))[:2]) < 0.05


def test_a_push_that_goes_nowhere_is_refused(eyes: Eyes):
    def line(query: object) -> str:
        thing = tag("object", query, *eyes.table.box("red cube"))
        return (
            f"Push {thing} to {tag('area', query, eyes.table.pixel(eyes.table.top('red cube')))}."
        )

    refusal = eyes.refused(line)
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "already there" in refusal.text


def drawn(eyes: Eyes, *places: Vector3, skill: str = "Open") -> Line:
    def line(query: object) -> str:
        grasp = tag("affordance", query, eyes.table.pixel(eyes.table.top("red cube")))
        path = tag("trajectory", query, *(eyes.table.pixel(place_m) for place_m in places))
        return f"{skill} it at {grasp} along {path}."

    return line


@pytest.mark.parametrize(("verb", "skill"), [("Open", Skill.OPEN), ("Close", Skill.CLOSE)])
def test_a_drag_ends_as_far_from_its_grip_as_it_was_drawn(verb: str, skill: Skill, eyes: Eyes):
    start, end = eyes.table.top("red cube"), (0.6, 0.22, CUBE.size_m[2])
    motion = eyes.made(drawn(eyes, start, end, skill=verb)).motion
    grip, last = tool_at(motion, Stage.APPROACH), path_of(motion)[-1]
    moved = np.subtract(last.translation_m, grip.translation_m)
    assert motion.skill is skill
    assert np.allclose(moved, np.subtract(in_base(end), in_base(start)), atol=0.01)


def test_opening_without_a_path_is_refused(eyes: Eyes):
    grasp = eyes.table.pixel(eyes.table.top("red cube"))
    refusal = eyes.refused(lambda query: f"Open it at {tag('affordance', query, grasp)}.")
    assert refusal.code is RefusalCode.INCOMPLETE_STEP
    assert "<trajectory>" in refusal.text


def test_a_full_hand_neither_pushes_nor_opens(eyes: Eyes, holding: Doings):
    refusal = eyes.refused(drawn(eyes, (0.45, 0.15, 0.05), (0.6, 0.2, 0.0)), holding)
    assert refusal.code is RefusalCode.OUT_OF_ORDER


# --- looking, and what cannot be done -------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "skill"), [("Move to", Skill.MOVE_TO), ("Look at", Skill.LOOK_AT)]
)
def test_going_to_a_thing_stays_over_it(verb: str, skill: Skill, eyes: Eyes):
    target = eyes.made(lambda query: f"{verb} {tag('object', query, *eyes.table.box('red cube'))}.")
    x, y, z = target.motion.target_m
    assert target.motion.skill is skill
    assert math.dist((x, y), in_base((*CUBE.xy_m, 0))[:2]) < 0.04
    assert 0.15 < z < 0.15 + 0.06


def test_going_to_a_place_beside_a_thing_stays_over_the_place(eyes: Eyes):
    place, ball = (0.45, -0.35), eyes.table.box("blue ball")

    def line(query: Query) -> str:
        where = tag("area", query, eyes.table.pixel((*place, 0.0)))
        return f"Move to {where} next to the blue ball {tag('object', query, *ball)}."

    x, y, _ = eyes.made(line).motion.target_m
    assert math.dist((x, y), in_base((*place, 0))[:2]) < 0.04


def test_a_thing_in_the_hand_stays_as_far_over_the_place_as_an_empty_hand(
    eyes: Eyes, holding: Doings
):
    def over(doings: Doings) -> float:
        where = tag_of_plate(eyes)
        motion = eyes.made(where, doings).motion
        return tool_at(motion, Stage.ACT).translation_m[2]

    held = holding.held
    assert held is not None and held.grasp.bottom_below_tcp_m > 0.02
    assert over(holding) - over(EMPTY_HAND) == pytest.approx(held.grasp.bottom_below_tcp_m)


def tag_of_plate(eyes: Eyes) -> Line:
    x, y = eyes.table.pixel((*PLATE.xy_m, PLATE.size_m[2]))
    return lambda query: f"Move to {tag('area', query, (x, y))}."


def test_where_the_pose_of_the_picture_is_unknown_nothing_goes_over_the_place(eyes: Eyes):
    step = eyes.step(tag_of_plate(eyes))
    (area,) = step.groundings
    assert area.target is not None
    lost = replace(area, target=replace(area.target, point_fixed_m=None))
    known = Scene(ARM, LiftLimits(), T_ARM_WORLD, eyes.opened)
    refusal = make_target(replace(step, area=lost), EMPTY_HAND, known)
    assert isinstance(refusal, Refusal) and refusal.code is RefusalCode.NO_TRANSFORM


def test_a_skill_that_the_arm_lacks_is_refused_and_those_it_has_are_told(eyes: Eyes):
    arm = replace(ARM, skills=frozenset({Skill.PICK, Skill.PUSH}))
    refusal = eyes.refused(lambda query: f"Pour it into {tag('area', query, (500, 500))}.", arm=arm)
    assert refusal.code is RefusalCode.UNSUPPORTED_SKILL
    assert "'pour'" in refusal.text
    assert "pick" in refusal.text and "push" in refusal.text


# --- what must be known ---------------------------------------------------------------------------


def test_without_depth_there_is_nothing_to_grip(eyes: Eyes):
    step = eyes.step(pick(eyes.table, "red cube"))
    assert step.grasp is not None and step.grasp.frame is not None
    blind = replace(step.grasp.frame, frame=replace(step.grasp.frame.frame, depth=None), sha256="x")
    step = replace(step, grasp=replace(step.grasp, frame=blind), thing=None)
    refusal = make_target(step, EMPTY_HAND, Scene(ARM, LiftLimits(), T_ARM_WORLD, eyes.opened))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.NO_DEPTH


@pytest.mark.parametrize("kind", ["grasp", "area"])
def test_without_the_cameras_pose_there_is_no_place(kind: str, eyes: Eyes, holding: Doings):
    line = pick(eyes.table, "red cube") if kind == "grasp" else place(eyes.table, (0.55, 0.2))
    step = eyes.step(line)
    grounding = step.grasp or step.area
    assert grounding is not None and grounding.frame is not None
    frame = replace(grounding.frame.frame, T_fixed_camera=None)
    lost = replace(grounding, frame=replace(grounding.frame, frame=frame))
    step = replace(step, **{kind: lost})
    doings = EMPTY_HAND if kind == "grasp" else holding
    refusal = make_target(step, doings, Scene(ARM, LiftLimits(), T_ARM_WORLD, eyes.opened))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.NO_TRANSFORM


def test_what_the_robot_itself_covers_is_no_thing_to_grip(eyes: Eyes):
    x, y, z = in_base((*CUBE.xy_m, 0.1))
    refusal = eyes.refused(pick(eyes.table, "red cube"), robot=((x, y, 0.5), (x, y, z)))
    assert refusal.code is RefusalCode.ON_ROBOT


class TwoFrames:
    """The cube stands at its place in ``<frame 0>``, and at ``THEN_AT`` in ``<frame 1>``."""

    THEN_AT = (0.55, -0.1)

    def __init__(self) -> None:
        self.table, self.opened = PlayedTable((CUBE,)), OpenFrames()
        self.points = [self.table.pixel(self.table.top("red cube"))]
        self.boxes = [self.table.box("red cube")]
        self.table.move("red cube", self.THEN_AT)
        self.points.append(self.table.pixel(self.table.top("red cube")))
        self.table.wait(0.1)
        self.table.perception.poll(self.table.now_ns())
        self.table.perception.flush()
        self.frames = self.table.perception.show(self.table.perception.buffer.frames(CAMERA))
        assert [f.frame.stamp_ns > START_NS for f in self.frames] == [False, True]

    def target(self, text: str) -> Target:
        query = make_query(1, Question("tidy up", Task.PLAN), self.frames)
        step = read_step(ask(ScriptedEngine(text), query, opened=self.opened))
        assert isinstance(step, Step), step
        scene = Scene(ARM, LiftLimits(), T_ARM_WORLD, self.opened)
        target = make_target(step, EMPTY_HAND, scene)
        assert isinstance(target, Target), target
        return target


@pytest.mark.parametrize(("frame", "xy_m"), [(0, CUBE.xy_m), (1, TwoFrames.THEN_AT)])
def test_one_frame_is_not_taken_for_another(frame: int, xy_m: tuple[float, float]):
    two = TwoFrames()
    x, y = two.points[frame]
    target = two.target(f"Pick it up at <affordance> <frame {frame}>: ({x}, {y}) </affordance>.")
    assert near(target.motion.target_m, in_base((*xy_m, 0.025)))


def test_a_box_drawn_in_another_frame_does_not_bound_the_thing():
    two = TwoFrames()
    (left, top), (right, bottom) = two.boxes[0]
    x, y = two.points[1]
    target = two.target(
        f"Pick up <object> <frame 0>: ({left}, {top}), ({right}, {bottom}) </object> "
        f"at <affordance> <frame 1>: ({x}, {y}) </affordance>."
    )
    assert near(target.motion.target_m, in_base((*TwoFrames.THEN_AT, 0.025)))
