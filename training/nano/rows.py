"""Lessons as rows of token ids, and what is to be learned at which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rynn_brain_ros.models.local.prompt import ImageSpan, Prompt
from rynn_brain_ros.values import Task, TextPart
from training.nano.camera import SEEN_PX
from training.nano.lessons import Exchange, Lesson, Mark, Place, opening
from training.nano.network import TOKEN_PX
from training.nano.plans import TAUGHT
from training.nano.talks import Talk, TalkTurn
from training.nano.truth import ALL_SHAPES, COLORS, Truth
from training.nano.words import number_tokens

ROWS, COLUMNS = SEEN_PX[1] // TOKEN_PX, SEEN_PX[0] // TOKEN_PX
N_CELLS = ROWS * COLUMNS
WEIGHTS = {"decided": 2.0, "frame": 1.0, "count": 1.0, "plain": 2.0}
"""Of the tokens that decide an answer, of the numbers of frames, of counts, and of all else but
coordinates: most of that is the same in every answer, and soon costs nothing."""
_DECIDING = 2
"""So many tokens decide: every tag begins with the same one."""
_LOOKING_TOKENS = 16
"""So many of each picture are taught to look at its number."""

HOLDERS = ("table", "hand", "thing")
"""What a thing may be held by."""
Look = tuple[int, int, NDArray[np.bool_]]
"""Row, position, and the positions [L] that it should look at."""
Asked = tuple[int, int, "NDArray[np.bool_] | None"]
"""The same, at visual tokens that show the thing; none where it is absent."""


@dataclass(frozen=True)
class Shown:
    """A picture among token ids: where its visual tokens begin, the number it is called by, and
    where that stands."""

    start: int
    number: int
    label_at: int | None


@dataclass(frozen=True)
class Noun:
    """Where a noun ends and what it says; ``places`` are where all that it means is, where the
    pictures stand before it."""

    at: int
    kind: tuple[int, int]
    sees: bool = False
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Said:
    """An answer from ``start`` up to ``end``; ``decided`` are the tokens from which on it is, those
    of a thought and behind it. ``marks`` are those of its numbers, ``places`` where all is that it
    is about, and ``beside`` another thing that it depends on; ``noun_at`` is, by thing, where the
    noun stands that is looked back at. ``missing`` is the thing that it says is not there;
    ``wanted`` what an instruction wants, of `TAUGHT` and last of all anything else; ``counted``
    where the noun stands of which all are counted that are in ``places``."""

    start: int
    end: int
    decided: tuple[int, ...]
    marks: dict[int, Mark]
    places: tuple[Place, ...]
    beside: Place | None = None
    noun_at: dict[int, int] = field(default_factory=dict)
    missing: int | None = None
    wanted: int | None = None
    counted: int | None = None


@dataclass
class Row:
    """Token ids with all that is known of them. What is on a ``branch`` sees the trunk (0) and
    its own branch; on each, positions go on behind the trunk's."""

    frames: list[tuple[int, bool]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    nouns: list[Noun] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def add(self, ids: Sequence[int], branch: int = 0) -> int:
        """Where they begin."""
        start = len(self.ids)
        self.ids += ids
        self.branch += [branch] * len(ids)
        return start

    def positions(self) -> NDArray[np.int64]:
        """[3, L]"""
        spans = [ImageSpan(("", 0, 0), shown.start, ROWS, COLUMNS) for shown in self.shown]
        trunk = [token for token, on in zip(self.ids, self.branch, strict=True) if on == 0]
        opening = Prompt(np.array(trunk, np.int64), tuple(spans))
        following = opening.next_position()
        sizes = [self.branch.count(number) for number in range(1, max(self.branch) + 1)]
        branches = [np.tile(following + np.arange(size), (3, 1)) for size in sizes]
        return np.concatenate([opening.positions(), *branches], 1)


class Scribe:
    """Lessons as rows."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.numbers = number_tokens(tokenizer)
        self._is_number = set(self.numbers)
        self._openings = set(tokenizer.convert_tokens_to_ids(["<think>", "#### <answer>"]))
        self.image = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))
        self.pad = int(tokenizer.pad_token_id)

    def lesson(self, lesson: Lesson) -> Row:
        """The frames, and each question on a branch of its own."""
        row = Row(list(lesson.frames))
        for index, words in enumerate(opening(lesson.manner, len(lesson.frames))):
            self._show(row, words, index)
        for number, exchange in enumerate(lesson.exchanges, start=1):
            self._ask(row, exchange, number, lesson.manner.thinking)
        return row

    def talk(self, talk: Talk) -> Row:
        """The whole conversation; nouns stand before the pictures."""
        row = Row(list(talk.frames))
        turns = iter(talk.turns)
        noun_at: dict[int, int] = {}
        for message in talk.messages():
            row.add(self._ids(f"<|im_start|>{message.role}\n"))
            if message.role == "assistant":
                self._answer(row, talk, next(turns), noun_at)
                row.add(self._ids("\n"))
                continue
            text, index = "", 0
            for part in message.parts:
                if isinstance(part, TextPart):
                    text += part.text
                    continue
                noun_at |= self._named(row, text, talk)
                self._show(row, text, index)
                index, text = index + 1, ""
            noun_at |= self._named(row, text, talk)
            row.add(self._ids(text + "<|im_end|>\n"))
        return row

    def _answer(self, row: Row, talk: Talk, turn: TalkTurn, noun_at: Mapping[int, int]) -> None:
        ids = self._told(turn.answer)
        start = row.add(ids)
        end = start + len(ids)
        row.said.append(
            Said(
                start,
                end,
                decided=tuple(range(start, end)) if turn.of_arrows else (start,),
                marks=self._marked(start, ids, turn.marks),
                places=() if turn.place is None else (turn.place,),
                beside=turn.beside,
                noun_at=dict(noun_at),
                missing=turn.missing,
                wanted=talk.wanted,
            )
        )

    def _named(self, row: Row, text: str, talk: Talk) -> dict[int, int]:
        """Where the nouns will end, by thing, when ``text`` is written."""
        found = {}
        goal = text.find(talk.instruction)
        if goal >= 0:
            for thing, (noun, kind) in talk.nouns.items():
                end = goal + talk.instruction.index(noun) + len(noun)
                at = len(row.ids) + len(self._ids(text[:end])) - 1
                row.nouns.append(Noun(at, _kind(kind)))
                found[thing] = at
        return found

    def _show(self, row: Row, label: str, index: int) -> None:
        start = row.add(self._ids(label))
        at = [start + n for n, t in enumerate(row.ids[start:]) if t in self._is_number]
        row.add(self._ids("<|vision_start|>"))
        first = row.add([self.image] * N_CELLS)
        row.shown.append(Shown(first, index, at[-1] if at else None))
        row.add(self._ids("<|vision_end|>"))

    def _ask(self, row: Row, exchange: Exchange, branch: int, thinking: bool) -> None:
        start = row.add(self._ids(exchange.instruction + exchange.rest), branch)
        noun_at: dict[int, int] = {}
        for noun in exchange.nouns:
            at = start + len(self._ids(exchange.instruction[: noun.end])) - 1
            row.nouns.append(Noun(at, _kind(noun.kind), sees=True, places=noun.places))
            noun_at |= {number: at for _, number in noun.places}
        row.add(self._ids("<|im_end|>\n<|im_start|>assistant\n"), branch)
        ids = self._told(exchange.answer)
        start = row.add(ids, branch)
        marks = self._marked(start, ids, exchange.marks)
        first, *others = [noun.places for noun in exchange.nouns]
        there = all((first, *others)) or exchange.task is Task.COUNT
        row.said.append(
            Said(
                start,
                start + len(ids),
                decided=self._decided(start, ids),
                marks=marks,
                places=first if there else (),
                beside=others[0][0] if others and there else None,
                noun_at=noun_at if there and (others or exchange.relation is not None) else {},
                wanted=None if exchange.relation is None else TAUGHT.index(exchange.relation),
                counted=row.nouns[-1].at if exchange.task is Task.COUNT else None,
            )
        )

    def _decided(self, start: int, ids: Sequence[int]) -> tuple[int, ...]:
        """Behind "<think>", where that it sees something or nothing, and behind "<answer>"."""
        opening = [n + 1 for n, token in enumerate(ids) if token in self._openings]
        return tuple(start + n for n in opening) or (start,)

    def _told(self, answer: str) -> list[int]:
        ids: list[int] = self.tokenizer(answer + "<|im_end|>", add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def _marked(self, start: int, ids: Sequence[int], marks: Sequence[Mark]) -> dict[int, Mark]:
        """By where its number stands."""
        at = [start + n for n, token in enumerate(ids) if token in self._is_number]
        return dict(zip(at, marks, strict=True))

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known[text]


def _kind(kind: tuple[str, str]) -> tuple[int, int]:
    color, shape = kind
    return (COLORS.index(color) + 1 if color else 0, ALL_SHAPES.index(shape) + 1 if shape else 0)


# --- rows read together ---------------------------------------------------------------------------


@dataclass
class Batch:
    """Rows padded to one length."""

    ids: torch.Tensor  # [B, L]
    positions: torch.Tensor  # [3, B, L]
    branch: torch.Tensor  # [B, L], −1 where a row is over
    visual: torch.Tensor  # [B, L], true at visual tokens
    frames: list[tuple[int, bool]] = field(default_factory=list)
    targets: dict[str, list[tuple[int, int, int]]] = field(
        default_factory=lambda: {what: [] for what in WEIGHTS}
    )
    """Of each of `WEIGHTS`: b, at, token."""
    coordinates: list[tuple[int, int, float]] = field(default_factory=list)  # b, at, value
    kinds: list[tuple[int, int, int, int]] = field(default_factory=list)  # b, at, colour, shape
    looks: list[Look] = field(default_factory=list)
    nouns: list[Asked] = field(default_factory=list)
    places: list[Asked] = field(default_factory=list)
    asks: list[Look] = field(default_factory=list)
    """Of answers: where the noun stands."""
    labels: list[Look] = field(default_factory=list)
    """Of visual tokens: where the number of their frame stands."""
    numbered: list[tuple[int, int, int]] = field(default_factory=list)  # b, start, frame's number
    others: list[Look] = field(default_factory=list)
    """Where an answer is decided: the other thing that it depends on."""
    other_nouns: list[Look] = field(default_factory=list)
    """The same, and where its noun stands."""
    held: list[tuple[int, int, int]] = field(default_factory=list)
    """Of visual tokens that show a thing: b, at, and what holds it, one of `HOLDERS`."""
    wanted: list[tuple[int, int, int]] = field(default_factory=list)
    """Where an answer is decided: b, at, and what the instruction wants, as `Said` has it."""
    sides: list[tuple[int, int, int]] = field(default_factory=list)
    """Of coordinates next to a thing: b, at, and on which of its `truth.SIDES`."""
    counted: list[Look] = field(default_factory=list)
    """Where a count is told: the noun, and one visual token of each thing. What is left for the
    noun of attention that is spread evenly tells how many there are."""

    def sees(self, b: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Where each of n positions may look, [n, L]: at itself and what came before it, on the
        trunk and on its own branch."""
        here, all_of_it = self.branch[b, at][:, None], self.branch[b]
        before = torch.arange(self.branch.shape[1]) <= at[:, None]
        return before & ((all_of_it == 0) | (all_of_it == here))

    def after_trunk(self) -> torch.Tensor:
        """Where positions may look that are behind what is trunk in every row: [B, 1, n, L]. Before
        that each sees all that came before it."""
        n_rows, length = self.branch.shape
        trunk = int((self.branch == 0).int().cumprod(1).sum(1).min())
        b, at = torch.meshgrid(torch.arange(n_rows), torch.arange(trunk, length), indexing="ij")
        return self.sees(b.flatten(), at.flatten()).view(n_rows, 1, length - trunk, length)


def assemble(scribe: Scribe, rows: Sequence[Row], truths: Sequence[Sequence[Truth]]) -> Batch:
    """``truths`` are those of each row's frames, not mirrored."""
    length = (max(len(row.ids) for row in rows) + 7) // 8 * 8
    ids = torch.full((len(rows), length), scribe.pad)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    branch = torch.full((len(rows), length), -1)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        positions[:, b, : len(row.ids)] = torch.from_numpy(row.positions())
        branch[b, : len(row.ids)] = torch.tensor(row.branch)
    batch = Batch(ids, positions, branch, ids == scribe.image)
    for b, (row, known) in enumerate(zip(rows, truths, strict=True)):
        _Telling(b, row, known, length).tell(batch)
    return batch


@dataclass(frozen=True)
class _Telling:
    """Adds what is to be learned from one row."""

    b: int
    row: Row
    truths: Sequence[Truth]
    length: int

    def tell(self, batch: Batch) -> None:
        batch.frames += self.row.frames
        for frame, shown in enumerate(self.row.shown):
            batch.held += self._held(frame, shown)
            if shown.label_at is not None:
                label, last = self._at(shown.label_at), shown.start + N_CELLS
                tokens = range(shown.start, last, N_CELLS // _LOOKING_TOKENS)
                batch.labels += [(self.b, at, label) for at in tokens]
                batch.numbered.append((self.b, shown.start, shown.number))
        for noun in self.row.nouns:
            batch.kinds.append((self.b, noun.at, *noun.kind))
            if noun.sees:
                batch.nouns.append((self.b, noun.at, self._where(noun.places)))
        for said in self.row.said:
            self._tell_said(said, batch)

    def _tell_said(self, said: Said, batch: Batch) -> None:
        for decided in said.decided:
            self._tell_decided(said, decided - 1, batch)
        if said.missing is not None:
            missing_at = self._at(said.noun_at[said.missing])
            batch.asks += [(self.b, at, missing_at) for at in range(said.start - 1, said.end - 1)]
        for at in range(said.start, said.end):
            mark, before = said.marks.get(at), at - 1
            if mark is not None and mark.place is not None:
                where = self._where([mark.place])
                assert where is not None
                batch.looks.append((self.b, before, where))
                if said.noun_at:
                    batch.asks.append((self.b, before, self._at(said.noun_at[mark.place[1]])))
            if mark is not None and mark.side is not None:
                batch.sides.append((self.b, before, mark.side))
            if mark is not None and mark.place is None and said.counted is not None:
                noun = self._at(said.counted)
                batch.asks.append((self.b, before, noun))
                batch.counted.append((self.b, before, noun | self._middles(said.places)))
            if mark is not None and not mark.exact:
                batch.coordinates.append((self.b, before, mark.value))
                continue
            is_deciding = any(0 <= at - decided < _DECIDING for decided in said.decided)
            what = "decided" if is_deciding else "plain"
            if mark is not None:
                what = "count" if mark.place is None else "frame"
            batch.targets[what].append((self.b, before, self.row.ids[at]))

    def _tell_decided(self, said: Said, at: int, batch: Batch) -> None:
        """At the token before it."""
        batch.places.append((self.b, at, self._where(said.places)))
        if said.wanted is not None:
            batch.wanted.append((self.b, at, said.wanted))
        if said.places and said.noun_at:
            batch.asks.append((self.b, at, self._at(said.noun_at[said.places[0][1]])))
        if said.beside is not None:
            beside = self._where([said.beside])
            assert beside is not None
            batch.others.append((self.b, at, beside))
            noun_at = self._at(said.noun_at[said.beside[1]])
            batch.other_nouns.append((self.b, at, noun_at))

    def _held(self, frame: int, shown: Shown) -> Iterator[tuple[int, int, int]]:
        cells = self._cells(frame)
        holders = {seen.thing.number: seen.thing.holder for seen in self.truths[frame].seen}
        for place in np.flatnonzero(cells):
            holder = holders[int(cells.flat[place])]
            held_by = HOLDERS.index("hand" if holder < 0 else "thing" if holder else "table")
            yield self.b, shown.start + int(place), held_by

    def _at(self, position: int) -> NDArray[np.bool_]:
        where: NDArray[np.bool_] = np.arange(self.length) == position
        return where

    def _where(self, places: Sequence[Place]) -> NDArray[np.bool_] | None:
        if not places:
            return None
        where = np.zeros(self.length, np.bool_)
        for frame, number in places:
            start = self.row.shown[frame].start
            where[start : start + N_CELLS] |= (self._cells(frame) == number).ravel()
        return where

    def _middles(self, places: Sequence[Place]) -> NDArray[np.bool_]:
        """The visual tokens that show the middles of things."""
        where = np.zeros(self.length, np.bool_)
        for frame, number in places:
            row, column = self.truths[frame].middle(number, self.row.frames[frame][1])
            where[self.row.shown[frame].start + row * COLUMNS + column] = True
        return where

    def _cells(self, frame: int) -> NDArray[np.uint8]:
        """Things' numbers, as the frame is shown: mirrored or not."""
        cells = self.truths[frame].cells
        return cells[:, ::-1] if self.row.frames[frame][1] else cells
