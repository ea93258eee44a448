"""Rates, gaps and offsets of topics, counted message by message: live and in a conversion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.fields import header_stamp_ns

_TOO_FEW = 3


class TopicWatch:
    """One topic. Times are of the recorder's clock."""

    def __init__(self, topic: str, rate_hz: float, *, sparse: bool = False) -> None:
        self.topic, self.wanted_hz, self.sparse = topic, rate_hz, sparse
        self.count = 0
        self.first_ns = self.last_ns = 0
        self.gap_s, self.gap_ns = 0.0, 0
        self._offset_ns = self._stamped = 0

    def see(self, message: Any, received_ns: int) -> None:
        self.note(header_stamp_ns(message), received_ns)

    def note(self, stamp_ns: int, received_ns: int) -> None:
        """A message with this stamp in its header; 0 where it has none."""
        if not self.count:
            self.first_ns = received_ns
        elif (received_ns - self.last_ns) / 1e9 > self.gap_s:
            self.gap_s, self.gap_ns = (received_ns - self.last_ns) / 1e9, self.last_ns
        self.last_ns, self.count = received_ns, self.count + 1
        if stamp_ns:
            self._offset_ns, self._stamped = (
                self._offset_ns + received_ns - stamp_ns,
                self._stamped + 1,
            )

    @property
    def rate_hz(self) -> float:
        passed_s = (self.last_ns - self.first_ns) / 1e9
        return (self.count - 1) / passed_s if passed_s > 0 else 0.0

    @property
    def latency_s(self) -> float | None:
        """Mean time from a message's stamp until it came; ``None`` without stamps."""
        return self._offset_ns / self._stamped / 1e9 if self._stamped else None

    def silent_s(self, now_ns: int) -> float:
        return (now_ns - self.last_ns) / 1e9 if self.count else float("inf")

    def record(self) -> dict[str, Any]:
        latency = self.latency_s
        return {
            "messages": self.count,
            "rate_hz": round(self.rate_hz, 2),
            "longest_gap_s": round(self.gap_s, 4),
            "latency_s": None if latency is None else round(latency, 4),
        }


def watches(contract: Contract) -> dict[str, TopicWatch]:
    """For every topic that features come from."""
    rates: dict[str, float] = {}
    for source in contract.sources:
        topic = source.channel.topic
        rates[topic] = max(rates.get(topic, 0.0), source.rate_hz)
    dense = {source.channel.topic for source in contract.sources if not source.sparse}
    return {
        topic: TopicWatch(topic, rate, sparse=topic not in dense) for topic, rate in rates.items()
    }


def faults_of(contract: Contract, watch: TopicWatch, end_ns: int) -> Iterator[Fault]:
    """What is wrong with a topic up to ``end_ns``, as the contract's limits say."""
    limits = contract.limits
    if watch.sparse:
        return
    if not watch.count:
        yield Fault(FaultKind.NO_SAMPLE, watch.topic, "no message came")
        return
    tail_s = (end_ns - watch.last_ns) / 1e9
    gap_s, gap_ns = max((watch.gap_s, watch.gap_ns), (tail_s, watch.last_ns))
    if gap_s > limits.max_gap_s:
        text = f"silent for {gap_s:.3f} s; {limits.max_gap_s:g} s are allowed"
        yield Fault(FaultKind.GAP, watch.topic, text, gap_ns)
    if watch.wanted_hz and watch.count >= _TOO_FEW:
        share = watch.rate_hz / watch.wanted_hz
        if not limits.min_rate <= share <= limits.max_rate:
            text = f"{watch.rate_hz:.1f} Hz; the contract says {watch.wanted_hz:g} Hz"
            yield Fault(FaultKind.RATE, watch.topic, text)
