"""Who is next, how many may wait, and what is kept: with driven clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from parts import picture

from rynn_brain_ros.serving.kept_frames import KeptFrames
from rynn_brain_ros.serving.limits import Limits, Rate
from rynn_brain_ros.serving.refusals import RequestError
from rynn_brain_ros.serving.turns import Turn, Turns
from rynn_brain_ros.values import InputError


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def ask(turns: Turns, client: str) -> Turn:
    return turns.ask(client, retry_after_s=3.0)


async def order(turns: Turns, waiting: dict[str, Turn]) -> list[str]:
    """Names in which the turns come, each of them ended at once."""
    came = []
    while waiting:
        turns.over()
        (name,) = [name for name, turn in waiting.items() if turn.done()]
        came.append(name)
        del waiting[name]
        await asyncio.sleep(0)
    return came


def test_the_first_need_not_wait_and_the_next_do():
    async def test() -> None:
        turns = Turns(8)
        first, second = ask(turns, "a"), ask(turns, "b")
        assert (first.done(), second.done(), turns.n_waiting) == (True, False, 1)
        turns.over()
        assert second.done()
        turns.over()
        assert ask(turns, "c").done()

    run(test())


def test_a_client_with_many_questions_does_not_keep_the_others_waiting():
    async def test() -> None:
        turns = Turns(8)
        ask(turns, "greedy")
        waiting = {f"greedy{i}": ask(turns, "greedy") for i in range(4)}
        waiting |= {"modest": ask(turns, "modest"), "other0": ask(turns, "other")}
        waiting |= {"other1": ask(turns, "other")}
        came = await order(turns, waiting)
        assert came[:3] == ["greedy0", "modest", "other0"]
        assert came[3:] == ["greedy1", "other1", "greedy2", "greedy3"]

    run(test())


def test_one_client_may_only_have_so_many_waiting():
    async def test() -> None:
        turns = Turns(2)
        for _ in range(3):
            ask(turns, "a")
        with pytest.raises(RequestError) as caught:
            ask(turns, "a")
        assert caught.value.status == 429
        assert caught.value.headers["retry-after"] == "3"
        assert not ask(turns, "b").done()

    run(test())


def test_who_leaves_the_queue_is_passed_over():
    async def test() -> None:
        turns = Turns(8)
        ask(turns, "a")
        gone, next_one = ask(turns, "b"), ask(turns, "c")
        gone.cancel()
        turns.over()  # before anybody could be told that it left
        assert next_one.done()
        await asyncio.sleep(0)
        assert turns.n_waiting == 0
        turns.over()
        assert ask(turns, "d").done()

    run(test())


def test_places_of_those_who_left_are_free_again():
    async def test() -> None:
        turns = Turns(1)
        ask(turns, "a")
        ask(turns, "a").cancel()
        await asyncio.sleep(0)
        assert not ask(turns, "a").done()

    run(test())


class Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_client_may_ask_a_burst_and_then_at_its_rate():
    time = Time()
    rate = Rate(60.0, time)
    for _ in range(6):
        rate.take("a")
    with pytest.raises(RequestError) as caught:
        rate.take("a")
    assert caught.value.status == 429
    assert caught.value.retry_after_s == pytest.approx(1.0)
    rate.take("b")
    time.now_s = 1.0
    rate.take("a")
    with pytest.raises(RequestError):
        rate.take("a")


def test_refused_requests_do_not_push_the_next_welcome_away():
    time = Time()
    rate = Rate(60.0, time)
    for _ in range(6):
        rate.take("a")
    for _ in range(50):
        with pytest.raises(RequestError):
            rate.take("a")
    time.now_s = 1.01
    rate.take("a")


def test_without_a_rate_nothing_is_refused():
    rate = Rate(0.0, Time())
    for _ in range(1000):
        rate.take("a")


@pytest.mark.parametrize(
    "wrong", [{"waiting": 0}, {"rate": -1.0}, {"rate": float("nan")}, {"timeout_s": float("inf")}]
)
def test_a_limit_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)


def test_frames_are_kept_by_use_within_their_bytes():
    first, second, third = (picture(seed) for seed in (1, 2, 3))
    kept = KeptFrames(len(first.image) + max(len(second.image), len(third.image)))
    for frame in (first, second, first):
        kept.keep(frame)
    assert kept.get(first.sha256) is first
    kept.keep(third)
    assert kept.get(second.sha256) is None
    assert kept.get(first.sha256) is first
    assert kept.get(third.sha256) is third
