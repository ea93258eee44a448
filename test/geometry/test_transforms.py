"""Rigid transforms, and the tree that answers at a stamp."""

from __future__ import annotations

import math
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyquaternion import Quaternion

from rynn_brain_ros.geometry import (
    TransformBuffer,
    apply,
    compose,
    continuous_frame,
    from_matrix,
    invert,
    optical_frame_refusal,
    to_matrix,
)
from rynn_brain_ros.geometry.transforms import interpolate, rotate_covariance
from rynn_brain_ros.values import Refusal, RefusalCode, RigidTransform, TransformError

S = 10**9
HALF = math.sqrt(0.5)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Rotation of an optical frame in its body frame, (x, y, z, w)."""


def edge(
    parent: str,
    child: str,
    x: float = 0.0,
    stamp_s: float = 0.0,
    q: tuple[float, ...] = (0, 0, 0, 1),
) -> RigidTransform:
    return RigidTransform(parent, child, (x, 0.0, 0.0), q, round(stamp_s * S))  # type: ignore[arg-type]


def buffer_of(*dynamic: RigidTransform, static: tuple[RigidTransform, ...] = ()) -> TransformBuffer:
    buffer = TransformBuffer()
    assert buffer.add(static, static=True) == ()
    assert buffer.add(dynamic) == ()
    return buffer


def refused(answer: object) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


def given_transform(answer: object) -> RigidTransform:
    assert isinstance(answer, RigidTransform), answer
    return answer


number = st.floats(-10, 10)
quaternion = st.tuples(number, number, number, number).filter(lambda q: math.hypot(*q) > 0.01)
transform = st.builds(
    lambda t, q: RigidTransform("a", "b", t, q), st.tuples(number, number, number), quaternion
)


# --- one transform


@given(T_a_b=transform)
def test_a_transform_and_its_inverse_cancel(T_a_b: RigidTransform) -> None:
    assert np.allclose(to_matrix(compose(T_a_b, invert(T_a_b))), np.eye(4), atol=1e-9)


@given(T_a_b=transform, T_b_a=transform)
def test_composing_is_multiplying_matrices(T_a_b: RigidTransform, T_b_a: RigidTransform) -> None:
    T_b_c = RigidTransform("b", "c", T_b_a.translation_m, T_b_a.rotation_xyzw)
    T_a_c = compose(T_a_b, T_b_c)
    assert (T_a_c.parent, T_a_c.child) == ("a", "c")
    assert np.allclose(to_matrix(T_a_c), to_matrix(T_a_b) @ to_matrix(T_b_c), atol=1e-9)


@given(T_a_b=transform)
def test_a_matrix_keeps_the_whole_transform(T_a_b: RigidTransform) -> None:
    again = from_matrix(to_matrix(T_a_b), "a", "b")
    assert np.allclose(to_matrix(again), to_matrix(T_a_b), atol=1e-9)


def test_points_are_rotated_then_moved() -> None:
    T_a_b = RigidTransform("a", "b", (1.0, 0.0, 0.0), (0.0, 0.0, HALF, HALF))
    assert np.allclose(apply(T_a_b, [(1, 0, 0), (0, 2, 3)]), [(1, 1, 0), (-1, 0, 3)])


def test_a_covariance_turns_with_its_frame() -> None:
    T_a_b = RigidTransform("a", "b", (5.0, 5.0, 5.0), (0.0, 0.0, HALF, HALF))
    turned = rotate_covariance(T_a_b, (4.0, 0, 0, 0, 1.0, 0, 0, 0, 9.0))
    assert np.allclose(turned, (1.0, 0, 0, 0, 4.0, 0, 0, 0, 9.0))


@pytest.mark.parametrize("q", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0)])
def test_an_impossible_quaternion_is_an_error(q: tuple[float, float, float, float]) -> None:
    with pytest.raises(TransformError, match="'a' → 'b'"):
        apply(RigidTransform("a", "b", rotation_xyzw=q), [(0, 0, 0)])


def test_a_quaternion_of_another_length_is_normalized() -> None:
    T_a_b = RigidTransform("a", "b", rotation_xyzw=(0.0, 0.0, 2.0, 2.0))
    assert np.allclose(apply(T_a_b, [(1, 0, 0)]), [(0, 1, 0)])


def test_frames_that_do_not_meet_cannot_be_chained() -> None:
    with pytest.raises(TransformError, match="inner frames differ"):
        compose(edge("a", "b"), edge("c", "d"))


@pytest.mark.parametrize(
    "matrix", [np.eye(3), np.diag([1, 1, -1, 1]), np.diag([2, 1, 1, 1]), np.full((4, 4), np.nan)]
)
def test_a_matrix_that_is_no_rigid_motion_is_an_error(matrix: np.ndarray) -> None:
    with pytest.raises(TransformError):
        from_matrix(matrix, "a", "b")


def test_interpolation_is_linear_and_turns_evenly() -> None:
    turned = Quaternion(axis=(0, 0, 1), degrees=90)
    a = edge("a", "b", 1.0, 0)
    b = edge("a", "b", 3.0, 1, (turned.x, turned.y, turned.z, turned.w))
    T_a_b = interpolate(a, b, S // 4)
    quarter = Quaternion(axis=(0, 0, 1), degrees=22.5)
    assert T_a_b.translation_m == (1.5, 0.0, 0.0)
    assert np.allclose(T_a_b.rotation_xyzw, (quarter.x, quarter.y, quarter.z, quarter.w))


def test_interpolation_takes_the_short_way_round() -> None:
    a, b = edge("a", "b", q=(0, 0, 0, 1)), edge("a", "b", 0, 1, (0, 0, -0.1, -1))
    assert abs(interpolate(a, b, S // 2).rotation_xyzw[3]) > 0.99


def test_interpolation_never_leaves_its_samples() -> None:
    with pytest.raises(TransformError, match="not between"):
        interpolate(edge("a", "b", 0, 1), edge("a", "b", 0, 2), 3 * S)


# --- lookups


def test_a_lookup_interpolates_at_the_stamp() -> None:
    buffer = buffer_of(edge("odom", "base", 1.0, 10.0), edge("odom", "base", 2.0, 10.2))
    T_odom_base = given_transform(buffer.lookup("odom", "base", round(10.05 * S)))
    assert np.allclose(T_odom_base.translation_m, (1.25, 0, 0))
    assert (T_odom_base.parent, T_odom_base.child) == ("odom", "base")
    assert T_odom_base.stamp_ns == round(10.05 * S)


def test_a_lookup_passes_static_and_moving_edges_up_and_down() -> None:
    buffer = buffer_of(
        edge("odom", "base", 1.0, 1.0),
        edge("odom", "base", 2.0, 1.2),
        edge("base", "arm", 0.5, 1.1),
        static=(edge("base", "camera", 0.1), edge("camera", "optical", 0, 0, OPTICAL)),
    )
    T_odom_optical = given_transform(buffer.lookup("odom", "optical", round(1.1 * S)))
    assert np.allclose(apply(T_odom_optical, [(0, 0, 1)]), [(2.6, 0, 0)])
    T_arm_camera = given_transform(buffer.lookup("arm", "camera", round(1.1 * S)))
    assert np.allclose(T_arm_camera.translation_m, (-0.4, 0, 0))


def test_a_lookup_and_its_reverse_cancel() -> None:
    buffer = buffer_of(edge("a", "b", 3.0, 1.0), static=(edge("b", "c", 1, 0, OPTICAL),))
    there = given_transform(buffer.lookup("a", "c", S))
    back = given_transform(buffer.lookup("c", "a", S))
    assert np.allclose(to_matrix(compose(there, back)), np.eye(4), atol=1e-12)


def test_a_frame_in_itself_is_the_identity() -> None:
    buffer = buffer_of(edge("a", "b", 3.0, 1.0))
    T_b_b = given_transform(buffer.lookup("b", "b", 99 * S))
    assert T_b_b.translation_m == (0.0, 0.0, 0.0)


def test_an_exact_stamp_needs_no_neighbour() -> None:
    buffer = buffer_of(edge("a", "b", 3.0, 1.0))
    assert given_transform(buffer.lookup("a", "b", S)).translation_m == (3.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("stamp_s", "side"), [(9.9, "before the oldest"), (10.3, "after the newest")]
)
def test_nothing_is_extrapolated(stamp_s: float, side: str) -> None:
    buffer = buffer_of(edge("odom", "base", 1, 10.0), edge("odom", "base", 2, 10.2))
    refusal = refused(buffer.lookup("odom", "base", round(stamp_s * S)))
    assert refusal.code is RefusalCode.NO_TRANSFORM
    for words in ("'odom' → 'base'", side, "0.100000 s", "10.000000000 … 10.200000000"):
        assert words in refusal.text


def test_samples_too_far_apart_are_stale() -> None:
    buffer = buffer_of(edge("odom", "base", 1, 10.0), edge("odom", "base", 2, 11.0))
    refusal = refused(buffer.lookup("odom", "base", round(10.5 * S)))
    assert refusal.code is RefusalCode.STALE
    assert "1.000 s apart (limit 0.500 s)" in refusal.text


def test_a_static_edge_is_valid_at_any_time() -> None:
    buffer = buffer_of(static=(edge("a", "b", 1.0, 500),))
    for stamp_ns in (0, 10**18):
        assert given_transform(buffer.lookup("a", "b", stamp_ns)).translation_m[0] == 1.0


def test_a_static_edge_can_be_corrected() -> None:
    buffer = buffer_of(static=(edge("a", "b", 1.0), edge("a", "b", 2.0)))
    assert given_transform(buffer.lookup("a", "b", 0)).translation_m[0] == 2.0


def test_an_unknown_frame_is_named_with_those_known() -> None:
    refusal = refused(buffer_of(static=(edge("a", "b"),)).lookup("a", "camera", 0))
    assert "'camera' is unknown" in refusal.text and "a, b" in refusal.text


def test_two_trees_are_named_by_their_roots() -> None:
    buffer = buffer_of(static=(edge("a", "b"), edge("c", "d")))
    refusal = refused(buffer.lookup("b", "d", 0))
    assert refusal.code is RefusalCode.NO_TRANSFORM and "'a' and 'c'" in refusal.text


def test_a_late_sample_is_put_in_its_place() -> None:
    buffer = buffer_of(edge("a", "b", 1, 1.0), edge("a", "b", 3, 1.4), edge("a", "b", 10, 1.2))
    assert np.isclose(
        given_transform(buffer.lookup("a", "b", round(1.1 * S))).translation_m[0], 5.5
    )


def test_a_repeated_stamp_keeps_the_first_sample() -> None:
    buffer = buffer_of(edge("a", "b", 1, 1.0), edge("a", "b", 9, 1.0))
    assert given_transform(buffer.lookup("a", "b", S)).translation_m[0] == 1.0


def test_a_leading_slash_is_the_same_frame() -> None:
    buffer = buffer_of(static=(edge("/a", "/b", 1.0),))
    assert buffer.known_frames == ("a", "b")
    assert given_transform(buffer.lookup("a", "/b", 0)).translation_m[0] == 1.0


def test_history_is_bounded_by_seconds() -> None:
    buffer = TransformBuffer(history_s=2.0)
    buffer.add([edge("a", "b", i, i * 0.1) for i in range(100)])
    assert given_transform(buffer.lookup("a", "b", 8 * S)).translation_m[0] == 80
    refusal = refused(buffer.lookup("a", "b", 7 * S))
    assert "before the oldest" in refusal.text


def test_a_frame_that_fell_silent_keeps_its_newest_sample_alone() -> None:
    buffer = TransformBuffer(history_s=2.0)
    buffer.add([edge("a", "person", i, i * 0.1) for i in range(15)])
    buffer.add([edge("a", "late", i, 500 + i * 0.1) for i in range(15)])  # of another clock
    for i in range(20):
        buffer.add([edge("a", "b", i, i * 0.1), edge("a", "late", i, 502 + i * 0.1)])
    assert given_transform(buffer.lookup("a", "person", S)).translation_m[0] == 10
    buffer.add([edge("a", "b", i, i * 0.1) for i in range(20, 100)])
    assert "(1 samples)" in refused(buffer.lookup("a", "person", S)).text
    assert given_transform(buffer.lookup("a", "person", round(1.4 * S))).translation_m[0] == 14
    assert "(1 samples)" not in refused(buffer.lookup("a", "b", S)).text


def test_a_clock_that_jumps_back_starts_the_moving_edges_over() -> None:
    buffer = buffer_of(
        edge("odom", "base", 1, 100.0),
        edge("odom", "base", 1, 100.2),
        edge("base", "arm", 1, 100.0),
        static=(edge("base", "camera", 0.1),),
    )
    (problem,) = buffer.add([edge("odom", "base", 7, 99.0), edge("base", "arm", 7, 99.0)])
    assert "'odom' → 'base'" in problem and "clock jumped back by 1.200000 s" in problem
    assert buffer.add([edge("odom", "base", 8, 99.2)]) == ()
    T_odom_camera = given_transform(buffer.lookup("odom", "camera", round(99.1 * S)))
    assert np.isclose(T_odom_camera.translation_m[0], 7.6)
    assert given_transform(buffer.lookup("base", "arm", 99 * S)).translation_m[0] == 7
    assert "after the newest" in refused(buffer.lookup("odom", "base", 100 * S)).text


def test_a_looping_recording_is_not_taken_for_repeated_samples() -> None:
    buffer = TransformBuffer()
    stamps_s = [10 + i / 10 for i in range(20)]
    assert buffer.add([edge("a", "b", 1, stamp) for stamp in stamps_s]) == ()
    assert len(buffer.add([edge("a", "b", 2, stamp) for stamp in stamps_s])) == 1
    for stamp in stamps_s:
        T_a_b = given_transform(buffer.lookup("a", "b", round(stamp * S)))
        assert T_a_b.translation_m[0] == 2


def test_one_sample_from_the_far_future_does_not_spoil_its_edge() -> None:
    buffer = buffer_of(edge("a", "b", 1, 1.0), edge("a", "b", 1, 5000.0))
    assert len(buffer.add([edge("a", "b", 3, 1.1), edge("a", "b", 5, 1.3)])) == 1
    T_a_b = given_transform(buffer.lookup("a", "b", round(1.2 * S)))
    assert np.isclose(T_a_b.translation_m[0], 4)


@pytest.mark.parametrize(("back_s", "problems"), [(0.5, 0), (0.51, 1)])
def test_a_sample_is_late_within_the_skew_and_a_jump_beyond(back_s: float, problems: int) -> None:
    buffer = buffer_of(edge("a", "b", 1, 10.0))
    assert len(buffer.add([edge("a", "b", 2, 10.0 - back_s)])) == problems


def test_clearing_what_moves_keeps_what_is_static() -> None:
    buffer = buffer_of(edge("odom", "base", 1, 5), static=(edge("base", "camera"),))
    buffer.clear_dynamic()
    assert buffer.known_frames == ("base", "camera")
    assert buffer.add([edge("world", "base", 1, 1)]) == ()


def test_a_cleared_buffer_starts_over() -> None:
    buffer = buffer_of(edge("a", "b", 1, 100), static=(edge("b", "c"),))
    buffer.clear()
    assert buffer.known_frames == ()
    assert buffer.add([edge("c", "b", 1, 1)]) == ()


# --- bad messages


def test_a_loop_is_left_out_and_the_tree_still_answers() -> None:
    buffer = buffer_of(static=(edge("a", "b"), edge("b", "c")))
    (problem,) = buffer.add([edge("c", "a")], static=True)
    assert "loop (a → c → b → a)" in problem
    given_transform(buffer.lookup("a", "c", 0))


def test_a_frame_keeps_its_first_parent() -> None:
    buffer = buffer_of(static=(edge("a", "c", 1.0),))
    (problem,) = buffer.add([edge("b", "c", 5.0)], static=True)
    assert "'a'" in problem and "'b'" in problem
    assert given_transform(buffer.lookup("a", "c", 0)).translation_m[0] == 1.0


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (edge("a", "a"), "own parent"),
        (edge("", "a"), "without a frame name"),
        (edge("a", "b", math.nan), "NaN"),
        (edge("a", "b", q=(0, 0, 0, 0)), "no length"),
    ],
)
def test_a_bad_transform_is_reported_and_the_rest_is_kept(bad: RigidTransform, word: str) -> None:
    buffer = TransformBuffer()
    (problem,) = buffer.add([bad, edge("x", "y")])
    assert word in problem
    assert buffer.known_frames == ("x", "y")


def test_a_static_edge_does_not_begin_to_move() -> None:
    buffer = buffer_of(static=(edge("a", "b", 1.0),))
    (problem,) = buffer.add([edge("a", "b", 2.0)])
    assert "static" in problem


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.booleans())))
def test_no_message_order_can_hang_a_lookup(edges: list[tuple[str, str, bool]]) -> None:
    buffer = TransformBuffer()
    for parent, child, static in edges:
        buffer.add([edge(parent, child)], static=static)
    for frame_id in "abcdef":
        assert len(buffer.ancestors(frame_id)) < 6
        buffer.lookup("a", frame_id, 0)


def test_threads_may_read_while_others_write() -> None:
    buffer = buffer_of(edge("a", "b", 0, 0))
    stamps = range(1, 400)
    writer = Thread(target=lambda: [buffer.add([edge("a", "b", i, i * 0.01)]) for i in stamps])
    writer.start()
    answers = [buffer.lookup("a", "b", 0) for _ in range(200)]
    writer.join()
    assert all(isinstance(answer, RigidTransform) for answer in answers)
    given_transform(buffer.lookup("a", "b", round(3.995 * S) - S // 100))


# --- which frame

ROBOT = (
    edge("map", "odom"),
    edge("odom", "base_footprint"),
    edge("base_footprint", "base_link"),
    edge("base_link", "panda_link0"),
    edge("panda_link0", "camera"),
)


def test_odom_is_the_fixed_frame_and_never_map() -> None:
    assert continuous_frame(buffer_of(*ROBOT), "camera") == "odom"


def test_an_explicit_preference_comes_first() -> None:
    assert continuous_frame(buffer_of(*ROBOT), "camera", ("panda_link0",)) == "panda_link0"


def test_a_preference_that_is_no_ancestor_is_passed_over() -> None:
    buffer = buffer_of(*ROBOT, edge("base_link", "world"))
    assert continuous_frame(buffer, "camera", ("world",)) == "odom"


def test_an_arm_without_odometry_uses_its_base() -> None:
    buffer = buffer_of(edge("fr3_link0", "camera"), static=(edge("world", "fr3_link0"),))
    assert continuous_frame(buffer, "camera") == "fr3_link0"


@pytest.mark.parametrize("root", ["map", "world"])
def test_a_base_that_moves_without_odometry_is_no_fixed_frame(root: str) -> None:
    buffer = buffer_of(edge(root, "base_link"), static=(edge("base_link", "panda_link0"),))
    buffer.add([edge("panda_link0", "camera")])
    assert continuous_frame(buffer, "camera") is None
    assert continuous_frame(buffer, "camera", ("base_link",)) == "base_link"


def test_of_several_bases_one_that_nothing_moves_is_taken() -> None:
    buffer = buffer_of(edge("base_footprint", "base_link"), edge("base_link", "camera"))
    assert continuous_frame(buffer, "camera") == "base_footprint"


def test_a_base_is_given_up_as_soon_as_it_is_seen_to_move() -> None:
    buffer = buffer_of(static=(edge("base_link", "camera"),))
    assert continuous_frame(buffer, "camera") == "base_link"
    buffer.add([edge("map", "base_link")])
    assert continuous_frame(buffer, "camera") is None
    buffer = buffer_of(edge("odom", "base_link"), static=(edge("base_link", "camera"),))
    assert continuous_frame(buffer, "camera") == "odom"


def test_a_namespaced_odom_is_odom() -> None:
    buffer = buffer_of(edge("map", "r1/odom"), edge("r1/odom", "r1/camera"))
    assert continuous_frame(buffer, "r1/camera") == "r1/odom"


def test_without_known_names_the_root_is_taken() -> None:
    assert continuous_frame(buffer_of(edge("world", "x"), edge("x", "camera")), "camera") == "world"


def test_a_map_that_may_jump_is_not_taken() -> None:
    assert continuous_frame(buffer_of(edge("map", "x"), edge("x", "camera")), "camera") is None


def test_a_map_that_the_camera_is_bolted_to_is_taken() -> None:
    buffer = buffer_of(static=(edge("map", "x"), edge("x", "camera")))
    assert continuous_frame(buffer, "camera") == "map"


def test_an_unknown_camera_has_no_fixed_frame() -> None:
    assert continuous_frame(TransformBuffer(), "camera") is None


@pytest.mark.parametrize("parent", ["camera_color_frame", "camera_link"])
def test_a_body_frame_beside_its_optical_frame_is_refused(parent: str) -> None:
    static = (
        edge("camera_link", "camera_color_frame"),
        edge(parent, "camera_color_optical_frame", 0, 0, OPTICAL),
    )
    refusal = refused(optical_frame_refusal(buffer_of(static=static), "camera_color_frame", 0))
    assert refusal.code is RefusalCode.NOT_OPTICAL
    assert "camera_color_optical_frame" in refusal.text


@pytest.mark.parametrize(
    ("optical", "rotation", "image_frame"),
    [
        ("camera_color_optical_frame", OPTICAL, "camera_color_optical_frame"),
        ("camera_color_optical_frame", (0, 0, 0, 1), "camera_color_frame"),
        ("camera_depth_optical_frame", OPTICAL, "camera_color_frame"),
    ],
    ids=["is optical", "same axes", "another camera's"],
)
def test_a_frame_is_believed_where_nothing_contradicts(
    optical: str, rotation: tuple[float, ...], image_frame: str
) -> None:
    static = (
        edge("camera_link", "camera_color_frame"),
        edge("camera_link", optical, 0, 0, rotation),
    )
    assert optical_frame_refusal(buffer_of(static=static), image_frame, 0) is None
