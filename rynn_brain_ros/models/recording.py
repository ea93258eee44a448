"""Keeping what an engine answers, so that it can be given again to exactly the same question."""

from __future__ import annotations

from collections.abc import Callable

from rynn_brain_ros.language import compose
from rynn_brain_ros.models.recorded import RecordedAnswer, plain_messages
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    Engine,
    EngineInfo,
    FinishReason,
    Generation,
    Query,
)


class RecordingEngine:
    """Asks ``engine`` and hands each question with its whole answer to ``keep``, the answer in the
    recorded engine's form.

    An answer that was cancelled, or never came, is not kept.
    """

    def __init__(self, engine: Engine, keep: Callable[[Query, RecordedAnswer], None]) -> None:
        self._engine, self._keep = engine, keep

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        answer = self._engine.ask(query, on_text, cancel)
        if answer.finish_reason is not FinishReason.CANCELLED:
            self._keep(query, recorded_answer(query, answer, self._engine.info.generation))
        return answer

    def close(self) -> None:
        self._engine.close()


def recorded_answer(query: Query, answer: Answer, generation: Generation) -> RecordedAnswer:
    """``answer`` in the recorded engine's form, with the prompts of the model's ``generation``."""
    total_s = answer.timings.total_s
    return RecordedAnswer(
        model=answer.model,
        messages=plain_messages(compose(query, generation)),
        text=answer.text,
        finish_reason=answer.finish_reason,
        generation=generation,
        revision=answer.revision,
        quantization=answer.quantization,
        latency_s=total_s if total_s >= 0 else -1.0,
        token_probabilities=answer.token_probabilities,
    )
