"""The command ``rynn-brain serve-policy`` as a real process around a tiny real policy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra model is not installed")
pytest.importorskip("transformers", reason="the extra model is not installed")
pytest.importorskip("websockets", reason="the extra policy is not installed")
pytest.importorskip("msgpack", reason="the extra policy is not installed")

from policy_parts import seeing  # noqa: E402
from tiny_policies import observation, spec, statistics  # noqa: E402

from rynn_brain_ros.cli import main  # noqa: E402
from rynn_brain_ros.values import EngineError  # noqa: E402
from rynn_brain_ros.vla.checkpoint import load_policy, new_policy, save_policy  # noqa: E402
from rynn_brain_ros.vla.chunks import Leftover  # noqa: E402
from rynn_brain_ros.vla.client import PolicyClient  # noqa: E402
from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking  # noqa: E402
from rynn_brain_ros.vla.settings import TOKEN_VARIABLE  # noqa: E402
from rynn_brain_ros.vla.values import Variant  # noqa: E402

SEEN = observation(0, step="Pick it up.", target=(0.5, 0.0, 0.05))
PATIENCE_S = 60.0
Process = subprocess.Popen[str]
Start = Callable[..., tuple[Process, str]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import build  # noqa: PLC0415  # its folder is known to tiny_policies

    folder = tmp_path_factory.mktemp("tiny")
    backbone = build("qwen3_vl", folder)
    torch.manual_seed(1)
    made = new_policy(backbone, spec(Variant.SMALL_EXPERT), statistics())
    save_policy(made, backbone, folder / "policy")
    return folder / "policy"


@pytest.fixture
def start() -> Iterator[Start]:
    """(the process, where it serves)"""
    program = "import sys; from rynn_brain_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE}
    with ExitStack() as started:

        def begin(*arguments: str) -> tuple[Process, str]:
            process: Process = subprocess.Popen(
                [sys.executable, "-c", program, "serve-policy", *arguments, "--port", "0"],
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            started.callback(process.kill)
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"ws://\S+:\d+", said)
            assert found, said + process.stderr.read()
            assert said.startswith("toy: chunks of 6 at 30 Hz, 4 numbers each, from cameras front,")
            return process, found[0]

        yield begin


def test_it_answers_as_the_policy_does_and_ends_when_told(policy: Path, start: Start):
    process, url = start(str(policy), "--device", "cpu")
    with closing(PolicyClient(url, timeout_s=PATIENCE_S)) as client:
        chunk = client.infer(SEEN)
    np.testing.assert_allclose(chunk, CheckpointPolicy(load_policy(policy)).infer(SEEN), atol=1e-4)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("heard", [True, False])
def test_a_policy_that_hangs_does_not_keep_the_process(heard: bool):
    program = (
        "import sys, threading; sys.path.insert(0, sys.argv[1])\n"
        "from policy_parts import ScriptedPolicy\n"
        "from rynn_brain_ros.cli import main, serving_policies\n"
        "def hang(_):\n"
        "    print('asked', flush=True)\n"
        "    threading.Event().wait()\n"
        "serving_policies._open = lambda _: ScriptedPolicy(hang)\n"
        "sys.exit(main(['serve-policy', 'hung', '--port', '0', '--until-eof']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        try:
            url = re.findall(r"ws://\S+:\d+", process.stderr.readline())[0]
            with (
                closing(PolicyClient(url, timeout_s=PATIENCE_S)) as client,
                ThreadPoolExecutor(1) as pool,
            ):
                asked = pool.submit(client.infer, seeing())
                assert process.stdout.readline() == "asked\n"
                if not heard:
                    process.stderr.close()
                process.stdin.close()
                with pytest.raises(EngineError):
                    asked.result(PATIENCE_S)
            assert process.wait(PATIENCE_S) == 3
            if heard:
                assert "the policy or a connection does not end" in process.stderr.read()
        finally:
            process.kill()


def test_how_far_a_chunk_is_bound_to_the_one_before_is_chosen(policy: Path, start: Start):
    _, url = start(str(policy), "--device", "cpu", "--execution-horizon", "2")
    before = Leftover(np.full((5, 4), 0.3), 0)
    with closing(PolicyClient(url, timeout_s=PATIENCE_S)) as client:
        chunk = client.infer(SEEN, before)
    loaded = load_policy(policy)
    loosely, closely = (CheckpointPolicy(loaded, Chunking(execution_horizon=n)) for n in (2, 10))
    np.testing.assert_allclose(chunk, loosely.infer(SEEN, before), atol=1e-4)
    assert np.abs(chunk - closely.infer(SEEN, before)).max() > 1e-3


def test_an_exports_graphs_answer_as_torch_does(policy: Path, start: Start, tmp_path: Path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    from rynn_brain_ros.vla.export import export  # noqa: PLC0415

    export(policy, tmp_path / "graphs")
    _, url = start(str(tmp_path / "graphs"), "--graphs", "fp32", "--device", "cpu")
    with closing(PolicyClient(url, timeout_s=PATIENCE_S)) as client:
        chunk = client.infer(SEEN)
    np.testing.assert_allclose(chunk, CheckpointPolicy(load_policy(policy)).infer(SEEN), atol=1e-3)


def test_a_token_is_asked_for(policy: Path, start: Start, tmp_path: Path):
    word = tmp_path / "token"
    word.write_text("the-word\n", encoding="ascii")
    _, url = start(str(policy), "--token-file", str(word))
    with pytest.raises(EngineError, match="does not let this client in"):
        PolicyClient(url, timeout_s=PATIENCE_S)
    with closing(PolicyClient(url, token="the-word", timeout_s=PATIENCE_S)) as client:
        assert client.infer(SEEN).shape == (6, 4)


def test_other_machines_are_let_in_with_a_token_only(policy: Path, capsys: pytest.CaptureFixture):
    assert main(["serve-policy", str(policy), "--host", "0.0.0.0"]) == 2
    assert "give a token, or listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "it is no policy"),
        (["--graphs", "int8"], "write one with rynn-brain export"),
        (["--graphs", "int8", "--cuda-graphs"], "give one"),
        (["--provider", "tensorrt"], "--provider needs --graphs"),
    ],
)
def test_a_folder_that_is_no_policy_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], says: str
):
    assert main(["serve-policy", str(tmp_path), *options]) != 0
    assert says in capsys.readouterr().err
