"""An engine in a process of its own: started, watched, started anew, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from parts import PATIENCE_S, eventually, question

from rynn_brain_ros.models import ColorBaselineEngine, WorkerEngine, check_engine, open_engines
from rynn_brain_ros.models.worker import Patience
from rynn_brain_ros.values import EngineError, EngineLostError, InputError, Task

pytest.importorskip("starlette", reason="the extra serve is not installed")

AT_ONCE = Patience(first_s=0.01, most_s=0.02, end_s=5.0)


def ready(worker: WorkerEngine) -> None:
    """A process that starts may take a while on a busy machine."""
    until = time.monotonic() + PATIENCE_S
    while worker.trouble:
        assert time.monotonic() < until, worker.trouble
        time.sleep(0.02)


def process_of(worker: WorkerEngine) -> subprocess.Popen[bytes]:
    assert worker._process is not None
    return worker._process


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.fixture
def worker() -> Iterator[WorkerEngine]:
    made = WorkerEngine(sys.executable, "color-baseline", patience=AT_ONCE)
    yield made
    made.close()


def test_before_it_is_ready_it_says_that_it_is_being_started(worker):
    with pytest.raises(EngineError, match="color-baseline is being started"):
        worker.ask(question(1))


def test_an_interpreter_that_is_gone_is_told_and_tried_again(tmp_path: Path):
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    worker = WorkerEngine(str(python), "color-baseline", patience=AT_ONCE)
    try:
        python.unlink()
        process = worker._process
        if process is not None:
            process.kill()
        eventually(lambda: worker.restarts > 2)
        eventually(lambda: "cannot be started with" in worker.trouble)
        python.symlink_to(sys.executable)
    finally:
        worker.close()


def test_it_keeps_the_engine_contract(worker):
    ready(worker)
    assert check_engine(worker, question(1, task=Task.OBJECT)) == ()


def test_it_answers_as_the_same_engine_in_this_process(worker):
    ready(worker)
    here = ColorBaselineEngine()
    assert (
        worker.ask(question(1, task=Task.OBJECT)).text
        == here.ask(question(1, task=Task.OBJECT)).text
    )
    assert worker.info == here.info  # so that a verdict of the one is of the other


def test_killed_in_the_middle_of_an_answer_it_says_so_and_comes_back(worker):
    ready(worker)
    errors = []

    def ask() -> None:
        try:
            worker.ask(question(1, task=Task.OBJECT))
        except EngineError as error:
            errors.append(error)

    first = process_of(worker)
    os.kill(first.pid, signal.SIGSTOP)  # so that the question is still being answered
    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: any(thread.name == "http-watch" for thread in threading.enumerate()))
    os.kill(first.pid, signal.SIGKILL)
    asking.join()
    assert [type(error) for error in errors] == [EngineLostError]
    assert "color-baseline died while it was answering" in str(errors[0])
    eventually(lambda: process_of(worker) is not first)
    ready(worker)
    assert worker.restarts == 1
    assert worker.ask(question(1, task=Task.OBJECT)).text


@pytest.fixture
def with_helper(tmp_path: Path) -> Iterator[WorkerEngine]:
    """Its process leaves behind one that it started, which holds its standard error, too."""
    python = tmp_path / "python"
    helper = f"sleep 300 & echo $! >> {tmp_path}/helpers"
    python.write_text(f'#!/bin/sh\n{helper}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    made = WorkerEngine(str(python), "color-baseline", patience=AT_ONCE)
    yield made
    for pid in (tmp_path / "helpers").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    made.close()


def test_killed_it_comes_back_whatever_it_started_and_left_behind(with_helper, tmp_path: Path):
    ready(with_helper)
    first = process_of(with_helper)
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: process_of(with_helper) is not first)
    ready(with_helper)
    assert with_helper.restarts == 1
    assert with_helper.ask(question(1, task=Task.OBJECT)).text
    helper, _ = map(int, (tmp_path / "helpers").read_text().split())
    eventually(lambda: is_gone(helper))


def test_closing_ends_what_the_process_started_too(with_helper, tmp_path: Path):
    ready(with_helper)
    closing = threading.Thread(target=with_helper.close)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    helper = int((tmp_path / "helpers").read_text())
    eventually(lambda: is_gone(helper))


def test_a_process_that_stands_still_is_started_anew():
    hurried = replace(AT_ONCE, silent_s=0.5)
    worker = WorkerEngine(sys.executable, "color-baseline", patience=hurried)
    try:
        ready(worker)
        first = process_of(worker)
        os.kill(first.pid, signal.SIGSTOP)  # as one that hangs in a driver
        with pytest.raises(EngineError, match=r"did not finish its answer within 0\.3 s"):
            worker.ask(question(1, task=Task.OBJECT, timeout_s=0.3))
        eventually(lambda: process_of(worker) is not first)
        ready(worker)
        assert worker.ask(question(1, task=Task.OBJECT)).text
        assert worker.restarts == 1
    finally:
        worker.close()


def test_a_process_that_is_only_slow_is_left_alone(tmp_path: Path):
    """It never comes to its first word, as with a long prompt on a slow machine."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from parts import ScriptedEngine\n"
        "from rynn_brain_ros.serving.running import RunningServer\n"
        "engine = ScriptedEngine()\n"
        "engine.hold()\n"
        "server = RunningServer(engine, port=0, token=os.environ['RYNN_BRAIN_API_KEY'])\n"
        "print(f'scripted at {server.url}', file=sys.stderr, flush=True)\n"
        "time.sleep(300)\n"
    )
    python.chmod(0o755)
    worker = WorkerEngine(str(python), "local:x", patience=AT_ONCE)
    try:
        ready(worker)
        with pytest.raises(EngineError, match=r"did not finish its answer within 0\.3 s"):
            worker.ask(question(1, timeout_s=0.3))
        eventually(lambda: not worker._doubted.is_set())
        assert (worker.restarts, worker.trouble) == (0, "")
    finally:
        worker.close()


def test_a_process_that_stands_still_before_it_was_ever_reached_is_started_anew(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho x at http://127.0.0.1:9/v1 >&2\nkill -STOP $$\n")
    python.chmod(0o755)
    worker = WorkerEngine(str(python), "local:x", patience=AT_ONCE)
    eventually(lambda: worker.restarts > 1)
    worker.close()


def test_what_the_process_says_before_it_ends_is_told(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module named rynn_brain_ros >&2\nexit 3\n")
    python.chmod(0o755)
    heard: list[str] = []
    worker = WorkerEngine(str(python), "local:x", heard.append, Patience(first_s=1000.0))
    eventually(lambda: "started again" in worker.trouble)
    worker.close()
    told = "the process of local:x ended with code 3: no module named rynn_brain_ros"
    assert heard[-1] == f"{told}; it is started again in 1000 s"


def test_a_python_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no Python at '/nowhere/python' to run color-baseline"):
        WorkerEngine("/nowhere/python", "color-baseline")


def test_closing_ends_the_process(worker):
    ready(worker)
    worker.close()
    assert process_of(worker).returncode is not None
    with pytest.raises(EngineError, match="closed"):
        worker.ask(question(1))


def test_it_ends_with_the_process_that_started_it():
    script = (
        "import sys, time; from rynn_brain_ros.models import WorkerEngine\n"
        "worker = WorkerEngine(sys.executable, 'color-baseline')\n"
        "while worker.trouble: time.sleep(0.02)\n"
        "print(worker._process.pid, flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: is_gone(child))


def test_of_the_roles_only_those_not_served_elsewhere_get_a_process(serve):
    server = serve(ColorBaselineEngine())
    opened: list[str] = []

    def worker(spec: str) -> ColorBaselineEngine:
        opened.append(spec)
        return ColorBaselineEngine()

    engines = open_engines(f"ground=color-baseline,plan={server.url}", worker=worker)
    engines.close()
    assert opened == ["color-baseline"]
