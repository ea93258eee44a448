"""Recording demonstrations: every message as it was received, and the operator's marks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.bags.writer import qos_text
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault
from rynn_brain_ros.data.marks import CONTRACT, MARK, Mark, MarkEvent
from rynn_brain_ros.data.watching import faults_of, watches
from rynn_brain_ros.values import InputError

TF_STATIC = "/tf_static"


class Recorder:
    """One mcap file with the contract in its metadata. Use as a context manager.

    Times are nanoseconds of the recorder's clock. A process that dies loses nothing that it had
    received; a block that raises leaves a recording under its partial name that says so. Raises
    `OutputError`.
    """

    def __init__(self, path: Path, contract: Contract, provenance: Mapping[str, Any]) -> None:
        self._contract = contract
        self._bag = BagWriter(path, dict(provenance))
        self._bag.add_metadata(CONTRACT, {"robot_type": contract.robot_type, "yaml": contract.text})
        self._watches = watches(contract)
        self._n_marks = 0
        self._task = ""
        self._is_in_episode = False

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(complete=kind is None)
        if kind is not None:
            with contextlib.suppress(OSError):  # closed and readable, but no whole recording
                self._bag.path.replace(self._bag.partial_path)

    def close(self, complete: bool = True) -> None:
        """May be called twice."""
        self._bag.close(complete)

    def receive(self, topic: str, typename: str, message: Any, now_ns: int) -> None:
        """Keeps a message, given as a nested dict or as an object of rosbags."""
        self._bag.write(topic, typename, message, now_ns)
        if topic in self._watches and not isinstance(message, Mapping):
            self._watches[topic].see(message, now_ns)

    def receive_raw(
        self, topic: str, typename: str, raw: bytes, stamp_ns: int, now_ns: int
    ) -> None:
        """Keeps a serialised message (CDR) whose header has ``stamp_ns``; 0 without one."""
        qos = qos_text(latched=topic == TF_STATIC)
        self._bag.write_raw(topic, typename, raw, now_ns, offered_qos=qos)
        if topic in self._watches:
            self._watches[topic].note(stamp_ns, now_ns)

    def start(self, task: str, now_ns: int) -> None:
        """An episode begins. Raises `InputError` without a task, or in the middle of one."""
        if self._is_in_episode:
            raise InputError("an episode is being recorded: stop or discard it first")
        if not task.strip():
            raise InputError("an episode needs a task: say what is to be done")
        self._is_in_episode, self._task = True, task
        self._watches = watches(self._contract)
        self._mark(Mark(MarkEvent.START, now_ns, task))

    def end(self, event: MarkEvent, now_ns: int) -> None:
        """It is over, and how. Raises `InputError` where none was begun."""
        if not self._is_in_episode or event is MarkEvent.START:
            raise InputError("no episode is being recorded: start one first")
        self._is_in_episode = False
        self._mark(Mark(event, now_ns, self._task))

    def problems(self, now_ns: int) -> tuple[Fault, ...]:
        """What is wrong with the topics of the episode so far: for the operator's eyes."""
        every = self._watches.values()
        return tuple(fault for watch in every for fault in faults_of(self._contract, watch, now_ns))

    def _mark(self, mark: Mark) -> None:
        self._bag.add_metadata(f"{MARK}.{self._n_marks:06d}", mark.record())
        self._n_marks += 1
