"""Cases: made of bags, runs and episodes, kept with their pictures, asked again as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import CUBE, ScriptedEngine, answers, begun_again, replay

from rynn_brain_ros.checking import Case, gather, load_cases, save_cases
from rynn_brain_ros.cli import main
from rynn_brain_ros.models import RecordedEngine, recorded_answer
from rynn_brain_ros.sim.tabletop import COLOR_TOPIC
from rynn_brain_ros.values import InputError, Turn

EVERY = ("--every", "0.5", "--frames", "2")


@pytest.fixture(scope="module")
def cases_file(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases: two questions at three moments."""
    folder = tmp_path_factory.mktemp("cases")
    (folder / "questions.txt").write_text(f"# two\naffordance: {CUBE}\n\nobject: the red cube\n")
    file = folder / "cases.jsonl"
    questions = ("--questions", str(folder / "questions.txt"))
    engine = ("--engine", "color-baseline", "--out", str(file))
    assert main(["record-answers", str(small_bag), *engine, *questions, *EVERY]) == 0
    return file


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def test_kept_answers_are_given_again_by_the_recorded_engine(
    cases_file: Path, small_bag: Path, tmp_path: Path
):
    assert replay(small_bag, tmp_path / "first", *EVERY, "--engine", "color-baseline") == 0
    again = ("--engine", f"recorded:{cases_file}")
    expect = ("--expect", str(tmp_path / "first" / "answers.jsonl"))
    assert replay(small_bag, tmp_path / "again", *EVERY, *again, *expect) == 0


def test_a_case_is_the_question_that_was_asked(cases_file: Path):
    cases = load_cases(cases_file).cases
    engine = RecordedEngine.open(cases_file)
    assert len(cases) == 6
    for case in cases:
        assert engine.ask(case.query).text == case.expected.text
    assert [len(case.query.frames) for case in cases] == [1, 1, 2, 2, 2, 2]


def test_what_is_kept_is_read_back_as_it_was(cases_file: Path, tmp_path: Path):
    first = load_cases(cases_file).cases[-1]
    query = first.query
    turned = replace(
        query, thinking=True, abstain=True, history=(Turn(query.frames, "Done.", "it was not"),)
    )
    case = Case(turned, first.expected)
    save_cases(tmp_path / "kept.jsonl", [case])
    (kept,) = load_cases(tmp_path / "kept.jsonl").cases
    assert kept.expected == case.expected
    assert kept.query.history[0].refused == "it was not"
    assert replace(kept.query, frames=query.frames, history=()) == replace(turned, history=())
    assert [f.image for f in kept.query.frames] == [f.image for f in query.frames]


def test_each_picture_is_kept_once(cases_file: Path):
    assert len(list((cases_file.parent / "cases.frames").iterdir())) == 3


def test_the_digest_is_of_what_is_asked_and_expected(cases_file: Path):
    cases = load_cases(cases_file)
    first, *rest = cases.cases
    other = replace(first, expected=replace(first.expected, text="No."))
    assert cases.sha256 == load_cases(cases_file).sha256
    assert replace(cases, cases=(other, *rest)).sha256 != cases.sha256


# --- runs and episodes ----------------------------------------------------------------------------


def test_a_run_that_was_answered_needs_no_engine(small_bag: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert replay(small_bag, run, *EVERY, "--abstain", "--engine", "color-baseline") == 0
    cases = gather(run, None)
    assert [case.expected.text for case in cases] == [answer["text"] for answer in answers(run)]
    assert all(case.query.abstain and not case.query.thinking for case in cases)
    assert names(gather(run / "run.mcap", None)) == names(cases)


def test_with_an_engine_the_same_questions_get_its_answers(small_bag: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert replay(small_bag, run, *EVERY) == 0
    engine = ScriptedEngine("<affordance> <frame 0>: (1, 2) </affordance>")
    cases = gather(run, engine)
    assert names(cases) == names(gather(run, None))
    assert {case.expected.text for case in cases} == {engine.texts[0]}
    assert cases[0].expected == recorded_answer(
        cases[0].query, engine.ask(cases[0].query), engine.info.generation
    )


def test_an_episodes_questions_are_those_of_its_turns(tmp_path: Path):
    pytest.importorskip("mujoco")
    folder = tmp_path / "episode"
    engine = ["--engine", "color-baseline"]
    assert main(["demo", *engine, "--seed", "0", "--json", "--out", str(folder)]) == 0
    cases = gather(folder, None)
    kept = (folder / "answers.recorded.jsonl").read_text().splitlines()
    assert [case.expected.text for case in cases] == [json.loads(line)["text"] for line in kept]
    assert len(cases[-1].query.history) == len(cases) - 1
    engine = RecordedEngine.open(folder / "answers.recorded.jsonl")
    assert [engine.ask(case.query).text for case in cases] == [c.expected.text for c in cases]


def test_a_run_whose_pictures_are_others_is_refused(small_bag: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert replay(small_bag, run) == 0
    record = answers(run)[0]
    record["frames"][0]["sha256"] = "0" * 64
    (run / "answers.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match="does not hold the pictures"):
        gather(run, None)


def test_a_run_of_a_simulator_that_began_anew_has_both_pictures_of_a_stamp(
    small_bag: Path, tmp_path: Path
):
    bag = begun_again(small_bag, tmp_path / "reset.mcap", COLOR_TOPIC)
    assert replay(bag, tmp_path / "run", "--every", "0.5") == 0
    cases = gather(tmp_path / "run", None)
    shown = {(f.frame.stamp_ns, f.sha256) for case in cases for f in case.query.frames}
    assert len(shown) == 5


def test_an_answer_to_another_question_is_refused(small_bag: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert replay(small_bag, run) == 0
    (run / "answers.jsonl").write_text(json.dumps({**answers(run)[0], "ask": "Drop it"}) + "\n")
    with pytest.raises(InputError, match="line 1 is not the answer to the question"):
        gather(run, None)


# --- interrupted ----------------------------------------------------------------------------------


class Interrupted(ScriptedEngine):
    """Ctrl-C arrives while the question after so many is answered."""

    def __init__(self, n_answers: int) -> None:
        super().__init__("Nothing.")
        self._n_answers = n_answers

    def ask(self, query, on_text=None, cancel=None):
        if len(self.queries) == self._n_answers:
            raise KeyboardInterrupt
        return super().ask(query, on_text, cancel)


@pytest.fixture(params=["a bag", "a run"])
def source(request: pytest.FixtureRequest, small_bag: Path, tmp_path: Path) -> list[str]:
    """Three questions."""
    if request.param == "a bag":
        return [str(small_bag), "--ask", CUBE, *EVERY]
    assert replay(small_bag, tmp_path / "run", *EVERY) == 0
    return [str(tmp_path / "run")]


def test_ctrl_c_keeps_the_answers_so_far_and_says_where(
    source: list[str], tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr("rynn_brain_ros.cli.checking.open_engine", lambda *_: Interrupted(2))
    out = tmp_path / "cases.jsonl"
    assert main(["record-answers", *source, "--engine", "mine", "--out", str(out)]) == 130
    part = tmp_path / "cases.partial.jsonl"
    assert capsys.readouterr().err == (f"interrupted: 2 answers of RynnBrain-test kept in {part}\n")
    assert len(load_cases(part).cases) == 2
    assert not out.exists()


def test_ctrl_c_before_the_first_answer_says_that_nothing_was_kept(
    source: list[str], tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr("rynn_brain_ros.cli.checking.open_engine", lambda *_: Interrupted(0))
    out = tmp_path / "cases.jsonl"
    assert main(["record-answers", *source, "--engine", "mine", "--out", str(out)]) == 130
    assert capsys.readouterr().err == "interrupted before the first answer: nothing was kept\n"
    assert not list(tmp_path.glob("cases.*"))


# --- bad input ------------------------------------------------------------------------------------


def test_a_bag_without_questions_is_refused(small_bag: Path, tmp_path: Path, capsys):
    out = tmp_path / "cases.jsonl"
    assert main(["record-answers", str(small_bag), "--out", str(out)]) == 2
    assert "give questions with --ask or --questions" in capsys.readouterr().err
    assert not out.exists()


def test_questions_without_an_engine_are_refused(small_bag: Path, tmp_path: Path, capsys):
    out = ("--out", str(tmp_path / "cases.jsonl"))
    assert main(["record-answers", str(small_bag), "--ask", CUBE, *out]) == 2
    assert "questions need an --engine" in capsys.readouterr().err


def test_answers_that_were_kept_are_not_replaced(cases_file: Path, small_bag: Path, capsys):
    kept = cases_file.read_bytes()
    asked = ("--ask", CUBE, "--engine", "color-baseline", "--out", str(cases_file))
    assert main(["record-answers", str(small_bag), *asked]) == 4
    assert "exists already and is not replaced: choose another --out" in capsys.readouterr().err
    assert cases_file.read_bytes() == kept


def test_answers_are_kept_under_a_name_that_says_what_they_are(
    small_bag: Path, tmp_path: Path, capsys
):
    (tmp_path / "questions.txt").write_text(f"affordance: {CUBE}\n")
    asked = ("--engine", "color-baseline", "--out", str(tmp_path / "questions.txt"))
    questions = ("--questions", str(tmp_path / "questions.txt"))
    assert main(["record-answers", str(small_bag), *questions, *asked]) == 2
    assert "ends in .jsonl" in capsys.readouterr().err
    assert (tmp_path / "questions.txt").read_text() == f"affordance: {CUBE}\n"


@pytest.mark.parametrize("line", ["Pick up the cube", "grab: the cube", "object:", "navigate: on"])
def test_a_line_that_is_no_question_is_named(small_bag: Path, tmp_path: Path, capsys, line: str):
    (tmp_path / "q.txt").write_text(f"object: the cup\n{line}\n")
    questions = ("--questions", str(tmp_path / "q.txt"), "--engine", "color-baseline")
    out = ("--out", str(tmp_path / "cases.jsonl"))
    assert main(["record-answers", str(small_bag), *questions, *out]) == 2
    assert "q.txt, line 2 is no question" in capsys.readouterr().err


def copied(cases_file: Path, folder: Path) -> Path:
    save_cases(folder / "cases.jsonl", load_cases(cases_file).cases)
    return folder / "cases.jsonl"


def test_a_missing_picture_leaves_its_cases_out_and_the_others_count(
    cases_file: Path, tmp_path: Path
):
    file = copied(cases_file, tmp_path)
    first = load_cases(file).cases[0].query.frames[0].sha256[:32]
    (tmp_path / "cases.frames" / f"{first}.jpg").unlink()
    cases = load_cases(file)
    assert len(cases.cases) == 2
    (problem,) = cases.problems
    assert first in problem
    assert problem.count("q000") == 4


def test_a_picture_that_was_changed_is_no_longer_that_case(cases_file: Path, tmp_path: Path):
    file = copied(cases_file, tmp_path)
    shown = load_cases(file).cases[-1].query.frames
    older, newest = (tmp_path / "cases.frames" / f"{frame.sha256[:32]}.jpg" for frame in shown)
    for data, said in ((older.read_bytes(), "its bytes have changed"), (b"x", "cannot be decoded")):
        newest.write_bytes(data)
        cases = load_cases(file)
        assert len(cases.cases) == 4
        (problem,) = cases.problems
        assert str(newest) in problem
        assert said in problem


def test_where_no_case_is_left_the_file_is_refused(cases_file: Path, tmp_path: Path):
    file = copied(cases_file, tmp_path)
    for picture in (tmp_path / "cases.frames").iterdir():
        picture.unlink()
    with pytest.raises(InputError, match="holds no case that can be asked: left out q0001"):
        load_cases(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record.pop("query"), "holds an answer and not its question"),
        (lambda record: record["query"].pop("task"), "its query cannot be read"),
        (lambda record: record.update(query=3), "its query cannot be read"),
        (lambda record: record.pop("text"), "is not a recorded answer"),
    ],
    ids=["no question", "no task", "a number", "no text"],
)
def test_a_line_that_is_no_case_is_refused_by_its_number(
    cases_file: Path, tmp_path: Path, change, said: str
):
    file = copied(cases_file, tmp_path)
    lines = file.read_text().splitlines()
    record = json.loads(lines[1])
    change(record)
    file.write_text("\n".join([lines[0], json.dumps(record)]))
    with pytest.raises(InputError, match=f"line 2.*{said}"):
        load_cases(file)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_cases_is_refused(tmp_path: Path, text: str):
    (tmp_path / "none.jsonl").write_text(text)
    with pytest.raises(InputError, match="make some with rynn-brain record-answers"):
        load_cases(tmp_path / "none.jsonl")


# --- the authors' cookbooks -----------------------------------------------------------------------


@pytest.mark.shared
def test_cookbook_cases_are_asked_in_the_authors_words(shared_data: Path, tmp_path: Path):
    cases = load_cases(shared_data / "cookbook" / "cases.json")
    assert len(cases.cases) == 11
    (problem,) = cases.problems
    assert "contact_pen" in problem
    assert "pictures are not part" in problem
    save_cases(tmp_path / "cookbook.jsonl", cases.cases)
    assert load_cases(tmp_path / "cookbook.jsonl").sha256 == cases.sha256
    texts = {
        case.name: [part for m in case.expected.messages for part in m["content"]]
        for case in cases.cases
    }
    recorded = json.loads((shared_data / "cookbook" / "cases.json").read_text())["cases"]
    for case in recorded:
        if case["id"] in texts and case["id"] != "nav_stream_step":  # it spells a word otherwise
            said = [p["text"] for m in case["messages"] for p in m["content"] if "text" in p]
            assert [part for part in texts[case["id"]] if isinstance(part, str)] == said
