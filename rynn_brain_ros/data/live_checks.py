"""How the topics of a contract are just now: rates, gaps, staleness, and how clocks agree."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rynn_brain_ros.data.contract import JOINT_STATE, Contract
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.streams import OFFSET_S
from rynn_brain_ros.data.watching import TopicWatch, faults_of, watches

_WINDOW_NS = 2_000_000_000


@dataclass(frozen=True)
class Now:
    """``watches`` are of the last seconds. ``offsets_s``: how much later than the joints' messages
    each camera's images come after their stamps, by topic."""

    watches: Mapping[str, TopicWatch]
    offsets_s: Mapping[str, float]
    faults: tuple[Fault, ...]


class LiveChecks:
    """Remembers when the messages of the last two seconds came."""

    def __init__(self, contract: Contract, max_offset_s: float) -> None:
        self._contract, self._max_offset_s = contract, max_offset_s
        self._seen: dict[str, deque[tuple[int, int]]] = {t: deque() for t in watches(contract)}
        stamped = [s.channel for s in contract.sources if s.align.timeline == "header"]
        self._stamped = tuple(dict.fromkeys(channel.topic for channel in stamped))
        self._cameras = tuple(dict.fromkeys(c.topic for c in stamped if c.is_image))
        self._joints = next((c.topic for c in stamped if c.type == JOINT_STATE), "")

    def note(self, topic: str, stamp_ns: int, received_ns: int) -> None:
        """A message of any topic; a clock that jumps back begins anew."""
        seen = self._seen.get(topic)
        if seen is None:
            return
        if seen and received_ns < seen[-1][1]:
            seen.clear()
        seen.append((stamp_ns, received_ns))
        while received_ns - seen[0][1] > _WINDOW_NS:
            seen.popleft()

    def now(self, now_ns: int) -> Now:
        found = watches(self._contract)
        for topic, watch in found.items():
            for stamp_ns, received_ns in self._seen[topic]:
                watch.note(stamp_ns, received_ns)
        offsets_s = self._offsets(found)
        faults = [f for watch in found.values() for f in faults_of(self._contract, watch, now_ns)]
        return Now(found, offsets_s, (*faults, *self._clock_faults(found, offsets_s)))

    def _offsets(self, found: Mapping[str, TopicWatch]) -> dict[str, float]:
        joints_s = found[self._joints].latency_s if self._joints else None
        late_s = {topic: found[topic].latency_s for topic in self._cameras}
        if joints_s is None:
            return {}
        return {topic: s - joints_s for topic, s in late_s.items() if s is not None}

    def _clock_faults(
        self, found: Mapping[str, TopicWatch], offsets_s: Mapping[str, float]
    ) -> Iterator[Fault]:
        for topic in self._stamped:
            late_s = found[topic].latency_s
            if late_s is not None and abs(late_s) > OFFSET_S:
                text = f"its stamps are {-late_s:+.1f} s from when it comes: use timeline: receive"
                yield Fault(FaultKind.CLOCK_OFFSET, topic, text)
        for topic, offset_s in offsets_s.items():
            if abs(offset_s) > self._max_offset_s:
                order = "later" if offset_s > 0 else "sooner"
                text = (
                    f"images come {abs(offset_s):.3f} s {order} after their stamps than "
                    f"{self._joints}; {self._max_offset_s:g} s are allowed: are the clocks one?"
                )
                yield Fault(FaultKind.CLOCK_OFFSET, topic, text)
