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

from rynn_brain_ros.demo.piloted import open_driver
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import StageConfig, make_stage, make_stage_at
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.models import open_engines
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.view.evaluation import EpisodeScore, evaluation_page, score_table, summary


@dataclass(frozen=True)
class Evaluation:
    """``episodes`` of ``stage``, seeds counting up from its own. ``jobs`` 0: one for each core.
    ``policy``, a folder or a ws:// address, moves the arm in place of planned motions, by
    ``contract``."""

    stage: StageConfig
    episodes: int
    engine: str
    jobs: int = 0
    policy: str = ""
    contract: str = "sim_table"


def evaluate(
    config: Evaluation, done: Callable[[EpisodeScore], None] = lambda score: None
) -> tuple[EpisodeScore, ...]:
    """The scores in the order of their seeds; ``done`` hears each as it is there.

    Raises `InputError` where the stage cannot be made, `EngineError` where engine or policy cannot
    be opened, and `PolicyError` for one of another contract.
    """
    seeds = range(config.stage.seed, config.stage.seed + config.episodes)
    jobs = min(config.jobs or os.cpu_count() or 1, config.episodes)
    scores: dict[int, EpisodeScore] = {}
    # Spawned, not forked: OpenGL and its threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(
                play_and_score,
                replace(config.stage, seed=seed),
                config.engine,
                config.policy,
                config.contract,
            )
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


def play_and_score(
    config: StageConfig, engine: str, policy: str = "", contract: str = ""
) -> EpisodeScore:
    """One episode, without a recording."""
    driver = open_driver(policy, contract) if policy else None
    engines = open_engines(engine)
    rated = None if driver is None else float(driver.contract.fps)
    stage = make_stage(config) if rated is None else make_stage_at(config, rated)
    try:
        began = time.perf_counter()
        episode = play(stage, engines, driver=driver).episode
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
    title += f", moved by {config.policy}" if config.policy else ""
    write_whole(page, evaluation_page(title, scores).encode())
    told = {
        "world": stage.world,
        "kind": stage.kind,
        "engine": config.engine,
        "policy": config.policy,
        "seed": stage.seed,
        **summary(scores),
        "report": str(page),
    }
    return (title, "", *score_table(scores), "", f"Picture: {page}"), told
