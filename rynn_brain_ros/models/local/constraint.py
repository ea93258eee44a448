"""Holding an answer to its grammar while it is written, with llguidance.

At each step the model's own choice stands where the grammar allows it, so that a model that keeps
to the format is not slowed down and writes what it would have written anyway; otherwise the most
probable token that the grammar allows is taken. Every token of a tag stands for at least one
character: when the budget has as many tokens left as the longest ending has characters, what is
still words or thought must end, and every answer is whole within its budget.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.language import StrictAnswer
from rynn_brain_ros.values import EngineError

_TAG = b"<answer>"
_ANSWER = re.compile(rb"####\s{0,3}<answer>")
_ANSWER_TOKENS = len(b"####   <answer>")
"""The most tokens that it can be written in."""


def check_installed() -> None:
    """Raises `EngineError` where llguidance is missing."""
    if importlib.util.find_spec("llguidance") is None:
        raise EngineError(
            "answers are held to their grammar by llguidance, which is not installed in this "
            f"Python: {pip_install('model')}, or open the engine with constrain=False"
        )


class Vocabulary:
    """A model's tokens as llguidance knows them: made once, in about a second.

    ``n_tokens`` is the number of the model's logits, ``stop_tokens`` those that end an answer.
    """

    def __init__(self, tokenizer: Any, n_tokens: int, stop_tokens: frozenset[int]) -> None:
        import llguidance.hf  # noqa: PLC0415  # checked by whoever wants it

        self.words = llguidance.hf.from_tokenizer(tokenizer, n_vocab=n_tokens)
        self.stop_tokens = stop_tokens

    def matcher(self, regex: str) -> Any:
        import llguidance  # noqa: PLC0415

        matcher = llguidance.LLMatcher(
            self.words, llguidance.LLMatcher.grammar_from_regex(regex), log_level=0
        )
        if matcher.is_error():
            raise EngineError(f"llguidance does not take a grammar: {matcher.get_error()}")
        return matcher


class Constraint:
    """One answer while it is written."""

    def __init__(self, vocabulary: Vocabulary, answer: StrictAnswer) -> None:
        self._vocabulary, self._answer = vocabulary, answer
        self._tokens: list[int] = []
        self._held: _Held | None = None
        if answer.words is not None:
            self._held = self._hold(answer.words, 0)
        self._begun = self._closing = False
        """The words or the thought are over; the last point has been begun."""

    @property
    def complete(self) -> bool:
        """The grammar allows no more."""
        return self._held is not None and bool(self._held.matcher.is_accepting())

    def choose(self, logits: torch.Tensor, n_left: int) -> int:
        """The most probable token that is allowed, by ``logits`` [vocabulary]; the budget has
        ``n_left`` tokens left, this one included."""
        self._hurry(n_left)
        token = int(logits.argmax())
        if not self._allows(token):
            if not self._begun and token in self._vocabulary.stop_tokens:
                self._cut()
            token = int(logits.masked_fill(self._forbidden(logits), -torch.inf).argmax())
        self._take(token)
        return token

    # --- what is allowed ---------------------------------------------------------------------

    def _allows(self, token: int) -> bool:
        if self._held is None:  # thinking; an answer in other tags than asked may end it, too
            return token not in self._vocabulary.stop_tokens or b"####" in self._says(self._tokens)
        return bool(self._held.matcher.validate_tokens([token]))

    def _forbidden(self, logits: torch.Tensor) -> torch.Tensor:
        """Bool [vocabulary]."""
        assert self._held is not None
        bits = np.frombuffer(self._held.matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)]
        return torch.from_numpy(allowed == 0).to(logits.device)

    # --- coming to an end --------------------------------------------------------------------

    def _hurry(self, n_left: int) -> None:
        """Ends words, thoughts and lists of points while there is room for what must follow.

        Room for a thought is kept for a whole answer, for mere words only for the shortest.
        """
        answer = self._answer
        n_points = answer.least if answer.words is not None else answer.most
        if not self._begun and n_left <= answer.room(n_points):
            self._cut()
        if self._begun and not self._closing and n_left <= answer.room(1):
            self._close()

    def _cut(self) -> None:
        """Whatever was written so far, what was asked for comes now."""
        self._held = self._hold(self._answer.cut, len(self._tokens))
        self._begun = True

    def _close(self) -> None:
        """The point that is being written is the last."""
        assert self._held is not None
        written = self._tokens[self._held.start :]
        n_points = self._says(written).partition(b"<")[2].count(b"(")
        for most in (n_points, n_points + 1):
            held = self._hold(self._held.before, self._held.start, most)
            if held.matcher.try_consume_tokens(written) == len(written):
                self._held, self._closing = held, True
                return

    # --- what was written --------------------------------------------------------------------

    def _take(self, token: int) -> None:
        self._tokens.append(token)
        if self._held is not None:
            self._held.matcher.consume_token(token)
            self._begun |= b"<" in self._says([token])
        elif _ANSWER.search(self._says(self._tokens[-_ANSWER_TOKENS:])):
            self._begin()

    def _begin(self) -> None:
        """The thought's own `<answer>` was written: what follows is held to the grammar. The last
        token may have more in it than that tag."""
        start = len(self._tokens) - 1
        while _TAG not in self._says(self._tokens[start:]):
            start -= 1
        held = self._hold("[^<]{0,64}", start)
        if held.matcher.try_consume_tokens(self._tokens[start:]) == len(self._tokens) - start:
            self._held, self._begun = held, True

    def _hold(self, before: str, start: int, most: int | None = None) -> _Held:
        return _Held(self._vocabulary.matcher(before + self._answer.answer(most)), before, start)

    def _says(self, tokens: Sequence[int]) -> bytes:
        return bytes(self._vocabulary.words.decode_bytes(list(tokens)))


@dataclass(frozen=True)
class _Held:
    """The grammar that is in force for the tokens from ``start`` on: ``before`` and an answer."""

    matcher: Any
    before: str
    start: int
