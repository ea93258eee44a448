"""What a run leaves: one bag that every tool opens, pictures, one report; and Ctrl-C keeps it."""

from __future__ import annotations

import re
import weakref
from collections import Counter
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import (
    CUBE,
    ScriptedEngine,
    answers,
    ask_bag,
    final_names,
    items,
    replay,
    write_items,
)
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from rynn_brain_ros.bags import ENDING, PROVENANCE, BagReader
from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig
from rynn_brain_ros.replay import replay as run_replay
from rynn_brain_ros.sim.tabletop import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, START_NS
from rynn_brain_ros.values import EngineError, Frame, Task

ADD, DELETE_ALL = 0, 3
MOVE = "Move the red cube onto the yellow plate"


@pytest.fixture(scope="module")
def run(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trajectory, so that every kind of message is there."""
    out = tmp_path_factory.mktemp("run")
    assert replay(small_bag, out, ask=MOVE, task="trajectory") == 0
    return out


def one(run: Path, topic: str):
    with BagReader(run / "run.mcap") as bag:
        ((_, value),) = bag.decoded([topic])
    return value


def test_the_folder_holds_its_parts_and_nothing_else(run: Path):
    assert sorted(path.name for path in run.iterdir()) == [
        *("answers.jsonl", "overlays", "report.html", "run.json", "run.mcap")
    ]


def test_the_bag_holds_the_inputs_that_were_used_and_what_became_of_them(run: Path):
    with BagReader(run / "run.mcap") as bag:
        counts = {topic.topic: topic.count for topic in bag.info().topics}
    assert counts == {
        "/tf": 22,
        COLOR_TOPIC: 3,
        DEPTH_TOPIC: 3,
        INFO_TOPIC: 3,
        "/rynn_brain/groundings": 1,
        "/rynn_brain/markers": 1,
        "/rynn_brain/target": 1,
        "/rynn_brain/path": 1,
        "/rynn_brain/annotated/compressed": 1,
    }


def test_rosbags_reads_the_bag_with_the_definitions_in_it(run: Path):
    with AnyReader([run / "run.mcap"]) as reader:
        seen = Counter(
            type(reader.deserialize(raw, connection.msgtype)).__name__
            for connection, _, raw in reader.messages()
        )
    assert seen["rynn_brain_ros__msg__GroundingArray"] == 1
    assert seen["visualization_msgs__msg__MarkerArray"] == 1


def test_a_folder_with_the_bag_is_a_rosbag2(run: Path):
    with Reader(run / "run.mcap") as reader:
        assert reader.message_count == 36


def test_the_groundings_say_what_the_answers_say(run: Path):
    (answer,) = answers(run)
    (written,) = answer["groundings"]
    array = one(run, "/rynn_brain/groundings")
    (grounding,) = array.groundings
    assert array.query_id == grounding.query_id == answer["query_id"]
    assert (array.question, array.answer) == (MOVE, answer["text"])
    assert grounding.lifted and grounding.actionable
    place = (grounding.point.x, grounding.point.y, grounding.point.z)
    assert place == pytest.approx(written["point_camera_m"], abs=1e-6)
    assert len(grounding.points) == len(written["points_camera_m"])


def test_the_target_is_in_the_fixed_frame(run: Path):
    (written,) = answers(run)[0]["groundings"]
    pose = one(run, "/rynn_brain/target")
    at = pose.pose.position
    assert pose.header.frame_id == written["fixed_frame_id"]
    assert (at.x, at.y, at.z) == pytest.approx(written["point_fixed_m"], abs=1e-6)
    assert pose.pose.orientation.w == 1.0


def test_the_path_has_every_waypoint(run: Path):
    (written,) = answers(run)[0]["groundings"]
    assert len(one(run, "/rynn_brain/path").poses) == len(written["points_norm"])


def test_questions_of_one_moment_are_shown_together(small_bag: Path, tmp_path: Path):
    questions = [Question(CUBE, Task.AFFORDANCE), Question("the yellow plate", Task.OBJECT)]
    shown = {}
    for name, asked in (("both", questions), ("second", questions[1:])):
        engines = Engines.one(ColorBaselineEngine())
        run_replay(small_bag, ReplayConfig(tuple(asked)), engines, tmp_path / name)
        with BagReader(tmp_path / name / "run.mcap") as bag:
            topics = ["/rynn_brain/markers", "/rynn_brain/annotated/compressed"]
            shown[name] = [(message.topic, value) for message, value in bag.decoded(topics)]
    (_, first), _, (_, second), (_, picture) = shown["both"]
    assert [array.markers[0].action for array in (first, second)] == [DELETE_ALL, ADD]
    texts = [m.text for array in (first, second) for m in array.markers if m.text]
    assert [text.split(",")[0] for text in texts] == ["1 affordance", "2 object"]
    _, (_, alone) = shown["second"]
    u, v = answers(tmp_path / "both")[0]["groundings"][0]["points_px"][0]
    at_cube = np.s_[round(v) - 6 : round(v) + 7, round(u) - 6 : round(u) + 7]
    pixels = [cv2.imdecode(p.data, cv2.IMREAD_COLOR).astype(int)[at_cube] for p in (picture, alone)]
    assert np.abs(pixels[0] - pixels[1]).max() > 60


def test_the_annotated_image_has_the_frames_size(run: Path):
    image = one(run, "/rynn_brain/annotated/compressed")
    assert "jpeg" in image.format
    assert cv2.imdecode(image.data, cv2.IMREAD_COLOR).shape == (120, 160, 3)


def test_the_overlays_have_the_frames_size(run: Path):
    (answer,) = answers(run)
    (overlay,) = (run / "overlays").iterdir()
    assert overlay.name == f"{answer['query_id']}_frame2.png"
    assert cv2.imread(str(overlay)).shape == (120, 160, 3)


def test_the_bag_tells_where_it_comes_from(run: Path, small_bag: Path):
    with BagReader(run / "run.mcap") as bag:
        metadata = bag.info().metadata
    provenance = metadata[PROVENANCE]
    assert provenance["engine"] == provenance["model"] == "color-baseline"
    assert provenance["bag"] == small_bag.name
    assert provenance["camera"] == COLOR_TOPIC
    assert MOVE in provenance["questions"]
    assert metadata[ENDING]["ending"] == "complete"


def test_the_report_is_one_file(run: Path):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert MOVE in page
    links = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", page)
    assert all(link.startswith("data:") for link in links)


def test_the_reports_engine_is_named_for_what_it_is(run: Path):
    assert "not RynnBrain" in (run / "report.html").read_text(encoding="utf-8")


def test_older_pictures_that_were_shown_later_are_no_clock_that_was_set_back(
    small_bag: Path, tmp_path: Path
):
    first = [item for item in items(small_bag) if item.log_ns == START_NS and item.topic != "/tf"]
    more = [deepcopy(first) for _ in range(14)]
    for number, group in enumerate(more):
        for item in group:
            item.log_ns += number * 500_000_000
            item.value.header.stamp.sec += number // 2
            item.value.header.stamp.nanosec = number % 2 * 500_000_000
    bag = write_items(tmp_path / "long.mcap", [item for group in more for item in group])
    policy = SelectionPolicy(fps=0.4)
    ask_bag(bag, tmp_path / "run", ScriptedEngine("Nothing."), every_s=3.0, selection=policy)
    with BagReader(tmp_path / "run" / "run.mcap") as reader:
        assert reader.info().problems == ()


# --- interrupted ---------------------------------------------------------------------------------


class Interrupted(ScriptedEngine):
    """Ctrl-C arrives while the second question is answered."""

    def ask(self, query, on_text=None, cancel=None):
        if self.queries:
            raise KeyboardInterrupt
        return super().ask(query, on_text, cancel)


def test_ctrl_c_keeps_what_was_done(small_bag: Path, tmp_path: Path):
    result = ask_bag(small_bag, tmp_path, Interrupted("Nothing."), every_s=0.5)
    assert (result.complete, result.n_answers) == (False, 1)
    assert final_names(tmp_path) == ["answers.jsonl", "report.html", "run.mcap"]
    assert len(answers(tmp_path)) == 1


def test_an_interrupted_bag_is_whole_and_says_so(small_bag: Path, tmp_path: Path):
    ask_bag(small_bag, tmp_path, Interrupted("Nothing."), every_s=0.5)
    with BagReader(tmp_path / "run.mcap", recover=False) as bag:
        assert bag.info().metadata[ENDING]["ending"] == "interrupted"
        assert sum(1 for _ in bag.decoded(["/rynn_brain/groundings"])) == 1


def test_ctrl_c_while_the_bag_is_played_keeps_what_was_done(small_bag: Path, tmp_path: Path):
    def stop(done_s: float, total_s: float) -> None:
        if done_s > 0.7:
            raise KeyboardInterrupt

    config = ReplayConfig((Question(CUBE, Task.AFFORDANCE),), every_s=0.5)
    engines = Engines.one(ColorBaselineEngine())
    result = run_replay(small_bag, config, engines, tmp_path, progress=stop)
    assert not result.complete
    assert len(answers(tmp_path)) == result.n_answers == 2


def test_progress_says_how_much_there_is(small_bag: Path, tmp_path: Path):
    told = []
    config = ReplayConfig((Question(CUBE, Task.AFFORDANCE),))
    engines = Engines.one(ColorBaselineEngine())
    run_replay(small_bag, config, engines, tmp_path, lambda *seconds: told.append(seconds))
    assert told[0] == (0.0, 1.05)
    assert told[-1] == (1.05, 1.05)


def test_ctrl_c_ends_the_command_with_130(small_bag: Path, tmp_path: Path, capsys, monkeypatch):
    engines = Engines.one(Interrupted("Nothing."))
    monkeypatch.setattr("rynn_brain_ros.cli.replaying.open_engines", lambda *_: engines)
    assert replay(small_bag, tmp_path, "--every", "0.5") == 130
    assert "interrupted after 1 answers; what was done is kept" in capsys.readouterr().out


# --- failed --------------------------------------------------------------------------------------


class Failing(ScriptedEngine):
    def ask(self, query, on_text=None, cancel=None):
        if self.queries:
            raise EngineError("the server is gone")
        return super().ask(query, on_text, cancel)


def test_a_failed_run_keeps_its_records_under_partial_names(small_bag: Path, tmp_path: Path):
    with pytest.raises(EngineError, match="the server is gone"):
        ask_bag(small_bag, tmp_path, Failing("Nothing."), every_s=0.5)
    assert final_names(tmp_path) == []
    assert len((tmp_path / "answers.partial.jsonl").read_text().splitlines()) == 1
    with BagReader(tmp_path / "run.partial.mcap", recover=False) as bag:
        assert bag.info().metadata[ENDING]["ending"] == "interrupted"


class Watching(ScriptedEngine):
    """Knows which of the frames that it was shown are still in memory."""

    def __init__(self) -> None:
        super().__init__("Here: <affordance> <frame 0>: (500, 500) </affordance>")
        self.shown: dict[int, weakref.ref[Frame]] = {}

    def ask(self, query, on_text=None, cancel=None):
        answer = super().ask(query, on_text, cancel)
        self.queries.clear()
        self.shown |= {id(f.frame): weakref.ref(f.frame) for f in query.frames}
        self.alive = sum(ref() is not None for ref in self.shown.values())
        return answer


def test_images_of_answered_questions_are_let_go(small_bag: Path, tmp_path: Path):
    rounds = [items(small_bag) for _ in range(3)]
    for number, one_round in enumerate(rounds):  # the buffer forgets when the stamps jump back
        for item in one_round:
            item.log_ns += number * 2_000_000_000
    bag = write_items(tmp_path / "loop.mcap", [item for r in rounds for item in r])
    engine = Watching()
    ask_bag(bag, tmp_path / "out", engine, every_s=0.5)
    assert len(answers(tmp_path / "out")) > 8
    assert engine.alive <= 3
