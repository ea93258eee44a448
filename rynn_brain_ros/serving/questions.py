"""A chat completion request, checked, as a `Query` that carries its own messages.

https://platform.openai.com/docs/api-reference/chat/create. What this server cannot do is refused
by name; nothing that would change the answer is left out silently.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.memory import select
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.models.wire import FIELD, FORGOTTEN, KNOWN, Asked, read_question
from rynn_brain_ros.serving.kept_frames import KeptFrames
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.serving.refusals import RequestError
from rynn_brain_ros.values import (
    EncodedImage,
    EngineInfo,
    Frame,
    FrameSet,
    ImageError,
    ImagePart,
    Message,
    Query,
    QueryBudget,
    SelectedFrame,
    Task,
    TextPart,
    Turn,
)

_READ = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options"),
        *("logprobs", "user", FIELD),
    }
)
_MEANINGLESS = frozenset(
    {
        *("seed", "top_p", "store", "metadata", "service_tier", "safety_identifier"),
        *("prompt_cache_key", "parallel_tool_calls"),
    }
)
"""To a greedy decoder without tools that keeps nothing."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "temperature": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
}
"""Fields of which only these values can be served."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_FREE = (Task.DESCRIBE, Task.THINK, Task.PLAN, Task.NAVIGATE)
"""What a question of another program's counts as, the first that the engine knows: its answer
is neither constrained nor ended early."""


@dataclass(frozen=True)
class ChatRequest:
    """``user`` is the client's own name for who asks; ``extended``: the client is ours."""

    query: Query
    user: str
    stream: bool
    usage: bool
    logprobs: bool
    extended: bool


def read_request(body: bytes, info: EngineInfo, limits: Limits, kept: KeptFrames) -> ChatRequest:
    """Raises `RequestError` for whatever cannot be answered as it is asked."""
    record = _object(body)
    _check_fields(record)
    _check_model(record, info)
    asked = _asked(record, info)
    messages = _Reader(limits, kept, asked is not None).messages(record.get("messages"))
    options = _get(record, "stream_options", dict, {})
    return ChatRequest(
        query=_query(messages, asked, info, _budget(record, asked, limits)),
        user=_get(record, "user", str, ""),
        stream=_get(record, "stream", bool, False),
        usage=_get(options, "include_usage", bool, False),
        logprobs=_get(record, "logprobs", bool, False),
        extended=asked is not None,
    )


# --- fields --------------------------------------------------------------------------------------


def _object(body: bytes) -> dict[str, Any]:
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the request's body is not JSON: {error}", code="invalid_json"
        ) from error
    if not isinstance(record, dict):
        raise RequestError("the request's body is no JSON object", code="invalid_json")
    return record


def _check_fields(record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        if name in _READ or name in _MEANINGLESS or value is None:
            continue
        if name not in _ONLY:
            raise RequestError(
                f"unknown field {name[:60]!r}: leave it out",
                code="unknown_parameter",
                param=name[:60],
            )
        if value not in _ONLY[name]:
            allowed = " or ".join(json.dumps(only) for only in _ONLY[name])
            raise RequestError(
                f"{name} can only be {allowed} here (answers are greedy, one at a time, without "
                "tools): leave it out",
                code="unsupported_value",
                param=name,
            )


def _check_model(record: Mapping[str, Any], info: EngineInfo) -> None:
    wanted = _get(record, "model", str, "")
    if not wanted:
        raise RequestError(f"name the model: {info.model}", param="model")
    if wanted != info.model:
        raise RequestError(
            f"there is no model {wanted[:100]!r} here; this server has {info.model}",
            status=404,
            code="model_not_found",
            param="model",
        )


def _asked(record: Mapping[str, Any], info: EngineInfo) -> Asked | None:
    extension = _get(record, FIELD, dict, None)
    if extension is None:
        return None
    try:
        asked = read_question(extension)
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{FIELD} is not what a client of ours says: {error}", param=FIELD
        ) from error
    _check_text(asked.instruction, f"{FIELD}.instruction")
    if asked.task not in info.tasks:
        known = ", ".join(sorted(task.value for task in info.tasks))
        raise RequestError(
            f"{info.model} cannot answer task {asked.task.value}; it knows: {known}",
            code="unanswerable",
            param=FIELD,
        )
    return asked


def _budget(record: Mapping[str, Any], asked: Asked | None, limits: Limits) -> QueryBudget:
    name = "max_completion_tokens" if record.get("max_completion_tokens") else "max_tokens"
    tokens = _get(record, name, int, limits.new_tokens)
    if not 1 <= tokens <= limits.new_tokens:
        raise RequestError(f"{name} is {tokens}: ask for 1…{limits.new_tokens}", param=name)
    wanted_s = asked.timeout_s if asked is not None else limits.timeout_s
    return QueryBudget(tokens, min(wanted_s, limits.timeout_s))


def _get(record: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = record.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise RequestError(f"{name} is no {kind.__name__}", code="invalid_type", param=name)
    if isinstance(value, str):
        _check_text(value, name)
    return value


def _check_text(text: str, param: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{param} holds half a character: {error}", param=param) from error


# --- messages ------------------------------------------------------------------------------------


class _Reader:
    """Reads messages and counts their pictures; keeps those that may be named the next time."""

    def __init__(self, limits: Limits, kept: KeptFrames, keeps: bool) -> None:
        self._limits, self._kept, self._keeps = limits, kept, keeps
        self._n_images = 0

    def messages(self, value: Any) -> tuple[Message, ...]:
        if not isinstance(value, list) or not value:
            raise RequestError("messages is no list with at least one message", param="messages")
        return tuple(self._message(f"messages[{i}]", message) for i, message in enumerate(value))

    def _message(self, at: str, message: Any) -> Message:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise RequestError(
                f"{at} has none of the roles {', '.join(_ROLES)}", param=f"{at}.role"
            )
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise RequestError(f"{at} has no content", param=f"{at}.content")
        parts = (self._part(f"{at}.content[{i}]", part) for i, part in enumerate(content))
        return Message(_ROLES[role], tuple(parts))

    def _part(self, at: str, part: Any) -> TextPart | ImagePart:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            _check_text(part["text"], f"{at}.text")
            return TextPart(part["text"])
        image = part.get("image_url") if kind == "image_url" else None
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str):
            raise RequestError(f"{at} is neither a text nor an image_url with a url", param=at)
        return ImagePart(self._image(at, url))

    def _image(self, at: str, url: str) -> SelectedFrame:
        self._n_images += 1
        if self._n_images > self._limits.images:
            raise RequestError(
                f"more than {self._limits.images} images: show fewer",
                code="too_many_images",
                param="messages",
            )
        if url.startswith(KNOWN):
            return self._known(at, url.removeprefix(KNOWN))
        data = _image_bytes(at, url, self._limits.image_bytes)
        color = EncodedImage("", data, compressed=True)
        try:
            frame = select(Frame("request", self._n_images - 1, "", color))
        except ImageError as error:
            raise RequestError(str(error), code="invalid_image", param=at) from error
        if self._keeps:
            self._kept.keep(frame)
        return frame

    def _known(self, at: str, sha256: str) -> SelectedFrame:
        frame = self._kept.get(sha256)
        if frame is None:
            raise RequestError(
                f"{at} names a picture that this server does not have: send its bytes",
                status=FORGOTTEN,
                code="unknown_image",
                param=at,
            )
        return frame


def _image_bytes(at: str, url: str, most: int) -> bytes:
    head, comma, coded = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise RequestError(
            f"{at}: an image is sent as data:image/jpeg;base64,… (or png); this server fetches "
            "nothing",
            code="invalid_image_url",
            param=at,
        )
    if len(coded) * 3 // 4 > most:
        raise RequestError(
            f"{at} is an image of more than {most} bytes: send a smaller one",
            code="image_too_large",
            param=at,
        )
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            f"{at} is not base64: {error}", code="invalid_base64_image", param=at
        ) from error


# --- the question --------------------------------------------------------------------------------


def _query(
    messages: tuple[Message, ...], asked: Asked | None, info: EngineInfo, budget: QueryBudget
) -> Query:
    if asked is None:
        n_images = sum(isinstance(p, ImagePart) for m in messages for p in m.parts)
        free = next((task for task in _FREE if task in info.tasks), Task.DESCRIBE)
        share = max(1, VISUAL_TOKENS // max(1, n_images))
        asked = Asked(free, _last_words(messages), False, False, share, budget.timeout_s)
    history, frames = _turns(messages, asked.max_visual_tokens)
    return Query(
        query_id=f"chatcmpl-{uuid.uuid4().hex}",
        task=asked.task,
        instruction=asked.instruction,
        frames=frames,
        budget=budget,
        history=history,
        thinking=asked.thinking,
        abstain=asked.abstain,
        chat=messages,
    )


def _turns(
    messages: Sequence[Message], max_visual_tokens: int
) -> tuple[tuple[Turn, ...], FrameSet]:
    """Earlier turns end with what the assistant said; the frames after the last one are shown
    now."""
    history: list[Turn] = []
    shown: list[SelectedFrame] = []
    for message in messages:
        shown += [part.image for part in message.parts if isinstance(part, ImagePart)]
        if message.role == "assistant":
            history.append(Turn(FrameSet(tuple(shown), max_visual_tokens), _words(message)))
            shown = []
    return tuple(history), FrameSet(tuple(shown), max_visual_tokens)


def _last_words(messages: Sequence[Message]) -> str:
    return next((_words(m) for m in reversed(messages) if m.role == "user"), "")


def _words(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))
