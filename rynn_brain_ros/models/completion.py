"""When an answer is complete although its writer would go on."""

from __future__ import annotations

from rynn_brain_ros.language import StreamParser
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    ContactPoint,
    GraspRectangle,
    Grounding,
    Query,
    Task,
    Trajectory,
)

_ASKED: dict[Task, tuple[type[Grounding], ...]] = {
    Task.OBJECT: (Box,),
    Task.AREA: (Area,),
    Task.AFFORDANCE: (Affordance,),
    Task.TRAJECTORY: (Trajectory,),
    Task.GRASP: (GraspRectangle, ContactPoint),
}


class Completion:
    """Watches an answer to ``query`` for the closing tag of what was asked, and of nothing else:
    a box on the way to a point, or a grounding in the reasoning, completes nothing."""

    def __init__(self, query: Query) -> None:
        self._asked = _ASKED.get(query.task, ())
        self._parser = StreamParser(len(query.frames), query.task, thinking=query.thinking)
        self.reached = False

    def feed(self, piece: str) -> None:
        self.reached |= any(
            isinstance(found.grounding, self._asked) and not found.is_reasoning
            for found in self._parser.feed(piece)
        )
