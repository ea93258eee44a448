"""``rynn-brain evaluate``: many episodes side by side, each compared with its world's truth."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rynn_brain_ros.demo.demonstrating import UNJUDGED
from rynn_brain_ros.demo.piloted import Driver, act_alone, has_gpu, is_folder, open_driver
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import (
    Measured,
    Stage,
    StageConfig,
    check_engines,
    make_stage,
    make_stage_at,
)
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.models import Engines, open_engines
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.values import Motion, RynnBrainError, Step
from rynn_brain_ros.view.evaluation import EpisodeScore, evaluation_page, score_table, summary
from rynn_brain_ros.workers import workers


@dataclass(frozen=True)
class Evaluation:
    """``episodes`` of ``stage``, seeds counting up from its own. ``jobs`` 0: `usual_jobs`.
    ``policy``, a folder or a ws:// address, moves the arm in place of planned motions, by
    ``contract``; ``alone``: it is told the task, and no engine is asked."""

    stage: StageConfig
    episodes: int
    engine: str
    jobs: int = 0
    policy: str = ""
    contract: str = "sim_table"
    alone: bool = False


def evaluate(
    config: Evaluation, done: Callable[[EpisodeScore], None] = lambda score: None
) -> tuple[EpisodeScore, ...]:
    """The scores in the order of their seeds; ``done`` hears each as it is there.

    After an error none is begun, and it is raised when those that had begun are told. Raises
    `InputError` where the stage cannot be made, `EngineError` where engine or policy cannot be
    opened, `PolicyError` for one of another contract, and `OutputError` where a process is killed.
    """
    seeds = range(config.stage.seed, config.stage.seed + config.episodes)
    cores = os.cpu_count() or 1
    jobs = min(config.jobs or usual_jobs(config.policy, cores), config.episodes)
    scores: dict[int, EpisodeScore] = {}
    with workers(jobs, share_cores, max(1, cores // jobs)) as pool:
        futures = [
            pool.submit(play_and_score, replace(config, stage=replace(config.stage, seed=seed)))
            for seed in seeds
        ]
        for score in _finished(futures):
            scores[score.seed] = score
            done(score)
    return tuple(scores[seed] for seed in seeds)


def usual_jobs(policy: str, cores: int, gpu: Callable[[], bool] = has_gpu) -> int:
    """One for each core; but every process holds the policy anew, and a GPU would soon be full."""
    return 1 if is_folder(policy) and gpu() else cores


def _finished(futures: Sequence[Future[EpisodeScore]]) -> Iterator[EpisodeScore]:
    """As they come; the first error ends it, after what has begun by then."""
    failed: RynnBrainError | None = None
    for future in as_completed(futures):
        try:
            if not future.cancelled():
                yield future.result()
        except RynnBrainError as error:
            failed = failed or error
            for other in futures:
                other.cancel()
    if failed is not None:
        raise failed


def share_cores(n_threads: int) -> None:
    """Processes that each compute with a thread for every core wait for each other, several times
    as long as they compute. What the user has set stays."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # torch reads it when it is imported, ...
    if "torch" in sys.modules:  # ... which a caller's own main module may have done
        sys.modules["torch"].set_num_threads(n_threads)


def play_and_score(config: Evaluation) -> EpisodeScore:
    """The first of its episodes, without a recording."""
    driver = open_driver(config.policy, config.contract) if config.policy else None
    rated = None if driver is None else float(driver.contract.fps)
    stage = make_stage(config.stage) if rated is None else make_stage_at(config.stage, rated)
    try:
        if driver is not None and config.alone:
            return _alone(config.stage, stage, driver)
        with closing(open_engines(config.engine)) as engines:
            check_engines(config.stage, engines)
            return _played(config.stage, stage, engines, driver)
    finally:
        stage.close()


def _played(
    config: StageConfig, stage: Stage, engines: Engines, driver: Driver | None
) -> EpisodeScore:
    began = time.perf_counter()
    approve = _yes if config.kind == "hand_over" else None
    episode = play(stage, engines, approve=approve, driver=driver).episode
    wall_s = time.perf_counter() - began
    measured = stage.measure()
    verdict = stage.judge(episode, measured)
    return replace(
        _scored(config, stage, measured, wall_s, (episode.start_ns, episode.end_ns)),
        success=verdict is True,
        judged=verdict is not None,
        claimed=episode.confirmed,
        cause=episode.cause,
        refusals=tuple(refusal.code.value for refusal in episode.refusals),
        turns=len(episode.turns),
        stage_s=_stage_seconds(episode),
    )


def _yes(step: Step | None, motion: Motion) -> bool:
    """The person that a hand-over needs: who asked for the thing takes it."""
    return True


def _alone(config: StageConfig, stage: Stage, driver: Driver) -> EpisodeScore:
    """The policy by itself claims nothing: the world's truth says whether it is done."""
    began = time.perf_counter()
    outcome = act_alone(driver, stage)
    wall_s = time.perf_counter() - began
    span_ns = (outcome.start_ns, outcome.end_ns)
    score = _scored(config, stage, stage.measure(), wall_s, span_ns)
    return replace(score, cause=outcome.cause.value)


def _scored(
    config: StageConfig, stage: Stage, measured: Measured, wall_s: float, span_ns: tuple[int, int]
) -> EpisodeScore:
    """What the world alone says."""
    return EpisodeScore(
        seed=config.seed,
        instruction=stage.task,
        kind=config.kind,
        success=measured.done is True,
        judged=measured.done is not None,
        claimed=False,
        cause="",
        wrong_moves=measured.misplaced,
        collisions=measured.collisions,
        limit_violations=measured.violations,
        robot_s=(span_ns[1] - span_ns[0]) / 1e9,
        wall_s=wall_s,
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


def check_out(out: Path) -> None:
    """Makes the folder. Raises `OutputError` where nothing can be written there, before hours of
    work that nobody could keep."""
    probe = _page(out).with_suffix(".probe")
    write_whole(probe, b"")
    probe.unlink(missing_ok=True)


def write_evaluation(config: Evaluation, scores: Sequence[EpisodeScore], out: Path) -> None:
    """The picture, into ``out``. Raises `OutputError`."""
    write_whole(_page(out), evaluation_page(_title(config, scores), scores).encode())


def tell_evaluation(
    config: Evaluation, scores: Sequence[EpisodeScore], out: Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The table for people and the summary for programs, with where the picture is."""
    stage, page = config.stage, _page(out)
    told = {
        "world": stage.world,
        "kind": stage.kind,
        "engine": "" if config.alone else config.engine,
        "policy": config.policy,
        "seed": stage.seed,
        **summary(scores),
        "report": str(page),
    }
    believed = any(score.claimed and not score.judged for score in scores)
    unjudged = ("", UNJUDGED) if believed else ()
    lines = (_title(config, scores), "", *score_table(scores), *unjudged, "", f"Picture: {page}")
    return lines, told


def _page(out: Path) -> Path:
    return out / "evaluation.html"


def _title(config: Evaluation, scores: Sequence[EpisodeScore]) -> str:
    stage = config.stage
    return f"{len(scores)} episodes of {stage.world}, {stage.kind}, by {_actors(config)}"


def _actors(config: Evaluation) -> str:
    if config.alone:
        return f"{config.policy} alone"
    return f"{config.engine}, moved by {config.policy}" if config.policy else config.engine
