"""How the brain is: one part after the other, for its status and for /diagnostics.

The levels are those of diagnostic_msgs/DiagnosticStatus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from rynn_brain_ros import messages
from rynn_brain_ros.memory import (
    AssemblyStats,
    BufferLimits,
    BufferStats,
    CameraStats,
    DropReason,
)
from rynn_brain_ros.values import Timings

_MIB = 1 << 20
_GRACE_S = 2.0
"""After so long a camera that publishes has been found and was heard."""
_STAGES = ("queue_s", "encode_s", "prefill_s", "decode_s", "total_s")


class Level(IntEnum):
    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Part:
    """``problems`` are sentences: what is wrong, where, what to do. ``values`` are for people."""

    name: str
    values: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    level: Level = Level.OK
    """How bad the problems are, where there are any."""


@dataclass(frozen=True)
class CameraWatch:
    """One camera's counts at two looks, ``before`` and ``now``, and what is remembered of it.

    It has been watched for ``since_s``; ``publishers`` are those that should be heard.
    """

    topic: str
    before: AssemblyStats
    now: AssemblyStats
    track: CameraStats | None
    period_s: float
    since_s: float = math.inf
    publishers: int = 0

    def age_s(self, now_ns: int) -> float:
        """Of the newest frame; NaN without one."""
        newest_ns = self.track.newest_ns if self.track is not None else None
        return math.nan if newest_ns is None else (now_ns - newest_ns) / 1e9


def camera_part(watch: CameraWatch, now_ns: int, max_age_s: float) -> Part:
    """``max_age_s`` is how old the newest image may be."""
    now, track, age_s = watch.now, watch.track, watch.age_s(now_ns)
    came = now.emitted - watch.before.emitted
    lacks = _risen(watch.before.missing, now.missing)
    problems = [f"{n} of the last {came} frames of {watch.topic} lack {w}" for w, n in lacks]
    if now.resets > watch.before.resets:
        problems.append(f"the clock of {watch.topic} went back: what was seen before is forgotten")
    standing = _standing(watch)
    if standing:
        problems.append(
            f"the stamps on {watch.topic} do not advance: {standing} images came with one that was "
            "there already; the driver must stamp each image"
        )
    elif math.isnan(age_s):
        problems += _nothing(watch)
    elif age_s > max_age_s:
        problems.append(f"the newest image on {watch.topic} is {age_s:.1f} s old")
    elif age_s < -max_age_s:
        problems.append(
            f"the newest image on {watch.topic} is {-age_s:.1f} s ahead of this node's time: do "
            "their clocks differ (use_sim_time), or is /clock silent?"
        )
    silent = not abs(age_s) <= max_age_s
    values = (
        ("frames", str(track.frames if track else 0)),
        ("memory [MiB]", f"{(track.n_bytes if track else 0) / _MIB:.1f}"),
        ("frame age [s]", f"{age_s:.3f}"),
        ("rate [Hz]", f"{came / watch.period_s:.1f}"),
        ("waiting", str(now.pending)),
        ("clock resets", str(now.resets)),
        *((f"without {what}", str(n)) for what, n in sorted(now.missing.items())),
        *((f"dropped: {why}", str(n)) for why, n in sorted(now.dropped.items())),
        *(
            (f"left: {why.value}", str(n))
            for why, n in sorted((track.dropped if track else {}).items())
        ),
    )
    level = Level.ERROR if silent else Level.WARN
    return Part(f"camera {watch.topic}", values, tuple(problems), level)


def _standing(watch: CameraWatch) -> int:
    """How many images came since the last look with an old stamp, where all but the first had."""
    came = watch.now.emitted - watch.before.emitted
    repeated = dict(_risen(watch.before.dropped, watch.now.dropped)).get("duplicate", 0)
    return repeated if came <= 1 and repeated > came else 0


def _nothing(watch: CameraWatch) -> list[str]:
    """Why there is no image, as far as is known."""
    refused = watch.track.dropped if watch.track else {}
    n_refused = refused.get(DropReason.UNREADABLE, 0) + refused.get(DropReason.OVERSIZE, 0)
    if n_refused:
        return [f"none of the images on {watch.topic} can be used: {n_refused} were refused"]
    if watch.since_s < _GRACE_S or watch.now.pending:
        return []
    return [no_image(watch.topic, watch.publishers)]


def no_image(topic: str, publishers: int) -> str:
    """``publishers`` are those that should be heard."""
    if not publishers:
        return f"no image has arrived on {topic}: is the camera publishing?"
    return (
        f"no image has arrived on {topic}, though somebody publishes it: either the camera gives "
        "none, or they get lost on the way, as large images do where the sockets' buffers are "
        "small: use the compressed topic, or raise net.core.rmem_max and the middleware's buffer"
    )


def _risen(before: Mapping[str, int], now: Mapping[str, int]) -> list[tuple[str, int]]:
    risen = ((what, n - before.get(what, 0)) for what, n in sorted(now.items()))
    return [(what, n) for what, n in risen if n > 0]


def buffer_part(
    stats: BufferStats, limits: BufferLimits, dropped: int, problems: Sequence[str]
) -> Part:
    """``dropped`` are messages and images that never became frames."""
    values = (
        ("frames", str(stats.frames)),
        ("memory [MiB]", f"{stats.n_bytes / _MIB:.1f} of {limits.max_bytes / _MIB:.0f}"),
        ("shown frames [MiB]", f"{stats.selected_bytes / _MIB:.1f}"),
        ("dropped", str(dropped)),
    )
    return Part("memory", values, tuple(problems), Level.WARN)


def engine_part(
    engine: str,
    model: str,
    timings: Timings,
    troubles: Sequence[str],
    *,
    query_id: str = "",
    restarts: int = 0,
) -> Part:
    """``timings`` are of the last answer; ``query_id`` is what is being answered."""
    stages = ((stage, getattr(timings, stage)) for stage in _STAGES)
    values = (
        ("engine", engine),
        ("model", model),
        ("answering", query_id or "nothing"),
        ("restarts", str(restarts)),
        *((f"last answer: {stage.removesuffix('_s')} [s]", f"{s:.3f}") for stage, s in stages),
    )
    return Part("engine", values, tuple(troubles), Level.ERROR)


def topics_part(mismatches: Sequence[str]) -> Part:
    return Part("topics", (), tuple(mismatches), Level.ERROR)


def diagnostic_array(parts: Iterable[Part], node: str, now_ns: int) -> messages.MessageDict:
    """diagnostic_msgs/DiagnosticArray."""
    return {
        "header": messages.header(now_ns, ""),
        "status": [
            {
                "level": bytes([part.level if part.problems else Level.OK]),
                "name": f"{node}: {part.name}",
                "message": "; ".join(part.problems) or "OK",
                "hardware_id": node,
                "values": [{"key": key, "value": value} for key, value in part.values],
            }
            for part in parts
        ],
    }
