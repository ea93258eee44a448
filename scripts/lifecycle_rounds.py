#!/usr/bin/env python3
"""Takes a node up and down many times, and fails where memory, threads or file descriptors stay.

    source install/local_setup.bash && python3 scripts/lifecycle_rounds.py brain --rounds 1000
    python3 scripts/lifecycle_rounds.py act --parameter robot:=mobile_base
    python3 scripts/lifecycle_rounds.py policy --parameter url:=ws://127.0.0.1:8100

A round is configure, activate, deactivate, clean up, asked of the node's own process through its
services; what the process holds is read from /proc. The first rounds warm it up and do not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import get_package_prefix
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rynn_brain_ros.ros.together import NODES

ROUND = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)
PATIENCE_S = 60.0
ROUNDS_PER_LEAK = 50
"""What is kept less often than once in so many rounds is not found."""
LINES = 10
"""How often it tells how things are."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    memory_mib: float
    threads: int
    files: int

    @classmethod
    def by(cls, pid: int) -> Held:
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        threads, files = (len(list((process / kind).iterdir())) for kind in ("task", "fd"))
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, threads, files)

    def __str__(self) -> str:
        return f"{self.memory_mib:.1f} MiB, {self.threads} threads, {self.files} file descriptors"


class Rounds:
    """``change`` is the client of the service that changes the state of the node that ``process``
    is, and belongs to a node that ``executor`` spins."""

    def __init__(
        self, change: Any, executor: SingleThreadedExecutor, process: subprocess.Popen[bytes]
    ) -> None:
        self._change, self._executor, self._process = change, executor, process

    def go(self, rounds: int, lines: int = 0) -> Held:
        """What the node holds after these rounds; tells it ``lines`` times on the way."""
        every = max(1, rounds // lines) if lines else rounds
        for number in range(1, rounds + 1):
            for transition in ROUND:
                self._to(transition)
            if number % every == 0 and number < rounds:
                print(f"round {number}: {Held.by(self._process.pid)}", flush=True)
        return Held.by(self._process.pid)

    def _to(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        future, deadline_s = self._change.call_async(request), time.monotonic() + PATIENCE_S
        while not future.done():  # spin_until_future_complete would keep something of each call
            self._executor.spin_once(timeout_sec=1.0)
            if time.monotonic() > deadline_s:
                raise SystemExit(f"no answer to transition {transition} within {PATIENCE_S:g} s")
        if not future.result().success:
            raise SystemExit(f"transition {transition} failed: see the node's words above")


def leaks(first: Held, last: Held, rounds: int, most_mib: float) -> list[str]:
    """What the node kept; ``most_mib`` is how much more memory it may hold. A few threads more are
    none: an executor's pool is filled as it is needed."""
    grown_mib = last.memory_mib - first.memory_mib
    threads, files = last.threads - first.threads, last.files - first.files
    few = rounds // ROUNDS_PER_LEAK
    found = [f"{grown_mib:.1f} MiB"] if grown_mib > most_mib else []
    found += [f"{threads} threads"] if threads > few else []
    return [*found, *([f"{files} file descriptors"] if files > few else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("node", choices=tuple(NODES))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=20, help="rounds before these")
    parser.add_argument("--most-mib", type=float, default=16.0, help="memory it may grow by [MiB]")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME:=VALUE")
    given = parser.parse_args()
    rclpy.init()
    name = f"rounds_{os.getpid()}"  # a network may have the node already
    command = [str(Path(get_package_prefix("rynn_brain_ros")) / "lib/rynn_brain_ros" / given.node)]
    command += ["--ros-args", "-r", f"__ns:=/{name}", "--log-level", "warn"]
    command += [word for parameter in given.parameter for word in ("-p", parameter)]
    onlooker = Node("onlooker", namespace=name)
    change = onlooker.create_client(ChangeState, f"/{name}/{given.node}/change_state")
    # What glibc keeps for later, for each thread that ever was, would look like a leak.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    executor = SingleThreadedExecutor()
    executor.add_node(onlooker)
    with subprocess.Popen(command, env=environment) as process:
        try:
            if not change.wait_for_service(timeout_sec=PATIENCE_S):
                raise SystemExit(f"{given.node} did not come up within {PATIENCE_S:g} s")
            rounds = Rounds(change, executor, process)
            first = rounds.go(given.warm_up)
            print(f"start, after {given.warm_up} rounds: {first}", flush=True)
            begun_s = time.monotonic()
            last = rounds.go(given.rounds, LINES)
            took_s = time.monotonic() - begun_s
        finally:
            process.terminate()
    print(f"end, after {given.rounds} more in {took_s:.0f} s: {last}", flush=True)
    kept = leaks(first, last, given.rounds, given.most_mib)
    print(f"it kept {', '.join(kept)}" if kept else "nothing was kept", flush=True)
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
