"""The http engine against a real HTTP server on loopback that behaves, and misbehaves, on order."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recordings import answers, replay

from rynn_brain_ros.memory import select
from rynn_brain_ros.models import check_engine, open_engine
from rynn_brain_ros.models.http import TOKEN_VARIABLE, HttpEngine
from rynn_brain_ros.models.image_grid import grid_size, on_grid
from rynn_brain_ros.planning import ask
from rynn_brain_ros.values import (
    EncodedImage,
    EngineError,
    EngineLostError,
    FinishReason,
    Frame,
    FrameSet,
    InputError,
    Query,
    QueryBudget,
    Task,
    UnreadableQuestionError,
)

POINT = "The affordance is at <affordance> (250, 500) </affordance>"
Handler = Callable[["Talk"], None]


class Talk(BaseHTTPRequestHandler):
    """One request. Scripted by `Server.script`, one entry a question; the last one repeats."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        if self.path in server.pages:
            server.pages[self.path](self)
        else:
            owner = {"owned_by": server.owned_by} if server.owned_by else {}
            self.plain(200, {"data": [{"id": name, **owner} for name in server.models]})

    def do_POST(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.bodies.append(body)
        server.tokens.append(self.headers.get("authorization", ""))
        script = server.script[min(len(server.bodies), len(server.script)) - 1]
        try:
            script(self)
        except OSError:
            server.hung_up.set()

    def plain(self, status: int, record: Any, kind: str = "application/json", **more: str) -> None:
        data = record.encode() if isinstance(record, str) else json.dumps(record).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()

    def event(self, record: Any) -> None:
        data = record if isinstance(record, str) else json.dumps(record)
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def piece(self, text: str, finish: str | None = None, **more: Any) -> None:
        self.event({"choices": [{"delta": {"content": text}, "finish_reason": finish, **more}]})


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.models = ["RynnBrain-8B"]
        self.owned_by = ""
        self.pages: dict[str, Handler] = {}
        self.script: list[Handler] = [says(POINT)]
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.hung_up = threading.Event()
        self.closing = threading.Event()
        self.inside = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def says(text: str, finish: str = "stop", size: int = 7) -> Handler:
    def talk(request: Talk) -> None:
        request.begin()
        for start in range(0, len(text), size):
            request.piece(text[start : start + size])
        request.piece("", finish)
        request.event({"choices": [], "usage": {"prompt_tokens": 321, "completion_tokens": 16}})
        request.event("[DONE]")

    return talk


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.closing.set()
    made.shutdown()
    made.server_close()
    thread.join()


def frames(n: int = 1, width: int = 320, height: int = 256, jpeg: bool = True) -> FrameSet:
    rgb = np.full((height, width, 3), 90, np.uint8)
    suffix, kind = (".jpg", "jpeg") if jpeg else (".png", "png")
    data = cv2.imencode(suffix, rgb)[1].tobytes()
    image = EncodedImage(kind, data, compressed=True)
    return FrameSet(
        tuple(select(Frame("/camera", index, "optical", image)) for index in range(n)),
        10240 // n,
    )


def question(
    task: Task = Task.AFFORDANCE, n: int = 1, timeout_s: float = 20.0, **more: Any
) -> Query:
    return Query("q1", task, "Pick up the cube", frames(n), QueryBudget(64, timeout_s), **more)


def test_it_keeps_the_engine_contract(server: Server) -> None:
    assert check_engine(HttpEngine(server.url), question()) == ()


def test_an_answer_is_streamed_with_its_usage_and_its_model(server: Server) -> None:
    pieces: list[str] = []
    server.script = [says("Two cubes.")]
    answer = HttpEngine(server.url).ask(question(Task.DESCRIBE), pieces.append)
    assert answer.text == "Two cubes."
    assert len(pieces) > 1
    assert (answer.model, answer.engine) == ("RynnBrain-8B", "http")
    assert (answer.prompt_tokens, answer.completion_tokens) == (321, 16)
    assert answer.finish_reason is FinishReason.STOP
    assert answer.timings.prefill_s <= answer.timings.total_s


def test_the_request_is_the_trained_prompt_with_frames_in_their_order(server: Server) -> None:
    query = question(n=2)
    HttpEngine(server.url).ask(query)
    body = server.bodies[0]
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    assert message["content"][0]["text"] == "<frame 0>: "
    picture = message["content"][1]["image_url"]["url"]
    assert base64.b64decode(picture.split(",")[1]) == query.frames[0].image
    assert (body["max_tokens"], body["temperature"]) == (64, 0.0)
    assert "chat_template_kwargs" not in body


@pytest.mark.parametrize("thinking", [False, True])
def test_the_thinking_switch_of_generation_1_1_follows_the_question(
    server: Server, thinking: bool
) -> None:
    server.models = ["RynnBrain1.1-2B"]
    HttpEngine(server.url).ask(question(thinking=thinking))
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": thinking}


@pytest.mark.parametrize("name", ["rynnbrain", "RynnBrain-9B"])
def test_a_model_whose_name_says_nothing_is_told_not_to_think_and_that_is_said(
    server: Server, name: str
) -> None:
    server.models = [name]
    engine = HttpEngine(server.url)
    assert any(
        "does not say which RynnBrain it is: asked as RynnBrain 1.0" in n for n in engine.notes
    )
    engine.ask(question())
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_server_that_takes_no_thinking_switch_is_asked_without(server: Server) -> None:
    server.models = ["rynnbrain"]
    refusal = {"error": {"message": "unknown field chat_template_kwargs"}}
    server.script = [lambda request: request.plain(400, refusal), says(POINT)]
    assert HttpEngine(server.url).ask(question()).text == POINT
    assert "chat_template_kwargs" not in server.bodies[1]
    server.models, server.script = ["RynnBrain1.1-2B"], server.script[:1]
    with pytest.raises(UnreadableQuestionError, match="unknown field"):  # it would think, then
        HttpEngine(server.url).ask(question())


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_that_a_server_tells_apart_are_thoughts(server: Server, field: str) -> None:
    def thinks(request: Talk) -> None:
        request.begin()
        thoughts = ("It is <object> <frame 0>: (1, 2), ", "(300, 400) </object>.")
        for thought in thoughts:
            request.event({"choices": [{"delta": {field: thought}}]})
        tokens = [{"token": "<affordance>", "logprob": 0.0}]
        request.piece("<affordance>", logprobs={"content": tokens})
        request.piece(" <frame 0>: (5, 6) </affordance>", "stop")

    server.script = [thinks]
    response = ask(HttpEngine(server.url), question(thinking=True))
    assert [lifted.grounding.kind for lifted in response.reasoning] == ["object"]
    assert [lifted.grounding.kind for lifted in response.lifted] == ["affordance"]
    (token,) = response.answer.token_probabilities
    assert response.answer.text[token.start : token.end] == "<affordance>"


def test_thoughts_of_a_server_point_before_its_answer_does(server: Server) -> None:
    server.script = [
        says(
            "<think>It is <object> <frame 0>: (1, 2), (300, 400) </object>.</think>"
            "#### <answer><affordance><frame 1>, (5, 6)</affordance></answer>",
            size=3,
        )
    ]
    heard: list[tuple[str, int | None, bool]] = []
    response = ask(
        HttpEngine(server.url),
        question(n=2, thinking=True),
        on_grounding=lambda g, thought: heard.append(
            (g.grounding.kind, g.grounding.frame, thought)
        ),
    )
    assert heard == [("object", 0, True), ("affordance", 1, False)]
    assert [lifted.grounding.frame for lifted in response.reasoning] == [0]
    assert [lifted.grounding.frame for lifted in response.lifted] == [1]


def test_it_stops_the_server_when_the_grounding_is_complete(server: Server) -> None:
    def babble(request: Talk) -> None:
        request.begin()
        request.piece(POINT)
        while not server.closing.wait(0.005):
            request.piece(" and so on")

    server.script = [babble]
    answer = HttpEngine(server.url).ask(question())
    assert answer.text.startswith(POINT)
    assert answer.finish_reason is FinishReason.STOP
    assert server.hung_up.wait(10)


def test_cancelling_ends_a_silent_answer_and_the_servers_work(server: Server) -> None:
    cancel = threading.Event()

    def think_for_ever(request: Talk) -> None:
        request.begin()
        request.piece("Let me ")
        cancel.set()
        while not server.closing.wait(0.01):
            request.wfile.write(b": still here\n\n")

    server.script = [think_for_ever]
    answer = HttpEngine(server.url).ask(question(), cancel=cancel)
    assert answer.finish_reason is FinishReason.CANCELLED
    assert server.hung_up.wait(10)


def test_a_hanging_server_costs_no_more_than_the_budget(server: Server) -> None:
    server.script = [lambda request: [request.begin(), server.closing.wait(30)]]  # type: ignore
    with pytest.raises(EngineError, match=r"within 0\.3 s"):
        HttpEngine(server.url).ask(question(timeout_s=0.3))


def test_the_token_budget_running_out_is_told(server: Server) -> None:
    server.script = [says("<affordance> (2", finish="length")]
    answer = HttpEngine(server.url).ask(question())
    assert answer.finish_reason is FinishReason.LENGTH


def test_an_answer_that_was_filtered_is_one_that_was_cut(server: Server) -> None:
    server.script = [says("<affordance> (2", finish="content_filter")]
    assert HttpEngine(server.url).ask(question()).finish_reason is FinishReason.LENGTH


def test_two_questions_may_learn_at_once_what_a_server_does_not_take(server: Server) -> None:
    together = threading.Barrier(2, timeout=10)

    def refuse(request: Talk) -> None:
        together.wait()  # both were sent before either is refused
        request.plain(400, {"error": {"message": "logprobs are not supported"}})

    server.script = [refuse, refuse, says(POINT)]
    engine = HttpEngine(server.url)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(engine.ask, question()) for _ in range(2)]
        assert [answer.result(10).text for answer in asked] == [POINT] * 2


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_server_that_gives_up_in_the_middle_is_a_lost_one(server: Server, reason: str) -> None:
    server.script = [says("<affordance> (2", finish=reason)]
    with pytest.raises(EngineLostError, match=rf"gave up \({reason}\) in the middle"):
        HttpEngine(server.url).ask(question())


def test_a_name_that_is_looked_up_for_long_costs_no_more_than_the_budget(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, looked_up = HttpEngine(server.url), socket.getaddrinfo
    asked = threading.Event()

    def slowly(*where: Any, **more: Any) -> Any:
        asked.set()
        server.closing.wait(30)
        return looked_up(*where, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(EngineError, match="no connection in time"):
        engine.ask(question(timeout_s=0.2))
    asked.clear()
    assert engine.ask(question(), None, asked).finish_reason is FinishReason.CANCELLED


def test_a_closing_tag_that_the_server_swallowed_does_no_harm(server: Server) -> None:
    server.script = [says("<affordance> (250, 500) ")]
    (lifted,) = ask(HttpEngine(server.url), question()).lifted
    assert lifted.grounding.points == ((250, 500),)
    assert lifted.grounding.actionable


def test_characters_cut_between_pieces_arrive_whole(server: Server) -> None:
    def cut(request: Talk) -> None:
        request.begin()
        data = 'data: {"choices":[{"delta":{"content":"↑↑"},"finish_reason":"stop"}]}\n\n'.encode()
        for index in range(len(data)):
            request.wfile.write(data[index : index + 1])
        request.event("[DONE]")

    server.script = [cut]
    assert HttpEngine(server.url).ask(question(Task.DESCRIBE)).text == "↑↑"


def test_coordinate_confidence_comes_from_the_servers_log_probabilities(server: Server) -> None:
    def certain(request: Talk) -> None:
        request.begin()
        for token, logprob in ((POINT[:35], -3.0), (POINT[35:45], math.log(0.8)), (POINT[45:], -3)):
            request.piece(token, logprobs={"content": [{"token": token, "logprob": logprob}]})
        request.piece("", "stop")
        request.event("[DONE]")

    server.script = [certain]
    (lifted,) = ask(HttpEngine(server.url), question()).lifted
    assert POINT[35:45].strip("( ,)").startswith("250")
    assert lifted.confidence == pytest.approx(0.8)


def test_log_probabilities_that_are_not_told_are_left_out(server: Server) -> None:
    def unsure(request: Talk) -> None:
        request.begin()
        for token, logprob in ((POINT[:20], None), (POINT[20:40], math.nan), (POINT[40:], -1.0)):
            request.piece(token, logprobs={"content": [{"token": token, "logprob": logprob}]})
        request.piece("", "stop")
        request.event("[DONE]")

    server.script = [unsure]
    (token,) = HttpEngine(server.url).ask(question()).token_probabilities
    assert (token.start, token.end) == (40, len(POINT))
    assert token.probability == pytest.approx(math.exp(-1))


def test_a_server_without_log_probabilities_is_asked_without(server: Server) -> None:
    def refuse(request: Talk) -> None:
        request.plain(400, {"error": {"message": "logprobs are not supported"}})

    server.script = [refuse, says(POINT)]
    engine = HttpEngine(server.url)
    assert engine.ask(question()).text == POINT
    assert "logprobs" not in server.bodies[1]


def test_a_busy_server_is_asked_again_within_the_budget(server: Server) -> None:
    def busy(request: Talk) -> None:
        request.plain(429, {"error": {"message": "slow down"}}, retry_after="0.1")

    server.script = [busy, says(POINT)]
    assert HttpEngine(server.url).ask(question()).text == POINT
    server.script, server.bodies[:] = [busy], []
    with pytest.raises(EngineError, match="busy"):
        HttpEngine(server.url).ask(question(timeout_s=0.25))


def in_stream(*events: Any) -> Handler:
    def talk(request: Talk) -> None:
        request.begin()
        for event in events:
            request.event(event)

    return talk


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def cut_after(*events: Any) -> Handler:
    """A stream in chunks whose connection is lost after these."""

    def talk(request: Talk) -> None:
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        request.send_header("transfer-encoding", "chunked")
        request.end_headers()
        for event in events:
            data = f"data: {json.dumps(event)}\n\n".encode()
            request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        request.connection.shutdown(socket.SHUT_RDWR)

    return talk


def test_an_answer_is_whole_when_its_connection_is_lost_behind_its_end(server: Server) -> None:
    server.script = [cut_after(chunk("Two cubes."), chunk("", "stop"))]
    answer = HttpEngine(server.url).ask(question(Task.DESCRIBE))
    assert (answer.text, answer.finish_reason) == ("Two cubes.", FinishReason.STOP)
    server.script = [in_stream(chunk("Two cubes.", "stop"), '{"choices": [], "usa')]
    assert HttpEngine(server.url).ask(question(Task.DESCRIBE)).text == "Two cubes."
    server.script = [cut_after(chunk("Two cu"), chunk("", "abort"))]
    with pytest.raises(EngineLostError, match=r"gave up \(abort\)"):
        HttpEngine(server.url).ask(question(Task.DESCRIBE))


def test_a_stream_that_is_left_open_behind_the_end_of_its_answer_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rynn_brain_ros.models.http_run._USAGE_S", 0.1)

    def stay(request: Talk) -> None:
        in_stream(chunk("Two cubes.", "stop"), {"choices": [], "usage": {"prompt_tokens": 3}})(
            request
        )
        while not server.closing.wait(0.01):
            request.wfile.write(b": still here\n\n")

    server.script = [stay]
    answer = HttpEngine(server.url).ask(question(Task.DESCRIBE))
    assert (answer.text, answer.finish_reason) == ("Two cubes.", FinishReason.STOP)
    assert answer.prompt_tokens == 3
    assert answer.timings.total_s < 20.0  # the question's budget
    assert server.hung_up.wait(10)


@pytest.mark.parametrize(
    "more",
    [
        {"error": None},
        {"usage": None},
        {"usage": {"prompt_tokens": None, "completion_tokens": None}},
    ],
)
def test_what_a_server_says_is_nothing_is_nothing(server: Server, more: dict[str, Any]) -> None:
    server.script = [in_stream({**chunk("Two cubes.", "stop"), **more}, "[DONE]")]
    answer = HttpEngine(server.url).ask(question(Task.DESCRIBE))
    assert answer.text == "Two cubes."
    assert (answer.prompt_tokens, answer.completion_tokens) == (-1, -1)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (lambda r: r.plain(200, "<html>login</html>", "text/html"), "OpenAI-compatible"),
        (lambda r: r.plain(500, {"error": {"message": "out of memory"}}), "out of memory"),
        (lambda r: r.plain(502, "<html>bad gateway</html>", "text/html"), "HTTP 502"),
        (lambda r: r.plain(401, {"error": {"message": "no token"}}), TOKEN_VARIABLE),
        (lambda r: r.plain(404, {"detail": "Not Found"}), "/v1"),
        (in_stream("{not json"), "not json"),
        (in_stream("[1, 2]"), "not an object"),
        (in_stream({"error": {"message": "CUDA error"}}), "CUDA error"),
        (in_stream({"choices": [{"delta": {"content": "Half an"}}]}), "Half an"),
        (in_stream("[DONE]"), "without finishing"),
    ],
)
def test_a_broken_reply_is_one_clear_error(server: Server, script: Handler, said: str) -> None:
    server.script = [script]
    with pytest.raises(EngineError, match=said):
        HttpEngine(server.url).ask(question())


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "no"},
        {"choices": [1]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]},
        {"usage": {"prompt_tokens": "many"}},
    ],
)
def test_a_chunk_of_another_shape_is_an_error_and_no_crash(server: Server, chunk: Any) -> None:
    server.script = [in_stream(chunk)]
    with pytest.raises(EngineError):
        HttpEngine(server.url).ask(question())


def flood(head: bytes) -> Handler:
    """Garbage without an end."""

    def talk(request: Talk) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        while not request.server.closing.is_set():  # type: ignore[attr-defined]
            request.wfile.write(b"<x" * 50_000)

    return talk


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"content-type: text/event-stream\r\n\r\n", "a line of more than"),
        (b"content-type: text/html\r\n\r\n", "OpenAI-compatible"),
        (b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", "closed"),
        (b"", "closed"),
    ],
    ids=["a line", "a page", "chunks", "headers"],
)
def test_garbage_without_an_end_is_cut_off(server: Server, head: bytes, said: str) -> None:
    server.script = [flood(head)]
    with pytest.raises(EngineError, match=said):
        HttpEngine(server.url).ask(question())
    assert server.hung_up.wait(10)


def test_bytes_that_are_no_text_are_one_clear_error(server: Server) -> None:
    def mumble(request: Talk) -> None:
        request.begin()
        request.wfile.write(b"data: \xff\xfe\x00\n\n")

    server.script = [mumble]
    with pytest.raises(EngineError, match="streamed"):
        HttpEngine(server.url).ask(question())

    def refuse(request: Talk) -> None:
        request.send_response(400)
        request.send_header("content-length", "2")
        request.end_headers()
        request.wfile.write(b"\xff\xfe")

    server.script = [refuse]
    with pytest.raises(UnreadableQuestionError, match="HTTP 400"):
        HttpEngine(server.url).ask(question())


def test_a_question_to_a_closed_engine_is_a_named_error(server: Server) -> None:
    engine = HttpEngine(server.url)
    engine.close()
    with pytest.raises(EngineLostError, match="was closed on this side"):
        engine.ask(question())


def test_a_connection_that_closes_in_the_middle_of_a_token_is_a_lost_server(server: Server) -> None:
    def die(request: Talk) -> None:
        request.begin()
        request.piece("The affor")
        request.wfile.write(b'data: {"choices": [{"delta": {"cont')

    server.script = [die]
    with pytest.raises(EngineError, match="cont"):
        HttpEngine(server.url).ask(question())

    def reset(request: Talk) -> None:
        request.begin()
        request.piece("The affor")
        linger = struct.pack("ii", 1, 0)  # what a machine sends that has forgotten the connection
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        socket.close(request.connection.detach())

    server.script = [reset]
    with pytest.raises(EngineLostError, match="after 'The affor'"):
        HttpEngine(server.url).ask(question())


def silent(request: Talk) -> None:
    """Takes the question and says nothing at all."""
    request.server.inside.set()  # type: ignore[attr-defined]
    while not request.server.closing.is_set():  # type: ignore[attr-defined]
        if request.connection.recv(1) == b"":
            raise BrokenPipeError


def trickle(request: Talk) -> None:
    """Headers, one byte at a time, without an end."""
    request.server.inside.set()  # type: ignore[attr-defined]
    while not request.server.closing.wait(0.01):  # type: ignore[attr-defined]
        request.wfile.write(b"x")


@pytest.mark.parametrize("hang", [silent, trickle])
def test_a_server_that_never_begins_costs_no_more_than_the_budget(
    server: Server, hang: Handler
) -> None:
    server.script = [hang]
    with pytest.raises(EngineError, match=r"within 0\.2 s"):
        HttpEngine(server.url).ask(question(timeout_s=0.2))
    assert server.hung_up.wait(10)


@pytest.mark.parametrize("hang", [silent, trickle])
def test_a_server_that_never_begins_can_be_cancelled(server: Server, hang: Handler) -> None:
    server.script = [hang]
    engine = HttpEngine(server.url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.ask, question(), None, server.inside)
        assert asked.result(10).finish_reason is FinishReason.CANCELLED
    assert server.hung_up.wait(10)


def test_a_list_of_models_that_never_ends_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rynn_brain_ros.models.http._CONNECT_S", 0.1)

    def drip(request: Talk) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            while not server.closing.wait(0.02):
                request.wfile.write(b" ")

    server.pages["/v1/models"] = drip
    with pytest.raises(EngineError, match="does not end"):
        HttpEngine(server.url)


def test_an_unread_question_is_never_sent_twice(server: Server) -> None:
    server.script = [lambda request: request.connection.shutdown(socket.SHUT_RDWR)]
    with pytest.raises(EngineLostError):
        HttpEngine(server.url).ask(question())
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("owner", "page", "record", "said"),
    [
        ("vllm", "/version", {"version": "0.11.2"}, "vllm#30918"),
        ("sglang", "/get_server_info", {"version": "0.5.10rc0"}, "sglang#34013"),
        ("llamacpp", "/props", {"build_info": "b8681-Debian"}, "image-min-tokens"),
        ("tensorrt_llm", "/version", {"version": "1.1.0"}, "11134"),
        ("vllm", "/version", {"version": ["?"]}, "vllm#30918"),
        ("vllm", "/nowhere", {}, "vllm#30918"),
    ],
)
def test_what_is_known_of_a_servers_drift_is_said(
    server: Server, owner: str, page: str, record: Any, said: str
) -> None:
    server.owned_by = owner
    server.pages[page] = lambda request: request.plain(200, record)
    (note, *_) = HttpEngine(server.url).notes
    assert said in note


def test_a_server_that_is_known_to_be_sound_has_no_notes(server: Server) -> None:
    server.owned_by = "vllm"
    server.pages["/version"] = lambda request: request.plain(200, {"version": "0.11.0"})
    assert HttpEngine(server.url).notes == ()
    server.pages["/version"] = lambda request: request.plain(404, "<html>", "text/html")
    assert HttpEngine(server.url).notes != ()


def test_five_hundred_frames_are_refused_with_the_numbers(server: Server) -> None:
    many = FrameSet(frames(1).frames * 500, 10240 // 500)
    with pytest.raises(UnreadableQuestionError, match="500 images cost 36000 tokens"):
        HttpEngine(server.url).ask(Query("q1", Task.AFFORDANCE, "x", many))
    assert server.bodies == []


def test_a_tiny_picture_is_enlarged_and_sent(server: Server) -> None:
    tiny = Query("q1", Task.AFFORDANCE, "x", frames(1, 1, 1))
    assert HttpEngine(server.url).ask(tiny).text == POINT


def test_no_server_is_said_with_what_to_do() -> None:
    with pytest.raises(EngineError, match="is the server running"):
        HttpEngine("http://127.0.0.1:9/v1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:80o0/v1", "http://.x/v1"])
def test_an_address_with_a_typo_is_named(url: str) -> None:
    with pytest.raises(InputError, match="is no address of a server"):
        HttpEngine(url)


def test_a_token_that_no_header_takes_is_named(server: Server) -> None:
    with pytest.raises(InputError, match="holds characters that no server can be sent"):
        HttpEngine(server.url, token="schlüssel")


def test_a_model_that_is_gone_is_not_taken_for_a_wrong_address(server: Server) -> None:
    gone = {"error": {"message": "The model `RynnBrain-8B` does not exist."}}
    server.script = [lambda request: request.plain(404, gone)]
    with pytest.raises(EngineError, match=r"does not exist\.$"):
        HttpEngine(server.url).ask(question())


def test_a_server_that_stays_busy_is_quoted(server: Server) -> None:
    loading = {"error": {"message": "Loading model"}}
    server.script = [lambda request: request.plain(503, loading, retry_after="60")]
    with pytest.raises(EngineError, match=r"is busy .*Loading model"):
        HttpEngine(server.url).ask(question())


def test_the_model_is_discovered_chosen_or_named(server: Server) -> None:
    assert HttpEngine(server.url).info.model == "RynnBrain-8B"
    server.models = ["RynnBrain-8B", "RynnBrain-Plan-8B"]
    assert open_engine(f"{server.url}#RynnBrain-Plan-8B").info.model == "RynnBrain-Plan-8B"
    with pytest.raises(InputError, match="choose one"):
        HttpEngine(server.url)
    with pytest.raises(InputError, match="did you mean 'RynnBrain-Plan-8B'"):
        HttpEngine(server.url, "RynnBrain-Plan-7B")


def test_the_token_of_the_environment_is_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    HttpEngine(server.url).ask(question())
    assert server.tokens == ["Bearer secret"]


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((640, 480), 1280, (640, 480)),
        ((1920, 1080), 10240, (1920, 1088)),
        ((1920, 1080), 640, (1056, 576)),
        ((160, 120), 1280, (320, 224)),
        ((1, 1), 1280, (256, 256)),
    ],
)
def test_pictures_are_put_on_the_models_grid(
    size: tuple[int, int], budget: int, expected: tuple[int, int]
) -> None:
    assert grid_size(*size, budget) == expected


@pytest.mark.parametrize("jpeg", [True, False])
def test_a_resized_picture_keeps_its_format_and_one_on_the_grid_its_bytes(jpeg: bool) -> None:
    (same,) = frames(1, 320, 256, jpeg)
    assert on_grid(same, 1280) == (same.image, same.mime)
    (other,) = frames(1, 500, 300, jpeg)
    data, mime = on_grid(other, 1280)
    assert mime == other.mime
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (288, 512, 3)


def test_a_picture_of_16_bits_is_sent_in_8(server: Server) -> None:
    deep = cv2.imencode(".png", np.full((480, 640), 90 * 256, np.uint16))[1].tobytes()
    image = EncodedImage("mono16; png compressed mono16", deep, compressed=True)
    data, _ = on_grid(select(Frame("/camera", 1, "optical", image)), 1280)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (shown.dtype, shown.shape[:2]) == (np.uint8, (480, 640))
    assert shown.mean() < 200


def test_a_picture_no_model_could_read_is_refused(server: Server) -> None:
    strip = FrameSet(frames(1, 2000, 4).frames, 10240)
    query = Query("q1", Task.AFFORDANCE, "x", strip)
    with pytest.raises(UnreadableQuestionError, match="2000×4"):
        HttpEngine(server.url).ask(query)


def test_a_bag_can_be_replayed_against_a_server(
    server: Server, small_bag: Path, tmp_path: Path
) -> None:
    text = "The cube is at <affordance> <frame 1>: (500, 700) </affordance>"
    server.script = [says(text)]
    assert replay(small_bag, tmp_path, "--engine", server.url) == 0
    (answer,) = answers(tmp_path)
    assert answer["engine"] == "http"
    assert answer["groundings"][0]["point_fixed_m"] is not None
