"""Small recordings as a recorder leaves them: one camera, seven joints, a hand, commands, marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rynn_brain_ros import messages
from rynn_brain_ros.bags import message
from rynn_brain_ros.data import Contract, MarkEvent, Recorder, contract_from

START_NS = 1_700_000_000_000_000_000
CAMERA, JOINTS, COMMANDS = "/main/color/image_raw/compressed", "/joint_states", "/joint_commands"
JOINT_STATE = "sensor_msgs/msg/JointState"
NAMES = ("a", "b", "finger")
TASK = "put the cube into the bowl"

YAML = """
robot_type: tiny
robot_interface: ros2
fps: 10
observations:
  observation.images.main:
    channel: {topic: /main/color/image_raw/compressed, type: sensor_msgs/msg/CompressedImage}
    align: {strategy: hold, timeline: header}
    rate_hz: 20
  observation.state:
    - channel: {topic: /joint_states, type: sensor_msgs/msg/JointState}
      align: {strategy: linear, timeline: header, delay_ms: 20}
      select: [position.a, position.b]
      units: rad
      rate_hz: 100
    - channel: {topic: /joint_states, type: sensor_msgs/msg/JointState}
      align: {strategy: hold, timeline: header}
      select: [position.finger]
      gripper: {open: 0.04, closed: 0.0}
actions:
  action:
    - channel: {topic: /joint_commands, type: sensor_msgs/msg/JointState, safety: hold}
      align: {strategy: hold, timeline: header}
      select: [position.a, position.b]
    - channel: {topic: /joint_commands, type: sensor_msgs/msg/JointState, safety: hold}
      align: {strategy: hold, timeline: header}
      select: [position.finger]
      gripper: {open: 0.04, closed: 0.0}
"""


def contract(change: Callable[[str], str] = str) -> Contract:
    return contract_from(change(YAML))


def refusing() -> Contract:
    return contract(lambda text: text + "limits: {on_fault: refuse}\n")


@dataclass(frozen=True)
class Sent:
    """A message on its way to the recorder. ``late_s``: how long it travels."""

    topic: str
    typename: str
    data: dict[str, Any]
    stamp_ns: int
    late_s: float = 0.0

    @property
    def received_ns(self) -> int:
        return self.stamp_ns + round(self.late_s * 1e9)


def ns(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def picture(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG whose brightness tells its number."""
    image = np.full((size[1], size[0], 3), 20 + number * 7 % 200, np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def camera(number: int, at_s: float, size: tuple[int, int] = (64, 48)) -> Sent:
    data = messages.compressed_image(picture(number, size), "jpeg", ns(at_s), "camera")
    return Sent(CAMERA, messages.COMPRESSED_IMAGE, data, ns(at_s), late_s=0.015)


def joints(topic: str, at_s: float, values: dict[str, float], late_s: float = 0.002) -> Sent:
    data = {
        "header": messages.header(ns(at_s), ""),
        "name": list(values),
        "position": list(values.values()),
        "velocity": [],
        "effort": [],
    }
    return Sent(topic, JOINT_STATE, data, ns(at_s), late_s)


def hand(at_s: float) -> float:
    """Open for half a second, closed for half a second."""
    return 0.04 if at_s % 1.0 < 0.5 else 0.0


def sent(seconds: float = 2.0, begin_s: float = 0.0) -> list[Sent]:
    """Everything of one demonstration. Joints come in an order that is not kinematic, and the
    rates of camera, states and commands differ."""
    found = [camera(i, begin_s + i / 20) for i in range(round(seconds * 20) + 1)]
    for i in range(round(seconds * 100) + 1):
        t = begin_s + i / 100
        found.append(joints(JOINTS, t, {"finger": hand(t), "b": -t, "a": t * t}))
    for i in range(round(seconds * 50) + 1):
        t = begin_s + i / 50
        found.append(joints(COMMANDS, t, {"a": t * t + 0.1, "b": -t, "finger": hand(t)}))
    return sorted(found, key=lambda one: one.received_ns)


def decoded(one: Sent) -> Any:
    return message(one.typename, one.data)


def record(
    path: Path,
    items: list[Sent],
    kind: Contract | None = None,
    marks: tuple[tuple[float, str, str], ...] | None = None,
) -> Path:
    """``marks``: (time in seconds, event, task); without them one success from end to end."""
    end_s = (items[-1].received_ns - START_NS) / 1e9 + 0.03
    waiting = list(((0.0, "start", TASK), (end_s, "success", "")) if marks is None else marks)
    with Recorder(path, kind or contract(), {"by": "a test"}) as recorder:
        for one in [*items, None]:
            while waiting and (one is None or ns(waiting[0][0]) <= one.received_ns):
                at_s, event, task = waiting.pop(0)
                if event == "start":
                    recorder.start(task, ns(at_s))
                else:
                    recorder.end(MarkEvent(event), ns(at_s))
            if one is not None:
                recorder.receive(one.topic, one.typename, decoded(one), one.received_ns)
    return path


def changed(items: list[Sent], change: Callable[[Sent], Sent | None]) -> Iterator[Sent]:
    for one in items:
        new = change(one)
        if new is not None:
            yield new


def with_position(one: Sent, **values: float) -> Sent:
    """A joint message with other positions."""
    names = one.data["name"]
    positions = [values.get(n, p) for n, p in zip(names, one.data["position"], strict=True)]
    return replace(one, data={**one.data, "position": positions})
