"""What can be wrong with a recording, each with a name, a place and a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rynn_brain_ros.values import InputError


class FaultKind(str, Enum):
    """The names are part of the reports."""

    MISSING_TOPIC = "missing_topic"
    """The contract wants a topic that the recording has not, or has with another type."""
    NO_SAMPLE = "no_sample"
    """Nothing usable had come on a topic yet."""
    STALE = "stale"
    """The newest sample is older than the contract allows."""
    GAP = "gap"
    """A topic was silent for longer than the contract allows."""
    RATE = "rate"
    """A topic came much slower or faster than the contract says."""
    REPEATED = "repeated"
    """Too many frames show the same image again."""
    SIZE_CHANGED = "size_changed"
    """A camera's images have another size than before."""
    NOT_FINITE = "not_finite"
    """A number is NaN or infinite."""
    FIELD_MISSING = "field_missing"
    """A message has no such joint or field."""
    GRIPPER_RANGE = "gripper_range"
    """A gripper's value lies far outside its open and closed: other units, or another sense."""
    GRIPPER_INVERTED = "gripper_inverted"
    """The hand opens where its command closes."""
    CLOCK_JUMP = "clock_jump"
    """Stamps went back in time."""
    CLOCK_OFFSET = "clock_offset"
    """The sensor's clock is not the recorder's: use the timeline receive."""
    UNREADABLE = "unreadable"
    """A message or an image cannot be decoded."""
    TRUNCATED = "truncated"
    """The recording was cut off in the middle of an episode."""
    NO_TASK = "no_task"
    """Nobody said what the episode is about."""
    TOO_SHORT = "too_short"
    """Next to nothing was recorded."""
    NOT_MARKED = "not_marked"
    """The contract wants the operator's marks, or a success, and there is none."""


@dataclass(frozen=True)
class Fault:
    """``where``: topic or feature. ``t_ns``: on the recorder's clock; 0 where it is about the
    whole episode."""

    kind: FaultKind
    where: str
    text: str
    t_ns: int = 0

    def told(self, start_ns: int = 0) -> str:
        """With the time since ``start_ns``."""
        at = f" at {(self.t_ns - start_ns) / 1e9:.3f} s" if self.t_ns else ""
        return f"{self.kind.value}{at} on {self.where}: {self.text}"


class FaultyRecordingError(InputError):
    """A recording broke the contract, and the contract says to refuse."""
