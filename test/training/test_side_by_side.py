"""Processes that play tables side by side compute with their share of the cores."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from rynn_brain_ros.demo.evaluating import share_cores, usual_jobs

torch = pytest.importorskip("torch", reason="the extra model is not installed")


def threads_of_torch() -> int:
    return int(torch.get_num_threads())


@pytest.mark.parametrize(("set_by_the_user", "share"), [("", 1), ("1", 2)])
def test_torch_computes_with_a_processes_share_or_what_the_user_says(
    monkeypatch: pytest.MonkeyPatch, set_by_the_user: str, share: int
):
    """This module, which the process imports too, has imported torch before the share is told."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_the_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_the_user)
    with ProcessPoolExecutor(1, get_context("spawn"), share_cores, (share,)) as pool:
        assert pool.submit(threads_of_torch).result() == 1


@pytest.mark.parametrize(
    ("policy", "gpu", "jobs"),
    [
        ("runs/policy/policy-006000", True, 1),
        ("runs/policy/policy-006000", False, 16),
        ("ws://gpu:8100", True, 16),
        ("", True, 16),
    ],
)
def test_a_gpu_holds_one_policy_unless_the_user_says_more(policy: str, gpu: bool, jobs: int):
    assert usual_jobs(policy, cores=16, gpu=lambda: gpu) == jobs
