"""What the brain says, as the messages that the contracts listen to: to be recorded, or obeyed."""

from __future__ import annotations

from collections.abc import Callable

from rynn_brain_ros import messages
from rynn_brain_ros.planning.episode import Answered, Decided, EpisodeEvent

PLAN, GROUNDINGS = "/brain/plan", "/brain/groundings"
_RUNNING, _DONE = 2, 3
Sink = Callable[[str, str, messages.MessageDict, int], None]
"""Takes topic, type, message and time, ns."""


class BrainWords:
    """Publishes the plan when a step is approved, and what an answer points at, to ``sink``."""

    def __init__(self, task: str, sink: Sink, now_ns: Callable[[], int]) -> None:
        self._task, self._sink, self._now_ns = task, sink, now_ns
        self._steps: list[tuple[str, str]] = []
        self._query_id = ""

    def hear(self, event: EpisodeEvent) -> None:
        if isinstance(event, Answered):
            self._query_id = event.response.query.query_id
            array = messages.grounding_array(event.response)
            self._sink(GROUNDINGS, messages.GROUNDING_ARRAY, array, self._now_ns())
        elif isinstance(event, Decided) and event.step is not None and event.decision.approved:
            self._steps.append((event.step.skill.value, event.step.text))
            plan = "rynn_brain_ros/msg/Plan"
            self._sink(PLAN, plan, self._plan(), self._now_ns())

    def _plan(self) -> messages.MessageDict:
        last = len(self._steps) - 1
        return {
            "header": messages.header(self._now_ns(), ""),
            "query_id": self._query_id,
            "task": self._task,
            "steps": [
                {
                    "index": i,
                    "skill": skill,
                    "text": text,
                    "targets": [],
                    "state": _RUNNING if i == last else _DONE,
                    "reason_code": "",
                    "reason_text": "",
                }
                for i, (skill, text) in enumerate(self._steps)
            ],
            "done": False,
        }
