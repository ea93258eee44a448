"""Short recorded episodes that end the same everywhere: small pictures, and a planner who knows
where everything is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.demo import Played, Stage, StageConfig, make_stage, play
from rynn_brain_ros.demo.recording import Recording
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning.executive import Approve
from rynn_brain_ros.replay.episode_folder import EPISODE
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.values import Answer, Cancel, EngineError, EngineInfo, FinishReason, Query

CUBE = "red cube"
NONSENSE = "I like cubes."
TABLE = StageConfig()
Say = str | EngineError | Callable[[Stage, int], str]
"""What to say; or why not; or made from the truth and the number of the newest frame."""


def small_stage(config: StageConfig = TABLE) -> Stage:
    """The stage of ``config``; a table has pictures of 320×240."""
    stage = make_stage(config)
    if isinstance(stage.world, TableWorld):
        stage.world.width, stage.world.height = 320, 240  # before the first picture is drawn
    return stage


def pick(stage: Stage, frame: int) -> str:
    """The red cube, by its middle."""
    rows, columns = np.nonzero(stage.world.mask("front", CUBE))
    x = round(1000 * float(columns.mean()) / (stage.world.width - 1))
    y = round(1000 * float(rows.mean()) / (stage.world.height - 1))
    return f"Pick up <affordance> <frame {frame}>: ({x}, {y}) </affordance>."


class Planner:
    """An engine that says its lines in turn, and ``Done.`` when there are none left."""

    info = EngineInfo(name="planner", model="planner")

    def __init__(self, stage: Stage, *lines: Say) -> None:
        self._stage, self._lines = stage, list(lines)

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        if cancel is not None and cancel.is_set():
            return Answer(query.query_id, "", FinishReason.CANCELLED, "planner", "planner")
        line = self._lines.pop(0) if self._lines else "Done."
        if isinstance(line, EngineError):
            raise line
        text = line if isinstance(line, str) else line(self._stage, len(query.frames) - 1)
        return Answer(query.query_id, text, FinishReason.STOP, "planner", "planner")

    def close(self) -> None:
        """Nothing to release."""


class Switch:
    """A person's hand on the stop."""

    def __init__(self) -> None:
        self.on = False

    def press(self) -> None:
        self.on = True

    def is_set(self) -> bool:
        return self.on


def record(
    out: Path,
    *lines: Say,
    config: StageConfig = TABLE,
    hear: Callable[[Any], None] = lambda event: None,
    cancel: Cancel | None = None,
    approve: Approve | None = None,
) -> Played:
    """Plays ``lines`` on a small table and leaves the run folder ``out``."""
    stage = small_stage(config)
    try:
        with Recording(out, stage, {"seed": str(config.seed)}) as recording:
            played = play(
                stage,
                recording.engines(Engines.one(Planner(stage, *lines))),
                recording.ears(hear),
                None if cancel is None else recording.cancel(cancel),
                None if approve is None else recording.approve(approve),
            )
            recording.close(played, "A planner who knows the truth.")
    finally:
        stage.close()
    return played


def tampered(
    bag: Path,
    path: Path,
    change: Callable[[str, Any], Any] = lambda topic, message: message,
    head: Callable[[dict[str, str]], Mapping[str, Any]] = lambda record: record,
) -> Path:
    """``bag`` with each message as ``change(topic, message)`` gives it back (``None`` leaves it
    out), and the record that says which episode it is as ``head`` does."""
    with BagReader(bag) as reader, BagWriter(path) as writer:
        writer.add_metadata(EPISODE, head(dict(reader.info().metadata[EPISODE])))
        for message, value in reader.decoded():
            new = change(message.topic, value)
            if new is not None:
                writer.write(message.topic, message.typename, new, message.log_time_ns)
    return path
