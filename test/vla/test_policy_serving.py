"""A policy over real sockets on this machine: our client, openpi's way of asking, and trouble."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from policy_parts import (
    CONTRACT,
    HORIZON,
    LIMITS,
    SPEC,
    DrivenClock,
    DrivenThread,
    ScriptedPolicy,
    ramp,
    seeing,
)

websockets = pytest.importorskip("websockets", reason="the extra policy is not installed")
msgpack = pytest.importorskip("msgpack", reason="the extra policy is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

from rynn_brain_ros.values import EngineError, EngineLostError, InputError  # noqa: E402
from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.client import PolicyClient  # noqa: E402
from rynn_brain_ros.vla.serving import PolicyLimits, PolicyServer  # noqa: E402
from rynn_brain_ros.vla.values import PolicyError  # noqa: E402
from rynn_brain_ros.vla.wire import pack, request_of, unpack  # noqa: E402

PATIENCE_S = 20.0
TOKEN = "a-token-of-this-test"


class HeldPolicy(ScriptedPolicy):
    """Answers when allowed to."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.begun, self.allowed = threading.Semaphore(0), threading.Semaphore(0)

    def _wait(self, seen):
        self.begun.release()
        assert self.allowed.acquire(timeout=PATIENCE_S)
        return ramp(seen.state)


@pytest.fixture
def serve() -> Iterator[Callable[..., PolicyServer]]:
    with contextlib.ExitStack() as running:

        def start(policy: ScriptedPolicy, token: str = "", **limits) -> PolicyServer:
            server = PolicyServer(policy, port=0, token=token, limits=PolicyLimits(**limits))
            return running.enter_context(server)

        yield start


@pytest.fixture
def ask() -> Iterator[Callable[..., PolicyClient]]:
    with contextlib.ExitStack() as open_clients:

        def start(server: PolicyServer, **settings) -> PolicyClient:
            client = PolicyClient(server.url, **{"timeout_s": PATIENCE_S, **settings})
            open_clients.callback(client.close)
            return client

        yield start


@contextlib.contextmanager
def openpi_client(url: str, key: str = "") -> Iterator[tuple[ClientConnection, dict]]:
    """Connected as openpi's ``WebsocketClientPolicy`` does, with the metadata that it reads."""
    headers = {"Authorization": f"Api-Key {key}"} if key else None
    with connect(
        url, compression=None, max_size=None, additional_headers=headers, proxy=None
    ) as connection:
        yield connection, unpack(connection.recv(PATIENCE_S))


def eventually(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.005)


# --- answers -------------------------------------------------------------------------------------


def test_a_policy_behind_a_server_is_like_one_that_is_here(serve, ask):
    policy = ScriptedPolicy()
    client = ask(serve(policy))
    leftover = Leftover(ramp()[:4], 2)
    chunk = client.infer(seeing(step="Pick up <object>", target_point=(500.0, 250.0)), leftover)
    assert client.spec == SPEC
    np.testing.assert_allclose(chunk, ramp(), atol=1e-6)
    seen, previous = policy.asked[0]
    assert (seen.instruction, seen.step) == ("pick up the cup", "Pick up <object>")
    assert seen.target_point == (500.0, 250.0)
    np.testing.assert_array_equal(seen.images["wrist"], seeing().images["wrist"])
    np.testing.assert_array_equal(previous.actions, leftover.actions)


def test_openpis_client_gets_metadata_first_and_then_actions_with_timings(serve):
    with openpi_client(serve(ScriptedPolicy()).url) as (connection, metadata):
        assert metadata["horizon"] == HORIZON
        for _ in range(2):
            connection.send(
                pack(
                    {
                        "observation/state": np.zeros(3, np.float32),
                        "observation/images/wrist": np.zeros((8, 8, 3), np.uint8),
                        "prompt": "pick up the cup",
                    }
                )
            )
            answer = unpack(connection.recv(PATIENCE_S))
    assert answer["actions"].shape == (HORIZON, 3)
    assert answer["actions"].dtype == np.float32
    assert answer["server_timing"]["infer_ms"] >= 0
    assert answer["server_timing"]["prev_total_ms"] > 0
    assert answer["policy_timing"]["infer_ms"] >= 0


def test_its_health_is_told_without_a_websocket(serve):
    url = serve(ScriptedPolicy(), token=TOKEN).url.replace("ws://", "http://")
    with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE_S) as reply:
        assert reply.read() == b"OK\n"


def test_a_slow_request_keeps_nobody_from_the_metadata(serve, ask):
    policy = HeldPolicy()
    server = serve(policy)
    slow = threading.Thread(target=ask(server).infer, args=(seeing(),))
    slow.start()
    assert policy.begun.acquire(timeout=PATIENCE_S)
    assert ask(server).spec == SPEC
    policy.allowed.release()
    slow.join(PATIENCE_S)
    assert not slow.is_alive()


# --- what is wrong -------------------------------------------------------------------------------


def test_a_bad_request_is_answered_in_one_line_and_the_next_is_good(serve):
    with openpi_client(serve(ScriptedPolicy()).url) as (connection, _):
        for bad in (b"\xc1", "words", pack({"prompt": "go"})):
            connection.send(bad)
            said = connection.recv(PATIENCE_S)
            assert isinstance(said, str)
            assert "\n" not in said
            assert "Traceback" not in said
        connection.send(pack(request_of(seeing(), None)))
        assert "actions" in unpack(connection.recv(PATIENCE_S))


def test_a_policy_that_fails_says_why_without_a_traceback(serve, ask):
    def failing(seen):
        raise ValueError("no memory\nleft")

    with pytest.raises(PolicyError) as caught:
        ask(serve(ScriptedPolicy(failing))).infer(seeing())
    assert str(caught.value).endswith("says: the policy failed: ValueError: no memory left")


def test_a_camera_that_is_missing_is_named(serve, ask):
    with pytest.raises(PolicyError, match="observation/images/wrist is missing"):
        ask(serve(ScriptedPolicy())).infer(seeing(images={}))


def test_a_message_above_the_limit_closes_that_connection_only(serve, ask):
    server = serve(ScriptedPolicy(), message_bytes=10_000)
    large = {"wrist": np.zeros((100, 100, 3), np.uint8)}
    with pytest.raises(EngineLostError, match="too big"):
        ask(server).infer(seeing(images=large))
    assert ask(server).infer(seeing()).shape == (HORIZON, 3)


# --- who may come --------------------------------------------------------------------------------


def test_a_token_is_asked_for_and_accepted_in_both_spellings(serve, ask):
    server = serve(ScriptedPolicy(), token=TOKEN)
    assert ask(server, token=TOKEN).spec == SPEC
    with openpi_client(server.url, TOKEN) as (_, metadata):
        assert metadata["horizon"] == HORIZON


@pytest.mark.parametrize("token", ["", "another"])
def test_without_the_token_nobody_comes_in(serve, ask, token):
    server = serve(ScriptedPolicy(), token=TOKEN)
    with pytest.raises(EngineError, match=r"does not let this client in.*401"):
        ask(server, token=token)


def test_a_web_page_is_turned_away(serve):
    server = serve(ScriptedPolicy())
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(server.url, origin="http://example.com", proxy=None),
    ):
        pytest.fail("it was let in")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_need_a_token(host):
    with pytest.raises(InputError, match="give a token"):
        PolicyServer(ScriptedPolicy(), host=host, port=0)


def test_more_clients_than_allowed_are_told_so(serve, ask):
    server = serve(ScriptedPolicy(), clients=1)
    first = ask(server)
    with pytest.raises(EngineError, match="too many clients"):
        ask(server)
    first.close()
    eventually(lambda: server.n_clients == 0)
    assert ask(server).spec == SPEC


# --- who goes away -------------------------------------------------------------------------------


def test_a_client_that_dies_while_it_waits_leaves_the_line_and_its_slot(serve, ask):
    policy = HeldPolicy()
    server = serve(policy)
    busy = threading.Thread(target=ask(server).infer, args=(seeing(),))
    busy.start()
    assert policy.begun.acquire(timeout=PATIENCE_S)
    with openpi_client(server.url) as (dying, _):
        dying.send(pack(request_of(seeing(instruction="of the dead"), None)))
        eventually(lambda: server.n_clients == 2)
        dying.socket.shutdown(2)
        eventually(lambda: server.n_clients == 1)
    policy.allowed.release()
    busy.join(PATIENCE_S)
    after = ask(server)
    policy.allowed.release()
    after.infer(seeing(instruction="of the living"))
    assert [seen.instruction for seen, _ in policy.asked] == ["pick up the cup", "of the living"]


def test_a_server_that_stops_in_the_middle_of_a_chunk_is_a_named_loss(serve, ask):
    policy = HeldPolicy()
    server = serve(policy)
    client, caught = ask(server), []

    def lose() -> None:
        with pytest.raises(EngineLostError, match="went away before its answer") as error:
            client.infer(seeing())
        caught.append(error)
        policy.allowed.release()

    waiting = threading.Thread(target=lose)
    waiting.start()
    assert policy.begun.acquire(timeout=PATIENCE_S)
    assert server.stop()
    waiting.join(PATIENCE_S)
    assert caught
    with pytest.raises(EngineError, match="no policy answers at"):
        client.infer(seeing())


def test_a_policy_that_hangs_is_told_and_may_end_later(serve, ask, monkeypatch):
    monkeypatch.setattr("rynn_brain_ros.vla.serving._CLOSING_S", 1.0)
    policy = HeldPolicy()
    server = serve(policy)
    with pytest.raises(EngineError, match="did not answer within"):
        ask(server, timeout_s=0.1).infer(seeing())
    assert not server.stop()
    assert not server.running
    policy.allowed.release()
    assert server.stop()


def test_the_loop_holds_when_its_server_dies_in_the_middle_of_a_chunk(serve, ask):
    pytest.importorskip("ruckig", reason="the extra policy is not installed")
    from rynn_brain_ros.vla.runner import STATE, Runner  # noqa: PLC0415

    server = serve(ScriptedPolicy())
    clock, thread = DrivenClock(), DrivenThread()
    runner = Runner(ask(server), CONTRACT, LIMITS, thread=thread, now_ns=clock.now_ns)
    causes = []
    for step in range(9):
        if step == 4:
            server.stop()
        clock.pass_s(0.1)
        hold = runner.tick(seeing(), {"wrist": clock.ns, STATE: clock.ns}).hold
        causes.append(hold and hold.cause.value)
        thread.work()
    assert causes[:6] == ["waiting", *[None] * 5]
    assert causes[-1] == "policy_failed"


def test_a_late_answer_is_never_taken_for_the_next_one(serve, ask):
    policy = HeldPolicy()
    client = ask(serve(policy), timeout_s=0.5)
    with pytest.raises(EngineError, match="did not answer within"):
        client.infer(seeing())
    policy.allowed.release(2)
    chunk = client.infer(seeing((0.5, 1.0, 0.5)))
    np.testing.assert_allclose(chunk, ramp((0.5, 1.0, 0.5)), atol=1e-6)


def test_a_server_that_is_frozen_is_a_named_error_even_while_pictures_are_sent(tmp_path, ask):
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from policy_parts import ScriptedPolicy\n"
        "from rynn_brain_ros.vla.serving import PolicyServer\n"
        "server = PolicyServer(ScriptedPolicy(), port=0)\n"
        "sys.stdout.write(server.url + '\\n'); sys.stdout.flush(); time.sleep(600)\n"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    with subprocess.Popen(
        [sys.executable, "-c", program, here], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip()
            client = PolicyClient(url, timeout_s=1.0)
            os.kill(process.pid, signal.SIGSTOP)
            large = {"wrist": np.zeros((2160, 3840, 3), np.uint8)}
            with pytest.raises(EngineError, match=r"went away|did not answer"):
                client.infer(seeing(images=large))
        finally:
            process.kill()


def test_closing_a_client_while_it_connects_anew_leaves_no_connection(serve, ask, monkeypatch):
    server, opened = serve(ScriptedPolicy()), PolicyClient._opening
    client = ask(server)
    client._drop()  # as after an answer that did not come

    def opened_and_closed(self):
        client.close()
        return opened(self)

    monkeypatch.setattr(PolicyClient, "_opening", opened_and_closed)
    with pytest.raises(EngineError, match="was closed"):
        client.infer(seeing())
    assert client._link is None
    eventually(lambda: server.n_clients == 0)


def test_another_policy_at_the_same_address_is_refused(serve, ask):
    first = serve(ScriptedPolicy())
    client, port = ask(first), int(first.url.rpartition(":")[2])
    first.stop()
    other = ScriptedPolicy()
    other.spec = type(SPEC)(HORIZON + 1, SPEC.statistics)
    with PolicyServer(other, port=port):
        with pytest.raises(EngineLostError):
            client.infer(seeing())
        with pytest.raises(PolicyError, match="another policy is served"):
            client.infer(seeing())


def test_an_address_where_nobody_is_or_that_is_none_is_an_error():
    with pytest.raises(EngineError, match="no policy answers at"):
        PolicyClient("ws://127.0.0.1:1", timeout_s=1.0)
    with pytest.raises(EngineError, match="must be ws://host:port"):
        PolicyClient("http://127.0.0.1:1", timeout_s=1.0)


def test_a_server_of_something_else_is_refused_by_name():
    from websockets.sync.server import serve as serve_sync  # noqa: PLC0415

    def greet(connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.send(pack({"reset_pose": [0.0]}))
            connection.recv()

    with serve_sync(greet, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with pytest.raises(PolicyError, match="serve it with rynn_brain_ros"):
            PolicyClient(f"ws://127.0.0.1:{port}", timeout_s=PATIENCE_S)
        server.shutdown()
        thread.join(PATIENCE_S)
