from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rynn_brain_ros.bags import interface_definitions, message, normalise_type, typestore
from rynn_brain_ros.values import ConfigError, Task

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
FLOAT = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


def dicts(**fields):
    return st.fixed_dictionaries({}, optional=fields)


HEADER = dicts(stamp=dicts(sec=INT32, nanosec=UINT32), frame_id=TEXT)
POSE = dicts(
    position=dicts(x=FLOAT, y=FLOAT, z=FLOAT), orientation=dicts(x=FLOAT, y=FLOAT, w=FLOAT)
)
EXAMPLES = st.one_of(
    st.tuples(st.just("geometry_msgs/msg/PoseStamped"), dicts(header=HEADER, pose=POSE)),
    st.tuples(
        st.just("sensor_msgs/msg/JointState"),
        dicts(header=HEADER, name=st.lists(TEXT, max_size=3), position=st.lists(FLOAT, max_size=3)),
    ),
    st.tuples(
        st.just("sensor_msgs/msg/Image"),
        dicts(header=HEADER, height=UINT32, encoding=TEXT, data=st.binary(max_size=40)),
    ),
    st.tuples(
        st.just("sensor_msgs/msg/CameraInfo"),
        dicts(k=st.lists(FLOAT, min_size=9, max_size=9), d=st.lists(FLOAT, max_size=5)),
    ),
    st.tuples(
        st.just("nav_msgs/msg/Path"),
        dicts(header=HEADER, poses=st.lists(dicts(header=HEADER, pose=POSE), max_size=3)),
    ),
    st.tuples(st.just("std_msgs/msg/Empty"), dicts()),
    st.tuples(st.just("std_msgs/msg/Bool"), dicts(data=st.booleans())),
)


def assert_holds(value, data) -> None:
    """Every field given in ``data`` is in ``value``."""
    if isinstance(data, dict):
        for name, inner in data.items():
            assert_holds(getattr(value, name), inner)
    elif isinstance(data, list):
        assert len(value) == len(data)
        for inner_value, inner in zip(value, data, strict=True):
            assert_holds(inner_value, inner)
    elif isinstance(data, bytes):
        assert value.tobytes() == data
    else:
        assert value == data


@given(EXAMPLES)
def test_nested_dict_survives_the_wire(example):
    typename, data = example
    store = typestore()
    raw = store.serialize_cdr(message(typename, data), typename)
    assert_holds(store.deserialize_cdr(raw, typename), data)


@pytest.mark.parametrize("typename", sorted(typestore().fielddefs))
def test_every_type_can_be_made_from_nothing_and_serialized(typename):
    if typestore().fielddefs[typename][1]:
        typestore().serialize_cdr(message(typename, {}), typename)


def test_missing_quaternion_is_no_rotation():
    pose = message("geometry_msgs/msg/Pose", {})
    assert (pose.orientation.x, pose.orientation.w) == (0.0, 1.0)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_image_bytes_are_not_copied(make):
    data = make(b"\x01\x02" * 500)
    image = message("sensor_msgs/msg/Image", {"data": data})
    assert np.shares_memory(image.data, np.frombuffer(data, np.uint8))


def test_image_may_be_an_array_with_a_shape():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = message("sensor_msgs/msg/Image", {"data": pixels})
    assert image.data.shape == (24,)
    assert np.shares_memory(image.data, pixels)


def test_numpy_scalars_and_text_enums_become_plain_values():
    point = message("geometry_msgs/msg/Point", {"x": np.float32(0.5), "y": 1, "z": np.int64(2)})
    assert [type(v) for v in (point.x, point.y, point.z)] == [float] * 3
    assert type(message("std_msgs/msg/String", {"data": Task.PLAN}).data) is str
    assert message("std_msgs/msg/Bool", {"data": np.bool_(True)}).data is True


def test_finished_message_may_stand_in_for_a_dict():
    point = message("geometry_msgs/msg/Point", {"x": 1.0})
    assert message("geometry_msgs/msg/PointStamped", {"point": point}).point is point


@pytest.mark.parametrize(
    ("typename", "data", "match"),
    [
        ("geometry_msgs/msg/Point", {"q": 1.0}, "no field 'q'"),
        ("sensor_msgs/msg/Image", {"heigth": 1}, "did you mean 'height'"),
        ("sensor_msgs/msg/Imagee", {}, "did you mean 'sensor_msgs/msg/Image'"),
        ("geometry_msgs/msg/Pose", {"position": {"x": "1"}}, r"Pose\.position\.x must be a float"),
        ("geometry_msgs/msg/Pose", {"position": [1, 2, 3]}, r"position must be a dict"),
        ("std_msgs/msg/UInt8", {"data": 256}, "outside uint8"),
        ("std_msgs/msg/UInt8", {"data": 1.0}, "must be a uint8"),
        ("std_msgs/msg/Bool", {"data": 2}, "must be a bool"),
        ("std_msgs/msg/String", {"data": b"text"}, "must be text"),
        ("sensor_msgs/msg/JointState", {"name": "joint"}, "must be a list"),
        ("sensor_msgs/msg/JointState", {"position": ["a"]}, "array of float64"),
        ("sensor_msgs/msg/Image", {"data": [256]}, "outside 0…255"),
        ("sensor_msgs/msg/Image", {"data": [0.5]}, "array of uint8"),
        ("sensor_msgs/msg/CameraInfo", {"k": [1.0]}, "has 1 elements; the field holds 9"),
        ("builtin_interfaces/msg/Time", {"sec": 2**31}, "outside int32"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_place(typename, data, match):
    with pytest.raises(ConfigError, match=match):
        message(typename, data)


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("sensor_msgs/Image", "sensor_msgs/msg/Image"),
        ("sensor_msgs/msg/Image", "sensor_msgs/msg/Image"),
        ("x/srv/Y_Event", "x/srv/Y_Event"),
        ("", ""),
    ],
)
def test_type_names_get_their_middle_part(written, full):
    assert normalise_type(written) == full


def test_own_interfaces_are_read_from_msg_files(tmp_path):
    (tmp_path / "Spot.msg").write_text("std_msgs/Header header\ngeometry_msgs/Point point\n")
    (tmp_path / "Spots.msg").write_text("# many\nSpot[] spots\nbuiltin_interfaces/Time at\n")
    assert set(interface_definitions(tmp_path)) == {
        "rynn_brain_ros/msg/Spot",
        "rynn_brain_ros/msg/Spots",
    }
    store = typestore(tmp_path)
    data = {"spots": [{"point": {"x": 1.0}}, {}], "at": {"sec": 3}}
    value = message("rynn_brain_ros/Spots", data, store)
    raw = store.serialize_cdr(value, "rynn_brain_ros/msg/Spots")
    back = store.deserialize_cdr(raw, "rynn_brain_ros/msg/Spots")
    assert [spot.point.x for spot in back.spots] == [1.0, 0.0]


def test_interface_that_cannot_be_parsed_is_named(tmp_path):
    (tmp_path / "Bad.msg").write_text("this is no definition !\n")
    with pytest.raises(ConfigError, match="rynn_brain_ros/msg/Bad"):
        typestore(tmp_path)


def test_no_interfaces_are_no_error(tmp_path):
    assert interface_definitions(tmp_path / "nowhere") == {}
