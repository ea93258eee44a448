"""Several processes learn as one would from the lessons of all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
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


def test_a_team_ends_when_who_began_it_is_killed(tmp_path: Path):
    script = (
        "import sys, os, time; from pathlib import Path; from functools import partial\n"
        "from training.nano.team import in_team\n"
        "def work(out, team):\n"
        "    (out / f'{team.rank}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    in_team(2, partial(work, Path(sys.argv[1])))\n"
    )
    path = tmp_path / "begins.py"
    path.write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(path), str(tmp_path)], env=environment)
    pids = [tmp_path / f"{rank}.pid" for rank in range(2)]
    _until(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    parent.kill()
    parent.wait()
    _until(lambda: not any(_runs(int(pid.read_text())) for pid in pids))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a container may have nobody who buries it


def test_an_error_of_one_ends_all_and_is_told(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(Exception, match="Traceback"):
        in_team(2, fail)
    assert "ValueError: no such picture" in capfd.readouterr().err
