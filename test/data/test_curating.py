"""``rynn-brain curate``: from what a model said to conversations that a person stands for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from recordings import ScriptedEngine

from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.checking import gather
from rynn_brain_ros.cli import main
from rynn_brain_ros.data.curation import Curation, curate, load_curation
from rynn_brain_ros.data.curation_episodes import episode_cases
from rynn_brain_ros.data.curation_export import export
from rynn_brain_ros.data.curation_page import curation_page
from rynn_brain_ros.data.curation_review import Review, read_review
from rynn_brain_ros.language import parse
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import ReplayConfig, replay
from rynn_brain_ros.replay.episode_folder import EPISODE
from rynn_brain_ros.values import BagError, FrameSet, InputError, Query, Task

ANSWERS = (
    (Task.AFFORDANCE, "The cube is at <affordance> <frame 2>: ; (300, 400) </affordance>"),
    (Task.OBJECT, "<object> <frame 1>: (500, 600), (300, 400) </object>"),
    (
        Task.TRAJECTORY,
        "Move <affordance> <frame 0>: (7, 8) </affordance> along "
        "<trajectory> <frame 2>: (100, 100), (200, 250), (300, 300) </trajectory> now.",
    ),
    (Task.AREA, "<area> <frame 2>: (1200, 500), (300, 300) </area>"),
    (Task.AFFORDANCE, "I like cubes."),
    (Task.OBJECT, "I see none. <no object>"),
    (Task.OBJECT, '[{"bbox": [10, 20, 30, 40], "frame_idx": 1}]'),
)
NAMES = ["1.1", "2.1", "3.1", "3.2", "4.1", "5.0", "6.0", "7.1"]
POINTS = ["1.1", "2.1", "3.1", "3.2", "4.1", "7.1"]
"""The proposals that have some."""


@pytest.fixture(scope="module")
def run(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with seven answers about three pictures; the engine is a written one."""
    questions = tuple(Question(f"Question {i}", task) for i, (task, _) in enumerate(ANSWERS))
    engine = ScriptedEngine(*(text for _, text in ANSWERS))
    folder = tmp_path_factory.mktemp("curating") / "run"
    replay(small_bag, ReplayConfig(questions), Engines.one(engine), folder)
    return folder


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    made = run.parent / "set"
    assert main(["curate", str(run), "--out", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def curation(folder: Path) -> Curation:
    return load_curation(folder)


def decide(made: Path, out: Path, **changes: Any) -> Path:
    """A review as the page saves it, with the decisions that ``changes`` names."""
    record = {
        "format": "rynn_brain_review/1",
        "curation": load_curation(made).sha256,
        "folder": str(made),
        "reviewer": "Ada",
        "saved": "2026-01-31T12:00:00.000Z",
        "decisions": [{"proposal": "1.1", "verdict": "accepted"}],
        **changes,
    }
    out.write_text(json.dumps(record))
    return out


def verdicts(**named: str | list[list[int]]) -> dict[str, Any]:
    """``p1_1="accepted"`` or, corrected, ``p1_1=[[1, 2]]``."""
    parts = []
    for key, value in named.items():
        part: dict[str, Any] = {"proposal": key[1:].replace("_", ".")}
        corrected = isinstance(value, list)
        part |= {"verdict": "corrected", "points": value} if corrected else {"verdict": value}
        parts.append(part)
    return {"decisions": parts}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answer_of(line: dict[str, Any]) -> str:
    (part,) = line["conversation"][-1]["content"]
    return str(part["text"])


# --- the page -------------------------------------------------------------------------------------


def test_the_page_holds_every_proposal_once(folder: Path, curation: Curation):
    page = (folder / "curate.html").read_text(encoding="utf-8")
    assert list(curation.proposals) == NAMES
    assert re.findall(r'data-proposal="([\d.]+)"', page) == NAMES
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])
    assert [item["name"] for item in data["proposals"]] == NAMES
    assert len(data["pictures"]) == 3


def test_the_page_needs_no_network(folder: Path):
    page = (folder / "curate.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:;" in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)


def test_the_same_runs_give_the_same_curation(run: Path, folder: Path, tmp_path: Path):
    assert main(["curate", str(run), "--out", str(tmp_path / "again")]) == 0
    for name in ("curation.json", "proposals.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_what_a_model_writes_cannot_become_part_of_the_page(small_bag: Path, tmp_path: Path):
    evil = "</script><script>alert(1)</script> <affordance> <frame 2>: (1, 2) </affordance>"
    config = ReplayConfig((Question("<b>Where?</b>", Task.AFFORDANCE),))
    replay(small_bag, config, Engines.one(ScriptedEngine(evil)), tmp_path / "run")
    assert main(["curate", str(tmp_path / "run"), "--out", str(tmp_path / "set")]) == 0
    page = curation_page(load_curation(tmp_path / "set"), tmp_path / "set").decode()
    assert "alert(1)</script>" not in page
    assert "<b>Where" not in page


# --- export ---------------------------------------------------------------------------------------


def test_accepted_and_corrected_answers_are_exported_and_others_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    kept = verdicts(
        p1_1="accepted",
        p2_1="rejected",
        p3_1="accepted",
        p3_2=[[1, 2], [3, 4], [500, 600]],
        p4_1="rejected",
        p6_0="accepted",
    )
    review = decide(folder, tmp_path / "review.json", **kept)
    out = tmp_path / "set.jsonl"
    assert main(["curate", "--export", str(review), "--out", str(out)]) == 0
    assert [answer_of(line) for line in lines(out)] == [
        "The cube is at <affordance> <frame 2>: (300, 400) </affordance>",
        "Move <affordance> <frame 0>: (7, 8) </affordance> along "
        "<trajectory> <frame 2>: (1, 2), (3, 4), (500, 600) </trajectory> now.",
        "I see none. <no object>",
    ]
    assert capsys.readouterr().out == (
        f"{out}: 3 conversations with 3 answers, 1 of them corrected; "
        "left out: 2 rejected; 2 not decided\n"
    )


def test_an_answer_in_json_is_exported_in_tags(folder: Path, tmp_path: Path):
    review = decide(folder, tmp_path / "review.json", **verdicts(p7_1="accepted"))
    export(load_curation(folder), read_review(review), tmp_path / "set.jsonl")
    (line,) = lines(tmp_path / "set.jsonl")
    assert answer_of(line) == "<object> <frame 1>: (10, 20), (30, 40) </object>"


def test_a_conversation_shows_the_recorded_pictures_in_their_order(
    run: Path, folder: Path, tmp_path: Path
):
    review = decide(folder, tmp_path / "review.json", **verdicts(p1_1=[[9, 10]]))
    export(load_curation(folder), read_review(review), tmp_path / "set.jsonl")
    (line,) = lines(tmp_path / "set.jsonl")
    user, assistant = line["conversation"]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    content = user["content"]
    assert [part["text"] for part in content[:-1:2]] == [f"<frame {i}>: " for i in range(3)]
    assert content[-1]["text"].startswith("Question 0\n")
    recorded = lines(run / "answers.jsonl")[0]
    about = line["provenance"]
    assert about["frames"] == recorded["frames"]
    for part, frame in zip(content[1:-1:2], recorded["frames"], strict=True):
        assert (part["type"], part["width"], part["height"]) == ("image", 160, 120)
        digest = hashlib.sha256(Path(part["image"]).read_bytes()).hexdigest()
        assert digest == frame["sha256"]
    assert (about["run"], about["reviewer"]) == (str(run), "Ada")
    (said,) = about["answers"]
    assert (said["engine"], said["model"]) == ("scripted", "RynnBrain-test")
    assert said["said"] == ANSWERS[0][1]
    (proposal,) = said["proposals"]
    assert (proposal["verdict"], proposal["points"]) == ("corrected", [[300, 400]])
    assert (proposal["corrected"], proposal["picture"]) == ([[9, 10]], recorded["frames"][2])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example writes anew
)
@given(data=st.data())
def test_what_is_exported_is_read_back_as_it_was_corrected(
    data: st.DataObject, folder: Path, curation: Curation, tmp_path: Path
):
    number = st.integers(0, 1000)
    moved = {
        name: data.draw(st.lists(st.tuples(number, number), min_size=least, max_size=most or 20))
        for name in POINTS
        for least, most in [curation.proposals[name].counts]
    }
    for name in ("2.1", "7.1"):
        (xa, ya), (xb, yb) = moved[name]
        assume(xa != xb and ya != yb)
    points = {f"p{name.replace('.', '_')}": [list(p) for p in moved[name]] for name in moved}
    review = decide(folder, tmp_path / "review.json", **verdicts(**points))
    export(curation, read_review(review), tmp_path / "set.jsonl")
    read = [
        item
        for line in lines(tmp_path / "set.jsonl")
        for item in parse(answer_of(line), 3).groundings
    ]
    for name, item in zip(moved, read, strict=True):
        wanted = curation.proposals[name].grounding
        assert wanted is not None
        assert (item.kind, item.frame) == (wanted.kind, wanted.frame)
        xs, ys = zip(*moved[name], strict=True)
        box = ((min(xs), min(ys)), (max(xs), max(ys)))
        assert item.points == (box if item.kind == "object" else tuple(moved[name]))


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("episodes") / "episode"
    engine = ["--engine", "color-baseline"]
    assert main(["demo", *engine, "--seed", "0", "--json", "--out", str(folder)]) == 0
    return folder


def test_a_plan_of_several_turns_is_one_conversation_up_to_what_was_rejected(
    episode: Path, tmp_path: Path
):
    made = tmp_path / "set"
    assert main(["curate", str(episode), "--out", str(made)]) == 0
    curation = load_curation(made)
    texts = [answer.case.expected.text for answer in curation.answers]
    every = {f"p{name.replace('.', '_')}": "accepted" for name in curation.proposals}
    review = decide(made, tmp_path / "review.json", **verdicts(**every))
    export(curation, read_review(review), tmp_path / "all.jsonl")
    (line,) = lines(tmp_path / "all.jsonl")
    roles = [message["role"] for message in line["conversation"]]
    assert roles == ["user", "assistant"] * len(texts)
    said = [m["content"][0]["text"] for m in line["conversation"] if m["role"] == "assistant"]
    assert said == texts
    assert line["conversation"][2]["content"][0]["text"] == "<frame 0>: "
    last = list(every)[-1]
    review = decide(made, tmp_path / "review.json", **verdicts(**{**every, last: "rejected"}))
    export(curation, read_review(review), tmp_path / "fewer.jsonl")
    (line,) = lines(tmp_path / "fewer.jsonl")
    assert len(line["conversation"]) == 2 * len(texts) - 2
    first = next(iter(every))
    review = decide(made, tmp_path / "review.json", **verdicts(**{**every, first: "rejected"}))
    with pytest.raises(InputError, match="keeps no answer"):
        export(curation, read_review(review), tmp_path / "none.jsonl")


# --- episodes -------------------------------------------------------------------------------------


def rewritten(
    episode: Path, out: Path, leave_out: str = "", settings: dict[str, Any] | None = None
) -> Path:
    """The folder of the same episode, without a topic, or recorded with other settings."""
    shutil.copytree(episode, out)
    (out / "run.mcap").unlink()
    with BagReader(episode / "run.mcap") as reader, BagWriter(out / "run.mcap") as writer:
        for name, record in reader.info().metadata.items():
            other = {"settings": settings} if name == EPISODE and settings is not None else {}
            writer.add_metadata(name, {**record, **other})
        for one in reader.messages():
            if one.topic != leave_out:
                writer.write_raw(
                    *(one.topic, one.typename, one.raw, one.log_time_ns, one.connection.schema)
                )
    return out


def test_an_episode_is_read_as_it_would_be_decided_again(episode: Path):
    """Its questions are those that a replay of the whole loop shows."""
    read, again = episode_cases(episode / "run.mcap"), gather(episode, None)
    assert len(read) == len(again) > 1
    for one, other in zip(read, again, strict=True):
        assert one.expected == other.expected
        assert plain(one.query) == plain(other.query)


def plain(query: Query) -> Any:
    """All of it; of a frame, what was shown."""

    def shown(frames: FrameSet) -> Any:
        keys = [(f.sha256, f.frame.camera, f.frame.stamp_ns, f.frame.frame_id) for f in frames]
        return frames.max_visual_tokens, keys

    told = [(shown(turn.frames), turn.answer, turn.refused) for turn in query.history]
    return replace(query, frames=FrameSet(), history=()), shown(query.frames), told


def test_an_old_episode_is_curated_whatever_the_settings_are_now(episode: Path, tmp_path: Path):
    old = rewritten(episode, tmp_path / "old", settings={"body": {"max_reach_m": 7}, "gone": {}})
    with pytest.raises(BagError, match="is not decided as it was"):
        gather(old, None)
    curate([old], tmp_path / "set")
    curate([episode], tmp_path / "same")
    cases = (tmp_path / "set" / "proposals.jsonl").read_bytes()
    assert cases == (tmp_path / "same" / "proposals.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("/rynn_brain/answers", "lacks the answers of an episode: nothing is on /rynn_brain/ans"),
        ("/rynn_brain/groundings", "nothing is on /rynn_brain/groundings"),
        ("/rynn_brain/turns", "nothing is on /rynn_brain/turns"),
        ("/front/color/image_raw/compressed", "lacks a picture that was shown: sha256:"),
    ],
)
def test_an_episode_that_lacks_something_is_refused_by_its_name(
    episode: Path, tmp_path: Path, topic: str, told: str
):
    less = rewritten(episode, tmp_path / "less", leave_out=topic)
    with pytest.raises(BagError, match=re.escape(told)):
        curate([less], tmp_path / "set")
    assert not (tmp_path / "set").exists()


# --- bad input ------------------------------------------------------------------------------------


def test_a_run_without_answers_is_refused(run: Path, tmp_path: Path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    assert main(["curate", str(bare), "--out", str(tmp_path / "set")]) == 2
    assert "there is no run.mcap in it" in capsys.readouterr().err
    shutil.copy(run / "run.mcap", bare)
    assert main(["curate", str(bare), "--out", str(tmp_path / "set")]) == 2
    assert f"{bare} holds no answers: curate takes what" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_run_that_is_named_twice_is_refused(run: Path, tmp_path: Path, capsys):
    assert main(["curate", str(run), f"{run}/.", "--out", str(tmp_path / "set")]) == 2
    assert "is named twice" in capsys.readouterr().err


def test_a_folder_is_not_given_another_curation(run: Path, folder: Path, tmp_path: Path, capsys):
    shutil.copytree(run, tmp_path / "other")
    assert main(["curate", str(tmp_path / "other"), "--out", str(folder)]) == 2
    assert "holds the curation of other runs" in capsys.readouterr().err


def test_a_review_of_another_run_is_refused(folder: Path, tmp_path: Path, capsys):
    review = decide(folder, tmp_path / "review.json", curation="0" * 64)
    out = tmp_path / "set.jsonl"
    assert main(["curate", "--export", str(review), "--out", str(out)]) == 2
    assert "is the review of another curation (000000000000" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_was_moved_is_asked_for(folder: Path, tmp_path: Path, capsys):
    review = decide(folder, tmp_path / "review.json", folder=str(tmp_path / "gone"))
    command = ["curate", "--export", str(review), "--out", str(tmp_path / "set.jsonl")]
    assert main(command) == 2
    assert "say with --folder" in capsys.readouterr().err
    assert main([*command, "--folder", str(folder)]) == 0


def test_a_picture_that_was_changed_is_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "set")
    picture = next((tmp_path / "set" / "proposals.frames").iterdir())
    other = next(p for p in picture.parent.iterdir() if p != picture)
    picture.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="its bytes have changed"):
        load_curation(tmp_path / "set")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "rynn_brain_curation/1"}', '{"answers": [1]}']
)
def test_half_a_curation_is_refused(folder: Path, tmp_path: Path, text: str):
    shutil.copytree(folder, tmp_path / "set")
    (tmp_path / "set" / "curation.json").write_text(text)
    with pytest.raises(InputError, match=r"curation\.json cannot be read"):
        load_curation(tmp_path / "set")


def test_an_answer_that_no_file_can_hold_is_refused(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "answers.jsonl"
    file.write_text(file.read_text().replace("I like cubes", "I like \\ud800"))
    with pytest.raises(InputError, match="holds half a character"):
        curate([tmp_path / "run"], tmp_path / "set")


def test_a_changed_curation_is_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "set")
    file = tmp_path / "set" / "proposals.jsonl"
    file.write_text(file.read_text().replace("(300, 400) </aff", "(301, 400) </aff"))
    with pytest.raises(InputError, match="do not belong together"):
        load_curation(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (verdicts(p1_1=[[1001, 5]]), "decision 1: 1001 is no whole number in 0…1000"),
        (verdicts(p1_1=[[0.5, 5]]), "decision 1: 0.5 is no whole number"),
        (verdicts(p1_1=[[1, 2, 3]]), r"points must be a list of \[x, y\]"),
        (verdicts(p1_1=[[1, 2], [3, 4]]), "proposal 1.1 has 2 points, not 1"),
        (verdicts(p2_1=[[1, 2], [3, 4], [5, 6]]), "proposal 2.1 has 3 points, not 2"),
        (verdicts(p3_2=[[1, 2]]), "proposal 3.2 has 1 points, not 2 to 10"),
        (verdicts(p3_2=[[n, n] for n in range(11)]), "proposal 3.2 has 11 points, not 2 to 10"),
        (verdicts(p2_1=[[1, 2], [1, 4]]), "Its area is 0 square units"),
        (verdicts(p4_1="accepted"), "cannot be accepted: a coordinate is outside of 0…1000"),
        (verdicts(p5_0="accepted"), "cannot be accepted: the answer points at nothing"),
        (verdicts(p6_0=[[1, 2]]), "no picture to be corrected in"),
        (verdicts(p9_1="accepted"), "there is no proposal '9.1'"),
        (verdicts(p1_1="maybe"), "'maybe' is no verdict; use accepted, corrected, rejected"),
        ({"decisions": [{"proposal": "1.1"}]}, "decision 1 lacks verdict"),
        ({"decisions": 2 * verdicts(p1_1="accepted")["decisions"]}, "1.1 is decided twice"),
        ({"decisions": [7]}, "a JSON object was expected, not int"),
        ({"decisions": {}}, "decisions must be a list"),
        ({"note": ""}, "holds an unknown note"),
        ({"reviewer": "\ud800"}, "reviewer must be a text"),
        ({"reviewer": " "}, "reviewer must be a text that is not empty"),
        ({"format": "2"}, "is of format '2'"),
        (verdicts(p1_1="rejected"), "keeps no answer"),
    ],
)
def test_a_review_that_cannot_be_followed_is_refused(
    folder: Path, curation: Curation, tmp_path: Path, change: dict[str, Any], told: str
):
    review = decide(folder, tmp_path / "review.json", **change)
    with pytest.raises(InputError, match=told):
        export(curation, read_review(review), tmp_path / "set.jsonl")
    assert not (tmp_path / "set.jsonl").exists()


def test_half_a_review_is_refused(folder: Path, tmp_path: Path):
    review = decide(folder, tmp_path / "review.json")
    review.write_text(review.read_text()[:-20])
    with pytest.raises(InputError, match="is no whole JSON file"):
        read_review(review)


# --- the page's own script ------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
_HAND = """
const one = name => document.querySelector('[data-proposal="' + name + '"]');
const press = (name, what) => one(name).querySelector('[data-do="' + what + '"]').click();
const fire = (node, type, x, y, more) => node.dispatchEvent(
  new PointerEvent(type, {bubbles: true, clientX: x, clientY: y, ...more}));
const handle = (name, end) => one(name).querySelector('[data-end="' + end + '"]');
const key = (name, end, key) => {
  handle(name, end).focus();
  handle(name, end).dispatchEvent(new KeyboardEvent("keydown", {bubbles: true, key}));
};
const onScreen = (name, x, y) => {
  const svg = one(name).querySelector("svg");
  return new DOMPoint(x / 1000 * (svg.dataset.w - 1), y / 1000 * (svg.dataset.h - 1))
    .matrixTransform(svg.getScreenCTM());
};
const click = (name, x, y, more) => {
  const at = onScreen(name, x, y), picture = one(name).querySelector("image");
  fire(picture, "pointerdown", at.x, at.y, more);
  fire(picture, "pointerup", at.x, at.y, more);
};
const drag = (name, end, x, y) => {
  const to = onScreen(name, x, y), from = handle(name, end).getBoundingClientRect();
  fire(handle(name, end), "pointerdown", from.x, from.y);
  fire(document.body, "pointermove", to.x, to.y);
  fire(document.body, "pointerup", to.x, to.y);
};
URL.createObjectURL = blob => {
  blob.text().then(text => {
    const kept = document.createElement("pre");
    kept.id = "review";
    kept.textContent = btoa(text);
    document.body.append(kept);
  });
  return "#";
};
"""


def by_hand(folder: Path, scratch: Path, actions: str) -> str:
    """What the page shows after ``actions``, done in a browser on the very page."""
    assert CHROMIUM is not None
    page = (folder / "curate.html").read_text(encoding="utf-8")
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    driven = scratch / "driven.html"  # the policy lets no other script act: a hand is one
    driven.write_text(
        policy.sub("", page).replace("</body>", f"<script>{_HAND}{actions}</script></body>")
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    more = (f"--user-data-dir={scratch / 'chromium'}", "--virtual-time-budget=3000", "--dump-dom")
    command = [CHROMIUM, *flags, *more, driven.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_review_that_the_page_saves_is_exported_as_it_was_drawn(folder: Path, tmp_path: Path):
    shown = by_hand(
        folder,
        tmp_path,
        """
        press("1.1", "accept"); drag("2.1", 3, 100, 900); drag("3.2", 1, 222, 333);
        press("3.1", "accept"); drag("4.1", 0, 444, 555); press("5.0", "accept");
        press("5.0", "reject"); drag("7.1", 0, 1, 2); press("7.1", "undo");
        press("6.0", "accept");
        document.getElementById("save").click();
        document.getElementById("reviewer").value = "Grace";
        document.getElementById("save").click();
        """,
    )
    (encoded,) = re.findall(r'<pre id="review">([^<]+)</pre>', shown)  # none without a name
    (tmp_path / "review.json").write_bytes(base64.b64decode(encoded))
    review = read_review(tmp_path / "review.json")
    assert review.reviewer == "Grace"
    assert "7 of 8 decided" in shown
    told = {name: (one.verdict.value, one.points) for name, one in review.decisions.items()}
    assert told == {
        "1.1": ("accepted", ()),
        "2.1": ("corrected", ((500, 900), (100, 400))),
        "3.1": ("accepted", ()),
        "3.2": ("corrected", ((100, 100), (222, 333), (300, 300))),
        "4.1": ("corrected", ((444, 555), (300, 300))),
        "5.0": ("rejected", ()),
        "6.0": ("accepted", ()),
    }
    made = export(load_curation(folder), review, tmp_path / "set.jsonl")
    assert (made.conversations, made.corrected) == (5, 3)
    assert made.left_out == {"rejected": 1, "not decided": 1}


def saved_by_hand(folder: Path, scratch: Path, actions: str) -> Review:
    """The review that the page saves after ``actions``."""
    save = 'document.getElementById("reviewer").value = "Grace"; byId("save").click();'
    shown = by_hand(folder, scratch, actions + save)
    (encoded,) = re.findall(r'<pre id="review">([^<]+)</pre>', shown)
    (scratch / "review.json").write_bytes(base64.b64decode(encoded))
    return read_review(scratch / "review.json")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_points_are_added_and_removed_within_what_a_kind_holds(folder: Path, tmp_path: Path):
    """3.2: a line (100, 100), (200, 250), (300, 300). 4.1: an area (1200, 500), (300, 300)."""
    review = saved_by_hand(
        folder,
        tmp_path,
        """
        press("3.1", "accept");
        click("3.2", 900, 900);                           // nothing: neither button nor Shift
        press("3.2", "add"); click("3.2", 150, 180);      // into the line, between its first two
        click("3.2", 400, 400, {shiftKey: true});         // behind its end
        click("3.2", 50, 50, {shiftKey: true});           // before its beginning
        key("3.2", 3, "Delete");                          // (200, 250)
        click("4.1", 20, 30, {shiftKey: true});
        if (one("4.1").matches(".corrected")) throw new Error("(1200, 500) is still there");
        drag("4.1", 0, 700, 500);
        handle("4.1", 1).focus(); press("4.1", "remove"); // (300, 300)
        click("1.1", 5, 5, {shiftKey: true});             // an affordance is one point
        click("2.1", 5, 5, {shiftKey: true}); key("2.1", 0, "Delete");  // a box is two
        """,
    )
    told = {name: (one.verdict.value, one.points) for name, one in review.decisions.items()}
    assert told == {
        "3.1": ("accepted", ()),
        "3.2": ("corrected", ((50, 50), (100, 100), (150, 180), (300, 300), (400, 400))),
        "4.1": ("corrected", ((700, 500), (20, 30))),
    }
    export(load_curation(folder), review, tmp_path / "set.jsonl")
    line, area = lines(tmp_path / "set.jsonl")
    assert "(50, 50), (100, 100), (150, 180), (300, 300), (400, 400) </traj" in answer_of(line)
    assert answer_of(area) == "<area> <frame 2>: (700, 500), (20, 30) </area>"
    (proposal,) = area["provenance"]["answers"][0]["proposals"]
    assert proposal["points"] == [[1200, 500], [300, 300]]
    assert proposal["corrected"] == [[700, 500], [20, 30]]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_line_keeps_two_points_and_takes_no_more_than_ten(folder: Path, tmp_path: Path):
    review = saved_by_hand(
        folder,
        tmp_path,
        """
        for (let i = 0; i < 20; i++) key("3.2", 0, "Delete");
        if (one("3.2").querySelectorAll(".handle").length !== 2) throw new Error("not two");
        for (let i = 0; i < 20; i++) click("3.2", 310 + 10 * i, 310 + 10 * i, {shiftKey: true});
        if (!one("3.2").querySelector('[data-do="add"]').disabled) throw new Error("has room");
        for (let i = 0; i < 20; i++) key("4.1", 0, "Delete");
        """,
    )
    line = [(200, 250), (300, 300), *((310 + 10 * i, 310 + 10 * i) for i in range(8))]
    assert review.decisions["3.2"].points == tuple(line)
    assert review.decisions["4.1"].points == ((300, 300),)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_is_alive_under_its_own_policy(folder: Path, tmp_path: Path):
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'c'}")
    command = [CHROMIUM, *flags, "--dump-dom", (folder / "curate.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "0 of 8 decided" in shown
    assert shown.count('class="handle') == 1 + 4 + 1 + 3 + 2 + 4
