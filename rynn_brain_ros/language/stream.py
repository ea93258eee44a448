"""Reading an answer while it is still being written."""

from __future__ import annotations

from dataclasses import dataclass

from rynn_brain_ros.language.grammar import Ending, Mark, Scanner
from rynn_brain_ros.language.parser import accept, parse
from rynn_brain_ros.values import AnyGrounding, FinishReason, Reading, Rejected, Task


@dataclass(frozen=True)
class StreamedGrounding:
    """A grounding whose tag has just closed, to be drawn and not to be acted upon.

    ``is_reasoning`` is what is known so far: later text (a `</think>` whose opening the chat
    template swallowed, a second `<answer>`) may turn an answer into reasoning. Only the
    `Reading` of `StreamParser.finish` decides.
    """

    grounding: AnyGrounding
    is_reasoning: bool


class StreamParser:
    """Emits groundings as their tags close; linear in the text for pieces of any size.

    Answers without tags (JSON, the bare 3D form) are read by `finish` alone. ``thinking`` as in
    `parse`: the text starts as reasoning.
    """

    def __init__(self, n_frames: int, task: Task | None = None, *, thinking: bool = False) -> None:
        self._n_frames = n_frames
        self._task = task
        self._thinking = thinking
        self._reasoning = thinking or task is Task.THINK
        self._scanner = Scanner()
        self._pieces: list[str] = []

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is written while thinking, as far as the text says by now."""
        return self._reasoning

    def feed(self, piece: str) -> tuple[StreamedGrounding, ...]:
        """The groundings that ``piece`` completes, in order."""
        self._pieces.append(piece)
        found = []
        for part in self._scanner.feed(piece):
            if isinstance(part, Mark):
                self._reasoning = part.name in ("think", "/answer")
            elif part.ending in (Ending.CLOSED, Ending.ANSWER):
                read = accept(part, self._n_frames, cut=False)
                if not isinstance(read, Rejected):
                    found.append(StreamedGrounding(read, self._reasoning))
        return tuple(found)

    def finish(self, finish_reason: FinishReason = FinishReason.STOP) -> Reading:
        """The whole answer's reading: that of `parse` on the joined pieces."""
        return parse(
            "".join(self._pieces),
            self._n_frames,
            task=self._task,
            finish_reason=finish_reason,
            thinking=self._thinking,
        )
