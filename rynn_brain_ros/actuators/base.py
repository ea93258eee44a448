"""A driving base: what each of its goals asks of Nav2."""

from __future__ import annotations

from typing import Any

from rynn_brain_ros.actuators import nav2
from rynn_brain_ros.actuators.calls import Call, Plan, Publication, rejected
from rynn_brain_ros.actuators.profile import RobotProfile
from rynn_brain_ros.values import (
    DriveGoal,
    FollowGoal,
    Goal,
    Motion,
    MotionStage,
    NavigateGoal,
    SpinGoal,
)

TWIST, TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"


class BaseBody:
    """Plans for one driving base."""

    goals: frozenset[type[Goal]] = frozenset({DriveGoal, SpinGoal, NavigateGoal, FollowGoal})
    needs_stop = False

    def __init__(self, profile: RobotProfile) -> None:
        assert profile.base is not None
        self.name = profile.name
        self._base = profile.base

    def before(self, stage: MotionStage, motion: Motion) -> None:
        """Nav2 sees the surroundings by itself."""

    def previews(self, motion: Motion) -> tuple[Call, ...]:
        """The call that each stage begins with. Raises `GoalFailed`."""
        return tuple(self._call(stage.goal) for stage in motion.stages)

    def plan(self, goal: Goal) -> Plan:
        call = self._call(goal)
        reply = yield call
        nav2.arrived(reply, call.server)
        return ()

    def heard(self, feedback: Any) -> None:
        """Nothing is kept of it."""

    @property
    def servers(self) -> dict[str, str]:
        """Type by name of everything that a goal may call."""
        base = self._base
        keeps = base.follow == "follow_path"
        return {
            base.navigate_action: nav2.NAVIGATE,
            (base.follow_action if keeps else base.through_poses_action): (
                nav2.FOLLOW_PATH if keeps else nav2.THROUGH_POSES
            ),
            base.spin_action: nav2.SPIN,
            base.drive_action: nav2.DRIVE,
            base.back_up_action: nav2.BACK_UP,
        }

    @property
    def watched(self) -> dict[str, str]:
        """Servers beside these whose goals drive the base, too."""
        return {self._base.through_poses_action: nav2.THROUGH_POSES}

    @property
    def stop(self) -> Publication | None:
        """The declared stop, beside cancelling what is in flight: standing still."""
        if not self._base.stop_topic:
            return None
        if self._base.stop_type == "twist":
            return Publication(self._base.stop_topic, TWIST, {})
        still = {"header": {"frame_id": self._base.base_frame}}
        return Publication(self._base.stop_topic, TWIST_STAMPED, still)

    def rivals(self, call: Call) -> tuple[str, ...]:
        """Servers whose goals drive the base as ``call`` would. Of the others the navigators' own
        goals, for which they are a part of the way, would be told, too."""
        navigators = (self._base.navigate_action, self._base.through_poses_action)
        return tuple(dict.fromkeys((*navigators, call.server)))

    def outlives_cancel(self, call: Call) -> bool:
        """Nav2's servers stand still when they are cancelled."""
        return False

    def _call(self, goal: Goal) -> Call:
        if isinstance(goal, NavigateGoal):
            return nav2.navigate_call(goal, self._base)
        if isinstance(goal, FollowGoal):
            return nav2.follow_call(goal, self._base)
        if isinstance(goal, DriveGoal):
            return nav2.drive_call(goal, self._base)
        if isinstance(goal, SpinGoal):
            return nav2.spin_call(goal, self._base)
        raise rejected(f"a base cannot do a {type(goal).__name__}")
