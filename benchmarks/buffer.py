"""What receiving and remembering camera frames costs, and how far back the memory reaches.

    python benchmarks/buffer.py

Without ROS: a "received" frame is a copy of its message's bytes, as a subscriber with ``raw=True``
gets it, wrapped and appended. Compared, interleaved in one run, with decoding every picture
(compressed) and with nothing but that copy (raw). Then 120 s of a 30 Hz VGA RGB-D camera.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from rynn_brain_ros.memory import BufferLimits, FrameBuffer, KeyframeConfig, KeyframeDetector
from rynn_brain_ros.values import EncodedImage, Frame

WIDTH, HEIGHT, HZ = 640, 480, 30
STEP_NS = 1_000_000_000 // HZ
N_FRAMES = 300
SIMULATED_S = 120


def picture(seed: int = 0) -> np.ndarray:
    """A 640x480 picture of about the entropy of an indoor scene: shapes, gradients, some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def raw(encoding: str, data: bytes | memoryview, pixel_bytes: int) -> EncodedImage:
    return EncodedImage(encoding, data, WIDTH, HEIGHT, WIDTH * pixel_bytes)


def interleaved(*steps: Callable[[int], object]) -> list[float]:
    """Median seconds of each step, all steps taking turns."""
    taken: list[list[float]] = [[] for _ in steps]
    for i in range(N_FRAMES):
        for step, times in zip(steps, taken, strict=True):
            start = time.perf_counter()
            step(i)
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def compressed_cost() -> tuple[float, float, float]:
    """Seconds per frame: receive and append a JPEG; decode it; look at it for keyframes."""
    jpeg = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    received = bytearray(jpeg)
    buffer, detector = FrameBuffer(), KeyframeDetector(KeyframeConfig(look_interval_s=0))

    def frame(i: int) -> Frame:
        image = EncodedImage("jpeg", bytes(received), compressed=True)
        return Frame("head", i * STEP_NS, "head", image)

    array = np.frombuffer(jpeg, np.uint8)
    store, decode, look = interleaved(
        lambda i: buffer.append(frame(i)),
        lambda _: cv2.imdecode(array, cv2.IMREAD_COLOR),
        lambda i: detector.look(frame(i)),
    )
    return store, decode, look


def raw_cost() -> tuple[float, float, float]:
    """Seconds per frame: receive and append raw RGB; copy its bytes; look at it."""
    message = bytearray(picture().tobytes())
    buffer, detector = FrameBuffer(), KeyframeDetector(KeyframeConfig(look_interval_s=0))

    def frame(i: int) -> Frame:
        return Frame("head", i * STEP_NS, "head", raw("rgb8", bytes(message), 3))

    still = raw("rgb8", bytes(message), 3)
    store, copy, look = interleaved(
        lambda i: buffer.append(frame(i)),
        lambda _: bytes(message),
        lambda i: detector.look(Frame("head", i * STEP_NS, "head", still)),
    )
    return store, copy, look


def fill(real_bytes: bool, max_bytes: int, seconds: int) -> dict[str, float]:
    """Feed an RGB-D camera and watch the bounds after every frame.

    Without ``real_bytes`` all frames share one array, each counted in full, to spare this
    machine's memory.
    """
    buffer = FrameBuffer(BufferLimits(max_bytes=max_bytes))
    color = memoryview(bytes(WIDTH * HEIGHT * 3))
    depth = memoryview(bytes(WIDTH * HEIGHT * 2))
    peak = 0
    for i in range(seconds * HZ):
        data = (bytes(bytearray(color)), bytes(bytearray(depth))) if real_bytes else (color, depth)
        frame = Frame(
            "head", i * STEP_NS, "head", raw("rgb8", data[0], 3), raw("16UC1", data[1], 2)
        )
        events = buffer.append(frame)
        peak = max(peak, buffer.stats().n_bytes)
        if events or peak > max_bytes:
            raise SystemExit(f"a bound was broken: {events} {peak}")
    frames = buffer.frames()
    held = sum(frame.n_bytes for frame in frames)
    if held != buffer.stats().n_bytes:
        raise SystemExit(f"{held} bytes are held and {buffer.stats().n_bytes} are reported")
    stamps = np.array([frame.stamp_ns for frame in frames]) / 1e9
    dense = stamps[stamps >= stamps[-1] - buffer.limits.dense_s]
    return {
        "span_s": float(stamps[-1] - stamps[0]),
        "frames": len(stamps),
        "widest_gap_s": float(np.diff(stamps).max()),
        "newest_2s_widest_gap_s": float(np.diff(dense).max()),
        "peak_mib": peak / 2**20,
    }


def main() -> None:
    store, decode, look = compressed_cost()
    store_raw, copy, look_raw = raw_cost()
    print(f"{'640x480, median of ' + str(N_FRAMES):34} {'JPEG':>10} {'raw rgb8':>10}")
    print(f"{'receive and append, µs':34} {store * 1e6:10.1f} {store_raw * 1e6:10.1f}")
    print(f"{'decode / copy the bytes, µs':34} {decode * 1e6:10.1f} {copy * 1e6:10.1f}")
    print(f"{'look for keyframes (once), µs':34} {look * 1e6:10.1f} {look_raw * 1e6:10.1f}")
    print(f"{'ratio':34} {decode / store:9.1f}x {store_raw / copy:9.2f}x\n")

    full = fill(real_bytes=False, max_bytes=512 << 20, seconds=SIMULATED_S)
    small = fill(real_bytes=True, max_bytes=96 << 20, seconds=20)
    print(f"{'RGB-D at 30 Hz':34} {'512 MiB':>10} {'96 MiB':>10}")
    for name in full:
        print(f"{name:34} {full[name]:10.2f} {small[name]:10.2f}")
    figures = {
        "name": "buffer",
        "ratio": round(decode / store, 1),
        "raw_over_copy": round(store_raw / copy, 3),
        "append_compressed_us": round(store * 1e6, 1),
        "look_compressed_us": round(look * 1e6, 1),
        "look_raw_us": round(look_raw * 1e6, 1),
        **{name: round(value, 3) for name, value in full.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
