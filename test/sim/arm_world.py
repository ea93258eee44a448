"""The smallest world for the arm: a table, a cube on it, and time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rynn_brain_ros.geometry import from_matrix
from rynn_brain_ros.sim.arm import ArmActuator
from rynn_brain_ros.sim.panda import BASE_FRAME, FINGERS, HAND, JOINTS, READY, TCP_FRAME, panda_spec
from rynn_brain_ros.sim.world import Controller
from rynn_brain_ros.values import Goal, GoalEvent, GoalEventKind, RigidTransform

mujoco = pytest.importorskip("mujoco")

CUBE_M = 0.04


class ArmOnTable:
    """Physics in steps of 2 ms; ``cube_xy`` is where the cube of 4 cm stands."""

    def __init__(
        self, cube_xy: tuple[float, float] = (0.5, 0.1), control_period_s: float = 0.02
    ) -> None:
        spec, box = panda_spec(), mujoco.mjtGeom.mjGEOM_BOX
        spec.worldbody.add_geom(name="table", type=box, size=(0.6, 0.7, 0.02), pos=(0.4, 0, -0.02))
        cube = spec.worldbody.add_body(name="cube", pos=(*cube_xy, CUBE_M / 2))
        cube.add_freejoint()
        rubber = {"friction": (1.2, 0.01, 0.0005), "condim": 4, "solref": (0.005, 1.0)}
        cube.add_geom(type=box, size=(CUBE_M / 2,) * 3, mass=0.06, **rubber)
        self.model = spec.compile()
        self.data: Any = mujoco.MjData(self.model)
        self.control_period_s = control_period_s
        self._periods, self._controllers = 0, list[Controller]()
        for name, angle in zip(JOINTS, READY, strict=True):
            self.data.joint(name).qpos[0] = self.data.actuator(name).ctrl[0] = angle
        for name in FINGERS:
            self.data.joint(name).qpos[0] = 0.04
        self.data.actuator(HAND).ctrl[0] = 0.08
        mujoco.mj_forward(self.model, self.data)

    @property
    def now_ns(self) -> int:
        return round(self._periods * self.control_period_s * 1e9)

    def add_controller(self, controller: Controller) -> None:
        self._controllers.append(controller)

    def step(self, seconds: float) -> None:
        for _ in range(round(seconds / self.control_period_s)):
            for controller in self._controllers:
                controller(self.control_period_s)
            steps = round(self.control_period_s / self.model.opt.timestep)
            mujoco.mj_step(self.model, self.data, nstep=steps)
            self._periods += 1

    @property
    def joints(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([self.data.joint(name).qpos[0] for name in JOINTS])

    @property
    def tcp_m(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(self.data.site("tcp").xpos)

    @property
    def cube_m(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(self.data.body("cube").xpos)


def until_done(world: ArmOnTable, arm: ArmActuator, goal: Goal) -> list[GoalEvent]:
    """Sends the goal and lets time pass until its last event."""
    arm.send("goal", goal)
    return rest_of(world, arm)


def rest_of(world: ArmOnTable, arm: ArmActuator) -> list[GoalEvent]:
    events: list[GoalEvent] = list(arm.poll())
    for _ in range(1000):
        if events and events[-1].kind.is_final:
            return events
        world.step(world.control_period_s)
        events += arm.poll()
    raise AssertionError(f"no end after {world.now_ns / 1e9:.0f} s: {events[-1:]}")


def succeeds(world: ArmOnTable, arm: ArmActuator, *goals: Goal) -> GoalEvent:
    """All of them, one after the other; the last event."""
    for goal in goals:
        last = until_done(world, arm, goal)[-1]
        assert last.kind is GoalEventKind.SUCCEEDED, last
    return last


def hand_down(x: float, y: float, z: float, yaw: float = 0.0) -> RigidTransform:
    """``T_base_tcp`` with the hand pointing down and the fingers closing across ``yaw``."""
    c, s = math.cos(yaw), math.sin(yaw)
    matrix = np.eye(4)
    matrix[:3, :3] = [[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]]
    matrix[:3, 3] = (x, y, z)
    return from_matrix(matrix, BASE_FRAME, TCP_FRAME)
