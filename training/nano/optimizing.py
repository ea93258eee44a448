"""One way to train for every stage: AdamW, a warm-up, a cosine, and a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training.nano.team import ALONE, Team

Score = Mapping[str, float]
Tell = Callable[[Score], None]
_WARM_UP = 60
_WINDOW = 25
_TELL_EVERY_S = 30.0


@dataclass(frozen=True)
class Schedule:
    """``steps`` from the rate ``top`` down to ``last`` of it."""

    steps: int
    top: float = 2.5e-3
    last: float = 0.05

    def rate(self, step: int) -> float:
        fallen = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.top * min(1.0, (step + 1) / _WARM_UP) * (self.last + (1 - self.last) * fallen)


def optimize(
    weights: Sequence[nn.Parameter],
    schedule: Schedule,
    lesson: Callable[[int], tuple[torch.Tensor, Score]],
    tell: Tell,
    *,
    kept: Path | None = None,
    keep_every_s: float = 300.0,
    team: Team = ALONE,
) -> float:
    """``lesson`` gives loss and scores of a step. ``tell`` gets the means of the last scores, with
    step and seconds passed. Now and then everything is kept in ``kept``, from which the same call
    goes on; where ``lesson`` depends on nothing but its step, as if it had never stopped. Of a
    ``team`` all learn from the lessons of all, and its first tells and keeps. The seconds that it
    took in all."""
    weights = list(weights)
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": 0.02},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=schedule.top,
        betas=(0.9, 0.98),
    )
    first, before = _go_on(kept, weights, optimizer)
    began, told, saved, scores = time.monotonic() - before, before, before, []
    for step in range(first, schedule.steps):
        loss, score = lesson(step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad()
        loss.backward()
        team.share_gradients(weights)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        scores.append(score)
        passed = time.monotonic() - began
        if team.leads and (passed > told or step == schedule.steps - 1):
            told = passed + _TELL_EVERY_S
            tell({"step": step + 1, "seconds": round(passed), **_means(scores[-_WINDOW:])})
        if team.leads and kept is not None and passed > saved + keep_every_s:
            saved = passed
            state = {"step": step + 1, "seconds": passed, "optimizer": optimizer.state_dict()}
            write_torch(kept, {**state, "weights": [w.data for w in weights]})
    return time.monotonic() - began


def _go_on(
    kept: Path | None, weights: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """The step to begin with, and the seconds that were passed by then."""
    if kept is None or not kept.exists():
        return 0, 0.0
    state = torch.load(kept, weights_only=True)
    with torch.no_grad():
        for weight, known in zip(weights, state["weights"], strict=True):
            weight.copy_(known)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def write_torch(path: Path, state: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    unfinished = path.with_suffix(".partial")
    torch.save(dict(state), unfinished)
    unfinished.replace(path)


def _means(scores: Sequence[Score]) -> dict[str, float]:
    """Of the scores that there were: a lesson about absent things has no coordinates."""
    found: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.items():
            found.setdefault(name, []).extend([] if math.isnan(value) else [value])
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}
