"""What commands that serve have in common: where they listen, who may come in, and how they end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rynn_brain_ros.cli.common import INTERRUPTED, path
from rynn_brain_ros.interrupts import Interrupt
from rynn_brain_ros.values import InputError


def add_endpoint_arguments(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="(127.0.0.1)")
    parser.add_argument("--port", type=int, default=port, metavar="N", help=f"0: any free ({port})")
    parser.add_argument("--token-file", type=path, metavar="FILE", help="what clients must show")
    parser.add_argument(
        "--until-eof", action="store_true", help="stop when standard input ends, as a child should"
    )


def token_of(file: Path | None, variable: str) -> str:
    """The file's word, else the environment's. Raises `InputError`."""
    if file is None:
        return os.environ.get(variable, "")
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read a token from {file}: {error}") from error
    if not token or any(character.isspace() for character in token):
        raise InputError(f"{file} holds no token: one word, such as `openssl rand -hex 32` writes")
    return token


def stop_at_eof() -> None:
    """For a child whose parent may die without a word: it must not keep the model in memory."""
    threading.Thread(target=_wait_for_eof, daemon=True).start()


def _wait_for_eof() -> None:
    with suppress(OSError, ValueError):  # an input that cannot be read has ended
        while os.read(sys.stdin.fileno(), 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[Interrupt]:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the process at once.

    Whoever waits for it says so: a handler that prints may fail where standard error is broken, or
    interrupt somebody who prints, and what it raises would come out of the wait.
    """
    stop = Interrupt()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
