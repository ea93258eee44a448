"""What others hear of a task while it is done: feedback, the plan, groundings, and previews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import yaml

from rynn_brain_ros.actuators import Body, Call, GoalFailed
from rynn_brain_ros.actuators.calls import pose_in
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.planning.episode import (
    Answered,
    Decided,
    EpisodeEvent,
    Looked,
    Move,
    StageBegan,
    TurnEnded,
    TurnRecord,
)
from rynn_brain_ros.ros.wire import RosWire
from rynn_brain_ros.safety.proposal import poses_of
from rynn_brain_ros.values import (
    Cause,
    Decision,
    FrameSet,
    Motion,
    RefusalCode,
    Response,
    RynnBrainError,
    Step,
)
from rynn_brain_ros.view.publications import answers
from rynn_brain_ros.view.telling import does
from rynn_brain_ros.view.turn_messages import PLAN, turn_publications

Show = Callable[[str, MessageDict], None]
"""Publishes a message on a topic of the node, by the topic's name."""

PREVIEW, PREVIEW_PATH, PREVIEW_TEXT = "preview", "preview/path", "preview/text"
_PREVIEWED = frozenset(
    {
        RefusalCode.DRY_RUN,
        RefusalCode.NOT_ARMED,
        RefusalCode.NOT_APPROVED,
        RefusalCode.ENGINE_UNCHECKED,
    }
)
"""A motion that is refused for these alone is one that would have moved."""
_STOPPING = frozenset(
    {Cause.STALE, Cause.DISARMED, Cause.LOST_SERVER, Cause.CANCELLED, Cause.TIMEOUT}
)
"""After these the declared stop is published, whatever the servers made of the cancel."""


class Previews:
    """What would be asked of the robot's servers, on topics that nothing obeys."""

    def __init__(self, body: Body, wire: RosWire, show: Show) -> None:
        self.body, self._wire, self._show = body, wire, show

    def show(self, motion: Motion) -> None:
        try:
            calls = self.body.previews(motion)
            path = _path(motion)
        except GoalFailed as no:
            self._show(PREVIEW_TEXT, {"data": f"no goal can be made: {no}"})
            return
        for call in calls:
            self._show(PREVIEW_TEXT, {"data": _readable(call)})
            try:
                self._wire.preview(call, f"~/{PREVIEW}/{call.server.strip('/')}")
            except RynnBrainError as error:
                self._show(PREVIEW_TEXT, {"data": str(error)})
        self._show(PREVIEW_PATH, path)


class Telling:
    """Hears one task in the thread that does it. ``stop`` is the safe action."""

    def __init__(
        self,
        task: str,
        report: Callable[[MessageDict], None],
        show: Show,
        previews: Previews,
        stop: Callable[[str], None],
    ) -> None:
        self._task, self._report, self._show = task, report, show
        self._previews, self._stop = previews, stop
        self._turns: list[TurnRecord] = []
        self._response: Response | None = None
        self._motion: Motion | None = None
        self._asked: Motion | None = None
        self._proposed: list[TurnRecord] = []
        self._number, self._state, self._partial = 0, "looking", ""
        self.plan: MessageDict = {}

    def hear(self, text: str) -> None:
        """A piece of an answer, as it is written."""
        self._partial += text
        self._feedback()

    def question(self, step: Step | None, motion: Motion, now_ns: int) -> tuple[str, int]:
        """The question and the step that a person is asked about now. Each motion of a turn is a
        step of its own: a yes to the one, given late or twice, is none to the next."""
        self._asked = motion
        self._propose(step, motion, now_ns)
        query_id = self._response.query.query_id if self._response is not None else ""
        return query_id, sum(turn.step is not None for turn in self._newest) - 1

    def ask_person(self, motion: Motion) -> None:
        """The motion's goals are previewed, and its step is in the plan, before it is asked."""
        self._previews.show(motion)
        self._plan(self._newest)
        self._become("waiting_for_approval")

    def tell(self, event: EpisodeEvent) -> None:
        if isinstance(event, Looked):
            self._number, self._partial = event.number, ""
            self._become("asking")
        elif isinstance(event, Answered):
            self._answered(event.response)
        elif isinstance(event, Decided):
            self._decided(event)
        elif isinstance(event, StageBegan):
            if self._motion is not None:
                self._previews.body.before(event.stage, self._motion)
            self._become("moving")
        elif isinstance(event, TurnEnded):
            self._ended(event.record)

    def _become(self, state: str) -> None:
        self._state = state
        self._feedback()

    def _feedback(self) -> None:
        steps = self.plan.get("steps", [])
        self._report(
            {
                "turn": self._number,
                "state": self._state,
                "partial_text": self._partial,
                **({"step": steps[-1]} if steps else {}),
            }
        )

    def _answered(self, response: Response) -> None:
        self._response, self._partial = response, response.answer.text
        for name, message in answers(response):
            self._show(name, message)
        self._become("checking")

    def _decided(self, event: Decided) -> None:
        self._motion, decision = event.motion, event.decision
        asked = event.motion is self._asked
        if asked:
            self._proposed.pop()  # what was undecided then
        if asked or event.step is not None:  # an arrow that nobody was asked about is no step
            self._propose(event.step, event.motion, decision.stamp_ns, decision)
            self._plan(self._newest)
        if may_preview(decision):
            self._previews.show(event.motion)
        self._feedback()

    def _propose(
        self, step: Step | None, motion: Motion, stamp_ns: int, decision: Decision | None = None
    ) -> None:
        """One motion more of this turn. What the planner's sentence does not tell is told: an
        arrow, and what follows the first motion of a step."""
        if step is None:
            step = Step(motion.skill, does(motion))
        elif self._proposed:
            step = replace(step, text=f"{step.text} ({does(motion)})")
        proposed = TurnRecord(self._number, stamp_ns, FrameSet(), self._response, step)
        if decision is not None:
            moves = (Move(motion, decision),)
            proposed = replace(proposed, moves=moves, refusal=decision.refusal)
        self._proposed.append(proposed)

    @property
    def _newest(self) -> list[TurnRecord]:
        """The turns so far, and each motion of the one that is being decided."""
        return [*self._turns, *self._proposed]

    def _ended(self, record: TurnRecord) -> None:
        self._turns.append(record)
        self._proposed.clear()
        self._plan(self._turns)
        for move in record.moves:
            if move.outcome is not None and move.outcome.cause in _STOPPING:
                self._stop(f"{move.outcome.cause.value}: {move.outcome.text}")
        self._become("looking")

    def _plan(self, turns: list[TurnRecord]) -> None:
        for name, message in turn_publications(self._task, turns, turns[-1].stamp_ns):
            if name == PLAN:
                self.plan = message
                self._show(PLAN, message)


def may_preview(decision: Decision) -> bool:
    """Whether nothing but a person's word is missing."""
    return decision.refusal is None or decision.refusal.code in _PREVIEWED


def _path(motion: Motion) -> MessageDict:
    """nav_msgs/Path of every pose that the motion names."""
    frame = motion.base_frame
    head: dict[str, Any] = {"frame_id": frame}
    return {
        "header": head,
        "poses": [{"header": head, "pose": pose} for pose in _poses(motion, frame)],
    }


def _poses(motion: Motion, frame: str) -> Iterator[MessageDict]:
    for stage in motion.stages:
        yield from (pose_in(frame, pose) for pose in poses_of(stage))


def _readable(call: Call) -> str:
    plain = {"server": call.server, "type": call.type, "request": call.request}
    return str(yaml.dump(plain, sort_keys=False, Dumper=_Plain))


class _Plain(yaml.SafeDumper):
    """Writes what is shared twice, instead of by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
