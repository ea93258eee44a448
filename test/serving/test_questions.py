"""What a request means, and which ones are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import MODEL, chat, image_part, picture, question

from rynn_brain_ros.language import compose
from rynn_brain_ros.models.http_request import request_body
from rynn_brain_ros.models.recorded import plain_messages
from rynn_brain_ros.serving.kept_frames import KeptFrames
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.serving.questions import ChatRequest, read_request
from rynn_brain_ros.serving.refusals import RequestError
from rynn_brain_ros.values import EngineInfo, Generation, Query, Task, Turn

INFO = EngineInfo("scripted", MODEL)


def read(record: Any, info: EngineInfo = INFO, **limits: Any) -> ChatRequest:
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    return read_request(body, info, Limits(**limits), KeptFrames(1 << 20))


def refused(record: Any, info: EngineInfo = INFO, **limits: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(record, info, **limits)
    return caught.value


def sent(query: Query, info: EngineInfo = INFO, ours: bool = True) -> Query:
    """As it arrives at the engine behind the server."""
    return read(request_body(query, info, ours=ours), info).query


# --- what our own client asks --------------------------------------------------------------------


@pytest.mark.parametrize("generation", Generation)
@pytest.mark.parametrize("task", Task)
def test_a_question_of_our_client_arrives_as_it_would_in_process(task, generation):
    history = (Turn(question(1).frames, "Pick it up."),) if task in (Task.PLAN,) else ()
    query = question(2, 3, task=task, history=history, abstain=True)
    info = EngineInfo("scripted", MODEL, generation)
    arrived = sent(query, info)
    assert plain_messages(compose(arrived, generation)) == plain_messages(
        compose(query, generation)
    )
    for name in ("task", "instruction", "thinking", "abstain", "budget"):
        assert getattr(arrived, name) == getattr(query, name), name
    assert arrived.frames.max_visual_tokens == query.frames.max_visual_tokens


def test_the_turns_of_a_plan_are_found_again():
    history = (Turn(question(1, 2).frames, "Pick."), Turn(question(3).frames, "Place."))
    query = question(4, 5, task=Task.PLAN, history=history)
    arrived = sent(query)
    assert [turn.answer for turn in arrived.history] == ["Pick.", "Place."]
    shown = [[f.sha256 for f in turn.frames] for turn in (*arrived.history, arrived)]
    assert shown == [[f.sha256 for f in turn.frames] for turn in (*query.history, query)]


def test_thinking_and_large_pictures_arrive_unchanged():
    query = question(task=Task.OBJECT, thinking=True)
    large = picture(1, 1920, 1080)
    query = Query(**{**vars(query), "frames": type(query.frames)((large,), 640)})
    arrived = sent(query)
    assert arrived.thinking
    assert arrived.frames[0].image == large.image
    assert arrived.frames.max_visual_tokens == 640


def test_another_servers_question_of_our_client_is_read_too():
    arrived = sent(question(1, 2), ours=False)
    assert arrived.task is Task.DESCRIBE
    assert len(arrived.frames) == 2


# --- what other clients ask ----------------------------------------------------------------------


def test_a_plain_chat_is_a_free_question_about_its_pictures():
    request = read(chat("Where is the cup?", picture(1), picture(2)))
    assert request.query.task is Task.DESCRIBE
    assert request.query.instruction == "Where is the cup?"
    assert [f.sha256 for f in request.query.frames] == [picture(1).sha256, picture(2).sha256]
    assert request.query.frames.max_visual_tokens == 5120
    assert (request.stream, request.usage, request.logprobs, request.extended) == (False,) * 4


def test_an_engine_that_only_plans_is_asked_to_plan():
    info = EngineInfo("scripted", MODEL, tasks=frozenset({Task.PLAN}))
    assert read(chat(), info).query.task is Task.PLAN


def test_words_may_come_without_parts_and_from_a_developer():
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Again"},
    ]
    query = read({"model": MODEL, "messages": messages}).query
    assert [message.role for message in query.chat] == ["system", "user", "assistant", "user"]
    assert query.instruction == "Again"


def test_the_same_picture_is_the_same_frame_in_every_request():
    first, second = (read(chat("?", picture(1))).query.frames[0] for _ in range(2))
    assert first.sha256 == second.sha256 == picture(1).sha256


def test_what_means_nothing_here_is_let_pass():
    read(chat(seed=3, top_p=0.2, user="me", n=1, temperature=0, stop=None, tools=[]))


# --- refusals ------------------------------------------------------------------------------------


def bad_image(url: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}


BAD = {
    "a picture never sent": (bad_image("sha256:00"), "unknown_image", None),
    "not json": (b"{", "invalid_json", None),
    "not utf-8": (b"\xff\xfe{}", "invalid_json", None),
    "no object": (b"[1]", "invalid_json", None),
    "deep": (b"[" * 100_000, "invalid_json", None),
    "no model": ({"messages": []}, None, "model"),
    "other model": (chat(model="gpt"), "model_not_found", "model"),
    "no messages": ({"model": MODEL}, None, "messages"),
    "empty messages": ({"model": MODEL, "messages": []}, None, "messages"),
    "a tool's message": (
        {"model": MODEL, "messages": [{"role": "tool", "content": "x"}]},
        None,
        "messages[0].role",
    ),
    "no content": (
        {"model": MODEL, "messages": [{"role": "user", "content": None}]},
        None,
        "messages[0].content",
    ),
    "sound": (
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        None,
        "messages[0].content[0]",
    ),
    "half a character": (chat("\ud800"), None, "messages[0].content[0].text"),
    "a page": (bad_image("https://example.com/a.jpg"), "invalid_image_url", None),
    "a file": (bad_image("file:///etc/passwd"), "invalid_image_url", None),
    "no base64": (bad_image("data:image/png;base64,@@"), "invalid_base64_image", None),
    "no picture": (bad_image("data:image/png;base64,AAAA"), "invalid_image", None),
    "no url": (bad_image(3), None, "messages[0].content[0]"),
    "unknown": (chat(frobnicate=1), "unknown_parameter", "frobnicate"),
    "warm": (chat(temperature=0.7), "unsupported_value", "temperature"),
    "two answers": (chat(n=2), "unsupported_value", "n"),
    "a tool": (chat(tools=[{}]), "unsupported_value", "tools"),
    "a schema": (chat(response_format={"type": "json_schema"}), "unsupported_value", None),
    "thinking": (
        chat(chat_template_kwargs={"enable_thinking": True}),
        "unsupported_value",
        "chat_template_kwargs",
    ),
    "no tokens": (chat(max_tokens=0), None, "max_tokens"),
    "too many tokens": (chat(max_completion_tokens=10**9), None, "max_completion_tokens"),
    "a flag of tokens": (chat(max_tokens=True), "invalid_type", "max_tokens"),
    "stream of words": (chat(stream="yes"), "invalid_type", "stream"),
    "a strange client": (chat(rynn_brain={"task": "dance"}), None, "rynn_brain"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_cannot_be_answered_is_refused_by_name(name):
    record, code, param = BAD[name]
    error = refused(record)
    assert error.status == {"model_not_found": 404, "unknown_image": 409}.get(code, 400)
    assert error.kind == "invalid_request_error"
    assert code is None or error.code == code
    assert param is None or error.param == param


def test_more_images_than_allowed_are_refused():
    record = chat("?", *(picture(1) for _ in range(5)))
    assert refused(record, images=4).code == "too_many_images"
    assert len(read(record, images=5).query.frames) == 5


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded():
    assert refused(chat("?", picture(1)), image_bytes=100).code == "image_too_large"


def test_a_claim_of_a_huge_picture_is_refused():
    header = (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (20000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0IEND"
    )
    url = "data:image/png;base64," + __import__("base64").b64encode(header).decode()
    assert "20000" in str(refused(bad_image(url)))


def test_a_task_that_the_engine_does_not_know_is_refused():
    info = EngineInfo("scripted", MODEL, tasks=frozenset({Task.PLAN}))
    body = request_body(question(1), INFO, ours=True)
    assert "plan" in str(refused(body, info))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "x"])},
        optional={"text": JSON, "image_url": JSON},
    )
    | JSON,
    max_size=3,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]) | JSON, "content": PARTS})
    | JSON,
    max_size=3,
)
FIELDS = ("max_tokens", "temperature", "stream", "stream_options", "user", "rynn_brain", "logprobs")


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({"messages": MESSAGES | JSON}, optional=dict.fromkeys(FIELDS, JSON)))
def test_garbage_is_refused_or_read_and_never_a_crash(record):
    try:
        read({"model": MODEL, **record})
    except RequestError as error:
        assert 400 <= error.status < 500
        json.dumps(error.record).encode()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_refused(body):
    with pytest.raises(RequestError):
        read(body)


def test_the_image_part_may_be_a_plain_url():
    part = {"type": "image_url", "image_url": image_part(picture(1))["image_url"]["url"]}
    record = {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}
    assert len(read(record).query.frames) == 1
