"""RynnBrain-nano from nothing: draw pictures, learn to see, learn to speak.

    python -m training.nano.train OUT [--recipe quick|full] [--pool DIR] [--workers N]

``OUT/RynnBrain-nano`` is the checkpoint, ``OUT/curve.jsonl`` the learning curve. Each stage that is
finished is kept in ``OUT``, and a run that was stopped goes on behind the last of them. The same
seed draws the same pictures and asks the same questions; sums of floating point differ a little
from machine to machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.nano.lessons import Teacher, sentences
from training.nano.network import Sight, build_network
from training.nano.optimizing import Schedule, Score
from training.nano.pool import Pool, draw_pool
from training.nano.save import provenance, save_checkpoint
from training.nano.see import (
    Heads,
    Parts,
    Truths,
    learn_to_see,
)
from training.nano.speak import (
    COLUMNS,
    ROWS,
    Batch,
    Scribe,
    SeenBefore,
    Speaker,
    assemble,
    learn_to_speak,
)
from training.nano.words import build_tokenizer

NAME = "RynnBrain-nano"
PARTS = (8, 10)
"""Rows and columns of visual tokens of the parts that are shown first."""


@dataclass(frozen=True)
class Recipe:
    """How much of everything; the pool is ``shards`` of ``shard`` pictures each."""

    seed: int = 1
    shards: int = 24
    shard: int = 1000
    see_parts: Schedule = field(default_factory=lambda: Schedule(2800, 2.5e-3))
    see_whole: Schedule = field(default_factory=lambda: Schedule(180, 1e-3))
    speak: Schedule = field(default_factory=lambda: Schedule(1100, 3e-3))
    several: Schedule = field(default_factory=lambda: Schedule(900, 1.5e-3, 0.02))
    parts_batch: int = 32
    whole_batch: int = 8
    lessons: int = 8
    questions: int = 6
    """Of each lesson."""
    known_pictures: int = 5000
    """Of the pool, for learning to speak: their visual tokens are kept in memory."""
    most_frames: int = 4


QUICK = Recipe(
    shards=4,
    shard=250,
    see_parts=Schedule(150, 2.5e-3),
    see_whole=Schedule(20, 1e-3),
    speak=Schedule(60, 3e-3),
    several=Schedule(10, 1e-3),
    known_pictures=400,
)
"""Minutes, to see that all of it learns."""
RECIPES = {"full": Recipe(), "quick": QUICK}


class Run:
    """One training run in its folder."""

    def __init__(self, out: Path, pool: Path, recipe: Recipe) -> None:
        self.out, self.recipe = out, recipe
        out.mkdir(parents=True, exist_ok=True)
        self.pool = Pool(pool)
        self.truths = Truths(self.pool)
        self.tokenizer = build_tokenizer(sentences())
        self.model = build_network(self.tokenizer, recipe.seed)
        self.sight = Sight(self.model)
        self.heads = Heads(self.model.config.vision_config.out_hidden_size)
        self.scribe = Scribe(self.tokenizer)
        self.speaker = Speaker(self.model, self.scribe.numbers)
        self.seconds = 0.0

    # --- stages ---------------------------------------------------------------------------------

    def train(self) -> Path:
        """Everything; the checkpoint's folder."""
        self._stage("see parts", self._see_parts)
        self._stage("see whole", self._see_whole)
        self._stage("speak", self._speak)
        self._stage("several", self._several)
        path = self.out / NAME
        recipe = {**asdict(self.recipe), "pool": " ".join(self.pool.shards)}
        told = provenance(recipe, self.seconds / 60)
        save_checkpoint(self.model, self.tokenizer, path, told)
        return path

    def _see_parts(self, tell: Callable[[Score], None]) -> None:
        recipe = self.recipe
        self._see(recipe.see_parts, PARTS, recipe.parts_batch, tell)

    def _see_whole(self, tell: Callable[[Score], None]) -> None:
        recipe = self.recipe
        self._see(recipe.see_whole, (ROWS, COLUMNS), recipe.whole_batch, tell)

    def _see(
        self, schedule: Schedule, size: tuple[int, int], batch: int, tell: Callable[[Score], None]
    ) -> None:
        parts = Parts(self.pool, self.truths, self._rng(schedule.steps))
        learn_to_see(self.sight, self.heads, parts, schedule, tell, size=size, batch=batch)

    def _speak(self, tell: Callable[[Score], None]) -> None:
        """On a part of the pool, each picture always or never mirrored: seen once, kept."""
        recipe, rng = self.recipe, self._rng(1)
        teacher, seen = Teacher(rng), SeenBefore(self.pool, self.sight)
        n_known = min(recipe.known_pictures, len(self.pool))
        n_things = np.array([len(self.pool.things(n)) for n in range(n_known)])

        def lessons(fraction: float) -> Batch:
            # Few things first: among many, which one is meant is hard to find out from nothing.
            easy = np.flatnonzero(n_things <= 3 + 20 * max(0.0, fraction - 0.05))
            chosen = rng.choice(easy, recipe.lessons)
            return self._batch(teacher, [[(int(n), bool(n % 2))] for n in chosen])

        learn_to_speak(self.speaker, seen, lessons, recipe.speak, tell)

    def _several(self, tell: Callable[[Score], None]) -> None:
        """Several frames: which one shows it, and which of these is the newest."""
        recipe, rng = self.recipe, self._rng(3)
        teacher, seen = Teacher(rng), SeenBefore(self.pool, self.sight)
        n_tables = min(recipe.known_pictures, len(self.pool)) // 2

        def lessons(_: float) -> Batch:
            n_frames = int(rng.choice(np.arange(1, recipe.most_frames + 1), p=self._few()))
            n_lessons = max(1, recipe.lessons // n_frames)
            asked = [self._frames(rng, n_tables, n_frames) for _ in range(n_lessons)]
            return self._batch(teacher, asked)

        blur = (5.0, 5.0)
        learn_to_speak(self.speaker, seen, lessons, recipe.several, tell, blur=blur)

    # --- their surroundings -----------------------------------------------------------------------

    def _few(self) -> NDArray[np.float64]:
        """How often 1, 2, … frames are shown: the more, the rarer."""
        weights = 1 / np.arange(1, self.recipe.most_frames + 1)
        return np.asarray(weights / weights.sum())

    def _frames(
        self, rng: np.random.Generator, n_tables: int, n_frames: int
    ) -> list[tuple[int, bool]]:
        """Both pictures of each table, one after the other, never mirrored between them."""
        tables = rng.choice(n_tables, -(-n_frames // 2), replace=False)
        frames = [(int(2 * t + k), bool(t % 2)) for t in tables for k in rng.permutation(2)]
        return frames[:n_frames]

    def _batch(self, teacher: Teacher, asked: Sequence[Sequence[tuple[int, bool]]]) -> Batch:
        """Questions about each of the frame sets ``asked``."""
        truths = [[self.truths[n] for n, _ in frames] for frames in asked]
        lessons = [
            teacher.lesson(frames, known, self.recipe.questions)
            for frames, known in zip(asked, truths, strict=True)
        ]
        return assemble(self.scribe, lessons, truths)

    def _rng(self, salt: int) -> np.random.Generator:
        return np.random.default_rng((self.recipe.seed, salt))

    def _stage(self, name: str, train: Callable[[Callable[[Score], None]], None]) -> None:
        kept = self.out / f"{name.replace(' ', '-')}.pt"
        if kept.exists():
            self._load(kept)
            return
        began, before = time.monotonic(), self.seconds

        def tell(score: Score) -> None:
            line = json.dumps({"stage": name, **score})
            print(line, flush=True)
            with (self.out / "curve.jsonl").open("a", encoding="utf-8") as curve:
                curve.write(line + "\n")

        train(tell)
        self.seconds = before + time.monotonic() - began
        self._keep(kept)

    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "heads": self.heads, "pointers": self.speaker.pointers}

    def _keep(self, path: Path) -> None:
        unfinished = path.with_suffix(".partial")
        states = {name: module.state_dict() for name, module in self._modules().items()}
        torch.save({"seconds": self.seconds, **states}, unfinished)
        unfinished.rename(path)

    def _load(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True)
        for name, module in self._modules().items():
            module.load_state_dict(kept[name])
        self.seconds = kept["seconds"]


def draw(pool: Path, recipe: Recipe, workers: int) -> None:
    """The pool's pictures, by several processes."""
    share = -(-recipe.shards // workers)
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    drawing = [
        context.Process(
            target=draw_pool,
            args=(pool, recipe.seed, first, min(first + share, recipe.shards), recipe.shard),
        )
        for first in range(0, recipe.shards, share)
    ]
    for process in drawing:
        process.start()
    for process in drawing:
        process.join()
        if process.exitcode:
            raise SystemExit(f"drawing pictures failed (exit {process.exitcode}); see above")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="full")
    parser.add_argument("--pool", type=Path, help="where the pictures are kept (OUT/pool)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    options = parser.parse_args(arguments)
    recipe, pool = RECIPES[options.recipe], options.pool or options.out / "pool"
    draw(pool, recipe, options.workers)
    print(Run(options.out, pool, recipe).train())


if __name__ == "__main__":
    main()
