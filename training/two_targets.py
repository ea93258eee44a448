"""Either will do: what flow matching is for, beside a policy that learns the mean.

    python -m training.two_targets [--demonstrations N] [--episodes N] [--replan STEPS] [--out DIR]
                                   [key=value …]

Two equal cubes stand left and right of the simulated arm, which is told "pick up either cube".
Each table is demonstrated twice, the one cube taken and then the other: nothing that is seen tells
which. Two policies learn from that, alike but for one thing: the first learns to turn noise into
chunks (flow matching), the second to say the chunk at once, with the least squared error (behaviour
cloning). Both then act alone on tables that they never saw, each chunk all but to its end
(``--replan``: a new one after so many steps); done is what the world's truth says. The same command
goes on with what was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.demo.piloted import NO_DELAY, Driver, Piloting, act_alone
from rynn_brain_ros.demo.stages import make_stage_at
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.sim.panda import TCP_SITE
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_tasks import either
from rynn_brain_ros.values import InputError, RynnBrainError
from rynn_brain_ros.vla.checkpoint import LoadedPolicy, load_policy
from rynn_brain_ros.vla.demonstrations import Demonstrations
from rynn_brain_ros.vla.guidance import CheckpointPolicy
from rynn_brain_ros.vla.normalization import Statistics
from rynn_brain_ros.vla.values import Floats, Observation, PolicySpec
from training.recording import Show, recipe_arguments, recorded
from training.train import Config, Plan, Run, open_data, read_config

CONFIG = Path(__file__).parent / "configs" / "two_targets_nano.yaml"
CONTRACT = find_contract("sim_table")
SHOWN_FROM, ASKED_FROM = 30000, 9100
"""Seeds of the first table that is demonstrated, and of the first that is asked."""
REPLAN_STEPS = 15
"""Of a chunk's 16. Asked anew every few steps, the mean of both ways soon is no tie any more: a
millimetre to one side is enough to be told which of them the arm is on."""
_LEAST_SHARE = 0.25
"""Of the demonstrations of the more frequent side."""
_COLORS = {"flow matching": "#0072b2", "squared error": "#d55e00"}


# --- the policy that learns the mean -------------------------------------------------------------


class NoNoise(Plan):
    """Every chunk is asked for at the flow's beginning, from nothing: what is left to predict is
    the chunk itself (its negative), and the loss is behaviour cloning's squared error."""

    def noise(self, step: int) -> tuple[Tensor, Tensor]:
        times, noise = super().noise(step)
        return torch.ones_like(times), torch.zeros_like(noise)


class Averaging(Run):
    def __init__(self, config: Config) -> None:
        super().__init__(replace(config, draws=1))
        self.judged = []  # by its tries: there is nothing to sample
        network = self.policy.network
        self.plan = NoNoise(self.config, self.learned, (network.horizon, network.n_dims))


@dataclass(frozen=True)
class Mean:
    """An `Averaging` policy as `CheckpointPolicy` asks for it. It has one answer, which nothing
    guides."""

    loaded: LoadedPolicy

    @property
    def spec(self) -> PolicySpec:
        return self.loaded.spec

    @property
    def statistics(self) -> Statistics:
        return self.loaded.statistics

    def sampled(
        self, observations: Sequence[Observation], noise: Tensor, guidance: Any = None
    ) -> Floats:
        return self.loaded.sampled(observations, torch.zeros_like(noise), n_steps=1)


# --- the tables ----------------------------------------------------------------------------------


def table(seed: int) -> StageConfig:
    return StageConfig(kind="either", seed=seed)


def shown(seed: int) -> list[Show]:
    """A table for each of its cubes. Told of neither, the scripted operator would take the one that
    looks larger; and shown one choice a table, a policy may learn tables and choices by heart."""
    cubes = either(seed).scene.things
    return [Show(table(seed), intention=f"pick up the {cube.name}") for cube in cubes]


def sides(data: Demonstrations) -> dict[str, list[int]]:
    """Which demonstrations took the cube on which side: the first joint turns there on the way,
    to the left where it is positive. (At the end the arm is where it began.)"""
    found: dict[str, list[int]] = {"left": [], "right": []}
    for number, each in enumerate(data.demonstrations):
        turned = each.states[:, 0]
        found["left" if turned[np.abs(turned).argmax()] > 0 else "right"].append(number)
    return found


def balanced(config: Config) -> tuple[Config, int]:
    """With what one side has more held out, or both policies would learn which one to prefer; and
    how many each side has then. Raises `InputError` where nearly all went to one side: there
    is nothing to choose between then."""
    fewer, more = sorted(sides(open_data(config)).values(), key=len)
    if len(fewer) < _LEAST_SHARE * len(more):
        raise InputError(
            f"{len(more)} demonstrations took the cube on one side and {len(fewer)} on the other: "
            "nothing was chosen; show both sides alike"
        )
    data = replace(config.data, held_out_episodes=tuple(more[len(fewer) :]))
    return replace(config, data=data), len(fewer)


# --- acting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Try:
    """One table: whether a cube was lifted, how it ended, where the tool went (x, y, m), and where
    the cubes had stood."""

    seed: int
    done: bool
    cause: str
    path: Floats
    cubes: tuple[tuple[float, float], ...]


def tried(policy: LoadedPolicy | Mean, seed: int, replan_steps: int) -> Try:
    stage, path = make_stage_at(table(seed), float(CONTRACT.fps)), list[Floats]()
    try:
        world = stage.world
        assert isinstance(world, TableWorld)
        tool = world.data.site(TCP_SITE)
        world.add_controller(lambda _: path.append(np.array(tool.xpos[:2])))
        cubes = tuple(thing.xy_m for thing in world.scene.things)
        chunks = CheckpointPolicy(policy, NO_DELAY, seed)
        driver = Driver(chunks, CONTRACT, Piloting(replan_steps=replan_steps))
        outcome = act_alone(driver, stage)
        done = stage.measure().done is True
        return Try(seed, done, outcome.cause.value, np.array(path), cubes)
    finally:
        stage.close()


def compared(
    root: Path, out: Path, settings: Sequence[str], n_tables: int, replan_steps: int
) -> tuple[int, dict[str, list[Try]]]:
    """How many demonstrations of each side were learned from, and both policies' tries."""
    config, n_each = balanced(read_config(CONFIG, [f"data.sets=[{root}]", *settings]))
    tries: dict[str, list[Try]] = {}
    for name, kind in (("flow matching", Run), ("squared error", Averaging)):
        run = kind(replace(config, out=str(out / name.replace(" ", "-"))))
        made = Path(run.config.out) / f"policy-{config.steps:06d}"
        if not made.exists():
            run.train()
        loaded = load_policy(made, run.data.provenance, device=config.device)
        policy = Mean(loaded) if kind is Averaging else loaded
        seeds = range(ASKED_FROM, ASKED_FROM + n_tables)
        tries[name] = []
        for seed in seeds:
            tries[name].append(tried(policy, seed, replan_steps))
            done, cause = tries[name][-1].done, tries[name][-1].cause
            how = "a cube lifted" if done else f"nothing lifted ({cause})"
            print(f"{name}, table {seed}: {how}", flush=True)
    return n_each, tries


# --- the report ----------------------------------------------------------------------------------


def draw(path: Path, tries: Mapping[str, Sequence[Try]]) -> None:
    """From above: where the tool went, thin where nothing was lifted."""
    figure = Figure(figsize=(4.2 * len(tries), 4.0), layout="constrained")
    axes = figure.subplots(1, len(tries), sharex=True, sharey=True, squeeze=False)[0]
    for plot, (name, each) in zip(axes, tries.items(), strict=True):
        for one in each:
            plot.plot(
                one.path[:, 1], one.path[:, 0], color=_COLORS[name], lw=1.6 if one.done else 0.6
            )
            plot.plot(*one.path[-1, ::-1], "o", ms=4, color=_COLORS[name])
            for x, y in one.cubes:
                plot.plot(y, x, "s", ms=9, mec="#222222", mfc="none")
        plot.set_title(f"{name}: {_share(each)} lifted", fontsize=10)
        plot.set_xlabel("y [m]")
        plot.set_aspect("equal")
        plot.grid(alpha=0.2)
    axes[0].set_ylabel("x [m]")
    axes[0].invert_xaxis()  # y points to the left; the plots share it
    figure.savefig(path, dpi=100)


def _share(tries: Sequence[Try]) -> str:
    return f"{sum(each.done for each in tries)} of {len(tries)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = recipe_arguments(__doc__ or "", "runs/two_targets", demonstrations=80, episodes=20)
    parser.add_argument("--replan", type=int, default=REPLAN_STEPS, metavar="STEPS")
    options = parser.parse_intermixed_args(arguments)  # settings may stand behind --out
    began = time.monotonic()
    try:
        read_config(CONFIG, options.settings)  # what is misspelt is told before anything is made
        seeds = range(SHOWN_FROM, SHOWN_FROM + options.demonstrations // 2)
        shows = [show for seed in seeds for show in shown(seed)]
        root = recorded(shows, CONTRACT, options.out)
        n_each, tries = compared(
            root, options.out, options.settings, options.episodes, options.replan
        )
    except RynnBrainError as error:
        raise SystemExit(f"error: {error}") from error
    draw(options.out / "paths.png", tries)
    told = {
        "demonstrations_of_each": n_each,
        "tables": options.episodes,
        "replan_steps": options.replan,
        "lifted": {name: sum(each.done for each in own) for name, own in tries.items()},
        "ended": {name: [each.cause for each in own] for name, own in tries.items()},
        "minutes": (time.monotonic() - began) / 60,
    }
    write_whole(options.out / "report.json", (json.dumps(told, indent=1) + "\n").encode())
    print(f"{n_each} demonstrations of each side were learned from")
    for name, own in tries.items():
        print(f"{name:14} lifted either cube on {_share(own)} tables")
    print(f"{told['minutes']:.1f} minutes this time; {options.out / 'paths.png'}")


if __name__ == "__main__":
    main()
