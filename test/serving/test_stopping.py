"""How a server ends: what is being answered may end, and what does not end is given up."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from parts import (
    PATIENCE_S,
    ScriptedEngine,
    asking,
    chat,
    eventually,
    post,
    raw,
    request_bytes,
    waiting,
)

from rynn_brain_ros.cli import main
from rynn_brain_ros.cli.common import ENGINE_FAILED
from rynn_brain_ros.values import InputError

TOKEN = "a-token-of-this-test"


def test_stopping_lets_an_answer_end(serve):
    engine = ScriptedEngine("one ", "two")
    engine.hold()
    server = serve(engine)
    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(post, server.url, chat())
        eventually(lambda: len(engine.asked) == 1)
        stopped = pool.submit(server.stop, PATIENCE_S)
        eventually(lambda: not can_connect(server.url))
        engine.allow(2)
        assert answered.result().json()["choices"][0]["message"]["content"] == "one two"
        assert stopped.result()


def test_stopping_gives_up_what_does_not_end_in_time(serve):
    engine = ScriptedEngine("one ", "two")
    engine.hold()
    server = serve(engine)
    engine.allow()
    with asking(server.url, chat()) as reply, ThreadPoolExecutor(1) as pool:
        lines = reply.iter_lines()
        next(lines)
        waiting_too = pool.submit(post, server.url, chat())
        eventually(lambda: waiting(server) == 1)
        assert server.stop(0.0)
        (last,) = [line for line in lines if "error" in line]
        assert json.loads(last[6:])["error"]["code"] == "shutting_down"
        assert waiting_too.result().status_code == 503
    assert engine.cancelled.is_set()


def test_an_engine_that_does_not_stop_is_reported(serve, monkeypatch):
    deaf = DeafEngine()
    server = serve(deaf)
    monkeypatch.setattr("rynn_brain_ros.serving.running._CLOSING_S", 0.05)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post, server.url, chat())
        assert deaf.inside.wait(PATIENCE_S)
        assert not server.stop(0.0)
        deaf.wake.set()
        assert reply.result().status_code == 503


class DeafEngine(ScriptedEngine):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.wake = threading.Event(), threading.Event()

    def ask(self, *arguments: Any) -> Any:
        self.inside.set()
        self.wake.wait(PATIENCE_S)
        return super().ask(*arguments)


def test_an_engine_that_is_lost_is_told_to_who_asks_after_its_health(serve):
    engine = ScriptedEngine()
    health = serve(engine).url.removesuffix("/v1") + "/healthz"
    assert httpx.get(health).status_code == 200
    engine.trouble = "its GPU is lost"
    assert httpx.get(health).status_code == 503
    assert httpx.get(health).json()["status"] == "its GPU is lost"


def test_an_engine_that_is_stuck_in_a_question_that_was_given_up_is_told(serve, monkeypatch):
    monkeypatch.setattr("rynn_brain_ros.serving.desk._STUCK_S", 0.05)
    deaf = DeafEngine()
    server = serve(deaf)
    with raw(server.url, request_bytes(chat())):
        assert deaf.inside.wait(PATIENCE_S)
        assert server.trouble == ""  # its asker still waits: it is slow
    eventually(lambda: "stuck in a question that was given up" in server.trouble)
    deaf.wake.set()
    eventually(lambda: server.trouble == "")


def test_an_engine_that_is_lost_ends_the_command_so_that_it_is_started_anew(
    serve, monkeypatch, capsys
):
    engine = ScriptedEngine()
    engine.trouble = "its GPU is lost"
    monkeypatch.setattr("rynn_brain_ros.cli.serving.open_engine", lambda *_: engine)
    assert main(["serve", "local:x", "--port", "0", "--warm-up", "0"]) == ENGINE_FAILED
    assert "its GPU is lost" in capsys.readouterr().err


def can_connect(url: str) -> bool:
    at = httpx.URL(url)
    try:
        socket.create_connection((at.host, at.port), 1.0).close()
    except OSError:
        return False
    return True


def test_beyond_this_machine_a_token_is_needed():
    running = pytest.importorskip("rynn_brain_ros.serving.running")
    with pytest.raises(InputError, match="token"):
        running.RunningServer(ScriptedEngine(), host="0.0.0.0", port=0)
    with running.RunningServer(ScriptedEngine(), host="0.0.0.0", port=0, token=TOKEN) as server:
        port = httpx.URL(server.url).port
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    with running.RunningServer(ScriptedEngine(), port=0) as server:
        port = httpx.URL(server.url).port
        with pytest.raises(InputError, match=str(port)):
            running.RunningServer(ScriptedEngine(), port=port)
