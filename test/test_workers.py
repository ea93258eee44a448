"""Work in several processes: what a person sees when it ends early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rynn_brain_ros.values import OutputError
from rynn_brain_ros.workers import workers

REPOSITORY = Path(__file__).resolve().parents[1]
INTERRUPTED = """
import sys, time
from pathlib import Path
from rynn_brain_ros.workers import workers

def task(out, n):
    (out / f"{n}.begun").touch()
    try:
        time.sleep(600)
    finally:
        (out / f"{n}.ended").touch()

if __name__ == "__main__":
    try:
        with workers(2) as pool:
            futures = [pool.submit(task, Path(sys.argv[1]), n) for n in range(6)]
            [future.result() for future in futures]
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_ends_what_runs_begins_nothing_more_and_makes_no_noise(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        until(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert len(list(tmp_path.glob("*.begun"))) == len(list(tmp_path.glob("*.ended"))) == 2


def test_a_process_that_is_killed_is_told_and_what_was_done_is_not_lost():
    done = []
    with (
        pytest.raises(OutputError, match="was killed, as the system does when memory runs out"),
        workers(1, set_prepared, "yes") as pool,
    ):
        done.append(pool.submit(os.getenv, "PREPARED").result())
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()
    assert done == ["yes"]


def set_prepared(value: str) -> None:
    os.environ["PREPARED"] = value


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
