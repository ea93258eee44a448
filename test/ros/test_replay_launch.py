"""replay.launch.py with the real `ros2 bag play`: a recording is asked in its own time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("ros2bag", reason="ros2 bag is not installed")
rosbag2_py = pytest.importorskip("rosbag2_py", reason="rosbag2_py is not installed")
if "mcap" not in rosbag2_py.get_registered_readers():
    pytest.skip("rosbag2 reads no mcap: rosbag2_storage_mcap is missing", allow_module_level=True)

from launched import Launched  # noqa: E402
from person import Person  # noqa: E402
from recordings import Item, items, write_items  # noqa: E402
from rynn_brain_ros.msg import GroundingArray  # noqa: E402
from rynn_brain_ros.srv import Ground  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.sim import Tabletop  # noqa: E402
from rynn_brain_ros.sim.tabletop import (  # noqa: E402
    COLOR_TOPIC,
    DEPTH_TOPIC,
    FIXED_FRAME,
    START_NS,
)

PATIENCE_S = 60.0
FIRST_NS, LAST_NS = START_NS, START_NS + 500_000_000
"""Of the two images of ``large_bag``."""
REQUEST = Ground.Request(target="the red cube", kind="object")


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def replayed(bag: Path, folder: Path, *more: str) -> Launched:
    camera = f"color_topic:={COLOR_TOPIC}", f"depth_topic:={DEPTH_TOPIC}"
    return Launched(folder, "replay.launch.py", f"bag:={bag}", *camera, "view:=false", *more)


def stamp_ns(answer: Any) -> int:
    return messages.stamp_ns_of(answer.grounding.header.stamp)


def test_a_bag_shorter_than_the_brains_start_is_seen_to_its_end(
    large_bag: Path, large_scene: Tabletop, tmp_path: Path
) -> None:
    with replayed(large_bag, tmp_path):
        answer = Person(PATIENCE_S).ask_until(
            Ground, "/brain/ground", REQUEST, lambda got: stamp_ns(got) == LAST_NS
        )
    assert answer.success, answer.message
    assert messages.stamp_ns_of(answer.target.header.stamp) == LAST_NS
    assert answer.target.header.frame_id == FIXED_FRAME
    pixel = answer.grounding.target_px
    truth, name = large_scene.surface_at((pixel.x, pixel.y), large_scene.pose_at(LAST_NS))
    place = answer.grounding.point
    assert name == "red cube"
    assert math.dist((place.x, place.y, place.z), truth) < 0.01


def test_the_brain_forgets_when_a_bag_begins_again(large_bag: Path, tmp_path: Path) -> None:
    stamps: list[int] = []

    def began_again(answer: Any) -> bool:
        stamps.append(stamp_ns(answer))
        return LAST_NS in stamps and stamps[-1] == FIRST_NS

    with replayed(large_bag, tmp_path, "loop:=true", "rate:=0.5"):
        Person(PATIENCE_S).ask_until(Ground, "/brain/ground", REQUEST, began_again)


def test_recorded_questions_are_asked_again_and_recorded_answers_are_not_heard(
    large_bag: Path, tmp_path: Path
) -> None:
    old = {"header": messages.header(FIRST_NS, ""), "query_id": "old"}
    asked = {"data": "object: the red cube"}
    said = [
        Item("/brain/groundings", messages.GROUNDING_ARRAY, old, LAST_NS),
        Item("/brain/question", "std_msgs/msg/String", asked, LAST_NS + 50_000_000),
    ]
    bag = write_items(tmp_path / "asked.mcap", [*items(large_bag), *said])
    person = Person(PATIENCE_S)
    heard: list[Any] = []
    person.node.create_subscription(GroundingArray, "/brain/groundings", heard.append, 10)
    with replayed(bag, tmp_path / "log", "rate:=0.5"):
        person.spin_until(lambda: heard, "an answer")
    assert [messages.stamp_ns_of(each.header.stamp) for each in heard] == [LAST_NS]
    assert "old" not in [each.query_id for each in heard]
