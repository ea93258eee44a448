"""Carrying out one motion: stage after stage, and what may still be done when one of them fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from played_robot import (
    CAMERA,
    CUBE,
    DEAF,
    HOME,
    SILENT,
    SLOW,
    T_WORLD_ARM,
    WELL,
    PlayedTable,
    Script,
    Switch,
    TimedActuator,
    at,
    ending,
)

from rynn_brain_ros.geometry import Grasp, PlaceKind, Placement, SolidKind, apply, invert
from rynn_brain_ros.planning import motions
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import EpisodeEvent, StageBegan
from rynn_brain_ros.planning.goals import GoalTracker
from rynn_brain_ros.planning.motions import Frames, MotionConfig, PushLine
from rynn_brain_ros.planning.moving import Mover, MovingConfig, is_held
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.planning.watchdog import Watchdog
from rynn_brain_ros.values import (
    Cause,
    DriveGoal,
    FollowGoal,
    Goal,
    GoalEventKind,
    GripGoal,
    Motion,
    MotionStage,
    Outcome,
    PostureGoal,
    ReachGoal,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Stage,
    Vector3,
)

CONFIG = MotionConfig()
X, Y, _ = map(float, apply(invert(T_WORLD_ARM), (*CUBE.xy_m, 0.0))[0])
TOOL = RigidTransform("panda_link0", "panda_tcp", (X, Y, 0.025), (1.0, 0.0, 0.0, 0.0))
GRASP = Grasp(TOOL, 0.05, 0.074, 0.05, 0.0, (0.05, 0.05, 0.05), 0.001, SolidKind.BOX)
THERE = Placement((X, Y - 0.3, 0.0), 0.006, PlaceKind.SURFACE, 0.04, 0.05)
PICK = motions.pick(GRASP, CONFIG)
PLACE = motions.place(GRASP, THERE, CONFIG)
PUSH = motions.push(
    PushLine((X, Y, 0.025), (X, Y - 0.3, 0.025), 0.04, 0.04, 0.02, 0.0),
    Frames("panda_link0", "panda_tcp"),
    CONFIG,
)
DRAG = motions.drag(Skill.OPEN, GRASP, ((X, Y, 0.025), (X - 0.2, Y, 0.025)), CONFIG)
GRIP, LIFT = 3, 4
"""Numbers of stages of a pick."""
GONE = Refusal(RefusalCode.SCENE_CHANGED, "40 % of it is gone")


def free(_: MotionStage) -> None:
    """Nothing has changed."""


@dataclass
class Hands:
    """A mover on a table with a cube, and what was told meanwhile."""

    table: PlayedTable = field(default_factory=lambda: PlayedTable((CUBE,), width=32))
    cancel: Switch = field(default_factory=Switch)
    guard: Callable[[MotionStage], Refusal | None] = free
    hear: Callable[[EpisodeEvent], None] = lambda event: None
    events: list[EpisodeEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.actuator = TimedActuator(self.table)
        self.arming = Arming(600.0)
        self.arming.arm(self.table.now_ns())
        sight = Sight(self.table.perception, CAMERA, self.table, Watchdog())
        tracker = GoalTracker(self.actuator)
        self.mover = Mover(tracker, sight, self.arming, self._tell, MovingConfig())

    def _tell(self, event: EpisodeEvent) -> None:
        self.events.append(event)
        self.hear(event)

    def run(self, motion: Motion = PICK, *scripts: Script) -> Outcome:
        self.actuator.scripts = list(scripts)
        return self.mover.run(motion, 5, self.guard, self.cancel)

    def trouble_at(self, stage: int, script: Script, motion: Motion = PICK) -> Outcome:
        """All goes well until stage number ``stage``."""
        return self.run(motion, *[WELL] * stage, script)

    @property
    def begun(self) -> list[Stage]:
        return [event.stage.stage for event in self.events if isinstance(event, StageBegan)]


@pytest.fixture
def hands() -> Hands:
    return Hands()


# --- the plain way --------------------------------------------------------------------------------


def test_every_goal_is_carried_out_in_order(hands: Hands):
    begin_ns = hands.table.now_ns()
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.DONE, len(PICK.stages))
    assert hands.actuator.said == [stage.goal for stage in PICK.stages]
    assert outcome.text == "every stage succeeded"
    assert (outcome.start_ns, outcome.end_ns) == (begin_ns, hands.table.now_ns())


def test_a_picked_thing_is_in_the_hand_and_its_width_is_told(hands: Hands):
    outcome = hands.run()
    assert outcome.gripper_width_m == pytest.approx(0.05)
    assert hands.table.held is not None
    assert hands.table.hand_m == HOME


def test_each_stage_is_told_when_it_begins(hands: Hands):
    hands.run()
    assert hands.begun == [stage.stage for stage in PICK.stages]
    stamps = [event.stamp_ns for event in hands.events if isinstance(event, StageBegan)]
    assert stamps == sorted(set(stamps))
    assert {event.number for event in hands.events if isinstance(event, StageBegan)} == {5}


def test_a_goal_begins_only_when_the_one_before_has_ended(hands: Hands):
    busy: list[bool] = []
    hands.hear = lambda event: busy.append(hands.mover.in_flight)
    hands.run()
    assert busy == [False] * len(PICK.stages)


def test_nothing_is_in_flight_after_a_motion(hands: Hands):
    hands.trouble_at(LIFT, SILENT)
    assert not hands.mover.in_flight


def test_pictures_are_taken_in_while_it_moves(hands: Hands):
    outcome = hands.run()
    newest = hands.table.perception.buffer.latest(CAMERA)
    assert newest is not None
    assert outcome.end_ns - newest.stamp_ns <= 200_000_000


# --- the fingers ----------------------------------------------------------------------------------


def test_fingers_that_meet_have_gripped_nothing(hands: Hands):
    hands.table.slippery = True
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.NOTHING_GRIPPED, GRIP)
    assert outcome.gripper_width_m == 0.0
    assert "grip: the fingers closed to 0.0 mm" in outcome.text


def test_fingers_a_sheet_of_paper_apart_have_gripped_nothing(hands: Hands):
    hands.table.things["red cube"] = replace(CUBE, size_m=(0.05, 0.003, 0.05))
    outcome = hands.run()
    assert outcome.cause is Cause.NOTHING_GRIPPED
    assert "closed to 3.0 mm" in outcome.text


def test_where_nothing_is_to_be_gripped_closed_fingers_say_nothing(hands: Hands):
    hands.table.slippery = True
    assert hands.run(replace(PICK, grip_width_m=math.nan)).cause is Cause.DONE


class UntoldTable(PlayedTable):
    """From its ``silent_from``th grip on, the hand does not tell how wide it is."""

    silent_from, grips = 0, 0

    def do(self, goal: Goal) -> dict[str, float]:
        told = super().do(goal)
        self.grips += isinstance(goal, GripGoal)
        return {} if self.grips >= self.silent_from else told


def test_a_grip_whose_width_nobody_tells_holds_nothing_for_sure():
    table = UntoldTable((CUBE,), width=32)
    table.slippery = True
    hands = Hands(table)
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.ABORTED, GRIP)
    assert "grip: nobody tells how far the fingers closed" in outcome.text
    assert not is_held(PICK, outcome.stages_done, outcome.cause)
    assert hands.begun[GRIP + 1 :] == [Stage.OPEN_HAND, Stage.LIFT, Stage.RETREAT]


def test_a_thing_that_was_gripped_is_not_let_go_in_the_air_where_its_width_is_not_told():
    table = UntoldTable((CUBE,), width=32)
    table.silent_from = 3  # open, grip, and the look once it is up
    outcome = Hands(table).run()
    assert outcome.cause is Cause.ABORTED
    assert is_held(PICK, outcome.stages_done, outcome.cause) and table.held is not None


def test_after_an_empty_grip_the_hand_opens_and_goes_back_up(hands: Hands):
    hands.table.slippery = True
    hands.run()
    assert hands.begun[GRIP + 1 :] == [Stage.OPEN_HAND, Stage.LIFT, Stage.RETREAT]
    opening, up, home = hands.actuator.sent[GRIP + 1 :]
    assert opening == GripGoal(GRASP.opening_m, CONFIG.grip_force_n)
    assert isinstance(up, ReachGoal) and up.straight
    assert isinstance(home, PostureGoal)


@pytest.mark.parametrize(("after", "done"), [(1, 5), (3, 7)])
def test_a_thing_that_slips_out_on_the_way_is_noticed(after: int, done: int, hands: Hands):
    """Dropped while it is lifted, or on the way out."""

    def hear(event: EpisodeEvent) -> None:
        if len(hands.events) == GRIP + 1 + after:
            hands.table.drop()

    hands.hear = hear
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.DROPPED, done)
    assert hands.begun[done + 1] is Stage.OPEN_HAND


def test_a_hand_that_only_pushes_may_be_closed(hands: Hands):
    start, end = (X, Y, 0.025), (X + 0.1, Y, 0.025)
    line = motions.PushLine(start, end, 0.03, 0.03, tool_z_m=0.02, support_z_m=0.0)
    push = motions.push(line, Frames("panda_link0", "panda_tcp"), CONFIG)
    assert hands.run(push).cause is Cause.DONE


def test_letting_go_is_no_empty_grip(hands: Hands):
    hands.run()
    place = replace(
        PLACE,
        stages=tuple(
            replace(s, goal=GripGoal(0.0)) if s.stage is Stage.RELEASE else s for s in PLACE.stages
        ),
    )
    hands.table.drop()
    assert hands.run(place).cause is Cause.DONE


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ((( 0.0, GoalEventKind.REJECTED),), Cause.REJECTED),
        (ending(GoalEventKind.ABORTED), Cause.ABORTED),
        (ending(GoalEventKind.LOST), Cause.LOST_SERVER),
        (ending(GoalEventKind.CANCELLED), Cause.CANCELLED),
        (SLOW, Cause.TIMEOUT),
        (SILENT, Cause.LOST_SERVER),
        (DEAF, Cause.LOST_SERVER),
    ],
)  # fmt: skip
def test_a_goal_that_fails_ends_the_motion_by_its_name(script: Script, cause: Cause, hands: Hands):
    outcome = hands.trouble_at(1, script)
    assert (outcome.cause, outcome.stages_done) == (cause, 1)
    assert outcome.text.startswith("pre: ")
    assert Stage.APPROACH not in hands.begun


def test_a_goal_that_the_actuator_does_not_know_is_rejected(hands: Hands):
    drive = motions.single(Skill.MOVE_TO, DriveGoal(0.25), (0.25, 0.0, 0.0), "base_link")
    outcome = hands.run(drive)
    assert outcome.cause is Cause.REJECTED
    assert "DriveGoal" in outcome.text
    assert hands.actuator.said == []


def test_where_nothing_had_moved_nothing_goes_back(hands: Hands):
    outcome = hands.trouble_at(0, ending(GoalEventKind.ABORTED))
    assert hands.begun == [Stage.OPEN_HAND]
    assert outcome.text.endswith("nothing had moved yet")


def test_before_the_approach_the_hand_only_goes_out_of_the_way(hands: Hands):
    hands.trouble_at(1, ending(GoalEventKind.ABORTED))
    assert hands.begun[2:] == [Stage.OPEN_HAND, Stage.RETREAT]


def test_from_the_approach_on_the_hand_goes_up_first(hands: Hands):
    outcome = hands.trouble_at(2, ending(GoalEventKind.ABORTED))
    assert hands.begun[3:] == [Stage.OPEN_HAND, Stage.LIFT, Stage.RETREAT]
    assert outcome.text.endswith("the hand went back")


def test_a_hand_that_was_stopped_on_its_way_goes_straight_up_from_there(hands: Hands):
    """The approved way up begins at the end of the push, where the hand never came to."""
    outcome = hands.trouble_at(3, ending(GoalEventKind.ABORTED), PUSH)
    assert outcome.cause is Cause.ABORTED and "went back" in outcome.text
    up, away = hands.actuator.sent[-2:]
    assert isinstance(up, ReachGoal) and up.straight and isinstance(away, PostureGoal)
    x, y, z = up.T_base_tcp.translation_m
    assert (x, y) == pytest.approx((X, Y + 0.04 + motions.BEHIND_M))
    assert z == pytest.approx(0.02 + CONFIG.lift_m)


def test_a_hand_whose_place_on_its_way_is_unknown_stays_there(hands: Hands):
    hands.hear = at(Stage.ACT, lambda: setattr(hands.table, "with_pose", False))
    outcome = hands.trouble_at(3, ending(GoalEventKind.ABORTED), PUSH)
    assert "stays where it is" in outcome.text
    assert isinstance(hands.actuator.sent[-1], FollowGoal)


def test_a_push_that_never_began_does_not_sweep_the_hand_through_the_thing(hands: Hands):
    """The approved way up is above the end of the push, and the thing is between."""
    low = (X, Y + 0.04 + motions.BEHIND_M, 0.02)
    hands.hear = at(Stage.APPROACH, lambda: setattr(hands.table, "hand_m", low))
    hands.trouble_at(2, ending(GoalEventKind.ABORTED), PUSH)
    goes_straight_up(hands, low)


def test_a_drag_that_closes_on_nothing_does_not_sweep_its_fingers_along_the_path(hands: Hands):
    hands.table.slippery = True
    outcome = hands.run(DRAG)
    assert (outcome.cause, outcome.stages_done) == (Cause.NOTHING_GRIPPED, GRIP)
    goes_straight_up(hands, TOOL.translation_m)


@pytest.mark.parametrize("motion", [PUSH, DRAG])
def test_a_scene_that_changed_before_a_path_sends_the_hand_up_where_it_is(
    motion: Motion, hands: Hands
):
    def guard(stage: MotionStage) -> Refusal | None:
        hands.table.wait(0.2)  # looking takes time, in which the hand stands still
        return GONE if stage.stage is Stage.APPROACH else None

    hands.guard = guard
    hands.run(motion)
    (above,) = (s.goal for s in motion.stages if s.stage is Stage.PRE)
    assert isinstance(above, ReachGoal)
    goes_straight_up(hands, above.T_base_tcp.translation_m)


def test_once_a_path_is_done_the_approved_way_up_is_taken(hands: Hands):
    hands.trouble_at(5, ending(GoalEventKind.ABORTED), DRAG)
    assert hands.actuator.sent[-2:] == [DRAG.stages[-2].goal, DRAG.stages[-1].goal]


def goes_straight_up(hands: Hands, from_m: Vector3) -> None:
    """The last but one goal goes up from there, and nowhere else; the last one goes away."""
    up, away = hands.actuator.sent[-2:]
    assert isinstance(up, ReachGoal) and up.straight and isinstance(away, PostureGoal)
    x, y, z = up.T_base_tcp.translation_m
    assert (x, y) == pytest.approx(from_m[:2])
    assert z >= max(from_m[2], CONFIG.lift_m)


def test_a_thing_in_the_hand_is_not_let_go_when_lifting_fails(hands: Hands):
    outcome = hands.trouble_at(LIFT, ending(GoalEventKind.ABORTED))
    assert hands.begun[LIFT + 1 :] == [Stage.LIFT, Stage.RETREAT]
    assert hands.table.held is not None
    assert is_held(PICK, outcome.stages_done, outcome.cause)


def test_a_thing_in_the_hand_is_not_let_go_when_placing_fails(hands: Hands):
    hands.run()
    hands.events.clear()
    hands.trouble_at(1, ending(GoalEventKind.ABORTED), PLACE)
    assert hands.begun == [Stage.PRE, Stage.APPROACH, Stage.LIFT, Stage.RETREAT]
    assert hands.table.held is not None


def test_a_way_back_that_fails_too_is_told_and_ends_there(hands: Hands):
    aborted = ending(GoalEventKind.ABORTED)
    outcome = hands.run(PICK, WELL, WELL, aborted, WELL, aborted)
    assert hands.begun[3:] == [Stage.OPEN_HAND, Stage.LIFT]
    assert "on the way back lift:" in outcome.text
    assert outcome.cause is Cause.ABORTED


@pytest.mark.parametrize(
    ("script", "at_stage"), [(SLOW, 2), (SILENT, 2), (ending(GoalEventKind.LOST), LIFT)]
)
def test_after_a_timeout_or_a_lost_server_nothing_moves_any_more(
    script: Script, at_stage: int, hands: Hands
):
    hands.trouble_at(at_stage, script)
    assert len(hands.begun) == at_stage + 1


# --- stops ----------------------------------------------------------------------------------------


def stop_at(hands: Hands, stage: Stage, do: Callable[[], object]) -> Outcome:
    hands.hear = at(stage, do)
    return hands.run(PICK, WELL, WELL, SLOW)


def test_a_person_stops_a_goal_in_flight(hands: Hands):
    outcome = stop_at(hands, Stage.APPROACH, lambda: setattr(hands.cancel, "on", True))
    assert (outcome.cause, outcome.stages_done) == (Cause.CANCELLED, 2)
    assert "a person stopped it" in outcome.text
    assert hands.actuator.said[-1] == "cancel"
    assert hands.begun[-1] is Stage.APPROACH


def test_a_robot_disarmed_in_motion_stops(hands: Hands):
    outcome = stop_at(hands, Stage.APPROACH, hands.arming.disarm)
    assert outcome.cause is Cause.DISARMED
    assert hands.actuator.said[-1] == "cancel"


def test_arming_that_expires_in_motion_stops_it(hands: Hands):
    hands.arming.arm(hands.table.now_ns(), for_s=1.0)
    outcome = hands.trouble_at(2, SLOW)
    assert outcome.cause is Cause.DISARMED
    assert 1.0 <= (outcome.end_ns - outcome.start_ns) / 1e9 < 1.2


def test_a_camera_that_goes_silent_stops_the_motion(hands: Hands):
    outcome = stop_at(hands, Stage.APPROACH, lambda: setattr(hands.table, "camera_on", False))
    assert outcome.cause is Cause.STALE
    assert CAMERA in outcome.text
    assert hands.actuator.said[-1] == "cancel"
    assert hands.begun[-1] is Stage.APPROACH


def test_a_pose_that_is_lost_stops_the_motion(hands: Hands):
    outcome = stop_at(hands, Stage.APPROACH, lambda: setattr(hands.table, "with_pose", False))
    assert outcome.cause is Cause.STALE
    assert "pose" in outcome.text


@pytest.mark.parametrize("stop", ["cancel", "disarm"])
def test_what_was_stopped_between_two_goals_sends_no_further_one(stop: str, hands: Hands):
    def guard(stage: MotionStage) -> None:
        if stage.stage is Stage.APPROACH:
            hands.cancel.on = stop == "cancel"
            if stop == "disarm":
                hands.arming.disarm()

    hands.guard = guard
    outcome = hands.run()
    assert outcome.cause is (Cause.CANCELLED if stop == "cancel" else Cause.DISARMED)
    assert hands.actuator.said == [stage.goal for stage in PICK.stages[:2]]


def test_nothing_is_sent_where_it_was_never_armed(hands: Hands):
    hands.arming.disarm()
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.DISARMED, 0)
    assert hands.actuator.said == []


def test_a_person_may_stop_the_way_back(hands: Hands):
    hands.table.slippery = True
    hands.hear = at(Stage.LIFT, lambda: setattr(hands.cancel, "on", True))
    outcome = hands.run()
    assert outcome.cause is Cause.NOTHING_GRIPPED
    assert "on the way back lift: a person stopped it" in outcome.text
    assert hands.begun[-1] is Stage.LIFT


# --- looking once more ----------------------------------------------------------------------------


def test_a_scene_that_changed_ends_the_motion_before_the_stage_begins(hands: Hands):
    hands.guard = lambda stage: GONE if stage.stage is Stage.APPROACH else None
    outcome = hands.run()
    assert (outcome.cause, outcome.stages_done) == (Cause.SCENE_CHANGED, 2)
    assert "approach: 40 % of it is gone" in outcome.text
    assert Stage.APPROACH not in hands.begun


def test_every_stage_is_guarded(hands: Hands):
    guarded: list[Stage] = []
    hands.guard = lambda stage: guarded.append(stage.stage)
    hands.run()
    assert guarded == [stage.stage for stage in PICK.stages]


# --- held or not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("motion", "done", "cause", "held"),
    [
        (PICK, 8, Cause.DONE, True),
        (PICK, 4, Cause.ABORTED, True),
        (PICK, 6, Cause.TIMEOUT, True),
        (PICK, 3, Cause.ABORTED, False),
        (PICK, 3, Cause.NOTHING_GRIPPED, False),
        (PICK, 5, Cause.DROPPED, False),
        (PLACE, 5, Cause.DONE, False),
    ],
)
def test_a_thing_is_held_once_gripped_and_until_dropped(
    motion: Motion, done: int, cause: Cause, held: bool
):
    assert is_held(motion, done, cause) is held


def test_a_width_that_the_actuator_does_not_tell_is_no_width(hands: Hands):
    hover = motions.hover(Skill.LOOK_AT, (X, Y, 0.3), Frames("panda_link0", "panda_tcp"), CONFIG)
    assert math.isnan(hands.run(hover).gripper_width_m)
