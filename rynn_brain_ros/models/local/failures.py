"""What torch, transformers and the libraries under them raise, in words of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rynn_brain_ros.values import EngineError, RynnBrainError


def cause(error: BaseException) -> str:
    """What it says, in one line without its full stop: many messages begin with empty ones."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


@contextlib.contextmanager
def told_as(trouble: str, remedy: str = "") -> Iterator[None]:
    """Whatever torch and the libraries under it raise becomes an `EngineError`: ``trouble``, the
    cause, ``remedy``. Not all of theirs have a class of their own: triton's are plain exceptions.
    """
    try:
        yield
    except RynnBrainError:
        raise
    except Exception as error:
        raise EngineError(f"{trouble}: {cause(error)}{remedy}") from error
