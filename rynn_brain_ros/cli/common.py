"""What all commands share: how they end, and how they speak."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from rynn_brain_ros.models.progress import Progress
from rynn_brain_ros.values import EngineError, InputError, OutputError, RynnBrainError

DONE, DRIFTED, BAD_INPUT, ENGINE_FAILED, NOT_WRITTEN = 0, 1, 2, 3, 4
INTERRUPTED, READER_GONE = 130, 141
STOPPING = "stopping (again to kill)"


def exit_code(error: RynnBrainError) -> int:
    if isinstance(error, OutputError):
        return NOT_WRITTEN
    return ENGINE_FAILED if isinstance(error, EngineError) else BAD_INPUT


def say(text: str) -> None:
    """To people, on standard error: standard output is for results."""
    print(text, file=sys.stderr)


def say_if_heard(text: str) -> None:
    """For what is said on the way to something that must be done even where nobody listens any
    more, as after the death of a parent."""
    try:
        say(text)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Else Python tries once more to write what is left at its own end, and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """On a terminal, how far something long has come; gone when it is done."""
    with tqdm(disable=not sys.stderr.isatty(), leave=False) as bar:
        now = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal now
            if what != now:
                now = what
                bar.set_description(what, refresh=False)
                bar.reset(total)
            bar.update(done - bar.n)

        yield tell


@contextmanager
def progress_lines() -> Iterator[Progress]:
    """For programs that listen: one line for each tenth of something long."""
    told = ("", -1)

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        tenth = (what, 10 * done // max(1, total))
        if tenth != told:
            told = tenth
            say(f"{what}: {done} of {total}")

    yield tell


def said(argument: str) -> Callable[[str], str]:
    """The type of an argument in words: empty ones, as of an unset variable, are no default."""

    def words(text: str) -> str:
        if not text.strip():
            raise InputError(f"{argument} is empty: say it in words, or leave it out")
        return text

    return words


def refuse_without(needed: str, options: argparse.Namespace, names: Iterable[str]) -> None:
    """For options that mean nothing without another one. Raises `InputError` with those of
    ``names`` that were given: whose value is neither ``None`` nor a switch that is off."""
    values = ((name, getattr(options, name)) for name in names)
    given = [f"--{n.replace('_', '-')}" for n, v in values if v is not None and v is not False]
    if given:
        need, them = ("needs", "it") if len(given) == 1 else ("need", "them")
        raise InputError(f"{', '.join(given)} {need} {needed}: give that, or leave {them} out")


def path(text: str) -> Path:
    """``Path("")`` would mean the folder that one happens to be in."""
    if not text.strip():
        raise InputError("an empty path was given: name a file or a folder")
    return Path(text)
