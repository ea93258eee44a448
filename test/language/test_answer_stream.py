"""Reading while the model writes gives what reading at the end gives."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_answer_parser import BOX, POINT, TEXTS

from rynn_brain_ros.language import StreamedGrounding, StreamParser, parse
from rynn_brain_ros.values import FinishReason, Flag, Task


def feed(
    stream: StreamParser, text: str, cuts: list[int] | tuple[int, ...] = ()
) -> list[StreamedGrounding]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [found for start, end in pairwise(edges) for found in stream.feed(text[start:end])]


@given(
    TEXTS,
    st.lists(st.integers(0, 2000)),
    st.none() | st.sampled_from(Task),
    st.sampled_from(FinishReason),
    st.booleans(),
)
def test_any_split_reads_as_the_whole(
    text: str, cuts: list[int], task: Task | None, finish_reason: FinishReason, thinking: bool
) -> None:
    stream = StreamParser(2, task, thinking=thinking)

    feed(stream, text, cuts)

    assert stream.finish(finish_reason) == parse(
        text, 2, task=task, finish_reason=finish_reason, thinking=thinking
    )


@given(TEXTS, st.lists(st.integers(0, 2000)), st.booleans())
def test_any_split_emits_what_one_piece_emits(text: str, cuts: list[int], thinking: bool) -> None:
    pieces = feed(StreamParser(2, thinking=thinking), text, cuts)

    assert pieces == feed(StreamParser(2, thinking=thinking), text)


@given(TEXTS, st.lists(st.integers(0, 2000)))
def test_everything_emitted_is_in_the_final_reading(text: str, cuts: list[int]) -> None:
    stream = StreamParser(2)
    emitted = [found.grounding for found in feed(stream, text, cuts)]

    reading = stream.finish()

    final = {part.span: part for part in (*reading.groundings, *reading.reasoning)}
    assert all(final[grounding.span] == grounding for grounding in emitted)


def test_a_grounding_is_emitted_with_the_last_letter_of_its_tag() -> None:
    stream = StreamParser(2)

    assert feed(stream, f"The mug is {BOX}"[:-1], list(range(60))) == []
    (found,) = stream.feed(">")

    assert (found.grounding.kind, found.grounding.label) == ("object", "The mug is")


def test_reasoning_is_told_from_the_answer() -> None:
    text = f"<think>I see {BOX}</think>#### <answer>{POINT}</answer>"

    found = feed(StreamParser(2), text, list(range(len(text))))

    assert [(part.grounding.kind, part.is_reasoning) for part in found] == [
        ("object", True),
        ("affordance", False),
    ]


def test_thinking_starts_as_reasoning() -> None:
    found = feed(StreamParser(2, thinking=True), f"I see {BOX}. #### {POINT}")

    assert [part.is_reasoning for part in found] == [True, False]


def test_an_unclosed_tag_is_read_at_the_end() -> None:
    stream = StreamParser(2)
    found = feed(stream, BOX.removesuffix(" </object>"))

    assert found == []
    assert stream.finish().groundings[0].flags == {Flag.UNCLOSED}


@pytest.mark.parametrize("unit", ["<object> ", "<", "#", "<area> (1, 2), ", "(1, 2), ", " "])
def test_hostile_text_letter_by_letter_is_read_in_linear_time(unit: str) -> None:
    text = "<area> " + unit * (200_000 // len(unit))
    stream = StreamParser(1)
    start = time.perf_counter()

    for letter in text:
        stream.feed(letter)
    stream.finish()

    # 200 000 calls take a second, quadratic work minutes.
    assert time.perf_counter() - start < 20.0
