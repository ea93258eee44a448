"""Whole robots: every setting of a kind of robot in one value, and the loop put together for it.

The same robot is driven by the simulator, by a recording and by ROS; only its clock, its actuator
and what feeds its perception differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rynn_brain_ros.memory import OpenFrames
from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.confirming import ConfirmConfig
from rynn_brain_ros.planning.episode import Tell
from rynn_brain_ros.planning.executive import Approve, Brain, EngineFor, ExecutiveConfig, TurnTaker
from rynn_brain_ros.planning.goals import GoalTimeouts, GoalTracker
from rynn_brain_ros.planning.holding import Hand
from rynn_brain_ros.planning.manipulating import Manipulation
from rynn_brain_ros.planning.moving import Mover, Moving, MovingConfig
from rynn_brain_ros.planning.navigating import Navigation, NavigationConfig
from rynn_brain_ros.planning.perception import Perception
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.planning.watchdog import Watchdog, WatchdogLimits
from rynn_brain_ros.safety import EngineVerdict, Gate, SafetyLimits
from rynn_brain_ros.values import Actuator, Clock


@dataclass(frozen=True)
class Robot:
    """A robot's settings. ``body`` says what it acts with: an arm, or a driving base."""

    name: str
    body: Arm | NavigationConfig
    limits: SafetyLimits = field(default_factory=SafetyLimits)
    executive: ExecutiveConfig = field(default_factory=ExecutiveConfig)
    moving: MovingConfig = field(default_factory=MovingConfig)
    timeouts: GoalTimeouts = field(default_factory=GoalTimeouts)
    watchdog: WatchdogLimits = field(default_factory=WatchdogLimits)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    armed_s: float = 600.0
    verdicts: tuple[EngineVerdict, ...] = ()
    """Of the engines that were checked: see `safety.read_verdicts`."""

    @property
    def record(self) -> dict[str, Any]:
        """All settings as plain values, to be kept with a run."""
        plain: Mapping[str, Any] = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(str(getattr(item, "value", item)) for item in value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def panda(
    dry_run: bool = True, require_approval: bool = False, engine_verdict: str = "required"
) -> Robot:
    """A Franka Emika Panda at a table whose top is at the height of its base."""
    links = tuple(f"panda_link{i}" for i in range(9))
    return Robot(
        "panda",
        Arm(links=(*links, "panda_hand", "panda_tcp")),
        SafetyLimits(
            dry_run=dry_run, require_approval=require_approval, engine_verdict=engine_verdict
        ),
    )


def rover(
    dry_run: bool = True, require_approval: bool = False, engine_verdict: str = "required"
) -> Robot:
    """A small driving base with one camera that looks ahead and down, over the ground nearest to
    it: nothing as high as furniture could stand there without being seen. Its workspace is a fence
    on the map. It is driven to beside things, so that their places may be as uncertain as depth is
    at the other end of a room."""
    limits = SafetyLimits(
        workspace_x_min_m=-50.0,
        workspace_x_max_m=50.0,
        workspace_y_min_m=-50.0,
        workspace_y_max_m=50.0,
        max_sigma_m=0.1,
        robot_width_m=0.44,
        robot_height_m=1.2,
        max_blind_m=0.85,
        dry_run=dry_run,
        require_approval=require_approval,
        engine_verdict=engine_verdict,
    )
    return Robot("rover", NavigationConfig(), limits, ExecutiveConfig(max_turns=80, settle_s=0.1))


ROBOTS = {"panda": panda, "rover": rover}
"""By name: what a recording says it was made with."""


def assemble(
    robot: Robot,
    perception: Perception,
    clock: Clock,
    actuator: Actuator,
    engine_for: EngineFor,
    *,
    tell: Tell,
    approve: Approve | None = None,
    arming: Arming | None = None,
    hand: Hand | None = None,
    camera: str = "",
    mover_for: Callable[[Sight, Arming], Moving] | None = None,
) -> tuple[Brain, TurnTaker, Arming]:
    """The loop of ``robot``, watching ``camera`` of ``perception``, else the first one. It is not
    armed yet and its hand is empty, unless it is given an ``arming`` and a ``hand`` that outlast
    it. What ``mover_for`` gives moves the robot in place of goals for the ``actuator``."""
    watchdog = Watchdog(robot.watchdog)
    sight = Sight(perception, camera or perception.cameras[0], clock, watchdog)
    arming = arming or Arming(robot.armed_s)
    tracker = GoalTracker(actuator, robot.timeouts)
    mover: Moving = Mover(tracker, sight, arming, tell, robot.moving)
    if mover_for is not None:
        mover = mover_for(sight, arming)
    opened = OpenFrames()
    gate = Gate(robot.limits, opened, robot.verdicts)
    brain = Brain(
        *(engine_for, sight, mover, gate, tell, robot.executive),
        approve=approve,
        opened=opened,
        hand=hand or Hand(),
    )
    body = robot.body
    if isinstance(body, Arm):
        return brain, Manipulation(brain, body, robot.confirm), arming
    return brain, Navigation(brain, body), arming
