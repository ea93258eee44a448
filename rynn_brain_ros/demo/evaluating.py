"""``rynn-brain evaluate``: many episodes side by side, each compared with its world's truth."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import StageConfig, make_stage
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.models import open_engines
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.view.evaluation import EpisodeScore, evaluation_page, score_table, summary


@dataclass(frozen=True)
class Evaluation:
    """``episodes`` of ``stage``, seeds counting up from its own. ``jobs`` 0: one for each core."""

    stage: StageConfig
    episodes: int
    engine: str
    jobs: int = 0


def evaluate(
    config: Evaluation, done: Callable[[EpisodeScore], None] = lambda score: None
) -> tuple[EpisodeScore, ...]:
    """The scores in the order of their seeds; ``done`` hears each as it is there.

    Raises `InputError` where the stage cannot be made, `EngineError` where the engine cannot be
    opened.
    """
    seeds = range(config.stage.seed, config.stage.seed + config.episodes)
    jobs = min(config.jobs or os.cpu_count() or 1, config.episodes)
    scores: dict[int, EpisodeScore] = {}
    # Spawned, not forked: OpenGL and its threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(play_and_score, replace(config.stage, seed=seed), config.engine)
            for seed in seeds
        ]
        try:
            for future in as_completed(futures):
                score = future.result()
                scores[score.seed] = score
                done(score)
        finally:  # after an error nobody waits for the rest
            pool.shutdown(cancel_futures=True)
    return tuple(scores[seed] for seed in seeds)


def play_and_score(config: StageConfig, engine: str) -> EpisodeScore:
    """One episode, without a recording."""
    engines = open_engines(engine)
    stage = make_stage(config)
    try:
        began = time.perf_counter()
        episode = play(stage, engines).episode
        wall_s = time.perf_counter() - began
        measured = stage.measure()
    finally:
        stage.close()
        engines.close()
    return EpisodeScore(
        seed=config.seed,
        instruction=stage.task,
        kind=config.kind,
        success=stage.judge(episode, measured),
        claimed=episode.confirmed,
        cause=episode.cause,
        refusals=tuple(refusal.code.value for refusal in episode.refusals),
        wrong_moves=measured.misplaced,
        collisions=measured.collisions,
        limit_violations=measured.violations,
        turns=len(episode.turns),
        robot_s=(episode.end_ns - episode.start_ns) / 1e9,
        wall_s=wall_s,
        stage_s=_stage_seconds(episode),
    )


def _stage_seconds(episode: Episode) -> Mapping[str, float]:
    """Mean wall time of a turn's stages, where they were measured."""
    columns = {
        "look": [turn.times.look_s for turn in episode.turns],
        "ask": [turn.times.ask_s for turn in episode.turns],
        "plan": [turn.times.plan_s for turn in episode.turns],
        "gate": [turn.times.gate_s for turn in episode.turns],
    }
    known = {name: [v for v in values if math.isfinite(v)] for name, values in columns.items()}
    return {name: statistics.fmean(values) for name, values in known.items() if values}


def write_evaluation(
    config: Evaluation, scores: Sequence[EpisodeScore], out: Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The table for people and the summary for programs; the picture goes to ``out``."""
    stage = config.stage
    page = out / "evaluation.html"
    title = f"{len(scores)} episodes of {stage.world}, {stage.kind}, by {config.engine}"
    write_whole(page, evaluation_page(title, scores).encode())
    told = {
        "world": stage.world,
        "kind": stage.kind,
        "engine": config.engine,
        "seed": stage.seed,
        **summary(scores),
        "report": str(page),
    }
    return (title, "", *score_table(scores), "", f"Picture: {page}"), told
