"""Grippers: width and force as control_msgs or franka_msgs goals, and the width that was reached.

A hand that closes on something and stops there has done well; one that stops before it is as far
open as it was to be has not. Who reports no width has not told whether it holds anything, and that
is a failure, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Generator
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
_STILL_M = 0.001
_STILL_ANSWERS = 5
"""Fingers are still where so many widths in a row are so near to each other. Answers carry no time,
and the next call goes out when the last is heard: where the robot is looked at every 40 ms, five
take 160 ms and more, and only fingers slower than 6 mm/s pass for still. Two may be told within
milliseconds, or before fingers that were told to close have begun to."""
_MOST_CALLS = 50
"""Of one goal: 2 s and more for the last 20 mm, and within the time that a grip has."""
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


def why_unmoved(result: Any) -> str:
    """Of a goal of control_msgs that was aborted: why the fingers did not move; empty where
    something stopped them. franka_gripper tells of fingers that something keeps apart where they
    are and no more, and of a goal that it does not take nothing at all: a result as it is made."""
    told = [getattr(result, name, 0.0) for name in ("position", "stalled", "reached_goal")]
    if any(told) or any(getattr(getattr(result, "state", None), "position", ())):
        return ""
    return (
        "its result is empty, as where nothing moved; is the goal wider than the hand's own "
        "max_width, which it measures when it is homed?"
    )


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
        width_m = yield from self._bring(goal, self._opening(goal))
        if self._profile.kind == "franka" and _is_too_narrow(width_m, goal):
            # A Grasp goes on until something stops it, beyond its width too; and the last that was
            # felt of a Move may be from before its end.
            width_m = yield from self._bring(goal, opens=True)
            if _is_too_narrow(width_m, goal):
                raise _ended_at(width_m, goal, f"{self._profile.move_action} succeeded")
        return (("width_m", width_m),)

    def heard(self, feedback: Any) -> None:
        """Feedback tells the width where a result does not."""
        width_m = self._width_of(feedback)
        self._width_m = self._width_m if math.isnan(width_m) else width_m

    def _bring(self, goal: GripGoal, opens: bool) -> Generator[Call, Reply, float]:
        """The width reached, metres. ros2_controllers tell that fingers came while they still move,
        by default 1 cm before each is there. What is between them is known once they are still:
        until then the same goal is sent again. Fingers that open go on while the arm comes."""
        call = grip_call(goal, self._profile, opens)
        widths_m: list[float] = []
        while len(widths_m) < _MOST_CALLS:
            before_m, self._width_m = self._width_m, math.nan
            reply = yield call
            widths_m.append(self._ended(reply, call, goal, before_m))
            if opens or not _may_still_move(reply, widths_m[-1], goal) or _are_still(widths_m):
                return widths_m[-1]
        raise _never_still(widths_m[-1], call.server)

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
        if not math.isfinite(width_m):
            text = f"{call.server} does not tell how far apart the fingers are"
            raise GoalFailed(GoalEventKind.ABORTED, text)
        if call.type in (GRASP, MOVE) or _holds_still(reply, width_m, goal):
            return width_m
        raise _ended_at(width_m, goal, f"{call.server} {reply.kind.value}")

    def _width_of(self, message: Any) -> float:
        """From feedback or a result of any of the kinds; NaN where it is not told."""
        current_m = getattr(message, "current_width", None)
        if current_m is not None:
            return float(current_m)
        position = getattr(message, "position", None)
        if position is None:
            position = self._own_position(getattr(message, "state", None))
        return math.nan if position is None else float(position) * self._profile.width_per_report

    def _own_position(self, state: Any) -> float | None:
        """Of a sensor_msgs/JointState, which may be of several joints, or name none."""
        positions = list(getattr(state, "position", ()))
        names = list(getattr(state, "name", ())) or [self._profile.joint]
        return dict(zip(names, positions, strict=False)).get(self._profile.joint)


def _untold_width_m(call: Call, goal: GripGoal, before_m: float) -> float:
    """Of a goal of the Franka hand that succeeded before any feedback: it was there already, or
    the move says so. NaN for fingers that closed from elsewhere: what they hold is not known."""
    if abs(before_m - goal.width_m) <= _REACHED_M:
        return before_m
    return goal.width_m if call.type == MOVE else math.nan


def _holds_still(reply: Reply, width_m: float, goal: GripGoal) -> bool:
    """Whether the fingers came where they were to go, or stopped at something in between (some
    drivers call that an abort). A server that says that they came is believed, within its own
    tolerance."""
    if getattr(reply.message, "reached_goal", False):
        return True
    stopped = reply.kind is GoalEventKind.SUCCEEDED or getattr(reply.message, "stalled", False)
    return bool(stopped) and not _is_too_narrow(width_m, goal)


def _may_still_move(reply: Reply, width_m: float, goal: GripGoal) -> bool:
    """Whether fingers that close have come by their server's tolerance alone."""
    came = getattr(reply.message, "reached_goal", False)
    stalled = getattr(reply.message, "stalled", False)
    return bool(came) and not stalled and width_m > goal.width_m + _REACHED_M


def _are_still(widths_m: list[float]) -> bool:
    newest_m = widths_m[-_STILL_ANSWERS:]
    return len(newest_m) == _STILL_ANSWERS and max(newest_m) - min(newest_m) <= _STILL_M


def _never_still(width_m: float, server: str) -> GoalFailed:
    text = (
        f"{server} said {_MOST_CALLS} times that the fingers came, last at {1000 * width_m:.1f} mm "
        "and not still: make the controller's goal_tolerance smaller (0.001)"
    )
    return GoalFailed(GoalEventKind.ABORTED, text, (("width_m", width_m),))


def _is_too_narrow(width_m: float, goal: GripGoal) -> bool:
    """Between fingers that stopped wider than they were to go is something; those that stopped
    narrower did not open."""
    return width_m < goal.width_m - _REACHED_M


def _ended_at(width_m: float, goal: GripGoal, said: str) -> GoalFailed:
    values: Values = (("width_m", width_m),)
    short = f", not at the {1000 * goal.width_m:.1f} mm to open to"
    text = f"{said} at {1000 * width_m:.1f} mm{short if _is_too_narrow(width_m, goal) else ''}"
    return GoalFailed(GoalEventKind.ABORTED, text, values)


def _franka_succeeded(reply: Reply, server: str) -> None:
    said = str(getattr(reply.message, "error", ""))
    result = succeeded(reply, server, said)
    if not getattr(result, "success", True):
        text = f"{server} did not succeed: {said or 'no reason told'}"
        raise GoalFailed(GoalEventKind.ABORTED, text)
