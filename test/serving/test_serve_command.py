"""The command ``rynn-brain serve`` as a real process: signals, tokens, sudden death.

Its engine is another server's, whose engine does as it is told by the test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from parts import PATIENCE_S, POINT, ScriptedEngine, eventually, question

from rynn_brain_ros.cli import main
from rynn_brain_ros.models.http import TOKEN_VARIABLE, HttpEngine
from rynn_brain_ros.values import EngineError, EngineLostError

TOKEN = "t0ken-of-this-test"
Process = subprocess.Popen[str]


class Command:
    """``rynn-brain serve`` in a process of its own, listening at ``url``."""

    def __init__(self, engine: str, *options: str) -> None:
        arguments = ["serve", engine, "--port", "0", *options]
        program = "import sys; from rynn_brain_ros.cli import main; sys.exit(main(sys.argv[1:]))"
        environment = {k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE}
        self.process: Process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        found = re.search(r"http://\S+/v1", self.said)
        assert found, self.said + self.process.stderr.read()
        self.url = found[0]

    def end(self) -> tuple[int, str]:
        """(exit code, what it said)."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, self.said + said


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    with ExitStack() as started:

        def start(engine: str, *options: str) -> Command:
            made = Command(engine, *options)
            started.callback(made.process.kill)
            return made

        yield start


@pytest.fixture
def held(serve) -> ScriptedEngine:
    """An engine whose words wait; ``url`` is where it is served."""
    engine = ScriptedEngine("It is ", POINT[6:])
    engine.hold()
    engine.url = serve(engine).url
    return engine


def test_killing_the_server_in_the_middle_of_an_answer_is_a_named_error(command, held):
    server = command(held.url)
    held.allow()
    with pytest.raises(EngineLostError, match=r"middle of an answer, after 'It is'"):
        HttpEngine(server.url).ask(question(1), lambda _: server.process.kill())
    assert held.cancelled.wait(PATIENCE_S)  # and whoever it asked in turn is left in peace


def test_killing_the_server_before_its_first_word_is_a_named_error(command, held):
    server = command(held.url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(HttpEngine(server.url).ask, question(1))
        eventually(lambda: len(held.asked) == 1)
        server.process.kill()
        with pytest.raises(EngineLostError):
            asked.result(PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_end_and_then_the_process(command, held, number):
    server = command(held.url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(HttpEngine(server.url).ask, question(1))
        eventually(lambda: len(held.asked) == 1)
        server.process.send_signal(number)
        eventually(lambda: not answers(server.url))
        held.allow(2)
        assert asked.result(PATIENCE_S).text == POINT
    code, said = server.end()
    assert (code, said.count("\n")) == (0, 2), said


def test_what_does_not_end_in_time_is_given_up(command, held):
    server = command(held.url, "--grace", "0")
    held.allow()
    with pytest.raises(EngineError, match="shutting down"):
        HttpEngine(server.url).ask(
            question(1), lambda _: server.process.send_signal(signal.SIGTERM)
        )
    assert server.end()[0] == 0
    assert held.cancelled.wait(PATIENCE_S)


def test_whose_parent_dies_gives_up_what_is_under_way_and_ends(command, held):
    server = command(held.url, "--grace", "0", "--until-eof")
    held.allow()

    def die(_: str) -> None:
        server.process.stderr.close()
        server.process.stdin.close()

    with pytest.raises(EngineError, match="shutting down"):
        HttpEngine(server.url).ask(question(1), die)
    assert server.process.wait(PATIENCE_S) == 0
    assert held.cancelled.wait(PATIENCE_S)


def test_a_second_signal_ends_it_at_once(command, held):
    server = command(held.url, "--grace", "1000")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(HttpEngine(server.url).ask, question(1))
        eventually(lambda: len(held.asked) == 1)
        server.process.send_signal(signal.SIGINT)
        eventually(lambda: not answers(server.url))
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 130
        with pytest.raises(EngineLostError):
            asked.result(PATIENCE_S)


def test_the_token_comes_from_a_file_and_is_never_told(command, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    server = command("color-baseline", "--token-file", str(file))
    assert httpx.get(f"{server.url}/models").status_code == 401
    assert HttpEngine(server.url, token=TOKEN).info.model == "color-baseline"
    server.process.terminate()
    code, said = server.end()
    assert code == 0
    assert TOKEN not in said


@pytest.mark.parametrize("text", ["", "two words", "\xff"])
def test_a_file_without_a_token_is_refused(text, tmp_path, capsys):
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    file = tmp_path / "token"
    file.write_text(text)
    assert main(["serve", "color-baseline", "--token-file", str(file)]) == 2
    assert "token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--queue", "0"], "waiting"),
        (["--grace", "-1"], "--grace"),
        (["--port", "99999"], "99999"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said, capsys, monkeypatch):
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(["serve", "color-baseline", *options]) == 2
    assert said in capsys.readouterr().err


def test_missing_packages_are_named_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr("rynn_brain_ros.serving._NEEDED", ("no_such_package",))
    assert main(["serve", "color-baseline"]) == 2
    assert "pip install 'starlette>=0.37' 'uvicorn>=0.30'" in capsys.readouterr().err


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models").status_code == 200
    except httpx.HTTPError:
        return False
