"""Over time: thinking as instants, motion as bars, and how each turn ended."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import story_examples as examples

from rynn_brain_ros.planning.episode import StageTimes
from rynn_brain_ros.view.timeline import timeline

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def titles(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}title")]


@pytest.mark.parametrize("name", examples.ALL)
def test_every_lane_is_named(name):
    assert texts(timeline(examples.ALL[name]())).count("motion") == 1


def test_wall_times_stand_beside_their_instants():
    told = titles(timeline(examples.success()))
    assert "turn 1: look 12 ms" in told
    assert "turn 3: gate 3 ms" in told


def test_a_stage_that_did_not_take_place_has_no_instant():
    episode = examples.success()
    turn = replace(episode.turns[0], times=StageTimes(look_s=0.012))
    told = titles(timeline(replace(episode, turns=(turn,))))
    assert "turn 1: look 12 ms" in told
    assert not any(title.startswith("turn 1: ask") for title in told)


def test_a_motion_is_divided_where_its_stages_began():
    episode = examples.cancelled()
    told = titles(timeline(episode, examples.stages_of(episode)))
    assert [t for t in told if t.startswith(("turn 1: open hand,", "turn 1: approach,"))] == [
        "turn 1: open hand, 1.9 s",
        "turn 1: approach, 1.9 s",
    ]


def test_a_motion_whose_stages_are_unknown_is_one_bar():
    assert "turn 1: pick 2/6, 5.7 s" in titles(timeline(examples.cancelled()))


def test_stages_of_another_turn_divide_nothing():
    episode = examples.cancelled()
    others = [replace(stage, number=7) for stage in examples.stages_of(episode)]
    assert timeline(episode, others) == timeline(episode)


def test_a_refusal_is_marked_in_the_lane_that_refused():
    crosses = [t for t in timeline(examples.scene_changed()).split("<g>") if "#d55e00" in t]
    assert any("turn 1: gate" in part and "<path" in part for part in crosses)
    crosses = [t for t in timeline(examples.absent()).split("<g>") if "#d55e00" in t]
    assert any("turn 1: plan" in part and "<path" in part for part in crosses)


def test_how_a_turn_ended_is_told():
    assert "nothing gripped" in texts(timeline(examples.nothing_gripped()))
    assert "scene_changed" in texts(timeline(examples.scene_changed()))


def test_texts_that_have_no_room_are_left_out():
    """Thirty turns within one bar's width: the numbers stay, the words go."""
    episode = examples.success()
    turns = [replace(episode.turns[0], number=i, stamp_ns=examples.stamp(i / 5)) for i in range(60)]
    crowded = timeline(replace(episode, turns=tuple(turns)))
    assert texts(crowded).count("12 ms") < 60
    assert sum(title.endswith("look 12 ms") for title in titles(crowded)) == 60


@pytest.mark.parametrize("every_s", [0.03, 0.135, 0.24, 0.3])
def test_the_numbers_of_short_turns_stand_apart(every_s: float):
    episode = examples.success()
    stamps = [examples.stamp(i * every_s) for i in range(14)]
    turns = [replace(episode.turns[0], number=i, stamp_ns=at) for i, at in enumerate(stamps)]
    root = ElementTree.fromstring(timeline(replace(episode, turns=tuple(turns))))
    labels = [text for link in root.iter(f"{SVG}a") for text in link.iter(f"{SVG}text")]
    assert len(labels) > 2
    for text, after in pairwise(labels):
        assert float(text.get("x")) + 6.4 * len(text.text) + 3 < float(after.get("x"))


def test_the_axis_counts_the_robots_seconds():
    labels = texts(timeline(examples.success()))
    assert [text for text in labels if text.isdigit()][-7:] == ["0", "2", "4", "6", "8", "10", "12"]


def test_a_task_that_took_no_time_is_still_drawn():
    episode = replace(examples.absent(), turns=(), end_ns=examples.stamp(0))
    assert "Refused" in texts(timeline(episode))


def test_hostile_words_stay_words():
    episode = examples.success()
    turn = examples.pick_turn(0, 0.0)
    step = replace(turn.step, area=turn.step.thing, preposition="<b>&\"'")
    hostile = replace(turn, step=step)
    told = titles(timeline(replace(episode, turns=(hostile,), text="</svg><script>")))
    assert "turn 1: pick <b>&\"'" in told
