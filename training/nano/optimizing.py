"""One way to train for every stage: AdamW, a warm-up, a cosine, and a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

Score = Mapping[str, float]
Tell = Callable[[Score], None]
_WARM_UP = 60
_WINDOW = 25


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
    lesson: Callable[[float], tuple[torch.Tensor, Score]],
    tell: Tell,
    every_s: float = 30.0,
) -> None:
    """``lesson`` gives loss and scores at how far the stage has come (0…1). ``tell`` gets the means
    of the last scores, with step and seconds passed."""
    weights = list(weights)
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": 0.02},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=schedule.top,
        betas=(0.9, 0.98),
    )
    began, told, scores = time.monotonic(), 0.0, []
    for step in range(schedule.steps):
        loss, score = lesson(step / schedule.steps)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        scores.append(score)
        passed = time.monotonic() - began
        if passed > told or step == schedule.steps - 1:
            told = passed + every_s
            tell({"step": step + 1, "seconds": round(passed), **_means(scores[-_WINDOW:])})


def _means(scores: Sequence[Score]) -> dict[str, float]:
    """Of the scores that there were: a lesson about absent things has no coordinates."""
    found: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.items():
            found.setdefault(name, []).extend([] if math.isnan(value) else [value])
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}
