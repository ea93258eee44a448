# ruff: noqa: PLC0415
"""Tiny random models of RynnBrain's four kinds, saved as ordinary checkpoint directories.

Everything that needs torch or transformers is imported inside the functions, so that tests can be
collected, and skipped, without them. About 3 million parameters each; weights in float32.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rynn_brain_ros.language import compose
from rynn_brain_ros.memory import decode_color, select
from rynn_brain_ros.models.profiles import profile_for
from rynn_brain_ros.values import (
    EncodedImage,
    Frame,
    FrameSet,
    Query,
    QueryBudget,
    Task,
    TextPart,
)

KINDS = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
NAMES = {
    "qwen3_vl": "RynnBrain-2B-tiny",
    "qwen3_vl_moe": "RynnBrain-30B-A3B-tiny",
    "qwen3_5": "RynnBrain1.1-2B-tiny",
    "qwen3_5_moe": "RynnBrain1.1-122B-A10B-tiny",
}
# So wide that random weights answer differently to different pictures.
INITIALIZER_RANGE = {"qwen3_vl": 0.25, "qwen3_vl_moe": 0.15, "qwen3_5": 0.08, "qwen3_5_moe": 0.15}
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
# Added and not special, as in Qwen3's tokenizers: they survive decoding.
ADDED = ("<think>", "</think>")

CHAT_TEMPLATE = r"""{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}
{%- elif enable_thinking is defined and enable_thinking is true -%}{{- '<think>\n' -}}
{%- endif -%}{%- endif -%}"""


# --- building ------------------------------------------------------------------------------------


def build(
    kind: str, directory: Path, name: str = "", vision: dict[str, Any] | None = None, **text: Any
) -> Path:
    """Saves a random model of ``kind`` under ``directory`` and returns its folder.

    ``name`` is the folder's name, from which its profile follows; ``vision`` and ``text`` change
    the configurations of the vision tower and of the language model.
    """
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig

    torch.manual_seed(0)
    tokenizer = build_tokenizer("Qwen3_5Tokenizer" if "qwen3_5" in kind else "Qwen2Tokenizer")
    model = AutoModelForImageTextToText.from_config(build_config(kind, tokenizer, vision, **text))
    for key, weight in model.named_parameters():
        if key.endswith("A_log"):
            torch.nn.init.constant_(weight, -4.0)  # remembers pictures, not the last words only
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=stop
    )
    path = directory / (name or NAMES[kind])
    model.save_pretrained(path)
    save_processor(tokenizer, path)
    return path


def build_tokenizer(class_name: str) -> Any:
    import transformers

    vocab, merges = _byte_pairs()
    tokenizer = getattr(transformers, class_name)(
        vocab=dict(vocab),
        merges=list(merges),
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    from tokenizers import AddedToken

    special = [AddedToken(word, special=True, normalized=False) for word in SPECIAL]
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in ADDED])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@functools.lru_cache(maxsize=1)
def _byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level BPE in the manner of Qwen's, trained on a page of RynnBrain's sentences."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_sentences(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _sentences() -> Iterator[str]:
    for tag in ("affordance", "object", "area", "trajectory"):
        for word in ("red cube", "green ball", "blue cup", "yellow bowl"):
            yield f"<{tag}> <frame 1>: (123, 456), (789, 1000) </{tag}>"
            yield f"Point to the {word}. Where is the {word}? Output the bounding box in the format"
            yield "user\nassistant\nsystem\nAll coordinates must be normalized between 0 and 1000."


def build_config(
    kind: str, tokenizer: Any, vision: dict[str, Any] | None = None, **text: Any
) -> Any:
    import transformers

    sight: dict[str, Any] = {
        "depth": 3,
        "hidden_size": 96,
        "num_heads": 3,
        "intermediate_size": 256,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 192,
        "num_position_embeddings": 256,
        "initializer_range": 0.15,
        **({"deepstack_visual_indexes": [0, 1]} if "qwen3_vl" in kind else {}),
        **(vision or {}),
    }
    words: dict[str, Any] = {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "initializer_range": INITIALIZER_RANGE[kind],
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [8, 4, 4],
            "mrope_interleaved": True,
        },
        **_kind_text(kind),
        **text,
    }
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>")
        for name, word in (
            *(("image", "image_pad"), ("video", "video_pad")),
            *(("vision_start", "vision_start"), ("vision_end", "vision_end")),
        )
    }
    classes = {
        "qwen3_vl": "Qwen3VLConfig",
        "qwen3_vl_moe": "Qwen3VLMoeConfig",
        "qwen3_5": "Qwen3_5Config",
        "qwen3_5_moe": "Qwen3_5MoeConfig",
    }
    return getattr(transformers, classes[kind])(
        text_config=words, vision_config=sight, tie_word_embeddings=True, **ids
    )


def _kind_text(kind: str) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if kind.endswith("moe"):
        changes |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
    if kind == "qwen3_5_moe":
        changes |= {"shared_expert_intermediate_size": 96}
    if kind.startswith("qwen3_5"):
        changes |= {
            "head_dim": 64,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 8,
            "full_attention_interval": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.25,
            },
        }
    return changes


def save_processor(tokenizer: Any, path: Path) -> None:
    """Tokenizer, template and image settings, under the names that real checkpoints use."""
    tokenizer.save_pretrained(path)
    settings = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "Qwen3VLProcessor",
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    }
    (path / "preprocessor_config.json").write_text(json.dumps(settings))


def teach(
    directory: Path, lessons: Sequence[tuple[Query, str]], folder: Path, n_rounds: int = 40
) -> Path:
    """A copy of the model in ``folder`` that has learned to answer these questions so."""
    import torch
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32)
    processor = stock_processor(directory)
    learned = [_lesson(directory, processor, *lesson) for lesson in lessons]
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=4e-3)
    for _ in range(n_rounds):
        optimizer.zero_grad()
        for inputs in learned:
            (model(**inputs).loss / len(learned)).backward()
        optimizer.step()
    path = folder / directory.name
    shutil.copytree(directory, path)
    model.save_pretrained(path)
    return path


def _lesson(directory: Path, processor: Any, query: Query, answer: str) -> dict[str, Any]:
    """Inputs with labels for the answer alone."""
    inputs = _stock_inputs(directory, processor, query, answer + "<|im_end|>")
    n_prompt = _stock_inputs(directory, processor, query)["input_ids"].shape[1]
    labels = inputs["input_ids"].clone()
    labels[:, :n_prompt] = -100
    return {**inputs, "labels": labels}


# --- asking as everybody else does ---------------------------------------------------------------


@dataclass(frozen=True)
class StockAnswer:
    text: str
    probabilities: tuple[float, ...]
    """Of each written token, the one that ended the answer included."""
    tokens: tuple[int, ...] = ()


def stock_answer(directory: Path, query: Query, dtype: str = "float32") -> StockAnswer:
    """What transformers' own processor and ``generate`` answer, with nothing of ours in between
    but the composed messages. Pictures are given in their own size."""
    import torch

    model, processor = _stock(directory, dtype)
    inputs = _stock_inputs(directory, processor, query)
    with torch.inference_mode():
        made = model.generate(
            **inputs,
            max_new_tokens=query.budget.max_new_tokens,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
    written = made.sequences[0, inputs["input_ids"].shape[1] :]
    chances = [torch.softmax(score[0].float(), dim=-1).max().item() for score in made.scores]
    text = str(processor.tokenizer.decode(written, skip_special_tokens=True))
    return StockAnswer(text, tuple(chances), tuple(written.tolist()))


@functools.lru_cache(maxsize=8)
def _stock(directory: Path, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=dtype)
    return model.eval(), stock_processor(directory)


def _stock_inputs(directory: Path, processor: Any, query: Query, written: str = "") -> Any:
    config = json.loads((directory / "config.json").read_text())
    profile = profile_for(directory.name, config["model_type"])
    switch = {} if profile.enable_thinking is None else {"enable_thinking": query.thinks}
    conversation, pictures = _stock_chat(compose(query, profile.generation))
    text = processor.apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=True, **switch
    )
    return processor(text=[text + written], images=pictures or None, return_tensors="pt")


def stock_processor(directory: Path) -> Any:
    """Qwen3VLProcessor without its video half, which alone needs torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin, Qwen3VLProcessor

    class ImageOnly(Qwen3VLProcessor):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None) -> None:
            for name in ("image", "video"):
                setattr(self, f"{name}_token", f"<|{name}_pad|>")
                ids = tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>")
                setattr(self, f"{name}_token_id", ids)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(directory)
    images = AutoImageProcessor.from_pretrained(directory, backend="pil")
    return ImageOnly(images, tokenizer, tokenizer.chat_template)


def _stock_chat(messages: Sequence[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    from PIL import Image

    conversation, pictures = [], []
    for message in messages:
        content = []
        for part in message.parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            else:
                content.append({"type": "image"})
                pictures.append(Image.fromarray(decode_color(part.image.frame.color)))
        conversation.append({"role": message.role, "content": content})
    return conversation, pictures


# --- questions -----------------------------------------------------------------------------------


def picture(seed: int, width: int = 320, height: int = 224) -> Frame:
    """A camera's JPEG of coloured patches, different for each seed; 70 visual tokens."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 255, (7, 10, 3), dtype=np.uint8)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    return Frame(
        "front", 1000 + seed, "camera_optical", EncodedImage("jpeg", data, compressed=True)
    )


def frames(*seeds: int, width: int = 320, height: int = 224) -> FrameSet:
    chosen = tuple(select(picture(seed, width, height)) for seed in seeds)
    return FrameSet(chosen, 10240 // max(1, len(seeds)))


def question(
    *seeds: int,
    task: Task = Task.AFFORDANCE,
    words: str = "Point to the red cube.",
    tokens: int = 12,
    **more: Any,
) -> Query:
    budget = QueryBudget(tokens, 60.0)
    return Query("q1", task, words, frames(*seeds), budget, **more)
