"""A story tells a whole task in one safe file, and hides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import story_examples as examples
from html_pages import Page

from rynn_brain_ros.values import Check, OutputError, Refusal, RefusalCode
from rynn_brain_ros.view.story import StoryHead, StoryWriter

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)></style></svg>&amp;\ud800"""


def write(path, episode, **head) -> None:
    writer = StoryWriter()
    for turn in episode.turns:
        writer.add(turn)
    trace = examples.drive_trace if "fridge" in episode.task else examples.trace_of
    stages = examples.stages_of(episode)
    writer.finish(path, StoryHead("A story", **head), episode, trace(episode), stages=stages)


@pytest.fixture
def page(tmp_path):
    def make(episode, **head):
        write(tmp_path / "report.html", episode, **head)
        return Page.read(tmp_path / "report.html")

    return make


@pytest.fixture(scope="module")
def success(tmp_path_factory):
    path = tmp_path_factory.mktemp("story") / "report.html"
    write(path, examples.success())
    return Page.read(path)


@pytest.mark.parametrize("name", examples.ALL)
def test_every_kind_of_end_is_a_well_formed_page(page, name):
    assert page(examples.ALL[name]()).unclosed == []


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("success", "Succeeded and confirmed"),
        ("absent", "Refused: no grounding the purple cube is not in the picture"),
        ("nothing_gripped", "Failed: nothing gripped grip: the fingers closed to 0.3 mm"),
        ("cancelled", "Stopped: cancelled approach: a person stopped it"),
    ],
)
def test_the_headline_is_the_task_and_the_verdict_follows(page, name, verdict):
    episode = examples.ALL[name]()
    text = page(episode).text
    assert text.index(episode.task) < text.index(verdict)


def test_a_success_that_nobody_confirmed_is_told_as_such(page):
    assert "Succeeded, not confirmed" in page(replace(examples.success(), confirmed=False)).text


def test_hostile_text_stays_text(page):
    episode = examples.scene_changed()
    turn = episode.turns[0]
    refusal = Refusal(RefusalCode.SCENE_CHANGED, HOSTILE)
    check = Check(HOSTILE, False, HOSTILE, HOSTILE)
    move = turn.moves[0]
    outcome = replace(examples.outcome(1, 2, 3), text=HOSTILE)
    response = replace(
        turn.response,
        answer=replace(turn.response.answer, text=HOSTILE),
        reading=replace(turn.response.reading, text=HOSTILE, answer_text=HOSTILE),
        lifted=tuple(
            replace(i, grounding=replace(i.grounding, label=HOSTILE), fixed_frame_id=HOSTILE)
            for i in turn.response.lifted
        ),
    )
    hostile = replace(
        turn,
        response=response,
        refusal=refusal,
        moves=(
            replace(
                move,
                motion=replace(move.motion, base_frame=HOSTILE),
                decision=replace(move.decision, checks=(check,), refusal=refusal),
                outcome=outcome,
            ),
        ),
        step=replace(turn.step, text=HOSTILE, thing=response.lifted[1], preposition=HOSTILE),
        confirmation=replace(examples.done_turn(0, 0).confirmation, text=HOSTILE, checks=(check,)),
    )
    shown = page(
        replace(episode, task=HOSTILE, text=HOSTILE, cause=HOSTILE, turns=(hostile,)),
        subtitle=HOSTILE,
        engine_note=HOSTILE,
        provenance={HOSTILE: HOSTILE},
        film=HOSTILE + ".gif",
    )
    assert len(shown.all("script")) == 1
    assert [image["alt"] for image in shown.all("img")] == ["film of the task"]
    assert not [attrs for _, attrs in shown.tags if any(name.startswith("on") for name in attrs)]
    assert shown.unclosed == []


def test_the_file_refers_to_nothing_outside_itself(success):
    for _, attrs in success.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/"))
    (policy,) = [m["content"] for m in success.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    assert "media-src" not in policy


def test_no_element_carries_a_style_that_the_policy_would_forbid(success):
    assert not [attrs for _, attrs in success.tags if "style" in attrs]


def test_a_film_beside_the_page_is_shown_and_allowed(page):
    shown = page(examples.absent(), film="episode.mp4")
    assert [video["src"] for video in shown.all("video")] == ["episode.mp4"]
    (policy,) = [m["content"] for m in shown.all("meta") if "http-equiv" in m]
    assert "media-src 'self' file:" in policy


def test_a_moving_picture_is_shown_as_a_picture(page):
    shown = page(examples.absent(), film="episode.gif")
    assert [image["src"] for image in shown.all("img")] == ["episode.gif"]
    assert shown.all("video") == []


def test_a_film_cannot_be_fetched_from_elsewhere(page):
    shown = page(examples.absent(), film="https://example.org/a.mp4")
    assert [video["src"] for video in shown.all("video")] == ["https%3A//example.org/a.mp4"]


def test_every_turn_has_a_card_that_the_index_leads_to(success):
    cards = [section["id"] for section in success.all("section") if "id" in section]
    assert cards == ["t1", "t2", "t3"]
    assert all(success.all("a", href=f"#{card}") for card in cards)


def test_a_grounding_is_found_in_text_picture_and_table(success):
    found = [tag for tag, attrs in success.tags if attrs.get("data-g") == "t1g0"]
    assert {"mark", "g", "tr"} <= set(found)


def test_a_place_is_told_in_metres_with_its_uncertainty(success):
    assert "where to act" in success.text
    assert "± 3.0 mm" in success.text
    assert "m in panda_link0" in success.text


def test_a_failed_check_stands_out_and_the_others_do_not(page):
    shown = page(examples.scene_changed())
    assert len(shown.all("tr", class_="failed")) == 1
    assert "7 of 8 checks passed" in shown.text


def test_a_turn_after_a_refusal_says_that_it_asks_again(page):
    text = page(examples.scene_changed()).text
    assert "asked again: turn 1 was refused: scene_changed" in text
    assert text.count("asked again") == 1


def test_a_turn_after_an_empty_grip_says_that_it_asks_again(page):
    assert "turn 1 ended with nothing gripped" in page(examples.nothing_gripped()).text


def test_a_motion_shows_where_it_broke(page):
    shown = page(replace(examples.nothing_gripped(), turns=examples.nothing_gripped().turns[:1]))
    stages = [item["class"] for item in shown.all("li")]
    assert stages == ["done", "done", "done", "broke", "never", "never"]
    assert "fingers 0.3 mm apart" in shown.text


def test_a_refused_motion_never_began(page):
    refused = replace(examples.scene_changed(), turns=examples.scene_changed().turns[:1])
    shown = page(refused)
    assert {item["class"] for item in shown.all("li")} == {"never"}
    assert "Nothing moved." in shown.text


def test_a_confirmation_shows_what_was_compared(success):
    assert "A separate look confirmed looked again" in success.text
    assert "64% of its picture seen" in success.text


def test_several_motions_of_a_turn_are_a_line_each(page):
    shown = page(examples.driving())
    assert len(shown.all("table", class_="moves")) == 2
    assert shown.text.count("drive +0.25 m") == 6
    assert shown.text.count("drive +30°") == 2


def test_a_turn_without_an_answer_shows_what_was_seen(page):
    turn = examples.absent().turns[0]
    refusal = Refusal(RefusalCode.ENGINE_FAILED, "no answer within 60 s")
    silent = replace(turn, response=None, refusal=refusal)
    shown = page(replace(examples.absent(), turns=(silent,)))
    assert "engine_failed no answer within 60 s" in shown.text
    assert shown.all("svg", class_="over")


def test_pictures_are_made_when_a_turn_is_added(tmp_path):
    """What `finish` is given needs no frames: the picture is already there."""
    episode = examples.absent()
    writer = StoryWriter()
    writer.add(episode.turns[0])
    bare = replace(
        episode, turns=(replace(episode.turns[0], frames=type(episode.turns[0].frames)()),)
    )
    writer.finish(tmp_path / "report.html", StoryHead("A story"), bare)
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_task_without_turns_is_still_a_page(page):
    assert "No turn was taken." in page(replace(examples.absent(), turns=())).text


def test_the_same_episode_gives_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write(tmp_path / name, examples.cancelled())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_story_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "report.html", examples.absent())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
