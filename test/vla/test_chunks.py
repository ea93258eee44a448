"""The queue between a policy and the robot, driven by hand; once with real threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from policy_parts import HORIZON, SPEC

from rynn_brain_ros.values import ConfigError
from rynn_brain_ros.vla.chunks import ActionQueue, Joined, Joining, RuntimeSpec
from rynn_brain_ros.vla.values import PolicyError


def numbered(first: float, n: int = 6) -> np.ndarray:
    """[n, 1]: each action says at which step it is due."""
    return np.arange(first, first + n)[:, None]


def popped(queue: ActionQueue, n: int) -> list[float | None]:
    actions = [queue.pop() for _ in range(n)]
    return [None if action is None else float(action[0]) for action in actions]


def filled(joining: Joining | None = None) -> ActionQueue:
    queue = ActionQueue(joining)
    queue.join(queue.request(), numbered(0))
    return queue


def test_an_empty_queue_says_hold():
    assert ActionQueue().pop() is None


def test_actions_whose_time_passed_while_the_chunk_was_made_are_dropped():
    queue = filled()
    assert popped(queue, 2) == [0, 1]
    request = queue.request()
    assert popped(queue, 3) == [2, 3, 4]
    assert queue.join(request, numbered(102)) == Joined(delay_steps=3, n_new=3)
    assert popped(queue, 4) == [105, 106, 107, None]


def test_a_robot_that_held_meanwhile_misses_nothing():
    queue = ActionQueue()
    request = queue.request()
    assert popped(queue, 5) == [None] * 5
    assert queue.join(request, numbered(0)) == Joined(delay_steps=0, n_new=6)
    assert queue.pop() == 0


def test_a_request_tells_what_is_left_and_the_longest_recent_delay():
    queue = filled()
    first = queue.request()
    popped(queue, 2)
    queue.join(first, numbered(0))
    queue.join(queue.request(), numbered(2))
    leftover = queue.request().leftover
    assert leftover.actions[:, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert leftover.delay_steps == 2


def test_a_request_with_nothing_ahead_has_no_leftover():
    assert ActionQueue().request().leftover is None


def test_a_leftover_is_of_the_moment_it_was_asked_for():
    queue = filled()
    leftover = queue.request().leftover
    popped(queue, 3)
    assert leftover.actions[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_chunk_that_is_past_altogether_changes_nothing():
    queue = filled()
    request = queue.request()
    queue.pop()
    assert queue.join(request, numbered(100, n=1)) == Joined(delay_steps=1, n_new=0)
    assert popped(queue, 6) == [1, 2, 3, 4, 5, None]


def test_a_linear_join_rises_from_the_old_chunk_to_the_new():
    queue = filled(Joining("linear", overlap=3))
    queue.join(queue.request(), numbered(100))
    assert popped(queue, 6) == [25, 51, 77, 103, 104, 105]


def test_a_linear_join_blends_only_where_both_chunks_are():
    queue = filled(Joining("linear", overlap=5))
    popped(queue, 4)
    queue.join(queue.request(), numbered(104))
    assert popped(queue, 4) == pytest.approx([4 + 100 / 3, 5 + 200 / 3, 106, 107])


def test_a_chunk_for_a_motion_that_was_given_up_is_refused():
    queue = filled()
    request = queue.request()
    queue.clear()
    assert queue.join(request, numbered(0)) is None
    assert queue.pop() is None


@pytest.mark.parametrize(("join", "overlap"), [("linear", 0), ("replace", 3)])
def test_a_join_without_its_overlap_is_an_error(join, overlap):
    with pytest.raises(ConfigError, match="overlap"):
        Joining(join, overlap)


def test_two_threads_lose_and_repeat_no_step():
    """Each action says when it is due; one thread consumes, the other brings new chunks."""
    n_chunks, queue = 300, ActionQueue()
    queue.join(queue.request(), numbered(0, n=50))
    ended = threading.Event()

    def bring() -> None:
        for _ in range(n_chunks):
            request = queue.request()
            queue.join(request, numbered(request.step, n=50))
        ended.set()

    thread = threading.Thread(target=bring)
    thread.start()
    seen: list[float] = []
    while not ended.is_set():
        action = queue.pop()
        if action is not None:
            seen.append(float(action[0]))
    thread.join()
    assert seen == list(range(len(seen)))


@pytest.mark.parametrize("horizon", [0, -1, "8", True])
def test_a_policy_without_steps_is_an_error(horizon):
    with pytest.raises(PolicyError, match="must be above 0"):
        RuntimeSpec(horizon, SPEC.statistics)


def test_a_policy_tells_what_its_numbers_are():
    assert SPEC.cameras == ("wrist",)
    assert SPEC.action_names == ("position.a", "position.b", "position.finger")
    assert (SPEC.horizon, SPEC.n_dims, SPEC.rate_hz) == (HORIZON, 3, 10.0)
