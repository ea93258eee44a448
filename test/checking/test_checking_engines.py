"""``rynn-brain check-engine``: what drifted is named, drawn and decides the verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import cv2
import pytest
from recordings import CUBE, ScriptedEngine

from rynn_brain_ros.checking import (
    Case,
    CaseSet,
    DriftLimits,
    check,
    load_cases,
    questions_of,
    save_cases,
)
from rynn_brain_ros.cli import main
from rynn_brain_ros.models import save_recorded
from rynn_brain_ros.safety import EngineIdentity, read_verdicts
from rynn_brain_ros.values import Answer, EngineError, EngineInfo, FinishReason, Query, Task

POINT = "<affordance> <frame {}>: ({}, {}) </affordance>"
FEW = ("--min-cases", "3")


@pytest.fixture(scope="module")
def cases_file(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases that expect points in the newest of up to two frames, of ``RynnBrain-test``."""
    file = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    ask = ("--ask", CUBE, "--task", "affordance", "--every", "0.5", "--frames", "2")
    engine = ("--engine", "color-baseline", "--out", str(file))
    assert main(["record-answers", str(small_bag), *ask, *engine]) == 0
    cases = [
        expecting(case, POINT.format(len(case.query.frames) - 1, 400 + i, 500))
        for i, case in enumerate(load_cases(file).cases)
    ]
    save_cases(file, cases)
    return file


def expecting(case: Case, text: str) -> Case:
    return Case(case.query, replace(case.expected, text=text, model="RynnBrain-test"))


def recorded(
    cases_file: Path, file: Path, change: Callable[[int, str], str | None], **fields: str
) -> str:
    """An engine that answers as expected but for what ``change`` makes of it, by case."""
    changed = [
        (case.expected, change(i, case.expected.text))
        for i, case in enumerate(load_cases(cases_file).cases)
    ]
    answers = [replace(answer, text=t, **fields) for answer, t in changed if t is not None]
    save_recorded(file, answers)
    return f"recorded:{file}"


def run(cases_file: Path, out: Path, *engines: str, more: tuple[str, ...] = FEW) -> int:
    return main(["check-engine", *engines, "--cases", str(cases_file), "--out", str(out), *more])


def verdict(out: Path) -> dict:
    return json.loads((out / "verdict.json").read_text())


def test_the_engine_that_the_cases_are_from_passes(cases_file: Path, tmp_path: Path):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    assert run(cases_file, tmp_path / "check", spec) == 0
    (entry,) = verdict(tmp_path / "check")["engines"]
    assert entry["passed"]
    assert entry["numbers"]["units_max"] == 0.0
    assert entry["numbers"]["key_frames"] == [3, 3]
    assert not list((tmp_path / "check" / "pictures").glob("*"))
    (read,) = read_verdicts(tmp_path / "check" / "verdict.json")
    assert read.passed
    assert read.identity == EngineIdentity("recorded", "RynnBrain-test")


def test_what_drifted_is_named_and_drawn_and_nothing_else_is(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    moved = {1: POINT.format(1, 440, 500), 2: POINT.format(0, 402, 500)}
    spec = recorded(cases_file, tmp_path / "moved.jsonl", moved.get)
    assert run(cases_file, tmp_path / "check", spec) == 1
    _, second, third = (case.name for case in load_cases(cases_file).cases)
    said = capsys.readouterr().out
    assert f"{second}: 39.0 of 1000 off, allowed are 15" in said
    assert f"{third}: 1 of 1 groundings are told in another frame" in said
    assert "did not pass: 2 of 3 cases failed, 95% must pass" in said
    pictures = sorted(path.name for path in (tmp_path / "check" / "pictures").iterdir())
    assert pictures == [f"{second}_1.png", f"{third}_1.png"]


def test_the_picture_shows_expected_and_got_in_the_frames_that_they_name(
    cases_file: Path, tmp_path: Path
):
    moved = {1: POINT.format(1, 900, 500), 2: POINT.format(0, 402, 500)}
    spec = recorded(cases_file, tmp_path / "moved.jsonl", moved.get)
    run(cases_file, tmp_path / "check", spec)
    same_frame, two_frames = (
        cv2.imread(str(path)) for path in sorted((tmp_path / "check" / "pictures").iterdir())
    )
    assert two_frames.shape[0] == 2 * same_frame.shape[0]
    # The two halves are the same picture but for what is drawn: left at 401, right at 900 of 1000.
    left, right = same_frame[:-80, :720], same_frame[:-80, 726:]
    columns = abs(left.astype(int) - right).sum(axis=(0, 2)).nonzero()[0] / 719 * 1000
    marked = sorted({round(column / 100) * 100 for column in columns})
    assert marked[0] <= 400 and marked[-1] >= 900
    assert 600 not in marked


def test_several_engines_are_columns_of_one_table_and_entries_of_one_verdict(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bf16 = recorded(cases_file, tmp_path / "bf16.jsonl", lambda i, text: text)
    nf4 = recorded(
        cases_file, tmp_path / "nf4.jsonl", lambda i, text: "<no object>", quantization="nf4"
    )
    gone = "http://127.0.0.1:9/v1"
    assert run(cases_file, tmp_path / "check", bf16, nf4, gone) == 1
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["verdict"].split() == ["verdict", "passed", "FAILED", "FAILED"]
    assert lines["quantization"].split()[1:] == ["none", "nf4", "–"]
    assert lines["same abstention"].split()[2:] == ["3", "of", "3", "0", "of", "3", "–"]
    first, second, third = verdict(tmp_path / "check")["engines"]
    assert [first["passed"], second["passed"], third["passed"]] == [True, False, False]
    assert "could not be opened" in third["reasons"][0]
    assert [
        v.identity.quantization for v in read_verdicts(tmp_path / "check" / "verdict.json")
    ] == [*("none", "nf4", "")]


def test_the_verdict_says_what_was_checked_against_what_within_which_limits(
    cases_file: Path, tmp_path: Path
):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    run(cases_file, tmp_path / "check", spec, more=(*FEW, "--max-units", "3.5"))
    record = verdict(tmp_path / "check")
    assert record["cases"]["sha256"] == load_cases(cases_file).sha256
    assert record["expected_from"][0]["model"] == "RynnBrain-test"
    assert record["limits"]["max_units"] == 3.5
    assert record["when"].endswith("+00:00")


def test_limits_decide(cases_file: Path, tmp_path: Path):
    spec = recorded(
        cases_file, tmp_path / "m.jsonl", lambda i, text: text.replace("500)", f"{500 + 20 * i})")
    )  # 0, 20 and 40 units off
    assert run(cases_file, tmp_path / "check", spec) == 1
    assert run(cases_file, tmp_path / "check", spec, more=(*FEW, "--max-units", "40")) == 0
    assert run(cases_file, tmp_path / "check", spec, more=(*FEW, "--min-share", "0.3")) == 0


def test_too_few_cases_are_no_check(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    assert run(cases_file, tmp_path / "check", spec, more=()) == 1
    assert "3 cases tell something about motion, at least 5 are needed" in capsys.readouterr().out


def test_a_case_without_answer_is_named_and_the_others_are_asked(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec = recorded(cases_file, tmp_path / "m.jsonl", lambda i, text: None if i == 1 else text)
    assert run(cases_file, tmp_path / "check", spec) == 1
    second = load_cases(cases_file).cases[1].name
    assert f"{second}: no answer: " in capsys.readouterr().out
    numbers = verdict(tmp_path / "check")["engines"][0]["numbers"]
    assert (numbers["passed"], numbers["cases"], numbers["unanswered"]) == (2, 3, 1)


def test_the_page_shows_every_failing_case_with_its_words_and_picture(
    cases_file: Path, tmp_path: Path
):
    spec = recorded(cases_file, tmp_path / "m.jsonl", lambda i, text: "<script>alert(1)</script>")
    run(cases_file, tmp_path / "check", spec)
    html = (tmp_path / "check" / "report.html").read_text()
    assert "<script>alert" not in html
    assert html.count('<section class="query">') == 3
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    for picture in (tmp_path / "check" / "pictures").iterdir():
        assert f'src="pictures/{picture.name}"' in html


def test_json_is_the_verdict_file(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    run(cases_file, tmp_path / "check", spec, more=(*FEW, "--json"))
    assert json.loads(capsys.readouterr().out) == verdict(tmp_path / "check")


def test_what_an_earlier_check_left_is_gone(cases_file: Path, tmp_path: Path):
    bad = recorded(cases_file, tmp_path / "bad.jsonl", lambda i, text: "no")
    good = recorded(cases_file, tmp_path / "good.jsonl", lambda i, text: text)
    run(cases_file, tmp_path / "check", bad)
    assert list((tmp_path / "check" / "pictures").iterdir())
    run(cases_file, tmp_path / "check", good)
    assert not list((tmp_path / "check" / "pictures").iterdir())


def test_what_no_check_wrote_is_left_alone_and_told_before_an_engine_opens(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mine = [tmp_path / "pictures" / "holiday.png", tmp_path / "report.html"]
    mine[0].parent.mkdir()
    for file in mine:
        file.write_text("mine")
    assert run(cases_file, tmp_path, f"recorded:{tmp_path}/none.jsonl") == 4
    said = capsys.readouterr().err
    assert "holds files that no run wrote (pictures, report.html)" in said
    assert "none.jsonl" not in said
    assert [file.read_text() for file in mine] == ["mine", "mine"]


def test_a_verdict_that_cannot_be_written_is_an_error_and_leaves_none(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    (tmp_path / "file").write_text("in the way")
    assert run(cases_file, tmp_path / "file", spec) == 4
    assert "cannot write" in capsys.readouterr().err


def test_an_engine_that_nobody_knows_did_not_pass_and_the_others_are_checked(
    cases_file: Path, tmp_path: Path
):
    spec = recorded(cases_file, tmp_path / "same.jsonl", lambda i, text: text)
    assert run(cases_file, tmp_path / "check", "an oracle", spec) == 1
    oracle, known = verdict(tmp_path / "check")["engines"]
    assert "could not be opened: unknown engine 'an oracle'" in oracle["reasons"][0]
    assert known["passed"]


@pytest.mark.parametrize(("engine", "code"), [("an oracle", 2), ("http://127.0.0.1:9/v1", 3)])
def test_where_no_engine_can_be_opened_nothing_is_checked_or_written(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, code: int
):
    assert run(cases_file, tmp_path / "out", engine, "a second oracle") == code
    said = capsys.readouterr().err
    assert "nothing was checked, and no verdict was written: " in said
    assert "unknown engine 'a second oracle'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("json_only", [False, True])
def test_cases_that_are_not_an_engines_task_are_told_wherever_the_verdict_is(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], json_only: bool
):
    pytest.importorskip("transformers")
    first, second, third = load_cases(cases_file).cases
    tasks = {"c": Task.COUNT, "g": Task.GRASP}
    others = [
        Case(replace(first.query, query_id=n, task=t), first.expected) for n, t in tasks.items()
    ]
    file = tmp_path / "more.jsonl"
    save_cases(file, [first, second, third, *others])
    assert run(file, tmp_path / "check", "nano", more=(*FEW, *["--json"] * json_only)) == 1
    unplanned = "no plan among the cases: an arm will carry out none of this engine's"
    told = f"2 of 5 not asked: count, grasp are not this engine's tasks; {unplanned}"
    assert told in capsys.readouterr().out
    assert verdict(tmp_path / "check")["engines"][0]["not_asked"] == told
    assert escape(told) in (tmp_path / "check" / "report.html").read_text()


# --- engines as objects ---------------------------------------------------------------------------


@pytest.fixture
def cases(cases_file: Path) -> CaseSet:
    return load_cases(cases_file)


def test_what_is_not_an_engines_task_is_skipped_and_does_not_count(cases: CaseSet):
    engine = ScriptedEngine(*(case.expected.text for case in cases.cases))
    engine.info = replace(engine.info, tasks=frozenset({Task.DESCRIBE}))
    result = check("scripted", engine, cases, DriftLimits())
    assert engine.queries == []
    assert result.asked == ()
    assert not result.passed
    assert result.not_asked == "3 of 3 not asked: affordance is not this engine's task"


def test_a_check_without_plans_says_so_of_an_engine_that_plans(cases: CaseSet):
    engine = ScriptedEngine(*(case.expected.text for case in cases.cases))
    told = "no plan among the cases: an arm will carry out none of this engine's"
    assert check("scripted", engine, cases, DriftLimits()).not_asked == told


def test_an_engine_that_plans_another_deed_does_not_pass(cases: CaseSet):
    area = "<area> <frame 0>: (400, 500) </area>"
    planned = CaseSet(
        cases.path,
        tuple(
            Case(
                replace(c.query, task=Task.PLAN), replace(c.expected, text=f"Place it into {area}.")
            )
            for c in cases.cases
        ),
    )
    limits = DriftLimits(min_cases=3)
    same = check("same", ScriptedEngine(f"Put it in {area}."), planned, limits)
    assert (same.passed, same.not_asked) == (True, "")
    other = check("other", ScriptedEngine(f"Push it next to {area}."), planned, limits)
    assert not other.passed
    assert other.results[0].failures == ("expected the order 'place into', got 'push next to'",)


def test_an_interrupted_check_tells_what_was_asked_and_gives_no_verdict(
    cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    class Stopped(ScriptedEngine):
        def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
            if len(self.queries) == 2:
                raise KeyboardInterrupt
            return super().ask(query, on_text, cancel)

    engine = Stopped(POINT.format(1, 400, 500))
    monkeypatch.setattr(sys.modules[check.__module__], "open_engine", lambda *_: engine)
    assert run(cases_file, tmp_path / "check", "mine") == 130
    told = capsys.readouterr()
    assert "cases passed" in told.out and "of 2" in told.out
    assert "no verdict was written" in told.err
    assert not (tmp_path / "check").exists()


@pytest.mark.parametrize("command", ["check-engine", "record-answers"])
@pytest.mark.parametrize("name", ["file", "file/below"])
def test_where_nothing_can_be_written_is_told_before_an_engine_opens(
    command: str, name: str, cases_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("mine")
    engine = f"recorded:{tmp_path}/none.jsonl"
    if command == "check-engine":
        code = run(cases_file, tmp_path / name, engine)
    else:
        out = ("--out", str(tmp_path / name / "cases.jsonl"))
        code = main([command, "BAG", "--ask", CUBE, "--engine", engine, *out])
    said = capsys.readouterr().err
    assert (code, "none.jsonl" in said) == (4, False)
    assert f"{tmp_path / 'file'} is a file, not a folder" in said


def test_questions_of_an_editor_that_marks_utf_8_are_read(tmp_path: Path):
    file = tmp_path / "questions.txt"
    file.write_text("object: the cup\n", encoding="utf-8-sig")
    assert [question.text for question in questions_of(file)] == ["the cup"]


class Mixed(ScriptedEngine):
    """Says who it is anew with every answer; fails in the middle."""

    def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
        self.queries.append(query)
        if len(self.queries) == 2:
            raise EngineError("out of memory")
        return Answer(query.query_id, "x", FinishReason.STOP, "mixed", f"m{len(self.queries)}")


def test_answers_of_several_models_get_no_verdict(cases: CaseSet):
    result = check("mixed", Mixed(), cases, DriftLimits(min_cases=1, min_share=0.0))
    assert result.identity == EngineIdentity("mixed", "m1")
    assert result.reasons == ("some answers came from mixed m3, quantization none",)


def test_an_engine_that_never_answered_is_called_as_it_calls_itself(cases: CaseSet):
    class Broken(ScriptedEngine):
        def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
            raise EngineError("out of memory")

    engine = Broken()
    engine.info = EngineInfo("local", "RynnBrain-8B", revision="abc", quantization="int8")
    result = check("local:x#int8", engine, cases, DriftLimits())
    assert result.identity == EngineIdentity("local", "RynnBrain-8B", "abc", "int8")
    assert {r.failures for r in result.results} == {("no answer: out of memory",)}


@pytest.mark.shared
def test_the_cookbooks_own_answers_pass_their_check(shared_data: Path):
    cases = load_cases(shared_data / "cookbook" / "cases.json")
    engine = ScriptedEngine(*(case.expected.text for case in cases.cases))
    result = check("authors", engine, cases, DriftLimits())
    assert result.passed, result.reasons
    assert result.numbers["key_frames"] == [10, 10]
