"""What the brain said at a time, as text features of every frame: what a policy is told to do.

``annotation.plan`` is the newest step of the plan that was not refused or failed, verbatim with
its tags; ``annotation.groundings`` what the newest answer pointed at, as JSON: label, kind,
camera, points in 0…1000 and, where it was lifted, the place in its fixed frame. Both are empty
before the brain has said anything.
"""

from __future__ import annotations

import json
from typing import Any

from rynn_brain_ros.data.contract import Conditioning

PLAN, GROUNDINGS = "annotation.plan", "annotation.groundings"
_REFUSED, _FAILED, _CANCELLED = 4, 5, 6


class Said:
    """The newest words on both topics. Feed it in the order of receiving."""

    def __init__(self, wanted: Conditioning) -> None:
        self._wanted = wanted
        self._values: dict[str, str] = {}
        if wanted.plan:
            self._values[PLAN] = ""
        if wanted.groundings:
            self._values[GROUNDINGS] = ""

    @property
    def values(self) -> dict[str, str]:
        return dict(self._values)

    def receive(self, topic: str, message: Any) -> None:
        if topic == self._wanted.plan:
            self._values[PLAN] = step_text(message)
        elif topic == self._wanted.groundings:
            self._values[GROUNDINGS] = groundings_json(message)


def step_text(plan: Any) -> str:
    """Of a rynn_brain_ros/Plan."""
    given_up = (_REFUSED, _FAILED, _CANCELLED)
    open_steps = [step for step in plan.steps if step.state not in given_up]
    return str(open_steps[-1].text) if open_steps else ""


def groundings_json(message: Any) -> str:
    """Of a rynn_brain_ros/GroundingArray; reasoning is left out."""
    told = [_grounding(grounding) for grounding in message.groundings if not grounding.reasoning]
    return json.dumps(told, ensure_ascii=False) if told else ""


def _grounding(grounding: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "label": str(grounding.label),
        "kind": int(grounding.kind),
        "camera": str(grounding.camera),
        "points": [[float(p.x), float(p.y)] for p in grounding.points_norm],
    }
    if grounding.fixed:
        place = grounding.point_fixed
        told["frame"] = str(grounding.fixed_frame_id)
        told["point_m"] = [round(float(v), 4) for v in (place.x, place.y, place.z)]
    return told
