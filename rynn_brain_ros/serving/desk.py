"""One engine, one thread that it works in, and the questions that wait for it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

from rynn_brain_ros.serving.refusals import stopping
from rynn_brain_ros.serving.turns import Turn, Turns
from rynn_brain_ros.values import Answer, Engine, Query

Event = str | Answer | BaseException
"""A piece of the text; at the end, what became of the question."""
_HABIT = 0.2
"""How much the newest answer counts for what an answer usually takes."""
_LONGEST_HINT_S = 60.0
_STUCK_S = 120.0
"""An engine looks between layers and tokens whether its question was given up: no layer takes so
long, not even on a slow machine."""


class Job:
    """One question on its way through the engine."""

    def __init__(self, query: Query, turn: Turn) -> None:
        self.query, self.turn = query, turn
        self.cancel = threading.Event()
        self.left_s = math.inf  # when nobody waited for it any more, of `time.monotonic`
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def event(self) -> Event:
        """The next one; none comes after the end."""
        return await self._events.get()

    def write(self, piece: str) -> None:
        """Called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, piece)

    def end(self, how: Answer | BaseException) -> None:
        self._events.put_nowait(how)


class Desk:
    """Takes questions and has them answered, one after the other, in turn among the clients.

    Of one event loop; the engine works in a thread of its own.
    """

    def __init__(self, engine: Engine, per_client: int) -> None:
        self.engine = engine
        self._turns = Turns(per_client)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._jobs: dict[Job, asyncio.Task[Answer]] = {}
        self._at: Job | None = None
        self._usual_s = 1.0
        self._stopped = False
        self._last: Future[bool] | None = None

    @property
    def trouble(self) -> str:
        """Why the engine cannot answer, where it knows of such a thing or is stuck in a question
        (a GPU that hangs, say); else empty. Of any thread."""
        job = self._at
        if job is not None and time.monotonic() - job.left_s > _STUCK_S:
            return f"the engine is stuck in a question that was given up {_STUCK_S:g} s ago"
        return str(getattr(self.engine, "trouble", ""))

    @property
    def n_waiting(self) -> int:
        return self._turns.n_waiting

    @property
    def n_answering(self) -> int:
        return len(self._jobs) - self._turns.n_waiting

    @property
    def retry_after_s(self) -> float:
        """When a question that cannot wait here may be worth asking again."""
        return min(_LONGEST_HINT_S, max(1.0, self._usual_s * (self.n_waiting + 1)))

    def ask(self, client: str, query: Query) -> Job:
        """Raises `RequestError` where this client has too many questions here already."""
        if self._stopped:
            raise stopping()
        job = Job(query, self._turns.ask(client, self.retry_after_s))
        task = asyncio.create_task(self._work(job))
        self._jobs[job] = task
        task.add_done_callback(lambda done: self._ended(job, done))
        return job

    def leave(self, job: Job) -> None:
        """Nobody waits for it any more. The engine stops within a token; the turn is its own until
        it really has."""
        job.left_s = min(job.left_s, time.monotonic())
        job.cancel.set()
        job.turn.cancel()

    def stop(self) -> None:
        """Gives up everything, and at once as far as those who wait for answers can tell."""
        self._stopped = True
        for job in list(self._jobs):
            job.end(stopping())
            self.leave(job)

    async def _work(self, job: Job) -> Answer:
        await job.turn
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._at = job
        try:
            return await loop.run_in_executor(
                self._thread, self.engine.ask, job.query, job.write, job.cancel
            )
        finally:
            self._at = None
            self._usual_s += _HABIT * (loop.time() - started_s - self._usual_s)
            self._turns.over()

    def _ended(self, job: Job, task: asyncio.Task[Answer]) -> None:
        del self._jobs[job]
        if task.cancelled():
            return
        error = task.exception()
        job.end(task.result() if error is None else error)

    def close(self, within_s: float) -> bool:
        """Takes no more work. Whether the engine has ended what it was at."""
        if self._last is None:
            self._last = self._thread.submit(bool)
            self._thread.shutdown(wait=False)
        return bool(wait([self._last], within_s).done)
