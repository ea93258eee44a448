"""What has come in lately, per source, as the contract needs it: the same live and from a bag."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rynn_brain_ros.data.contract import Contract, Source
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.fields import (
    RGB,
    FieldError,
    Floats,
    applied,
    encoded_image,
    header_stamp_ns,
    pixels,
    selected,
)
from rynn_brain_ros.memory import image_size
from rynn_brain_ros.values import EncodedImage, ImageError

_KEPT_S = 0.5
_JUMP_S = 0.5
OFFSET_S = 5.0
"""Stamps that differ by more from when the message came are of another clock."""


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as it came; its pixels are computed once, when somebody looks."""

    source: Source
    image: EncodedImage

    @cached_property
    def rgb(self) -> RGB:
        return pixels(self.source, self.image)


@dataclass(frozen=True, eq=False)
class Sample:
    """One message of one source. ``stamp_ns`` is on the timeline that the contract chose."""

    stamp_ns: int
    received_ns: int
    value: Floats | StoredImage


class Series:
    """One source's samples in the order of their stamps."""

    def __init__(self, source: Source, fps: int) -> None:
        self.source = source
        self.samples: list[Sample] = []
        self._keep_ns = round((_KEPT_S + source.align.delay_ms / 1e3) * 1e9)
        self._jump_ns = round(max(_JUMP_S, 2 / fps) * 1e9)
        self._size: tuple[int, int] | None = None

    def add(self, message: Any, received_ns: int) -> Fault | None:
        """Keeps it, or says what is wrong with it. After a jump back in time only what comes
        after it is kept."""
        try:
            return self._add(message, received_ns)
        except FieldError as error:
            return self._fault(error.kind, error.text, received_ns)

    def _add(self, message: Any, received_ns: int) -> Fault | None:
        header = self.source.align.timeline == "header"
        stamp_ns = header_stamp_ns(message) if header else received_ns
        if header and abs(stamp_ns - received_ns) > OFFSET_S * 1e9:
            text = (
                f"its stamp is {(stamp_ns - received_ns) / 1e9:+.1f} s from when it came; "
                "use timeline: receive"
            )
            return self._fault(FaultKind.CLOCK_OFFSET, text, received_ns)
        fault = self._jumped(stamp_ns, received_ns)
        value = self._value(message)
        if isinstance(value, StoredImage):
            fault = fault or self._resized(value.image, received_ns)
        self._insert(Sample(stamp_ns, received_ns, value))
        return fault

    def _value(self, message: Any) -> Floats | StoredImage:
        if self.source.channel.is_image:
            return StoredImage(self.source, encoded_image(self.source, message))
        return applied(self.source, selected(self.source, message))

    def _jumped(self, stamp_ns: int, received_ns: int) -> Fault | None:
        if not self.samples:
            return None
        newest = self.samples[-1]
        back_ns = max(newest.stamp_ns - stamp_ns, newest.received_ns - received_ns)
        if back_ns <= self._jump_ns:
            return None
        self.samples.clear()
        return self._fault(FaultKind.CLOCK_JUMP, f"{back_ns / 1e9:.3f} s back", received_ns)

    def _resized(self, image: EncodedImage, received_ns: int) -> Fault | None:
        try:
            size = image_size(image)
        except ImageError as error:
            raise FieldError(FaultKind.UNREADABLE, str(error)) from error
        before, self._size = self._size or size, size
        if before == size:
            return None
        text = f"from {before[0]}×{before[1]} to {size[0]}×{size[1]} pixels"
        return self._fault(FaultKind.SIZE_CHANGED, text, received_ns)

    def _insert(self, sample: Sample) -> None:
        place = bisect_right(self.samples, sample.stamp_ns, key=lambda kept: kept.stamp_ns)
        self.samples.insert(place, sample)
        oldest_ns = self.samples[-1].stamp_ns - self._keep_ns
        while len(self.samples) > 2 and self.samples[1].stamp_ns < oldest_ns:
            del self.samples[0]

    def _fault(self, kind: FaultKind, text: str, received_ns: int) -> Fault:
        return Fault(kind, self.source.channel.topic, text, received_ns)


class Streams:
    """The last half second of every source of a contract. Feed it every message once, in the
    order they were received; others than the contract's are ignored."""

    def __init__(self, contract: Contract) -> None:
        self.series = {source: Series(source, contract.fps) for source in contract.sources}
        self._by_topic: dict[str, list[Series]] = {}
        for series in self.series.values():
            self._by_topic.setdefault(series.source.channel.topic, []).append(series)

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Fault]:
        """What is wrong with the message; mostly nothing."""
        faults = (series.add(message, received_ns) for series in self._by_topic.get(topic, ()))
        return [fault for fault in faults if fault is not None]
