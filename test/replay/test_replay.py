"""What a replay answers: exactly these fields, true places, never anything later than "now"."""

from __future__ import annotations

import json
import math
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from recordings import (
    CUBE,
    ScriptedEngine,
    answers,
    ask_bag,
    begun_again,
    changed,
    items,
    record_answer,
    replay,
    write_items,
)

from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.geometry import apply
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig, Tolerance, compare_answers, read_answers
from rynn_brain_ros.replay import replay as run_replay
from rynn_brain_ros.sim import Tabletop
from rynn_brain_ros.sim.tabletop import COLOR_TOPIC, FIXED_FRAME, OPTICAL_FRAME, START_NS
from rynn_brain_ros.testing import assert_replay
from rynn_brain_ros.values import InputError, Query, Task

HALF_S = 500_000_000


@pytest.fixture(scope="module")
def run(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert replay(small_bag, out) == 0
    return out


def test_an_answer_has_exactly_its_fields(run: Path):
    (answer,) = answers(run)
    assert list(answer) == [
        *("query_id", "task", "ask", "stamp_ns", "engine", "model", "text", "finish_reason"),
        *("frames", "groundings", "reasoning", "rejected"),
    ]


def test_an_answer_says_what_was_asked_and_when(run: Path):
    (answer,) = answers(run)
    assert answer["query_id"].startswith("q0001-")
    assert (answer["task"], answer["ask"]) == ("affordance", CUBE)
    assert answer["stamp_ns"] == START_NS + 2 * HALF_S
    assert (answer["engine"], answer["finish_reason"]) == ("color-baseline", "stop")
    assert answer["text"].startswith("The red cube is at <affordance> <frame 2>")


def test_an_answer_names_the_frames_that_were_shown(run: Path):
    (answer,) = answers(run)
    assert [f["stamp_ns"] for f in answer["frames"]] == [START_NS + i * HALF_S for i in range(3)]
    assert {f["camera"] for f in answer["frames"]} == {COLOR_TOPIC}
    assert all(len(f["sha256"]) == 64 for f in answer["frames"])


def test_a_grounding_has_exactly_its_fields(run: Path):
    (grounding,) = answers(run)[0]["groundings"]
    assert list(grounding) == [
        *("kind", "label", "frame", "camera", "frame_stamp_ns", "frame_id", "points_norm"),
        *("points_px", "flags", "point_camera_m", "point_fixed_m", "fixed_frame_id"),
        *("points_camera_m", "covariance", "confidence", "refusal", "pose_refusal"),
    ]


def test_a_grounding_is_bound_to_its_frame(run: Path):
    (grounding,) = answers(run)[0]["groundings"]
    assert grounding["kind"] == "affordance"
    assert grounding["frame"] == 2
    assert grounding["frame_stamp_ns"] == START_NS + 2 * HALF_S
    assert grounding["frame_id"] == OPTICAL_FRAME
    ((x, y),), ((u, v),) = grounding["points_norm"], grounding["points_px"]
    assert (u, v) == pytest.approx((x / 1000 * 159, y / 1000 * 119), abs=1e-3)


def test_what_is_unknown_is_null(run: Path):
    (grounding,) = answers(run)[0]["groundings"]
    assert grounding["confidence"] is None
    assert grounding["refusal"] is None
    assert grounding["pose_refusal"] is None


def test_a_covariance_is_symmetric_and_positive(run: Path):
    c = answers(run)[0]["groundings"][0]["covariance"]
    assert len(c) == 9
    assert (c[1], c[2], c[5]) == (c[3], c[6], c[7])
    assert min(c[0], c[4], c[8]) > 0


@pytest.mark.parametrize(
    "question",
    [
        (CUBE, "affordance", "red cube"),
        ("Find the blue ball", "object", "blue ball"),
        ("Free space on the yellow plate", "area", "yellow plate"),
        ("Move the red cube onto the yellow plate", "trajectory", "red cube"),
        ("Grasp the green cylinder", "grasp", "green cylinder"),
    ],
)
def test_the_point_lies_on_the_true_surface(
    question: tuple[str, str, str], large_scene: Tabletop, large_bag: Path, tmp_path: Path
):
    ask, task, thing = question
    assert replay(large_bag, tmp_path, ask=ask, task=task) == 0
    (grounding,) = answers(tmp_path)[0]["groundings"]
    x, y, z = grounding["point_camera_m"]
    k = large_scene.camera_info.k
    pixel = (k[0] * x / z + k[2], k[4] * y / z + k[5])
    pose = large_scene.pose_at(grounding["frame_stamp_ns"])
    truth, found = large_scene.surface_at(pixel, pose)
    assert found == thing
    assert math.dist(truth, (x, y, z)) < 0.005


def test_the_fixed_point_is_the_camera_point_at_the_frames_pose(
    large_scene: Tabletop, large_bag: Path, tmp_path: Path
):
    replay(large_bag, tmp_path)
    (grounding,) = answers(tmp_path)[0]["groundings"]
    pose = large_scene.pose_at(grounding["frame_stamp_ns"])
    wanted = apply(pose, [grounding["point_camera_m"]])[0]
    assert grounding["fixed_frame_id"] == FIXED_FRAME
    assert grounding["point_fixed_m"] == pytest.approx(wanted, abs=1e-6)


def test_what_is_not_there_is_refused(small_bag: Path, tmp_path: Path):
    assert replay(small_bag, tmp_path, ask="Pick up the purple cube") == 0
    (grounding,) = answers(tmp_path)[0]["groundings"]
    assert grounding["kind"] == "no_grounding"
    assert grounding["refusal"]["code"] == "no_grounding"
    assert grounding["point_camera_m"] is None


def test_two_runs_write_the_same_bytes(run: Path, small_bag: Path, tmp_path: Path):
    replay(small_bag, tmp_path)
    assert (tmp_path / "answers.jsonl").read_bytes() == (run / "answers.jsonl").read_bytes()


def test_an_earlier_run_leaves_nothing_in_the_folder(small_bag: Path, tmp_path: Path):
    replay(small_bag, tmp_path, "--every", "0.5")
    replay(small_bag, tmp_path)
    assert len(answers(tmp_path)) == 1
    assert len(list((tmp_path / "overlays").iterdir())) == 1


# --- when ----------------------------------------------------------------------------------------


def shown_s(query: Query) -> list[float]:
    return [(frame.frame.stamp_ns - START_NS) / 1e9 for frame in query.frames]


@pytest.mark.parametrize(
    ("at_s", "shown"), [(0, [0.0]), (0.49, [0.0]), (0.5, [0.0, 0.5]), (0.99, [0.0, 0.5])]
)
def test_at_shows_what_had_been_seen_by_then(
    at_s: float, shown: list[float], small_bag: Path, tmp_path: Path
):
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path, engine, at_s=at_s)
    assert [shown_s(query) for query in engine.queries] == [shown]


def test_every_asks_from_the_first_image_to_the_end(small_bag: Path, tmp_path: Path):
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path, engine, every_s=0.4)
    assert [shown_s(query) for query in engine.queries] == [[0.0], [0.0], [0.0, 0.5]]


@pytest.mark.parametrize("pause_s", [60, 400_000_000])
def test_a_pause_and_a_clock_that_jumps_ahead_are_asked_about_once(
    pause_s: int, small_bag: Path, tmp_path: Path
):
    later = items(small_bag)
    for item in later:
        item.log_ns += pause_s * 10**9
        if item.topic != "/tf":
            item.value.header.stamp.sec += pause_s
    bag = write_items(tmp_path / "pause.mcap", [*items(small_bag), *later])
    engine = ScriptedEngine("Nothing.")
    ask_bag(bag, tmp_path / "out", engine, every_s=0.4)
    now_s = [shown_s(query)[-1] for query in engine.queries]
    assert now_s == [0.0, 0.0, 0.5, 1.0, pause_s, pause_s, pause_s + 0.5]


def test_without_a_time_the_end_is_asked(small_bag: Path, tmp_path: Path):
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path, engine)
    assert [shown_s(query) for query in engine.queries] == [[0.0, 0.5, 1.0]]


def test_a_frame_that_arrives_late_is_not_shown_before(small_bag: Path, tmp_path: Path):
    def delay(item):
        if item.topic == COLOR_TOPIC and item.log_ns == START_NS + HALF_S:
            item.log_ns += 300_000_000
        return item

    engine = ScriptedEngine("Nothing.")
    bag = changed(small_bag, tmp_path / "late.mcap", delay)
    ask_bag(bag, tmp_path / "out", engine, at_s=0.7)
    assert [shown_s(query) for query in engine.queries] == [[0.0]]


def test_depth_may_arrive_after_the_question(small_bag: Path, tmp_path: Path):
    def delay(item):
        if item.topic != COLOR_TOPIC:
            item.log_ns += 150_000_000
        return item

    bag = changed(small_bag, tmp_path / "late.mcap", delay)
    assert replay(bag, tmp_path / "out", "--at", "0.5") == 0
    (grounding,) = answers(tmp_path / "out")[0]["groundings"]
    assert grounding["frame_stamp_ns"] == START_NS + HALF_S
    assert grounding["point_fixed_m"] is not None


def test_images_out_of_order_are_shown_in_order(small_bag: Path, tmp_path: Path):
    swap = {START_NS: START_NS + 40_000_000, START_NS + HALF_S: START_NS + 20_000_000}

    def shuffle(item):
        if item.topic == COLOR_TOPIC and item.log_ns in swap:
            stamp_ns = swap[item.log_ns]
            item.value.header.stamp.sec = stamp_ns // 10**9
            item.value.header.stamp.nanosec = stamp_ns % 10**9
            item.log_ns = START_NS + (100_000_000 if item.log_ns == START_NS else 110_000_000)
        return item if item.log_ns <= START_NS + HALF_S else None

    engine = ScriptedEngine("Nothing.")
    bag = changed(small_bag, tmp_path / "shuffled.mcap", shuffle)
    ask_bag(bag, tmp_path / "out", engine)
    assert shown_s(engine.queries[0])[-1] == 0.04


def test_frames_limits_how_many_are_shown(small_bag: Path, tmp_path: Path):
    replay(small_bag, tmp_path, "--frames", "2")
    (answer,) = answers(tmp_path)
    assert [f["stamp_ns"] for f in answer["frames"]] == [START_NS + HALF_S, START_NS + 2 * HALF_S]


def test_several_questions_are_all_asked_about_the_same_frames(small_bag: Path, tmp_path: Path):
    questions = (Question(CUBE, Task.AFFORDANCE), Question("the blue ball", Task.OBJECT))
    engines = Engines.one(ColorBaselineEngine())
    result = run_replay(small_bag, ReplayConfig(questions), engines, tmp_path)
    first, second = answers(tmp_path)
    assert result.n_answers == 2
    assert first["frames"] == second["frames"]
    assert first["query_id"] != second["query_id"]


# --- comparing -----------------------------------------------------------------------------------


def expectation(run: Path, path: Path, **change: object) -> Path:
    (answer,) = answers(run)
    answer["groundings"][0].update(change)
    path.write_text(json.dumps(answer) + "\n")
    return path


def test_the_same_answers_are_as_expected(run: Path, small_bag: Path, tmp_path: Path, capsys):
    expect = expectation(run, tmp_path / "expect.jsonl")
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 0
    assert "as expected" in capsys.readouterr().out


def test_a_moved_pixel_is_a_drift(run: Path, small_bag: Path, tmp_path: Path, capsys):
    ((u, v),) = answers(run)[0]["groundings"][0]["points_px"]
    expect = expectation(run, tmp_path / "expect.jsonl", points_px=[[u + 5, v]])
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 1
    assert "image points moved by 5 px (allowed 2 px)" in capsys.readouterr().out


def test_a_moved_place_is_a_drift(run: Path, small_bag: Path, tmp_path: Path, capsys):
    x, y, z = answers(run)[0]["groundings"][0]["point_camera_m"]
    expect = expectation(run, tmp_path / "expect.jsonl", point_camera_m=[x, y + 0.03, z])
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 1
    assert "point_camera_m moved by 0.03 m (allowed 0.01 m)" in capsys.readouterr().out


def test_a_move_within_the_tolerance_is_no_drift(run: Path, small_bag: Path, tmp_path: Path):
    ((u, v),) = answers(run)[0]["groundings"][0]["points_px"]
    expect = expectation(run, tmp_path / "expect.jsonl", points_px=[[u + 5, v]])
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect), "--tol-px", "6") == 0


def test_another_question_is_a_drift(run: Path, small_bag: Path, tmp_path: Path, capsys):
    expect = expectation(run, tmp_path / "expect.jsonl")
    out = tmp_path / "out"
    assert replay(small_bag, out, "--expect", str(expect), ask="the blue ball") == 1
    assert "expected the question" in capsys.readouterr().out


def test_a_new_refusal_is_a_drift(run: Path, small_bag: Path, tmp_path: Path, capsys):
    refusal = {"code": "depth_edge", "text": "two surfaces"}
    expect = expectation(run, tmp_path / "expect.jsonl", refusal=refusal)
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 1
    assert "refusal was depth_edge, is none" in capsys.readouterr().out


def test_another_fixed_frame_is_a_drift(run: Path, small_bag: Path, tmp_path: Path, capsys):
    expect = expectation(run, tmp_path / "expect.jsonl", fixed_frame_id="map")
    assert replay(small_bag, tmp_path / "out", "--expect", str(expect)) == 1
    assert "fixed_frame_id was 'map', is" in capsys.readouterr().out


@pytest.mark.parametrize(("turn_deg", "drifts"), [(179.0, 0), (5.0, 0), (80.0, 1)])
def test_a_grasp_that_turned_is_a_drift(turn_deg: float, drifts: int):
    def record(angle_deg: float) -> dict[str, Any]:
        return {"query_id": "q", "task": "grasp", "ask": "it", "text": "", "groundings": [
            {"kind": "contact_point", "points_px": [[1.0, 2.0]], "angle_deg": angle_deg}
        ]}  # fmt: skip

    found = compare_answers([record(0.0)], [record(turn_deg)], Tolerance())
    assert found == ["q: contact_point 0: turned by 80° (allowed 10°)"] * drifts


def test_every_point_of_a_path_counts(small_bag: Path, tmp_path: Path):
    path = "<trajectory> <frame 0>: (400, 700), (450, 700), (500, 700) </trajectory>"
    result = ask_bag(small_bag, tmp_path, ScriptedEngine(path), Task.TRAJECTORY)
    got = read_answers(result.folder / "answers.jsonl")
    want = read_answers(result.folder / "answers.jsonl")
    assert compare_answers(want, got, Tolerance()) == []
    want[0]["groundings"][0]["points_camera_m"][1][2] += 0.1
    (drift,) = compare_answers(want, got, Tolerance())
    assert "points_camera_m moved by 0.1 m" in drift


@pytest.mark.parametrize(("said", "code"), [("Take", 0), ("Push", 1)])
def test_a_plan_that_orders_another_deed_is_a_drift(
    said: str, code: int, small_bag: Path, tmp_path: Path, capsys
):
    def run_of(verb: str) -> Path:
        text = f"{verb} <object> <frame 0>: (400, 400), (600, 600) </object>."
        return record_answer(small_bag, tmp_path / f"{verb}.jsonl", text, Task.PLAN)

    first = ("--engine", f"recorded:{run_of('Pick up')}")
    assert replay(small_bag, tmp_path / "first", *first, task="plan") == 0
    expect = ("--expect", str(tmp_path / "first" / "answers.jsonl"))
    second = ("--engine", f"recorded:{run_of(said)}")
    assert replay(small_bag, tmp_path / "second", *second, *expect, task="plan") == code
    told = "drift: " in capsys.readouterr().out
    assert told == bool(code)


def test_the_expected_answers_are_never_those_that_are_replaced(
    small_bag: Path, tmp_path: Path, capsys
):
    replay(small_bag, tmp_path)
    before = (tmp_path / "answers.jsonl").read_bytes()
    link = tmp_path / "expect.jsonl"
    link.symlink_to(tmp_path / "answers.jsonl")
    for expect in (tmp_path / "answers.jsonl", link):
        assert replay(small_bag, tmp_path, "--expect", str(expect), ask="the blue ball") == 2
        assert "is replaced by this run's own answers" in capsys.readouterr().err
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_line_separators_inside_an_answer_end_no_line(small_bag: Path, tmp_path: Path):
    text = "one\u2028two\u2029three\u0085four"
    ask_bag(small_bag, tmp_path, ScriptedEngine(text), Task.DESCRIBE)
    (answer,) = read_answers(tmp_path / "answers.jsonl")
    assert answer["text"] == text


def test_assert_replay_passes_for_the_same_answers(run: Path, small_bag: Path):
    assert_replay(small_bag, ask=CUBE, task="affordance", expect=run / "answers.jsonl")


def test_assert_replay_fails_with_what_drifted(run: Path, small_bag: Path, tmp_path: Path):
    expect = expectation(run, tmp_path / "expect.jsonl", points_px=[[0.0, 0.0]])
    with pytest.raises(AssertionError, match=r"answered differently:\n.* image points moved by"):
        assert_replay(small_bag, ask=CUBE, task="affordance", expect=expect)


def test_assert_replay_names_the_tasks_that_there_are(run: Path, small_bag: Path):
    with pytest.raises(InputError, match="no task 'x'; there are: object, area"):
        assert_replay(small_bag, ask=CUBE, task="x", expect=run / "answers.jsonl")


def test_a_replay_of_a_run_gives_the_same_groundings(run: Path, tmp_path: Path):
    assert replay(run / "run.mcap", tmp_path) == 0
    (first,), (second,) = answers(run), answers(tmp_path)
    assert second["groundings"] == first["groundings"]
    assert second["query_id"] == first["query_id"]


def test_a_replay_of_a_run_shows_the_same_frames_where_older_ones_were_shown_later(
    small_bag: Path, tmp_path: Path
):
    """Pictures every 0.1 s: what is 0.5 s old at one question was not shown at the one before."""
    more = items(small_bag)
    for item in items(small_bag):
        if item.log_ns != START_NS or item.topic == "/tf":
            continue
        for i in (1, 2, 3, 4, 6, 7, 8, 9):
            again = deepcopy(item)
            again.log_ns += i * HALF_S // 5
            again.value.header.stamp.nanosec += i * HALF_S // 5
            more.append(again)
    bag = write_items(tmp_path / "fast.mcap", more)
    ask_bag(bag, tmp_path / "one", ScriptedEngine("Nothing."), every_s=0.3)
    result = ask_bag(
        tmp_path / "one" / "run.mcap", tmp_path / "two", ScriptedEngine("Nothing."), every_s=0.3
    )
    assert answers(tmp_path / "two") == answers(tmp_path / "one")
    assert result.problems == ()


def test_a_replay_of_a_run_shows_the_same_frames_where_a_clock_was_reset(
    small_bag: Path, tmp_path: Path
):
    bag = begun_again(small_bag, tmp_path / "reset.mcap", COLOR_TOPIC)
    ask_bag(bag, tmp_path / "one", ScriptedEngine("Nothing."), every_s=0.5)
    run = tmp_path / "one" / "run.mcap"
    with BagReader(run) as reader:
        assert sum(1 for _ in reader.messages([COLOR_TOPIC])) == 6
    ask_bag(run, tmp_path / "two", ScriptedEngine("Nothing."), every_s=0.5)
    assert answers(tmp_path / "two") == answers(tmp_path / "one")


def test_a_bag_may_be_moved(run: Path, small_bag: Path, tmp_path: Path):
    moved = shutil.copy(small_bag, tmp_path / "elsewhere.mcap")
    replay(moved, tmp_path / "out")
    assert answers(tmp_path / "out") == answers(run)
