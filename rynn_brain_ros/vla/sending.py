"""From the runner's commands to messages for a robot, in the form that it takes them.

A form that streams sends one message after the other while a step lasts; where it falls silent the
robot stays where it is. A trajectory tells all that is planned, up to standing still, whenever that
changes: whoever sends it may die, and the robot still comes to rest within its limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rynn_brain_ros.data.commands import Command as Message
from rynn_brain_ros.data.commands import Commander
from rynn_brain_ros.data.contract import JOINT_STATE, Contract, Source
from rynn_brain_ros.data.sampling import Features
from rynn_brain_ros.values import ConfigError
from rynn_brain_ros.vla.actions import PartKind, matrix_from_rot6d, rot6d_from_matrix
from rynn_brain_ros.vla.chunks import RuntimeSpec
from rynn_brain_ros.vla.runner import Command
from rynn_brain_ros.vla.settings import Hand, Output, PolicyConfig
from rynn_brain_ros.vla.values import Floats

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
FOLLOW = "control_msgs/action/FollowJointTrajectory"
HANDS = {
    Hand.GRIPPER_COMMAND: "control_msgs/action/GripperCommand",
    Hand.PARALLEL: "control_msgs/action/ParallelGripperCommand",
}
_POINT_S = 0.02
"""Points of a trajectory are no closer."""
_STOP_S = 0.2
"""How long a robot may take to where it was measured when it was stopped."""
_AT_ONCE_NS = 0
"""A controller begins what has this stamp when it comes. It drops a trajectory that has ended by
its own clock, which may be further from ours than a stop lasts."""
_HASTE = 1.5
"""A controller goes from rest to rest on a cubic: so many times as fast as on average."""
_ROWS_AT_ONCE = 2
"""A stream that is late makes up for so many of its messages."""
_OPENS, _CLOSES = 0.6, 0.4
_POSITION = "position."


class Sending(Protocol):
    """Messages whose type is an action's are goals, whose topic is the server."""

    def begin(
        self, command: Command, ahead: Callable[[], Floats], start_ns: int
    ) -> tuple[Message, ...]:
        """A step begins with ``command`` [n, D]; ``ahead`` is `Runner.ahead`."""
        ...

    def postpone(self, gap_ns: int) -> int:
        """By how much [ns] all that is to come is later, where nobody has asked for ``gap_ns``."""
        ...

    def due(self, now_ns: int) -> tuple[Message, ...]:
        """What else is to be sent now."""
        ...

    def stop(
        self, measured: Floats | None, now_ns: int, *, follows: bool = True
    ) -> tuple[Message, ...]:
        """The safe action beside the cancel of what is in flight. ``measured`` [D] is where the
        robot is; None where that is not known. Not ``follows``: something keeps it there."""
        ...


class Translator:
    """Actions of a policy → messages of the contract. Raises `ConfigError` where it cannot."""

    def __init__(self, contract: Contract, spec: RuntimeSpec) -> None:
        space, at = spec.statistics.provenance.action_space, 0
        self._slices: dict[str, slice] = {}
        for feature in contract.actions:
            self._slices[feature.key] = slice(at, at + len(feature.names))
            at += len(feature.names)
        names = {key: spec.action_names[part] for key, part in self._slices.items()}
        self.commander = Commander(contract, names)
        self.is_gripper = space.is_part(PartKind.GRIPPER)
        self._rotations = [part for kind, part in space.slices if kind is PartKind.ROT6D]

    def messages(self, position: Floats, stamp_ns: int) -> tuple[Message, ...]:
        """Of one action [D]. What was shaped number by number becomes a rotation again, and a hand
        that swings past its end is at its end."""
        action = np.where(self.is_gripper, np.clip(position, 0.0, 1.0), position)
        for part in self._rotations:
            action[part] = rot6d_from_matrix(matrix_from_rot6d(action[part]))
        actions = {key: action[part] for key, part in self._slices.items()}
        # A policy's actions are absolute, and coming to rest must not wait for observations.
        return self.commander.commands(actions, Features(stamp_ns, {}, {}, {}), stamp_ns)


def servers_of(config: PolicyConfig) -> dict[str, str]:
    """Actions that goals go to: types by name."""
    if config.output == Output.CONTRACT.value:
        return {}
    of_hand = HANDS[Hand(config.gripper_kind)]
    hand = {config.gripper_action: of_hand} if config.gripper_action else {}
    is_goal = config.output == Output.ACTION.value
    return {**({config.follow_action: FOLLOW} if is_goal else {}), **hand}


def watched_of(config: PolicyConfig) -> dict[str, str]:
    """Actions that move the same joints, though goals go to none of them."""
    on_topic = config.output == Output.TOPIC.value
    return {config.follow_action: FOLLOW} if on_topic else {}


def sending_of(config: PolicyConfig, contract: Contract, spec: RuntimeSpec) -> Sending:
    """As ``config.output`` says. Raises `ConfigError`."""
    translator = Translator(contract, spec)
    if config.output == Output.CONTRACT.value:
        return Streamed(translator, round(1e9 / spec.rate_hz))
    return Planned(config, contract, translator, spec)


# --- the contract's own messages -----------------------------------------------------------------


class Streamed:
    """One message of each topic for each row of a command, at its time. A gap is not made up for:
    the robot stood meanwhile, and would be sent all the way at once."""

    def __init__(self, translator: Translator, period_ns: int) -> None:
        self._translator, self._period_ns = translator, period_ns
        self._rows: Floats = np.zeros((0, 0))
        self._start_ns, self._n_sent = 0, 0
        self._told: Floats | None = None
        self._last: tuple[Message, ...] = ()

    def begin(
        self, command: Command, ahead: Callable[[], Floats], start_ns: int
    ) -> tuple[Message, ...]:
        self._rows, self._start_ns, self._n_sent = command.positions, start_ns, 0
        return ()

    def postpone(self, gap_ns: int) -> int:
        n = len(self._rows)
        # Whole rows: ticks keep their place among them.
        n_late = max(0, math.ceil(gap_ns * n / self._period_ns) - _ROWS_AT_ONCE)
        late_ns = n_late * self._period_ns // n if n else 0
        self._start_ns += late_ns
        return late_ns

    def due(self, now_ns: int) -> tuple[Message, ...]:
        """The row whose time is nearest; those before it are late and left out. Who asks as often
        as rows are due, a little early or late, is given one each time."""
        n, twice_ns = len(self._rows), 2 * self._period_ns
        i = min(n, 1 + (2 * n * (now_ns - self._start_ns) + self._period_ns) // twice_ns)
        if i <= self._n_sent:
            return ()
        self._n_sent = i
        self._last = self._translator.messages(self._rows[i - 1], now_ns)
        self._told = self._rows[i - 1]
        return self._last

    def stop(
        self, measured: Floats | None, now_ns: int, *, follows: bool = True
    ) -> tuple[Message, ...]:
        """As the contract says. Who holds what was told last, and does not follow it, is told
        where it is: it would go there by itself once it can. A hand goes on with what it was
        told."""
        self._rows, last = self._rows[:0], self._last
        if not follows and measured is not None and self._told is not None:
            there = np.where(self._translator.is_gripper, self._told, measured)
            last = self._translator.messages(there, now_ns)
        return self._translator.commander.stop(last, now_ns)


# --- trajectories --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Plan:
    """``rows`` [m, D] that were told, ``spacing_ns`` apart; the first is due so long after
    ``start_ns``."""

    rows: Floats
    spacing_ns: float
    start_ns: int

    def due(self, now_ns: int, n_begun: int) -> Floats:
        """[D]: where the robot is by now if it obeys. The last of the ``n_begun`` rows whose step
        has begun is the least: a clock that was set back does not send the robot back."""
        i = int((now_ns - self.start_ns) / self.spacing_ns) - 1
        row: Floats = self.rows[min(max(i, n_begun - 1), len(self.rows) - 1)]
        return row


class Planned:
    """A trajectory whenever the plan changes, on a controller's topic or as its goal; and the hand
    as goals of its own, each time it is to open or to close."""

    def __init__(
        self, config: PolicyConfig, contract: Contract, translator: Translator, spec: RuntimeSpec
    ) -> None:
        sources = [source for feature in contract.actions for source in feature.sources]
        for source in sources:
            _check_joints(source)
        hands = [source for source in sources if source.gripper is not None]
        self._hand = _only(hands) if config.gripper_action else None
        left_out = () if self._hand is None else self._hand.select
        names = [name for source in sources for name in source.select]
        self._hand_at = names.index(left_out[0]) if left_out else -1
        self._joints = [n.removeprefix(_POSITION) for n in names if n not in left_out]
        self._is_goal = config.output == Output.ACTION.value
        self._config, self._translator = config, translator
        self._period_ns = round(1e9 / spec.rate_hz)
        self._max_velocity = np.array(config.limits(spec.action_names).velocity)
        self._wants_open: bool | None = None
        self._told: Floats | None = None
        self._step_from: Floats | None = None
        """[D]: where the step began that has begun last."""
        self._plan: _Plan | None = None
        self._n_begun = 0

    def begin(
        self, command: Command, ahead: Callable[[], Floats], start_ns: int
    ) -> tuple[Message, ...]:
        found = []
        if command.renewed and len(command.positions):
            rows = np.concatenate([command.positions, ahead()])
            self._plan = _Plan(rows, self._period_ns / len(command.positions), start_ns)
            self._n_begun = 0
            found.append(self._trajectory(self._plan))
        self._n_begun += len(command.positions)
        if len(command.positions):
            self._step_from = command.positions[0] if self._told is None else self._told
            self._told = command.positions[-1]
        if self._hand is not None and command.action is not None:
            wanted = command.action[self._hand_at]
            found += self._gripped(self._hand, wanted, command.positions[-1, self._hand_at])
        return tuple(found)

    def postpone(self, gap_ns: int) -> int:
        return 0  # the robot has its plan and goes on meanwhile

    def due(self, now_ns: int) -> tuple[Message, ...]:
        return ()

    def stop(
        self, measured: Floats | None, now_ns: int, *, follows: bool = True
    ) -> tuple[Message, ...]:
        """A goal's server holds by itself when it is cancelled. A hand goes on with what it was
        told: told where it is, it would let go of what it holds."""
        takes_s = _STOP_S
        if measured is None and self._plan is not None:
            measured = self._plan.due(now_ns, self._n_begun)
            takes_s = max(takes_s, self._way_s(measured))
        if self._is_goal or measured is None:
            return ()
        told = measured if self._told is None else self._told
        end = np.where(self._translator.is_gripper, told, measured)
        return (self._trajectory(_Plan(end[None], takes_s * 1e9, _AT_ONCE_NS)),)

    def _way_s(self, end: Floats) -> float:
        """To ``end`` [D] within the limits of velocity. A clock that was set forward looks like a
        loop that stood still: the robot may be no further than where its last step began."""
        start = end if self._step_from is None else self._step_from
        return float((_HASTE * np.abs(end - start) / self._max_velocity).max())

    def _trajectory(self, plan: _Plan) -> Message:
        """As many of its rows become points as are far enough apart, and the last."""
        rows, spacing_ns, start_ns = plan.rows, plan.spacing_ns, plan.start_ns
        apart = max(1, math.ceil(_POINT_S * 1e9 / spacing_ns))
        kept = [*range(apart - 1, len(rows) - 1, apart), len(rows) - 1]
        raw = np.array([self._raw(rows[i], start_ns) for i in kept])
        times_ns = np.array([round((i + 1) * spacing_ns) for i in kept])
        message = {
            "header": {"stamp": _duration(start_ns)},
            "joint_names": self._joints,
            "points": [
                {
                    "positions": positions.tolist(),
                    "velocities": velocities.tolist(),
                    "time_from_start": _duration(int(time_ns)),
                }
                for positions, velocities, time_ns in zip(
                    raw, _velocities(raw, times_ns / 1e9), times_ns, strict=True
                )
            ],
        }
        if self._is_goal:
            return Message(self._config.follow_action, FOLLOW, {"trajectory": message})
        return Message(f"{self._config.controller}/joint_trajectory", TRAJECTORY, message)

    def _raw(self, row: Floats, stamp_ns: int) -> list[float]:
        """Positions of the controller's joints, in the units of ROS."""
        found: dict[str, float] = {}
        for sent in self._translator.messages(row, stamp_ns):
            found.update(zip(sent.message["name"], sent.message["position"], strict=True))
        return [found[joint] for joint in self._joints]

    def _gripped(self, hand: Source, wanted: float, shaped: float) -> list[Message]:
        """When what is ``wanted`` has also been reached, ``shaped`` by the limits, in openings of
        0…1. Between the two thresholds the hand does what it did."""
        wants_open = self._wants_open
        if min(wanted, shaped) > _OPENS or max(wanted, shaped) < _CLOSES:
            wants_open = wanted > _OPENS
        if wants_open is None or wants_open == self._wants_open:
            return []
        self._wants_open = wants_open
        assert hand.gripper is not None
        position = hand.gripper.open if wants_open else hand.gripper.closed
        kind, effort = Hand(self._config.gripper_kind), self._config.gripper_effort
        command: dict[str, Any] = {"position": position, "max_effort": effort}
        if kind is Hand.PARALLEL:
            joint = hand.select[0].removeprefix(_POSITION)
            command = {"name": [joint], "position": [position], "effort": [effort]}
        return [Message(self._config.gripper_action, HANDS[kind], {"command": command})]


def _check_joints(source: Source) -> None:
    of_joints = source.channel.type == JOINT_STATE
    if not of_joints or not all(name.startswith(_POSITION) for name in source.select):
        raise ConfigError(
            f"a trajectory holds positions of joints; the contract's actions on "
            f"{source.channel.topic} are {', '.join(source.select)}: set output to contract"
        )


def _only(hands: list[Source]) -> Source:
    if len(hands) != 1:
        raise ConfigError(f"gripper_action is for one gripper; the contract has {len(hands)}")
    return hands[0]


def _velocities(positions: Floats, times_s: Floats) -> Floats:
    """[m, n]: by central differences; 0 at the end, where the robot stands."""
    if len(positions) < 3:
        return np.zeros_like(positions)
    found: Floats = np.gradient(positions, times_s, axis=0)
    found[-1] = 0.0
    return found


def _duration(ns: int) -> dict[str, Any]:
    seconds, nanosec = divmod(ns, 1_000_000_000)
    return {"sec": seconds, "nanosec": nanosec}
