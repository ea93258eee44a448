# ruff: noqa: PLC0415
"""Directories that may not be loaded, or cannot: each is refused in a sentence that helps."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rynn_brain_ros.models import open_engine
from rynn_brain_ros.models.local.checkpoint import inspect
from rynn_brain_ros.models.local.memory import available_bytes
from rynn_brain_ros.values import EngineError

CONFIG = {
    "model_type": "qwen3_vl",
    "vision_config": {},
    "text_config": {"num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128},
}


def safetensors(path: Path, n_bytes: int = 64, shape: tuple[int, ...] = (32,)) -> None:
    """A file with one BF16 tensor; sparse, so that it may pretend to any size."""
    entry = {"dtype": "BF16", "shape": shape, "data_offsets": [0, n_bytes]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + n_bytes)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "RynnBrain-8B"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text("{}")
    safetensors(path / "model.safetensors")
    return path


def change_config(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def only_a_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def cut_off(path: Path) -> None:
    file = path / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)


def a_missing_shard(path: Path) -> None:
    (path / "model.safetensors").unlink()
    index = {"weight_map": {"weight": "model-00001-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "no model directory"),
    "no config": (lambda p: (p / "config.json").unlink(), "holds no config.json"),
    "html": (lambda p: (p / "config.json").write_text("<html>"), "cannot read .*download it again"),
    "a list": (lambda p: (p / "config.json").write_text("[]"), "no JSON object"),
    "llama": (lambda p: change_config(p, model_type="llama"), "type 'llama'; this engine runs"),
    "no vision": (lambda p: change_config(p, vision_config=None), "has no vision_config"),
    "remote code": (
        lambda p: change_config(p, auto_map={"AutoModel": "evil.Model"}),
        "asks for code of its own",
    ),
    "remote processor": (
        lambda p: (p / "preprocessor_config.json").write_text('{"a": {"auto_map": {}}}'),
        "preprocessor_config.json asks for code of its own",
    ),
    "trusting": (
        lambda p: change_config(p, text_config={"trust_remote_code": True}),
        "asks for code of its own \\(trust_remote_code\\)",
    ),
    "an adapter": (
        lambda p: (p / "adapter_config.json").write_text("{}"),
        "holds an adapter.*merge it",
    ),
    "foreign quantization": (
        lambda p: change_config(p, quantization_config={"quant_method": "awq"}),
        "quantized with 'awq', which this engine does not run",
    ),
    "no source": (
        lambda p: (p / "quantized_from.json").write_text("{}"),
        "does not name its source; quantize it again",
    ),
    "index of nothing": (
        lambda p: (p / "model.safetensors.index.json").write_text('{"weight_map": {}}'),
        "names no files",
    ),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    "pickle": (only_a_pickle, "pytorch_model.bin and no safetensors; pickle files can run code"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), "lacks model.safetensors"),
    "missing shard": (a_missing_shard, "lacks model-00001-of-00002.safetensors"),
    "cut off": (cut_off, "was cut off"),
    "cut in header": (
        lambda p: os.truncate(p / "model.safetensors", 20),
        "cut off inside its header",
    ),
    "empty": (lambda p: os.truncate(p / "model.safetensors", 0), "cut off inside its header"),
    "no safetensors": (
        lambda p: (p / "model.safetensors").write_bytes(b"\4" + bytes(7) + b"\xff{}!"),
        "unreadable header",
    ),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_bad_directory_is_refused_by_name(directory: Path, spoil: str):
    action, words = SPOILT[spoil]
    action(directory)
    with pytest.raises(EngineError, match=words):
        inspect(directory)


def test_a_good_directory_is_measured(directory: Path):
    checkpoint = inspect(directory)
    assert (checkpoint.name, checkpoint.revision) == ("RynnBrain-8B", "")
    assert (checkpoint.dtype, checkpoint.n_parameters, checkpoint.n_bytes) == ("BF16", 32, 64)
    assert checkpoint.kv_bytes_per_token == 144 * 1024


def test_a_directory_of_the_hub_cache_gives_name_and_revision(directory: Path, tmp_path: Path):
    snapshot = tmp_path / "models--Alibaba-DAMO-Academy--RynnBrain-2B" / "snapshots" / "0123abcd"
    shutil.copytree(directory, snapshot)
    checkpoint = inspect(snapshot)
    assert (checkpoint.name, checkpoint.revision) == ("RynnBrain-2B", "0123abcd")


def test_the_free_memory_of_this_machine_is_known():
    assert available_bytes() is None or available_bytes() > 10_000_000


def test_importing_the_engines_imports_no_torch():
    code = "import sys, rynn_brain_ros.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_error_says_what_to_install(directory: Path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('torch', 'transformers') else find(n, *a)\n"
        "from rynn_brain_ros.models import open_engine; open_engine(sys.argv[1])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, f"local:{directory}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "local models need torch, transformers" in run.stderr
    assert "pip install 'torch>=2.6' 'transformers>=5.10'" in run.stderr


# --- with transformers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_models import build

    return build("qwen3_vl", tmp_path_factory.mktemp("tiny"))


def test_a_model_larger_than_the_machine_is_refused_before_it_is_loaded(tiny: Path, tmp_path: Path):
    path = shutil.copytree(tiny, tmp_path / "RynnBrain-huge")
    safetensors(path / "model.safetensors", 4_000_000_000_000, (2_000_000_000_000,))
    with pytest.raises(EngineError, match=r"needs 39\d{2}\.\d GiB"):
        open_engine(f"local:{path}")


def test_missing_weights_are_not_made_up(tiny: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(tiny, tmp_path / "RynnBrain-torn")
    weights = load_file(path / "model.safetensors")
    del weights["model.language_model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"lacks 1 of the model's weights.*layers\.1\.mlp\.up"):
        open_engine(f"local:{path}")


def test_weights_that_are_no_numbers_are_named(tiny: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(tiny, tmp_path / "RynnBrain-scratched")
    weights = load_file(path / "model.safetensors")
    weights["model.visual.blocks.1.mlp.linear_fc1.weight"][3, 4] = float("nan")
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"no numbers.*first in model\.visual\.blocks\.1\.mlp"):
        open_engine(f"local:{path}")


def test_nothing_that_lies_in_the_directory_is_run(tiny: Path, tmp_path: Path):
    path = shutil.copytree(tiny, tmp_path / "RynnBrain-trap")
    evidence = tmp_path / "it-ran"
    code = f"open({str(evidence)!r}, 'w').close()\n"
    for name in ("modeling_qwen3_vl.py", "custom_generate/generate.py", "__init__.py"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(code)
    bomb = pickle.dumps(Bomb(code))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (path / name).write_bytes(bomb)
    with contextlib.closing(open_engine(f"local:{path}")) as engine:
        assert engine.info.model == "RynnBrain-trap"
    assert not evidence.exists()
    pickle.loads(bomb)
    assert evidence.exists(), "the trap itself does not work"


class Bomb:
    """Unpickled, it runs ``code``."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, (self.code,)


def test_a_number_that_is_none_is_named(tiny: Path, tmp_path: Path):
    path = shutil.copytree(tiny, tmp_path / "RynnBrain-odd")
    text = json.loads((path / "config.json").read_text())["text_config"]
    change_config(path, text_config={**text, "head_dim": "wide"})
    with pytest.raises(EngineError, match="has head_dim 'wide', which is no number"):
        open_engine(f"local:{path}")


def test_weights_of_another_shape_are_refused(tiny: Path, tmp_path: Path):
    path = shutil.copytree(tiny, tmp_path / "RynnBrain-bent")
    text = json.loads((path / "config.json").read_text())["text_config"]
    change_config(path, text_config={**text, "intermediate_size": 100})
    with pytest.raises(EngineError, match="transformers cannot load"):
        open_engine(f"local:{path}")


def test_a_tokenizer_of_another_model_is_refused(tiny: Path, tmp_path: Path):
    path = shutil.copytree(tiny, tmp_path / "RynnBrain-foreign")
    change_config(path, image_token_id=7)
    with pytest.raises(EngineError, match=r"<\|image_pad\|> .*config.json says 7"):
        open_engine(f"local:{path}")


def test_a_checkpoint_as_older_transformers_wrote_it_answers_the_same(tiny: Path, tmp_path: Path):
    from tiny_models import question

    path = shutil.copytree(tiny, tmp_path / "old" / tiny.name)
    as_written_by_4_57(path)
    query = question(1, 2)
    old, new = open_engine(f"local:{path}"), open_engine(f"local:{tiny}")
    assert old.ask(query).text == new.ask(query).text


def as_written_by_4_57(path: Path) -> None:
    """RynnBrain 1.0's layout: rope_scaling beside rope_theta, the template in JSON."""
    config = json.loads((path / "config.json").read_text())
    rope = config["text_config"].pop("rope_parameters")
    config["text_config"]["rope_theta"] = rope["rope_theta"]
    config["text_config"]["rope_scaling"] = {
        "mrope_interleaved": True,
        "mrope_section": rope["mrope_section"],
        "rope_type": "default",
    }
    config["vision_config"]["model_type"] = "qwen3_vl"
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.57.1"
    (path / "config.json").write_text(json.dumps(config))
    template = path / "chat_template.jinja"
    (path / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
