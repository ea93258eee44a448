"""Grippers: width and force as control_msgs or franka_msgs goals, and the width that was reached.

A hand that closes on something and stops there has done well. Who reports no width has not told
whether it holds anything, and that is a failure, not a guess.
"""

from __future__ import annotations

import math
from typing import Any

from rynn_brain_ros.actuators.calls import (
    Call,
    GoalFailed,
    Plan,
    Reply,
    Values,
    succeeded,
    within,
)
from rynn_brain_ros.actuators.profile import GripperProfile
from rynn_brain_ros.values import GoalEventKind, GripGoal

GRIPPER_COMMAND = "control_msgs/action/GripperCommand"
PARALLEL_GRIPPER = "control_msgs/action/ParallelGripperCommand"
GRASP = "franka_msgs/action/Grasp"
MOVE = "franka_msgs/action/Move"
HOMING = "franka_msgs/action/Homing"

MAX_FORCE_N = 1000.0
_REACHED_M = 0.003
_ENDED_AT = (GoalEventKind.SUCCEEDED, GoalEventKind.ABORTED)


def grip_call(goal: GripGoal, gripper: GripperProfile, opens: bool) -> Call:
    """The goal as the gripper's own message. ``opens``: the fingers go apart."""
    width_m = within("the width between the fingers", goal.width_m, 0.0, gripper.max_width_m)
    force_n = within("the force of the fingers", goal.force_n, 0.0, MAX_FORCE_N)
    position = width_m * gripper.position_per_width
    if gripper.kind == "gripper_command":
        command: dict[str, Any] = {"position": position, "max_effort": force_n}
        return Call(gripper.action, GRIPPER_COMMAND, {"command": command})
    if gripper.kind == "parallel_gripper":
        command = {"name": [gripper.joint], "position": [position], "effort": [force_n]}
        return Call(gripper.action, PARALLEL_GRIPPER, {"command": command})
    motion: dict[str, Any] = {"width": width_m, "speed": gripper.speed_m_s}
    if opens:
        return Call(gripper.move_action, MOVE, motion)
    # Any width counts as held: what is between the fingers is judged from the width afterwards.
    epsilon = {"inner": gripper.max_width_m, "outer": gripper.max_width_m}
    return Call(gripper.grasp_action, GRASP, {**motion, "force": force_n, "epsilon": epsilon})


class Gripper:
    """What is known of the hand from goal to goal: whether it was homed, and how wide it is."""

    def __init__(self, profile: GripperProfile) -> None:
        self._profile = profile
        self._homed = not (profile.kind == "franka" and profile.home_first)
        self._width_m = math.nan
        self._opens = True

    @property
    def servers(self) -> dict[str, str]:
        """Type by name of everything that a grip may call."""
        hand = self._profile
        if hand.kind == "franka":
            names = {hand.grasp_action: GRASP, hand.move_action: MOVE}
            return names if self._homed else {**names, hand.homing_action: HOMING}
        parallel = hand.kind == "parallel_gripper"
        return {hand.action: PARALLEL_GRIPPER if parallel else GRIPPER_COMMAND}

    def first_call(self, goal: GripGoal) -> Call:
        """The goal's own message, whatever else would go before it."""
        return grip_call(goal, self._profile, self._opening(goal))

    def plan(self, goal: GripGoal) -> Plan:
        if not self._homed:
            reply = yield Call(self._profile.homing_action, HOMING, {})
            _franka_succeeded(reply, self._profile.homing_action)
            self._homed = True
        call = grip_call(goal, self._profile, self._opening(goal))
        before_m, self._width_m = self._width_m, math.nan
        reply = yield call
        width_m = self._ended(reply, call, goal, before_m)
        return (("width_m", width_m),)

    def heard(self, feedback: Any) -> None:
        """Feedback tells the width where a result does not."""
        width_m = self._width_of(feedback)
        self._width_m = self._width_m if math.isnan(width_m) else width_m

    def _opening(self, goal: GripGoal) -> bool:
        """Fingers that close do not know whether to press; where it is not known how wide they
        are, only closing all the way is closing."""
        return goal.width_m > 0 and not goal.width_m < self._width_m

    def _ended(self, reply: Reply, call: Call, goal: GripGoal, before_m: float) -> float:
        """The width reached, metres; ``before_m`` is that before the goal. Raises `GoalFailed`."""
        if call.type in (GRASP, MOVE):
            _franka_succeeded(reply, call.server)
            if math.isnan(self._width_m):
                self._width_m = _untold_width_m(call, goal, before_m)
        elif reply.kind not in _ENDED_AT or reply.message is None:
            succeeded(reply, call.server)
        else:
            self._width_m = self._width_of(reply.message)
        width_m = self._width_m
        values: Values = (("width_m", width_m),)
        if not math.isfinite(width_m):
            text = f"{call.server} does not tell how far apart the fingers are"
            raise GoalFailed(GoalEventKind.ABORTED, text)
        if call.type in (GRASP, MOVE) or _holds_still(reply, width_m, goal):
            return width_m
        text = f"{call.server} {reply.kind.value} at {1000 * width_m:.1f} mm"
        raise GoalFailed(GoalEventKind.ABORTED, text, values)

    def _width_of(self, message: Any) -> float:
        """From feedback or a result of any of the kinds; NaN where it is not told."""
        current_m = getattr(message, "current_width", None)
        if current_m is not None:
            return float(current_m)
        position = getattr(message, "position", None)
        state = getattr(message, "state", None)
        if position is None and state is not None and len(getattr(state, "position", ())):
            position = state.position[0]
        return math.nan if position is None else float(position) * self._profile.width_per_report


def _untold_width_m(call: Call, goal: GripGoal, before_m: float) -> float:
    """Of a goal of the Franka hand that succeeded before any feedback: it was there already, or
    the move says so. NaN for fingers that closed from elsewhere: what they hold is not known."""
    if abs(before_m - goal.width_m) <= _REACHED_M:
        return before_m
    return goal.width_m if call.type == MOVE else math.nan


def _holds_still(reply: Reply, width_m: float, goal: GripGoal) -> bool:
    """Whether the fingers came where they were to go, or stopped at something in between (some
    drivers call that an abort)."""
    told = getattr(reply.message, "reached_goal", False) or getattr(reply.message, "stalled", False)
    there = abs(width_m - goal.width_m) <= _REACHED_M
    return bool(reply.kind is GoalEventKind.SUCCEEDED or told or there)


def _franka_succeeded(reply: Reply, server: str) -> None:
    said = str(getattr(reply.message, "error", ""))
    result = succeeded(reply, server, said)
    if not getattr(result, "success", True):
        text = f"{server} did not succeed: {said or 'no reason told'}"
        raise GoalFailed(GoalEventKind.ABORTED, text)
