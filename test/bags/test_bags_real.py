"""Recordings that nobody here made; counts are those of their NOTICE files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rynn_brain_ros.bags import BagReader, find_cameras

pytestmark = pytest.mark.shared

TALKER = "rosbag2_official/rosbag2_py_mcap_talker"
WBAG = "rosbag2_official/rosbag2_py_mcap_wbag"
SERVICES = "rosbag2_official/rosbag2_tests_mcap_bag_with_topics_and_service_events"
NAV2 = {"/clock": 231, "/cmd_vel_smoothed": 231, "/local_costmap/costmap": 231}
WBAG_COUNTS = dict(
    zip(
        ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH"),
        (804, 742, 742, 753, 804, 772, 731, 726),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("soccer_goal_12", {"/camera/image_raw": 2}),
        ("soccer_goal_12/soccer_goal_12.mcap", {"/camera/image_raw": 2}),
        ("rosbag2js_sample", {"/text": 1, "/fix": 1, "/imu": 1}),
        ("rosbag2js_sample/sample_noimages.db3", {"/text": 1, "/fix": 1, "/imu": 1}),
        ("nav2_cm_moving_obstacle", NAV2),
        ("nav2_cm_moving_obstacle/_tmp_cm_bag_0.mcap.zstd", NAV2),
        ("nebula_vlp16", {}),
        (TALKER, {"/topic": 10, "/rosout": 10}),
        (f"{TALKER}/talker.mcap", {"/topic": 10, "/rosout": 10}),
        (WBAG, WBAG_COUNTS),
        (SERVICES, {"/test_topic1": 1, "/test_topic2": 1}),
    ],
)
def test_every_decodable_message_is_delivered_in_order(shared_data, path, counts):
    with BagReader(shared_data / path) as bag:
        found = [message for message, _ in bag.decoded()]
        assert Counter(message.topic for message in found) == counts
        times = [message.log_time_ns for message in bag.messages()]
        assert times == sorted(times)
        assert len(times) == bag.info().message_count


@pytest.mark.parametrize(
    ("path", "raw", "warning"),
    [
        (SERVICES, 10, "/test_service1/_service_event is skipped"),
        ("nebula_vlp16", 4, "velodyne_msgs/msg/VelodyneScan is not known"),
        ("rosbag2js_sample", 3, "metadata.yaml is missing"),
    ],
)
def test_what_cannot_be_used_is_named_and_still_there_raw(shared_data, path, raw, warning):
    with BagReader(shared_data / path) as bag:
        assert len(list(bag.messages())) == raw
        assert warning in "\n".join(bag.warnings)


@pytest.mark.parametrize("path", ["soccer_goal_12", "nav2_cm_moving_obstacle", TALKER, WBAG])
def test_good_recordings_give_no_warnings(shared_data, path):
    with BagReader(shared_data / path) as bag:
        list(bag.decoded())
        assert bag.warnings == []


def test_real_image_has_its_pixels(shared_data):
    with BagReader(shared_data / "soccer_goal_12") as bag:
        (camera,) = find_cameras(bag.info())
        _, image = next(bag.decoded([camera.color_topic]))
    pixels = image.data.reshape(image.height, image.width, 3)
    assert (image.encoding, pixels.shape, pixels.dtype) == ("rgb8", (480, 640, 3), np.uint8)
    assert pixels.std() > 10
    assert "cannot lift to metres" in camera.problems[0]


def test_type_known_only_from_the_recording_is_decoded(shared_data):
    with BagReader(shared_data / "nav2_cm_moving_obstacle") as bag:
        _, costmap = next(bag.decoded(["/local_costmap/costmap"]))
        assert len(costmap.data) == costmap.metadata.size_x * costmap.metadata.size_y
        assert bag.info().duration_s == pytest.approx(11.5, abs=0.01)
