"""Small recordings of a rendered table, whole or changed by a test, and how to ask them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.cli import main
from rynn_brain_ros.sim import Tabletop, example_scene

SMALL = {"width": 160, "height": 120, "focal_px": 131.25}
CUBE = "Pick up the red cube"


def small_scene(seed: int = 1) -> Tabletop:
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
