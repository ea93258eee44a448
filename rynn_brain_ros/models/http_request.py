"""A question as the JSON that a server of the OpenAI protocol takes."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Any

from rynn_brain_ros.language import compose
from rynn_brain_ros.models.image_grid import TOKEN_PX, grid_size, on_grid
from rynn_brain_ros.models.wire import FIELD, KNOWN, question_record
from rynn_brain_ros.values import (
    EngineInfo,
    ImagePart,
    Message,
    Query,
    SelectedFrame,
    TextPart,
    UnreadableQuestionError,
)

_MAX_SIDE_PX, _MAX_ASPECT, _MAX_TOKENS = 16384, 200, 16384
"""What Qwen's processor takes of one picture, and what training's sequences held of all."""


def request_body(
    query: Query,
    info: EngineInfo,
    *,
    ours: bool,
    known: Collection[str] = (),
    switches_thinking: bool = False,
) -> dict[str, Any]:
    """``ours``: the server is `rynn-brain serve`; ``known`` are the digests of pictures that it has
    already; ``switches_thinking``: its chat template is told whether to think.

    Raises `InputError` for what no model was trained on and `UnreadableQuestionError` for pictures
    that none can be shown.
    """
    messages = compose(query, info.generation)
    images = [p.image for m in messages for p in m.parts if isinstance(p, ImagePart)]
    _check(images, query.frames.max_visual_tokens)
    show = _as_it_is if ours else _fitted
    urls = {digest: KNOWN + digest for digest in known}
    for image in images:
        if image.sha256 not in urls:
            urls[image.sha256] = _data_url(*show(image, query.frames.max_visual_tokens))
    body: dict[str, Any] = {
        "model": info.model,
        "messages": [_message_record(message, urls) for message in messages],
        "max_tokens": query.budget.max_new_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if ours:
        body[FIELD] = question_record(query)
    elif switches_thinking:
        body["chat_template_kwargs"] = {"enable_thinking": query.thinks}
    return body


def _message_record(message: Message, urls: dict[str, str]) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": {"url": urls[part.image.sha256]}}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}


def _as_it_is(image: SelectedFrame, _: int) -> tuple[bytes, str]:
    """Our own server resizes as the local engine does, from the very same bytes."""
    return image.image, image.mime


def _fitted(image: SelectedFrame, max_tokens: int) -> tuple[bytes, str]:
    """Others resize each in their own way, so they get what fits already."""
    return on_grid(image, max_tokens)


def _data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _check(images: Sequence[SelectedFrame], max_tokens: int) -> None:
    tokens = 0
    for image in images:
        width, height = image.width, image.height
        if max(width, height) > min(_MAX_SIDE_PX, _MAX_ASPECT * min(width, height)):
            raise UnreadableQuestionError(
                f"an image of {width}×{height} pixels ({image.frame.camera}) cannot be shown to "
                f"the model: sides up to {_MAX_SIDE_PX} pixels, aspect ratio up to {_MAX_ASPECT}"
            )
        columns_px, rows_px = grid_size(width, height, max_tokens)
        tokens += columns_px * rows_px // TOKEN_PX**2
    if tokens > _MAX_TOKENS:
        raise UnreadableQuestionError(
            f"{len(images)} images cost {tokens} tokens and the model reads at most {_MAX_TOKENS}: "
            "show fewer frames"
        )
