"""The local engine when its model fails: what is told, what is kept, and what is given back."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import build, question, stock_answer  # noqa: E402

from rynn_brain_ros.models.local import gpu  # noqa: E402
from rynn_brain_ros.models.local.backbone import Backbone  # noqa: E402
from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.models.nano import open_nano  # noqa: E402
from rynn_brain_ros.values import EngineError, EngineLostError, QueryBudget  # noqa: E402

FULL = "CUDA out of memory. Tried to allocate 1.00 GiB"
LAYER = 2
"""Of the language model: those before it have their keys and values in the cache already."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("qwen3_vl", tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(directory: Path) -> Iterator[LocalEngine]:
    opened = LocalEngine.open(directory, constrain=False)
    yield opened
    opened.close()


def layer_of(engine: LocalEngine) -> Any:
    assert engine._loaded is not None
    return engine._loaded.loaded.model.model.language_model.layers[LAYER]


class Broken:
    """A layer's part that fails; ``seen`` are the hidden states that it was given."""

    def __init__(self, layer: Any, fail: Callable[[], None]) -> None:
        self.seen: list[weakref.ref[Any]] = []
        self._layer, self._fail = layer, fail
        self._sound, layer.mlp.forward = layer.mlp.forward, self

    def __call__(self, hidden: Any) -> Any:
        self.seen.append(weakref.ref(hidden))
        self._fail()
        return self._sound(hidden)

    def mend(self) -> None:
        self._layer.mlp.forward = self._sound


def raising(kind: type[Exception], *said: str) -> Callable[[], None]:
    """Each time another error: one that was raised before would hold what it was raised in."""

    def fail() -> None:
        raise kind(*said)

    return fail


# --- memory --------------------------------------------------------------------------------------


def test_a_question_that_memory_did_not_suffice_for_gives_its_memory_back(engine, caplog):
    engine.ask(question(1, 2, 3))
    keys = weakref.ref(engine._loaded.prefix.cache)
    broken = Broken(layer_of(engine), raising(torch.OutOfMemoryError, FULL))
    with caplog.at_level(logging.WARNING), pytest.raises(EngineError, match=FULL) as raised:
        engine.ask(question(1, 2, 4))
    assert broken.seen[0]() is None, "the hidden states outlive the question, by the kept error"
    assert keys() is None
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert "in __call__" in caplog.text  # where it happened is in the log, as text


def test_the_question_after_it_is_answered_right(engine, directory):
    engine.ask(question(1))
    broken = Broken(layer_of(engine), raising(torch.OutOfMemoryError, FULL))
    with pytest.raises(EngineError, match=FULL):
        engine.ask(question(1, 2))
    broken.mend()
    assert engine.ask(question(1, 2)).text == stock_answer(directory, question(1, 2)).text


def test_a_question_that_took_too_long_gives_its_memory_back(engine):
    patient = question(1, 2)
    engine.ask(patient)  # so that reading is what takes the time

    def wait() -> None:
        torch.tensor(range(200_000))

    broken = Broken(layer_of(engine), wait)
    with pytest.raises(EngineError, match="did not finish its answer") as raised:
        engine.ask(replace(patient, budget=QueryBudget(12, 1e-3)))
    broken.mend()
    assert all(hidden() is None for hidden in broken.seen)
    assert raised.value.__context__ is None


def test_a_closed_engine_leaves_no_model_behind(directory):
    engine = LocalEngine.open(directory, constrain=False)
    model = weakref.ref(engine._loaded.loaded.model)
    engine.ask(question(1))
    engine.close()
    assert model() is None
    engine.close()


def test_what_torch_keeps_for_itself_of_a_gpu_is_free_for_the_next_model(monkeypatch):
    pretend_gpu(monkeypatch, is_integrated=False)
    assert gpu.room("cuda:1") == (55, "the memory of cuda:1")


def test_of_memory_that_a_gpu_shares_what_files_take_is_free(monkeypatch):
    pretend_gpu(monkeypatch, is_integrated=True)
    monkeypatch.setattr(gpu, "available_bytes", lambda: 30)
    assert gpu.room("cuda") == (80, "main memory, which the GPU shares")


def test_of_several_gpus_the_one_with_the_most_room_is_taken(monkeypatch):
    rooms = {"cuda:0": 3, "cuda:1": 9, "cuda:2": 9}
    monkeypatch.setattr(gpu, "room", lambda name: (rooms[name], name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(rooms))
    assert gpu.roomiest() == "cuda:1"


def test_without_a_gpu_the_processor_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.roomiest() == "cpu"


def test_nano_runs_on_the_processor_where_the_gpu_has_no_room_for_it(monkeypatch, caplog):
    pretend_gpu(monkeypatch, is_integrated=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    nano = open_nano()
    assert nano._loaded.backbone.device == torch.device("cpu")
    assert "0 MiB of the memory of cuda are free" in caplog.text
    assert "CUDA_VISIBLE_DEVICES" in caplog.text
    nano.close()


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, is_integrated: bool) -> None:
    told = {
        **{"mem_get_info": (5, 100), "memory_reserved": 70, "memory_allocated": 20},
        "get_device_properties": SimpleNamespace(is_integrated=is_integrated),
    }
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)


# --- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("\n🚨 bitsandbytes was not built for this GPU 🚨\n\nDo this",), "bitsandbytes was not"),
        (("  \n\n",), "RuntimeError"),
        ((), "RuntimeError"),
    ],
)
def test_an_error_is_told_by_its_first_line_that_says_something(engine, said, told):
    broken = Broken(layer_of(engine), raising(RuntimeError, *said))
    with pytest.raises(EngineError, match=f"to \\d+ tokens: .*{told}"):
        engine.ask(question(1))
    broken.mend()


def test_an_error_without_a_class_of_its_own_is_one_of_the_engine(engine):
    broken = Broken(layer_of(engine), raising(Exception, "out of resource: shared memory"))
    with pytest.raises(EngineError, match=r"could not compute .* out of resource"):
        engine.ask(question(1))
    broken.mend()


def test_a_gpu_that_fails_while_a_model_is_tried_out_is_told(directory, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(Backbone, "read", fail)
    with pytest.raises(EngineError, match=r"-tiny cannot compute on cpu: .*no kernel image"):
        LocalEngine.open(directory)


def test_a_gpu_that_cannot_be_used_is_told(directory, monkeypatch):
    def fail(_: object) -> None:
        raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    with pytest.raises(EngineError, match=r"cuda cannot be used: .* busy or unavailable; rynn"):
        LocalEngine.open(directory, device="cuda")


# --- a GPU works behind its back ------------------------------------------------------------------


def test_reading_is_waited_for_layer_by_layer_and_writing_is_not(directory, monkeypatch):
    waits: list[object] = []
    monkeypatch.setattr(gpu, "finish", waits.append)
    counts = []
    for tokens in (2, 6):
        engine = LocalEngine.open(directory, constrain=False)
        waits.clear()
        engine.ask(question(1, tokens=tokens))
        counts.append(len(waits))
    layers = engine._loaded.loaded.model.model
    n_layers = len(layers.visual.blocks) + len(layers.language_model.layers)
    assert counts == [n_layers + 2] * 2  # and where the times are taken


# --- a GPU that is lost --------------------------------------------------------------------------


def test_after_its_gpu_was_lost_an_engine_says_so_to_every_question(directory, monkeypatch):
    engine = LocalEngine.open(directory, constrain=False)

    def fail(*_: object) -> None:
        monkeypatch.setattr(gpu, "finish", fail)
        raise RuntimeError("CUDA error: an illegal memory access")

    broken = Broken(layer_of(engine), fail)
    with pytest.raises(
        EngineLostError, match=r"GPU failed \(CUDA error: an illegal.*start it again"
    ):
        engine.ask(question(1))
    broken.mend()
    with pytest.raises(EngineLostError, match="start it again"):
        engine.ask(question(2))
    assert "start it again" in engine.trouble
    engine.close()


def test_an_engine_whose_gpu_is_full_is_not_lost(engine):
    broken = Broken(layer_of(engine), raising(torch.OutOfMemoryError, FULL))
    with pytest.raises(EngineError, match=FULL):
        engine.ask(question(1))
    broken.mend()
    assert engine.trouble == ""
