"""What the server costs: a question over HTTP on this machine, with an engine that costs nothing.

    python benchmarks/serving.py [--questions 100]

``rynn-brain serve``'s server runs in a process of its own; our http engine asks it about a rolling
window of frames, each question over a new connection and answered by 16 pieces of text, as many
as a point has tokens. What it takes longer than asking the engine in this process is shown whole,
and without the codecs: what base64, JSON and the pictures' digests cost, on both sides, measured
apart on the same questions.

Needs ``pip install '.[serve]'``. Half a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from rynn_brain_ros.memory import select
from rynn_brain_ros.models.http import HttpEngine
from rynn_brain_ros.models.http_request import request_body
from rynn_brain_ros.serving import Limits
from rynn_brain_ros.serving.kept_frames import KeptFrames
from rynn_brain_ros.serving.questions import read_request
from rynn_brain_ros.values import (
    EncodedImage,
    EngineInfo,
    Frame,
    FrameSet,
    Query,
    SelectedFrame,
    Task,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "serving"))
import parts  # the engine that says what it is told to is made where the tests make it

TARGET_MS = 5.0
WINDOWS = ((1, 1), (8, 1), (16, 1), (8, 8))
"""(frames, new ones among them) of each question; the last is a first question's."""
PIECES = ("It is at ", "<affordance> ", *["("] * 11, "250, ", "500) ", "</affordance>")


def engine() -> parts.ScriptedEngine:
    return parts.ScriptedEngine(*PIECES)


def serve() -> None:
    """The other process: tells where it listens, until its input ends."""
    from rynn_brain_ros.serving.running import RunningServer  # noqa: PLC0415

    with RunningServer(engine(), port=0, limits=Limits(rate=0.0)) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def film(n_frames: int) -> tuple[SelectedFrame, ...]:
    """Frames of 640×480 pixels and about 150 kB each, as a camera's JPEGs are."""
    rng = np.random.default_rng(0)
    shown = []
    for index in range(n_frames):
        smooth = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (640, 480))
        pixels = smooth // 2 + rng.integers(0, 40, smooth.shape, dtype=np.uint8)
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        image = EncodedImage("jpeg", data, compressed=True)
        shown.append(select(Frame("/camera", index, "camera_optical", image)))
    return tuple(shown)


def windows(n_frames: int, n_new: int, n_questions: int) -> list[Query]:
    """Questions about a window that moves on by ``n_new`` frames each time."""
    frames = film(n_frames + n_new * n_questions)
    starts = range(0, n_new * n_questions, n_new)
    share = 10240 // n_frames
    return [
        Query(
            *("q1", Task.AFFORDANCE, "Pick up the red cube"),
            FrameSet(frames[start : start + n_frames], share),
        )
        for start in starts
    ]


def milliseconds(ask: Callable[[Query], object], queries: Sequence[Query]) -> list[float]:
    """Of all but the first."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        ask(query)
        taken.append(1e3 * (time.perf_counter() - started))
    return taken[1:]


class Codecs:
    """Writes questions as the client does and reads them as the server does, and nothing else."""

    def __init__(self, info: EngineInfo) -> None:
        self._info = info
        self._kept, self._known = KeptFrames(1 << 30), frozenset[str]()

    def ask(self, query: Query) -> None:
        record = request_body(query, self._info, ours=True, known=self._known)
        body = json.dumps(record, ensure_ascii=False).encode()
        read_request(body, self._info, Limits(), self._kept)
        self._known = frozenset(frame.sha256 for frame in query.frames)


def measure(served: HttpEngine, n_frames: int, n_new: int, n_questions: int) -> dict[str, float]:
    queries = windows(n_frames, n_new, n_questions)
    here = statistics.median(milliseconds(engine().ask, queries))
    codecs = statistics.median(milliseconds(Codecs(served.info).ask, queries))
    taken = sorted(milliseconds(served.ask, queries))
    whole, p95 = statistics.median(taken) - here, taken[int(0.95 * len(taken))] - here
    name = f"{n_frames} frames, {n_new} new"
    print(f"{name:18}{whole:10.2f}{p95:10.2f}{codecs:12.2f}{whole - codecs:20.2f}")
    return {"whole_ms": round(whole, 2), "overhead_ms": round(whole - codecs, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        served = HttpEngine(process.stdout.readline().strip())
        print(f"{'':18}{'whole ms':>10}{'p95 ms':>10}{'codecs ms':>12}{'without codecs ms':>20}")
        figures = {
            f"{n}_frames_{new}_new": measure(served, n, new, arguments.questions)
            for n, new in WINDOWS
        }
        process.communicate("")
    rolling = figures["8_frames_1_new"]["overhead_ms"]
    record = {
        "name": "serving",
        "overhead_ms": rolling,
        "target_ms": TARGET_MS,
        "ratio": round(TARGET_MS / rolling, 2),
        **figures,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
