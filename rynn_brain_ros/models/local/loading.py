"""From a checked directory to a model in memory, through transformers' ordinary classes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers.cache_utils
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import import_utils
from transformers.utils import logging as transformers_logging

from rynn_brain_ros.models.image_grid import TOKEN_PX
from rynn_brain_ros.models.local import gpu
from rynn_brain_ros.models.local.chat import Chat
from rynn_brain_ros.models.local.checkpoint import Checkpoint, inspect
from rynn_brain_ros.models.local.failures import told_as
from rynn_brain_ros.models.local.memory import (
    ANSWER_TOKENS,
    CONTEXT_TOKENS,
    Request,
    available_bytes,
    check_fit_together,
    check_fits,
)
from rynn_brain_ros.models.local.patches import Patcher, read_patcher
from rynn_brain_ros.models.local.quantization import (
    Machine,
    check_possible,
    chosen,
    possible,
    settings,
)
from rynn_brain_ros.models.profiles import Profile, profile_for
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import EngineError

_LOG = logging.getLogger(__name__)
_IMAGE = "<|image_pad|>"
_SAFE = {"local_files_only": True, "trust_remote_code": False}
_GPU_REMEDY = "; rynn-brain doctor says what torch can use, CUDA_VISIBLE_DEVICES= computes without"
_TORCH_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class Loaded:
    checkpoint: Checkpoint
    quantization: str
    profile: Profile
    model: Any
    patcher: Patcher
    chat: Chat
    stop_tokens: frozenset[int]


def load(
    path: Path,
    device: str = "",
    dtype: str = "",
    quantization: str = "",
    progress: Progress = untold,
) -> Loaded:
    """Loads a checkpoint directory; see `make_request` for what the words mean.

    Safetensors only, nothing from the network but the GPU code of ``fp8``, no code of the
    checkpoint. Raises `EngineError`.
    """
    request = make_request(path, device, dtype, quantization)
    checkpoint = request.checkpoint
    patcher = read_patcher(path)
    profile = profile_for(checkpoint.name, checkpoint.kind, checkpoint.n_parameters / 1e9)
    model = read_model(request, progress)
    with told_as(f"transformers cannot load {path}"):
        tokenizer = _tokenizer(path)
        chat = _chat(checkpoint, profile, tokenizer, patcher)
        stop = _stop_tokens(model, tokenizer)
    _try_out(request, model)
    return Loaded(checkpoint, request.quantization, profile, model, patcher, chat, stop)


def make_request(path: Path, device: str = "", dtype: str = "", quantization: str = "") -> Request:
    """What would be loaded. Raises `EngineError` for what cannot be, whatever the memory.

    ``device`` is by default the GPU with the most room where there is one; ``quantization`` as it
    is stored. ``dtype``
    (``BF16``, ``F16``, ``F32``) is that of all that is not quantized: by default as stored, and 16
    bits beside quantized layers.
    """
    checkpoint = inspect(path)
    quantization = chosen(checkpoint, quantization)
    stored = checkpoint.dtype
    dtype = dtype or ("BF16" if quantization != "none" and stored == "F32" else stored)
    if dtype not in _TORCH_DTYPES:
        raise EngineError(
            f"{checkpoint.name} stores its weights in {dtype}; this engine computes in "
            f"{', '.join(_TORCH_DTYPES)}: convert the checkpoint"
        )
    if not device:
        with told_as("the GPUs cannot be used", _GPU_REMEDY):
            device = gpu.roomiest()
    _check_version(checkpoint)
    check_possible(checkpoint, quantization, machine(device))
    return Request(checkpoint, device, dtype, quantization)


def check_memory(requests: Mapping[str, Request]) -> None:
    """Before the first of several models is loaded: whether all of them fit, by the names of what
    they are for. Raises `EngineError`."""
    for device in {request.device for request in requests.values()}:
        here = {name: r for name, r in requests.items() if r.device == device}
        check_fit_together(here, *_room(device))


def read_model(request: Request, progress: Progress = untold) -> Any:
    """The model alone, ready to compute. Raises `EngineError` for too little memory, for damaged
    weights and for a quantization whose library does not work here."""
    checkpoint, device = request.checkpoint, request.device
    check_fits(request, *_room(device), possible(checkpoint, machine(device)))
    _LOG.info("loading %s onto %s in %s", checkpoint.name, device, request.quantization)
    loading = told_as(f"transformers cannot load {checkpoint.path}")
    on_device = gpu.current(torch.device(device))
    with on_device, loading, telling(progress, "loading weights"):
        model = _model(request)
    with told_as(f"{checkpoint.name} was loaded and cannot be read on {device}"):
        _refuse_damaged(checkpoint, model)
    return model


def machine(device: str) -> Machine:
    """What ``device`` and this Python can do for quantizations."""
    packages = {"bitsandbytes"} if importlib.util.find_spec("bitsandbytes") else set()
    if import_utils.is_kernels_available():
        packages.add("kernels")
    on_gpu = device.startswith("cuda")
    with told_as(f"{device} cannot be used", _GPU_REMEDY):
        capability = torch.cuda.get_device_capability(device) if on_gpu else None
    return Machine(capability, frozenset(packages))


@contextlib.contextmanager
def telling(progress: Progress, what: str) -> Iterator[None]:
    """transformers' own bars become calls of ``progress``."""

    class Told(tqdm):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            for done, item in enumerate(super().__iter__(), 1):
                yield item
                progress(what, done, int(self.total or 0))

    def make(_: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return Told(*args, **{**options, "disable": True})

    before = transformers_logging.set_tqdm_hook(make)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)


def _check_version(checkpoint: Checkpoint) -> None:
    """The shared cache learned about linear attention after these models had come."""
    if checkpoint.is_linear and not hasattr(transformers.cache_utils, "LinearAttentionLayer"):
        raise EngineError(
            f"transformers {transformers.__version__} is too old for {checkpoint.kind} here; "
            "pip install 'transformers>=5.10'"
        )


def _room(device: str) -> tuple[int | None, str]:
    """(free bytes, what they are of)."""
    if device.startswith("cuda"):
        with told_as(f"{device} cannot be used", _GPU_REMEDY):
            return gpu.room(device)
    return available_bytes(), "main memory"


def _model(request: Request) -> Any:
    model, info = AutoModelForImageTextToText.from_pretrained(
        request.checkpoint.path,
        dtype=getattr(torch, _TORCH_DTYPES[request.dtype]),
        use_safetensors=True,
        attn_implementation="sdpa",
        output_loading_info=True,
        **_placement(request),
        **_SAFE,
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        raise EngineError(
            f"{request.checkpoint.path} lacks {len(missing)} of the model's weights, first "
            f"{missing[0]}; download it again"
        )
    return model.eval().requires_grad_(False)


def _placement(request: Request) -> dict[str, Any]:
    """transformers' words for where and how the weights are kept."""
    options: dict[str, Any] = {}
    quantized = request.quantization != "none"
    if quantized or request.device != "cpu":
        options["device_map"] = {"": request.device}
    if quantized and request.checkpoint.quantization == "none":
        wanted = settings(request.quantization, _TORCH_DTYPES[request.dtype])
        options["quantization_config"] = AutoQuantizationConfig.from_dict(wanted)
    if quantized:  # it says once for each product that it computes in 16 bits
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return options


def _refuse_damaged(checkpoint: Checkpoint, model: Any) -> None:
    """A weight that is no number spoils every answer; the sum of a tensor holding one is none."""
    for name, weight in model.state_dict().items():
        if weight.dtype not in (torch.bfloat16, torch.float16, torch.float32):
            continue
        wide = torch.float32 if weight.dtype == torch.float16 else None
        if not bool(torch.isfinite(weight.sum(dtype=wide))):
            raise EngineError(
                f"{checkpoint.path} holds weights that are no numbers (NaN or infinite), first in "
                f"{name}; download it again"
            )


def _try_out(request: Request, model: Any) -> None:
    """The first product shows whether the library of a quantization works on this device."""
    if request.quantization == "none":
        return
    trouble = f"{request.checkpoint.name} was loaded in {request.quantization} and cannot compute"
    remedy = ". Use another quantization, or a build of its library that is made for this machine"
    on_device = gpu.current(torch.device(request.device))
    with told_as(f"{trouble} on {request.device}", remedy), on_device, torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.long, device=request.device)
        model.model.language_model(input_ids=token)


def _tokenizer(path: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(path, **_SAFE)
    if not tokenizer.chat_template:
        tokenizer.chat_template = _old_template(path)
    return tokenizer


def _old_template(path: Path) -> str:
    """transformers 4.57 wrote the processor's template into a file of its own."""
    file = path / "chat_template.json"
    if not file.exists():
        raise EngineError(f"{path} has no chat template (chat_template.jinja); download it again")
    return str(json.loads(file.read_text(encoding="utf-8"))["chat_template"])


def _chat(checkpoint: Checkpoint, profile: Profile, tokenizer: Any, patcher: Patcher) -> Chat:
    side = patcher.token_px
    if TOKEN_PX % side:
        raise EngineError(
            f"{checkpoint.path} cuts pictures into visual tokens of {side} pixels; this engine "
            f"draws them on a grid of {TOKEN_PX}"
        )
    image_token = int(checkpoint.config["image_token_id"])
    known = tokenizer.encode(_IMAGE, add_special_tokens=False)
    if known != [image_token]:
        raise EngineError(
            f"the tokenizer in {checkpoint.path} reads {_IMAGE} as {known} and config.json says "
            f"{image_token}: they are of different models; download both again"
        )
    return Chat(
        tokenizer,
        image_token,
        token_px=side,
        max_image_tokens=patcher.max_tokens,
        max_tokens=min(
            CONTEXT_TOKENS - ANSWER_TOKENS,
            int(checkpoint.config["text_config"].get("max_position_embeddings", CONTEXT_TOKENS)),
        ),
        enable_thinking=profile.enable_thinking,
    )


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    told = model.generation_config.eos_token_id
    listed = told if isinstance(told, list) else [told]
    return frozenset(t for t in [*listed, tokenizer.eos_token_id] if t is not None)
