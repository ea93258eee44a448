"""Rooms that nano is asked about, and the ways through them that it is taught."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from test_nano_training import chat_tokens, without_surplus

from rynn_brain_ros.language import parse
from rynn_brain_ros.sim.furnishing import KINDS, random_room
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, BasePose
from rynn_brain_ros.values import Task
from training.nano.evaluate import ROOM, held_out, judged, summary
from training.nano.evaluate_routes import evaluate_routes, held_out_ways
from training.nano.pictures import Picture
from training.nano.rooms import (
    AROUND,
    ENDS,
    MOST_ARROWS,
    PER_DRIVE,
    TARGET,
    VIEWS_AROUND,
    Guide,
    driven,
    room_pictures,
)
from training.nano.routes import Route, RouteTeacher
from training.nano.rows import Scribe, assemble
from training.nano.teacher import FIND_AND_BOX, Teacher
from training.nano.truth import Truth, truth_of
from training.nano.vocabulary import FURNITURE_WORDS, sentences
from training.nano.words import build_tokenizer

N_DRIVES = 8


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return list(islice(room_pictures(seed=5), N_DRIVES * PER_DRIVE))


@pytest.fixture(scope="module")
def drives(pictures: list[Picture]) -> list[list[Truth]]:
    truths = [truth_of(picture.numbers(), picture.things) for picture in pictures]
    return [truths[n : n + PER_DRIVE] for n in range(0, len(truths), PER_DRIVE)]


@pytest.fixture(scope="module")
def scribe() -> Scribe:
    return Scribe(build_tokenizer(sentences()))


@pytest.fixture(scope="module")
def routes(drives: list[list[Truth]]) -> list[tuple[Route, list[Truth]]]:
    """Several of each drive, whose pictures are numbered from 0."""
    teacher = RouteTeacher(np.random.default_rng(0))
    return [(teacher.route(0, drive), drive) for drive in drives for _ in range(6)]


def test_a_seed_always_draws_the_same_rooms(pictures: list[Picture]):
    again = list(islice(room_pictures(seed=5), 3))
    assert [p.map_png for p in again] == [p.map_png for p in pictures[:3]]
    assert [p.things for p in again] == [p.things for p in pictures[:3]]
    assert next(room_pictures(seed=9)).map_png != pictures[0].map_png


@pytest.mark.parametrize("seed", range(12))
def test_the_way_ends_before_the_thing_and_touches_nothing(seed: int):
    scene, rng = random_room(seed), np.random.default_rng(seed)
    guide, reached = Guide.to(scene), 0
    for thing in scene.things:
        place = guide.free_place(rng)
        assert place is not None
        pose = BasePose(*place, float(rng.uniform(-3, 3)))
        for _ in range(30):
            way = guide.way(pose, thing)
            if way is None or way == "STOP":
                break
            assert len(way) <= MOST_ARROWS
            for arrow in way:
                pose = driven(pose, arrow)
                assert scene.clearance_m(pose.xy_m) > BASE_RADIUS_M
        if way == "STOP":
            reached += 1
            assert thing.clearance_m(pose.xy_m) < 1.0
            assert not scene.is_behind_wall(pose.xy_m, thing.nearest_to(pose.xy_m))
    assert reached >= len(scene.things) - 1  # where there is no way, none is told


def test_it_turns_until_it_has_seen_the_target_and_gives_up_when_that_was_all(
    drives: list[list[Truth]],
):
    given_up = 0
    for drive in drives:
        views, has_seen = 0, False
        for truth in drive:
            way = truth.known(TARGET).way
            has_seen |= truth.number(TARGET) is not None
            views += 1
            if not has_seen:
                assert way == (AROUND if views < VIEWS_AROUND else "")
                given_up += not way
            if way in ENDS:
                views, has_seen = 0, False
    assert given_up > 0


def test_a_route_says_what_is_right_at_each_of_its_views(
    routes: list[tuple[Route, list[Truth]]],
):
    ends = set()
    for route, drive in routes:
        for turn in route.turns:
            ((number, mirrored),) = turn.frames
            reading, way = (
                parse(turn.answer, 1, task=Task.NAVIGATE),
                drive[number].known(TARGET).way,
            )
            assert not mirrored and turn.of_arrows == bool(way)
            assert (turn.answer == way) == bool(way) == bool(reading.actions)
            ends.add(way if way in ENDS else "on the way")
            if turn.place is not None:
                frame, thing = turn.place
                assert drive[route.frames[frame][0]].number(thing) is not None
                assert frame <= route.frames.index((number, False))
            if not way:
                assert turn.missing == TARGET and turn.answer.endswith("<no object>")
    assert ends == {"STOP", "", "on the way"}
    assert any(route.older for route, _ in routes) and any(not r.older for r, _ in routes)


def test_a_route_is_read_in_the_tokens_that_the_engine_reads(
    scribe: Scribe, routes: list[tuple[Route, list[Truth]]]
):
    for route, _ in routes:
        whole = chat_tokens(scribe.tokenizer, route.messages())
        assert without_surplus(scribe, scribe.talk(route).ids) == whole


def test_every_arrow_is_decided_by_a_look_at_the_target(
    scribe: Scribe, routes: list[tuple[Route, list[Truth]]]
):
    decode = scribe.tokenizer.decode
    for route, drive in routes:
        row = scribe.talk(route)
        batch = assemble(scribe, [row], [[drive[n] for n, _ in row.frames]])
        (noun,) = row.nouns
        assert decode([row.ids[noun.at]]).strip() in route.nouns[TARGET][0]
        places = {at: where for _, at, where in batch.places}
        asked = {at: int(np.flatnonzero(where)[0]) for _, at, where in batch.asks}
        for said, turn in zip(row.said, route.turns, strict=True):
            arrows = said.decided if turn.of_arrows else said.decided[:1]
            assert len(arrows) == (
                len(turn.answer.replace("STOP", "S")) + 1 if turn.of_arrows else 1
            )
            for at in arrows:
                where = places[at - 1]
                assert (where is None) == (turn.place is None)
                assert turn.place is None or asked[at - 1] == noun.at


def test_in_rooms_furniture_is_asked_for(drives: list[list[Truth]]):
    teacher = Teacher(np.random.default_rng(0), FIND_AND_BOX, KINDS)
    words = {*KINDS, *(word for others in FURNITURE_WORDS.values() for word in others)}
    words |= {"thing", "object", "one"}
    absent = 0
    for drive in drives:
        lesson = teacher.lesson([(n, False) for n in range(4)], drive[:4], 6, 0.3)
        for exchange in lesson.exchanges:
            (noun,) = exchange.nouns
            assert exchange.instruction[: noun.end].split()[-1] in words
            absent += exchange.place is None
    assert absent > 5


def test_true_answers_are_judged_right():
    asked = held_out(ROOM, seed=6, count=16)
    told = summary(judged(asked, [each.answer for each in asked]))
    assert told["valid"] == told["point_inside"] == told["box_half"] == 1.0
    assert told["abstained_right"] == 1.0 and told["abstained_wrong"] == 0.0


def test_a_base_that_always_turns_is_right_only_where_nothing_was_seen():
    class Turns:
        def ask(self, query: object, *_: object) -> object:
            return type("Answer", (), {"text": AROUND})()

    right = [way.answer for way in held_out_ways(3, 6)]
    told = evaluate_routes(Turns(), 3, 6)  # type: ignore[arg-type]
    assert told["all_right"] == sum(answer == AROUND for answer in right) / 6
    assert told["stop_wrong"] == 0.0
