"""Several processes learn as one would from the lessons of all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.nano.optimizing import Schedule, Score, optimize  # noqa: E402
from training.nano.team import ALONE, Team, in_team  # noqa: E402

_LESSONS = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
"""What each of two is taught."""


def learn(out: Path, team: Team) -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    told: list[Score] = []

    def lesson(step: int) -> tuple[torch.Tensor, Score]:
        taught = _LESSONS[team.rank :: team.size] * (1 + 0.1 * step)
        loss = (weights[0] - taught).square().sum()
        if team.leads:  # the other has no gradient for this weight
            loss = loss + (weights[1] - 2).square().sum()
        return loss / len(taught), {}

    optimize(weights, Schedule(20, 0.1), lesson, told.append, team=team)
    torch.save([w.data for w in weights], out / f"{team.size}-{team.rank}.pt")
    assert bool(told) == team.leads


def fail(team: Team) -> None:
    if team.rank == 1:
        raise ValueError("no such picture")
    team.wait()


def test_two_learn_what_one_learns_from_the_lessons_of_both(tmp_path: Path):
    in_team(2, partial(learn, tmp_path))
    learn(tmp_path, ALONE)
    first, second, alone = (torch.load(tmp_path / f"{n}.pt") for n in ("2-0", "2-1", "1-0"))
    for one, other, expected in zip(first, second, alone, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, expected)


def test_an_error_of_one_ends_all_and_is_told():
    with pytest.raises(Exception, match="no such picture"):
        in_team(2, fail)
