"""An episode decided again: the same loop over a recording instead of a robot.

The recording holds everything that came from outside: images, transforms, answers, the actuator's
events, and what a person did. Time is the recording's. If the code decides as it did then, every
turn is the same record; where it does not, the first difference is named.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import BagInfo, BagMessage, BagReader, find_cameras
from rynn_brain_ros.models import Engines, RecordedEngine, RecordingEngine, parse_recorded
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.planning.executive import carry_out
from rynn_brain_ros.planning.robots import ROBOTS, Robot, assemble
from rynn_brain_ros.replay.actuators import GOAL_KINDS, PlayedActuator
from rynn_brain_ros.replay.episode_folder import (
    ACTUATOR,
    ANSWERS,
    ENDED,
    EPISODE,
    INPUTS,
    TURNS,
    EpisodeHead,
)
from rynn_brain_ros.replay.inputs import assembly_of, bag_inputs, choose_camera
from rynn_brain_ros.replay.turns import as_line, episode_record, turn_record
from rynn_brain_ros.safety import EngineIdentity, EngineVerdict
from rynn_brain_ros.values import (
    Answer,
    BagError,
    Cancel,
    EngineError,
    EngineInfo,
    FinishReason,
    Query,
    RecordedAnswerMissingError,
    RefusalCode,
)


@dataclass(frozen=True)
class EpisodeReplay:
    """How a replayed episode compares with its recording. ``drifts`` is empty where every
    decision was reproduced."""

    episode: Episode
    n_recorded: int
    drifts: tuple[str, ...]


def is_episode(info: BagInfo) -> bool:
    return EPISODE in info.metadata


def replay_episode(bag: Path, engines: Engines | None = None) -> EpisodeReplay:
    """Decides the episode in ``bag`` again, by default with its own recorded answers.

    Raises `BagError` when the bag holds no whole episode, `EngineError` when it holds no answers
    and no ``engines`` are given.
    """
    with BagReader(bag) as reader:
        info = reader.info()
        if not is_episode(info):
            raise BagError(f"{bag} holds no episode: it was not recorded by the executive")
        head = _head(bag, info.metadata[EPISODE])
        robot, notes = _robot(bag, head)
        kept = _Kept.read(reader)
        if kept.end is None:
            raise BagError(
                f"{bag} holds {len(kept.turns)} turns of an episode that was cut off: only a whole "
                "one can be decided again"
            )
        camera = choose_camera(info, find_cameras(info, reader.first_encoding), head.camera)
        perception = Perception(PerceptionConfig((assembly_of(camera),), keyframes=False))
        clock = _BagClock(reader, info, bag_inputs(camera, ("/tf", "/tf_static"), perception))
        goals = frozenset(GOAL_KINDS[goal] for goal in head.goals if goal in GOAL_KINDS)
        actuator = PlayedActuator(head.actuator, goals, kept.actuator, clock)
        cancel = _PlayedCancel(clock, kept.cancel)
        engines = cancel.engines(engines or _recorded_engines(bag, kept))
        said = iter(kept.approvals)
        approve = (lambda step, motion: next(said, False)) if kept.approvals else None
        brain, taker, arming = assemble(
            robot,
            perception,
            clock,
            actuator,
            engines.select,
            tell=lambda event: None,
            approve=approve,
        )
        arming.arm(clock.now_ns())
        episode = carry_out(head.task, taker, brain, cancel)
    drifts = (*notes, *_compare(kept, episode), *actuator.drifts)
    return EpisodeReplay(episode, len(kept.turns), drifts)


@dataclass(frozen=True)
class _Kept:
    """What a recording holds beside the robot's own messages. ``cancel`` is when a person stopped
    it, ns, and after how many answers; ``end`` is ``None`` where the recording was cut off."""

    answers: tuple[str, ...]
    turns: tuple[dict[str, Any], ...]
    actuator: tuple[dict[str, Any], ...]
    cancel: tuple[int, int] | None
    approvals: tuple[bool, ...]
    end: dict[str, Any] | None

    @classmethod
    def read(cls, reader: BagReader) -> _Kept:
        texts: dict[str, list[str]] = {
            topic: [] for topic in (ANSWERS, TURNS, ACTUATOR, INPUTS, ENDED)
        }
        cancel: tuple[int, int] | None = None
        known = {topic.topic for topic in reader.info().topics}
        for message in reader.messages(tuple(topic for topic in texts if topic in known)):
            texts[message.topic].append(str(message.decode().data))
            if cancel is None and "cancel" in texts[INPUTS]:
                cancel = message.log_time_ns, len(texts[ANSWERS])
        return cls(
            tuple(texts[ANSWERS]),
            tuple(json.loads(text) for text in texts[TURNS]),
            tuple(json.loads(text) for text in texts[ACTUATOR]),
            cancel,
            tuple(name == "approved" for name in texts[INPUTS] if name != "cancel"),
            json.loads(texts[ENDED][0]) if texts[ENDED] else None,
        )


def _head(bag: Path, record: Mapping[str, str]) -> EpisodeHead:
    """Metadata that is not text was written as JSON."""
    try:
        return EpisodeHead(
            task=record["task"],
            robot=record["robot"],
            settings=dict(json.loads(record["settings"])),
            camera=record["camera"],
            actuator=record["actuator"],
            goals=tuple(map(str, json.loads(record["goals"]))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BagError(f"{bag}: its record {EPISODE!r} cannot be read: {error!r}") from error


def _robot(bag: Path, head: EpisodeHead) -> tuple[Robot, tuple[str, ...]]:
    """The robot by its name, and a note where it has other settings now."""
    if head.robot not in ROBOTS:
        known = ", ".join(ROBOTS)
        raise BagError(f"{bag} was recorded with robot {head.robot!r}; known are {known}")
    recorded = head.settings
    limits = recorded.get("limits", {})
    robot = ROBOTS[head.robot](
        dry_run=bool(limits.get("dry_run", True)),
        require_approval=bool(limits.get("require_approval", True)),
        engine_verdict=str(limits.get("engine_verdict", "not_required")),
    )
    robot = replace(robot, verdicts=_verdicts(bag, recorded))
    now = _written(robot.record)
    notes = [
        f"setting {part}.{key} was {value!r} in the recording and is {now[part].get(key)!r} now"
        for part, values in recorded.items()
        if isinstance(values, dict) and part in now
        for key, value in values.items()
        if now[part].get(key) != value
    ]
    return robot, tuple(notes)


def _verdicts(bag: Path, recorded: Mapping[str, Any]) -> tuple[EngineVerdict, ...]:
    """The engines' verdicts as they were when the episode was recorded."""
    try:
        return tuple(
            EngineVerdict(
                **{
                    **entry,
                    "identity": EngineIdentity(**entry["identity"]),
                    "tasks": tuple(entry["tasks"]),
                }
            )
            for entry in recorded.get("verdicts", ())
        )
    except (KeyError, TypeError) as error:
        raise BagError(f"{bag}: its engines' verdicts cannot be read: {error!r}") from error


def recorded_engines(bag: Path) -> Engines:
    """Engines that answer as the episode in ``bag`` was answered, and fail where it failed. Raises
    `BagError` where it holds no whole episode, `EngineError` where it holds no answers."""
    with BagReader(bag) as reader:
        return _recorded_engines(bag, _Kept.read(reader))


def _recorded_engines(bag: Path, kept: _Kept) -> Engines:
    if not kept.answers and any(turn["text"] for turn in kept.turns):
        raise EngineError(f"{bag} holds no recorded answers: name an engine with --engine")
    answers = [parse_recorded(bag, n, text) for n, text in enumerate(kept.answers, 1)]
    refusals = [turn["refusal"] for turn in kept.turns if turn["refusal"]]
    failed = RefusalCode.ENGINE_FAILED.value
    failures = [refusal["text"] for refusal in refusals if refusal["code"] == failed]
    return Engines.one(
        _EngineThen(RecordedEngine(answers, str(bag)) if answers else None, failures, _asked(kept))
    )


def _asked(kept: _Kept) -> str:
    """The name of the engine that answered then."""
    return str((kept.end or {}).get("engine", "recorded"))


class _EngineThen:
    """Answers what was answered in the recording, in the name of the engine that did, and fails, in
    the same words, where it failed."""

    def __init__(self, answers: RecordedEngine | None, failures: Sequence[str], name: str) -> None:
        self._answers, self._failures, self._name = answers, deque(failures), name
        self.info = answers.info if answers is not None else EngineInfo("recorded", "recorded")

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        if cancel is not None and cancel.is_set():
            return Answer(query.query_id, "", FinishReason.CANCELLED, "recorded", "recorded")
        try:
            if self._answers is None:
                raise RecordedAnswerMissingError("the recording holds no answer")
            return replace(self._answers.ask(query, on_text), engine=self._name)
        except RecordedAnswerMissingError as error:
            raise EngineError(self._failures.popleft()) if self._failures else error from None

    def close(self) -> None:
        """Nothing to release."""


class _BagClock:
    """A recording's time: waiting hands out what had been received by then."""

    def __init__(self, reader: BagReader, info: BagInfo, inputs: Mapping[str, Any]) -> None:
        known = {topic.topic for topic in info.topics}
        self._messages = reader.messages(tuple(topic for topic in inputs if topic in known))
        self._inputs = inputs
        self._next: BagMessage | None = next(self._messages, None)
        self._now_ns = info.start_ns
        self._hand_out()

    def now_ns(self) -> int:
        return self._now_ns

    def wait(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._next is not None and self._next.log_time_ns <= self._now_ns:
            self._inputs[self._next.topic](self._next.decode())
            self._next = next(self._messages, None)


class _PlayedCancel:
    """A person's stop, at the time at which it came; time stands still while an engine thinks, so
    also after as many answers."""

    def __init__(self, clock: _BagClock, cancel: tuple[int, int] | None) -> None:
        self._clock, self._cancel = clock, cancel
        self._n_answers = 0

    def is_set(self) -> bool:
        if self._cancel is None:
            return False
        now_ns, (cancel_ns, n_answers) = self._clock.now_ns(), self._cancel
        return now_ns > cancel_ns or (now_ns == cancel_ns and self._n_answers >= n_answers)

    def engines(self, engines: Engines) -> Engines:
        """The same engines, and their answers are counted."""
        by_role = engines.by_role.items()
        return Engines({role: RecordingEngine(engine, self._count) for role, engine in by_role})

    def _count(self, *_: object) -> None:
        self._n_answers += 1


def _compare(kept: _Kept, episode: Episode) -> list[str]:
    """One sentence for each turn that differs, with the first part of it that does, and one for
    the end."""
    again = [_written(turn_record(turn)) for turn in episode.turns]
    drifts = [
        f"turn {number}: {_difference(then, now)}"
        for number, (then, now) in enumerate(zip(kept.turns, again, strict=False), 1)
        if then != now
    ]
    if len(kept.turns) != len(again):
        drifts.append(f"the recording has {len(kept.turns)} turns, the replay {len(again)}")
    now = {**_written(episode_record(episode)), "engine": (kept.end or {}).get("engine")}
    return drifts if kept.end == now else [*drifts, f"the end: {_difference(kept.end, now)}"]


def _written(record: Mapping[str, Any]) -> Any:
    """As it would be read again."""
    return json.loads(as_line(record))


def _difference(then: Any, now: Any, where: str = "") -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then:
            if then[key] != now.get(key):
                return _difference(then[key], now.get(key), f"{where}.{key}" if where else key)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (a, b) in enumerate(zip(then, now, strict=True)):
            if a != b:
                return _difference(a, b, f"{where}[{index}]")
    return f"{where} was {then!r}, is {now!r}"
