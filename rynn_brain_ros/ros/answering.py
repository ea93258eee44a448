"""The thread that answers: whoever asks leaves a question for it, and nobody else waits for the
engine."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.node import Node

from rynn_brain_ros.config import BrainConfig
from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning import Question, ask, make_query
from rynn_brain_ros.planning.steps import read_step
from rynn_brain_ros.planning.thoughts import Thoughts
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.values import (
    EngineError,
    FinishReason,
    InputError,
    Query,
    Refusal,
    Response,
    RynnBrainError,
    Task,
    Timings,
)
from rynn_brain_ros.view.health import no_image
from rynn_brain_ros.view.publications import answers
from rynn_brain_ros.view.turn_messages import PLAN, proposal

THOUGHTS = "thoughts"
_MOST_WAITING = 16
_END_S = 10.0
"""How long the thread may take to end once its engine was told to stop."""

Show = Callable[[str, MessageDict], None]


class StaleError(InputError):
    """There is no image that can be read, or the newest one is older than allowed."""


class _CancelledError(InputError):
    """The answer was not wanted any more."""


def _nothing(*_: object) -> None:
    """For who does not follow."""


@dataclass(eq=False)
class Asked:
    """A question and, once ``done`` is set, its ``response``, or the ``error`` that kept it from
    one. ``frames`` and ``stamp_ns`` 0: as configured, and now.

    ``begin``, ``hear`` (with each thought) and ``end`` are called in the answering thread, and
    where the question is not even begun in any.
    """

    question: Question
    camera: str = ""
    frames: int = 0
    stamp_ns: int = 0
    begin: Callable[[], None] = _nothing
    hear: Callable[[MessageDict], None] = _nothing
    end: Callable[[], None] = _nothing
    cancel: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    _once: threading.Lock = field(default_factory=threading.Lock)
    response: Response | None = None
    error: Exception | None = None
    latency_s: float = 0.0

    @property
    def complete(self) -> Response:
        """The response. Raises the error, also for an answer that was cut off."""
        if self.error is not None:
            raise self.error
        assert self.response is not None
        if self.response.answer.finish_reason is FinishReason.CANCELLED:
            raise _CancelledError("the question was cancelled before its answer was complete")
        return self.response

    def give_up(self, error: Exception) -> None:
        self.error = error
        self.begin()
        self.finish()

    def finish(self) -> None:
        """May be called twice, and from two threads."""
        if self._once.acquire(blocking=False):  # for good
            self.done.set()
            self.end()


class Answering:
    """Answers one question after the other, from its making until `stop`.

    ``show`` publishes what is answered; ``query_id`` is what is being answered now, ``timings``
    and ``failure`` are those of the last answer.
    """

    def __init__(
        self,
        node: Node,
        config: BrainConfig,
        engines: Engines,
        eyes: Eyes,
        *,
        show: Show,
        numbers: itertools.count[int],
    ) -> None:
        self._node, self._config, self._engines = node, config, engines
        self._eyes, self._show, self._numbers = eyes, show, numbers
        self._waiting: deque[Asked] = deque()
        self._current: Asked | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self.query_id = ""
        self.timings = Timings()
        self.failure = ""
        self._thread = threading.Thread(target=self._work, name="answering", daemon=True)
        self._thread.start()

    def put(self, asked: Asked) -> None:
        """Raises `InputError` where no question can be taken now."""
        with self._changed:
            if self._stopping:
                raise InputError("the brain is being deactivated")
            if len(self._waiting) >= _MOST_WAITING:
                raise InputError(f"{_MOST_WAITING} questions wait already: ask again later")
            self._waiting.append(asked)
            self._changed.notify_all()

    def cancel(self, asked: Asked) -> None:
        """The one being answered ends within a token, one that waits at once."""
        asked.cancel.set()
        with self._changed:
            if asked not in self._waiting:
                return
            self._waiting.remove(asked)
        asked.give_up(_CancelledError("the question was cancelled before it was begun"))

    def stop(self) -> None:
        """Cancels everything and returns when nothing is being answered any more."""
        with self._changed:
            self._stopping = True
            left = tuple(self._waiting)
            self._waiting.clear()
            if self._current is not None:
                self._current.cancel.set()
            self._changed.notify_all()
        for asked in left:
            asked.give_up(_CancelledError("the brain was deactivated"))
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._node.get_logger().error(
                f"the engine goes on {_END_S:g} s after it was told to stop; it is left behind"
            )
            current = self._current
            if current is not None:  # or who asked waits for ever, and the process with it
                current.error = _CancelledError("the brain was deactivated, and its engine goes on")
                current.finish()

    # --- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                asked = self._current = self._waiting.popleft()
            self._answer(asked)
            self._current = None

    def _answer(self, asked: Asked) -> None:
        started = time.monotonic()
        try:
            asked.begin()
            asked.response = self._respond(asked)
        except RynnBrainError as error:
            asked.error = error
        except Exception as error:  # noqa: BLE001  # no question may kill the thread
            asked.error = error
            self._node.get_logger().error("".join(traceback.format_exception(error)))
        finally:
            self.query_id = ""
        if isinstance(asked.error, EngineError):
            self.failure = str(asked.error)
        asked.latency_s = time.monotonic() - started
        asked.finish()

    def _respond(self, asked: Asked) -> Response:
        query = self._query(asked)
        self.query_id = query.query_id

        def publish(thought: MessageDict) -> None:
            self._show(THOUGHTS, thought)
            asked.hear(thought)

        thoughts = Thoughts(query, publish, lambda: int(self._node.get_clock().now().nanoseconds))
        engine = self._engines.select(query)
        try:
            response = ask(
                engine,
                query,
                on_text=thoughts.text,
                on_grounding=thoughts.grounding,
                cancel=asked.cancel,
            )
        finally:
            thoughts.end()
        self.timings, self.failure = response.answer.timings, ""
        if response.answer.finish_reason is not FinishReason.CANCELLED:
            for name, data in answers(response):
                self._show(name, data)
            self._show_step(response)
        return response

    def _show_step(self, response: Response) -> None:
        """What an answer to a planning question proposes to do."""
        if response.query.task is not Task.PLAN:
            return
        step = read_step(response)
        if isinstance(step, Refusal):
            self._node.get_logger().warning(f"no step of a plan: {step}")
        else:
            self._show(PLAN, proposal(response, step, self._node.get_clock().now().nanoseconds))

    def _query(self, asked: Asked) -> Query:
        config, eyes = self._config, self._eyes
        camera = eyes.camera_of(asked.camera)
        if crowds := eyes.crowds(camera):
            raise InputError("; ".join(crowds))
        until_ns = eyes.wait_for_newest(1.0 + config.max_wait_s, camera)
        if until_ns is None:
            raise StaleError(no_image(camera, eyes.publishers(camera)))
        if asked.stamp_ns > 0:
            until_ns = min(until_ns, asked.stamp_ns)
        else:
            self._check_age(camera, until_ns)
        policy = SelectionPolicy(n=asked.frames or config.frames, fps=config.fps)
        try:
            frames = eyes.perception.select(policy, camera, until_ns)
        except InputError as error:
            raise StaleError(str(error)) from error
        if asked.stamp_ns <= 0:  # those that came after it may have been refused
            self._check_age(camera, frames[-1].frame.stamp_ns)
        return make_query(next(self._numbers), asked.question, frames)

    def _check_age(self, camera: str, stamp_ns: int) -> None:
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        if age_s > self._config.max_frame_age_s:
            refused = self._eyes.perception.refused(camera)
            why = (
                f"the newest was refused: {refused}"
                if refused
                else "has the camera stopped, do its stamps stand still, or does its clock differ "
                "from this node's (use_sim_time)?"
            )
            raise StaleError(
                f"the newest image on {camera} is {age_s:.1f} s old, more than max_frame_age_s "
                f"({self._config.max_frame_age_s:g}): {why}"
            )
        if age_s < -self._config.max_frame_age_s:
            raise StaleError(
                f"the newest image on {camera} is {-age_s:.1f} s ahead of this node's time: does "
                "the camera's clock differ (use_sim_time), or is /clock silent?"
            )
