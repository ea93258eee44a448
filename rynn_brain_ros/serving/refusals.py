"""Everything that the server says no with, as the OpenAI protocol's own error objects.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import logging
import math
from typing import Any

from rynn_brain_ros.values import (
    EngineError,
    InputError,
    RecordedAnswerMissingError,
    RynnBrainError,
    UnreadableQuestionError,
    UnsupportedTaskError,
)

_LOG = logging.getLogger(__name__)
_INVALID = "invalid_request_error"


class RequestError(RynnBrainError):
    """A request that is answered with an HTTP status and an error object.

    ``param`` is the field of the request that is wrong; ``retry_after_s`` says when asking again
    makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = _INVALID,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float = math.nan,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param
        self.retry_after_s = retry_after_s

    @property
    def record(self) -> dict[str, Any]:
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if math.isfinite(self.retry_after_s):
            headers["retry-after"] = str(math.ceil(self.retry_after_s))
        if self.status >= 500 and "retry-after" not in headers:
            headers["x-should-retry"] = "false"  # OpenAI's client would ask twice more
        return headers


def busy(message: str, retry_after_s: float) -> RequestError:
    return RequestError(
        message,
        status=429,
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=retry_after_s,
    )


def stopping() -> RequestError:
    return RequestError(
        "the server is shutting down and gave this question up",
        status=503,
        kind="server_error",
        code="shutting_down",
        retry_after_s=5.0,
    )


def refusal_of(error: BaseException) -> RequestError:
    """What a failed question means to the one who asked it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RecordedAnswerMissingError):
        return RequestError(str(error), code="answer_not_recorded", param="messages")
    if isinstance(error, (InputError, UnsupportedTaskError, UnreadableQuestionError)):
        return RequestError(str(error), code="unanswerable", param="messages")
    if isinstance(error, EngineError):
        return RequestError(str(error), status=500, kind="server_error", code="engine_failed")
    _LOG.error("the engine failed in an unexpected way", exc_info=error)
    return RequestError(
        "the server failed while answering; its log says how", status=500, kind="server_error"
    )
