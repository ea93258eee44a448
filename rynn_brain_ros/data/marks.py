"""The operator's marks in a recording, and the episodes between them.

Each mark is an mcap metadata record of its own, written at the moment it was made: a recording
that dies keeps those that came before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from rynn_brain_ros.bags import ENDING, BagInfo
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.values import BagError

MARK = "rynn_brain_ros.mark"
CONTRACT = "rynn_brain_ros.contract"
"""Names of the metadata records; a mark's has its number behind it."""


class MarkEvent(str, Enum):
    START = "start"
    STOP = "stop"
    """Ended, and nobody said how it went."""
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    """Ended, and not to be used."""


@dataclass(frozen=True)
class Mark:
    """``t_ns`` on the recorder's clock. ``task`` is said at the start."""

    event: MarkEvent
    t_ns: int
    task: str = ""

    def record(self) -> dict[str, str]:
        return {"event": self.event.value, "t_ns": str(self.t_ns), "task": self.task}


@dataclass(frozen=True)
class Span:
    """One episode of a recording. ``outcome``: the mark it ended with; empty without marks.
    ``faults`` are those that show before a message is read."""

    index: int
    start_ns: int
    end_ns: int
    task: str
    outcome: str = ""
    faults: tuple[Fault, ...] = ()


def marks_of(metadata: Mapping[str, Mapping[str, str]]) -> tuple[Mark, ...]:
    """In the order they were made. Raises `BagError` for a record that is none."""
    found = []
    for name in sorted(name for name in metadata if name.startswith(f"{MARK}.")):
        record = metadata[name]
        try:
            event = MarkEvent(record["event"])
            found.append(Mark(event, int(record["t_ns"]), record.get("task", "")))
        except (KeyError, ValueError) as error:
            raise BagError(f"the metadata record {name} is no operator's mark: {error}") from error
    return tuple(found)


def spans(info: BagInfo, contract: Contract, task: str = "") -> tuple[Span, ...]:
    """The episodes of a recording as the contract cuts it; discarded ones are left out.

    ``task`` is for those that nobody gave one.
    """
    marks = marks_of(info.metadata)
    by = contract.episodes.by
    if by == "bag" or (by == "auto" and not marks):
        faults = _cut_off(info)
        return (Span(0, info.start_ns, info.end_ns, task, faults=faults),)
    if not marks:
        fault = Fault(FaultKind.NOT_MARKED, "the recording", "it holds no operator's mark")
        return (Span(0, info.start_ns, info.end_ns, task, faults=(fault,)),)
    return tuple(_between(marks, info, contract, task))


def _between(marks: tuple[Mark, ...], info: BagInfo, contract: Contract, task: str) -> list[Span]:
    found: list[Span] = []
    begun: Mark | None = None
    for mark in marks:
        if begun is not None and mark.event is not MarkEvent.DISCARD:
            ended = mark.event is not MarkEvent.START
            faults = _judged(contract, mark) if ended else (_unended(),)
            outcome = mark.event.value if ended else ""
            text = begun.task or task
            found.append(Span(len(found), begun.t_ns, mark.t_ns, text, outcome, faults))
        begun = mark if mark.event is MarkEvent.START else None
    if begun is not None:
        text = begun.task or task
        found.append(Span(len(found), begun.t_ns, info.end_ns, text, faults=(_unended(),)))
    return found


def _unended() -> Fault:
    return Fault(FaultKind.TRUNCATED, "the recording", "the episode was begun and never ended")


def _judged(contract: Contract, mark: Mark) -> tuple[Fault, ...]:
    if contract.episodes.keep == "success" and mark.event is not MarkEvent.SUCCESS:
        text = f"it is marked {mark.event.value}, and the contract keeps successes only"
        return (Fault(FaultKind.NOT_MARKED, "the recording", text),)
    return ()


def _cut_off(info: BagInfo) -> tuple[Fault, ...]:
    """Of a recording without marks that was never closed: nobody knows what is missing."""
    interrupted = info.metadata.get(ENDING, {}).get("ending", "complete") != "complete"
    cut = next((text for text in info.problems if "cut or never closed" in text), "")
    if not cut and not interrupted:
        return ()
    return (Fault(FaultKind.TRUNCATED, "the recording", cut or "it was interrupted"),)
