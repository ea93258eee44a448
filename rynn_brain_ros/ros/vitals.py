"""How the brain is, looked at once a second: for ~/status and /diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol

from rclpy.node import Node

from rynn_brain_ros import messages
from rynn_brain_ros.config import SeeingConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines, WorkerEngine
from rynn_brain_ros.msg import BrainStatus
from rynn_brain_ros.planning.problems import kind_of
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.values import Timings
from rynn_brain_ros.view.health import (
    CameraWatch,
    Part,
    buffer_part,
    camera_part,
    diagnostic_array,
    engine_part,
    topics_part,
)


class Answers(Protocol):
    """``query_id`` is what is being answered now, ``timings`` and ``failure`` are the last
    answer's."""

    query_id: str
    timings: Timings
    failure: str


class Vitals:
    """Of one activation: the first `look` compares publishers with what is subscribed, and each
    later one too, since a publisher may come at any time; each trouble is logged once.

    ``max_frame_age_s`` is how old the newest image may be.
    """

    def __init__(
        self,
        node: Node,
        config: SeeingConfig,
        engines: Engines,
        eyes: Eyes,
        *,
        answers: Answers,
        max_frame_age_s: float,
    ) -> None:
        self._node, self._config, self._max_frame_age_s = node, config, max_frame_age_s
        self._engines, self._eyes, self._answers = engines, eyes, answers
        workers = (e for e in engines.by_role.values() if isinstance(e, WorkerEngine))
        self._workers = tuple(dict.fromkeys(workers))
        self._before = eyes.seen.cameras
        self._begun_s = self._looked_s = time.monotonic()
        self._told: frozenset[str] = frozenset()
        self._kinds_told: set[str] = set()
        self._topic_troubles()

    def look(self) -> tuple[MessageDict, MessageDict]:
        """(BrainStatus, diagnostic_msgs/DiagnosticArray)."""
        now_ns = int(self._node.get_clock().now().nanoseconds)
        watches = self._watches()
        parts = [
            *(camera_part(watch, now_ns, self._max_frame_age_s) for watch in watches),
            *self._other_parts(now_ns),
        ]
        name = self._node.get_fully_qualified_name()
        return self._status(parts, watches[0], now_ns), diagnostic_array(parts, name, now_ns)

    def _watches(self) -> list[CameraWatch]:
        looked_s, now_s = self._looked_s, time.monotonic()
        seen, stats = self._eyes.seen.cameras, self._eyes.perception.buffer.stats()
        tracks = {track.camera: track for track in stats.cameras}
        watches = [
            CameraWatch(
                topic,
                self._before[topic],
                now,
                tracks.get(topic),
                now_s - looked_s,
                since_s=now_s - self._begun_s,
                publishers=self._eyes.publishers(topic),
            )
            for topic, now in seen.items()
        ]
        self._before, self._looked_s = seen, now_s
        return watches

    def _other_parts(self, now_ns: int) -> Iterator[Part]:
        eyes, answers = self._eyes, self._answers
        buffer = eyes.perception.buffer
        self._log_problems()
        problems = [each.told(now_ns) for each in eyes.seen.problems if each.is_news(now_ns)]
        yield buffer_part(buffer.stats(), buffer.limits, eyes.seen.dropped, problems)
        troubles = [worker.trouble for worker in self._workers if worker.trouble]
        if answers.failure:
            troubles.append(f"the last question failed: {answers.failure}")
        yield engine_part(
            self._config.engine,
            self._engines.model,
            answers.timings,
            troubles,
            query_id=answers.query_id,
            restarts=sum(worker.restarts for worker in self._workers),
        )
        yield topics_part(self._topic_troubles())

    def _log_problems(self) -> None:
        """Of each kind the first: a broken camera has one with every image."""
        for problem in self._eyes.seen.problems:
            kind = kind_of(problem.text)
            if kind not in self._kinds_told:
                self._kinds_told.add(kind)
                self._node.get_logger().warning(problem.text)

    def _topic_troubles(self) -> tuple[str, ...]:
        found = self._eyes.mismatches() + self._eyes.crowds()
        for text in found:
            if text not in self._told:
                self._node.get_logger().error(text)
        self._told = frozenset(found)
        return found

    def _status(self, parts: list[Part], watch: CameraWatch, now_ns: int) -> MessageDict:
        """Ages are of the default camera."""
        problems = [problem for part in parts for problem in part.problems]
        idle = BrainStatus.STATE_DEGRADED if problems else BrainStatus.STATE_READY
        stats, track = self._eyes.perception.buffer.stats(), watch.track
        oldest_ns = track.oldest_ns if track is not None else None
        query_id = self._answers.query_id
        return {
            "stamp": messages.stamp(now_ns),
            "state": BrainStatus.STATE_BUSY if query_id else idle,
            "engine": self._config.engine,
            "model": self._engines.model,
            "query_id": query_id,
            "armed": False,
            "dry_run": True,
            "frames": stats.frames,
            "buffer_bytes": stats.n_bytes,
            "oldest_frame_age": math.nan if oldest_ns is None else (now_ns - oldest_ns) / 1e9,
            "newest_frame_age": watch.age_s(now_ns),
            "frames_dropped": self._eyes.seen.dropped,
            "last_answer_latency": self._answers.timings.total_s,
            "problems": problems,
        }
