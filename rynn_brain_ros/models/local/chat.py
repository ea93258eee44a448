"""Chat messages → the model's prompt, through the checkpoint's own template and tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rynn_brain_ros.models.image_grid import TOKEN_PX
from rynn_brain_ros.models.local.memory import CONTEXT_TOKENS
from rynn_brain_ros.models.local.pictures import shown_size
from rynn_brain_ros.models.local.prompt import ImageKey, Prompt, expand
from rynn_brain_ros.values import (
    ImagePart,
    Message,
    SelectedFrame,
    TextPart,
    UnreadableQuestionError,
)


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    added_tokens_decoder: dict[int, Any]

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True)
class Picture:
    """A frame of the prompt, the size it is shown in, and how the caches know it."""

    frame: SelectedFrame
    size: tuple[int, int]

    @property
    def key(self) -> ImageKey:
        return (self.frame.sha256, *self.size)


class Chat:
    """Writes prompts for one checkpoint. ``token_px`` is the side of a visual token,
    ``enable_thinking`` how the template's switch stands where nothing is to be thought (None: the
    template has none)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        image_token: int,
        *,
        token_px: int = TOKEN_PX,
        max_image_tokens: int = CONTEXT_TOKENS,
        max_tokens: int = CONTEXT_TOKENS,
        enable_thinking: bool | None = None,
    ) -> None:
        self.tokenizer, self._image_token = tokenizer, image_token
        self._side, self._max_tokens = token_px, max_tokens
        self._max_image_tokens = max_image_tokens
        self._enable_thinking = enable_thinking
        added = tokenizer.added_tokens_decoder.values()
        self._control = tuple(str(token) for token in added if token.special)

    def prompt(
        self, messages: Iterable[Message], max_visual_tokens: int, *, thinks: bool = False
    ) -> tuple[Prompt, tuple[Picture, ...]]:
        """The prompt and its pictures, in their order; nothing is decoded yet.

        ``thinks``: the answer is to begin with reasoning.

        Raises `UnreadableQuestionError` for an image that cannot be shown, for words that would be
        read as control tokens and for more than the model can read.
        """
        messages = tuple(messages)
        parts = [part for message in messages for part in message.parts]
        most = min(max_visual_tokens, self._max_image_tokens)
        pictures = tuple(
            Picture(part.image, shown_size(part.image, most, self._side))
            for part in parts
            if isinstance(part, ImagePart)
        )
        images = [(p.key, p.size[1] // self._side, p.size[0] // self._side) for p in pictures]
        visual = sum(rows * columns for _, rows, columns in images)
        self._check_length(visual, len(pictures), visual)
        for part in parts:
            self._check_words(part)
        prompt = expand(self._ids(messages, thinks), self._image_token, images)
        self._check_length(len(prompt), len(pictures), visual)
        return prompt, pictures

    def _ids(self, messages: Sequence[Message], thinks: bool) -> list[int]:
        switch = {"enable_thinking": thinks or self._enable_thinking}
        text = self.tokenizer.apply_chat_template(
            [_plain(message) for message in messages],
            tokenize=False,
            add_generation_prompt=True,
            **({} if self._enable_thinking is None else switch),
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _check_words(self, part: TextPart | ImagePart) -> None:
        if not isinstance(part, TextPart):
            return
        found = next((token for token in self._control if token in part.text), None)
        if found is not None:
            raise UnreadableQuestionError(
                f"the words {part.text[:60]!r} hold {found}, which the model reads as a control "
                "token; leave it out"
            )

    def _check_length(self, length: int, n_images: int, visual: int) -> None:
        if length > self._max_tokens:
            raise UnreadableQuestionError(
                f"the question is {length} tokens long ({n_images} images cost {visual} of them); "
                f"this model reads at most {self._max_tokens}: show fewer frames"
            )

    def decode(self, ids: Sequence[int]) -> str:
        """Written tokens as text, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _plain(message: Message) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}
