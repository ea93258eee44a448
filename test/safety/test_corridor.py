"""How far ahead of a driving robot the ground is seen to be free."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safety_examples import LIMITS, NOW_NS

from rynn_brain_ros.geometry import (
    DepthNoise,
    DepthView,
    PinholeCamera,
    from_matrix,
    invert,
    ray_grid,
)
from rynn_brain_ros.memory import select
from rynn_brain_ros.safety import (
    Gate,
    GroundMemory,
    Proposal,
    SafetyLimits,
    Situation,
    Strip,
    free_ahead_m,
)
from rynn_brain_ros.values import (
    CameraInfo,
    DriveGoal,
    EncodedImage,
    Frame,
    FrameSet,
    Goal,
    Motion,
    MotionStage,
    NavigateGoal,
    RefusalCode,
    RigidTransform,
    SelectedFrame,
    Skill,
    SpinGoal,
    Stage,
)

CAMERA = PinholeCamera(640, 480, 415.7, 415.7, 319.5, 239.5)
STRIP = Strip(width_m=0.6, height_m=0.6, blind_m=0.6)
HEIGHT_M, AHEAD_M, DOWN_RAD = 0.27, 0.15, math.radians(10)
Block = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Opposite corners of something that stands around."""


def axes(down_rad: float = DOWN_RAD) -> np.ndarray:
    """The optical frame's axes in the base frame, in columns."""
    c, s = math.cos(down_rad), math.sin(down_rad)
    return np.column_stack([(0, -1, 0), (-s, 0, -c), (c, 0, -s)])


def camera_pose(down_rad: float = DOWN_RAD) -> RigidTransform:
    """``T_base_camera``: at the robot's front, looking ahead and a little down."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes(down_rad)
    matrix[:3, 3] = (AHEAD_M, 0.0, HEIGHT_M)
    return from_matrix(matrix, "base_link", "camera")


def depth_of(*blocks: Block, ground_until_m: float = math.inf, seed: int = 0) -> np.ndarray:
    """A room with a flat floor and a wall 6 m ahead, as a noisy depth camera sees it."""
    pose = camera_pose()
    rays = np.asarray(ray_grid(CAMERA)) @ axes().T
    eye = np.array(pose.translation_m)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(rays[..., 2] < 0, -eye[2] / rays[..., 2], np.inf)
        floor[floor * rays[..., 0] + eye[0] > ground_until_m] = np.inf
        z = np.minimum(floor, (6.0 - eye[0]) / rays[..., 0])
        for low, high in blocks:
            a, b = (np.array(low) - eye) / rays, (np.array(high) - eye) / rays
            near, far = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
            z = np.where((near < far) & (near > 0), np.minimum(z, near), z)
    rng = np.random.default_rng(seed)
    z = z + rng.normal(size=z.shape) * DepthNoise().sigma_m(z)
    z[(rng.random(z.shape) < 0.01) | (z > 8)] = np.nan
    return z.astype(np.float32)


def free_m(*blocks: Block, strip: Strip = STRIP, **room: float) -> float:
    return free_ahead_m(DepthView(depth_of(*blocks, **room), CAMERA), camera_pose(), strip)


def test_an_empty_room_is_free_for_metres():
    assert free_m() > 2.5


@pytest.mark.parametrize("x", [0.7, 1.0, 1.55, 2.2])
def test_an_obstacle_ends_the_way_at_its_front(x: float):
    assert free_m(((x, -0.1, 0.0), (x + 0.3, 0.1, 0.3))) == pytest.approx(x, abs=0.03)


@pytest.mark.parametrize("y", [-0.29, 0.27])
def test_what_reaches_into_the_strip_is_an_obstacle(y: float):
    assert free_m(((1.0, y, 0.0), (1.3, y + 0.02, 0.3))) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("y", [-0.5, 0.36])
def test_what_stands_beside_the_strip_is_none(y: float):
    assert free_m(((1.0, y, 0.0), (1.3, y + 0.14, 0.3))) > 2.0


def test_a_thin_pole_is_an_obstacle():
    assert free_m(((1.5, 0.0, 0.0), (1.52, 0.02, 0.5))) == pytest.approx(1.5, abs=0.03)


def test_a_low_box_is_an_obstacle():
    assert free_m(((1.2, -0.1, 0.0), (1.4, 0.1, 0.06))) == pytest.approx(1.2, abs=0.05)


def test_what_hangs_above_the_robot_is_no_obstacle():
    shelf = ((1.0, -0.3, 0.65), (2.0, 0.3, 0.7))
    assert free_m(shelf) > 2.0
    assert free_m(shelf, strip=replace(STRIP, height_m=0.8)) < 1.3


def test_a_missing_floor_ends_the_way():
    assert free_m(ground_until_m=1.24) == pytest.approx(1.24, abs=0.02)


def test_a_step_down_ends_the_way():
    step = depth_of(ground_until_m=1.24)
    lower = np.isnan(step)
    step[lower] = depth_of()[lower] * 1.3
    view = DepthView(step, CAMERA)
    assert free_ahead_m(view, camera_pose(), STRIP) <= 1.26


def test_the_ground_below_the_camera_may_be_blind_only_as_far_as_allowed():
    assert free_m(strip=replace(STRIP, blind_m=0.0)) == 0.0
    assert free_m(strip=replace(STRIP, blind_m=0.3)) == 0.0
    assert free_m() > 2.0


def trench(until_m: float, lanes_m: float = math.inf) -> np.ndarray:
    """Noisy depth of a ditch 15 cm deep, from below the camera up to ``until_m``, as far as
    ``lanes_m`` to both sides."""
    dug, deep = depth_of(), HEIGHT_M + 0.15
    rays = np.asarray(ray_grid(CAMERA)) @ axes().T
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(rays[..., 2] < 0, -HEIGHT_M / rays[..., 2], np.inf)
        z = np.minimum(level * deep / HEIGHT_M, (until_m - AHEAD_M) / rays[..., 0])
        over = (level * rays[..., 0] + AHEAD_M < until_m) & (np.abs(level * rays[..., 1]) < lanes_m)
    noise = np.random.default_rng(1).normal(size=z.shape) * DepthNoise().sigma_m(z)
    dug[over] = (z + noise)[over]
    return dug


@pytest.mark.parametrize("until_m", [0.55, 0.6, 0.68])
def test_a_hole_before_the_first_ground_is_not_taken_for_blind(until_m: float):
    view = DepthView(trench(until_m), CAMERA)
    assert free_ahead_m(view, camera_pose(), replace(STRIP, blind_m=0.85)) == 0.0


def test_a_hole_before_one_lane_ends_the_way_as_well():
    view = DepthView(trench(0.6, lanes_m=0.1), CAMERA)
    assert free_ahead_m(view, camera_pose(), replace(STRIP, blind_m=0.85)) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_noise_digs_no_hole_before_the_first_ground(seed: int):
    assert free_m(strip=replace(STRIP, blind_m=0.85), seed=seed) > 2.5


# --- what has no depth ----------------------------------------------------------------------------


def without_depth(*blocks: Block) -> np.ndarray:
    """Noisy depth of a room in which nothing that shows ``blocks`` was measured."""
    clean = depth_of()
    shows = np.nan_to_num(depth_of(*blocks)) != np.nan_to_num(clean)
    return np.where(shows, np.float32(np.nan), clean)


@pytest.mark.parametrize(
    "block",
    [
        ((0.9, -0.03, 0.0), (0.96, 0.03, 0.5)),
        ((0.9, -0.05, 0.0), (1.0, 0.05, 0.5)),
        ((0.9, 0.05, 0.0), (1.0, 0.15, 0.5)),
        ((0.5, -0.2, 0.0), (0.6, 0.2, 0.04)),
        ((0.5, -0.03, 0.0), (0.56, 0.03, 0.12)),
    ],
)
def test_a_thing_without_depth_ends_the_way_at_its_front(block: Block):
    free = free_ahead_m(DepthView(without_depth(block), CAMERA), camera_pose(), STRIP)
    assert free == pytest.approx(block[0][0], abs=0.03)


def test_a_low_thing_without_depth_before_the_first_ground_is_not_taken_for_blind():
    view = DepthView(without_depth(((0.45, -0.05, 0.0), (0.55, 0.05, 0.08))), CAMERA)
    assert free_ahead_m(view, camera_pose(), replace(STRIP, blind_m=0.85)) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_single_pixels_without_depth_shorten_no_way(seed: int):
    depth_m = depth_of(seed=seed)
    depth_m[np.random.default_rng(seed).random(depth_m.shape) < 0.03] = np.nan
    assert free_ahead_m(DepthView(depth_m, CAMERA), camera_pose(), STRIP) > 2.0


def test_a_border_of_the_picture_that_depth_does_not_reach_is_blind():
    depth_m = depth_of()
    depth_m[:20] = depth_m[-20:] = depth_m[:, :40] = depth_m[:, -40:] = np.nan
    assert free_ahead_m(DepthView(depth_m, CAMERA), camera_pose(), STRIP) > 2.5


def test_ground_that_is_too_near_for_the_sensor_is_blind():
    """The camera is turned a little: rows do not end together."""
    depth_m, wide = depth_of(), replace(STRIP, blind_m=0.85)
    depth_m[depth_m < np.linspace(0.49, 0.5, 640, dtype=np.float32)] = np.nan
    assert free_ahead_m(DepthView(depth_m, CAMERA), camera_pose(), wide) > 2.5


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "up", "height_m"),
    [
        ("2", (-0.0897, -0.9664, -0.2408), 1.418),
        ("3", (-0.1061, -0.9635, -0.246), 1.366),
        ("5", (-0.1644, -0.9461, -0.2791), 1.306),
    ],
)
def test_a_real_floor_is_seen_as_far_as_its_depth_tells(
    name: str, up: tuple[float, float, float], height_m: float, shared_data: Path
):
    """A carpet as a Kinect saw it, with borders that it does not measure; ``up`` in its frame."""
    raw = cv2.imread(
        str(shared_data / f"slambook2_rgbd/ch5/depth/{name}.pgm"), cv2.IMREAD_UNCHANGED
    )
    depth_m = np.where(raw > 0, raw / 1000, np.nan).astype(np.float32)
    left = np.cross(up, (0.0, 0.0, 1.0))
    axes_in_camera = np.stack([np.cross(left, up), left, up])
    pose = np.eye(4)
    pose[:3, :3] = axes_in_camera / np.linalg.norm(axes_in_camera, axis=1, keepdims=True)
    pose[2, 3] = height_m
    view = DepthView(depth_m, PinholeCamera(640, 480, 518.0, 519.0, 325.5, 253.5))
    strip = Strip(width_m=0.6, height_m=0.6, tolerance_m=0.05, blind_m=3.0)
    assert free_ahead_m(view, from_matrix(pose, "base_link", "camera"), strip) > 2.5


def test_no_depth_is_no_way():
    nothing = np.full((480, 640), np.nan, np.float32)
    assert free_ahead_m(DepthView(nothing, CAMERA), camera_pose(), STRIP) == 0.0


def test_depth_of_another_size_is_no_way():
    view = DepthView(np.ones((240, 320), np.float32), CAMERA)
    assert free_ahead_m(view, camera_pose(), STRIP) == 0.0


def test_a_wider_robot_sees_no_more_free_way():
    block = ((1.0, 0.25, 0.0), (1.3, 0.4, 0.3))
    widths = (0.3, 0.45, 0.6, 0.8)
    ways = [free_m(block, strip=replace(STRIP, width_m=width)) for width in widths]
    assert ways[0] > 2.0 and ways[2] < 1.1
    assert ways[1] >= ways[2] >= ways[3] - 1e-6


# --- in the gate ----------------------------------------------------------------------------------

ROBOT = RigidTransform("base_link", "odom")


def seen(*blocks: Block) -> SelectedFrame:
    return shown(depth_of(*blocks))


def shown(depth_m: np.ndarray) -> SelectedFrame:
    depth = np.nan_to_num(depth_m).astype(np.float32)
    info = CameraInfo(640, 480, (415.7, 0.0, 319.5, 0.0, 415.7, 239.5, 0.0, 0.0, 1.0))
    return select(
        Frame(
            "front",
            NOW_NS,
            "camera",
            EncodedImage("rgb8", bytes(640 * 480 * 3), 640, 480, 1920),
            EncodedImage("32FC1", depth.tobytes(), 640, 480, 2560),
            info,
            T_fixed_camera=replace(camera_pose(), parent="odom"),
        )
    )


def driving(
    *goals: Goal,
    now: SelectedFrame,
    limits: SafetyLimits = LIMITS,
    T_base_fixed: RigidTransform | None = ROBOT,
    ground: GroundMemory | None = None,
) -> RefusalCode | None:
    stages = tuple(MotionStage(Stage.DRIVE, goal) for goal in goals)
    motion = Motion(Skill.MOVE_TO, "odom", (0.5, 0.0, 0.0), stages)
    situation = Situation(NOW_NS, now, armed=True, T_base_fixed=T_base_fixed, ground=ground)
    proposal = Proposal(motion, (), FrameSet((now,)), NOW_NS)
    refusal = Gate(limits).judge(proposal, situation).refusal
    return None if refusal is None else refusal.code


@pytest.fixture(scope="module")
def free_room() -> SelectedFrame:
    return seen()


BOX = ((1.0, -0.1, 0.0), (1.3, 0.1, 0.3))


def test_a_turn_on_the_spot_needs_no_place_in_the_workspace(free_room: SelectedFrame):
    away = replace(LIMITS, workspace_x_min_m=2.0, workspace_x_max_m=3.0)
    assert driving(SpinGoal(0.2, 0.5), now=free_room, limits=away) is None


def test_a_free_way_is_driven(free_room: SelectedFrame):
    assert driving(DriveGoal(1.0, 0.5), now=free_room) is None


def test_a_way_needs_room_for_the_robot_and_its_clearance():
    """The box is 1.0 m ahead of the base's centre: 0.2 m of it are robot, 0.1 m clearance."""
    now = seen(BOX)
    assert driving(DriveGoal(0.65, 0.5), now=now) is None
    assert driving(DriveGoal(0.75, 0.5), now=now) is RefusalCode.OBSTACLE


@pytest.mark.parametrize("far_m", [0.25, 0.7, 1.0])
def test_nobody_drives_over_a_sill_that_has_no_depth(far_m: float):
    now = shown(without_depth(((0.5, -0.2, 0.0), (0.6, 0.2, 0.04))))
    assert driving(DriveGoal(far_m, 0.5), now=now) is RefusalCode.OBSTACLE


def test_a_drive_too_long_is_refused(free_room: SelectedFrame):
    assert driving(DriveGoal(1.01, 0.5), now=free_room) is RefusalCode.OUT_OF_REACH


def test_a_turn_is_free_up_to_its_limit(free_room: SelectedFrame):
    assert driving(SpinGoal(-3.1, 0.5), now=free_room) is None
    assert driving(SpinGoal(-3.3, 0.5), now=free_room) is RefusalCode.OUT_OF_REACH


@pytest.mark.parametrize("goal", [DriveGoal(math.nan, 0.5), SpinGoal(math.nan, 0.5)])
def test_a_drive_of_nan_is_refused(goal: Goal, free_room: SelectedFrame):
    assert driving(goal, now=free_room) is RefusalCode.OUT_OF_REACH


def test_nobody_drives_backwards_blindly(free_room: SelectedFrame):
    assert driving(DriveGoal(-0.2, 0.5), now=free_room) is RefusalCode.OBSTACLE


def test_without_depth_nobody_drives(free_room: SelectedFrame):
    blind = replace(free_room, frame=replace(free_room.frame, depth=None))
    assert driving(DriveGoal(0.3, 0.5), now=blind) is RefusalCode.OBSTACLE


def test_without_the_bases_own_pose_nobody_drives(free_room: SelectedFrame):
    assert driving(DriveGoal(0.3, 0.5), now=free_room, T_base_fixed=None) is RefusalCode.OBSTACLE


def test_the_way_after_a_turn_is_looked_for_where_it_will_be():
    """The box stands ahead; a little to the side the way is free, farther it is not seen."""
    now = seen(BOX)
    narrow = replace(LIMITS, robot_width_m=0.2, clearance_m=0.02)
    assert driving(DriveGoal(1.0, 0.5), now=now, limits=narrow) is RefusalCode.OBSTACLE
    turned = (SpinGoal(0.35, 0.5), DriveGoal(1.0, 0.5))
    assert driving(*turned, now=now, limits=narrow) is None
    away = (SpinGoal(1.5, 0.5), DriveGoal(0.3, 0.5))
    assert driving(*away, now=now, limits=narrow) is RefusalCode.OBSTACLE


def test_a_second_drive_needs_its_way_as_well():
    now = seen(BOX)
    assert driving(DriveGoal(0.4, 0.5), DriveGoal(0.2, 0.5), now=now) is None
    assert driving(DriveGoal(0.4, 0.5), DriveGoal(0.4, 0.5), now=now) is RefusalCode.OBSTACLE


def test_ground_that_is_remembered_in_another_frame_is_refused_as_such(free_room: SelectedFrame):
    ground = GroundMemory()
    view = DepthView(depth_of(BOX), CAMERA)
    ground.see(view, camera_pose(), RigidTransform("base_link", "base_link"), STRIP)
    code = driving(DriveGoal(0.3, 0.5), now=free_room, ground=ground)
    assert code is RefusalCode.NO_TRANSFORM


def beside_it(x: float) -> RigidTransform:
    """``T_base_fixed`` of a base that has turned its side to what it saw ahead of it."""
    half = math.sqrt(0.5)
    return invert(RigidTransform("odom", "base_link", (x, 0.0, 0.0), (0.0, 0.0, half, half)))


def test_nobody_turns_a_corner_into_what_was_seen_before(free_room: SelectedFrame):
    """The box is 1.0 m ahead of where it was seen from; the base's corners sweep 0.2 m."""
    turn, ground = SpinGoal(0.5, 0.5), watched(BOX)
    near, far = beside_it(0.76), beside_it(0.74)
    assert driving(turn, now=free_room, T_base_fixed=far, ground=ground) is None
    code = driving(turn, now=free_room, T_base_fixed=near, ground=ground)
    assert code is RefusalCode.OBSTACLE
    assert driving(turn, now=free_room, T_base_fixed=near) is None, "nothing is remembered"


def test_what_stands_behind_is_in_the_way_of_a_turn_and_of_no_drive(free_room: SelectedFrame):
    ground, there = GroundMemory(), (0.85, 0.0, 0.0)
    facing_back = RigidTransform("odom", "base_link", there, (0.0, 0.0, 1.0, 0.0))
    ground.see(DepthView(depth_of(BOX), CAMERA), camera_pose(), facing_back, STRIP)
    creep, turn = DriveGoal(0.02, 0.5), SpinGoal(0.1, 0.5)
    assert driving(creep, now=free_room, ground=ground) is None
    for goals in ((turn,), (creep, turn)):
        assert driving(*goals, now=free_room, ground=ground) is RefusalCode.OBSTACLE


# --- places to navigate to ------------------------------------------------------------------------

THERE = NavigateGoal(RigidTransform("odom", "base_link", (1.0, 0.0, 0.0)), 0.5)


def watched(*blocks: Block) -> GroundMemory:
    return watched_in(depth_of(*blocks))


def watched_in(depth_m: np.ndarray) -> GroundMemory:
    memory = GroundMemory()
    strip = Strip(width_m=0.6, height_m=0.6)
    view = DepthView(np.nan_to_num(depth_m).astype(np.float32), CAMERA)
    memory.see(view, camera_pose(), invert(ROBOT), strip)
    return memory


FENCE = replace(
    LIMITS,
    workspace_x_min_m=-5.0,
    workspace_x_max_m=5.0,
    workspace_y_min_m=-5.0,
    workspace_y_max_m=5.0,
)


def test_a_place_that_was_seen_to_be_free_may_be_navigated_to(free_room: SelectedFrame):
    assert driving(THERE, now=free_room, limits=FENCE, ground=watched()) is None


def test_a_place_needs_room_for_the_robot_and_its_clearance(free_room: SelectedFrame):
    beside = ((0.9, 0.4, 0.0), (1.1, 0.5, 0.3))
    assert driving(THERE, now=free_room, limits=FENCE, ground=watched(beside)) is None
    near = ((0.9, 0.25, 0.0), (1.1, 0.5, 0.3))
    assert driving(THERE, now=free_room, limits=FENCE, ground=watched(near)) is RefusalCode.OBSTACLE


@pytest.mark.parametrize("y", [-0.1, 0.0, 0.15])
def test_nobody_is_sent_to_where_a_thing_without_depth_stands(y: float, free_room: SelectedFrame):
    ground = watched_in(without_depth(((1.0, y - 0.03, 0.0), (1.06, y + 0.03, 0.5))))
    assert driving(THERE, now=free_room, limits=FENCE, ground=ground) is RefusalCode.OBSTACLE
    assert (
        not len(ground.free_places(0.3))
        or np.hypot(*(ground.free_places(0.3) - (1.03, y)).T).min() > 0.25
    )


def test_a_place_without_depth_is_free_where_its_ground_is_seen_later(free_room: SelectedFrame):
    ground = watched_in(without_depth(((1.0, -0.03, 0.0), (1.06, 0.03, 0.5))))
    ground.see(DepthView(depth_of(), CAMERA), camera_pose(), invert(ROBOT), STRIP)
    assert driving(THERE, now=free_room, limits=FENCE, ground=ground) is None


def test_a_place_that_was_never_seen_is_not_navigated_to(free_room: SelectedFrame):
    behind = NavigateGoal(RigidTransform("odom", "base_link", (-1.0, 0.0, 0.0)), 0.5)
    code = driving(behind, now=free_room, limits=FENCE, ground=watched())
    assert code is RefusalCode.OBSTACLE
    assert driving(THERE, now=free_room, limits=FENCE) is RefusalCode.OBSTACLE


def test_the_place_is_looked_up_in_the_frame_that_the_ground_was_seen_in(free_room: SelectedFrame):
    T_map_odom = RigidTransform("odom", "odom", (0.0, 3.0, 0.0))
    code = driving(THERE, now=free_room, limits=FENCE, T_base_fixed=T_map_odom, ground=watched())
    assert code is RefusalCode.OBSTACLE


def test_a_drive_after_a_navigation_is_not_seen_yet(free_room: SelectedFrame):
    code = driving(THERE, DriveGoal(0.1, 0.5), now=free_room, limits=FENCE, ground=watched())
    assert code is RefusalCode.OBSTACLE
