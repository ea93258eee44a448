"""What the two storage formats have in common: an index, and messages in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\0"

OUT_OF_ORDER = "rynn_brain_ros.out_of_order"
"""Name of the metadata record of a recording whose messages are not in the order of time by
intent; its values say why."""

MAX_BACK_NS = 1_000_000_000
"""Messages that wait for each other while they are recorded go back by less."""

Item = tuple[int, int, int, bytes]
"""log time (ns), publish time (ns), channel, payload"""

Source = tuple[int, Callable[[], Iterator[Item]]]
"""A time before which the source has nothing, and how to open it."""

Report = Callable[[str], None]
"""Takes a sentence about something that was lost while reading."""


@dataclass(frozen=True)
class Channel:
    """One topic as one storage file describes it; ``schema`` is empty where the file has none."""

    topic: str
    typename: str
    encoding: str = "cdr"
    schema_encoding: str = ""
    schema: str = field(default="", repr=False)
    offered_qos: str = field(default="", repr=False)


@dataclass
class StorageIndex:
    """What a storage file holds, known without its payloads where it has an index of its own.

    ``start_ns`` and ``end_ns`` are the first and the last log time. ``problems`` are sentences
    about damage, ``remarks`` about what is whole and yet not as it should be.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def message_count(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Selection:
    """Which messages of a file are wanted: ``start_ns <= log time < stop_ns`` on ``channels``."""

    channels: Set[int]
    start_ns: int | None = None
    stop_ns: int | None = None

    def holds(self, time_ns: int, channel: int) -> bool:
        return channel in self.channels and self.meets(time_ns, time_ns)

    def meets(self, first_ns: int, last_ns: int) -> bool:
        """Whether any time from ``first_ns`` to ``last_ns`` is in the range."""
        return (self.start_ns is None or last_ns >= self.start_ns) and (
            self.stop_ns is None or first_ns < self.stop_ns
        )


class StorageFile(Protocol):
    """One .mcap or .db3 file."""

    path: Path
    kind: str
    index: StorageIndex

    def messages(self, selection: Selection, report: Report) -> Iterator[Item]:
        """The selected messages in the order of log time; opens its own handle."""
        ...


def in_time_order(sources: Iterable[Source]) -> Iterator[Item]:
    """Merge sources that are each in order, opening each only when its time has come.

    So a bag of hundreds of files, or a file of thousands of chunks, holds only those in memory
    that overlap. Equal times keep the order of the sources.
    """
    waiting = sorted(enumerate(sources), key=lambda entry: (entry[1][0], entry[0]))
    waiting.reverse()
    heap: list[tuple[int, int, Item, Iterator[Item]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[-1][1][0] <= heap[0][0]):
            order, (_, open_source) = waiting.pop()
            _push(heap, order, open_source())
        if heap:
            _, order, item, iterator = heapq.heappop(heap)
            yield item
            _push(heap, order, iterator)


def _push(
    heap: list[tuple[int, int, Item, Iterator[Item]]], order: int, iterator: Iterator[Item]
) -> None:
    item = next(iterator, None)
    if item is not None:
        heapq.heappush(heap, (item[0], order, item, iterator))


def goes_back(parts: Iterable[tuple[int, int, int]]) -> bool:
    """Whether a channel's time goes back by more than `MAX_BACK_NS`. ``parts`` are (channel, first
    time, last time in ns) in the order of the file: of single messages, or of whole chunks."""
    newest: dict[int, int] = {}
    for channel, first_ns, last_ns in parts:
        if last_ns < newest.get(channel, last_ns) - MAX_BACK_NS:
            return True
        newest[channel] = max(first_ns, newest.get(channel, first_ns))
    return False


def back_remark(name: str) -> str:
    return (
        f"{name}: the time goes back by more than {MAX_BACK_NS / 1e9:g} s: where the recorder's "
        "clock was set back, what came before and after is read as if it were of the same time"
    )


def merge_metadata(
    metadata: dict[str, dict[str, str]], name: str, record: Mapping[str, str]
) -> None:
    """Add a record; a later one of the same name overrides key by key."""
    metadata.setdefault(name, {}).update(record)
