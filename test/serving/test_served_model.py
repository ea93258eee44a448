"""The local engine behind the server: the same answers, token by token, and the same caches."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra model is not installed")
pytest.importorskip("transformers", reason="the extra model is not installed")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
import tiny_models  # noqa: E402
from parts import metric  # noqa: E402

from rynn_brain_ros.models import check_engine  # noqa: E402
from rynn_brain_ros.models.http import HttpEngine  # noqa: E402
from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.values import Query, Task, Turn, UnreadableQuestionError  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen3_5"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def local(directory: Path) -> LocalEngine:
    return LocalEngine.open(directory)


@pytest.fixture
def served(serve, directory: Path) -> HttpEngine:
    """Another one of the same weights, behind a server."""
    return HttpEngine(serve(LocalEngine.open(directory)).url)


def assert_same(served: HttpEngine, local: LocalEngine, query: Query) -> None:
    over_http, in_process = served.ask(query), local.ask(query)
    assert over_http.text == in_process.text
    assert over_http.finish_reason == in_process.finish_reason
    assert over_http.completion_tokens == in_process.completion_tokens
    assert over_http.prompt_tokens == in_process.prompt_tokens
    assert over_http.token_probabilities == in_process.token_probabilities


@pytest.mark.parametrize("task", [Task.AFFORDANCE, Task.OBJECT, Task.DESCRIBE])
def test_answers_are_those_of_the_engine_in_process(served, local, task):
    for seeds in ((1,), (1, 2), (1, 2, 3)):
        assert_same(served, local, tiny_models.question(*seeds, task=task))


def test_pictures_off_the_grid_are_answered_alike(served, local):
    shown = tiny_models.frames(1, 2, width=500, height=333)
    assert_same(served, local, replace(tiny_models.question(), frames=shown))
    assert_same(
        served, local, replace(tiny_models.question(), frames=replace(shown, max_visual_tokens=80))
    )


def test_a_plan_of_several_turns_is_answered_alike(serve, tmp_path):
    directory = tiny_models.build("qwen3_vl", tmp_path, "RynnBrain-Plan-8B-tiny")
    local = LocalEngine.open(directory)
    served = HttpEngine(serve(LocalEngine.open(directory)).url)
    history = (Turn(tiny_models.frames(1, 2), "Pick up the cup."),)
    query = tiny_models.question(3, task=Task.PLAN, words="clear the table", history=history)
    assert_same(served, local, query)


def test_the_contract_holds_over_http(served):
    assert check_engine(served, tiny_models.question(1, 2)) == ()


def test_frames_sent_again_are_seen_once_and_read_once(serve, directory):
    engine = LocalEngine.open(directory)
    served = HttpEngine(serve(engine).url)
    served.ask(tiny_models.question(1, 2))
    HttpEngine(serve(engine).url).ask(tiny_models.question(1, 2, words="Where is the blue cup?"))
    served.ask(tiny_models.question(1, 2, 3))
    assert engine.stats.frames.misses == 3
    assert engine.stats.tokens_reused > 3 * 70


def test_the_metrics_tell_what_was_not_computed_again(serve, directory):
    server = serve(LocalEngine.open(directory))
    served = HttpEngine(server.url)
    for words in ("Point to the red cube.", "Where is the blue cup?"):
        served.ask(tiny_models.question(1, 2, words=words))
    assert metric(server, "rynn_brain_frames_total", known="no") == 2
    assert metric(server, "rynn_brain_prompt_tokens_total", reused="yes") > 100
    assert metric(server, "rynn_brain_frame_cache_bytes") > 0


def test_what_cannot_be_shown_is_refused_with_the_engines_own_words(served):
    with pytest.raises(UnreadableQuestionError, match="control token"):
        served.ask(tiny_models.question(1, words="Point.<|im_end|>"))


def test_the_command_warms_a_model_up_before_it_is_offered(directory: Path) -> None:
    program = "import sys; from rynn_brain_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "serve", f"local:{directory}", "--port", "0"]
    with subprocess.Popen(
        [*command, "--warm-up", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if "http://" in line:
                break
        process.terminate()
        said += process.stderr
    warmed = next(i for i, line in enumerate(said) if "warmed up with 2 frames" in line)
    offered = next(i for i, line in enumerate(said) if "http://127.0.0.1:" in line)
    assert warmed < offered
    assert process.returncode == 0
