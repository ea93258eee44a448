"""The gate says no by name, to each thing that is wrong, and yes only when nothing is."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_examples import (
    CUBE,
    LIMITS,
    NOW_NS,
    PROPOSAL,
    SITUATION,
    TARGET,
    frame,
    judge,
    moving,
    pick_at,
    point_at,
    pointing,
    situated,
    target_at,
    tcp,
    with_things,
)

from rynn_brain_ros.safety import Gate, Proposal, SafetyLimits, Situation
from rynn_brain_ros.safety.watching import touched
from rynn_brain_ros.sim.tabletop import FIXED_FRAME, OPTICAL_FRAME, START_NS, Thing
from rynn_brain_ros.values import (
    Decision,
    DriveGoal,
    Flag,
    FollowGoal,
    FrameSet,
    GripGoal,
    MotionStage,
    NavigateGoal,
    PostureGoal,
    ReachGoal,
    Refusal,
    RefusalCode,
    RigidTransform,
    Skill,
    Stage,
    Step,
    Vector3,
)

CHECKS = (
    *("goals", "groundings", "answer_age", "frame_age", "finite", "workspace", "reach"),
    *("support", "robot", "uncertainty", "confidence", "grip_width", "force", "speed"),
    *("order", "busy", "scene", "drive", "corridor", "engine", "armed", "dry_run", "approval"),
)
SECOND_NS = 1_000_000_000


def refusal_of(decision: Decision) -> Refusal:
    assert decision.refusal is not None
    return decision.refusal


def with_stage(index: int, goal: Any) -> Proposal:
    """The good pick with another goal in one of its stages."""
    stages = list(PROPOSAL.motion.stages)
    stages[index] = replace(stages[index], goal=goal)
    return moving(stages=tuple(stages))


def grounded(**changes: Any) -> Proposal:
    return pointing(grounding=replace(PROPOSAL.targets[0].grounding, **changes))


def measured(**changes: Any) -> Proposal:
    target = PROPOSAL.targets[0].target
    assert target is not None
    return pointing(target=replace(target, **changes))


def test_a_good_pick_is_approved_and_every_check_is_told():
    decision = judge()
    assert decision.approved
    assert decision.stamp_ns == NOW_NS
    assert tuple(check.name for check in decision.checks) == CHECKS
    assert all(check.passed and check.found for check in decision.checks)


@dataclass(frozen=True)
class SwayGoal:
    """A kind of goal that the gate has never heard of."""

    speed: float = 0.1


CASES: dict[str, tuple[str, RefusalCode, dict[str, Any]]] = {
    "no stages": ("goals", RefusalCode.INCOMPLETE_STEP, {"proposal": moving(stages=())}),
    "unknown goal": (
        "goals",
        RefusalCode.UNSUPPORTED_SKILL,
        {"proposal": with_stage(1, SwayGoal())},
    ),
    "empty path": (
        "goals",
        RefusalCode.INCOMPLETE_STEP,
        {"proposal": with_stage(1, FollowGoal(()))},
    ),
    "nothing pointed at": (
        "groundings",
        RefusalCode.NO_GROUNDING,
        {"proposal": replace(PROPOSAL, targets=())},
    ),
    "refused grounding": (
        "groundings",
        RefusalCode.DEPTH_EDGE,
        {"proposal": pointing(refusal=Refusal(RefusalCode.DEPTH_EDGE, "on an edge"))},
    ),
    "implicit frame": (
        "groundings",
        RefusalCode.FRAME_IMPLICIT,
        {"proposal": grounded(frame=None, flags=frozenset({Flag.FRAME_IMPLICIT}))},
    ),
    "out of range": (
        "groundings",
        RefusalCode.OUT_OF_RANGE,
        {"proposal": grounded(flags=frozenset({Flag.OUT_OF_RANGE}))},
    ),
    "cut off": (
        "groundings",
        RefusalCode.INCOMPLETE,
        {"proposal": grounded(flags=frozenset({Flag.TRUNCATED}))},
    ),
    "frame not shown": (
        "groundings",
        RefusalCode.FRAME_IMPLICIT,
        {"proposal": grounded(frame=1)},
    ),
    "bound to another picture": (
        "groundings",
        RefusalCode.FRAME_IMPLICIT,
        {"proposal": pointing(frame=frame(seed=5, stamp_ns=START_NS))},
    ),
    "not lifted": ("groundings", RefusalCode.NO_DEPTH, {"proposal": pointing(target=None)}),
    "no pose": (
        "groundings",
        RefusalCode.NO_TRANSFORM,
        {"proposal": measured(point_fixed_m=None)},
    ),
    "another fixed frame": (
        "groundings",
        RefusalCode.NO_TRANSFORM,
        {"proposal": pointing(fixed_frame_id="odom")},
    ),
    "another base": (
        "groundings",
        RefusalCode.NO_TRANSFORM,
        {"situation": situated(T_base_fixed=RigidTransform("other_base", FIXED_FRAME))},
    ),
    "old answer": (
        "answer_age",
        RefusalCode.STALE,
        {"proposal": replace(PROPOSAL, answered_ns=NOW_NS - 31 * SECOND_NS)},
    ),
    "answer from the future": (
        "answer_age",
        RefusalCode.STALE,
        {"proposal": replace(PROPOSAL, answered_ns=NOW_NS + SECOND_NS)},
    ),
    "no image": ("frame_age", RefusalCode.STALE, {"situation": situated(newest=None)}),
    "old image": (
        "frame_age",
        RefusalCode.STALE,
        {"situation": situated(newest=frame(stamp_ns=NOW_NS - 2 * SECOND_NS))},
    ),
    "image from the future": (
        "frame_age",
        RefusalCode.STALE,
        {"situation": situated(newest=frame(stamp_ns=NOW_NS + SECOND_NS))},
    ),
    "NaN in a pose": (
        "finite",
        RefusalCode.OUTSIDE_WORKSPACE,
        {"proposal": with_stage(1, ReachGoal(tcp(0.4, math.nan, 0.2), speed=0.5))},
    ),
    "quaternion of no length": (
        "finite",
        RefusalCode.OUTSIDE_WORKSPACE,
        {
            "proposal": with_stage(
                1, ReachGoal(replace(tcp(0.4, 0.1, 0.2), rotation_xyzw=(0, 0, 0, 0)), speed=0.5)
            )
        },
    ),
    "target outside": (
        "workspace",
        RefusalCode.OUTSIDE_WORKSPACE,
        {"proposal": moving(target_m=(0.9, 0.1, 0.04))},
    ),
    "a pose outside": (
        "workspace",
        RefusalCode.OUTSIDE_WORKSPACE,
        {"proposal": with_stage(4, ReachGoal(tcp(0.4, 0.1, 0.95), True, 0.3))},
    ),
    "a path's pose outside": (
        "workspace",
        RefusalCode.OUTSIDE_WORKSPACE,
        {
            "proposal": with_stage(
                4, FollowGoal((tcp(0.4, 0.1, 0.2), tcp(0.4, -0.8, 0.2), tcp(0.4, 0.1, 0.2)), 0.3)
            )
        },
    ),
    "a place to navigate to outside": (
        "workspace",
        RefusalCode.OUTSIDE_WORKSPACE,
        {
            "proposal": with_stage(
                4, NavigateGoal(RigidTransform(FIXED_FRAME, "robot", (5.0, 0.0, 0.0)), 0.3)
            )
        },
    ),
    "a pose in another frame": (
        "workspace",
        RefusalCode.OUTSIDE_WORKSPACE,
        {
            "proposal": with_stage(
                1, ReachGoal(replace(tcp(0.4, 0.1, 0.2), parent="map"), False, 0.5)
            )
        },
    ),
    "too near": (
        "reach",
        RefusalCode.OUT_OF_REACH,
        {"proposal": with_stage(1, ReachGoal(tcp(0.2, 0.0, 0.3), speed=0.5))},
    ),
    "too far": (
        "reach",
        RefusalCode.OUT_OF_REACH,
        {"proposal": with_stage(1, ReachGoal(tcp(0.7, 0.5, 0.3), speed=0.5))},
    ),
    "straight past the base": (
        "reach",
        RefusalCode.OUT_OF_REACH,
        {"proposal": with_stage(4, FollowGoal((tcp(0.1, 0.4, 0.2), tcp(0.1, -0.4, 0.2)), 0.3))},
    ),
    "below the floor": (
        "support",
        RefusalCode.BELOW_SUPPORT,
        {"proposal": with_stage(2, ReachGoal(tcp(0.4, 0.1, 0.004), True, 0.3))},
    ),
    "below its support": (
        "support",
        RefusalCode.BELOW_SUPPORT,
        {"proposal": moving(support_z_m=0.038)},
    ),
    "on the robot": (
        "robot",
        RefusalCode.ON_ROBOT,
        {"situation": situated(robot=((0.0, 0.0, 0.0), (0.0, 0.1, 0.1), (0.8, 0.1, 0.1)))},
    ),
    "a robot at NaN": (
        "robot",
        RefusalCode.ON_ROBOT,
        {"situation": situated(robot=((0.0, 0.0, 0.0), (math.nan, 0.0, 0.0)))},
    ),
    "uncertain": (
        "uncertainty",
        RefusalCode.UNCERTAIN,
        {"proposal": pointing(target=point_at(sigma_m=0.03))},
    ),
    "uncertain grip": (
        "uncertainty",
        RefusalCode.UNCERTAIN,
        {"proposal": moving(grip_sigma_m=0.122)},
    ),
    "uncertain grip of NaN": (
        "uncertainty",
        RefusalCode.UNCERTAIN,
        {"proposal": moving(grip_sigma_m=math.nan)},
    ),
    "uncertainty of NaN": (
        "uncertainty",
        RefusalCode.UNCERTAIN,
        {"proposal": measured(covariance_camera_m2=(math.nan,) * 9)},
    ),
    "low confidence": (
        "confidence",
        RefusalCode.LOW_CONFIDENCE,
        {"proposal": pointing(confidence=0.1)},
    ),
    "unknown confidence": (
        "confidence",
        RefusalCode.LOW_CONFIDENCE,
        {
            "proposal": pointing(confidence=math.nan),
            "limits": replace(LIMITS, unknown_confidence="refuse"),
        },
    ),
    "too wide": ("grip_width", RefusalCode.TOO_WIDE, {"proposal": moving(grip_width_m=0.081)}),
    "unknown width": (
        "grip_width",
        RefusalCode.TOO_WIDE,
        {"proposal": moving(grip_width_m=math.nan)},
    ),
    "opened too wide": (
        "grip_width",
        RefusalCode.TOO_WIDE,
        {"proposal": with_stage(0, GripGoal(0.09))},
    ),
    "too strong": (
        "force",
        RefusalCode.TOO_STRONG,
        {"proposal": with_stage(3, GripGoal(0.0, 41.0))},
    ),
    "too fast": (
        "speed",
        RefusalCode.TOO_FAST,
        {"proposal": with_stage(5, PostureGoal(speed=0.71))},
    ),
    "no speed": (
        "speed",
        RefusalCode.TOO_FAST,
        {"proposal": with_stage(1, ReachGoal(tcp(0.4, 0.1, 0.2), speed=0.0))},
    ),
    "pick with a full hand": (
        "order",
        RefusalCode.OUT_OF_ORDER,
        {"situation": situated(holding=True)},
    ),
    **{
        f"{skill.value} with an empty hand": (
            "order",
            RefusalCode.OUT_OF_ORDER,
            {"proposal": moving(skill=skill)},
        )
        for skill in (Skill.PLACE, Skill.POUR, Skill.HAND_OVER)
    },
    "a hand that has changed": (
        "order",
        RefusalCode.OUT_OF_ORDER,
        {"proposal": replace(PROPOSAL, held=True)},
    ),
    "busy": ("busy", RefusalCode.BUSY, {"situation": situated(goal_in_flight=True)}),
    "scene changed": (
        "scene",
        RefusalCode.SCENE_CHANGED,
        {"situation": situated(newest=frame(with_things(replace(CUBE, xy_m=(0.4, 0.13)))))},
    ),
    "not armed": ("armed", RefusalCode.NOT_ARMED, {"situation": situated(armed=False)}),
    "dry run": ("dry_run", RefusalCode.DRY_RUN, {"limits": replace(LIMITS, dry_run=True)}),
    "not asked": (
        "approval",
        RefusalCode.NOT_APPROVED,
        {"limits": replace(LIMITS, require_approval=True)},
    ),
    "a person said no": (
        "approval",
        RefusalCode.NOT_APPROVED,
        {"situation": situated(approved=False)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_wrong_thing_is_refused_by_name(case: str):
    check, code, wrong = CASES[case]
    decision = judge(**wrong)
    assert refusal_of(decision).code is code
    assert check in [c.name for c in decision.checks if not c.passed]
    assert next(c.name for c in decision.checks if not c.passed) == check


@pytest.mark.parametrize(
    ("case", "numbers"),
    [
        ("too wide", ("0.081", "0.080")),
        ("too far", ("0.860", "0.800")),
        ("target outside", ("0.900", "0.850")),
        ("uncertain", ("0.0300", "0.0200")),
        ("old answer", ("31.000", "30")),
        ("too fast", ("0.71", "0.7")),
    ],
)
def test_a_refusal_tells_what_was_found_and_what_is_allowed(case: str, numbers: tuple[str, str]):
    text = refusal_of(judge(**CASES[case][2])).text
    assert all(number in text for number in numbers)


def test_the_first_failed_check_gives_the_refusal_and_all_are_told():
    decision = judge(
        moving(target_m=(0.9, 0.1, 0.04), grip_width_m=0.2), situated(goal_in_flight=True)
    )
    assert refusal_of(decision).code is RefusalCode.OUTSIDE_WORKSPACE
    failed = {check.name for check in decision.checks if not check.passed}
    assert failed == {"workspace", "reach", "grip_width", "busy"}


def test_a_dry_run_needs_no_arming():
    decision = judge(situation=situated(armed=False), limits=replace(LIMITS, dry_run=True))
    assert refusal_of(decision).code is RefusalCode.DRY_RUN


def test_a_dry_run_still_names_what_is_wrong():
    decision = judge(moving(grip_width_m=0.2), limits=replace(LIMITS, dry_run=True))
    assert refusal_of(decision).code is RefusalCode.TOO_WIDE


def test_the_default_is_a_dry_run():
    assert refusal_of(judge(limits=SafetyLimits())).code is RefusalCode.DRY_RUN


def test_a_persons_yes_is_enough():
    assert judge(
        situation=situated(approved=True), limits=replace(LIMITS, require_approval=True)
    ).approved


def test_an_unknown_confidence_may_be_allowed():
    assert judge(pointing(confidence=math.nan)).approved


@pytest.mark.parametrize("chain", [(), ((0.0, 0.0, 0.0),)])
def test_an_arm_whose_own_place_is_unknown_goes_nowhere(chain: tuple[Vector3, ...]):
    refusal = refusal_of(judge(situation=situated(robot=chain)))
    assert refusal.code is RefusalCode.NO_TRANSFORM
    assert f"the robot's own place is unknown: {len(chain)} of its links are known" in refusal.text


def test_fingers_may_open_wherever_the_arm_is():
    motion = replace(PROPOSAL.motion, stages=PROPOSAL.motion.stages[:1])
    decision = judge(replace(PROPOSAL, motion=motion), situated(robot=()))
    assert decision.approved


def test_what_a_step_points_at_is_checked_though_the_targets_leave_it_out():
    bad = replace(target_at(), refusal=Refusal(RefusalCode.NO_DEPTH, "no depth there"))
    step = Step(Skill.PICK, "Pick it up.", grasp=PROPOSAL.targets[0], thing=bad)
    decision = judge(replace(PROPOSAL, step=step))
    assert refusal_of(decision).code is RefusalCode.NO_DEPTH


def place_of(held_now_at: tuple[float, float]) -> tuple[Proposal, Situation]:
    """A place onto the empty table; the cube that it speaks of is in the hand by now."""
    then = frame(with_things(CUBE), START_NS)
    area = target_at((0.4, -0.2, 0.0), then)
    thing = target_at(TARGET, then)
    step = Step(Skill.PLACE, "Place the cube there.", thing=thing, area=area)
    motion = replace(
        pick_at((0.4, -0.2, 0.06)), skill=Skill.PLACE, target_m=(0.4, -0.2, 0.0), support_z_m=0.0
    )
    proposal = Proposal(motion, step.groundings, FrameSet((then,)), NOW_NS, step)
    now = frame(with_things(replace(CUBE, xy_m=held_now_at)), seed=2)
    return proposal, situated(newest=now, holding=True)


def test_what_the_hand_holds_may_have_moved():
    assert judge(*place_of(held_now_at=(0.3, 0.3))).approved


def test_a_place_that_is_taken_by_now_is_refused():
    decision = judge(*place_of(held_now_at=(0.4, -0.2)))
    assert refusal_of(decision).code is RefusalCode.SCENE_CHANGED


def test_targets_of_another_fixed_frame_are_brought_into_the_base():
    """Everything is told in odom, and the base stands a metre beside it."""
    T_base_odom = RigidTransform(FIXED_FRAME, "odom", (1.0, 0.0, 0.0))
    pose = RigidTransform("odom", OPTICAL_FRAME, *moved_pose())
    then, now = (odom_frame(pose, stamp_ns) for stamp_ns in (START_NS, NOW_NS))
    target = replace(target_at((-0.6, 0.1, 0.06), then), fixed_frame_id="odom")
    proposal = replace(PROPOSAL, targets=(target,), frames=FrameSet((then,)))
    near = ((0.0, 0.0, 0.0), (0.4, 0.1, 0.1))
    assert judge(proposal, situated(newest=now, T_base_fixed=T_base_odom)).approved
    decision = judge(proposal, situated(newest=now, T_base_fixed=T_base_odom, robot=near))
    assert refusal_of(decision).code is RefusalCode.ON_ROBOT


def moved_pose() -> tuple[Any, Any]:
    pose = frame().frame.T_fixed_camera
    assert pose is not None
    x, y, z = pose.translation_m
    return (x - 1.0, y, z), pose.rotation_xyzw


def odom_frame(pose: RigidTransform, stamp_ns: int) -> Any:
    shown = frame(stamp_ns=stamp_ns)
    return replace(shown, frame=replace(shown.frame, T_fixed_camera=pose))


def test_a_broken_transform_of_the_base_is_a_refusal():
    broken = RigidTransform(FIXED_FRAME, FIXED_FRAME, (math.nan, 0.0, 0.0))
    decision = judge(situation=situated(T_base_fixed=broken))
    assert refusal_of(decision).code is RefusalCode.NO_TRANSFORM


# --- once more before the hand comes down ---------------------------------------------------------


def test_a_target_that_stayed_has_not_moved():
    assert Gate(LIMITS).target_moved(PROPOSAL.motion, PROPOSAL.frames[0], frame(seed=3)) is None


def test_a_target_that_was_taken_away_has_moved():
    refusal = Gate(LIMITS).target_moved(
        PROPOSAL.motion, PROPOSAL.frames[0], frame(with_things(), seed=3)
    )
    assert refusal is not None and refusal.code is RefusalCode.SCENE_CHANGED


def test_what_the_arm_hides_is_not_held_against_it():
    arm = Thing("arm", "purple", "cube", (0.3, 0.1), (0.05, 0.3, 0.3))
    now = frame(with_things(CUBE, arm), seed=3)

    def own(points_m: np.ndarray) -> np.ndarray:
        return np.abs(points_m[:, 0] - arm.xy_m[0]) < 0.06

    motion, then = PROPOSAL.motion, PROPOSAL.frames[0]
    assert Gate(LIMITS).target_moved(motion, then, now, own=own) is None
    foreign = Gate(LIMITS).target_moved(motion, then, now)
    assert foreign is not None and foreign.code is RefusalCode.SCENE_CHANGED
    assert refusal_of(judge(situation=situated(newest=now))).code is RefusalCode.SCENE_CHANGED


def test_a_target_told_in_an_unconnected_frame_is_refused():
    motion = replace(PROPOSAL.motion, base_frame="arm_base")
    refusal = Gate(LIMITS).target_moved(motion, PROPOSAL.frames[0], frame(seed=3))
    assert refusal is not None and refusal.code is RefusalCode.NO_TRANSFORM


def test_a_target_is_brought_into_the_frame_of_the_poses():
    T_arm_fixed = RigidTransform("arm_base", FIXED_FRAME, (0.0, 0.0, -1.0))
    x, y, z = PROPOSAL.motion.target_m
    motion = replace(PROPOSAL.motion, base_frame="arm_base", target_m=(x, y, z - 1.0))
    gate, then = Gate(LIMITS), PROPOSAL.frames[0]
    assert gate.target_moved(motion, then, frame(seed=3), T_arm_fixed) is None
    gone = gate.target_moved(motion, then, frame(with_things(), seed=3), T_arm_fixed)
    assert gone is not None


# --- the log --------------------------------------------------------------------------------------


def test_an_approval_is_one_line_of_information(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "rynn_brain_ros.safety"):
        judge()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "approved: pick at (0.400, 0.100, 0.040) m" in record.getMessage()
    assert "23 of 23 checks" in record.getMessage()


def test_a_refusal_is_one_line_of_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "rynn_brain_ros.safety"):
        judge(moving(grip_width_m=0.2))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "too_wide: the thing is 0.200 m wide" in record.getMessage()


# --- whatever is proposed -------------------------------------------------------------------------

MAY_BE_NAN = {"confidence", "support_z_m", "angle_deg"}
"""NaN means unknown there, and another rule says what that means."""


def floats_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every number of a proposal's motion and of its targets."""
    if type(value) is float:
        return [path]
    if isinstance(value, tuple):
        return [p for i, item in enumerate(value) for p in floats_of(item, (*path, i))]
    if is_dataclass(value) and not isinstance(value, FrameSet | type(PROPOSAL.frames[0])):
        names = [f.name for f in fields(value) if f.name not in MAY_BE_NAN]
        return [p for n in names for p in floats_of(getattr(value, n), (*path, n))]
    return []


def with_number(value: Any, path: tuple[Any, ...], number: float) -> Any:
    if not path:
        return number
    if isinstance(value, tuple):
        changed = with_number(value[path[0]], path[1:], number)
        return (*value[: path[0]], changed, *value[path[0] + 1 :])
    return replace(value, **{path[0]: with_number(getattr(value, path[0]), path[1:], number)})


NUMBERS = [p for p in floats_of(PROPOSAL) if p[0] in ("motion", "targets")]


def test_the_numbers_of_a_proposal_are_many():
    assert len(NUMBERS) > 80
    assert {path[0] for path in NUMBERS} == {"motion", "targets"}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_proposal_with_a_number_that_is_none_is_approved(number: float):
    situation = situated(newest=PROPOSAL.frames[0], now_ns=START_NS + 1)
    proposal = replace(PROPOSAL, answered_ns=START_NS)
    assert judge(proposal, situation).approved
    approved = [p for p in NUMBERS if judge(with_number(proposal, p, number), situation).approved]
    assert approved == []


coordinates = st.floats(-1.5, 1.5, allow_nan=False)
places = st.tuples(coordinates, coordinates, coordinates)


@settings(max_examples=150, deadline=None)
@given(st.lists(places, min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_no_motion_with_a_pose_outside_the_box_is_approved(
    path: list[tuple[float, float, float]], number: int, follow: bool
):
    low, high = LIMITS.workspace_min_m, LIMITS.workspace_max_m
    inside = [all(a <= v <= b for a, v, b in zip(low, p, high, strict=True)) for p in path]
    goals = (
        [FollowGoal(tuple(tcp(*place) for place in path), 0.3)]
        if follow
        else [ReachGoal(tcp(*place), number % 2 == 0, 0.3) for place in path]
    )
    stages = (*PROPOSAL.motion.stages, *(MotionStage(Stage.ACT, goal) for goal in goals))
    situation = situated(newest=PROPOSAL.frames[0], now_ns=START_NS + 1)
    decision = judge(replace(moving(stages=stages), answered_ns=START_NS), situation)
    check = next(check for check in decision.checks if check.name == "workspace")
    assert check.passed == all(inside)
    assert not decision.approved or all(inside)


def push_to(*places: tuple[float, float, float]) -> Proposal:
    path = FollowGoal(tuple(tcp(*place) for place in places), 0.3)
    return moving(skill=Skill.PUSH, stages=(MotionStage(Stage.ACT, path),), grip_width_m=math.nan)


HERE = (0.4, 0.1, 0.05)


@pytest.mark.parametrize(
    ("places", "check"),
    [
        ((), "goals"),
        ((HERE, (math.nan, 0.1, 0.05)), "finite"),
        (((math.nan, 0.1, 0.05), HERE), "finite"),
        ((HERE, (0.4, -math.inf, 0.05)), "finite"),
        (((1e308, 0.1, 0.05), (-1e308, 0.1, 0.05)), "workspace"),
    ],
    ids=["no poses", "to NaN", "from NaN", "to infinity", "farther than numbers reach"],
)
def test_a_push_along_no_real_way_is_refused(
    places: tuple[tuple[float, float, float], ...], check: str
):
    assert judge(push_to(HERE, (0.5, 0.1, 0.05))).approved
    decision = judge(push_to(*places))
    assert next(c.name for c in decision.checks if not c.passed) == check


def test_the_way_of_a_push_is_looked_at_no_more_often_than_can_be_done_at_once():
    near, far = (push_to(HERE, (x, 0.1, 0.05)).motion for x in (0.5, 1e5))
    assert len(touched(near, 0.04)) == 4
    assert len(touched(far, 0.04)) < 1000


def test_a_drive_without_room_is_refused_by_the_corridor():
    motion = replace(
        PROPOSAL.motion,
        skill=Skill.MOVE_TO,
        stages=(MotionStage(Stage.DRIVE, DriveGoal(0.5, 0.3)),),
        grip_width_m=math.nan,
    )
    decision = judge(Proposal(motion, (), PROPOSAL.frames, NOW_NS), SITUATION)
    assert refusal_of(decision).code is RefusalCode.OBSTACLE
