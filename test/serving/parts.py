"""What the server's tests share: an engine that does as it is told, and questions over HTTP."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import httpx
import numpy as np

from rynn_brain_ros.memory import select
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EncodedImage,
    EngineInfo,
    FinishReason,
    Frame,
    FrameSet,
    Query,
    QueryBudget,
    SelectedFrame,
    Task,
    Timings,
    TokenProbability,
)

PATIENCE_S = 20.0
"""What is waited for happens at once, or the test fails after this."""
MODEL = "RynnBrain-2B-scripted"
POINT = "It is at <affordance> (250, 500) </affordance>"


class ScriptedEngine:
    """Says ``words``, each as a piece of its own, when it is `allow`ed to: at first always.

    ``asked`` holds what it was asked, in order; ``cancelled`` is set when it noticed that.
    """

    def __init__(self, *words: str, error: Exception | None = None, **info: Any) -> None:
        self.info = replace(EngineInfo("scripted", MODEL), **info)
        self.words, self.error = words or ("Two ", "cubes."), error
        self.asked: list[Query] = []
        self.cancelled = threading.Event()
        self._steps: threading.Semaphore | None = None

    def hold(self) -> None:
        """From now on each word waits for a step."""
        self._steps = threading.Semaphore(0)

    def allow(self, steps: int = 1) -> None:
        assert self._steps is not None
        self._steps.release(steps)

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        self.asked.append(query)
        if self.error is not None:
            raise self.error
        written: list[str] = []
        for word in self.words:
            if not self._may_go_on(cancel):
                self.cancelled.set()
                return self._answer(query, written, FinishReason.CANCELLED)
            written.append(word)
            if on_text is not None:
                on_text(word)
        return self._answer(query, written, FinishReason.STOP)

    def close(self) -> None:
        """Nothing to release."""

    def _may_go_on(self, cancel: Cancel | None) -> bool:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if cancel is not None and cancel.is_set():
                return False
            if self._steps is None or self._steps.acquire(timeout=0.005):
                return True
        raise AssertionError("nobody allowed the next word")

    def _answer(self, query: Query, written: list[str], reason: FinishReason) -> Answer:
        ends = [sum(map(len, written[: i + 1])) for i in range(len(written))]
        starts = [0, *ends[:-1]]
        return Answer(
            query.query_id,
            "".join(written),
            reason,
            self.info.name,
            self.info.model,
            revision="r1",
            quantization="int8",
            prompt_tokens=7,
            completion_tokens=len(written),
            timings=Timings(0.0, 0.25, 0.5, 0.125, 0.875),
            token_probabilities=tuple(
                TokenProbability(start, end, 0.5) for start, end in zip(starts, ends, strict=True)
            ),
        )


def picture(seed: int, width: int = 320, height: int = 256) -> SelectedFrame:
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 255, (8, 10, 3), dtype=np.uint8)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    image = EncodedImage("jpeg", data, compressed=True)
    return select(Frame("/camera", seed, "camera_optical", image))


def frames(*seeds: int, **size: int) -> FrameSet:
    shown = tuple(picture(seed, **size) for seed in seeds)
    return FrameSet(shown, 10240 // max(1, len(shown)))


def question(
    *seeds: int,
    task: Task = Task.AFFORDANCE,
    words: str = "Pick up the red cube",
    timeout_s: float = PATIENCE_S,
    **more: Any,
) -> Query:
    return Query("q1", task, words, frames(*seeds), QueryBudget(64, timeout_s), **more)


def data_url(image: SelectedFrame) -> str:
    return f"data:{image.mime};base64,{base64.b64encode(image.image).decode()}"


def image_part(image: SelectedFrame) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def chat(words: str = "What do you see?", *images: SelectedFrame, **more: Any) -> dict[str, Any]:
    """A request as any client of the protocol makes it."""
    content = [*(image_part(image) for image in images), {"type": "text", "text": words}]
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def eventually(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        pause.wait(0.005)


def post(url: str, record: Any, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/chat/completions", json=record, timeout=PATIENCE_S, **more)


def error_of(reply: httpx.Response) -> dict[str, Any]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@contextmanager
def asking(url: str, record: Any) -> Iterator[httpx.Response]:
    with httpx.Client(timeout=PATIENCE_S) as client:
        body = {**record, "stream": True}
        with client.stream("POST", f"{url}/chat/completions", json=body) as reply:
            yield reply


def raw(url: str, data: bytes) -> socket.socket:
    """A connection on which ``data`` was sent."""
    at = httpx.URL(url)
    connection = socket.create_connection((at.host, at.port), PATIENCE_S)
    connection.sendall(data)
    return connection


def request_bytes(record: Any) -> bytes:
    body = json.dumps(record).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
        f"\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def waiting(server: Any) -> int:
    return httpx.get(server.url.removesuffix("/v1") + "/healthz").json()["waiting"]


def metric(server: Any, name: str, **labels: str) -> float:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    text = httpx.get(server.url.removesuffix("/v1") + "/metrics").text
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    (value,) = found
    return value
