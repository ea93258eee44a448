"""The simulated arm as an `Actuator`: takes goals, moves within limits, reports as a real one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry.transforms import normalized
from rynn_brain_ros.sim.jobs import GripJob, Job, MoveJob, grip_problem
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.motions import JointPath, PartialPath, Timed, point_to_point, straight
from rynn_brain_ros.sim.panda import BASE_FRAME, READY, TCP_SITE
from rynn_brain_ros.sim.rendering import load_mujoco
from rynn_brain_ros.sim.servos import Peaks, Servos
from rynn_brain_ros.sim.world import Controller
from rynn_brain_ros.values import (
    FollowGoal,
    Goal,
    GoalEvent,
    GoalEventKind,
    GripGoal,
    PostureGoal,
    ReachGoal,
    Refusal,
    RigidTransform,
    TransformError,
)

Floats = NDArray[np.float64]

POSTURES = {"ready": READY}
FEEDBACK_S = 0.1
_CHECK_RAD = 0.05
"""A free motion is looked at for collisions this densely."""


class ArmWorld(Protocol):
    """The part of a `World` that the arm needs; ``model`` and ``data`` are MuJoCo's."""

    model: Any
    data: Any

    @property
    def now_ns(self) -> int: ...

    def add_controller(self, controller: Controller) -> None: ...


class _Rejected(Exception):  # noqa: N818
    """A goal that is not taken: why, and how much of its path there is."""

    def __init__(self, text: str, values: tuple[tuple[str, float], ...] = ()) -> None:
        super().__init__(text)
        self.text, self.values = text, values


class ArmActuator:
    """An `Actuator` for the Panda and its hand: one goal in flight, for both.

    It rejects what it cannot do whole, with the reason and, for a straight path, its
    ``fraction``. It succeeds when the tool has come to rest within `SETTLED_M` and `SETTLED_RAD`.
    When something pushes a link with more than `THRESHOLD_N`, it brakes, backs off and aborts.
    The same goals at the same times make the same motions.
    """

    name = "panda"
    goals: frozenset[type[Goal]] = frozenset({ReachGoal, FollowGoal, PostureGoal, GripGoal})

    def __init__(self, world: ArmWorld) -> None:
        self._world, self._mj = world, load_mujoco()
        self._kinematics = Kinematics(world.model)
        self._servos = Servos(world.model, world.data)
        self._events: list[GoalEvent] = []
        self._goal_id, self._told_s = "", 0.0
        self._job: Job | None = None
        world.add_controller(self._control)

    @property
    def commanded(self) -> Floats:
        """Where the joints are told to be, [7] rad; where they are, at rest."""
        return self._servos.commanded

    @property
    def peaks(self) -> Peaks:
        """Of all joint commands so far."""
        return self._servos.peaks

    # --- goals ----------------------------------------------------------------------------------

    def send(self, goal_id: str, goal: Goal) -> None:
        self._begin(goal_id, lambda: self._job_for(goal))

    def follow(self, goal_id: str, path: Timed) -> None:
        """As `send`, for joints that somebody else has planned: they are moved as they are told,
        within no limits but the servos'."""
        self._begin(goal_id, lambda: self._move(path))

    def _begin(self, goal_id: str, make: Callable[[], Job]) -> None:
        try:
            if self._job is not None:
                raise _Rejected(f"goal '{self._goal_id}' is still in flight; cancel it first")
            job = make()
        except _Rejected as no:
            self._tell(goal_id, GoalEventKind.REJECTED, 0.0, no.text, no.values)
            return
        self._goal_id, self._job, self._told_s = goal_id, job, 0.0
        self._tell(goal_id, GoalEventKind.ACCEPTED, 0.0)

    def cancel(self, goal_id: str) -> None:
        if self._job is not None and goal_id == self._goal_id:
            self._job.cancel()

    def stop(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def poll(self) -> tuple[GoalEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    # --- planning -------------------------------------------------------------------------------

    def _job_for(self, goal: Goal) -> Job:
        if isinstance(goal, GripGoal):
            if problem := grip_problem(goal):
                raise _Rejected(problem)
            return GripJob(self._world.model, self._world.data, goal)
        if not isinstance(goal, ReachGoal | FollowGoal | PostureGoal):
            raise _Rejected(f"an arm cannot do a {type(goal).__name__}")
        if not 0.0 < goal.speed <= 1.0:
            raise _Rejected(f"a speed of {goal.speed:g} is not above 0 and at most 1")
        return self._move(self._path_for(goal))

    def _move(self, path: Timed) -> Job:
        end = self._kinematics.forward(path.position(path.duration_s))
        model, data = self._world.model, self._world.data
        return MoveJob(model, data, self._servos, path, lambda: self._miss(end))

    def _path_for(self, goal: ReachGoal | FollowGoal | PostureGoal) -> JointPath:
        if isinstance(goal, PostureGoal):
            if goal.name not in POSTURES:
                raise _Rejected(f"no posture '{goal.name}'; there are: {', '.join(POSTURES)}")
            return self._free(np.array(POSTURES[goal.name]), goal.speed)
        if isinstance(goal, FollowGoal):
            return self._straight(goal.path, goal.speed)
        if goal.straight:
            return self._straight((goal.T_base_tcp,), goal.speed)
        pose = _checked(goal.T_base_tcp)
        joints = self._kinematics.search(pose, self._servos.commanded)
        if isinstance(joints, Refusal):
            raise _Rejected(str(joints))
        return self._free(joints, goal.speed)

    def _free(self, end: Floats, speed: float) -> JointPath:
        start = self._servos.commanded
        for share in np.linspace(0, 1, 2 + int(np.abs(end - start).max() / _CHECK_RAD))[1:]:
            if hit := self._kinematics.collision(start + share * (end - start)):
                raise _Rejected(
                    f"after {share:.0%} of the way {hit}; go there over a place in between"
                )
        return point_to_point(start, end, speed)

    def _straight(self, poses: tuple[RigidTransform, ...], speed: float) -> JointPath:
        if not poses:
            raise _Rejected("a path without poses")
        checked = [_checked(pose) for pose in poses]
        path = straight(self._kinematics, self._servos.commanded, checked, speed)
        if isinstance(path, PartialPath):
            text = f"only {path.fraction:.0%} of the straight path can be done: {path.text}"
            raise _Rejected(text, (("fraction", path.fraction),))
        return path

    # --- control --------------------------------------------------------------------------------

    def _control(self, dt_s: float) -> None:
        if self._job is None:
            return
        report = self._job.advance(dt_s)
        if report is not None:
            kind, text, values = report
            done = 1.0 if kind is GoalEventKind.SUCCEEDED else self._job.fraction
            self._job = None
            self._tell(self._goal_id, kind, done, text, values)
            return
        self._told_s += dt_s
        if self._told_s >= FEEDBACK_S - 1e-9:
            self._told_s = 0.0
            self._tell(self._goal_id, GoalEventKind.FEEDBACK, self._job.fraction)

    def _miss(self, goal: RigidTransform) -> tuple[float, float]:
        """Metres and radians between the tool, as measured, and the goal."""
        site = self._world.data.site(TCP_SITE)
        x, y, z, w = goal.rotation_xyzw
        here, turn = np.zeros(4), np.zeros(3)
        self._mj.mju_mat2Quat(here, site.xmat)
        self._mj.mju_subQuat(turn, here, np.array((w, x, y, z)))
        off_m = float(np.linalg.norm(site.xpos - goal.translation_m))
        return off_m, float(np.linalg.norm(turn))

    def _tell(
        self,
        goal_id: str,
        kind: GoalEventKind,
        fraction: float,
        text: str = "",
        values: tuple[tuple[str, float], ...] = (),
    ) -> None:
        now_ns = self._world.now_ns
        self._events.append(GoalEvent(goal_id, kind, now_ns, fraction, text, values))


def _checked(pose: RigidTransform) -> RigidTransform:
    """With a quaternion of length 1; rejects what is not a pose in the base frame."""
    if pose.parent != BASE_FRAME:
        raise _Rejected(f"the pose is in '{pose.parent}'; transform it to '{BASE_FRAME}' first")
    if not all(math.isfinite(v) for v in (*pose.translation_m, *pose.rotation_xyzw)):
        raise _Rejected("the pose holds a value that is not a finite number")
    try:
        return normalized(pose)
    except TransformError as error:
        raise _Rejected(str(error)) from error
