"""The one function between messages and features, for converter and live policy alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pyquaternion import Quaternion as Rotation

from rynn_brain_ros.data.contract import Contract, Source
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.fields import RGB, FieldError, Floats
from rynn_brain_ros.data.streams import Sample, Series, StoredImage, Streams

Value = Floats | RGB


@dataclass(frozen=True, eq=False)
class Features:
    """What the contract makes of time ``t_ns`` (the recorder's clock).

    ``values``: float32 or float64 [n], and RGB uint8 [H, W, 3], by feature. ``images``: which
    stored image each camera's pixels are. ``ages_s``: how old each topic's sample is. ``faults``:
    why a feature is missing or too old; a policy must not act on these.
    """

    t_ns: int
    values: Mapping[str, Value] = field(repr=False)
    images: Mapping[str, StoredImage] = field(repr=False)
    ages_s: Mapping[str, float]
    faults: tuple[Fault, ...] = ()


def sample(contract: Contract, streams: Streams, t_ns: int, *, decoded: bool = True) -> Features:
    """The features at ``t_ns``, from nothing but what had been received by then.

    That is what makes the live path and the converter agree: a bag may hold what came later, and
    it is not looked at. Changes nothing. Not ``decoded``: the values are the numbers alone.
    """
    values: dict[str, Value] = {}
    images: dict[str, StoredImage] = {}
    ages_s: dict[str, float] = {}
    faults: list[Fault] = []
    absolute: dict[str, float] = {}
    for feature in contract.features:
        parts: list[Floats] = []
        for source in feature.sources:
            try:
                value, age_s = _aligned(contract, streams.series[source], t_ns)
                ages_s[source.channel.topic] = age_s
                if isinstance(value, StoredImage):
                    images[feature.key] = value
                    if decoded:
                        values[feature.key] = value.rgb
                else:
                    parts.append(_represented(source, value, absolute))
            except FieldError as error:
                faults.append(Fault(error.kind, source.channel.topic, error.text, t_ns))
        if len(parts) == len(feature.sources):
            numbers = np.concatenate(parts)
            values[feature.key] = numbers.astype(feature.dtype)
            if feature in contract.observations:
                absolute.update(zip(feature.names, numbers.tolist(), strict=True))
    return Features(t_ns, values, images, ages_s, tuple(faults))


def is_ready(contract: Contract, streams: Streams, t_ns: int) -> bool:
    """Whether every source has something for ``t_ns``: before that there are no frames."""
    return all(_before(streams.series[source], t_ns)[0] is not None for source in contract.sources)


def _represented(source: Source, value: Floats, state: Mapping[str, float]) -> Floats:
    """A delta is told against the observation of the same fields at the same time."""
    if source.representation != "delta":
        return value
    if not all(name in state for name in source.select):
        raise FieldError(FaultKind.NO_SAMPLE, "no observation to tell the delta against")
    return np.asarray(value - np.array([state[name] for name in source.select]), np.float64)


def _aligned(contract: Contract, series: Series, t_ns: int) -> tuple[Floats | StoredImage, float]:
    """The value and its age in seconds. Raises `FieldError`."""
    before, after = _before(series, t_ns)
    if before is None:
        raise FieldError(FaultKind.NO_SAMPLE, "nothing usable has come yet")
    align = series.source.align
    at_ns = t_ns - round(align.delay_ms * 1e6)
    age_s = (at_ns - before.stamp_ns) / 1e9
    limit_s = contract.limits.max_staleness_s
    if align.strategy == "asof":
        limit_s = min(limit_s, align.tolerance_ms / 1e3)
    elif align.strategy == "drop":
        limit_s = min(limit_s, 1 / contract.fps)
    if series.source.sparse:
        limit_s = math.inf
    if age_s > limit_s:
        text = f"the newest sample is {age_s:.3f} s old; {limit_s:.3f} s are allowed"
        raise FieldError(FaultKind.STALE, text)
    return _between(series.source, before, after, at_ns), age_s


def _before(series: Series, t_ns: int) -> tuple[Sample | None, Sample | None]:
    """The latest sample at or before the wanted time, and the next one, of those received."""
    at_ns = t_ns - round(series.source.align.delay_ms * 1e6)
    after: Sample | None = None
    for kept in reversed(series.samples):
        if kept.received_ns > t_ns:
            continue
        if kept.stamp_ns <= at_ns:
            return kept, after
        after = kept
    return None, after


def _between(
    source: Source, before: Sample, after: Sample | None, at_ns: int
) -> Floats | StoredImage:
    a, strategy = before.value, source.align.strategy
    if after is None or strategy not in ("linear", "slerp"):
        return a
    b = after.value
    if isinstance(a, StoredImage) or isinstance(b, StoredImage):  # not by contract
        return a
    share = (at_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    if strategy == "linear":
        return a + share * (b - a)
    x, y, z, w = Rotation.slerp(_rotation(a), _rotation(b), share).elements[[1, 2, 3, 0]]
    return np.array((x, y, z, w))


def _rotation(xyzw: Floats) -> Rotation:
    x, y, z, w = xyzw
    return Rotation(w, x, y, z)
