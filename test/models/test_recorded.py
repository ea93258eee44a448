"""The recorded engine: real answers, given again to exactly the question they were given to."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import CUBE, ScriptedEngine, ask_bag

from rynn_brain_ros.language import compose
from rynn_brain_ros.models import (
    RecordedAnswer,
    RecordedEngine,
    check_engine,
    load_recorded,
    open_engine,
    plain_messages,
    save_recorded,
)
from rynn_brain_ros.values import (
    FinishReason,
    FrameSet,
    Generation,
    InputError,
    Query,
    RecordedAnswerMissingError,
    Task,
    TokenProbability,
)

TEXT = "The red cube is at <affordance> <frame 0>: (500, 500) </affordance>"


@pytest.fixture(scope="module")
def query(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Query:
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path_factory.mktemp("asked"), engine)
    return engine.queries[0]


def recorded(query: Query, text: str = TEXT, **fields: object) -> RecordedAnswer:
    generation = fields.get("generation", Generation.V1_0)
    messages = plain_messages(compose(query, generation))
    return RecordedAnswer("RynnBrain-8B", messages, text, **fields)


def test_what_was_asked_before_is_answered_the_same(query: Query):
    answer = RecordedEngine([recorded(query, latency_s=0.4)]).ask(query)
    assert (answer.text, answer.query_id) == (TEXT, query.query_id)
    assert (answer.engine, answer.model) == ("recorded", "RynnBrain-8B")
    assert answer.timings.total_s == 0.4


def test_an_answer_comes_token_by_token_where_its_tokens_were_recorded(query: Query):
    tokens = tuple(TokenProbability(i, i + 1, 1.0) for i in range(len(TEXT)))
    pieces: list[str] = []
    RecordedEngine([recorded(query, token_probabilities=tokens)]).ask(query, pieces.append)
    assert pieces == list(TEXT)


def test_an_answer_comes_word_by_word_where_its_tokens_are_not_known(query: Query):
    pieces: list[str] = []
    RecordedEngine([recorded(query)]).ask(query, pieces.append)
    assert pieces[:5] == ["The ", "red ", "cube ", "is ", "at "]
    assert "".join(pieces) == TEXT


def test_a_recorded_answer_can_be_cancelled_between_two_words(query: Query):
    cancel = threading.Event()
    engine = RecordedEngine([recorded(query)])
    answer = engine.ask(query, lambda piece: cancel.set() if piece == "red " else None, cancel)
    assert (answer.text, answer.finish_reason) == ("The red ", FinishReason.CANCELLED)


def test_it_passes_the_check(query: Query):
    assert check_engine(RecordedEngine([recorded(query)]), query) == ()


def test_it_finds_answers_of_the_other_generation(query: Query):
    engine = RecordedEngine([recorded(query, generation=Generation.V1_1)])
    assert engine.ask(query).text == TEXT


def test_a_file_keeps_everything(query: Query, tmp_path: Path):
    answer = recorded(
        query,
        finish_reason=FinishReason.LENGTH,
        revision="abc123",
        quantization="int4",
        latency_s=1.25,
        token_probabilities=(TokenProbability(3, 6, 0.75),),
    )
    save_recorded(tmp_path / "answers.jsonl", [answer, answer])
    assert load_recorded(tmp_path / "answers.jsonl") == (answer, answer)


def test_a_file_is_readable_text(query: Query, tmp_path: Path):
    save_recorded(tmp_path / "answers.jsonl", [recorded(query, text="Größe → 3")])
    line = (tmp_path / "answers.jsonl").read_text(encoding="utf-8")
    assert "Größe → 3" in line
    images = [part for part in json.loads(line)["messages"][0]["content"] if "image" in part]
    digests = [f"sha256:{frame.sha256}" for frame in query.frames]
    assert [i["image"] for i in images if isinstance(i, dict)] == digests


def test_empty_lines_are_passed_over(query: Query, tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    save_recorded(file, [recorded(query)])
    file.write_text("\n" + file.read_text() + "\n\n")
    assert len(load_recorded(file)) == 1


def test_a_miss_says_what_was_asked_and_what_is_nearest(query: Query):
    engine = RecordedEngine([recorded(query)], "cup.jsonl")
    other = replace(query, instruction="Pick up the red mug")
    with pytest.raises(RecordedAnswerMissingError) as miss:
        engine.ask(other)
    text = str(miss.value)
    assert text.startswith("cup.jsonl holds no answer to task affordance, 'Pick up the red mug'")
    assert "3 frames (" in text
    assert f"the nearest question it holds is '{CUBE}" in text


def test_a_miss_with_the_same_words_blames_the_pictures(query: Query):
    one_changed = replace(query.frames[2], sha256="0" * 64)
    other = replace(query, frames=FrameSet((*query.frames.frames[:2], one_changed)))
    with pytest.raises(RecordedAnswerMissingError, match="with other pictures: check --camera"):
        RecordedEngine([recorded(query)]).ask(other)


def test_a_question_that_is_cancelled_is_not_answered(query: Query):
    cancel = threading.Event()
    cancel.set()
    answer = RecordedEngine([recorded(query)]).ask(query, cancel=cancel)
    assert (answer.text, answer.finish_reason) == ("", FinishReason.CANCELLED)


def test_without_answers_there_is_no_engine(tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty\.jsonl holds no recorded answers"):
        open_engine(f"recorded:{tmp_path}/empty.jsonl")


@pytest.mark.parametrize(
    "change",
    [
        {"finish_reason": "tired"},
        {"generation": "9"},
        {"latency_s": "long"},
        {"latency_s": math.inf},
        {"text": None},
        {"text": "\ud800"},
        {"messages": 7},
        {"messages": [7]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"token_probabilities": [[1, 2]]},
    ],
    ids=str,
)
def test_a_wrong_field_names_its_line(change: dict, query: Query, tmp_path: Path):
    good = recorded(query).to_json()
    bad = json.dumps({**json.loads(good), **change})
    (tmp_path / "answers.jsonl").write_text(f"{good}\n{bad}\n")
    with pytest.raises(InputError, match=r"answers\.jsonl, line 2 is not a recorded answer"):
        RecordedEngine.open(tmp_path / "answers.jsonl")


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "answers.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read recorded answers from .*answers\.jsonl"):
        load_recorded(tmp_path / "answers.jsonl")


def test_another_task_is_another_question(query: Query):
    with pytest.raises(RecordedAnswerMissingError):
        RecordedEngine([recorded(query)]).ask(replace(query, task=Task.OBJECT))


def test_line_separators_inside_an_answer_end_no_line(query: Query, tmp_path: Path):
    text = "one\u2028two\u2029three\u0085four\x0bfive\r\nsix"
    save_recorded(tmp_path / "a.jsonl", [recorded(query, text), recorded(query)])
    assert [answer.text for answer in load_recorded(tmp_path / "a.jsonl")] == [text, TEXT]
