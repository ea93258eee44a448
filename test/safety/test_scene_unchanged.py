"""Whether a place still looks as it did: a change is told from noise, light and another view."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from safety_examples import CUBE, LIMITS, SCENE, TARGET, THEN, frame, with_things

from rynn_brain_ros.geometry import DepthView, apply, invert
from rynn_brain_ros.memory import decode_color, depth_view, select
from rynn_brain_ros.safety import SceneLook, Verdict, scene_unchanged
from rynn_brain_ros.safety.seeing import SeenFrames
from rynn_brain_ros.sim.tabletop import START_NS, Tabletop, Thing
from rynn_brain_ros.values import EncodedImage, RefusalCode, RigidTransform, SelectedFrame

THINGS = {
    "cube": CUBE,
    "small cube": replace(CUBE, size_m=(0.04, 0.04, 0.04)),
    "ball": Thing("blue ball", "blue", "ball", (0.4, 0.1), (0.07, 0.07, 0.07)),
    "cylinder": Thing("green cylinder", "green", "cylinder", (0.4, 0.1), (0.06, 0.06, 0.11)),
}


def looked(
    now: SelectedFrame, then: SelectedFrame = THEN, target: Any = TARGET, own: Any = None
) -> SceneLook:
    return scene_unchanged(then, now, target, LIMITS, own=own)


def moved(thing: Thing, by_m: float, angle_deg: float) -> Tabletop:
    x, y = thing.xy_m
    angle = math.radians(angle_deg)
    return with_things(
        replace(thing, xy_m=(x + by_m * math.cos(angle), y + by_m * math.sin(angle)))
    )


def top_of(thing: Thing) -> tuple[float, float, float]:
    return (*thing.xy_m, thing.size_m[2])


# --- nothing has changed --------------------------------------------------------------------------


def test_the_same_image_is_unchanged_without_a_look():
    bare = replace(THEN, frame=replace(THEN.frame, depth=None))
    assert looked(bare, bare).verdict is Verdict.UNCHANGED


def test_noise_is_not_a_change():
    """In 200 pairs of pictures."""
    looks = [looked(frame(seed=seed)) for seed in range(1, 201)]
    assert {look.verdict for look in looks} == {Verdict.UNCHANGED}


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("light", [0.8, 1.2])
def test_light_is_not_a_change(name: str, light: float):
    scene = with_things(THINGS[name])
    then, now = frame(scene, START_NS), frame(scene, seed=1, light=light)
    assert looked(now, then, top_of(THINGS[name])).verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("seconds", [2, 6])
def test_another_view_is_not_a_change(name: str, seconds: int):
    """The camera moves on its arc by up to half a radian; both poses are known."""
    scene = with_things(THINGS[name])
    pose = scene.pose_at(START_NS + seconds * 10**9)
    then, now = frame(scene, START_NS), frame(scene, seed=1, pose=pose)
    assert looked(now, then, top_of(THINGS[name])).refusal() is None


def test_what_a_thing_hides_from_another_side_is_not_new():
    """From the far side the thing stands before the table that was seen beside it."""
    tall = Thing("wall", "green", "cube", (0.15, 0.1), (0.02, 0.16, 0.1), math.pi / 2)
    scene = with_things(tall)
    left, right = (scene.pose_at(START_NS + s * 10**9) for s in (-3, 6))
    then, now = frame(scene, START_NS, pose=left), frame(scene, seed=1, pose=right)
    look = looked(now, then, (0.15, 0.13, 0.05))
    assert look.hidden_share < 0.01 and look.gone_share < 0.01


def test_a_shadow_is_not_a_change():
    assert looked(frame(seed=1, light=0.6)).verdict is Verdict.UNCHANGED


def test_a_pose_that_is_millimetres_off_is_not_a_change():
    now = frame(seed=1)
    assert looked(sunk(now, 0.007)).verdict is Verdict.UNCHANGED


def test_a_change_elsewhere_is_not_one_here():
    other = Thing("blue ball", "blue", "ball", (0.2, -0.2), (0.07, 0.07, 0.07))
    assert looked(frame(with_things(CUBE, other), seed=1)).verdict is Verdict.UNCHANGED


# --- something has --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize(
    ("by_m", "angle_deg"), [*((0.02, angle) for angle in range(0, 360, 60)), (0.05, 200)]
)
def test_a_thing_that_was_moved_is_seen(name: str, by_m: float, angle_deg: int):
    thing = THINGS[name]
    then = frame(with_things(thing), START_NS)
    look = looked(frame(moved(thing, by_m, angle_deg), seed=1), then, top_of(thing))
    refusal = look.refusal()
    assert refusal is not None and refusal.code is RefusalCode.SCENE_CHANGED


@pytest.mark.parametrize("angle_deg", range(0, 360, 90))
def test_a_thing_that_was_moved_is_seen_from_elsewhere_and_in_other_light(angle_deg: int):
    pose = SCENE.pose_at(START_NS + 2 * 10**9)
    now = frame(moved(CUBE, 0.02, angle_deg), seed=1, pose=pose, light=0.8)
    assert looked(now).refusal() is not None


@pytest.mark.parametrize("angle_deg", [90, 270])
def test_a_centimetre_sideways_is_seen_at_full_resolution(angle_deg: int):
    full = {"width": 640, "height": 480, "focal_px": 525.0}
    then = frame(replace(SCENE, **full), START_NS)
    assert looked(frame(replace(moved(CUBE, 0.01, angle_deg), **full), seed=1), then).refusal()


@pytest.mark.parametrize("name", THINGS)
def test_a_thing_that_is_gone_is_a_change(name: str):
    then = frame(with_things(THINGS[name]), START_NS)
    look = looked(frame(with_things(), seed=1), then, top_of(THINGS[name]))
    assert look.verdict is Verdict.CHANGED
    assert look.gone_share > 0.1


def test_another_thing_of_the_same_shape_is_a_change():
    look = looked(frame(with_things(replace(CUBE, color="green")), seed=1))
    assert look.verdict is Verdict.CHANGED
    assert look.color_share > 0.1 and look.gone_share < 0.01


def sunk(shown: SelectedFrame, by_m: float) -> SelectedFrame:
    """As if all that it shows lay lower."""
    pose = shown.frame.T_fixed_camera
    assert pose is not None
    x, y, z = pose.translation_m
    lower = replace(pose, translation_m=(x, y, z - by_m))
    return replace(shown, frame=replace(shown.frame, T_fixed_camera=lower))


def test_a_scene_that_sank_as_a_whole_is_a_change():
    assert looked(sunk(frame(seed=1), 0.012)).verdict is Verdict.CHANGED


# --- something stands before it -------------------------------------------------------------------

ARM = Thing("arm", "purple", "cube", (0.3, 0.1), (0.05, 0.3, 0.3))


def test_something_in_front_is_refused_unless_it_is_the_robots_own():
    now = frame(with_things(CUBE, ARM), seed=1)
    look = looked(now)
    assert look.verdict is Verdict.OCCLUDED
    assert look.hidden_share > 0.3
    assert look.refusal() is not None
    assert looked(now, own=is_arm).refusal() is None


def test_a_target_wholly_behind_the_robot_itself_is_not_held_against_it():
    wide = replace(ARM, size_m=(0.05, 0.6, 0.5))
    now = frame(with_things(CUBE, wide), seed=1)
    assert looked(now).refusal() is not None
    assert looked(now, own=is_arm).refusal() is None


def is_arm(points_m: np.ndarray) -> np.ndarray:
    """Points of the fixed frame that are nearer to the camera than the cube."""
    return np.abs(points_m[:, 0] - ARM.xy_m[0]) < 0.06


def test_something_put_on_a_free_place_is_refused():
    then = frame(with_things(), START_NS)
    refusal = looked(frame(with_things(CUBE), seed=1), then, (0.4, 0.1, 0.0)).refusal()
    assert refusal is not None


def test_what_was_moved_beside_an_arm_is_still_seen():
    arm = replace(ARM, xy_m=(0.3, 0.16), size_m=(0.05, 0.1, 0.3))
    thing = replace(CUBE, xy_m=(0.4, 0.02))
    look = looked(frame(with_things(thing, arm), seed=1), own=is_arm)
    assert look.refusal() is not None


# --- depth is lost over it ------------------------------------------------------------------------


def without_depth(
    shown: SelectedFrame, radius_m: float, color: tuple[int, int, int] | None = None
) -> SelectedFrame:
    """With a disc before the target that has no depth, and is of ``color`` where one is told."""
    view, pose = depth_view(shown), shown.frame.T_fixed_camera
    assert isinstance(view, DepthView) and pose is not None
    x, y, z = apply(invert(pose), TARGET)[0]
    u, v = view.camera.project((x, y, z))[0]
    rows, columns = np.mgrid[0 : view.camera.height, 0 : view.camera.width]
    disc = np.hypot(columns - u, rows - v) <= view.camera.fx * radius_m / z
    rgb = np.array(decode_color(shown.frame.color))
    if color is not None:
        rgb[disc] = color
    depth = np.where(disc, 0.0, np.nan_to_num(view.depth_m)).astype(np.float32)
    height, width = depth.shape
    return select(
        replace(
            shown.frame,
            color=EncodedImage("rgb8", rgb.tobytes(), width, height, width * 3),
            depth=EncodedImage("32FC1", depth.tobytes(), width, height, width * 4),
        )
    )


BLACK = (5, 5, 5)


@pytest.mark.parametrize("radius_m", [0.03, 0.04, 0.05])
def test_a_black_thing_without_depth_over_the_target_is_a_change(radius_m: float):
    look = looked(without_depth(frame(seed=1), radius_m, BLACK))
    assert look.verdict is Verdict.CHANGED
    assert look.color_share > 0.1


def test_a_black_thing_without_depth_in_the_targets_place_is_a_change():
    now = without_depth(frame(with_things(), seed=1), 0.045, BLACK)
    assert looked(now).verdict is Verdict.CHANGED


@pytest.mark.parametrize("seed", range(1, 6))
def test_depth_that_flickers_over_the_same_colors_is_no_change(seed: int):
    assert looked(without_depth(frame(seed=seed), 0.03)).verdict is Verdict.UNCHANGED


def test_a_hand_of_the_robots_own_without_depth_is_not_held_against_it():
    def is_hand(points_m: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points_m - (0.35, 0.1, 0.2), axis=1) < 0.13

    now = without_depth(frame(seed=1), 0.03, BLACK)
    assert looked(now, own=is_hand).refusal() is None


# --- what cannot be known -------------------------------------------------------------------------


def changed_frame(shown: SelectedFrame, **changes: Any) -> SelectedFrame:
    return replace(shown, frame=replace(shown.frame, **changes))


@pytest.mark.parametrize("when", ["then", "now"])
@pytest.mark.parametrize(
    "change",
    [
        {"depth": None},
        {"camera_info": None},
        {"T_fixed_camera": None},
        {"T_fixed_camera": RigidTransform("odom", "camera")},
        {"T_fixed_camera": RigidTransform("base_link", "camera", (math.nan, 0.0, 0.0))},
        {"depth": EncodedImage("16UC1", b"", 320, 240, 640)},
        {"depth": EncodedImage("16UC1", bytes(320 * 240 * 2), 320, 240, 640)},
        {"color": EncodedImage("rgb8", b"", 320, 240, 960)},
    ],
    ids=["depth", "info", "pose", "other frame", "NaN pose", "cut depth", "no depth", "cut color"],
)
def test_what_cannot_be_compared_is_refused(when: str, change: dict[str, Any]):
    then, now = THEN, frame(seed=1)
    if when == "then":
        then = changed_frame(then, **change)
    else:
        now = changed_frame(now, **change)
    look = looked(now, then)
    assert look.verdict is Verdict.UNKNOWN
    refusal = look.refusal()
    assert refusal is not None and refusal.code is RefusalCode.SCENE_CHANGED


def test_a_target_that_left_the_view_is_refused():
    pose = THEN.frame.T_fixed_camera
    assert pose is not None
    x, y, z = pose.translation_m
    away = replace(pose, translation_m=(x, y + 2.0, z))
    assert looked(frame(seed=1, pose=away)).verdict is Verdict.UNKNOWN


def test_a_target_behind_the_camera_is_refused():
    assert looked(frame(seed=1), target=(-5.0, 0.0, 0.5)).verdict is Verdict.UNKNOWN


def test_a_target_of_nan_is_refused():
    assert looked(frame(seed=1), target=(math.nan, 0.0, 0.5)).verdict is Verdict.UNKNOWN


# --- decoding -------------------------------------------------------------------------------------


def test_compressed_pictures_are_compared_as_well():
    def compressed(shown: SelectedFrame) -> SelectedFrame:
        rgb = decode_color(shown.frame.color)
        jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        color = EncodedImage("rgb8; jpeg compressed bgr8", jpeg, compressed=True)
        return select(replace(shown.frame, color=color))

    assert looked(compressed(frame(seed=1)), compressed(THEN)).verdict is Verdict.UNCHANGED
    gone = compressed(frame(with_things(), seed=1))
    assert looked(gone, compressed(THEN)).verdict is Verdict.CHANGED


def test_a_frame_is_opened_once_for_several_targets():
    seen = SeenFrames()
    assert seen.of(THEN) is seen.of(replace(THEN))


def test_the_numbers_are_told():
    look = looked(frame(with_things(), seed=1))
    assert 0 < look.gone_share <= 1 and look.n_points > 100 and look.seen_share > 0.9
    assert f"{round(100 * look.gone_share)} % of it is gone" in look.text
    assert np.isfinite(look.shift_m)
