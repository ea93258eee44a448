"""From above: x up, y to the left, and everything where it was."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import story_examples as examples

from rynn_brain_ros.values import DriveGoal, ImageError, MotionStage, Stage
from rynn_brain_ros.view.plane import Background, Surroundings, plane_over
from rynn_brain_ros.view.topview import top_view

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in parsed(svg).iter(f"{SVG}text")]


def titles(svg: str) -> list[str]:
    return [node.text or "" for node in parsed(svg).iter(f"{SVG}title")]


def arrows(svg: str) -> list[list[tuple[float, float]]]:
    found = parsed(svg).iter(f"{SVG}polygon")
    return [[tuple(map(float, p.split(","))) for p in n.get("points").split()] for n in found]


def straight(episode, distance_m: float):
    """One drive of this length along x."""
    move = episode.turns[0].moves[0]
    motion = replace(move.motion, stages=(MotionStage(Stage.DRIVE, DriveGoal(distance_m)),))
    turn = replace(episode.turns[0], moves=(replace(move, motion=motion),))
    start_ns = move.outcome.start_ns
    way = [(start_ns + k * 10_000_000, (distance_m * k / 40, 0.0, 0.0)) for k in range(41)]
    return replace(episode, turns=(turn,)), way


def test_x_points_up_and_y_to_the_left():
    plane = plane_over([(0.0, 0.0), (1.0, 1.0)], ())
    (u0, v0), (u1, v1) = plane.at(0.0, 0.0), plane.at(1.0, 1.0)
    assert u1 < u0
    assert v1 < v0


def test_a_metre_is_as_long_in_x_as_in_y():
    plane = plane_over([(0.0, -3.0), (1.0, 1.0)], ())
    (u0, v0), (u1, v1) = plane.at(0.0, 0.0), plane.at(1.0, 1.0)
    assert u0 - u1 == pytest.approx(v0 - v1)


def test_everything_lies_inside_the_map():
    plane = plane_over([(0.2, 0.1)], [(0.0, 2.0, -0.5, 0.4)])
    left, top, width, height = plane.frame
    for x, y in ((0.0, -0.5), (2.0, 0.4), (0.2, 0.1)):
        u, v = plane.at(x, y)
        assert left < u < left + width
        assert top < v < top + height


def test_every_target_carries_its_turns_number():
    svg = top_view(examples.success(), ())
    links = [node.get("href") for node in parsed(svg).iter(f"{SVG}a")]
    assert links == ["#t1", "#t2"]
    assert titles(svg)[0] == "turn 1: pick at 0.486, 0.188 m · done"


def test_a_refused_target_is_a_cross():
    svg = top_view(examples.scene_changed(), ())
    assert "✕ nothing moved" in texts(svg)[-1]
    assert "✕ nothing moved" not in texts(top_view(examples.success(), ()))[-1]


def test_the_way_is_coloured_by_turn():
    episode = examples.success()
    svg = top_view(episode, examples.trace_of(episode))
    strokes = [n.get("stroke") for n in parsed(svg).iter(f"{SVG}polyline")]
    assert len(set(strokes[1::2])) == 2


def test_a_tool_that_stayed_where_it_was_has_no_way_in_the_legend():
    episode = examples.success()
    assert "the tool's way" in texts(top_view(episode, examples.trace_of(episode)))[-1]
    stood = [(stamp_ns, (0.3, 0.0, 0.5)) for stamp_ns, _ in examples.trace_of(episode)]
    assert "the tool's way" not in texts(top_view(episode, stood))[-1]


def test_axes_scale_and_frame_are_labelled():
    labels = texts(top_view(examples.success(), ()))
    assert {"x (forward), m →", "← y (left), m", "panda_link0", "20 cm"} <= set(labels)


def test_the_workspace_is_drawn_where_it_is_given():
    around = Surroundings(workspace_m=(0.2, 0.8, -0.4, 0.4))
    assert "workspace" in texts(top_view(examples.success(), (), around))
    assert "workspace" not in texts(top_view(examples.success(), ()))


def test_a_picture_lies_under_the_map():
    rgb = np.full((40, 60, 3), 90, np.uint8)
    around = Surroundings(background=Background(rgb, (0.0, 0.8, -0.6, 0.6)))
    (image,) = parsed(top_view(examples.success(), (), around)).iter(f"{SVG}image")
    assert float(image.get("width")) / float(image.get("height")) == pytest.approx(1.5, rel=1e-3)


def test_a_background_that_is_no_picture_is_named():
    around = Surroundings(background=Background(np.zeros((4, 4), np.uint8), (0, 1, 0, 1)))
    with pytest.raises(ImageError, match=r"\(4, 4\)"):
        top_view(examples.success(), (), around)


def test_a_drive_has_arrowheads_along_its_heading():
    episode, way = straight(examples.driving(), 1.0)
    tips = arrows(top_view(episode, way))
    assert len(tips) > 3
    assert all(tip[1] < left[1] for tip, left, _, _ in tips)


def test_a_base_that_backs_still_points_forwards():
    episode, way = straight(examples.driving(), -1.0)
    assert all(tip[1] < left[1] for tip, left, _, _ in arrows(top_view(episode, way)))


def test_a_drive_shows_start_and_end_and_no_arm():
    episode = examples.driving()
    labels = texts(top_view(episode, examples.drive_trace(episode)))
    assert {"start", "end"} <= set(labels)
    assert "panda_link0" not in labels


@pytest.mark.parametrize("name", examples.ALL)
def test_no_number_is_missing(name):
    svg = top_view(examples.ALL[name](), [(0, (float("nan"), 0.0, 0.0))])
    assert not re.search(r"\bnan\b|\binf\b", svg)


def test_a_long_way_takes_no_more_room_than_can_be_seen():
    episode, way = straight(examples.driving(), 1.0)
    fine = [(s + k, (x + k * 1e-7, y, z)) for s, (x, y, z) in way for k in range(200)]
    assert len(top_view(episode, fine)) < 2 * len(top_view(episode, way))
