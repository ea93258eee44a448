"""How many bits the weights take: what each word needs, weighs, and answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rynn_brain_ros.models.local import open_local
from rynn_brain_ros.models.local.checkpoint import Checkpoint, inspect
from rynn_brain_ros.models.local.memory import (
    CONTEXT_TOKENS,
    Request,
    check_fit_together,
    check_fits,
)
from rynn_brain_ros.models.local.quantization import (
    Machine,
    check_possible,
    chosen,
    possible,
    weight_bytes,
)
from rynn_brain_ros.values import EngineError, InputError

GIB = 2**30
CPU = Machine(None, frozenset({"bitsandbytes"}))
HOPPER = Machine((9, 0), frozenset({"bitsandbytes", "kernels"}))
LAYER = "model.language_model.layers.0.mlp.up_proj.weight"
HEAD = "model.language_model.embed_tokens.weight"
EXPERTS = "model.language_model.layers.0.mlp.experts.gate_up_proj"
TEXT = {
    **{"num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128},
    **{"hidden_size": 4096, "intermediate_size": 12288},
}
VISION = {"hidden_size": 1152, "intermediate_size": 4304, "spatial_merge_size": 2}


def header_only(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of BF16 tensors; sparse, so that it may pretend to any size."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in tensors.items():
        n_bytes = 2
        for n in shape:
            n_bytes *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + n_bytes]}
        end += n_bytes
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded)
    os.truncate(path, 8 + len(encoded) + end)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    def make(
        tensors: dict[str, tuple[int, ...]], kind: str = "qwen3_vl", **config: object
    ) -> Checkpoint:
        path = tmp_path / "RynnBrain-8B"
        path.mkdir(exist_ok=True)
        told = {"model_type": kind, "text_config": TEXT, "vision_config": VISION, **config}
        (path / "config.json").write_text(json.dumps(told))
        (path / "tokenizer.json").write_text("{}")
        header_only(path / "model.safetensors", tensors)
        return inspect(path)

    return make


# --- which word works where ----------------------------------------------------------------------


def test_fp8_needs_a_gpu_that_multiplies_in_it(checkpoint):
    model = checkpoint({LAYER: (256, 256)})
    with pytest.raises(EngineError, match=r"compute capability 8\.9.*this is a CPU\. Use nf4"):
        check_possible(model, "fp8", CPU)
    ampere = Machine((8, 6), HOPPER.packages)
    with pytest.raises(EngineError, match=r"this one has 8\.6"):
        check_possible(model, "fp8", ampere)
    with pytest.raises(EngineError, match=r"pip install 'transformers\[kernels\]'"):
        check_possible(model, "fp8", Machine((9, 0), frozenset()))
    check_possible(model, "fp8", HOPPER)


@pytest.mark.parametrize("word", ["int8", "nf4"])
def test_without_bitsandbytes_the_command_that_installs_it_is_named(checkpoint, word):
    with pytest.raises(EngineError, match=r"pip install 'bitsandbytes>=0\.50'"):
        check_possible(checkpoint({LAYER: (256, 256)}), word, Machine(None, frozenset()))


@pytest.mark.parametrize("word", ["int8", "nf4"])
def test_experts_in_one_tensor_are_refused_with_their_share(checkpoint, word):
    model = checkpoint({EXPERTS: (4, 256, 256), HEAD: (1024, 256)}, "qwen3_vl_moe")
    with pytest.raises(EngineError, match=r"50 % of this model are experts.*Use fp8"):
        check_possible(model, word, HOPPER)
    assert possible(model, HOPPER) == ("none", "fp8")


def test_layers_that_cannot_be_cut_into_blocks_are_refused_by_name(checkpoint):
    model = checkpoint({LAYER: (256, 200)})
    with pytest.raises(EngineError, match=r"up_proj\.weight has the shape \[256, 200\].*Use int8"):
        check_possible(model, "nf4", CPU)
    check_possible(model, "int8", CPU)


def test_an_unknown_word_names_the_known():
    with pytest.raises(InputError, match=r"unknown quantization 'int3' .*none, int8, nf4 or fp8"):
        open_local("somewhere#int3")


def test_a_quantized_directory_does_not_become_another(checkpoint):
    model = checkpoint({LAYER: (4, 4)}, quantization_config={"quant_method": "fp8"})
    assert chosen(model, "") == chosen(model, "fp8") == "fp8"
    for word in ("nf4", "none"):
        with pytest.raises(EngineError, match=f"is quantized to fp8 already.*become {word}"):
            chosen(model, word)


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "gptq"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        "nf4",
    ],
)
def test_a_foreign_quantization_is_refused(checkpoint, settings):
    with pytest.raises(EngineError, match="which this engine does not run; give the original"):
        checkpoint({LAYER: (4, 4)}, quantization_config=settings)


# --- what it weighs ------------------------------------------------------------------------------


def test_only_the_language_models_layers_get_smaller(checkpoint):
    model = checkpoint(
        {
            **{LAYER: (1024, 512), HEAD: (1000, 512), "lm_head.weight": (1000, 512)},
            **{"model.visual.blocks.0.mlp.linear_fc1.weight": (512, 512)},
            **{"model.language_model.layers.0.input_layernorm.weight": (512,)},
            **{"model.language_model.layers.0.linear_attn.in_proj_a.weight": (16, 512)},
        }
    )
    n, rest = 1024 * 512, 2 * (2 * 1000 * 512 + 512 * 512 + 512 + 16 * 512)
    assert weight_bytes(model, "none", "BF16") == 2 * n + rest == model.n_bytes
    assert weight_bytes(model, "int8", "BF16") == n + 4 * 1024 + rest
    assert weight_bytes(model, "fp8", "BF16") == n + 4 * n // 128**2 + rest
    assert weight_bytes(model, "nf4", "BF16") == n // 2 + n // 64 + 4 * n // (64 * 256) + rest


def request(model: Checkpoint, quantization: str = "none", device: str = "cpu") -> Request:
    return Request(model, device, "BF16", quantization)


def test_needed_memory_names_its_parts(checkpoint):
    need = request(checkpoint({LAYER: (4096, 1024 * 1024)})).need
    assert need.weights == 8 * GIB
    assert need.cache == CONTEXT_TOKENS * 144 * 1024
    assert need.frames == GIB
    assert need.work == 2 * CONTEXT_TOKENS * 3 * (12288 + 4096)  # the longest prompt in a layer
    assert need.total == sum((need.weights, need.cache, need.frames, need.work, need.headroom))


def test_too_little_memory_says_which_quantization_would_fit(checkpoint):
    model = checkpoint({LAYER: (4096, 1024 * 1024)})
    with pytest.raises(EngineError) as error:
        check_fits(request(model, device="cuda"), 11 * GIB, "cuda", possible(model, HOPPER))
    said = str(error.value)
    assert "needs 13.4 GiB (weights 8.0 GiB" in said
    assert "11.0 GiB of cuda are free" in said
    assert f"fp8 would need 9.2 GiB: local:{model.path}#fp8" in said
    check_fits(request(model, "int8", "cuda"), 11 * GIB, "cuda")


def test_where_no_quantization_fits_smaller_models_are_named(checkpoint):
    model = checkpoint({LAYER: (4096, 8 * 1024 * 1024)})
    with pytest.raises(EngineError, match=r"What would fit: RynnBrain-4B int8 \(5\.2 GB\)"):
        check_fits(request(model), 8 * 10**9, "main memory", possible(model, CPU))


def test_the_models_of_all_roles_are_added_up(checkpoint):
    model = checkpoint({LAYER: (4096, 1024 * 1024)})
    both = {"ground+think": request(model), "plan": request(model, "nf4", "cuda")}
    check_fit_together(both, 21 * GIB, "main memory")
    with pytest.raises(EngineError) as error:
        check_fit_together(both, 15 * GIB, "main memory")
    assert "ground+think: RynnBrain-8B (BF16) 13.4 GiB, plan: RynnBrain-8B (nf4) 7.2" in str(
        error.value
    )


# --- with transformers ---------------------------------------------------------------------------

DENSE = ("qwen3_vl", "qwen3_5")
SPARSE = ("qwen3_vl_moe", "qwen3_5_moe")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    from tiny_models import NAMES, build  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("tiny")

    def get(kind: str) -> Path:
        path = folder / NAMES[kind]
        return path if path.exists() else build(kind, folder)

    return get


def answers(spec: str) -> Sequence[str]:
    from tiny_models import question  # noqa: PLC0415

    engine = open_local(spec)
    try:
        return [engine.ask(question(*seeds)).text for seeds in ((1, 2), (3,), (1, 2, 4))]
    finally:
        engine.close()


@pytest.mark.parametrize("word", ["int8", "nf4"])
@pytest.mark.parametrize("kind", DENSE)
def test_a_quantized_directory_answers_as_quantizing_at_load(tiny, tmp_path, kind, word):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    source = tiny(kind)
    made = quantize(source, tmp_path / "small", word)
    assert answers(f"{tmp_path}/small") == answers(f"{source}#{word}")
    assert made.written.n_parameters == made.source.n_parameters
    assert made.written.n_bytes < made.source.n_bytes
    assert open_local(str(tmp_path / "small")).info == open_local(f"{source}#{word}").info


@pytest.mark.parametrize("word", ["int8", "nf4", "fp8"])
@pytest.mark.parametrize("kind", SPARSE)
def test_a_mixture_of_experts_is_refused_by_name_before_it_is_loaded(tiny, kind, word):
    with pytest.raises(EngineError, match=f"{tiny(kind).name} cannot run in {word} here"):
        open_local(f"{tiny(kind)}#{word}")


@pytest.mark.parametrize("kind", DENSE)
def test_what_is_counted_as_a_layer_is_what_gets_quantized(tiny, kind):
    import bitsandbytes  # noqa: PLC0415

    from rynn_brain_ros.models.local.loading import make_request, read_model  # noqa: PLC0415
    from rynn_brain_ros.models.local.quantization import is_layer  # noqa: PLC0415

    made = make_request(tiny(kind), quantization="int8")
    counted = {tensor.name for tensor in made.checkpoint.tensors if is_layer(tensor)}
    modules = read_model(made).named_modules()
    quantized = {
        f"{name}.weight"
        for name, module in modules
        if isinstance(module, bitsandbytes.nn.Linear8bitLt)
    }
    assert counted == quantized


@pytest.mark.parametrize("word", ["int8", "nf4"])
def test_the_weight_of_a_written_directory_was_foretold(tiny, tmp_path, word):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    made = quantize(tiny("qwen3_vl"), tmp_path / "small", word)
    foretold = weight_bytes(made.source, word, "BF16")
    # bitsandbytes adds its tables, a kilobyte for each layer, which matter in tiny models only
    layers = 28
    assert foretold <= made.written.n_bytes <= foretold + 2048 * layers


def test_the_vision_tower_the_embeddings_and_the_head_stay_in_16_bits(tiny):
    from rynn_brain_ros.models.local.loading import make_request, read_model  # noqa: PLC0415

    model = read_model(make_request(tiny("qwen3_vl"), quantization="nf4"))
    kept = {
        *(str(weight.dtype) for weight in model.model.visual.parameters()),
        *(str(module.weight.dtype) for module in (model.get_input_embeddings(), model.lm_head)),
    }
    assert kept == {"torch.bfloat16"}


def test_loading_tells_how_far_it_is(tiny, capfd):
    told: list[tuple[str, int, int]] = []
    open_local(f"{tiny('qwen3_vl')}#int8", lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"loading weights"}
    assert [done for _, done, _ in told] == list(range(1, told[-1][2] + 1))
    assert "Loading weights" not in "".join(capfd.readouterr())


# --- writing a directory -------------------------------------------------------------------------


def test_a_written_directory_says_what_it_was_made_of(tiny, tmp_path):
    import hashlib  # noqa: PLC0415

    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    source = tiny("qwen3_vl")
    quantize(source, tmp_path / "any-name", "nf4")
    record = json.loads((tmp_path / "any-name" / "quantized_from.json").read_text())
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    assert record["sha256"]["model.safetensors"] == digest
    assert (record["source"], record["quantization"]) == (source.name, "nf4")
    assert record["versions"]["bitsandbytes"]
    assert inspect(tmp_path / "any-name").name == source.name


def test_an_interrupted_quantization_leaves_nothing(tiny, tmp_path):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    def stop(what: str, done: int, total: int) -> None:
        if what == "hashing the source":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(tiny("qwen3_vl"), tmp_path / "small", "nf4", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_not_empty_is_refused_and_kept(tiny, tmp_path):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="is no name of a folder: name a new one"):
        quantize(tiny("qwen3_vl"), Path(), "int8")
    with pytest.raises(InputError, match="is not an empty folder: choose another"):
        quantize(tiny("qwen3_vl"), tmp_path, "nf4")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_source_that_is_quantized_already_is_refused(tiny, tmp_path):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    quantize(tiny("qwen3_vl"), tmp_path / "small", "int8")
    with pytest.raises(InputError, match="is quantized to int8 already: use local:"):
        quantize(tmp_path / "small", tmp_path / "smaller", "int8")
    with pytest.raises(EngineError, match="is quantized to int8 already and cannot become nf4"):
        quantize(tmp_path / "small", tmp_path / "smaller", "nf4")


def test_the_command_writes_and_says_how_to_use_it(tiny, tmp_path, capsys):
    from rynn_brain_ros.cli import main  # noqa: PLC0415

    assert main(["quantize", str(tiny("qwen3_5")), str(tmp_path / "small"), "--to", "int8"]) == 0
    assert f"use it as local:{tmp_path / 'small'}" in capsys.readouterr().out
    assert main(["quantize", str(tiny("qwen3_vl_moe")), str(tmp_path / "no")]) == 3
    assert "cannot run in nf4 here" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_too_little_disk_is_said_before_anything_is_loaded(tiny, tmp_path):
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415

    huge = shutil.copytree(tiny("qwen3_vl"), tmp_path / "huge")
    header_only(huge / "model.safetensors", {LAYER: (1_000_000 * 64, 40_000)})
    with pytest.raises(Exception, match=r"it needs \d+\.\d GiB and \d+\.\d GiB of disk are free"):
        quantize(huge, tmp_path / "small", "nf4")
