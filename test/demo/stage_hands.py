"""For episodes with trouble: an engine with a script, and hands that meddle with the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rynn_brain_ros.demo import Ears, Measured, Stage, StageConfig, make_stage, play
from rynn_brain_ros.models import ColorBaselineEngine, Engines
from rynn_brain_ros.planning.episode import Episode, EpisodeEvent, StageBegan
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    Engine,
    EngineInfo,
    FinishReason,
    Query,
)
from rynn_brain_ros.values import (
    Stage as MotionStageName,
)

DEMO = StageConfig(world="table", seed=0)


class ScriptedEngine:
    """Says the lines of its script, then what another engine says."""

    info = EngineInfo(name="scripted", model="scripted")

    def __init__(self, lines: Iterable[str], then: Engine | None = None) -> None:
        self._lines, self._then = list(lines), then or ColorBaselineEngine()
        self.asked: list[Query] = []

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        self.asked.append(query)
        if not self._lines:
            return self._then.ask(query, on_text, cancel)
        text = self._lines.pop(0)
        return Answer(query.query_id, text, FinishReason.STOP, "scripted", "scripted")

    def close(self) -> None:
        """Nothing to release."""


class Switch:
    """A person's hand on the stop."""

    def __init__(self) -> None:
        self.on = False

    def is_set(self) -> bool:
        return self.on


@dataclass
class Result:
    episode: Episode
    measured: Measured
    events: list[EpisodeEvent] = field(default_factory=list)

    @property
    def codes(self) -> list[str]:
        return [refusal.code.value for refusal in self.episode.refusals]

    @property
    def moved(self) -> bool:
        return any(turn.moved for turn in self.episode.turns)


def at(stage: MotionStageName, do: Callable[[], None]) -> Callable[[EpisodeEvent], None]:
    """``do``, once, when a motion comes to ``stage``."""
    done: list[bool] = []

    def hear(event: EpisodeEvent) -> None:
        if isinstance(event, StageBegan) and event.stage.stage is stage and not done:
            done.append(True)
            do()

    return hear


def act(
    config: StageConfig = DEMO,
    engine: Engine | None = None,
    meddle: Callable[[Stage], Callable[[EpisodeEvent], None] | None] = lambda stage: None,
    cancel: Cancel | None = None,
) -> Result:
    """Plays one episode; ``meddle`` may change the stage first, and may listen."""
    stage = make_stage(config)
    events: list[EpisodeEvent] = []
    try:
        listener = meddle(stage)

        def hear(event: EpisodeEvent) -> None:
            events.append(event)
            if listener is not None:
                listener(event)

        engines = Engines.one(engine or ColorBaselineEngine())
        episode = play(stage, engines, Ears(event=hear), cancel).episode
        return Result(episode, stage.measure(), events)
    finally:
        stage.close()
