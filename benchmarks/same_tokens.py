"""Whether the local engine writes the tokens that stock transformers writes, in 16 bits.

Conversations of four turns over one to three frames each, with models of random weights (or the
one in ``--model``). Stock `generate` writes; the engine, with all its caches, says for every token
what it would have written there. Random weights are the hardest case: their next tokens are about
equally probable, and the last bit decides.

    python benchmarks/same_tokens.py --kind qwen3_vl --conversations 24
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "test" / "models"))

import tiny_models

from rynn_brain_ros.models.local.engine import LocalEngine
from rynn_brain_ros.values import Task, Turn

DTYPES = {"BF16": "bfloat16", "F32": "float32"}
TURNS = ((1,), (2, 3), (4,), (5, 6, 7))
TOKENS = 24


def converse(engine: LocalEngine, directory: Path, dtype: str, number: int) -> tuple[int, int]:
    """(tokens that are the same, tokens) of one conversation about pictures of its own."""
    same = total = 0
    history: tuple[Turn, ...] = ()
    for seeds in TURNS:
        pictures = [100 * number + seed for seed in seeds]
        query = tiny_models.question(
            *pictures, task=Task.PLAN, words="clear the table", tokens=TOKENS, history=history
        )
        stock = tiny_models.stock_answer(directory, query, DTYPES[dtype])
        ours = engine.follow(query, stock.tokens)
        same += sum(a == b for a, b in zip(ours, stock.tokens, strict=True))
        total += len(stock.tokens)
        history = (*history, Turn(query.frames, stock.text))
    return same, total


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=[*tiny_models.KINDS, "all"], default="all")
    parser.add_argument("--dtype", choices=DTYPES, default="BF16")
    parser.add_argument("--conversations", type=int, default=6)
    parser.add_argument("--model", type=Path, help="a checkpoint directory instead")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    counted: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        kinds = tiny_models.KINDS if arguments.kind == "all" else (arguments.kind,)
        paths = (tiny_models.build(kind, Path(folder)) for kind in kinds)
        for path in [arguments.model] if arguments.model else paths:
            engine = LocalEngine.open(path, dtype=arguments.dtype, device="cpu", constrain=False)
            numbers = range(arguments.conversations)
            rounds = [converse(engine, path, arguments.dtype, number) for number in numbers]
            same, total = (sum(column) for column in zip(*rounds, strict=True))
            counted[path.name] = (same, total)
            print(f"{path.name:28} {same:6} of {total:6} tokens the same  {same / total:.3%}")
    same, total = (sum(column) for column in zip(*counted.values(), strict=True))
    record = {"name": "same_tokens", "dtype": arguments.dtype, "tokens": total}
    print(json.dumps({**record, "ratio": round(same / total, 5), "models": counted}))


if __name__ == "__main__":
    main()
