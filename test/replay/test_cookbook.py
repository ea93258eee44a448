"""Real pictures and real RynnBrain answers, through a bag and back to the right frame."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from recordings import answers

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.models import Engines, RecordedAnswer, RecordedEngine
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig, replay
from rynn_brain_ros.values import RecordedAnswerMissingError, Task

pytestmark = pytest.mark.shared

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 500_000_000
TOPIC = "/camera/color/image_raw/compressed"
ASKED = {
    "ocr_cup": Task.DESCRIBE,
    "object_location_video_blue_cloth": Task.OBJECT,
    "object_location_image_microwave": Task.OBJECT,
    "area_location_video_nightstand": Task.AREA,
    "affordance_video_pillow": Task.AFFORDANCE,
    "affordance_image_cabinet": Task.AFFORDANCE,
    "trajectory_video_chopsticks": Task.TRAJECTORY,
    "plan_fork_turn1": Task.PLAN,
}
PLAN_GOAL = "Place the fork in the mug."


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> dict[str, dict[str, Any]]:
    text = (shared_data / "cookbook" / "cases.json").read_text(encoding="utf-8")
    return {case["id"]: case for case in json.loads(text)["cases"]}


def write_bag(folder: Path, case: dict[str, Any], path: Path) -> None:
    """The case's frames as a camera would have recorded them: its own JPEGs at 2 Hz."""
    with BagWriter(path) as bag:
        for index, name in enumerate(case["frames"]):
            stamp_ns = START_NS + index * PERIOD_NS
            jpeg = (folder / name).read_bytes()
            image = messages.compressed_image(jpeg, "jpeg", stamp_ns, "camera_optical_frame")
            bag.write(TOPIC, messages.COMPRESSED_IMAGE, image, stamp_ns)


def recorded(folder: Path, case: dict[str, Any]) -> RecordedEngine:
    """An engine that knows the case's answer to exactly the messages that the authors sent."""

    def part(item: dict[str, Any]) -> Any:
        if item["type"] == "text":
            return item["text"]
        digest = hashlib.sha256((folder / item["image"]).read_bytes()).hexdigest()
        return {"image": f"sha256:{digest}"}

    asked = tuple(
        {"role": message["role"], "content": [part(item) for item in message["content"]]}
        for message in case["messages"]
    )
    return RecordedEngine([RecordedAnswer(case["model"], asked, case["output"])])


def ask_case(shared_data: Path, case: dict[str, Any], work: Path, n: int = 16) -> Path:
    folder = shared_data / "cookbook"
    bag = work / "bag.mcap"
    write_bag(folder, case, bag)
    task = ASKED[case["id"]]
    text = PLAN_GOAL if task is Task.PLAN else case["prompt"].split("\n")[0]
    config = ReplayConfig((Question(text, task),), selection=SelectionPolicy(n=n))
    replay(bag, config, Engines.one(recorded(folder, case)), work / "run")
    return work / "run"


@pytest.mark.parametrize("name", sorted(ASKED))
def test_every_grounding_lands_on_the_stamp_of_the_frame_it_names(
    shared_data: Path, cases: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    case = cases[name]
    run = ask_case(shared_data, case, tmp_path)
    (answer,) = answers(run)
    assert answer["text"] == case["output"]
    wanted = case["parsed"].get("items", [])
    assert len(answer["groundings"]) == len(wanted)
    for got, want in zip(answer["groundings"], wanted, strict=True):
        index = want["frame"] or 0
        assert got["kind"] == want["tag"]
        assert got["points_norm"] == want["points"]
        assert got["frame"] == index
        assert got["frame_stamp_ns"] == START_NS + index * PERIOD_NS
        assert got["refusal"]["code"] == "no_depth"
        picture = cv2.imread(str(shared_data / "cookbook" / case["frames"][index]))
        height, width = picture.shape[:2]
        u, v = got["points_px"][0]
        x, y = want["points"][0]
        assert (u, v) == pytest.approx((x / 1000 * (width - 1), y / 1000 * (height - 1)), abs=1e-3)
        overlays = list((run / "overlays").glob(f"*_frame{index}.png"))
        assert [cv2.imread(str(path)).shape for path in overlays] == [picture.shape]


def test_other_frames_than_the_recorded_ones_are_a_miss_that_says_so(
    shared_data: Path, cases: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(RecordedAnswerMissingError, match="nearest question"):
        ask_case(shared_data, cases["affordance_video_pillow"], tmp_path, n=4)
