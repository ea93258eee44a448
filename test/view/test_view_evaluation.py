"""Many tasks: honest rates, every wrong move counted, one page."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from html_pages import Page

from rynn_brain_ros.view.charts import PANEL
from rynn_brain_ros.view.evaluation import (
    EpisodeScore,
    evaluation_page,
    evaluation_picture,
    score_table,
    summary,
    wilson,
)

WON = EpisodeScore(
    0,
    "Put the red cube onto the plate",
    "place",
    True,
    True,
    "done",
    turns=3,
    robot_s=12.0,
    wall_s=1.5,
    stage_s={"look": 0.01, "ask": 0.3},
)
LOST = replace(
    WON,
    seed=1,
    success=False,
    claimed=False,
    cause="nothing_gripped",
    refusals=("scene_changed", "scene_changed", "no_grasp"),
    wrong_moves=("picked the blue ball",),
    collisions=2,
    limit_violations=1,
    turns=5,
    stage_s={"look": 0.03, "ask": float("nan")},
)
LIED = replace(LOST, seed=2, claimed=True, refusals=(), wrong_moves=(), collisions=0)
SCORES = (WON, LOST, LIED, replace(WON, seed=3, kind="absent", cause="no_grounding"))


def test_the_interval_is_wilsons():
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


@pytest.mark.parametrize(("won", "n"), [(0, 1), (1, 1), (0, 50), (50, 50)])
def test_the_interval_stays_between_none_and_all(won, n):
    low, high = wilson(won, n)
    assert 0.0 <= low <= won / n <= high <= 1.0
    assert high - low > 0.01


@pytest.mark.parametrize(
    ("won", "n", "told"),
    [
        (199, 200, "99.5%"),
        (1, 300, "0.3%"),
        (1999, 2000, ">99.9%"),
        (1, 2000, "<0.1%"),
        (40, 40, "100%"),
        (0, 40, "0%"),
    ],
)
def test_all_and_none_are_said_of_all_and_none_only(won: int, n: int, told: str):
    scores = [replace(WON, seed=i, success=i < won) for i in range(n)]
    assert any(f"succeeded: {won} of {n}, {told} (" in line for line in score_table(scores))
    root = ElementTree.fromstring(evaluation_picture(scores))
    texts = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert told in texts


def test_everything_that_went_wrong_is_counted():
    told = summary(SCORES)
    assert told["successes"] == 2
    assert told["success_rate"] == 0.5
    assert told["refusals"] == {"scene_changed": 2, "no_grasp": 1}
    assert told["wrong_moves"] == 1
    assert told["collisions"] == 2
    assert told["limit_violations"] == 2


def test_a_claim_is_false_only_where_the_truth_denies_it():
    assert [score.false_claim for score in SCORES] == [False, False, True, False]
    assert summary(SCORES)["false_claims"] == 1


def test_what_nobody_judged_is_neither_a_success_nor_a_false_claim():
    unjudged = replace(WON, seed=4, success=False, judged=False)
    told = summary((WON, unjudged))
    assert (told["episodes"], told["unjudged"], told["successes"]) == (2, 1, 1)
    assert (told["success_rate"], told["false_claims"]) == (1.0, 0)
    lines = score_table((WON, unjudged))
    assert lines[2].split()[:2] == ["4", "?"]
    assert "not judged: 1" in lines
    assert "succeeded: nobody knows" in score_table((unjudged,))
    text = Page(evaluation_page("t", (unjudged,))).text
    assert "nobody knows" in text and "done: 0 succeeded, 0 did not, 1 were not judged" in text


def test_kinds_are_told_apart():
    assert summary(SCORES)["kinds"]["absent"] == {"episodes": 1, "unjudged": 0, "successes": 1}
    unjudged = replace(WON, success=False, judged=False)
    assert summary((WON, unjudged))["kinds"]["place"] == {
        "episodes": 2,
        "unjudged": 1,
        "successes": 1,
    }


def test_unknown_times_are_left_out_of_the_medians():
    assert summary(SCORES)["stage_s"] == {"look": pytest.approx(0.02), "ask": pytest.approx(0.3)}
    assert summary((replace(WON, robot_s=float("nan")),))["median_robot_s"] is None


def test_no_episodes_are_no_rate_rather_than_an_error():
    told = summary(())
    assert told["success_rate"] is None
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert "succeeded: no episode was scored" in score_table(())


def test_the_table_has_a_line_for_each_episode():
    lines = score_table(SCORES)
    titles = "seed kind instruction ended refused wrong hits limits turns robot wall"
    assert " ".join(lines[0].split()) == titles
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["0", "✓"],
        ["1", "✗"],
        ["2", "✗"],
        ["3", "✓"],
    ]
    assert "nothing gripped, claimed" in lines[3]
    assert "scene_changed ×2, no_grasp" in lines[2]


def test_columns_with_nothing_in_them_are_left_out():
    assert "wrong" not in score_table((WON,))[0]


def test_a_long_instruction_does_not_break_the_table():
    lines = score_table((replace(WON, instruction="put\nit " * 40),))
    assert len(lines[1]) < 130


def test_the_picture_has_its_three_panels():
    root = ElementTree.fromstring(evaluation_picture(SCORES))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"How the episodes ended", "nothing gripped", "50%", "ask"} <= set(texts)


def test_what_is_written_beside_the_longest_bar_is_whole():
    slow = replace(WON, stage_s={"look": 0.256, "ask": 0.9994, "plan": 0.03})
    tree = ElementTree.fromstring(evaluation_picture([slow]))
    times = [each for each in tree.iter() if each.text in ("999 ms", "256 ms", "30 ms")]
    assert len(times) == 3
    for each in times:  # bold letters of 12 px are some 8 px wide
        assert float(each.get("x", "nan")) + 8 * len(each.text or "") <= PANEL[0]


def test_many_causes_end_in_others():
    scores = [replace(WON, cause=f"cause_{i}") for i in range(30)]
    assert "22 others" in evaluation_picture(scores)


def test_no_scores_still_make_a_picture():
    ElementTree.fromstring(evaluation_picture(()))


def test_hostile_text_stays_text():
    hostile = replace(WON, instruction="<script>alert(1)</script>", cause="<b>", kind="<i>")
    page = Page(
        evaluation_page(
            "On <tables>",
            (*SCORES, hostile),
            engine_note="<img src=x>",
            provenance={"<a>": "<b>"},
        )
    )
    assert page.unclosed == []
    assert len(page.all("script")) == 1
    assert page.all("img") == page.all("i") == []
    assert "<script>alert(1)</script>" in page.text


def test_a_page_can_be_written_whatever_it_holds():
    assert evaluation_page("lone \ud800", (WON,)).encode("utf-8")


def test_the_page_tells_what_the_brain_claimed_wrongly():
    text = Page(evaluation_page("Tables", SCORES)).text
    assert "2 of 4, 50% (95% interval 15–85%)" in text
    assert "1 claimed and not true" in text
    assert "2 limit violations" in text
