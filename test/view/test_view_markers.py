"""Markers are real visualization_msgs, in the right frame, with honest ellipsoids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pyquaternion import Quaternion
from rosbags.typesys import Stores, get_typestore

from rynn_brain_ros.values import (
    Affordance,
    Area,
    Count,
    Refusal,
    RefusalCode,
    Trajectory,
)
from rynn_brain_ros.view import PALETTE, delete_all, marker_array

POINT = Affordance(0, ((500.0, 500.0),), (0, 1), "affordance")
PATH = Trajectory(0, ((100.0, 900.0), (300.0, 700.0), (600.0, 900.0)), (0, 1), "trajectory")
AREA = Area(0, ((600.0, 600.0), (700.0, 620.0)), (0, 1), "area")
COVARIANCE = (4e-6, 1e-6, 0.0, 1e-6, 9e-6, 2e-6, 0.0, 2e-6, 81e-6)  # as in conftest
ARROW, SPHERE, LINE_STRIP, SPHERE_LIST, TEXT = 0, 2, 4, 7, 9


def markers_of(response, **options):
    """Without the first marker, which deletes those of the answer before."""
    array = marker_array(response.query.query_id, response.lifted, **options)
    assert array["markers"][0] == delete_all()["markers"][0]
    return {"markers": array["markers"][1:]}


def _of(array, kind):
    return [marker for marker in array["markers"] if marker["type"] == kind]


@pytest.mark.parametrize("store", [Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY])
def test_markers_have_exactly_the_fields_of_the_message(make_frame, lift, respond, store):
    types = get_typestore(store).fielddefs

    def check(fields, name):
        if name not in types:
            return
        assert list(fields) == [field for field, _ in types[name][1]], name
        for field, (node, spec) in types[name][1]:
            if node.name == "NAME":
                check(fields[field], spec)
            elif node.name == "SEQUENCE" and spec[0][0].name == "NAME":
                for value in fields[field]:
                    check(value, spec[0][1])

    frame = make_frame()
    array = marker_array("q-1", tuple(lift(g, frame) for g in (POINT, PATH, AREA)))
    check(array, "visualization_msgs/msg/MarkerArray")
    check(delete_all(), "visualization_msgs/msg/MarkerArray")


def test_ids_are_unique_and_names_say_query_and_kind(make_frame, lift, respond):
    frame = make_frame()
    lifted = tuple(lift(g, frame) for g in (POINT, PATH, AREA, POINT))
    markers = markers_of(respond((frame,), lifted))["markers"]
    assert len({marker["id"] for marker in markers}) == len(markers)
    assert {m["ns"] for m in markers} == {"q-1/affordance", "q-1/trajectory", "q-1/area"}


def test_the_ellipsoid_holds_95_percent_of_the_covariance(make_frame, lift, respond):
    frame = make_frame()
    array = markers_of(respond((frame,), (lift(POINT, frame),)))
    ellipsoid = next(m for m in _of(array, SPHERE) if m["color"]["a"] < 0.5)
    o, s = ellipsoid["pose"]["orientation"], ellipsoid["scale"]
    rotation = Quaternion(o["w"], o["x"], o["y"], o["z"]).rotation_matrix
    variances = (np.array([s["x"], s["y"], s["z"]]) / 2) ** 2 / 7.8147
    assert np.allclose(rotation @ np.diag(variances) @ rotation.T, np.reshape(COVARIANCE, (3, 3)))
    assert ellipsoid["pose"]["position"] == {"x": 1.0, "y": 0.0, "z": 0.5}


def test_a_flat_covariance_has_no_axis_of_length_zero(make_frame, lift, respond):
    frame, item = make_frame(), lift(POINT, make_frame(), fixed=False)
    flat = (1e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    target = replace(item.target, covariance_camera_m2=flat)
    item = replace(item, points=(target,), target=target)
    for marker in _of(markers_of(respond((frame,), (item,))), SPHERE):
        assert min(marker["scale"].values()) > 0


def test_the_words_of_a_label_stand_less_than_a_letter_apart(make_frame, lift, respond):
    frame = make_frame()
    (text,) = _of(markers_of(respond((frame,), (lift(POINT, frame),))), TEXT)
    assert 0 < text["scale"]["x"] < text["scale"]["z"]


def test_a_known_pose_puts_markers_into_the_fixed_frame(make_frame, lift, respond):
    frame = make_frame(stamp_ns=5_000_000_007)
    header = {"stamp": {"sec": 5, "nanosec": 7}, "frame_id": "odom"}
    for marker in markers_of(respond((frame,), (lift(POINT, frame),)))["markers"]:
        assert marker["header"] == header
        assert marker["frame_locked"]


def test_an_unknown_pose_leaves_markers_in_the_camera_at_its_stamp(make_frame, lift, respond):
    frame = make_frame(stamp_ns=5_000_000_007)
    header = {"stamp": {"sec": 5, "nanosec": 7}, "frame_id": "front_optical_frame"}
    without = markers_of(respond((frame,), (lift(POINT, frame, fixed=False),)))
    unwanted = markers_of(respond((frame,), (lift(POINT, frame),)), fixed_frame=False)
    for marker in (*without["markers"], *unwanted["markers"]):
        assert marker["header"] == header
        assert not marker["frame_locked"]


def test_a_trajectory_is_a_line_that_ends_in_an_arrow(make_frame, lift, respond):
    frame = make_frame()
    array = markers_of(respond((frame,), (lift(PATH, frame),)))
    (line,), (arrow,), (balls,) = (_of(array, t) for t in (LINE_STRIP, ARROW, SPHERE_LIST))
    assert len(line["points"]) == 3
    assert arrow["points"] == line["points"][-2:]
    opacities = [color["a"] for color in balls["colors"]]
    assert opacities[1] < opacities[0] == opacities[2]  # the mid-air point was not measured


def test_a_refused_grounding_with_a_place_is_grey_and_says_why(make_frame, lift, respond):
    frame, stale = make_frame(), Refusal(RefusalCode.STALE, "the frame is 12 s old")
    lifted = (lift(POINT, frame, refusal=stale, placed=True), lift(AREA, frame, refusal=stale))
    array = markers_of(respond((frame,), lifted))
    assert {marker["ns"] for marker in array["markers"]} == {"q-1/affordance"}
    (text,) = _of(array, TEXT)
    assert "stale" in text["text"]
    assert text["color"]["r"] == text["color"]["g"] == text["color"]["b"]


def test_a_marker_has_the_colour_of_its_grounding(make_frame, lift, respond):
    frame = make_frame()
    array = markers_of(respond((frame,), (lift(POINT, frame), lift(AREA, frame))))
    color = next(m for m in array["markers"] if m["ns"] == "q-1/area")["color"]
    assert tuple(round(color[c] * 255) for c in "rgb") == PALETTE[1]


def test_what_has_no_place_makes_no_marker(make_frame, lift, respond, nan):
    frame = make_frame()
    count = lift(Count(0, (), (0, 1), "counting", count=2), frame, placed=False)
    item = lift(POINT, frame, fixed=False)
    point = replace(item.target, point_camera_m=(nan, 0.0, 1.0))
    broken = replace(item, points=(point,), target=point)
    assert markers_of(respond((frame,), (count, broken))) == {"markers": []}


def test_markers_expire(make_frame, lift, respond):
    frame = make_frame()
    array = markers_of(respond((frame,), (lift(POINT, frame),)), lifetime_s=2.5)
    assert {(m["lifetime"]["sec"], m["lifetime"]["nanosec"]) for m in array["markers"]} == {
        (2, 500_000_000)
    }


@pytest.mark.parametrize("lifetime_s", [0.0, 10.0])
def test_an_answer_takes_the_place_of_the_one_before(make_frame, lift, lifetime_s):
    """Also where it places nothing: the same number and colour would stand in two places."""
    for lifted in ((lift(POINT, make_frame()),), ()):
        first, *own = marker_array("q-2", lifted, lifetime_s=lifetime_s)["markers"]
        assert first == delete_all()["markers"][0]
        assert bool(own) == bool(lifted)
        assert {marker["action"] for marker in own} <= {0}


def test_delete_all_asks_for_just_that():
    (marker,) = delete_all()["markers"]
    assert marker["action"] == 3
