"""How the recorder is, for people: a line, and parts for /diagnostics."""

from __future__ import annotations

from collections.abc import Iterator

from rynn_brain_ros.data.recording_session import Look, told
from rynn_brain_ros.data.watching import TopicWatch
from rynn_brain_ros.view.health import Level, Part

_GIB = 1 << 30


def line(look: Look) -> str:
    """Everything an operator needs to see while the hands are busy."""
    episode = look.episode
    if episode is None:
        head = f"idle, {look.kept} kept"
    else:
        head = f"RECORDING {episode.file.name}, {episode.seconds:.1f} s, {episode.task}"
    problems = [*([look.trouble] if look.trouble else []), *(told(f) for f in look.faults)]
    return f"{head}; {look.free_bytes / _GIB:.1f} GiB free; {'; '.join(problems) or 'all is well'}"


def parts(look: Look, now_ns: int) -> Iterator[Part]:
    """The recording, and one for each topic that features come from."""
    episode = look.episode
    values = (
        ("recording", "" if episode is None else str(episode.file)),
        ("task", "" if episode is None else episode.task),
        ("messages", "0" if episode is None else str(episode.messages)),
        ("episodes kept", str(look.kept)),
        ("free disk [GiB]", f"{look.free_bytes / _GIB:.1f}"),
    )
    yield Part("recording", values, (look.trouble,) if look.trouble else (), Level.ERROR)
    for topic, watch in look.now.watches.items():
        problems = tuple(fault.text for fault in look.faults if fault.where == topic)
        yield Part(topic, _values(look, watch, now_ns), problems, Level.ERROR)


def _values(look: Look, watch: TopicWatch, now_ns: int) -> tuple[tuple[str, str], ...]:
    latency_s, offset_s = watch.latency_s, look.now.offsets_s.get(watch.topic)
    return (
        ("rate [Hz]", f"{watch.rate_hz:.1f}"),
        ("age [s]", f"{watch.silent_s(now_ns):.3f}"),
        ("longest gap [s]", f"{watch.gap_s:.3f}"),
        *((("latency [s]", f"{latency_s:.3f}"),) if latency_s is not None else ()),
        *((("later than joints [s]", f"{offset_s:.3f}"),) if offset_s is not None else ()),
    )
