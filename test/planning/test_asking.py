"""One question, end to end: the chain from an answer's words to one frame's metres."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import ScriptedEngine, ask_bag

from rynn_brain_ros.language import compose
from rynn_brain_ros.models import RecordedAnswer, RecordedEngine, plain_messages
from rynn_brain_ros.planning import Question, ask, make_query
from rynn_brain_ros.sim.tabletop import FIXED_FRAME, START_NS
from rynn_brain_ros.values import (
    Answer,
    CameraInfo,
    Engine,
    FinishReason,
    FrameSet,
    Generation,
    LiftedGrounding,
    Query,
    RefusalCode,
    Response,
    RigidTransform,
    SelectedFrame,
    Task,
    TokenProbability,
)

POINT = "<affordance> <frame {}>: (500, 600) </affordance>"


@pytest.fixture(scope="module")
def frames(small_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    """Three frames as a bag gives them, with depth, intrinsics and poses."""
    engine = ScriptedEngine("Nothing.")
    ask_bag(small_bag, tmp_path_factory.mktemp("frames"), engine)
    return engine.queries[0].frames


def respond(frames: FrameSet, text: str, task: Task = Task.AFFORDANCE) -> Response:
    query = make_query(1, Question("Where is it?", task), frames)
    return ask(ScriptedEngine(text), query)


def only(response: Response) -> LiftedGrounding:
    (lifted,) = response.lifted
    return lifted


def with_frame(frames: FrameSet, index: int, **change: object) -> FrameSet:
    changed = list(frames)
    frame: SelectedFrame = changed[index]
    changed[index] = replace(frame, frame=replace(frame.frame, **change))
    return FrameSet(tuple(changed), frames.max_visual_tokens)


# --- Chain-of-Point ------------------------------------------------------------------------------

THOUGHT = (
    "<think>The box is <object> <frame 0>:; (400, 500), (600, 700) </object> at first and"
    " <object> <frame 2>:; (400, 500), (600, 700) </object> now.</think>"
)
CONCLUSION = "#### <answer><affordance><frame 2>, (500, 600)</affordance></answer>"


def think(frames: FrameSet, text: str, task: Task = Task.AFFORDANCE) -> RecordedEngine:
    """Who once thought so. In the form of the training data: no run of RynnBrain-CoP was
    published with its text."""
    messages = compose(thinking(frames, task), Generation.V1_0)
    recorded = RecordedAnswer("RynnBrain-CoP-8B", plain_messages(messages), text)
    return RecordedEngine([recorded])


def thinking(frames: FrameSet, task: Task = Task.AFFORDANCE) -> Query:
    return make_query(
        1, Question("Where is the box?", task, thinking=task is not Task.THINK), frames
    )


def test_thoughts_arrive_before_the_answer_bound_to_their_frames(frames: FrameSet):
    heard: list[tuple[str, int, bool]] = []
    written: list[str] = []

    def take(lifted: LiftedGrounding, is_reasoning: bool) -> None:
        assert lifted.frame is not None
        assert lifted.target is not None
        assert math.isnan(lifted.confidence)
        at = sum(map(len, written))
        heard.append((lifted.grounding.kind, lifted.frame.frame.stamp_ns, is_reasoning))
        assert THOUGHT[:at].count("</object>") == sum(thought for *_, thought in heard)

    engine = think(frames, THOUGHT + CONCLUSION)
    response = ask(engine, thinking(frames), on_text=written.append, on_grounding=take)

    stamps = [f.frame.stamp_ns for f in frames]
    assert heard == [
        ("object", stamps[0], True),
        ("object", stamps[2], True),
        ("affordance", stamps[2], False),
    ]
    assert [lifted.frame for lifted in response.reasoning] == [frames[0], frames[2]]
    assert only(response).frame == frames[2]


def test_a_free_question_to_the_thinking_model_is_answered_behind_its_thoughts(frames: FrameSet):
    engine = think(frames, f"{THOUGHT}#### It stands still.", Task.THINK)
    response = ask(engine, thinking(frames, Task.THINK))
    assert response.reading.answer_text == "It stands still."
    assert len(response.reasoning) == 2
    assert response.lifted == ()


@pytest.mark.parametrize("task", [Task.THINK, Task.AFFORDANCE])
def test_a_thought_that_was_cut_off_is_no_answer(frames: FrameSet, task: Task):
    text = "The box is <object> <frame 0>:; (400, 500), (600, 700) </object> at first and"
    engine = think(frames, text, task)
    cut = CutOff(engine)
    response = ask(cut, thinking(frames, task))
    assert len(response.reasoning) == 1
    assert not any(lifted.grounding.actionable for lifted in response.lifted)
    assert response.reading.answer_text == ""


class CutOff:
    """Another engine whose budget ran out."""

    def __init__(self, engine: Engine) -> None:
        self.info, self._engine = engine.info, engine

    def ask(self, *question: object) -> Answer:
        return replace(self._engine.ask(*question), finish_reason=FinishReason.LENGTH)

    def close(self) -> None:
        self._engine.close()


# --- the question --------------------------------------------------------------------------------


def test_a_question_has_the_same_id_in_every_replay(frames: FrameSet):
    question = Question("Where?", Task.OBJECT)
    assert make_query(3, question, frames).query_id == make_query(3, question, frames).query_id
    assert make_query(3, question, frames).query_id.startswith("q0003-")


@pytest.mark.parametrize(
    "other",
    [
        Question("Where to?", Task.OBJECT),
        Question("Where?", Task.AREA),
        Question("Where?", Task.OBJECT, thinking=True),
        Question("Where?", Task.OBJECT, abstain=True),
    ],
)
def test_another_question_has_another_id(other: Question, frames: FrameSet):
    first = make_query(1, Question("Where?", Task.OBJECT), frames)
    assert make_query(1, other, frames).query_id != first.query_id


def test_other_frames_make_another_question(frames: FrameSet):
    question = Question("Where?")
    fewer = FrameSet(frames.frames[:2])
    assert make_query(1, question, fewer).query_id != make_query(1, question, frames).query_id


def test_thinking_may_cost_more(frames: FrameSet):
    short = make_query(1, Question("Where?", Task.OBJECT), frames).budget.max_new_tokens
    long = make_query(1, Question("Where?", Task.OBJECT, True), frames).budget.max_new_tokens
    assert long > short


# --- the chain -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_grounding_is_bound_to_the_frame_it_names(index: int, frames: FrameSet):
    lifted = only(respond(frames, POINT.format(index)))
    assert lifted.frame is frames[index]


def test_pixels_are_those_of_the_frame(frames: FrameSet):
    lifted = only(respond(frames, POINT.format(1)))
    assert lifted.points_px == ((pytest.approx(79.5), pytest.approx(71.4)),)


def test_the_pose_is_that_of_the_named_frame(frames: FrameSet):
    moved = RigidTransform("odom", frames[1].frame.frame_id, (10.0, 0.0, 0.0))
    lifted = only(respond(with_frame(frames, 1, T_fixed_camera=moved), POINT.format(1)))
    x, y, z = lifted.target.point_camera_m
    assert lifted.fixed_frame_id == "odom"
    assert lifted.target.point_fixed_m == pytest.approx((x + 10, y, z))


def test_a_target_has_a_covariance_in_both_frames(frames: FrameSet):
    target = only(respond(frames, POINT.format(2))).target
    assert target.sigma_m > 0
    camera, fixed = target.covariance_camera_m2, target.covariance_fixed_m2
    assert sum(fixed[::4]) == pytest.approx(sum(camera[::4]))


def test_one_frame_needs_no_name(frames: FrameSet):
    one = FrameSet(frames.frames[2:])
    lifted = only(respond(one, "<affordance> (500, 600) </affordance>"))
    assert lifted.frame is frames[2]
    assert lifted.target is not None


def test_reasoning_is_lifted_apart_from_the_answer(frames: FrameSet):
    text = f"<think>Here: {POINT.format(0)}</think>#### <answer>{POINT.format(2)}</answer>"
    response = respond(frames, text)
    assert [item.frame for item in response.reasoning] == [frames[0]]
    assert [item.frame for item in response.lifted] == [frames[2]]


def test_a_trajectory_starts_at_its_target(frames: FrameSet):
    text = "<trajectory> <frame 2>: (300, 800), (500, 600), (700, 800) </trajectory>"
    lifted = only(respond(frames, text, Task.TRAJECTORY))
    assert len(lifted.points) == 3
    assert lifted.target == lifted.points[0]
    assert [point.interpolated for point in lifted.points] == [False, True, False]


def test_an_area_has_a_place_for_each_point(frames: FrameSet):
    text = "<area> <frame 2>: (300, 850), (500, 850), (700, 850) </area>"
    lifted = only(respond(frames, text, Task.AREA))
    assert len(lifted.points) == 3
    assert lifted.target in lifted.points


def test_confidence_is_that_of_the_coordinates(frames: FrameSet):
    class Sure(ScriptedEngine):
        def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
            answer = super().ask(query, on_text, cancel)
            at = answer.text.index("500")
            tokens = (TokenProbability(at, at + 3, 0.5), TokenProbability(at + 5, at + 8, 0.7))
            return replace(answer, token_probabilities=tokens)

    query = make_query(1, Question("Where?", Task.AFFORDANCE), frames)
    assert only(ask(Sure(POINT.format(2)), query)).confidence == pytest.approx(0.6)


def test_confidence_is_nan_where_the_engine_gives_none(frames: FrameSet):
    assert math.isnan(only(respond(frames, POINT.format(2))).confidence)


def test_text_is_passed_on_as_it_comes(frames: FrameSet):
    pieces: list[str] = []
    query = make_query(1, Question("Where?"), frames)
    ask(ScriptedEngine("On the table."), query, on_text=pieces.append)
    assert pieces == ["On the table."]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "task", "code"),
    [
        ("Nowhere.", Task.AFFORDANCE, RefusalCode.NO_GROUNDING),
        ("<no object>", Task.OBJECT, RefusalCode.NO_GROUNDING),
        ("<affordance> (500, 600) </affordance>", Task.AFFORDANCE, RefusalCode.FRAME_IMPLICIT),
        (POINT.format(2).replace("600", "1001"), Task.AFFORDANCE, RefusalCode.OUT_OF_RANGE),
        ("<counting>3</counting>", Task.COUNT, RefusalCode.NOT_SPATIAL),
        ("<object> <frame 0>: (5, 5), (5, 5) </object>", Task.OBJECT, RefusalCode.NO_GROUNDING),
    ],
)
def test_an_unusable_grounding_is_refused_by_name(
    text: str, task: Task, code: RefusalCode, frames: FrameSet
):
    lifted = only(respond(frames, text, task))
    assert lifted.refusal.code is code
    assert lifted.target is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the answer is empty"),
        ("Nowhere.", "the answer points at nothing"),
        ("<no object>", "the engine says that it is not there"),
        (POINT.format(99), "unusable answer: It names frame 99; 3 were shown."),
    ],
)
def test_a_missing_grounding_is_explained(text: str, why: str, frames: FrameSet):
    assert only(respond(frames, text)).refusal.text == why


def test_an_answer_that_was_cut_off_is_refused(frames: FrameSet):
    class Cut(ScriptedEngine):
        def ask(self, query: Query, on_text=None, cancel=None) -> Answer:
            answer = super().ask(query, on_text, cancel)
            return replace(answer, finish_reason=FinishReason.LENGTH)

    query = make_query(1, Question("Where?", Task.AFFORDANCE), frames)
    response = ask(Cut("<affordance> <frame 2>: (500, 60"), query)
    assert all(lifted.target is None and lifted.refusal for lifted in response.lifted)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"depth": None}, RefusalCode.NO_DEPTH),
        ({"camera_info": None}, RefusalCode.NO_INTRINSICS),
        ({"camera_info": CameraInfo(160, 120, (0.0,) * 9)}, RefusalCode.NO_INTRINSICS),
        (
            {"camera_info": CameraInfo(320, 240, (262.0, 0, 160, 0, 262.0, 120, 0, 0, 1))},
            RefusalCode.NO_INTRINSICS,
        ),
    ],
    ids=["no_depth", "no_info", "zero_info", "other_size"],
)
def test_a_frame_that_cannot_be_lifted_is_refused_by_name(
    change: dict, code: RefusalCode, frames: FrameSet
):
    lifted = only(respond(with_frame(frames, 2, **change), POINT.format(2)))
    assert lifted.refusal.code is code
    assert lifted.points_px


def test_another_frame_is_not_asked_for_what_one_lacks(frames: FrameSet):
    blind = with_frame(frames, 2, depth=None)
    assert only(respond(blind, POINT.format(1))).target is not None


def test_without_a_pose_the_place_is_in_the_cameras_frame(frames: FrameSet):
    lost = with_frame(frames, 2, T_fixed_camera=None)
    lifted = only(respond(lost, POINT.format(2)))
    assert lifted.target.point_camera_m is not None
    assert lifted.target.point_fixed_m is None
    assert lifted.fixed_frame_id == ""


def test_the_frames_come_from_the_bag(frames: FrameSet):
    assert [frame.frame.stamp_ns - START_NS for frame in frames] == [0, 500_000_000, 10**9]
    assert {frame.frame.T_fixed_camera.parent for frame in frames} == {FIXED_FRAME}
