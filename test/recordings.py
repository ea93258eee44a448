"""Small recordings of a rendered table, whole or changed by a test, and how to ask them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.cli import main
from rynn_brain_ros.language import compose
from rynn_brain_ros.models import Engines, RecordedAnswer, plain_messages, save_recorded
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig
from rynn_brain_ros.replay import replay as run_replay
from rynn_brain_ros.sim import Tabletop, example_scene
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    Engine,
    EngineInfo,
    FinishReason,
    Generation,
    Query,
    Task,
)

SMALL_SEED = 3
SMALL = {"width": 160, "height": 120, "focal_px": 131.25}
CUBE = "Pick up the red cube"


def small_scene(seed: int = SMALL_SEED) -> Tabletop:
    return replace(example_scene(seed), **SMALL)


@dataclass
class Item:
    """One message of a bag, decoded so that a test can change it."""

    topic: str
    typename: str
    value: Any
    log_ns: int


def items(bag: Path) -> list[Item]:
    with BagReader(bag) as reader:
        return [
            Item(message.topic, message.typename, value, message.log_time_ns)
            for message, value in reader.decoded()
        ]


def write_items(path: Path, messages: Iterable[Item]) -> Path:
    with BagWriter(path) as bag:
        for item in messages:
            bag.write(item.topic, item.typename, item.value, item.log_ns)
    return path


def changed(bag: Path, path: Path, change: Callable[[Item], Item | None]) -> Path:
    """``bag`` with each message as ``change`` gives it back; ``None`` leaves it out."""
    kept = (change(item) for item in items(bag))
    return write_items(path, (item for item in kept if item is not None))


def begun_again(bag: Path, path: Path, color_topic: str) -> Path:
    """A simulator that is reset after 2 s: the same stamps again, and only its first picture."""
    first, second = items(bag), items(bag)
    still = next(item.value.data for item in first if item.topic == color_topic)
    for item in second:
        item.log_ns += 2_000_000_000
        if item.topic == color_topic:
            item.value.data = still
    return write_items(path, [*first, *second])


def without(bag: Path, path: Path, topic: str) -> Path:
    return changed(bag, path, lambda item: None if item.topic == topic else item)


def replay(bag: Path, out: Path, *more: str, ask: str = CUBE, task: str = "affordance") -> int:
    """The exit code of ``rynn-brain replay``."""
    return main(["replay", str(bag), "--ask", ask, "--task", task, "--out", str(out), *more])


def answers(out: Path) -> list[dict[str, Any]]:
    lines = (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def final_names(out: Path) -> list[str]:
    """Which of a run's files carry their final names."""
    names = ("answers.jsonl", "report.html", "run.mcap")
    return [name for name in names if (out / name).exists()]


class ScriptedEngine:
    """A real engine in the protocol's sense: gives its answers in turn, and keeps the questions."""

    def __init__(self, *texts: str, name: str = "scripted") -> None:
        self.info = EngineInfo(name=name, model="RynnBrain-test")
        self.texts = texts
        self.queries: list[Query] = []

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        self.queries.append(query)
        text = self.texts[min(len(self.queries), len(self.texts)) - 1]
        if on_text is not None:
            on_text(text)
        return Answer(query.query_id, text, FinishReason.STOP, self.info.name, self.info.model)

    def close(self) -> None:
        pass


def ask_bag(bag: Path, out: Path, engine: Engine, task: Task = Task.AFFORDANCE, **config: Any):
    """A replay through the library, with an engine that the command line does not know."""
    settings = ReplayConfig((Question(CUBE, task),), **config)
    return run_replay(bag, settings, Engines.one(engine), out)


def record_answer(
    bag: Path, file: Path, text: str, task: Task = Task.AFFORDANCE, **fields: Any
) -> Path:
    """A recorded-answers file that answers ``CUBE``, asked at the end of ``bag``, with ``text``."""
    engine = ScriptedEngine("")
    with tempfile.TemporaryDirectory() as folder:
        ask_bag(bag, Path(folder), engine, task)
    messages = plain_messages(compose(engine.queries[0], Generation.V1_0))
    save_recorded(file, [RecordedAnswer("RynnBrain-test", messages, text, **fields)])
    return file
