"""The words that nano knows: a byte-level tokenizer in the manner of Qwen's, and a chat template.

Each number from 0 to 1000 is one token: a coordinate is written in one step. The decoded text is
RynnBrain's, letter for letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
ADDED = ("<think>", "</think>")
"""Not special, as in Qwen3's tokenizers: they survive decoding."""
THINKING = ("I see", "I do not see it.", "#### <answer>", "</answer>", "<counting>", "</counting>")
"""What stands around a thought and an answer that was thought about: spelt in pieces of words, such
answers are so long that every other one goes wrong somewhere."""
ARROWS = ("↑", "←", "→", "STOP")
FURNITURE = ("door", "cabinet", "sofa", "chair", "shelf")
"""Tables and boxes were words before."""
MERGES = 1400

CHAT_TEMPLATE = r"""{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""


def build_tokenizer(sentences: Iterable[str]) -> Any:
    """A transformers ``Qwen2Tokenizer`` whose word pieces come from ``sentences``."""
    vocab, merges = _byte_pairs(sentences)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=32768,
    )
    special = [AddedToken(word, special=True, normalized=False) for word in SPECIAL]
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in ADDED])
    numbers = [AddedToken(str(n), single_word=True, normalized=False) for n in range(10, 1001)]
    tokenizer.add_tokens(numbers)
    # Last of all: a nano that had none of them has all others under the same numbers.
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in (*THINKING, *ARROWS)])
    furniture = [AddedToken(word, single_word=True, normalized=False) for word in FURNITURE]
    tokenizer.add_tokens(furniture)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def number_tokens(tokenizer: Any) -> list[int]:
    """The tokens of 0…1000."""
    return [int(token) for token in tokenizer.convert_tokens_to_ids([str(n) for n in range(1001)])]


def _byte_pairs(sentences: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(first, second) for first, second in model["merges"]]
