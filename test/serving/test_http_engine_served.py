"""Our own client on our own server: as if the engine were in this process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from parts import (
    MODEL,
    PATIENCE_S,
    POINT,
    ScriptedEngine,
    data_url,
    eventually,
    frames,
    picture,
    question,
)

from rynn_brain_ros.models import ColorBaselineEngine, RecordedEngine, RecordingEngine, check_engine
from rynn_brain_ros.models.http import HttpEngine
from rynn_brain_ros.models.recorded import RecordedAnswer
from rynn_brain_ros.values import (
    EngineError,
    FinishReason,
    FrameSet,
    Generation,
    QueryBudget,
    Task,
    Turn,
    UnreadableQuestionError,
    UnsupportedTaskError,
)


def test_it_keeps_the_engine_contract(serve):
    engine = ScriptedEngine(POINT, tasks=frozenset(Task) - {Task.PLAN})
    assert check_engine(HttpEngine(serve(engine).url), question(1, 2)) == ()


def test_it_knows_of_the_engine_what_the_engine_knows_of_itself(serve):
    tasks = frozenset({Task.PLAN})
    engine = ScriptedEngine(generation=Generation.V1_1, revision="r", tasks=tasks)
    assert HttpEngine(serve(engine).url).info == replace(engine.info, name="http")


def test_an_answer_arrives_with_everything_that_the_engine_told(serve):
    engine = ScriptedEngine("It is ", POINT[6:], " and so on")
    answer = HttpEngine(serve(engine).url).ask(question(1))
    expected = engine.ask(question(1))
    same = ("query_id", "text", "finish_reason", "model", "revision", "quantization")
    same += ("prompt_tokens", "completion_tokens", "token_probabilities")
    assert [getattr(answer, name) for name in same] == [getattr(expected, name) for name in same]
    assert answer.timings.prefill_s == expected.timings.prefill_s
    assert answer.timings.total_s > 0


def test_a_length_that_ran_out_is_told(serve):
    class Cut(ScriptedEngine):
        def ask(self, *arguments: Any) -> Any:
            return replace(super().ask(*arguments), finish_reason=FinishReason.LENGTH)

    answer = HttpEngine(serve(Cut()).url).ask(question(1))
    assert answer.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("task", [task for task in Task if task is not Task.NAVIGATE])
def test_the_colour_engine_answers_over_http_as_in_process(serve, task):
    large = picture(3, 1500, 1000)
    shown = FrameSet((*frames(1, 2).frames, large), 700)
    query = replace(question(task=task, words="Move the red cube to the blue cup"), frames=shown)
    if task is Task.PLAN:
        query = replace(query, history=(Turn(frames(4), "Pick up the red cube."),))
    engine = ColorBaselineEngine()
    assert HttpEngine(serve(engine).url).ask(query).text == engine.ask(query).text


def test_recorded_answers_are_found_over_http(serve):
    kept: list[RecordedAnswer] = []
    query = replace(question(), frames=FrameSet((picture(1, 1500, 1000),), 300))
    RecordingEngine(ScriptedEngine(POINT), lambda _, answer: kept.append(answer)).ask(query)
    served = HttpEngine(serve(RecordedEngine(kept)).url)
    assert served.ask(query).text == POINT
    with pytest.raises(UnreadableQuestionError, match="holds no answer"):
        served.ask(question(2))


def test_a_server_may_stand_before_another_one(serve):
    behind = serve(ScriptedEngine(POINT))
    before = serve(HttpEngine(behind.url))
    assert HttpEngine(before.url).ask(question(1, 2)).text == POINT


# --- pictures that were sent before --------------------------------------------------------------


def test_only_the_new_picture_of_a_window_is_sent(serve):
    engine = ScriptedEngine(POINT)
    served = HttpEngine(serve(engine, body_bytes=2 * len(data_url(picture(1)))).url)
    windows = [question(1), question(1, 2), question(1, 2, 3), question(2, 3, 4)]
    for query in windows:
        served.ask(query)
    for asked, query in zip(engine.asked, windows, strict=True):
        assert [f.image for f in asked.frames] == [f.image for f in query.frames]


def test_pictures_that_the_server_forgot_are_sent_again(serve):
    engine = ScriptedEngine(POINT)
    served = HttpEngine(serve(engine, kept_bytes=1).url)
    for _ in range(2):
        assert served.ask(question(1, 2)).text == POINT
    assert [f.image for f in engine.asked[1].frames] == [f.image for f in question(1, 2).frames]


def test_earlier_turns_pictures_are_known_too(serve):
    engine = ScriptedEngine("Done.")
    served = HttpEngine(serve(engine).url)
    served.ask(question(1, 2, task=Task.PLAN))
    history = (Turn(frames(1, 2), "Pick up the cup."),)
    served.ask(question(3, task=Task.PLAN, history=history))
    (turn,) = engine.asked[1].history
    assert [f.image for f in turn.frames] == [f.image for f in frames(1, 2)]


# --- stopping ------------------------------------------------------------------------------------


def test_cancelling_stops_the_engine_within_a_word(serve):
    engine = ScriptedEngine("one ", "two ", "three")
    engine.hold()
    cancel = threading.Event()
    served = HttpEngine(serve(engine).url)
    engine.allow()
    answer = served.ask(question(1), lambda _: cancel.set(), cancel)
    assert (answer.text, answer.finish_reason) == ("one ", FinishReason.CANCELLED)
    assert engine.cancelled.wait(PATIENCE_S)


def test_cancelling_before_the_first_word_stops_the_engine(serve):
    engine = ScriptedEngine()
    engine.hold()
    cancel = threading.Event()
    served = HttpEngine(serve(engine).url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.ask, question(1), None, cancel)
        eventually(lambda: len(engine.asked) == 1)
        cancel.set()
        assert asked.result(PATIENCE_S).finish_reason is FinishReason.CANCELLED
    assert engine.cancelled.wait(PATIENCE_S)


def test_a_budget_that_is_over_stops_the_engine(serve):
    engine = ScriptedEngine()
    engine.hold()
    with pytest.raises(EngineError, match=r"within 0\.2 s"):
        HttpEngine(serve(engine).url).ask(question(1, timeout_s=0.2))
    assert engine.cancelled.wait(PATIENCE_S)
    assert engine.asked[0].budget.timeout_s == 0.2


def test_an_error_of_the_listener_is_its_own_and_frees_the_slot(serve):
    engine = ScriptedEngine("one ", "two")
    engine.hold()
    engine.allow()

    def fail(_: str) -> None:
        raise BrokenPipeError("the listener's own")

    with pytest.raises(BrokenPipeError, match="own"):
        HttpEngine(serve(engine).url).ask(question(1), fail)
    assert engine.cancelled.wait(PATIENCE_S)


def test_a_server_that_stops_says_so(serve):
    engine = ScriptedEngine("one ", "two")
    engine.hold()
    server = serve(engine)
    served = HttpEngine(server.url)
    engine.allow()
    with ThreadPoolExecutor(1) as pool:
        stopping: list[Any] = []
        with pytest.raises(EngineError, match="shutting down"):
            served.ask(question(1), lambda _: stopping.append(pool.submit(server.stop, 0.0)))
        assert stopping[0].result()


def test_a_full_server_is_asked_again_within_the_budget(serve):
    engine = ScriptedEngine("x")
    engine.hold()
    server = serve(engine, waiting=1, per_client=1)
    served = [HttpEngine(server.url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(each.ask, question(1)) for each in served]
        eventually(lambda: refusals(server) >= 1)
        engine.allow(3)
        assert [each.result().text for each in asked] == ["x"] * 3


def refusals(server: Any) -> int:
    text = httpx.get(server.url.removesuffix("/v1") + "/metrics").text
    return text.count('status="429"')


# --- refusals ------------------------------------------------------------------------------------


def test_a_task_that_the_engine_does_not_know_is_not_even_sent(serve):
    engine = ScriptedEngine(tasks=frozenset({Task.PLAN}))
    with pytest.raises(UnsupportedTaskError, match="affordance"):
        HttpEngine(serve(engine).url).ask(question(1))
    assert engine.asked == []


def test_what_the_engine_cannot_read_is_no_reason_to_ask_again(serve):
    engine = ScriptedEngine(error=UnreadableQuestionError("9000 tokens are too many"))
    with pytest.raises(UnreadableQuestionError, match="9000 tokens"):
        HttpEngine(serve(engine).url).ask(question(1))


def test_the_token_is_shown(serve):
    server = serve(ScriptedEngine(POINT), token="right")
    assert HttpEngine(server.url, token="right").ask(question(1)).text == POINT
    with pytest.raises(EngineError, match="RYNN_BRAIN_API_KEY"):
        HttpEngine(server.url, token="wrong")


def test_more_tokens_than_the_server_gives_are_refused(serve):
    query = replace(question(1), budget=QueryBudget(10**6, 5.0))
    with pytest.raises(UnreadableQuestionError, match="max_tokens"):
        HttpEngine(serve(ScriptedEngine()).url, MODEL).ask(query)
