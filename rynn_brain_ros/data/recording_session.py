"""One operator recording demonstrations, an episode a file, with an eye on topics and disk."""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import normalise_type, typestore
from rynn_brain_ros.data.contract import Channel, Contract
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.live_checks import LiveChecks, Now
from rynn_brain_ros.data.marks import MarkEvent
from rynn_brain_ros.data.record_config import RecordConfig
from rynn_brain_ros.data.recorder import TF_STATIC, Recorder
from rynn_brain_ros.files import remedy
from rynn_brain_ros.values import ConfigError, ImageError, InputError, OutputError
from rynn_brain_ros.view.redrawing import stamp_of

_GIB = 1 << 30
_HEADER = "std_msgs/msg/Header"
_STATIC_MESSAGES = 100


def channels(contract: Contract) -> dict[str, Channel]:
    """Every topic to record. Raises `ConfigError` for a type whose definition is not known here:
    without it nobody could read the recording."""
    named = [source.channel for source in contract.sources] + list(contract.adjunct)
    named += [contract.task] if contract.task is not None else []
    others = {topic: Channel(topic, type_) for topic, type_ in contract.topics.items()}
    found = {**others, **{channel.topic: channel for channel in named}}
    known = typestore().fielddefs
    for channel in found.values():
        if normalise_type(channel.type) not in known:
            raise ConfigError(
                f"{channel.topic}: the type {channel.type} cannot be recorded: its definition is "
                "neither one of ROS 2's own messages nor one of rynn_brain_ros"
            )
    return found


def is_static(channel: Channel) -> bool:
    """Whether its messages are kept for those who come later."""
    return channel.topic == TF_STATIC or channel.durability == "transient_local"


@dataclass(frozen=True)
class Episode:
    """The one that is being recorded. ``faults`` are those since its start."""

    file: Path
    task: str
    seconds: float
    messages: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Look:
    """How it is. ``trouble``: why the last episode ended by itself; empty where none did."""

    now: Now
    episode: Episode | None
    free_bytes: int
    kept: int
    trouble: str

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Of the topics now and in the episode so far, each once."""
        found: dict[tuple[FaultKind, str], Fault] = {}
        for fault in (*(self.episode.faults if self.episode else ()), *self.now.faults):
            found.setdefault((fault.kind, fault.where), fault)
        return tuple(found.values())


class _Open:
    """An episode's recorder, and what has been counted of it."""

    def __init__(self, recorder: Recorder, file: Path, task: str, start_ns: int) -> None:
        self.recorder, self.file, self.task, self.start_ns = recorder, file, task, start_ns
        self.messages = 0


class RecordingSession:
    """Feed it every message as it is received, and call `tend` about once a second. Times are of
    one clock, ns. ``free_bytes`` tells how much a folder's disk has left.

    What still holds when an episode starts (static transforms, topics that are sent only when they
    change) is put at the beginning of its file with the time it was received at.
    """

    def __init__(
        self,
        contract: Contract,
        config: RecordConfig,
        provenance: Mapping[str, Any],
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self.channels = channels(contract)
        self._contract, self._config, self._provenance = contract, config, dict(provenance)
        self._folder, self._task = Path(config.out).expanduser(), config.task
        self._free_bytes = free_bytes or _free_bytes
        self._checks = LiveChecks(contract, config.max_offset_s)
        self._observed = {s.channel.topic for f in contract.observations for s in f.sources}
        self._stamped = {t for t, c in self.channels.items() if _has_header(c.type)}
        self._holding: dict[str, deque[tuple[int, int, bytes]]] = {
            topic: deque(maxlen=_STATIC_MESSAGES if is_static(channel) else 1)
            for topic, channel in self.channels.items()
            if is_static(channel) or topic in contract.lasting
        }
        self._open: _Open | None = None
        self._kept = 0
        self._trouble = ""
        _make_folder(self._folder)

    def receive(self, topic: str, raw: bytes, now_ns: int) -> None:
        """A serialised message. Raises `OutputError`: the episode has ended, and what came before
        is in its ``.partial.mcap``."""
        stamp_ns = self._stamp_ns(topic, raw)
        self._checks.note(topic, stamp_ns, now_ns)
        if topic in self._holding:
            self._holding[topic].append((now_ns, stamp_ns, raw))
        if self._open is not None:
            self._write(self._open, topic, raw, stamp_ns, now_ns)

    def mark(self, event: MarkEvent, now_ns: int, task: str = "") -> str:
        """Starts or ends an episode and says so. Raises `InputError` where that cannot be now,
        `OutputError` where the file cannot be written."""
        if event is MarkEvent.START:
            return self._start(task, now_ns)
        return self._end(event, now_ns)

    def tend(self, now_ns: int) -> str:
        """Ends an episode, whole, before the disk is full. What it did; mostly nothing."""
        free, least = self._free_bytes(self._folder), self._config.min_free_gib
        if self._open is None or free >= least * _GIB:
            return ""
        done = self._end(MarkEvent.STOP, now_ns)
        self._trouble = f"{done}: {_little_left(self._folder, free, least)}"
        return self._trouble

    def look(self, now_ns: int) -> Look:
        begun, episode = self._open, None
        if begun is not None:
            seconds = (now_ns - begun.start_ns) / 1e9
            faults = begun.recorder.problems(now_ns)
            episode = Episode(begun.file, begun.task, seconds, begun.messages, faults)
        free = self._free_bytes(self._folder)
        return Look(self._checks.now(now_ns), episode, free, self._kept, self._trouble)

    def close(self, now_ns: int) -> str:
        """An episode that is being recorded ends without a judgement. What it did."""
        return self._end(MarkEvent.STOP, now_ns) if self._open is not None else ""

    # --- episodes --------------------------------------------------------------------------------

    def _start(self, task: str, now_ns: int) -> str:
        if self._open is not None:
            raise InputError(f"{self._open.file.name} is being recorded: stop or discard it first")
        task = task.strip() or self._task
        if not task:
            raise InputError("an episode needs a task: say what is to be done")
        self._check(now_ns)
        file = _next_file(self._folder)
        recorder = Recorder(file, self._contract, self._provenance)
        begun = _Open(recorder, file, task, now_ns)
        still = ((topic, *one) for topic, held in self._holding.items() for one in held)
        for topic, received_ns, stamp_ns, raw in sorted(still, key=lambda one: one[1]):
            self._write(begun, topic, raw, stamp_ns, received_ns)
        recorder.start(task, now_ns)
        self._open, self._task, self._trouble = begun, task, ""
        return f"recording {file}: {task}"

    def _check(self, now_ns: int) -> None:
        free, least = self._free_bytes(self._folder), self._config.min_free_gib
        if free < least * _GIB:
            raise InputError(f"not started: {_little_left(self._folder, free, least)}")
        faults = self._checks.now(now_ns).faults if self._config.strict else ()
        wrong = [told(fault) for fault in faults if fault.where in self._observed]
        if wrong:
            raise InputError(f"not started: {'; '.join(wrong)}")

    def _end(self, event: MarkEvent, now_ns: int) -> str:
        if self._open is None:
            raise InputError("no episode is being recorded: start one first")
        begun, self._open = self._open, None
        begun.recorder.end(event, now_ns)
        begun.recorder.close()
        if event is MarkEvent.DISCARD:
            begun.file.unlink()
            return f"discarded {begun.file.name}: it is deleted"
        self._kept += 1
        seconds = (now_ns - begun.start_ns) / 1e9
        return f"kept {begun.file}: {event.value}, {seconds:.1f} s, {begun.messages} messages"

    def _write(self, to: _Open, topic: str, raw: bytes, stamp_ns: int, now_ns: int) -> None:
        try:
            to.recorder.receive_raw(topic, self.channels[topic].type, raw, stamp_ns, now_ns)
        except OutputError as error:
            self._open, self._trouble = None, str(error)
            raise
        to.messages += 1

    def _stamp_ns(self, topic: str, raw: bytes) -> int:
        try:
            return stamp_of(raw) if topic in self._stamped else 0
        except ImageError:
            return 0  # shorter than a header: the converter will name it


def told(fault: Fault) -> str:
    """For an operator, who sees it as it happens."""
    return f"{fault.where}: {fault.text}"


def _has_header(typename: str) -> bool:
    fields = typestore().fielddefs[normalise_type(typename)][1]
    return bool(fields) and fields[0][1][1] == _HEADER


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot record into {folder}: {error.strerror}; {remedy(error)}"
        raise OutputError(text) from error


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _little_left(folder: Path, free_bytes: int, least_gib: float) -> str:
    return (
        f"{free_bytes / _GIB:.1f} GiB are free on the disk of {folder}, and min_free_gib is "
        f"{least_gib:g}: free some space, or record elsewhere (out)"
    )


def _next_file(folder: Path) -> Path:
    """One number above all that are there."""
    names = (re.match(r"episode-(\d+)\.", path.name) for path in folder.iterdir())
    last = max((int(name[1]) for name in names if name), default=-1)
    return folder / f"episode-{last + 1:05d}.mcap"
