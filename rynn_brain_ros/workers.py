"""Work in several processes: one that is killed is told, and Ctrl-C ends all without a noise."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from rynn_brain_ros.values import OutputError

T = TypeVar("T")


class Workers:
    """Takes tasks: functions and arguments that can be pickled."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, task: Callable[..., T], *arguments: Any) -> Future[T]:
        return self._pool.submit(_run, task, *arguments)


@contextmanager
def workers(
    jobs: int, prepare: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[Workers]:
    """``jobs`` processes, each prepared by ``prepare(*arguments)``. On leaving, tasks that were not
    begun are cancelled and the others waited for. Raises `OutputError` where a process was killed.
    """
    # Spawned, not forked: OpenGL and threads do not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (prepare, *arguments)) as pool:
        try:
            yield Workers(pool)
        except BrokenProcessPool as error:
            raise OutputError(
                "a process that did a part of the work was killed, as the system does when memory "
                "runs out: try again with fewer --jobs; what was told as done is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(prepare: Callable[..., None] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who waits for work has nothing to interrupt
    if prepare is not None:
        prepare(*arguments)


def _run(task: Callable[..., T], *arguments: Any) -> T:
    if signal.getsignal(signal.SIGINT) is _interrupted:
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return task(*arguments)
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, _interrupted)
    raise KeyboardInterrupt


def _interrupted(*_: object) -> None:
    """Nothing more is begun."""
