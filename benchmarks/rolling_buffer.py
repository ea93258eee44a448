"""What asking over a rolling window of frames costs: the local engine against stock transformers.

    python benchmarks/rolling_buffer.py [--kind qwen3_5] [--dtype BF16] [--queries 24]

A window of 640×480 frames grows from 8 to 16, one new frame and one question at a time, and drops
to its newest 8 in one block. Both engines answer the same questions about the same frames, in
turns: stock is the processor and ``generate`` on the whole chat, as RynnBrain's own code calls
them. Then a second question on the same frames, and a window that is always exactly 8.

Needs ``pip install '.[model]'``. The model is random, 40 million parameters in
RynnBrain-2B's proportions (half of the work of a frame is the vision tower's), and answers
16 tokens, as long as a point is. One thread. A few minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from rynn_brain_ros.models.local.engine import LocalEngine
from rynn_brain_ros.values import FrameSet, Query, QueryBudget, Task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "models"))
import tiny_models  # random checkpoints are made where the tests make them

LOW, HIGH, TOKENS = 8, 16, 16
TEXT = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 10,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
}
VISION = {
    "depth": 6,
    "hidden_size": 320,
    "num_heads": 5,
    "intermediate_size": 1280,
    "out_hidden_size": 512,
    "num_position_embeddings": 2304,
}
WORDS, OTHER_WORDS = "Point to the red cube.", "Where would a hand hold the blue cup?"
DTYPES = {"F32": "float32", "BF16": "bfloat16"}
Ask = Callable[[Query], str]
Seconds = list[tuple[float, float]]
"""(stock, ours) of each question."""


def growing(n_queries: int) -> Iterable[range]:
    """Indices of the frames of each window."""
    first, end = 0, LOW
    for _ in range(n_queries):
        yield range(first, end)
        end += 1
        if end - first > HIGH:
            first = end - LOW


def timed(ask: Ask, query: Query) -> tuple[float, str]:
    start = time.perf_counter()
    text = ask(query)
    return time.perf_counter() - start, text


class Race:
    """Both engines on the same questions, in turns."""

    def __init__(self, stock: Ask, ours: Ask, frames: FrameSet) -> None:
        self.stock, self.ours, self.frames = stock, ours, frames
        self.same = self.asked = 0

    def ask(self, window: range, words: str) -> tuple[float, float]:
        shown = FrameSet(self.frames.frames[window.start : window.stop], 10240 // len(window))
        query = Query("q", Task.AFFORDANCE, words, shown, QueryBudget(TOKENS, 600.0))
        (stock_s, expected), (ours_s, text) = timed(self.stock, query), timed(self.ours, query)
        self.same += text == expected
        self.asked += 1
        return stock_s, ours_s

    def run(self, windows: Iterable[range], words: str = WORDS) -> Seconds:
        return [self.ask(window, words) for window in windows]


def ratio(seconds: Seconds) -> float:
    return sum(stock for stock, _ in seconds) / sum(ours for _, ours in seconds)


def report(title: str, seconds: Seconds) -> None:
    ratios = sorted(stock / ours for stock, ours in seconds)
    stock, ours = (statistics.mean(column) for column in zip(*seconds, strict=True))
    print(
        f"{title:34}{stock:9.2f}{ours:9.2f}{ratio(seconds):10.1f}×"
        f"{statistics.median(ratios):9.1f}×{ratios[0]:8.1f}×"
    )


def camera(n_frames: int) -> FrameSet:
    chosen = [tiny_models.frames(seed, width=640, height=480)[0] for seed in range(n_frames)]
    return FrameSet(tuple(replace(frame, frame=frame.frame) for frame in chosen))


def mid_model(kind: str, folder: Path) -> Path:
    text = {key: value for key, value in TEXT.items() if kind == "qwen3_vl" or "head" not in key}
    return tiny_models.build(kind, folder, vision=VISION, **text)


def race(arguments: argparse.Namespace, folder: Path) -> Race:
    directory = mid_model(arguments.kind, folder)
    engine = LocalEngine.open(directory, device="cpu", dtype=arguments.dtype, constrain=False)
    dtype = DTYPES[arguments.dtype]
    stock = lambda query: tiny_models.stock_answer(directory, query, dtype).text  # noqa: E731
    stock(tiny_models.question(0))  # loads it
    ours = lambda query: engine.ask(query).text  # noqa: E731
    return Race(stock, ours, camera(arguments.queries + LOW))


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=tiny_models.KINDS, default="qwen3_vl")
    parser.add_argument("--dtype", choices=DTYPES, default="F32")
    parser.add_argument("--queries", type=int, default=24)
    return parser.parse_args(words)


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        both = race(arguments, Path(folder))
        print(f"{'':34}{'stock s':>9}{'ours s':>9}{'amortised':>11}{'median':>10}{'worst':>9}")
        windows = list(growing(arguments.queries))
        rolling = both.run(windows)
        report(f"{len(windows)} questions, window {LOW} to {HIGH}", rolling)
        again = [both.ask(windows[-1], f"{OTHER_WORDS} ({n})") for n in range(3)]
        report("another question, same frames", again)
        strict = both.run(range(n, n + LOW) for n in range(4))[1:]
        report(f"window of exactly {LOW}", strict)
    print(f"\n{both.same} of {both.asked} answers are the same as stock's")
    figures = {
        "name": "rolling_buffer",
        "kind": arguments.kind,
        "dtype": arguments.dtype,
        "second_question_ratio": round(ratio(again), 2),
        "strict_window_ratio": round(ratio(strict), 2),
        "same_answers": both.same / both.asked,
        "ratio": round(ratio(rolling), 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
