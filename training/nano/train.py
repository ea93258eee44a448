"""RynnBrain-nano from nothing: draw pictures, learn to see, learn to speak.

    python -m training.nano.train OUT [--recipe quick|full|further] [--pool DIR] [--workers N]
                                      [--from CHECKPOINT]

``OUT/RynnBrain-nano`` is the checkpoint, ``OUT/curve.jsonl`` the learning curve. What is learned is
kept in ``OUT`` every few minutes, and a run that was stopped goes on there. With ``--from`` an
earlier nano learns on: what is new to it, then the last stage. The same seed draws the same
pictures and, for as many workers, asks the same questions; sums of floating point differ a little
from machine to machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.sim.furnishing import KINDS as FURNITURE
from rynn_brain_ros.values import Task
from training.nano.films import PER_FILM, film_pictures
from training.nano.lessons import POINTING, Manner
from training.nano.network import Sight, build_network
from training.nano.optimizing import Schedule, Score, Tell, write_torch
from training.nano.plans import PER_TABLE, Plan, PlanTeacher
from training.nano.pool import Pool, draw_pool
from training.nano.products import keep_states, learn_products
from training.nano.rooms import PER_DRIVE, room_pictures
from training.nano.routes import RouteTeacher
from training.nano.rows import COLUMNS, ROWS, Batch, Row, Scribe, assemble
from training.nano.save import BEGAN_WITH, load_checkpoint, provenance, save_checkpoint
from training.nano.see import Heads, Parts, Truths, learn_heads, learn_to_see
from training.nano.speak import MOST_FRAMES, SeenBefore, Speaker, learn_hints, learn_to_speak
from training.nano.talks import Talk
from training.nano.teacher import EVERYTHING, FIND_AND_BOX, THOUGHTS, Teacher
from training.nano.team import ALONE, Team, in_team
from training.nano.truth import Truth
from training.nano.turns import turn_pictures
from training.nano.vocabulary import sentences
from training.nano.words import build_tokenizer

NAME = "RynnBrain-nano"
PARTS = (8, 10)
"""Rows and columns of visual tokens of the parts that are shown first."""
WHOLE = (ROWS, COLUMNS)
_ONE_FRAME, _LONGEST, _TWO_FILMS = 0.35, 0.55, 0.2
"""Of questions, how often a single frame is shown, and of those about several, how often as many
as there may be, and frames of two films."""
_ABSENT = 0.25
"""How often what is asked for is not there."""
_MOST_QUESTIONS = 12
TABLES, FILMS, TURNS, ROOMS = "tables", "films", "turns", "rooms"
"""The pool's folders."""


@dataclass(frozen=True)
class Recipe:
    """How much of everything; the pool is ``shards`` of ``shard`` pictures each. Batches, lessons
    and plans are those of a step, and shared out among the workers."""

    seed: int = 1
    shards: int = 24
    shard: int = 1000
    see_parts: Schedule = field(default_factory=lambda: Schedule(2800, 2.5e-3))
    see_whole: Schedule = field(default_factory=lambda: Schedule(180, 1e-3))
    speak: Schedule = field(default_factory=lambda: Schedule(1100, 3e-3))
    everything: Schedule = field(default_factory=lambda: Schedule(3200, 6e-4, 0.02))
    """A step on a film of eight frames is about one table: at 9e-4 what was known got worse."""
    parts_batch: int = 32
    whole_batch: int = 8
    lessons: int = 8
    questions: int = 6
    """Of each lesson."""
    heads: Schedule = field(default_factory=lambda: Schedule(100, 4e-3))
    see_more_parts: Schedule = field(default_factory=lambda: Schedule(1000, 1e-3))
    see_more_whole: Schedule = field(default_factory=lambda: Schedule(150, 4e-4))
    hints: Schedule = field(default_factory=lambda: Schedule(80, 3e-3))
    products: Schedule = field(default_factory=lambda: Schedule(1200, 2e-3))
    """These five for a checkpoint that learns on."""
    kept_lessons: int = 250
    """Of so many steps' lessons the states are kept from which the products learn."""
    plan_share: float = 0.0
    """Of the last stage's steps, how many teach it to plan."""
    plans: int = 4
    counting_share: float = 0.06
    """Of the other steps, how many teach it to count."""
    thinking_share: float = 0.0
    """How many of these teach it to think first. Such questions are twice as long: half as many are
    asked."""
    room_share: float = 0.0
    """How many of those that point are about rooms."""
    route_share: float = 0.0
    """Of the last stage's steps, how many teach it to drive."""
    routes: int = 6
    film_shards: int = 16
    turn_shards: int = 12
    room_shards: int = 12
    scene_shard: int = 400
    """Pictures of films, of turns and of rooms, several of each table or room."""
    known_pictures: int = 5000
    """Of the pool, for learning to speak: their visual tokens are kept in memory."""


QUICK = Recipe(
    shards=4,
    shard=250,
    see_parts=Schedule(150, 2.5e-3),
    see_whole=Schedule(20, 1e-3),
    speak=Schedule(60, 3e-3),
    everything=Schedule(20, 1e-3),
    products=Schedule(60, 2e-3),
    kept_lessons=10,
    film_shards=2,
    turn_shards=2,
    room_shards=2,
    scene_shard=40,
    known_pictures=400,
)
"""Minutes, to see that all of it learns."""
FURTHER = Recipe(
    seed=10,
    shards=6,
    film_shards=20,
    turn_shards=16,
    everything=Schedule(1600, 4e-4, 0.02),
    plan_share=0.25,
    plans=5,
    counting_share=0.12,
    room_share=0.2,
    route_share=0.15,
    known_pictures=6000,
)
"""For a nano that sees and speaks: films, plans, and everything else that is asked of it."""
RECIPES = {"full": Recipe(), "quick": QUICK, "further": FURTHER}


Lessons = tuple[Batch, torch.Tensor]


class Chance:
    """Random numbers that depend on nothing but seed and step, so that a run that goes on draws
    what it would have drawn."""

    def __init__(self, *seed: int) -> None:
        self._seed, self.rng = seed, np.random.default_rng(seed)

    def at(self, step: int) -> None:
        fresh = np.random.default_rng((*self._seed, step))
        self.rng.bit_generator.state = fresh.bit_generator.state


class Run:
    """One training run in its folder, or a worker's part of it."""

    def __init__(self, out: Path, pool: Path, recipe: Recipe, team: Team = ALONE) -> None:
        self.out, self.recipe, self.team = out, recipe, team
        out.mkdir(parents=True, exist_ok=True)
        self.pool, self.films, self.turns, self.rooms = (
            Pool(pool / name, team=team) for name in (TABLES, FILMS, TURNS, ROOMS)
        )
        self._looked_at = Pool(pool / TABLES, pool / ROOMS, team=team)
        self.tokenizer = build_tokenizer(sentences())
        self.model = build_network(self.tokenizer, recipe.seed)
        self.sight = Sight(self.model)
        self.heads = Heads(self.model.config.vision_config.out_hidden_size)
        self.scribe = Scribe(self.tokenizer)
        self.speaker = Speaker(self.model, self.scribe.numbers)
        self._earlier: Sight | None = None
        self.seconds = 0.0

    # --- stages ---------------------------------------------------------------------------------

    def train(self) -> None:
        """Everything."""
        self._stage("see parts", self._see_parts)
        self._stage("see whole", self._see_whole)
        self._stage("speak", self._speak)
        self._stage("everything", self._everything)
        self._save({})

    def train_further(self, checkpoint: Path) -> None:
        """On an earlier nano's weights: what it does not see yet, and the last stage."""
        came_from, new_words = load_checkpoint(self.model, self.tokenizer, checkpoint)
        self._earlier = deepcopy(self.sight)
        self._stage("heads", self._heads)
        self._stage("see more parts", self._see_more_parts)
        self._stage("see more whole", self._see_more_whole)
        self._stage("hints", lambda tell, _: self._hints(tell, new_words))
        self._stage("products", lambda tell, _: self._products(tell))
        self._stage("everything", self._everything)
        self._save({BEGAN_WITH: came_from})

    def _save(self, more: Mapping[str, Any]) -> None:
        if not self.team.leads:
            return
        pools = {TABLES: self.pool, FILMS: self.films, TURNS: self.turns, ROOMS: self.rooms}
        shards = {name: " ".join(pool.shards) for name, pool in pools.items()}
        recipe = {**asdict(self.recipe), "pool": shards}
        told = {**provenance(recipe, self.seconds / 60, self.team.size), **more}
        save_checkpoint(self.model, self.tokenizer, self.out / NAME, told)

    def _see_parts(self, tell: Tell, kept: Path) -> float:
        recipe = self.recipe
        return self._see(recipe.see_parts, PARTS, recipe.parts_batch, tell, kept)

    def _see_whole(self, tell: Tell, kept: Path) -> float:
        recipe = self.recipe
        return self._see(recipe.see_whole, WHOLE, recipe.whole_batch, tell, kept)

    def _heads(self, tell: Tell, _: Path) -> float:
        schedule, batch = self.recipe.heads, self.team.share(self.recipe.parts_batch)
        return learn_heads(
            self.sight,
            self.heads,
            self._parts(schedule),
            schedule,
            tell,
            size=PARTS,
            batch=batch,
            team=self.team,
        )

    def _see_more_parts(self, tell: Tell, kept: Path) -> float:
        recipe = self.recipe
        return self._see(recipe.see_more_parts, PARTS, recipe.parts_batch, tell, kept)

    def _see_more_whole(self, tell: Tell, kept: Path) -> float:
        recipe = self.recipe
        return self._see(recipe.see_more_whole, WHOLE, recipe.whole_batch, tell, kept)

    def _see(
        self, schedule: Schedule, size: tuple[int, int], batch: int, tell: Tell, kept: Path
    ) -> float:
        return learn_to_see(
            self.sight,
            self.heads,
            self._parts(schedule),
            schedule,
            tell,
            size=size,
            batch=self.team.share(batch),
            earlier=self._earlier,
            kept=kept,
            team=self.team,
        )

    def _parts(self, schedule: Schedule) -> Callable[[int], Parts]:
        chance = Chance(self.recipe.seed, schedule.steps)
        known = Parts(self._looked_at, Truths(self._looked_at), chance.rng)

        def parts(step: int) -> Parts:
            chance.at(step)
            return known

        return parts

    def _speak(self, tell: Tell, kept: Path) -> float:
        """On a part of the pool, each picture always or never mirrored: seen once, kept."""
        recipe, chance = self.recipe, Chance(self.recipe.seed, 1)
        asking = _Asking(self, chance.rng, FIND_AND_BOX)
        n_things = np.array([len(self.pool.things(n)) for n in range(asking.n_known)])

        def lessons(step: int) -> Lessons:
            chance.at(step)
            # Few things first: among many, which one is meant is hard to find out from nothing.
            most = 3 + 20 * max(0.0, step / recipe.speak.steps - 0.05)
            return asking.about_tables(
                chance.rng.choice(np.flatnonzero(n_things <= most), asking.n_lessons)
            )

        return learn_to_speak(self.speaker, lessons, recipe.speak, tell, kept=kept, team=self.team)

    def _hints(self, tell: Tell, new_words: Sequence[int]) -> float:
        lessons, schedule = self._anything(), self.recipe.hints
        return learn_hints(self.speaker, lessons, schedule, tell, new_words, team=self.team)

    def _products(self, tell: Tell) -> float:
        recipe = self.recipe
        began = time.monotonic()
        kept = keep_states(self.speaker, self._anything(), recipe.kept_lessons)
        learn_products(self.speaker, kept, recipe.products, tell, seed=recipe.seed, team=self.team)
        return time.monotonic() - began

    def _everything(self, tell: Tell, kept: Path) -> float:
        """Single pictures and films, and plans where the recipe says so."""
        lessons, schedule = self._anything(), self.recipe.everything
        return learn_to_speak(
            self.speaker, lessons, schedule, tell, blur=(5.0, 5.0), kept=kept, team=self.team
        )

    def _anything(self) -> Callable[[int], Lessons]:
        chance = Chance(self.recipe.seed, 3)
        asking = _Asking(self, chance.rng, EVERYTHING)
        recipe, share, rng = self.recipe, self.team.share, chance.rng
        planner, driver = PlanTeacher(rng), RouteTeacher(rng)

        def plan(first: int, truths: Sequence[Truth]) -> Plan | None:
            return planner.plan(first, bool(first // PER_TABLE % 2), truths)

        planning = _Talking(self, rng, self.turns, PER_TABLE, plan)
        driving = _Talking(self, rng, self.rooms, PER_DRIVE, driver.route)

        def lessons(step: int) -> Lessons:
            chance.at(step)
            draw = rng.random()
            if draw < recipe.plan_share:
                return planning.some(share(recipe.plans))
            if draw < recipe.plan_share + recipe.route_share:
                return driving.some(share(recipe.routes))
            return asking.anything()

        return lessons

    # --- their surroundings -----------------------------------------------------------------------

    def _stage(self, name: str, train: Callable[[Tell, Path], float]) -> None:
        kept = self.out / f"{name.replace(' ', '-')}.pt"
        is_done = kept.exists()
        self.team.wait()
        if is_done:
            self._load(kept)
            return
        unfinished = kept.with_suffix(".unfinished.pt")

        def tell(score: Score) -> None:
            line = json.dumps({"stage": name, **score})
            print(line, flush=True)
            with (self.out / "curve.jsonl").open("a", encoding="utf-8") as curve:
                curve.write(line + "\n")

        self.seconds += train(tell, unfinished)
        if not self.team.leads:
            return
        states = {name: module.state_dict() for name, module in self._modules().items()}
        write_torch(kept, {"seconds": self.seconds, **states})
        unfinished.unlink(missing_ok=True)

    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "heads": self.heads, "pointers": self.speaker.pointers}

    def _load(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True)
        for name, module in self._modules().items():
            module.load_state_dict(kept[name])
        self.seconds = kept["seconds"]


class _Source:
    """Pictures that are asked about, and who asks: of each scene there are ``per_scene``."""

    def __init__(self, pool: Pool, sight: Sight, teacher: Teacher, per_scene: int = 1) -> None:
        self.pool, self.teacher, self.per_scene = pool, teacher, per_scene
        self.truths, self.seen = Truths(pool), SeenBefore(pool, sight)


class _Asking:
    """Questions about single pictures and about films, of which each is always or never
    mirrored."""

    def __init__(self, run: Run, rng: np.random.Generator, shares: Mapping[Task, float]) -> None:
        self._run, self.rng = run, rng
        at_table, in_room = Teacher(rng, shares), Teacher(rng, FIND_AND_BOX, FURNITURE)
        self._tables = _Source(run.pool, run.sight, at_table)
        self._films = _Source(run.films, run.sight, at_table, PER_FILM)
        self._rooms = _Source(run.rooms, run.sight, in_room, PER_DRIVE)
        self.n_known = min(run.recipe.known_pictures, len(run.pool))
        self.n_lessons = run.team.share(run.recipe.lessons)

    def anything(self) -> Lessons:
        """One frame or several, asked for one thing or another."""
        manner = self._manner()
        # There is furniture to be found; nothing is put onto it.
        in_room = manner is POINTING and self.rng.random() < self._run.recipe.room_share
        if self.rng.random() < _ONE_FRAME:
            n_known = len(self._run.rooms) if in_room else self.n_known
            pictures = self.rng.integers(n_known, size=self.n_lessons)
            return self._about(self._rooms if in_room else self._tables, pictures, manner)
        # Only the longest films have the highest numbers.
        longest = self.rng.random() < _LONGEST
        n_frames = MOST_FRAMES if longest else int(self.rng.integers(2, MOST_FRAMES + 1))
        n_films = max(1, round(self.n_lessons / n_frames))
        source = self._rooms if in_room else self._films
        shown = [self._frames(source, n_frames) for _ in range(n_films)]
        return self._lessons(source, shown, manner)

    def about_tables(self, pictures: Iterable[int]) -> Lessons:
        """About each of these alone."""
        return self._about(self._tables, pictures, POINTING)

    def _about(self, source: _Source, pictures: Iterable[int], manner: Manner) -> Lessons:
        shown = [[(int(n), bool(n // 2 % 2))] for n in pictures]
        return self._lessons(source, shown, manner)

    def _manner(self) -> Manner:
        recipe, draw = self._run.recipe, self.rng.random()
        if draw < recipe.counting_share:
            return Manner(Task.COUNT)
        if draw < recipe.counting_share + recipe.thinking_share:
            return THOUGHTS[int(self.rng.integers(len(THOUGHTS)))]
        return POINTING

    def _lessons(
        self, source: _Source, shown: Sequence[list[tuple[int, bool]]], manner: Manner
    ) -> Lessons:
        run = self._run
        n_questions = round(self.n_lessons * run.recipe.questions / len(shown))
        n_questions = min(n_questions, _MOST_QUESTIONS) // (2 if manner.thinking else 1)
        known = [[source.truths[n] for n, _ in frames] for frames in shown]
        rows = [
            run.scribe.lesson(source.teacher.lesson(some, there, n_questions, _ABSENT, manner))
            for some, there in zip(shown, known, strict=True)
        ]
        batch = assemble(run.scribe, rows, known)
        return batch, source.seen(batch.frames)

    def _frames(self, source: _Source, n_frames: int) -> list[tuple[int, bool]]:
        """Some of a scene's pictures in their order, now and then those of two scenes."""
        per_scene = source.per_scene
        scenes = self.rng.choice(len(source.pool) // per_scene, 2, replace=False)
        n_first = int(self.rng.integers(1, n_frames)) if self.rng.random() < _TWO_FILMS else 0
        frames: list[tuple[int, bool]] = []
        for scene, count in zip(scenes, (n_first, n_frames - n_first), strict=True):
            chosen = sorted(self.rng.choice(per_scene, count, replace=False))
            frames += [(int(scene * per_scene + n), bool(scene % 2)) for n in chosen]
        return frames


class _Talking:
    """Conversations about the ``per_scene`` pictures of a scene: ``talk`` makes them of the number
    of the first one and the truths of all."""

    def __init__(
        self,
        run: Run,
        rng: np.random.Generator,
        pool: Pool,
        per_scene: int,
        talk: Callable[[int, Sequence[Truth]], Talk | None],
    ) -> None:
        self._run, self._rng, self._talk = run, rng, talk
        self._per_scene, self._n_scenes = per_scene, len(pool) // per_scene
        self._truths, self._seen = Truths(pool), SeenBefore(pool, run.sight)

    def some(self, count: int) -> Lessons:
        scribe, rows = self._run.scribe, list[Row]()
        while len(rows) < count:
            first = int(self._rng.integers(self._n_scenes)) * self._per_scene
            talk = self._talk(first, [self._truths[first + n] for n in range(self._per_scene)])
            if talk is not None:
                rows.append(scribe.talk(talk))
        truths = [[self._truths[n] for n, _ in row.frames] for row in rows]
        batch = assemble(scribe, rows, truths)
        return batch, self._seen(batch.frames)


def begin(out: Path, recipe: Recipe, checkpoint: Path | None) -> None:
    """Raises `SystemExit` where ``out`` was begun with another recipe or checkpoint: its finished
    stages would count as this run's."""
    asked = json.loads(json.dumps({**asdict(recipe), "from": str(checkpoint or "")}))
    begun = out / "begun.json"
    known = json.loads(begun.read_text(encoding="utf-8")) if begun.exists() else asked
    other = [name for name in asked if known.get(name) != asked[name]]
    if other:
        raise SystemExit(f"error: {out} was begun with other {', '.join(other)}: choose another")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(begun, json.dumps(asked, indent=1).encode())


def draw(pool: Path, recipe: Recipe, workers: int) -> None:
    """The pool's pictures, by several processes."""
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    drawing = [
        context.Process(target=_draw_share, args=(pool, recipe, worker, workers))
        for worker in range(workers)
    ]
    for process in drawing:
        process.start()
    for process in drawing:
        process.join()
        if process.exitcode:
            raise SystemExit(f"drawing pictures failed (exit {process.exitcode}); see above")


def _draw_share(pool: Path, recipe: Recipe, worker: int, workers: int) -> None:
    tables = range(worker, recipe.shards, workers)
    draw_pool(pool / TABLES, recipe.seed, tables, recipe.shard)
    films = range(worker, recipe.film_shards, workers)
    draw_pool(pool / FILMS, recipe.seed, films, recipe.scene_shard, film_pictures)
    turns = range(worker, recipe.turn_shards, workers)
    draw_pool(pool / TURNS, recipe.seed, turns, recipe.scene_shard, turn_pictures)
    rooms = range(worker, recipe.room_shards, workers)
    draw_pool(pool / ROOMS, recipe.seed, rooms, recipe.scene_shard, room_pictures)


@dataclass(frozen=True)
class _Work:
    """What each worker does."""

    out: Path
    pool: Path
    recipe: Recipe
    begin_with: Path | None

    def __call__(self, team: Team) -> None:
        run = Run(self.out, self.pool, self.recipe, team)
        if self.begin_with is None:
            run.train()
        else:
            run.train_further(self.begin_with)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="full")
    parser.add_argument("--pool", type=Path, help="where the pictures are kept (OUT/pool)")
    parser.add_argument("--from", dest="begin", type=Path, help="a checkpoint that learns on")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw and learn")
    options = parser.parse_args(arguments)
    recipe, pool = RECIPES[options.recipe], options.pool or options.out / "pool"
    begin(options.out, recipe, options.begin)
    draw(pool, recipe, options.workers)
    in_team(options.workers, _Work(options.out, pool, recipe, options.begin))
    print(options.out / NAME)


if __name__ == "__main__":
    main()
