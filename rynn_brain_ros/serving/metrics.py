"""What Prometheus is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from rynn_brain_ros import __version__
from rynn_brain_ros.values import Answer, Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, math.inf)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, engine: Engine) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "rynn_brain_requests", "HTTP requests", ("path", "status"), registry=registry
        )
        self.cancelled = Counter(
            "rynn_brain_cancelled", "Questions whose asker went away", registry=registry
        )
        self.answer_seconds = Histogram(
            "rynn_brain_answer_seconds",
            "From a question's arrival to the end of its answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_text_seconds = Histogram(
            "rynn_brain_first_text_seconds",
            "From a question's arrival to the first text of its answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "rynn_brain_tokens", "Tokens of prompts and answers", ("kind",), registry=registry
        )
        self._gauges(registry, engine)
        stats = getattr(engine, "stats", None)
        if stats is not None:
            registry.register(_Remembered(engine))

    def watch(self, n_waiting: Callable[[], float], n_answering: Callable[[], float]) -> None:
        """Functions that are called when somebody looks."""
        for name, help_text, look in (
            ("rynn_brain_waiting", "Questions that wait for their turn", n_waiting),
            ("rynn_brain_answering", "Questions that the engine is at", n_answering),
        ):
            Gauge(name, help_text, registry=self._registry).set_function(look)

    def answered(self, answer: Answer) -> None:
        for kind, count in (
            ("prompt", answer.prompt_tokens),
            ("completion", answer.completion_tokens),
        ):
            if count > 0:
                self._tokens.labels(kind).inc(count)

    def exposition(self) -> bytes:
        text: bytes = generate_latest(self._registry)
        return text

    @staticmethod
    def _gauges(registry: CollectorRegistry, engine: Engine) -> None:
        info = engine.info
        labels = {
            "version": __version__,
            "engine": info.name,
            "model": info.model,
            "revision": info.revision,
            "quantization": info.quantization,
        }
        Gauge("rynn_brain_info", "What is served", tuple(labels), registry=registry).labels(
            **labels
        ).set(1)


class _Remembered:
    """What an engine with caches did not compute again, read when somebody looks."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        stats = self._engine.stats
        frames = CounterMetricFamily(
            "rynn_brain_frames", "Pictures shown, by whether they were known", labels=("known",)
        )
        frames.add_metric(("yes",), stats.frames.hits)
        frames.add_metric(("no",), stats.frames.misses)
        yield frames
        read = CounterMetricFamily(
            "rynn_brain_prompt_tokens",
            "Prompt tokens, by whether they were known from the question before",
            labels=("reused",),
        )
        read.add_metric(("yes",), stats.tokens_reused)
        read.add_metric(("no",), stats.tokens_read)
        yield read
        yield GaugeMetricFamily(
            "rynn_brain_frame_cache_bytes", "What known pictures take", stats.frames.n_bytes
        )
