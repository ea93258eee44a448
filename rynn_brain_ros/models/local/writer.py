"""The answer while it is written, token by token: text, probabilities, and when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rynn_brain_ros.models.completion import Completion
from rynn_brain_ros.values import Query, TokenProbability

_UNFINISHED = "\ufffd"


class Writer:
    """Turns token ids into text as early as a whole character is known.

    ``decode`` maps ids to text without special tokens. ``on_text`` gets each new piece.
    """

    def __init__(
        self,
        query: Query,
        decode: Callable[[Sequence[int]], str],
        on_text: Callable[[str], None] | None,
    ) -> None:
        self._decode, self._on_text = decode, on_text
        self._completion = Completion(query)
        self._pieces: list[str] = []
        self._length = 0
        self._open: list[tuple[int, float]] = []
        self.tokens: list[int] = []
        self.probabilities: list[TokenProbability] = []

    @property
    def complete(self) -> bool:
        """The closing tag of what was asked for has been written."""
        return self._completion.reached

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def write(self, token: int, probability: float) -> None:
        self.tokens.append(token)
        self._open.append((token, probability))
        piece = self._decode([open_token for open_token, _ in self._open])
        if not piece.endswith(_UNFINISHED):
            self._flush(piece)

    def end(self) -> None:
        """No more tokens: what was held back is written as it is."""
        if self._open:
            self._flush(self._decode([token for token, _ in self._open]))

    def _flush(self, piece: str) -> None:
        """Tokens that only together make a character share its place."""
        start, self._length = self._length, self._length + len(piece)
        self.probabilities += [
            TokenProbability(start, self._length, probability) for _, probability in self._open
        ]
        self._open.clear()
        if not piece:
            return
        self._pieces.append(piece)
        if self._on_text is not None:
            self._on_text(piece)
        self._completion.feed(piece)
