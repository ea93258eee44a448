"""Between the hints and the last stage: the last layer's products learn to work out places.

Where there is room next to a thing follows from the thing's box and the side that is free. Both
are known before the last layer's products (its feed-forward part); only these have to learn what
follows, and nothing before them needs to change for it. So the states before them are found once,
and learned from many times: a step takes a fiftieth of one on whole lessons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from training.nano.optimizing import Schedule, Score, Tell, optimize
from training.nano.rows import Batch
from training.nano.speak import Speaker
from training.nano.team import ALONE, Team

_BATCH = 1024
"""States; half of them where a coordinate next to a thing is told."""
_NO_WORD = -1


@dataclass(frozen=True)
class KeptStates:
    """Of n places in answers: the hidden ``states`` [n, hidden] before the last layer's products,
    and what is right there: a token of ``words`` [n] (−1 where it is a coordinate) or a coordinate
    of ``values`` [n] in 0…1000, which ``is_beside`` [n] a thing or not."""

    states: torch.Tensor
    words: torch.Tensor
    values: torch.Tensor
    is_beside: torch.Tensor


def keep_states(
    speaker: Speaker, lessons: Callable[[int], tuple[Batch, torch.Tensor]], count: int
) -> KeptStates:
    """Of ``count`` steps' lessons (with the visual tokens of their frames)."""
    found = [_states_of(speaker, *lessons(step)) for step in range(count)]
    return KeptStates(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _states_of(speaker: Speaker, batch: Batch, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    beside = {(b, at) for b, at, _ in batch.sides}
    words = [told for targets in batch.targets.values() for told in targets]
    told = [(b, at, word, 0.0, False) for b, at, word in words]
    told += [(b, at, _NO_WORD, value, (b, at) in beside) for b, at, value in batch.coordinates]
    b, at, right, values, is_beside = map(torch.tensor, zip(*told, strict=True))
    with torch.no_grad(), _before_products(speaker) as states:
        speaker.read(batch, tokens, {})
    return states[0][b, at], right, values, is_beside


@contextmanager
def _before_products(speaker: Speaker) -> Iterator[list[torch.Tensor]]:
    """Is filled with what the last layer's products are made from, [B, L, hidden]."""
    states: list[torch.Tensor] = []
    norm = speaker.text.layers[-1].post_attention_layernorm
    hook = norm.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    try:
        yield states
    finally:
        hook.remove()


def behind_products(speaker: Speaker, states: torch.Tensor) -> torch.Tensor:
    """The last hidden states [n, hidden] that follow from those before the products."""
    layer = speaker.text.layers[-1]
    last: torch.Tensor = speaker.text.norm(
        states + layer.mlp(layer.post_attention_layernorm(states))
    )
    return last


def learn_products(
    speaker: Speaker,
    kept: KeptStates,
    schedule: Schedule,
    tell: Tell,
    *,
    blur: tuple[float, float] = (15.0, 5.0),
    seed: int = 0,
    team: Team = ALONE,
) -> float:
    """Trains the last layer's products and nothing else; what counts as near narrows from the first
    ``blur`` (one sigma, in 1/1000) to the second. The seconds that it took."""
    rng = np.random.default_rng((seed, team.rank))
    pools = [np.flatnonzero(kept.is_beside.numpy() == beside) for beside in (True, False)]
    size = team.share(_BATCH) // len(pools)

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        chosen = np.concatenate([rng.choice(pool, size) for pool in pools if len(pool)])
        width = blur[0] * (blur[1] / blur[0]) ** (step / schedule.steps)
        return _loss(speaker, kept, torch.from_numpy(chosen), width)

    layer = speaker.text.layers[-1]
    learning = [*layer.mlp.parameters(), *layer.post_attention_layernorm.parameters()]
    speaker.text.requires_grad_(False)
    for weight in learning:
        weight.requires_grad_(True)
    try:
        return optimize(learning, schedule, lesson, tell, team=team)
    finally:
        speaker.text.requires_grad_(True)


def _loss(
    speaker: Speaker, kept: KeptStates, chosen: torch.Tensor, blur: float
) -> tuple[torch.Tensor, Score]:
    x = behind_products(speaker, kept.states[chosen])
    words, values, is_beside = kept.words[chosen], kept.values[chosen], kept.is_beside[chosen]
    is_word = words != _NO_WORD
    said = speaker.model.lm_head(x[is_word])
    loss = 2.0 * functional.cross_entropy(said, words[is_word])
    score = {"plain": float((said.argmax(-1) == words[is_word]).float().mean())}
    for name, here in (("near", ~is_word & ~is_beside), ("near beside", is_beside)):
        if here.any():
            lost, score[name] = speaker.coordinate_loss(x[here], values[here], blur)
            loss = loss + lost
    return loss, score
