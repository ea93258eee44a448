"""Bytes between a policy and its clients, checked against openpi's way of writing them."""

from __future__ import annotations

import numpy as np
import pytest
from policy_parts import HORIZON, SPEC, ramp, seeing

msgpack = pytest.importorskip("msgpack", reason="the extra policy is not installed")

from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.values import PolicyError  # noqa: E402
from rynn_brain_ros.vla.wire import (  # noqa: E402
    chunk_from,
    metadata_of,
    pack,
    request_from,
    request_of,
    spec_from,
    unpack,
)


def openpi_array(array: np.ndarray) -> dict[bytes, object]:
    """As openpi's client writes one."""
    return {
        b"__ndarray__": True,
        b"data": array.tobytes(),
        b"dtype": array.dtype.str,
        b"shape": array.shape,
    }


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.array([[1.5, -2.0]], np.float32),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array(7, np.int64),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_is_written_as_openpi_does_and_read_again(array):
    assert pack({"a": array}) == msgpack.packb({"a": openpi_array(array)})
    read = unpack(pack({"a": array}))["a"]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_a_number_of_numpy_is_written_as_openpi_does_and_read_again():
    number = np.float32(1.5)
    openpi = {b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}
    assert pack({"n": number}) == msgpack.packb({"n": openpi})
    assert unpack(pack({"n": number}))["n"] == number


@pytest.mark.parametrize("value", [np.array([object()]), np.array([1j]), np.array(["a"]), object()])
def test_what_is_no_number_is_not_written(value):
    with pytest.raises(PolicyError, match="cannot be written"):
        pack({"a": value})


_HOSTILE = {
    "objects": {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "|O", b"shape": [1]},
    "records": {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<i4,<i4", b"shape": [1]},
    "no such type": {b"__ndarray__": True, b"data": b"", b"dtype": "nonsense", b"shape": [0]},
    "half a description": {b"__ndarray__": True, b"data": b"", b"dtype": "(1,", b"shape": [0]},
    "no such width": {b"__ndarray__": True, b"data": b"", b"dtype": "<f7", b"shape": [0]},
    "too large": {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [1 << 60]},
    "negative": {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [-1]},
    "no shape": {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8"},
    "text": {b"__ndarray__": True, b"data": "12345678", b"dtype": "<f8", b"shape": [1]},
    "overflow": {b"__npgeneric__": True, b"data": 10**9, b"dtype": "|i1"},
}


@pytest.mark.parametrize("array", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_an_array_that_cannot_be_is_refused(array):
    with pytest.raises(PolicyError, match="not msgpack as openpi writes it"):
        unpack(msgpack.packb({"a": array}))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x81", b"\x93\x01\x02\x03", msgpack.packb({1: 2}), b"\x91" * 5000]
)
def test_bytes_that_are_no_map_are_refused(data):
    with pytest.raises(PolicyError, match="a message"):
        unpack(data)


def test_a_policys_promise_survives_the_wire():
    assert spec_from(unpack(pack(metadata_of(SPEC)))) == SPEC


def test_a_policy_without_statistics_is_refused_by_name():
    with pytest.raises(PolicyError, match="no statistics"):
        spec_from({**metadata_of(SPEC), "statistics": None})


def test_a_server_that_is_not_ours_is_refused_by_name():
    with pytest.raises(PolicyError, match="serve it with rynn_brain_ros"):
        spec_from({"reset_pose": [0.0]})


def test_an_observation_survives_the_wire():
    seen = seeing(step="<affordance>", target_point=(0.1, 0.2, 0.3))
    leftover = Leftover(ramp()[:5], 2)
    read, previous = request_from(unpack(pack(request_of(seen, leftover))), SPEC)
    assert (read.instruction, read.step) == (seen.instruction, seen.step)
    assert read.target_point == seen.target_point
    np.testing.assert_array_equal(read.state, seen.state)
    np.testing.assert_array_equal(read.images["wrist"], seen.images["wrist"])
    np.testing.assert_array_equal(previous.actions, leftover.actions)
    assert previous.delay_steps == 2


_GOOD = {
    "observation/state": np.zeros(3, np.float32),
    "observation/images/wrist": np.zeros((4, 6, 3), np.uint8),
    "prompt": "pick up the cup",
}


def test_a_plain_openpi_request_is_enough():
    seen, previous = request_from(_GOOD, SPEC)
    assert (seen.step, seen.target_point, previous) == ("", (), None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"observation/state": np.zeros(4)}, r"observation/state has the shape \[4\].*\[3\]"),
        ({"observation/state": np.array([0.0, np.nan, 0.0])}, "observation/state.*not finite"),
        ({"observation/target_point": np.array([np.inf])}, "target_point.*not finite"),
        (
            {"previous/actions": np.full((2, SPEC.n_dims), np.inf), "previous/delay_steps": 1},
            "previous/actions.*not finite",
        ),
        ({"observation/state": [0.0] * 3}, "observation/state is missing or not an array"),
        ({"observation/images/wrist": None}, "the camera observation/images/wrist is missing"),
        ({"observation/images/wrist": np.zeros((4, 6, 3))}, "float64.*must be RGB, uint8"),
        ({"observation/images/wrist": np.zeros((4, 6), np.uint8)}, "must be RGB, uint8"),
        ({"prompt": 3}, "prompt must be text, not int"),
        ({"previous/actions": np.zeros((5, 2)), "previous/delay_steps": 1}, r"\[any, 3\]"),
        ({"previous/actions": np.zeros((5, 3)), "previous/delay_steps": -1}, "count of steps"),
        ({"previous/actions": np.zeros((5, 3))}, "previous/delay_steps is None"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(change, told):
    with pytest.raises(PolicyError, match=told):
        request_from({**_GOOD, **change}, SPEC)


@pytest.mark.parametrize("actions", [None, np.zeros((HORIZON, 2)), np.zeros(3)])
def test_an_answer_that_is_no_chunk_is_refused(actions):
    with pytest.raises(PolicyError, match="actions"):
        chunk_from({"actions": actions}, SPEC)
