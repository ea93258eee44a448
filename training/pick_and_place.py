"""From demonstrations to a policy that picks and places, in the simulator, by one command.

    python -m training.pick_and_place [--demonstrations N] [--episodes N] [--out DIR] [key=value …]

The simulated arm is shown tasks of one step (pick up, put into, onto, next to), in turn by a
scripted operator and by one with a person's unsteady hand, and recorded as bags; they become a data
set; a policy around RynnBrain-nano learns from it (``configs/sim_table_nano.yaml``); and it moves
the arm under the brain on tables that it never saw, as ``rynn-brain evaluate --policy`` does. The
same command goes on with what was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.demo import (
    Evaluation,
    StageConfig,
    evaluate,
    tell_evaluation,
    write_evaluation,
)
from rynn_brain_ros.demo.teleoperating import OPERATORS
from rynn_brain_ros.values import RynnBrainError
from rynn_brain_ros.view.evaluation import EpisodeScore
from training.recording import Show, recipe_arguments, recorded
from training.train import Run, read_config

CONFIG = Path(__file__).parent / "configs" / "sim_table_nano.yaml"
CONTRACT, ENGINE = "sim_table", "color-baseline"
SHOWN_FROM, ASKED_FROM = 20000, 9100
"""Seeds of the first table that is demonstrated, and of the first that is asked."""
_INK, _BLUE, _GRAY = "#222222", "#0072b2", "#888888"


def shows(n: int) -> list[Show]:
    return [
        Show(StageConfig(kind="one", seed=SHOWN_FROM + i), OPERATORS[(i // 10 + 1) % 2])
        for i in range(n)
    ]


def draw_curve(path: Path, curve: Path) -> None:
    """A PNG of what curve.jsonl holds: the loss, and where held-out chunks end."""
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    ends = [row for row in rows if "joints_rad/told" in row]
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*losses, strict=True), color=_INK, lw=1.2)
    left.set_yscale("log")
    left.set_title("loss (squared error of the velocity)", fontsize=9)
    steps = [row["step"] for row in ends]
    right.plot(steps, [row["joints_rad/told"] for row in ends], "o-", color=_BLUE, label="policy")
    still = [row["joints_rad/still"] for row in ends]
    right.plot(steps, still, "--", color=_GRAY, label="standing still")
    right.set_title("held-out chunks: error of the worst joint at the end [rad]", fontsize=9)
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8)
    for plot in (left, right):
        plot.set_xlabel("step", fontsize=8)
        plot.grid(alpha=0.2)
        plot.tick_params(labelsize=8)
    figure.savefig(path, dpi=100)


def tell(score: EpisodeScore) -> None:
    ended = "done" if score.success else f"not done: {score.cause}"
    print(f"table {score.seed}: {ended}; {score.instruction}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = recipe_arguments(__doc__ or "", "runs/pick_and_place", demonstrations=170, episodes=40)
    options = parser.parse_intermixed_args(arguments)  # settings may stand behind --out
    try:
        read_config(CONFIG, options.settings)  # what is misspelt is told before anything is made
        made = recorded(shows(options.demonstrations), find_contract(CONTRACT), options.out)
        told = [f"data.sets=[{made}]", f"out={options.out / 'policy'}", *options.settings]
        config = read_config(CONFIG, told)
        run = Run(config)
        policy = Path(config.out) / f"policy-{config.steps:06d}"
        if not policy.exists():
            run.train()
        draw_curve(options.out / "curve.png", Path(config.out) / "curve.jsonl")
        stage = StageConfig(kind="one", seed=ASKED_FROM)
        evaluation = Evaluation(
            stage, options.episodes, ENGINE, policy=str(policy), contract=CONTRACT
        )
        scores = evaluate(evaluation, tell)
        write_evaluation(evaluation, scores, options.out)
    except RynnBrainError as error:
        raise SystemExit(f"error: {error}") from error
    lines, summary = tell_evaluation(evaluation, scores, options.out)
    print(*lines, json.dumps(summary), sep="\n")


if __name__ == "__main__":
    main()
