"""What the brain said at a time, as text features of every frame: what a policy is told to do.

``annotation.plan`` is the newest step of the plan, verbatim with its tags, unless it was refused,
failed, cancelled, or is in a state that only a newer brain knows: then nothing is to be done.
``annotation.groundings`` is what the answer that proposed this step points at, as JSON: label,
kind, camera, points in 0…1000 and, where it was lifted, the place in its fixed frame; only what may
be acted on. Where the contract has no topic of a plan, it is the newest answer. Both are empty
before the brain has said anything.
"""

from __future__ import annotations

import json
from typing import Any

from rynn_brain_ros.data.contract import Conditioning
from rynn_brain_ros.messages import GOES_WELL, is_of_known_kind

PLAN, GROUNDINGS = "annotation.plan", "annotation.groundings"
_PLANNING = "plan"
"""The task of a question that is answered by a step."""


class Said:
    """The newest words on both topics. Feed it in the order of receiving."""

    def __init__(self, wanted: Conditioning) -> None:
        self._wanted = wanted
        self._task, self._step, self._question = "", "", ""
        self._pointed: dict[str, str] = {}
        """By question: of the step's, and of the newest, whose step may be yet to come."""

    @property
    def values(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self._wanted.plan:
            found[PLAN] = self._step
        if self._wanted.groundings:
            found[GROUNDINGS] = self._pointed.get(self._question, "")
        return found

    def receive(self, topic: str, message: Any) -> None:
        if topic == self._wanted.plan:
            self._task = str(message.task).strip()
            self._step = step_text(message)
            self._question = str(message.query_id) if self._step else ""
        elif topic == self._wanted.groundings:
            self._point(message)

    def forget(self, but_for: str) -> None:
        """All but a step of the task ``but_for``: a new task that the brain knew first."""
        if but_for and self._task == but_for:
            return
        self._task, self._step, self._question = "", "", ""
        self._pointed.pop("", None)  # others wait for the plan of their question

    def _point(self, message: Any) -> None:
        question = ""
        if self._wanted.plan:
            question = str(message.query_id) if message.task == _PLANNING else ""
            if not question:
                return  # an answer to somebody else's question is about something else
        kept = {q: told for q, told in self._pointed.items() if q == self._question}
        self._pointed = {**kept, question: groundings_json(message)}


def step_text(plan: Any) -> str:
    """Of a rynn_brain_ros/Plan. What was done before a step that is given up is done."""
    if not plan.steps or plan.steps[-1].state not in GOES_WELL:
        return ""
    return str(plan.steps[-1].text)


def groundings_json(message: Any) -> str:
    """Of a rynn_brain_ros/GroundingArray: what may be acted on, which reasoning never is,
    nor what is of a kind that only a newer brain knows."""
    told = [
        _grounding(each)
        for each in message.groundings
        if each.actionable and is_of_known_kind(each)
    ]
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
