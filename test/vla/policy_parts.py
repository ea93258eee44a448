"""A two-joint robot with a camera and a gripper, a policy for it that does as it is told, and a
clock and a thread that only move when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from rynn_brain_ros.data import Contract, contract_from
from rynn_brain_ros.vla.aiming import NOT_AIMED, Aim
from rynn_brain_ros.vla.chunks import Chunk, Leftover, RuntimeSpec
from rynn_brain_ros.vla.limits import MotionLimits
from rynn_brain_ros.vla.normalization import compute, provenance_of
from rynn_brain_ros.vla.values import Observation

CONTRACT_TEXT = """
robot_type: two_joints
robot_interface: ros2
fps: 10
observations:
  observation.images.wrist:
    channel: {topic: /wrist, type: sensor_msgs/msg/Image}
    align: {strategy: hold, timeline: header}
  observation.state:
    - channel: {topic: /joint_states, type: sensor_msgs/msg/JointState}
      align: {strategy: hold, timeline: header}
      select: [position.a, position.b]
      units: rad
    - channel: {topic: /joint_states, type: sensor_msgs/msg/JointState}
      align: {strategy: hold, timeline: header}
      select: [position.finger]
      gripper: {open: 0.04, closed: 0.0}
actions:
  action:
    - channel: {topic: /commands, type: sensor_msgs/msg/JointState, safety: hold}
      align: {strategy: hold, timeline: header}
      select: [position.a, position.b]
      units: rad
    - channel: {topic: /commands, type: sensor_msgs/msg/JointState, safety: hold}
      align: {strategy: hold, timeline: header}
      select: [position.finger]
      gripper: {open: 0.04, closed: 0.0}
"""
CONTRACT = contract_from(CONTRACT_TEXT)
HORIZON, RATE_HZ = 8, 10.0
LIMITS = MotionLimits((2.0, 2.0, 4.0), (20.0, 20.0, 40.0), (400.0, 400.0, 800.0))
TRAINED_STATES = np.random.default_rng(0).normal((0.0, 1.0, 0.5), (0.5, 0.5, 0.25), (200, 3))
TRAINED_MOVES = np.random.default_rng(1).normal(0.0, (0.5, 0.5, 0.0), (200, 3))
TRAINED = [
    (state, state + np.outer(np.arange(1, HORIZON + 1) / HORIZON, move))
    for state, move in zip(TRAINED_STATES, TRAINED_MOVES, strict=True)
]
"""States, and the chunks [H, 3] that followed: straight ways of the joints."""
POINTS = ((0.4, 0.1, 0.2), (0.6, -0.1, 0.0))


def spec_for(contract: Contract, aim: Aim = NOT_AIMED) -> RuntimeSpec:
    """Of a policy that was trained with this contract, and with target points told as ``aim``."""
    samples = ((*told, POINTS[i % 2][: aim.n]) for i, told in enumerate(TRAINED))
    return RuntimeSpec(HORIZON, compute(samples, provenance_of(contract), aim))


SPEC = spec_for(CONTRACT)
HOME = np.array([0.0, 1.0, 0.5])


def seeing(state: Any = HOME, **changes: Any) -> Observation:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    known: dict[str, Any] = {"images": {"wrist": pixels}, "instruction": "pick up the cup"}
    return Observation(**{**known, "state": np.asarray(state, np.float64), **changes})


def ramp(state: Any = HOME, step_rad: float = 0.01) -> Chunk:
    """[H, 3]: joint a moves on by ``step_rad`` a step, the rest stays."""
    return np.asarray(state) + np.outer(np.arange(1, HORIZON + 1) * step_rad, (1.0, 0.0, 0.0))


class ScriptedPolicy:
    """Remembers what it was asked; answers `ramp`, or what ``answer`` gives or raises."""

    def __init__(self, answer: Callable[[Observation], Chunk] | None = None) -> None:
        self.spec = SPEC
        self.asked: list[tuple[Observation, Leftover | None]] = []
        self.answer = answer or (lambda seen: ramp(seen.state))

    def infer(self, observation: Observation, previous: Leftover | None) -> Chunk:
        self.asked.append((observation, previous))
        return self.answer(observation)


class DrivenClock:
    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class DrivenThread(Executor):
    """Work waits until `work` is called."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    def work(self) -> None:
        for future, job in self._waiting:
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001
                future.set_exception(error)
        self._waiting.clear()
