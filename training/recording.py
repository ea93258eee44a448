"""Demonstrations in the simulator, as bags, and the data set that they become."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rynn_brain_ros.data import Contract
from rynn_brain_ros.data.converting import convert
from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.demo.teleoperating import demonstrate
from rynn_brain_ros.models import ColorBaselineEngine, Engines


def recipe_arguments(
    doc: str, out: str, *, demonstrations: int, episodes: int
) -> argparse.ArgumentParser:
    """Of a command that demonstrates, learns and tries."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--demonstrations", type=int, default=demonstrations)
    parser.add_argument("--episodes", type=int, default=episodes)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


@dataclass(frozen=True)
class Show:
    """One demonstration. ``operator`` is one of `demo.teleoperating.OPERATORS`; ``intention`` is as
    `demonstrate` takes it."""

    stage: StageConfig
    operator: str = "scripted"
    intention: str = ""

    @property
    def name(self) -> str:
        """Another intention is another demonstration."""
        words = (self.stage.kind, str(self.stage.seed), *self.intention.split())
        return "-".join(words)


def recorded(shows: Sequence[Show], contract: Contract, out: Path, jobs: int = 0) -> Path:
    """``out/set``, the data set; ``out/bags`` are not recorded again where they are. ``jobs`` 0: a
    process for each core. Raises what `demonstrate` and `convert` raise."""
    bags = [out / "bags" / f"{show.name}.mcap" for show in shows]
    missing = [(show, bag) for show, bag in zip(shows, bags, strict=True) if not bag.exists()]
    (out / "bags").mkdir(parents=True, exist_ok=True)
    n_jobs = jobs or os.cpu_count() or 1
    # Spawned, not forked: OpenGL and its threads do not survive a fork.
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        for n, bag in enumerate(pool.map(_record, missing, [contract] * len(missing)), start=1):
            print(f"{bag} ({n} of {len(missing)})", flush=True)
    convert(bags, contract, out / "set", jobs=n_jobs)
    return out / "set"


def _record(missing: tuple[Show, Path], contract: Contract) -> Path:
    show, bag = missing
    engines = Engines.one(ColorBaselineEngine())
    demonstrate(
        show.stage, engines, contract, bag, operator=show.operator, intention=show.intention
    )
    return bag
