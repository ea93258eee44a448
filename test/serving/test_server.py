"""The server over real sockets, with an engine that does as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import (
    MODEL,
    PATIENCE_S,
    ScriptedEngine,
    asking,
    chat,
    error_of,
    eventually,
    metric,
    picture,
    post,
    raw,
    request_bytes,
    waiting,
)

from rynn_brain_ros.values import (
    EngineError,
    RecordedAnswerMissingError,
    UnreadableQuestionError,
)

TOKEN = "a-token-of-this-test"


# --- answers -------------------------------------------------------------------------------------


def test_an_answer_comes_whole_with_its_usage(serve):
    reply = post(serve(ScriptedEngine()).url, chat(logprobs=True))
    record = reply.json()
    (choice,) = record["choices"]
    assert record["object"] == "chat.completion"
    assert choice["message"] == {"role": "assistant", "content": "Two cubes.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert record["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    tokens = choice["logprobs"]["content"]
    assert [token["token"] for token in tokens] == ["Two ", "cubes."]
    assert tokens[0]["logprob"] == pytest.approx(-0.693, abs=1e-3)


def test_an_answer_is_streamed_as_it_is_written(serve):
    engine = ScriptedEngine("one ", "two ", "three")
    engine.hold()
    server = serve(engine)
    engine.allow()
    with asking(server.url, chat(stream_options={"include_usage": True})) as reply:
        assert reply.headers["content-type"] == "text/event-stream"
        events = (json.loads(line[6:]) for line in reply.iter_lines() if line[6:7] == "{")
        assert next(events)["choices"][0]["delta"]["role"] == "assistant"
        assert next(events)["choices"][0]["delta"] == {"content": "one "}
        engine.allow(2)  # only now is the rest written
        rest = list(events)
    assert [c["delta"].get("content") for r in rest for c in r["choices"]] == [
        "two ",
        "three",
        None,
    ]
    assert rest[-2]["choices"][0]["finish_reason"] == "stop"
    assert rest[-1]["usage"]["total_tokens"] == 10


def test_the_model_is_listed_and_described(serve):
    url = serve(ScriptedEngine()).url
    (listed,) = httpx.get(f"{url}/models").json()["data"]
    assert listed["id"] == MODEL
    assert httpx.get(f"{url}/models/{MODEL}").json() == listed
    assert error_of(httpx.get(f"{url}/models/other"))["code"] == "model_not_found"


def test_frames_sent_again_have_the_same_identity(serve):
    engine = ScriptedEngine()
    url = serve(engine).url
    for _ in range(2):
        post(url, chat("?", picture(1), picture(2)))
    first, second = engine.asked
    assert [f.sha256 for f in first.frames] == [f.sha256 for f in second.frames]


# --- refusals ------------------------------------------------------------------------------------


def test_bad_requests_get_the_protocols_own_errors(serve):
    url = serve(ScriptedEngine()).url
    reply = post(url, chat(temperature=1.5))
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "temperature"
    assert error_of(httpx.get(f"{url}/nothing"))["type"] == "invalid_request_error"
    assert httpx.get(f"{url}/chat/completions").status_code == 405
    plain = httpx.post(
        f"{url}/chat/completions", content=b"{}", headers={"content-type": "text/plain"}
    )
    assert plain.status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("the GPU is gone"), 500, "engine_failed"),
        (UnreadableQuestionError("too long"), 400, "unanswerable"),
        (RecordedAnswerMissingError("never asked"), 400, "answer_not_recorded"),
        (KeyError("a bug"), 500, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_fails_is_told_with_its_status(serve, error, status, code, stream):
    engine = ScriptedEngine(error=error)
    url = serve(engine).url
    reply = post(url, chat(stream=stream))
    assert reply.status_code == status
    assert error_of(reply)["code"] == code
    assert (reply.headers.get("x-should-retry") == "false") == (status == 500)
    engine.error = None
    assert post(url, chat()).status_code == 200


def test_a_body_that_is_too_large_is_refused_told_or_not(serve):
    url = serve(ScriptedEngine(), body_bytes=1000).url
    assert post(url, chat("x" * 5000)).status_code == 413
    pieces = (b"x" * 500 for _ in range(10))
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{url}/chat/completions", content=pieces, headers=headers)
    assert error_of(reply)["code"] == "request_too_large"


def test_a_body_that_never_comes_is_given_up(serve):
    url = serve(ScriptedEngine(), body_s=0.05).url
    with raw(url, request_bytes(chat())[:-5]) as connection:
        connection.settimeout(PATIENCE_S)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_too_many_requests_a_minute_are_told_when_to_come_again(serve):
    url = serve(ScriptedEngine(), rate=20.0).url
    statuses = [post(url, chat()).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert int(post(url, chat()).headers["retry-after"]) >= 1
    assert httpx.get(f"{url}/models").status_code == 200


def test_with_a_token_only_those_who_show_it_are_answered(serve):
    server = serve(ScriptedEngine(), token=TOKEN)
    url, root = server.url, server.url.removesuffix("/v1")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
        reply = post(url, chat(), headers=headers)
        assert reply.status_code == 401
        assert error_of(reply)["code"] == "invalid_api_key"
        assert TOKEN not in reply.text
    assert httpx.get(f"{root}/metrics").status_code == 401
    assert httpx.get(f"{root}/healthz").json()["status"] == "ok"
    assert post(url, chat(), headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "127.0.1.1", "[::1]:8000"])
def test_every_name_of_this_machine_opens(serve, host):
    server = serve(ScriptedEngine())
    assert httpx.get(f"{server.url}/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost/healthz?", "localhost/healthz#", "[::1", "evil"])
def test_a_strange_host_opens_nothing(serve, host):
    for server, status in (
        (serve(ScriptedEngine(), token=TOKEN), 401),
        (serve(ScriptedEngine()), 403),
    ):
        assert httpx.get(f"{server.url}/models", headers={"host": host}).status_code == status


def test_without_a_token_a_page_that_renamed_this_machine_is_refused(serve):
    url = serve(ScriptedEngine()).url
    reply = post(url, chat(), headers={"host": "evil.example:8000"})
    assert reply.status_code == 403
    assert error_of(reply)["code"] == "wrong_host"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=300), cut=st.integers(0, 300))
def test_garbage_bodies_never_harm_the_server(garbage_url, body, cut):
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{garbage_url}/chat/completions", content=body, headers=headers)
    assert reply.status_code == 400
    raw(garbage_url, request_bytes(chat())[:cut]).close()


@pytest.fixture
def garbage_url(serve) -> Iterator[str]:
    url = serve(ScriptedEngine(), rate=0.0).url
    yield url
    assert post(url, chat()).status_code == 200


def test_what_is_no_http_at_all_is_refused(serve):
    url = serve(ScriptedEngine()).url
    with raw(url, b"\x16\x03\x01\x02\x00 garbage\r\n\r\n") as connection:
        connection.settimeout(PATIENCE_S)
        assert b"400" in connection.recv(1000)
    assert post(url, chat()).status_code == 200


# --- waiting -------------------------------------------------------------------------------------


def test_a_full_house_says_when_to_come_again(serve):
    engine = ScriptedEngine()
    engine.hold()
    server = serve(engine, waiting=1)
    with ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(post, server.url, chat(user=str(i))) for i in range(2)]
        eventually(lambda: len(engine.asked) == 1 and waiting(server) == 1)
        reply = post(server.url, chat())
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert error_of(reply)["code"] == "rate_limit_exceeded"
        engine.allow(4)
        assert [reply.result().status_code for reply in inside] == [200, 200]


def test_a_greedy_client_does_not_keep_a_modest_one_waiting(serve):
    engine = ScriptedEngine("x")
    engine.hold()
    server = serve(engine)
    with ThreadPoolExecutor(6) as pool:
        replies = []
        for i in range(5):
            replies.append(pool.submit(post, server.url, chat(f"greedy {i}", user="greedy")))
            eventually(lambda: len(engine.asked) + waiting(server) == len(replies))
        replies.append(pool.submit(post, server.url, chat("modest", user="modest")))
        eventually(lambda: waiting(server) == 5)
        engine.allow(6)
        assert all(reply.result().status_code == 200 for reply in replies)
    assert [query.instruction for query in engine.asked].index("modest") == 2


def test_a_client_that_dies_frees_its_slot(serve):
    engine = ScriptedEngine("one ", "two ", "three")
    engine.hold()
    server = serve(engine)
    engine.allow()
    with asking(server.url, chat("first")) as reply:
        assert "role" in next(reply.iter_lines())
    assert engine.cancelled.wait(PATIENCE_S)
    engine.allow(3)
    assert post(server.url, chat("second")).json()["choices"][0]["message"]["content"]
    eventually(lambda: metric(server, "rynn_brain_cancelled_total") == 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_dies_before_the_first_word_frees_its_slot(serve, stream):
    engine = ScriptedEngine()
    engine.hold()
    server = serve(engine)
    connection = raw(server.url, request_bytes(chat(stream=stream)))
    eventually(lambda: len(engine.asked) == 1)
    connection.close()
    assert engine.cancelled.wait(PATIENCE_S)


def test_a_client_that_dies_while_it_waits_is_never_asked_for(serve):
    engine = ScriptedEngine("x")
    engine.hold()
    server = serve(engine)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server.url, chat("first"))
        eventually(lambda: len(engine.asked) == 1)
        connection = raw(server.url, request_bytes(chat("gone")))
        eventually(lambda: waiting(server) == 1)
        connection.close()
        eventually(lambda: waiting(server) == 0)
        engine.allow(2)
        assert first.result().status_code == 200
        assert post(server.url, chat("last")).status_code == 200
    assert [query.instruction for query in engine.asked] == ["first", "last"]


# --- metrics -------------------------------------------------------------------------------------


def test_prometheus_can_read_what_is_measured(serve):
    server = serve(ScriptedEngine())
    post(server.url, chat())
    post(server.url, chat(n=3))
    counted = {"path": "/v1/chat/completions"}
    assert metric(server, "rynn_brain_requests_total", **counted, status="200") == 1
    assert metric(server, "rynn_brain_requests_total", **counted, status="400") == 1
    assert metric(server, "rynn_brain_tokens_total", kind="prompt") == 7
    assert metric(server, "rynn_brain_tokens_total", kind="completion") == 2
    assert metric(server, "rynn_brain_answer_seconds_count") == 1
    assert metric(server, "rynn_brain_first_text_seconds_count") == 1
    assert metric(server, "rynn_brain_waiting") == metric(server, "rynn_brain_answering") == 0
    assert metric(server, "rynn_brain_info", model=MODEL) == 1
