"""What a policy is told to do: the step of a plan and where it points, of one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rynn_brain_ros.bags import message
from rynn_brain_ros.data.conditioning import GROUNDINGS, PLAN, Said
from rynn_brain_ros.data.contract import Conditioning

PROPOSED, RUNNING, DONE, REFUSED, FAILED, CANCELLED = 0, 2, 3, 4, 5, 6
OF_A_NEWER_BRAIN = 99
BOTH = Conditioning("/plan", "/groundings")


class Brain:
    """Says things, and what a policy is told of them."""

    def __init__(self, wanted: Conditioning = BOTH) -> None:
        self._said = Said(wanted)

    def plans(self, query_id: str, *steps: tuple[str, int], task: str = "") -> Brain:
        told = [{"text": text, "state": state} for text, state in steps]
        return self._hear("/plan", "Plan", {"query_id": query_id, "task": task, "steps": told})

    def points(
        self,
        query_id: str,
        *labels: str,
        task: str = "plan",
        actionable: bool = True,
        kind: int = 3,
    ) -> Brain:
        told = [{"label": label, "kind": kind, "actionable": actionable} for label in labels]
        array = {"query_id": query_id, "task": task, "groundings": told}
        return self._hear("/groundings", "GroundingArray", array)

    def is_told(self, task: str) -> Brain:
        """Who listens: that this is to be done now."""
        self._said.forget(but_for=task)
        return self

    def _hear(self, topic: str, name: str, data: dict[str, Any]) -> Brain:
        self._said.receive(topic, message(f"rynn_brain_ros/msg/{name}", data))
        return self

    @property
    def told(self) -> tuple[str, list[str]]:
        values = self._said.values
        pointed = json.loads(values.get(GROUNDINGS) or "[]")
        return values.get(PLAN, ""), [each["label"] for each in pointed]


PICK = ("pick up the cube", RUNNING)


@pytest.fixture
def brain() -> Brain:
    """A step is being done."""
    return Brain().points("q1", "cube").plans("q1", PICK)


def test_a_step_comes_with_what_its_own_answer_points_at(brain: Brain):
    assert brain.told == ("pick up the cube", ["cube"])


def test_it_does_not_matter_which_topic_is_faster():
    assert Brain().plans("q1", PICK).points("q1", "cube").told == ("pick up the cube", ["cube"])


def test_an_answer_to_another_question_is_not_where_the_step_goes(brain: Brain):
    brain.points("q9", "mug", task="object")
    assert brain.told == ("pick up the cube", ["cube"])


def test_what_the_next_step_points_at_counts_when_the_step_does(brain: Brain):
    brain.points("q2", "bowl")
    assert brain.told == ("pick up the cube", ["cube"])
    brain.plans("q1", ("pick up the cube", DONE))  # told once more, with its end
    assert brain.told == ("pick up the cube", ["cube"])
    brain.plans("q2", ("pick up the cube", DONE), ("put it into the bowl", PROPOSED))
    assert brain.told == ("put it into the bowl", ["bowl"])


@pytest.mark.parametrize("state", [REFUSED, FAILED, CANCELLED, OF_A_NEWER_BRAIN])
def test_a_step_that_is_given_up_leaves_nothing_to_do(brain: Brain, state: int):
    brain.points("q2", "knife")
    brain.plans("q2", ("pick up the cube", DONE), ("pick up the knife", state))
    assert brain.told == ("", [])


def test_a_plan_that_names_no_question_points_at_nothing():
    assert Brain().points("", "cube").plans("", PICK).told == ("pick up the cube", [])


def test_what_must_not_be_acted_on_is_not_pointed_at():
    brain = Brain().points("q1", "cube", actionable=False).plans("q1", PICK)
    assert brain.told == ("pick up the cube", [])


def test_what_is_of_an_unknown_kind_is_not_pointed_at():
    brain = Brain().points("q1", "cube", kind=OF_A_NEWER_BRAIN).plans("q1", PICK)
    assert brain.told == ("pick up the cube", [])


def test_another_task_begins_without_the_step_of_the_one_before(brain: Brain):
    assert brain.is_told("stack the plates").told == ("", [])
    assert Brain().points("q1", "cube").plans("q1", PICK).is_told("").told == ("", [])
    newest = Brain(Conditioning(groundings="/groundings")).points("q1", "cube")
    assert newest.is_told("stack the plates").told == ("", [])


def test_a_step_of_the_very_task_that_is_told_after_it_is_kept():
    brain = Brain().points("q1", "cube").plans("q1", PICK, task="tidy up")
    assert brain.is_told("tidy up").told == ("pick up the cube", ["cube"])


def test_what_an_answer_points_at_waits_for_its_step_while_the_task_is_told(brain: Brain):
    brain.points("q2", "plate").is_told("stack the plates")
    assert brain.told == ("", [])
    assert brain.plans("q2", ("pick up the plate", RUNNING)).told == (
        "pick up the plate",
        ["plate"],
    )


def test_without_a_topic_of_plans_the_newest_answer_counts():
    brain = Brain(Conditioning(groundings="/groundings"))
    assert brain.points("q1", "cube").points("q2", "mug", task="object").told == ("", ["mug"])
    assert brain.points("q3", "mug", task="object", actionable=False).told == ("", [])
