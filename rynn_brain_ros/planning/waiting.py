"""Waiting for an engine or a person while the robot's time goes on: pictures are taken in, and
whatever else a tick does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rynn_brain_ros.values import Answer, Cancel, Engine, EngineError, EngineInfo, Query

Tick = Callable[[], object]
"""Lets a little time pass."""

_GRACE_S = 5.0
"""How long an engine may go on after it was told to stop."""


class PatientEngine:
    """``engine``, asked in a thread of its own, so that the asking thread can ``tick``. ``hear``
    gets each new piece of text, in the engine's thread."""

    def __init__(self, engine: Engine, tick: Tick, hear: Callable[[str], None]) -> None:
        self._engine, self._tick, self._hear = engine, tick, hear

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """As the engine's own; `EngineError` too where it goes on after it was cancelled."""

        def heard(text: str) -> None:
            self._hear(text)
            if on_text is not None:
                on_text(text)

        asked = _Asked()
        thread = threading.Thread(
            target=asked.run, args=(lambda: self._engine.ask(query, heard, cancel),), daemon=True
        )
        thread.start()
        cancelled_s: float | None = None
        while thread.is_alive():
            self._tick()
            if cancel is None or not cancel.is_set():
                continue
            cancelled_s = cancelled_s or time.monotonic()
            if time.monotonic() - cancelled_s > _GRACE_S:
                raise EngineError(f"{self.info.name} was told to stop and goes on; it was left")
        return asked.result()

    def close(self) -> None:
        """Its owner closes the engine."""


class _Asked:
    """A call in another thread: what it gave or raised."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def run(self, ask: Callable[[], Answer]) -> None:
        try:
            self._answer = ask()
        except BaseException as error:  # noqa: BLE001  # raised again where it was asked
            self._error = error

    def result(self) -> Answer:
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer


@dataclass
class _Asking:
    query_id: str
    step_index: int
    said: bool | None = None


class Approvals:
    """One motion at a time waits for a person's word, which may come from any thread."""

    def __init__(self) -> None:
        self._asking: _Asking | None = None
        self._lock = threading.Lock()

    def wait(
        self,
        query_id: str,
        step_index: int,
        tell: Callable[[], None],
        tick: Tick,
        gives_up: Callable[[], bool],
    ) -> bool:
        """The person's word; no where ``gives_up``, whatever they said. ``tell`` asks them: their
        word may come before it returns."""
        asking = _Asking(query_id, step_index)
        with self._lock:
            self._asking = asking
        try:
            tell()
            while asking.said is None and not gives_up():
                tick()
        finally:
            with self._lock:
                self._asking = None
        return bool(asking.said) and not gives_up()

    def answer(self, query_id: str, step_index: int, approve: bool) -> str:
        """Gives the word; what was wrong with it, or nothing. A no counts after a yes that was not
        taken yet, and no yes after a no."""
        with self._lock:
            asking = self._asking
            if asking is None:
                return "no step waits for a yes or no"
            if (asking.query_id, asking.step_index) != (query_id, step_index):
                return (
                    f"step {step_index} of question {query_id!r} does not wait: it is step "
                    f"{asking.step_index} of question {asking.query_id!r}"
                )
            if approve and asking.said is not None:
                return f"somebody has said {'yes' if asking.said else 'no'} already"
            asking.said = approve
            return ""
