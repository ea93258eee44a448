"""Boxes that a planner keeps clear of: the table, the thing on it, and the thing in the hand.

They travel with each planned goal as a difference to the planner's own scene, and so leave nothing
behind in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rynn_brain_ros.messages import MessageDict, point
from rynn_brain_ros.values import (
    GripGoal,
    Motion,
    MotionStage,
    Stage,
    Vector3,
)

_BOX = 1  # shape_msgs/SolidPrimitive.BOX
_LEAST_HEIGHT_M = 0.01
UPRIGHT = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


@dataclass(frozen=True)
class SceneBox:
    """A box along the axes of its frame: its middle and full edges, metres."""

    name: str
    middle_m: Vector3
    edges_m: Vector3

    def collision_object(self, frame: str) -> MessageDict:
        """moveit_msgs/CollisionObject, to be added."""
        return {
            "header": {"frame_id": frame},
            "id": self.name,
            "pose": {"position": point((0.0, 0.0, 0.0)), "orientation": dict(UPRIGHT)},
            "primitives": [{"type": _BOX, "dimensions": list(self.edges_m)}],
            "primitive_poses": [{"position": point(self.middle_m), "orientation": dict(UPRIGHT)}],
        }


@dataclass(frozen=True)
class Scene:
    """What stands around: ``table`` and ``thing`` in the arm's base frame, ``held`` in the frame
    of the tool's link."""

    table: SceneBox | None = None
    thing: SceneBox | None = None
    held: SceneBox | None = None

    def before(self, stage: MotionStage, motion: Motion, grip_m: Vector3) -> Scene:
        """The scene in which ``stage`` of ``motion`` is planned. The thing is in the way until
        the hand comes down to it; once the hand has closed on it, it is part of the hand (around
        ``grip_m``, the tool centre point in the link's frame) until the hand opens."""
        goal = stage.goal
        if isinstance(goal, GripGoal):
            if stage.stage is Stage.GRIP:
                return replace(self, thing=None, held=_held(motion, grip_m))
            return self if goal.width_m <= 0 else replace(self, held=None)
        if stage.stage is Stage.PRE and self.held is None:
            return replace(self, thing=_thing(motion))
        return replace(self, thing=None)

    def attached(self, link: str, touch_links: tuple[str, ...]) -> list[MessageDict]:
        """moveit_msgs/AttachedCollisionObject of what is held."""
        if self.held is None:
            return []
        return [
            {
                "link_name": link,
                "object": self.held.collision_object(link),
                "touch_links": [link, *touch_links],
            }
        ]

    def around(self, frame: str) -> list[MessageDict]:
        """moveit_msgs/CollisionObject of what stands around."""
        return [box.collision_object(frame) for box in self._standing()]

    def _standing(self) -> Iterator[SceneBox]:
        yield from (box for box in (self.table, self.thing) if box is not None)


def table_box(bounds_m: tuple[float, ...], thickness_m: float = 0.05) -> SceneBox | None:
    """From (x_min, x_max, y_min, y_max, z_top); ``None`` where nothing is given."""
    if not bounds_m:
        return None
    x0, x1, y0, y1, top = bounds_m
    middle = ((x0 + x1) / 2, (y0 + y1) / 2, top - thickness_m / 2)
    return SceneBox("rynn_brain_table", middle, (x1 - x0, y1 - y0, thickness_m))


def _thing(motion: Motion) -> SceneBox | None:
    """As wide as the fingers will hold it, as high as they will reach down to: a stand-in that is
    never larger than the thing."""
    width_m, support_z_m = motion.grip_width_m, motion.support_z_m
    if not (math.isfinite(width_m) and width_m > 0 and math.isfinite(support_z_m)):
        return None
    x, y, z = motion.target_m
    height_m = max(_LEAST_HEIGHT_M, z - support_z_m)
    middle = (x, y, support_z_m + height_m / 2)
    return SceneBox("rynn_brain_target", middle, (width_m, width_m, height_m))


def _held(motion: Motion, grip_m: Vector3) -> SceneBox | None:
    """Around the fingertips, whatever way the hand is turned."""
    width_m = motion.grip_width_m
    if not (math.isfinite(width_m) and width_m > 0):
        return None
    return SceneBox("rynn_brain_held", grip_m, (width_m, width_m, width_m))
