"""Answers in the OpenAI protocol's words.

https://platform.openai.com/docs/api-reference/chat/object and …/chat/streaming
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

from rynn_brain_ros.models.wire import FIELD, answer_record, info_record
from rynn_brain_ros.serving.questions import ChatRequest
from rynn_brain_ros.serving.refusals import RequestError
from rynn_brain_ros.values import Answer, EngineInfo

_LEAST_PROBABILITY = 1e-45
"""JSON knows no −∞."""


def sse(record: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(record) + b"\n\n"


SSE_END = b"data: [DONE]\n\n"


def now_s() -> int:
    """Unix time."""
    return int(time.time())


def to_json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def model_record(info: EngineInfo, created: int) -> dict[str, Any]:
    return {
        "id": info.model,
        "object": "model",
        "created": created,
        "owned_by": "rynn_brain_ros",
        FIELD: info_record(info),
    }


@dataclass(frozen=True)
class Reply:
    """Writes the answer to one request."""

    request: ChatRequest
    model: str
    created: int = field(default_factory=now_s)

    def first(self) -> bytes:
        return self._event({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        return self._event({"content": text})

    def last(self, answer: Answer) -> bytes:
        """Log-probabilities come all together with the end: an engine tells them with its
        answer."""
        end = self._event(
            {},
            finish_reason=answer.finish_reason.value,
            logprobs=self._logprobs(answer),
            **({FIELD: answer_record(answer)} if self.request.extended else {}),
        )
        usage = usage_record(answer)
        if self.request.usage and usage is not None:
            end += sse({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})
        return end + SSE_END

    def failed(self, error: RequestError) -> bytes:
        """The end of a stream that cannot be finished."""
        return sse(error.record)

    def whole(self, answer: Answer) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer),
            "finish_reason": answer.finish_reason.value,
        }
        record = {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_record(answer),
            **({FIELD: answer_record(answer)} if self.request.extended else {}),
        }
        return to_json(record)

    def _event(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
        **more: Any,
    ) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return sse({**self._head("chat.completion.chunk"), "choices": [choice], **more})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.request.query.query_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def _logprobs(self, answer: Answer) -> dict[str, Any] | None:
        if not self.request.logprobs or not answer.token_probabilities:
            return None
        return {"content": _token_records(answer), "refusal": None}


def _token_records(answer: Answer) -> list[dict[str, Any]]:
    """Tokens that only together make a character share its place: the first one gets it."""
    records = []
    written = 0
    for token in answer.token_probabilities:
        text = answer.text[max(written, token.start) : token.end]
        written = max(written, token.end)
        records.append(
            {
                "token": text,
                "logprob": math.log(max(token.probability, _LEAST_PROBABILITY)),
                "bytes": list(text.encode()),
                "top_logprobs": [],
            }
        )
    return records


def usage_record(answer: Answer) -> dict[str, int] | None:
    """``None`` where the engine does not count."""
    asked, written = answer.prompt_tokens, answer.completion_tokens
    if asked < 0 or written < 0:
        return None
    return {
        "prompt_tokens": asked,
        "completion_tokens": written,
        "total_tokens": asked + written,
    }
