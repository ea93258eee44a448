"""Demonstrations in the simulator: a scripted operator, and one with a person's unsteady hand.

The operator is the demo's own loop. What the arm publishes is recorded as a real arm's recorder
would: cameras, joint states, the commands that the servos are given, what the brain said, and the
operator's marks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rynn_brain_ros import __version__, messages
from rynn_brain_ros.bags import PROVENANCE, BagReader
from rynn_brain_ros.data import Contract, MarkEvent, Recorder
from rynn_brain_ros.data.marks import CONTRACT
from rynn_brain_ros.demo.running import Ears, play
from rynn_brain_ros.demo.stages import StageConfig, make_stage_at
from rynn_brain_ros.demo.words import BrainWords
from rynn_brain_ros.models import Engines
from rynn_brain_ros.sim.panda import FINGERS, HAND, JOINTS
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.values import (
    Actuator,
    Cancel,
    FollowGoal,
    Goal,
    GoalEvent,
    InputError,
    PostureGoal,
    ReachGoal,
    RigidTransform,
)

OPERATORS = ("scripted", "human")
COMMANDS = "/joint_commands"
_JOINT_STATE = "sensor_msgs/msg/JointState"
_HESITATES_S = 0.4
_SLOWEST = 0.4
_FREE_M, _STRAIGHT_M = 0.008, 0.001
"""How far an unsteady hand is off, on a free way and on a straight one."""


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode, judged by the world's truth."""

    bag: Path
    task: str
    success: bool
    seconds: float


def demonstrate(
    config: StageConfig,
    engines: Engines,
    contract: Contract,
    out: Path,
    *,
    operator: str = "scripted",
    intention: str = "",
    cancel: Cancel | None = None,
) -> Demonstration:
    """Plays one episode and records it as ``out``, an mcap file. Until it is whole, and where it
    never became whole, it is `partial_of` that; what an earlier try left there goes first.

    Where the task leaves a choice, ``intention`` is the task as the operator understood it: they do
    that, and the task itself is what is recorded. (The brain's points still tell what was chosen.)

    Raises `InputError` for an unknown operator or world, `OutputError`.
    """
    if operator not in OPERATORS:
        raise InputError(f"unknown operator {operator!r}: use {' or '.join(OPERATORS)}")
    stage = make_stage_at(config, float(contract.fps))
    world = stage.world
    try:
        if not isinstance(world, TableWorld):
            raise InputError(f"nobody can teleoperate in {config.world!r} yet: use table")
        if operator == "human":
            hand = UnsteadyHand(stage.actuator, lambda: world.now_ns, config.seed)
            stage = replace(stage, actuator=hand)
        with contextlib.suppress(OSError):  # what is in the way is named by who creates it
            partial_of(out).unlink()
        with Recorder(out, contract, _provenance(config, operator)) as recorder:
            begun_ns = world.now_ns
            recorder.start(stage.task, begun_ns)
            world.add_controller(lambda _: _commands(world, recorder))
            brain = BrainWords(stage.task, recorder.receive, lambda: world.now_ns)
            ears = Ears(message=recorder.receive, event=brain.hear)
            acted = replace(stage, task=intention or stage.task)
            episode = play(acted, engines, ears, cancel).episode
            verdict = stage.judge(episode, stage.measure())
            # Of words without a known truth the brain's own look is all that there is.
            success = episode.confirmed if verdict is None else verdict
            if cancel is not None and cancel.is_set():
                event = MarkEvent.DISCARD
            else:
                event = MarkEvent.SUCCESS if success else MarkEvent.FAILURE
            recorder.end(event, world.now_ns)
        return Demonstration(out, stage.task, success, (world.now_ns - begun_ns) / 1e9)
    finally:
        stage.close()


def partial_of(out: Path) -> Path:
    """The name of an episode that is not whole."""
    return out.with_name(f"{out.stem}.partial.mcap")


def is_recorded(config: StageConfig, contract: Contract, out: Path, *, operator: str) -> bool:
    """Whether ``out`` is what `demonstrate` makes of the same: then it need not be made again.
    Raises `BagError` where it cannot be read."""
    if not out.exists():
        return False
    with BagReader(out) as reader:
        metadata = reader.info().metadata
    made_of, of = metadata.get(PROVENANCE), metadata.get(CONTRACT, {}).get("yaml")
    return made_of == _provenance(config, operator) and of == contract.text


def _provenance(config: StageConfig, operator: str) -> dict[str, str]:
    return {
        "rynn_brain_ros": __version__,
        "world": config.world,
        "kind": config.kind,
        "seed": str(config.seed),
        "operator": operator,
    }


def _commands(world: TableWorld, recorder: Recorder) -> None:
    """What the servos were told for the control period that begins now."""
    ctrl, model = world.data.ctrl, world.model
    finger_m = float(ctrl[model.actuator(HAND).id]) / len(FINGERS)
    joints = [float(ctrl[model.actuator(name).id]) for name in JOINTS]
    now_ns = world.now_ns
    command = {
        "header": messages.header(now_ns, ""),
        "name": [*JOINTS, FINGERS[0]],
        "position": [*joints, finger_m],
        "velocity": [],
        "effort": [],
    }
    recorder.receive(COMMANDS, _JOINT_STATE, command, now_ns)


class UnsteadyHand:
    """An `Actuator` as a person would work it: slower, after a moment, and never quite straight.
    The same seed gives the same hand."""

    def __init__(self, actuator: Actuator, now_ns: Callable[[], int], seed: int) -> None:
        self._actuator, self._now_ns = actuator, now_ns
        self._random = np.random.default_rng(seed)
        self._waiting: tuple[int, str, Goal] | None = None

    @property
    def name(self) -> str:
        return self._actuator.name

    @property
    def goals(self) -> frozenset[type[Goal]]:
        return self._actuator.goals

    def send(self, goal_id: str, goal: Goal) -> None:
        self._let_go()
        moment_ns = round(self._random.uniform(0.0, _HESITATES_S) * 1e9)
        self._waiting = (self._now_ns() + moment_ns, goal_id, self._as_done(goal))

    def cancel(self, goal_id: str) -> None:
        self._let_go()
        self._actuator.cancel(goal_id)

    def stop(self) -> None:
        self._let_go()
        self._actuator.stop()

    def poll(self) -> tuple[GoalEvent, ...]:
        if self._waiting is not None and self._now_ns() >= self._waiting[0]:
            self._let_go()
        return self._actuator.poll()

    def _let_go(self) -> None:
        """Sends what it hesitated to do."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._actuator.send(waiting[1], waiting[2])

    def _as_done(self, goal: Goal) -> Goal:
        if not isinstance(goal, ReachGoal | FollowGoal | PostureGoal):
            return goal  # fingers open and close as they do
        speed = goal.speed * float(self._random.uniform(_SLOWEST, 1.0))
        if isinstance(goal, ReachGoal):
            off_m = _STRAIGHT_M if goal.straight else _FREE_M
            return replace(goal, T_base_tcp=self._off(goal.T_base_tcp, off_m), speed=speed)
        if isinstance(goal, FollowGoal):
            path = tuple(self._off(pose, _STRAIGHT_M) for pose in goal.path)
            return replace(goal, path=path, speed=speed)
        return replace(goal, speed=speed)

    def _off(self, pose: RigidTransform, most_m: float) -> RigidTransform:
        x, y, z = pose.translation_m
        dx, dy = (float(v) for v in self._random.uniform(-most_m, most_m, 2))
        return replace(pose, translation_m=(x + dx, y + dy, z))
