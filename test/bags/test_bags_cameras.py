from __future__ import annotations

from pathlib import Path

import pytest

from rynn_brain_ros.bags import BagInfo, TopicInfo, find_cameras

TYPES = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "compressedDepth": "sensor_msgs/msg/CompressedImage",
    "points": "sensor_msgs/msg/PointCloud2",
}


def info(*topics: str, empty: tuple[str, ...] = ()) -> BagInfo:
    rows = tuple(
        TopicInfo(
            topic,
            TYPES.get(topic.rpartition("/")[2], "sensor_msgs/msg/Image"),
            0 if topic in empty else 5,
        )
        for topic in topics
    )
    return BagInfo(Path("x"), "mcap", 0, 1, 5 * len(rows), None, rows)


def only(*topics: str, encodings=None, empty=()):
    (camera,) = find_cameras(info(*topics, empty=empty), encodings and encodings.get)
    return camera


@pytest.mark.parametrize(
    ("color", "color_info", "depth", "depth_info", "registered"),
    [
        ("/camera/camera/color/image_raw", "/camera/camera/color/camera_info",
         "/camera/camera/aligned_depth_to_color/image_raw",
         "/camera/camera/aligned_depth_to_color/camera_info", True),
        ("/camera/color/image_raw", "/camera/color/camera_info",
         "/camera/depth/image_rect_raw", "/camera/depth/camera_info", False),
        ("/camera/rgb/image_raw", "/camera/rgb/camera_info",
         "/camera/depth_registered/image_raw", "/camera/depth_registered/camera_info", True),
        ("/zed/zed_node/rgb/image_rect_color", "/zed/zed_node/rgb/camera_info",
         "/zed/zed_node/depth/depth_registered", "/zed/zed_node/depth/camera_info", True),
        ("/zed/zed_node/rgb/color/rect/image", "/zed/zed_node/rgb/color/rect/camera_info",
         "/zed/zed_node/depth/depth_registered", "/zed/zed_node/depth/camera_info", True),
        ("/camera/left/color/image_raw", "/camera/left/color/camera_info",
         "/camera/left/depth/image_rect_raw", "/camera/left/depth/camera_info", False),
        ("/c/rgb/image_raw", "/c/rgb/camera_info",
         "/c/depth/image_unregistered", "/c/depth/camera_info", False),
        ("/rgb/image_raw", "/rgb/camera_info",
         "/depth_to_rgb/image_raw", "/depth_to_rgb/camera_info", True),
        ("/camera/image_raw", "/camera/camera_info",
         "/camera/depth/image_raw", "/camera/depth/camera_info", False),
        ("/cam/image", "/cam/camera_info", "/cam/depth_image", "/cam/camera_info", False),
    ],
)  # fmt: skip
def test_usual_names_form_one_camera(color, color_info, depth, depth_info, registered):
    camera = only(color, color_info, depth, depth_info, "/x/points")
    assert (camera.color_topic, camera.color_info_topic) == (color, color_info)
    assert (camera.depth_topic, camera.depth_info_topic) == (depth, depth_info)
    assert camera.depth_registered is registered
    assert camera.can_lift
    assert camera.problems == ()


def test_registered_depth_is_preferred():
    camera = only(
        "/c/color/image_raw",
        "/c/depth/image_rect_raw",
        "/c/aligned_depth_to_color/image_raw",
        "/c/color/camera_info",
    )
    assert camera.depth_topic == "/c/aligned_depth_to_color/image_raw"


def test_raw_is_preferred_to_compressed_and_rectified():
    camera = only("/c/image_rect", "/c/image_raw/compressed", "/c/image_raw", "/c/camera_info")
    assert (camera.color_topic, camera.color_compressed) == ("/c/image_raw", False)


def test_stream_without_messages_is_taken_last():
    camera = only("/c/image_raw/compressed", "/c/image_raw", empty=("/c/image_raw",))
    assert (camera.color_topic, camera.color_compressed) == ("/c/image_raw/compressed", True)
    camera = only("/c/image_raw", empty=("/c/image_raw",))
    assert "/c/image_raw has no messages" in camera.problems


def test_compressed_streams_keep_their_calibration():
    camera = only(
        "/c/color/image_raw/compressed",
        "/c/color/camera_info",
        "/c/depth/image_raw/compressedDepth",
        "/c/depth/camera_info",
    )
    assert camera.color_compressed and camera.depth_compressed
    assert camera.depth_topic == "/c/depth/image_raw/compressedDepth"
    assert camera.can_lift


def test_calibration_of_the_camera_serves_its_colour_stream():
    camera = only("/c/color/image_raw", "/c/camera_info")
    assert camera.color_info_topic == "/c/camera_info"


def test_camera_without_calibration_can_show_but_not_lift():
    camera = only("/c/image_raw", "/c/depth/image_raw", "/c/depth/camera_info")
    assert camera.can_show and not camera.can_lift
    assert "can show points, cannot lift to metres" in camera.problems[0]


def test_camera_without_depth_says_so():
    camera = only("/c/image_raw", "/c/camera_info")
    assert not camera.can_lift
    assert "no depth image" in camera.problems[0]


def test_camera_of_depth_alone_has_nothing_to_show():
    camera = only("/c/depth/image_raw", "/c/depth/camera_info")
    assert camera.color_topic is None and not camera.can_show
    assert "nothing to show" in camera.problems[0]


def test_word_depth_in_the_name_of_a_camera_does_not_make_its_colour_depth():
    camera = only("/depth_camera/color/image_raw", "/depth_camera/depth/image_raw")
    assert camera.color_topic == "/depth_camera/color/image_raw"


def test_first_message_decides_where_the_name_does_not():
    topics = ("/oak/rgb/image_raw", "/oak/stereo/image_raw", "/oak/rgb/camera_info")
    camera = only(*topics, encodings={"/oak/stereo/image_raw": "16UC1"})
    assert camera.color_topic == "/oak/rgb/image_raw"
    assert camera.depth_topic == "/oak/stereo/image_raw"


@pytest.mark.parametrize(
    ("encodings", "depth"),
    [
        (None, "/c/stereo/image_raw"),
        ({"/c/rgb/image_raw": "rgb8"}, "/c/stereo/image_raw"),
        ({"/c/stereo/image_raw": "bgr8"}, None),
    ],
)
def test_stereo_is_depth_where_no_message_says_otherwise(encodings, depth):
    camera = only("/c/rgb/image_raw", "/c/stereo/image_raw", encodings=encodings)
    assert (camera.color_topic, camera.depth_topic) == ("/c/rgb/image_raw", depth)


def test_several_cameras_are_kept_apart_and_the_most_able_is_first():
    cameras = find_cameras(
        info(
            "/a/image_raw",
            "/b/color/image_raw",
            "/b/color/camera_info",
            "/b/depth/image_raw",
            "/b/depth/camera_info",
            "/b/infra1/image_rect_raw",
        )
    )
    assert [camera.name for camera in cameras] == ["b", "a", "b/infra1"]


def test_recording_without_images_has_no_cameras():
    assert find_cameras(info("/x/points", "/x/camera_info")) == ()


def test_pictures_that_were_drawn_for_people_are_no_cameras():
    drawn = ("/view/annotated", "/view/panel/compressed", "/rynn_brain/annotated/compressed")
    assert only("/front/color/image_raw", *drawn).name == "front"


ZED = "/zed/zed_node"
ZED_TOPICS = (
    *(f"{ZED}/{lens}/color/rect/image" for lens in ("rgb", "left", "right")),
    *(f"{ZED}/{lens}/color/rect/camera_info" for lens in ("rgb", "left", "right")),
    f"{ZED}/rgb/color/rect/image/compressed",
    f"{ZED}/rgb/gray/rect/image",
    f"{ZED}/rgb/gray/rect/camera_info",
    f"{ZED}/depth/depth_registered",
    f"{ZED}/depth/camera_info",
    f"{ZED}/confidence/confidence_map",
)


def test_folders_of_zeds_wrapper_are_kinds_of_one_picture():
    cameras = find_cameras(info(*ZED_TOPICS))
    assert [camera.name for camera in cameras] == [
        *("zed/zed_node", "zed/zed_node/left", "zed/zed_node/right")
    ]
    best = cameras[0]
    assert best.color_topic == f"{ZED}/rgb/color/rect/image"
    assert best.color_info_topic == f"{ZED}/rgb/color/rect/camera_info"
    assert best.depth_topic == f"{ZED}/depth/depth_registered"
    assert best.depth_registered and best.problems == ()
    (variant,) = best.variants
    assert variant.color_topic == f"{ZED}/rgb/color/rect/image/compressed"
    assert variant.color_info_topic == best.color_info_topic
    assert cameras[1].color_info_topic == f"{ZED}/left/color/rect/camera_info"


def test_zeds_rectified_picture_is_preferred_since_depth_belongs_to_it():
    raw = (f"{ZED}/rgb/color/raw/image", f"{ZED}/rgb/color/raw/camera_info")
    camera = find_cameras(info(*raw, *ZED_TOPICS))[0]
    assert camera.color_topic == f"{ZED}/rgb/color/rect/image"
    (variant,) = [v for v in camera.variants if v.color_topic == raw[0]]
    assert variant.color_info_topic == raw[1]


def test_a_grey_camera_of_its_own_is_a_camera():
    assert only("/gray/image_raw").color_topic == "/gray/image_raw"


def test_every_way_to_see_a_camera_is_kept():
    camera = only("/c/image_rect_color", "/c/image_raw/compressed", "/c/camera_info")
    assert camera.color_topic == "/c/image_rect_color"
    (other,) = camera.variants
    assert (other.color_topic, other.color_compressed) == ("/c/image_raw/compressed", True)
    assert other.color_info_topic == "/c/camera_info"
