"""Who is next: one at a time, and in turn among the clients, however many questions each has."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from rynn_brain_ros.serving.refusals import busy

Turn = asyncio.Future[None]


class Turns:
    """Of one event loop. A client that was served goes behind all others that wait."""

    def __init__(self, per_client: int) -> None:
        self._per_client = per_client
        self._waiting: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._taken = False

    @property
    def n_waiting(self) -> int:
        return sum(len(turns) for turns in self._waiting.values())

    def ask(self, client: str, retry_after_s: float) -> Turn:
        """A future that is done when it is this one's turn; then `over` must follow. Until then it
        may be cancelled.

        Raises `RequestError` 429 where the client has too many waiting already.
        """
        turn: Turn = asyncio.get_running_loop().create_future()
        if not self._taken:
            self._taken = True
            turn.set_result(None)
            return turn
        if len(self._waiting.get(client, ())) >= self._per_client:
            raise busy(
                f"{self._per_client} of your questions are waiting already; wait for their answers",
                retry_after_s,
            )
        self._waiting.setdefault(client, deque()).append(turn)
        turn.add_done_callback(lambda done: self._forget(client, done))
        return turn

    def over(self) -> None:
        """The turn has ended: the next one's begins."""
        while self._waiting:
            client, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[client] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False

    def _forget(self, client: str, turn: Turn) -> None:
        turns = self._waiting.get(client, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[client]
