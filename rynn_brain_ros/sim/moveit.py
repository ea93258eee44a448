"""Plans for the simulated Panda as MoveIt's move_group gives them: its requests in, joint paths or
its error codes out.

It is no MoveIt: the joints take the straight way through joint space, and where that is blocked
the way over READY. A message is any object with the fields of its ``.msg``; what they mean is told
in moveit_msgs and by MoveIt's own client (``constructGoalConstraints``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.geometry import compose, invert
from rynn_brain_ros.geometry.transforms import normalized
from rynn_brain_ros.sim.kinematics import Kinematics
from rynn_brain_ros.sim.motions import JointPath, PartialPath, point_to_point, straight
from rynn_brain_ros.sim.panda import BASE_FRAME, JOINTS, LOWER, READY, TCP_FRAME, TCP_M, UPPER
from rynn_brain_ros.values import (
    Quaternion,
    Refusal,
    RigidTransform,
    RynnBrainError,
    TransformError,
    Vector3,
)

Floats = NDArray[np.float64]

GROUPS = ("panda_arm", "panda_manipulator")
_HAND_ON_FLANGE = (0.0, 0.0, -0.3826834323650898, 0.9238795325112867)
"""The hand is turned by -45 degrees about the flange's z."""
T_LINK_TCP: Mapping[str, RigidTransform] = {
    "panda_link8": RigidTransform(TCP_FRAME, TCP_FRAME, (0.0, 0.0, TCP_M), _HAND_ON_FLANGE),
    "panda_hand": RigidTransform(TCP_FRAME, TCP_FRAME, (0.0, 0.0, TCP_M)),
    "panda_hand_tcp": RigidTransform(TCP_FRAME, TCP_FRAME),
    TCP_FRAME: RigidTransform(TCP_FRAME, TCP_FRAME),
}
"""Where the tool centre point is on each link that a goal may be for."""
_CHECK_RAD = 0.05
_TRIED = (0.0, 0.25, -0.25, 0.5, -0.5, 0.75, -0.75, 1.0, -1.0)
"""Shares of an orientation tolerance that are tried, the middle first."""
_LOOSE_RAD = 0.1
"""A tolerance below this is met in its middle or not at all."""


class PlanError(RynnBrainError):
    """``code`` is the name of a constant of moveit_msgs/MoveItErrorCodes."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class CartesianPlan:
    """``fraction`` of the way that can be done, along ``path``; ``text`` says why no more."""

    path: JointPath | None
    fraction: float
    text: str = ""


FrameOf = Callable[[str], RigidTransform | None]
"""``T_base_frame`` now, ``None`` for a frame that nobody knows."""


class MoveItPlanner:
    """Plans from ``start`` [7], the joints where the arm rests."""

    def __init__(self, kinematics: Kinematics, frame_of: FrameOf) -> None:
        self._kinematics, self._frame_of = kinematics, frame_of

    def plan(self, request: Any, current: Floats) -> JointPath:
        """For a moveit_msgs/MotionPlanRequest. Raises `PlanError`."""
        began_s = time.monotonic()
        _check_group(request.group_name)
        _check_path_constraints(request.path_constraints)
        start = self._start(request.start_state, current)
        speed = _scaling(request.max_velocity_scaling_factor)
        if not request.goal_constraints:
            raise PlanError("INVALID_GOAL_CONSTRAINTS", "the request has no goal constraints")
        failures = []
        for constraints in request.goal_constraints:
            try:
                path = self._free(start, self._goal(constraints, start), speed)
            except PlanError as failure:
                failures.append(failure)
                continue
            _check_time(request.allowed_planning_time, time.monotonic() - began_s)
            return path
        raise failures[0]

    def cartesian(self, request: Any, current: Floats) -> CartesianPlan:
        """For a moveit_msgs/GetCartesianPath request. Raises `PlanError`."""
        if request.group_name:
            _check_group(request.group_name)
        _check_path_constraints(request.path_constraints)
        start = self._start(request.start_state, current)
        T_link_tcp = _tip(request.link_name or "panda_link8")
        poses = [
            compose(self._pose(request.header.frame_id, pose), T_link_tcp)
            for pose in request.waypoints
        ]
        if not poses:
            return CartesianPlan(None, 0.0, "the request has no waypoints")
        speed = _scaling(getattr(request, "max_velocity_scaling_factor", 0.0))
        path = straight(self._kinematics, start, poses, speed)
        if isinstance(path, PartialPath):
            return CartesianPlan(path.path, path.fraction, path.text)
        return CartesianPlan(path, 1.0)

    # --- where from -------------------------------------------------------------------------------

    def _start(self, state: Any, current: Floats) -> Floats:
        """A state that names joints stands for itself; the others are where they are."""
        start = np.array(current, np.float64)
        for name, position in zip(state.joint_state.name, state.joint_state.position, strict=False):
            if name in JOINTS:
                start[JOINTS.index(name)] = position
        low, high = np.array(LOWER), np.array(UPPER)
        if not np.isfinite(start).all() or ((start < low) | (start > high)).any():
            raise PlanError("START_STATE_INVALID", "the start state is beyond the joints' ranges")
        if hit := self._kinematics.collision(start):
            raise PlanError("START_STATE_IN_COLLISION", f"at the start {hit}")
        return start

    # --- where to ---------------------------------------------------------------------------------

    def _goal(self, constraints: Any, start: Floats) -> Floats:
        if constraints.joint_constraints:
            return self._joint_goal(constraints.joint_constraints, start)
        if not constraints.position_constraints:
            raise PlanError(
                "INVALID_GOAL_CONSTRAINTS",
                "the goal has neither joint constraints nor a position constraint",
            )
        return self._pose_goal(constraints, start)

    def _joint_goal(self, joints: Any, start: Floats) -> Floats:
        goal = np.array(start)
        for joint in joints:
            if joint.joint_name not in JOINTS:
                text = f"the group has no joint '{joint.joint_name}'"
                raise PlanError("INVALID_GOAL_CONSTRAINTS", text)
            index = JOINTS.index(joint.joint_name)
            if not LOWER[index] <= joint.position <= UPPER[index]:
                text = f"{joint.joint_name} cannot be at {joint.position:.3f} rad"
                raise PlanError("INVALID_GOAL_CONSTRAINTS", text)
            goal[index] = joint.position
        if hit := self._kinematics.collision(goal):
            raise PlanError("GOAL_IN_COLLISION", f"at the goal {hit}")
        return goal

    def _pose_goal(self, constraints: Any, start: Floats) -> Floats:
        """The first of the poses within the tolerances that can be reached without a collision."""
        missed, hit = "", ""
        for T_base_tcp in self._poses(constraints, start):
            joints = self._kinematics.search(T_base_tcp, start)
            if isinstance(joints, Refusal):
                missed = missed or joints.text
                continue
            found = self._kinematics.collision(joints)
            if not found:
                return joints
            hit = hit or found
        if hit:
            raise PlanError("GOAL_IN_COLLISION", f"at the goal {hit}")
        raise PlanError("NO_IK_SOLUTION", missed)

    def _poses(self, constraints: Any, start: Floats) -> Iterator[RigidTransform]:
        position = constraints.position_constraints[0]
        T_link_tcp = _tip(position.link_name)
        place = self._place(position)
        o = position.target_point_offset
        offset = RigidTransform(TCP_FRAME, TCP_FRAME, (float(o.x), float(o.y), float(o.z)))
        for rotation in self._rotations(constraints, T_link_tcp, start):
            # The point at `offset` on the link is to be at `place`.
            T_base_point = RigidTransform(BASE_FRAME, TCP_FRAME, place, rotation)
            yield compose(compose(T_base_point, invert(offset)), T_link_tcp)

    def _place(self, constraint: Any) -> Vector3:
        region = constraint.constraint_region
        if len(region.primitive_poses) != 1 or len(region.primitives) != 1:
            text = "a position constraint needs one primitive with its pose"
            raise PlanError("INVALID_GOAL_CONSTRAINTS", text)
        return self._pose(constraint.header.frame_id, region.primitive_poses[0]).translation_m

    def _rotations(
        self, constraints: Any, T_link_tcp: RigidTransform, start: Floats
    ) -> Iterator[Quaternion]:
        """Of the link in the base; as it is now where none is asked for."""
        if not constraints.orientation_constraints:
            yield compose(self._kinematics.forward(start), invert(T_link_tcp)).rotation_xyzw
            return
        wanted = constraints.orientation_constraints[0]
        q = wanted.orientation
        T_frame_link = RigidTransform(
            TCP_FRAME, TCP_FRAME, rotation_xyzw=(float(q.x), float(q.y), float(q.z), float(q.w))
        )
        T_base_link = compose(self._frame(wanted.header.frame_id), _unit(T_frame_link))
        tolerance = min(float(wanted.absolute_z_axis_tolerance), math.pi)
        for share in _TRIED if tolerance > _LOOSE_RAD else (0.0,):
            half = share * tolerance / 2
            turn = (0.0, 0.0, math.sin(half), math.cos(half))
            turned = RigidTransform(TCP_FRAME, TCP_FRAME, rotation_xyzw=turn)
            yield compose(T_base_link, turned).rotation_xyzw

    def _pose(self, frame_id: str, pose: Any) -> RigidTransform:
        p, q = pose.position, pose.orientation
        xyzw = (float(q.x), float(q.y), float(q.z), float(q.w))
        # Only a place is asked for where the quaternion is that of a fresh message.
        xyzw = xyzw if any(xyzw) else (0.0, 0.0, 0.0, 1.0)
        xyz = (float(p.x), float(p.y), float(p.z))
        return compose(
            self._frame(frame_id), _unit(RigidTransform(TCP_FRAME, TCP_FRAME, xyz, xyzw))
        )

    def _frame(self, frame_id: str) -> RigidTransform:
        found = self._frame_of(frame_id or BASE_FRAME)
        if found is None:
            text = f"nothing is known of frame '{frame_id}'"
            raise PlanError("FRAME_TRANSFORM_FAILURE", text)
        return replace(found, parent=BASE_FRAME, child=TCP_FRAME)

    # --- the way ----------------------------------------------------------------------------------

    def _free(self, start: Floats, end: Floats, speed: float) -> JointPath:
        hit = self._hit(start, end)
        if not hit:
            return point_to_point(start, end, speed)
        middle = np.array(READY)
        if self._hit(start, middle) or self._hit(middle, end):
            text = f"on the way {hit}; go there over a place in between"
            raise PlanError("PLANNING_FAILED", text)
        first, second = point_to_point(start, middle, speed), point_to_point(middle, end, speed)
        return JointPath((*first.pieces, *second.pieces))

    def _hit(self, start: Floats, end: Floats) -> str:
        for share in np.linspace(0, 1, 2 + int(np.abs(end - start).max() / _CHECK_RAD)):
            if hit := self._kinematics.collision(start + share * (end - start)):
                return hit
        return ""


def _check_group(name: str) -> None:
    if name not in GROUPS:
        raise PlanError("INVALID_GROUP_NAME", f"no group '{name}'; there is {' and '.join(GROUPS)}")


def _check_path_constraints(constraints: Any) -> None:
    if (
        constraints.joint_constraints
        or constraints.position_constraints
        or (constraints.orientation_constraints or constraints.visibility_constraints)
    ):
        raise PlanError("PLANNING_FAILED", "path constraints are beyond this simulated planner")


def _check_time(allowed_s: float, taken_s: float) -> None:
    if 0 < allowed_s < taken_s:
        text = f"planning took {taken_s:.4f} s; allowed were {allowed_s:.4f} s"
        raise PlanError("TIMED_OUT", text)


def _tip(link: str) -> RigidTransform:
    if link not in T_LINK_TCP:
        raise PlanError(
            "INVALID_LINK_NAME", f"no goals for link '{link}'; use {', '.join(T_LINK_TCP)}"
        )
    return T_LINK_TCP[link]


def _scaling(factor: float) -> float:
    """As move_group has it: what is not above 0 and at most 1 means full speed."""
    return factor if 0.0 < factor <= 1.0 else 1.0


def _unit(pose: RigidTransform) -> RigidTransform:
    try:
        return normalized(pose)
    except TransformError as error:
        raise PlanError("INVALID_GOAL_CONSTRAINTS", str(error)) from error
