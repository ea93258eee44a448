"""An engine in a process of its own: another Python's, started, watched and started anew.

ROS's Python stays light, and a model that dies takes nothing with it. The process is
``PYTHON -m rynn_brain_ros.cli serve``: it listens on this machine only, asks for a token that
nobody else knows, and ends when the process that started it does.
"""

from __future__ import annotations

import os
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rynn_brain_ros.models.http import TOKEN_VARIABLE, HttpEngine
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineError,
    EngineInfo,
    EngineLostError,
    InputError,
    Query,
    RynnBrainError,
)

_ADDRESS = re.compile(r" at (http://127\.0\.0\.1:\d+/v1)\b")
_LINE_ENDS = re.compile(rb"[\r\n]")
_LOOK_S = 0.1
"""How often the process is looked at while it says nothing."""
_PIPE_BYTES = 1 << 20
"""What a pipe holds at most."""
_PYTHON_OF_OURS = ("PYTHONPATH", "PYTHONHOME")
"""They name packages for this Python, which another one must not import."""


@dataclass(frozen=True)
class Patience:
    """Seconds: between restarts (doubled each time up to the most; an engine that was ready for
    ``steady_s`` begins anew), what the process gets to end by itself, and how long its server may
    be silent: its model may be slow, the server is not."""

    first_s: float = 1.0
    most_s: float = 60.0
    steady_s: float = 60.0
    end_s: float = 10.0
    silent_s: float = 15.0


class WorkerEngine:
    """``spec``, served by a process of ``python``. Made at once; ready later, or again.

    ``trouble`` says why it cannot answer now, and is empty when it can; ``tell`` gets what happens
    and every line that the process writes, from another thread. Raises `InputError` for a Python
    that is not there.
    """

    def __init__(
        self,
        python: str,
        spec: str,
        tell: Callable[[str], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        found = shutil.which(Path(python).expanduser())
        if found is None:
            raise InputError(
                f"no Python at {python!r} to run {spec} with: name an interpreter whose "
                "environment has rynn_brain_ros[serve] and what the engine needs"
            )
        self._spec, self._tell, self._patience = spec, tell or _untold, patience or Patience()
        self._command = [found, "-m", "rynn_brain_ros.cli", "serve", spec, "--port", "0"]
        self._command += ["--until-eof", "--grace", f"{self._patience.end_s / 2:g}"]
        self._token = secrets.token_hex(16)
        self._info = EngineInfo(name="worker", model=spec)
        self._engine: HttpEngine | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._doubted = threading.Event()
        self._said = ""
        self.restarts = 0
        self.trouble = f"{spec} is being started"
        self._thread = threading.Thread(target=self._supervise, name="worker", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """Of a model that was never ready only the spelling is known."""
        return self._info

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """As the engine's own. Raises `EngineError` at once while it is not ready."""
        engine = self._engine
        if engine is None:
            raise EngineError(self.trouble or f"{self._spec} is closed")
        try:
            return engine.ask(query, on_text, cancel)
        except EngineError as error:
            self._doubted.set()
            process = self._process
            is_alive = self._engine is engine and process is not None and process.poll() is None
            if is_alive and not isinstance(error, EngineLostError):
                raise
            raise EngineLostError(
                f"{self._spec} died while it was answering {query.query_id}, and is started again"
            ) from error

    def close(self) -> None:
        """Ends the process, in the end by force. May be called twice."""
        self._closing.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(self._patience.end_s)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(self._patience.end_s)  # longer only where a driver holds the process

    # --- the supervising thread ------------------------------------------------------------------

    def _supervise(self) -> None:
        wait_s = self._patience.first_s
        while not self._closing.is_set():
            self.trouble, self._said = f"{self._spec} is being started", ""
            steady_s, why = self._live()
            if steady_s >= self._patience.steady_s:
                wait_s = self._patience.first_s
            if not self._closing.is_set():
                self.restarts += 1
                self.trouble = f"{why}; it is started again in {wait_s:g} s"
                self._tell(self.trouble)
            self._closing.wait(wait_s)
            wait_s = min(2 * wait_s, self._patience.most_s)

    def _live(self) -> tuple[float, str]:
        """One process from start to end: (seconds that it was ready, why it is there no more)."""
        with self._lock:
            if self._closing.is_set():
                return 0.0, ""
            try:
                self._process = self._start()
            except OSError as error:  # an interpreter that is gone, or no memory left
                return 0.0, f"{self._spec} cannot be started with {self._command[0]}: {error}"
        with self._process as process:
            ready = self._follow(process)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        said = f": {self._said}" if self._said else ""
        steady_s = 0.0 if ready is None else time.monotonic() - ready
        return steady_s, f"the process of {self._spec} ended with code {process.returncode}{said}"

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,  # its end, which the kernel brings, ends the process
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**_environment(), TOKEN_VARIABLE: self._token},
            start_new_session=True,  # a Ctrl-C in our terminal is ours to handle; see `_end_rest`
        )

    def _follow(self, process: subprocess.Popen[bytes]) -> float | None:
        """Reads what the process writes until it ends; when it became ready."""
        ready = None
        for line in _lines(process):
            if not line:
                self._look(process)
                continue
            self._said = line
            self._tell(f"{self._spec}: {line}")
            address = _ADDRESS.search(line)
            if address is not None and ready is None:
                ready = self._connect(address[1], process)
            elif ready is None:
                self.trouble = f"{self._spec} is being started: {line}"
        return ready

    def _look(self, process: subprocess.Popen[bytes]) -> None:
        """After a question that failed: a process that stands still is ended, so that it is started
        anew. Of one that is only slow the server answers, in a thread beside the model's."""
        engine = self._engine
        if not self._doubted.is_set() or engine is None:
            return
        if not engine.is_there(self._patience.silent_s) and process.poll() is None:
            self._said = f"it stood still, and said nothing for {self._patience.silent_s:g} s"
            self._engine, self.trouble = None, f"{self._spec} stands still, and is ended"
            engine.close()
            process.kill()
        self._doubted.clear()

    def _connect(self, url: str, process: subprocess.Popen[bytes]) -> float | None:
        try:
            engine = HttpEngine(url, token=self._token, name="")
        except RynnBrainError as error:
            self._said = str(error)
            process.kill()  # it may stand still
            return None
        self._info, self._engine, self.trouble = engine.info, engine, ""
        return time.monotonic()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """What the process writes until it ends, and nothing ("") each time that it was looked at. The
    end of the pipe does not tell its end: whatever it started holds the pipe, too, and may outlive
    it."""
    pending, is_over = b"", False
    with selectors.DefaultSelector() as selector:
        assert process.stderr is not None
        selector.register(process.stderr, selectors.EVENT_READ)
        while not is_over:
            is_over = process.poll() is not None  # before reading: what it said last is in the pipe
            if is_over:
                _end_rest(process)
            if selector.select(0 if is_over else _LOOK_S):
                data = os.read(process.stderr.fileno(), _PIPE_BYTES)
                pending += data
                if not data:
                    selector.unregister(process.stderr)
            *lines, pending = _LINE_ENDS.split(pending)
            if is_over:
                lines.append(pending)
            yield from filter(None, (line.decode("utf-8", "replace").strip() for line in lines))
            yield ""


def _end_rest(process: subprocess.Popen[bytes]) -> None:
    """What the process started and left behind keeps memory, a GPU's too. Its group is its own,
    since it began a session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _PYTHON_OF_OURS}


def _untold(text: str) -> None:
    """For who does not want to know."""
