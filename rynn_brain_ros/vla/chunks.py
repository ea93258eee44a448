"""What a policy promises, the chunks it gives, and the queue between it and the robot.

A chunk takes longer to compute than a step of it takes to execute, so the robot moves on while the
next one is made. A request therefore remembers the step at which its observation was taken; when
its chunk arrives, the steps that were consumed meanwhile are its delay, and that many of its
actions are dropped: their time has passed. A step in which the queue was empty consumes nothing,
since the robot stood still.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rynn_brain_ros.config import setting
from rynn_brain_ros.values import ConfigError
from rynn_brain_ros.vla.normalization import Statistics
from rynn_brain_ros.vla.values import Floats, Observation, PolicyError

Chunk = Floats
"""Actions [H, D], absolute, in physical units, one row for each step."""
_DELAYS_KEPT = 10


@dataclass(frozen=True)
class RuntimeSpec:
    """What a policy and a robot must agree on: a chunk has ``horizon`` steps; cameras, rate, names
    and units are those of the data that it was trained with."""

    horizon: int
    statistics: Statistics

    def __post_init__(self) -> None:
        if type(self.horizon) is not int or self.horizon < 1 or not self.rate_hz > 0:
            raise PolicyError(
                f"a policy of {self.horizon} steps at {self.rate_hz} Hz: both must be above 0"
            )

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.statistics.provenance.cameras

    @property
    def rate_hz(self) -> float:
        """Of a chunk's steps."""
        return self.statistics.provenance.rate_hz

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.statistics.provenance.state_names

    @property
    def action_names(self) -> tuple[str, ...]:
        return self.statistics.provenance.action_space.names

    @property
    def n_dims(self) -> int:
        return self.statistics.provenance.action_space.size


@dataclass(frozen=True)
class Leftover:
    """What the robot will do anyway while the next chunk is made.

    ``actions`` [K, D]: the first row is due at the step of the request; K may be below H.
    ``delay_steps``: how many of them will probably be gone when the chunk arrives.
    """

    actions: Chunk = field(repr=False)
    delay_steps: int


class Policy(Protocol):
    """Whatever turns an observation into a chunk: a network here, or one behind a server."""

    spec: RuntimeSpec

    def infer(self, observation: Observation, previous: Leftover | None) -> Chunk:
        """Blocks. Raises `EngineError` where it cannot."""
        ...


@dataclass(frozen=True)
class Joining:
    """How a new chunk follows what is left of the old one."""

    join: str = setting(
        "replace",
        "replace: at once; linear: over overlap steps, weights rising from the old to the new",
        choices=("replace", "linear"),
    )
    overlap: int = setting(0, "linear: steps over which the old chunk fades out", 0, 1000)

    def __post_init__(self) -> None:
        if (self.join == "linear") != (self.overlap > 0):
            raise ConfigError(
                f"join {self.join!r} with an overlap of {self.overlap} steps: linear needs 1 or "
                "more, replace 0"
            )


@dataclass(frozen=True)
class Request:
    """The moment at which an observation was taken, and what was planned then."""

    step: int
    era: int
    leftover: Leftover | None


@dataclass(frozen=True)
class Joined:
    """``n_new`` actions of a chunk are of use; ``delay_steps`` of it came too late."""

    delay_steps: int
    n_new: int


class ActionQueue:
    """The actions ahead. Of any thread: one may consume while another brings chunks."""

    def __init__(self, joining: Joining | None = None) -> None:
        self._joining = joining or Joining()
        self._ahead: deque[Floats] = deque()
        self._delays: deque[int] = deque(maxlen=_DELAYS_KEPT)
        self._step, self._era = 0, 0
        self._lock = threading.Lock()

    @property
    def step(self) -> int:
        """How many actions were consumed so far."""
        return self._step

    @property
    def n_ahead(self) -> int:
        return len(self._ahead)

    def request(self) -> Request:
        """Call it when the observation is taken. The delay that is expected is the longest of the
        last ten (arXiv 2506.07339, algorithm 1)."""
        with self._lock:
            leftover = None
            if self._ahead:
                leftover = Leftover(np.stack(self._ahead), max(self._delays, default=0))
            return Request(self._step, self._era, leftover)

    def join(self, request: Request, chunk: Chunk) -> Joined | None:
        """``chunk`` [H, D] answers ``request``. None where the queue was cleared since: the chunk
        continues a motion that was given up."""
        with self._lock:
            if request.era != self._era:
                return None
            delay_steps = self._step - request.step
            self._delays.append(delay_steps)
            new = [np.array(action, np.float64) for action in chunk[delay_steps:]]
            if new:
                self._ahead = deque(self._blended(new))
            return Joined(delay_steps, len(new))

    def pop(self) -> Floats | None:
        """The action [D] of this step; None where the robot must hold."""
        with self._lock:
            if not self._ahead:
                return None
            self._step += 1
            return self._ahead.popleft()

    def peek(self) -> Floats | None:
        """The action [D] that `pop` would give."""
        with self._lock:
            return self._ahead[0] if self._ahead else None

    def planned(self) -> tuple[Floats, ...]:
        """All actions [D] that `pop` would give, if no chunk came."""
        with self._lock:
            return tuple(self._ahead)

    def clear(self) -> None:
        """Gives up what was planned, and whatever is being computed to continue it."""
        with self._lock:
            self._ahead.clear()
            self._era += 1

    def _blended(self, new: list[Floats]) -> list[Floats]:
        """The share of the new chunk rises from 1 / (n + 1) to n / (n + 1) over n steps."""
        n = min(self._joining.overlap, len(self._ahead), len(new))
        for i in range(n):
            share = (i + 1) / (n + 1)
            new[i] = (1 - share) * self._ahead[i] + share * new[i]
        return new
