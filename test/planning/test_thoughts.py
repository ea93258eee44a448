"""An answer as it is being written, as messages: every letter once, groundings at once."""

from __future__ import annotations

from typing import Any

from rynn_brain_ros.planning.thoughts import Thoughts
from rynn_brain_ros.values import Box, FrameSet, LiftedGrounding, Query, Task

QUERY = Query("q1", Task.THINK, "Where is it?", FrameSet())
LIFTED = LiftedGrounding(Box(0, ((1.0, 2.0), (3.0, 4.0)), (0, 0), "object"), None)


class Follower:
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.time_s = 0.0
        self.thoughts = Thoughts(
            QUERY, self.heard.append, lambda: 7_000_000_000, elapsed_s=lambda: self.time_s
        )

    def texts(self) -> list[str]:
        return [thought["text"] for thought in self.heard]


def test_a_piece_is_told_at_once_and_a_burst_together():
    follower = Follower()
    for piece, time_s in (("a", 0.0), ("b", 0.01), ("c", 0.02), ("d", 0.06), ("e", 0.07)):
        follower.time_s = time_s
        follower.thoughts.text(piece)
    assert follower.texts() == ["a", "bcd"]
    follower.thoughts.end()
    assert follower.texts() == ["a", "bcd", "e"]
    assert [thought["final"] for thought in follower.heard] == [False, False, True]
    assert [thought["sequence"] for thought in follower.heard] == [0, 1, 2]
    assert {thought["query_id"] for thought in follower.heard} == {"q1"}


def test_a_grounding_is_told_at_once_with_the_text_that_closed_it():
    follower = Follower()
    follower.thoughts.text("see ")
    follower.thoughts.text("<object>")
    follower.thoughts.grounding(LIFTED, True)
    assert follower.texts() == ["see ", "<object>"]
    (told,) = follower.heard[1]["groundings"]
    assert (told["query_id"], told["reasoning"]) == ("q1", True)


def test_where_the_reasoning_ends_a_new_piece_begins():
    follower = Follower()
    for piece in ("<think>", "well", "</think>", "there", " it is"):
        follower.thoughts.text(piece)
    follower.thoughts.end()
    assert follower.texts() == ["<think>", "well</think>", "there it is"]
    assert [thought["reasoning"] for thought in follower.heard] == [True, True, False]
