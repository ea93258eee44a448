"""Being told how far something long has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from time to time: ``done`` of ``total`` steps of ``what`` ("loading weights")."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def untold(what: str, done: int, total: int) -> None:
    """For who does not want to know."""
