"""``rynn-brain demo``: one episode, played, told, recorded, and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros import __version__
from rynn_brain_ros.demo.narrator import narrate
from rynn_brain_ros.demo.recording import Recording
from rynn_brain_ros.demo.running import play
from rynn_brain_ros.demo.stages import Measured, StageConfig, check_engines, make_stage
from rynn_brain_ros.demo.watching import watched
from rynn_brain_ros.models import Engines
from rynn_brain_ros.models.profiles import NANO
from rynn_brain_ros.planning.episode import Episode
from rynn_brain_ros.planning.executive import Approve
from rynn_brain_ros.values import Cancel

BASELINE = "color-baseline"


UNJUDGED = (
    "Confirmed is that the robot did what the engine said. Whether the engine said what you asked "
    "for, nobody judged: the simulator has no test for these words."
)


@dataclass(frozen=True)
class DemoOutcome:
    """``success``: confirmed by the brain and, where the truth is known, true. ``summary`` is the
    same for programs."""

    episode: Episode
    measured: Measured
    summary: Mapping[str, Any]


def run_demo(
    config: StageConfig,
    engines: Engines,
    out: Path,
    say: Callable[[str], None],
    *,
    cancel: Cancel | None = None,
    approve: Approve | None = None,
) -> DemoOutcome:
    """Plays the episode of ``config`` and leaves a run folder in ``out``.

    Raises `InputError` where the simulator is missing or the world is unknown, `EngineError` where
    no engine can decide what to do there, `OutputError` when ``out`` cannot be written.
    """
    stage = make_stage(config)
    try:
        check_engines(config, engines)
        note = engine_note(engines)
        for line in (f"Task: {stage.task}", stage.contents, note):
            say(line)
        provenance = _provenance(config, engines)
        with Recording(out, stage, provenance) as recording:
            asked = None if approve is None else recording.approve(approve)
            ears = recording.ears(watched(narrate(say), stage.window))
            stop = None if cancel is None else recording.cancel(cancel)
            played = play(stage, recording.engines(engines), ears, stop, asked)
            report = recording.close(played, note)
        if recording.film_note:
            say(recording.film_note)
        measured = stage.measure()
        if played.episode.confirmed and measured.done is None:
            say(UNJUDGED)
    finally:
        stage.close()
    summary = _summary(played.episode, measured, engines, report)
    return DemoOutcome(played.episode, measured, summary)


def engine_note(engines: Engines) -> str:
    """What a reader must know about the engine before believing anything."""
    names = sorted({engine.info.name for engine in engines.by_role.values()})
    if BASELINE in names:
        return f"Engine: {BASELINE}, a colour and shape segmenter (not RynnBrain)."
    if engines.model == NANO.name:
        return f"Engine: {NANO.name}, a small model that knows this simulator (not RynnBrain)."
    return f"Engine: {', '.join(sorted({e.info.title for e in engines.by_role.values()}))}."


def _provenance(config: StageConfig, engines: Engines) -> dict[str, str]:
    infos = {engine.info.name: engine.info for engine in engines.by_role.values()}
    known = {
        "rynn_brain_ros": __version__,
        "world": config.world,
        "seed": str(config.seed),
        "arm_look": config.arm_look if config.world == "table" else "",
        "engine": ", ".join(infos),
        "model": engines.model,
        "revision": ", ".join(info.revision for info in infos.values() if info.revision),
        "quantization": ", ".join(sorted({info.quantization for info in infos.values()})),
    }
    return {name: value for name, value in known.items() if value}


def _summary(
    episode: Episode, measured: Measured, engines: Engines, report: Path
) -> dict[str, Any]:
    return {
        "success": episode.confirmed and measured.done is not False,
        "confirmed": episode.confirmed,
        "true": measured.done,
        "cause": episode.cause,
        "turns": len(episode.turns),
        "refusals": [refusal.code.value for refusal in episode.refusals],
        "misplaced": list(measured.misplaced),
        "collisions": measured.collisions,
        "engine": ", ".join(sorted({e.info.name for e in engines.by_role.values()})),
        "model": engines.model,
        "robot_s": round((episode.end_ns - episode.start_ns) / 1e9, 2),
        "report": str(report),
    }
