"""What a data set costs: camera frames a second and core from bag to video, and back into training.

    python benchmarks/convert.py [--seconds 20] [--cameras 2]

A bag of 640x480 JPEGs at 30 Hz with joint states at 100 Hz is converted in this process, on one
core, and its frames and megabytes of pixels are divided by the CPU time it took. Beside it, on
the same frames: each decoded, written as a PNG, read again and only then encoded, as converters
with temporary images do. Then the memory of a conversion three times as long, and how many samples
a second a loader gets that reads frames at random, with the share that decoding takes.

Needs ``pip install '.[data]'``. About a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagReader, BagWriter
from rynn_brain_ros.data import Contract, Dataset, contract_from, convert
from rynn_brain_ros.data.video import VideoWriter
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.messages import compressed_image_of

WIDTH, HEIGHT, FPS, STATE_HZ = 640, 480, 30, 100
START_NS = 1_700_000_000_000_000_000
_CAMERA = """
  observation.images.camera{i}:
    channel: {{topic: /camera{i}/compressed, type: sensor_msgs/msg/CompressedImage}}
    align: {{strategy: hold, timeline: header}}
    rate_hz: 30"""
_CONTRACT = """
robot_type: panda
robot_interface: ros2
fps: 30
observations:{cameras}
  observation.state:
    channel: {{topic: /joint_states, type: sensor_msgs/msg/JointState}}
    align: {{strategy: hold, timeline: header}}
    select: [{joints}]
"""


def contract(cameras: int) -> Contract:
    joints = ", ".join(f"position.joint{i}" for i in range(1, 8))
    parts = "".join(_CAMERA.format(i=i) for i in range(cameras))
    return contract_from(_CONTRACT.format(cameras=parts, joints=joints))


def scene(rng: np.random.Generator) -> np.ndarray:
    """A table of soft shades with things on it, BGR: neither flat nor noise."""
    small = rng.integers(60, 200, (12, 16, 3), np.uint8)
    picture = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y, side = (int(v) for v in rng.integers((0, 0, 20), (WIDTH, HEIGHT, 80)))
        color = [int(v) for v in rng.integers(0, 255, 3)]
        cv2.rectangle(picture, (x, y), (x + side, y + side), color, -1)
    return picture


def pictures(camera: int, count: int) -> list[bytes]:
    """JPEGs of a camera that moves over a scene, with a sensor's grain."""
    rng = np.random.default_rng(camera)
    wide = np.tile(scene(rng), (1, 2, 1))
    grain = rng.normal(0, 3, (8, HEIGHT, WIDTH, 3)).astype(np.int16)
    found = []
    for i in range(count):
        seen = wide[:, (2 * i) % WIDTH : (2 * i) % WIDTH + WIDTH]
        noisy = np.clip(seen + grain[i % 8], 0, 255).astype(np.uint8)
        found.append(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return found


def write_bag(path: Path, seconds: float, cameras: int) -> None:
    frames = [pictures(camera, 4 * FPS) for camera in range(cameras)]
    names = [f"joint{i}" for i in range(1, 8)]
    with BagWriter(path, {}) as bag:
        for step in range(round(seconds * STATE_HZ)):
            now_ns = START_NS + round(step * 1e9 / STATE_HZ)
            joints = {
                "header": messages.header(now_ns, ""),
                "name": names,
                "position": [float(np.sin(step / 100 + i)) for i in range(7)],
                "velocity": [],
                "effort": [],
            }
            bag.write("/joint_states", "sensor_msgs/msg/JointState", joints, now_ns)
            number = step * FPS // STATE_HZ
            if step and number == (step - 1) * FPS // STATE_HZ:
                continue
            for camera in range(cameras):
                jpeg = frames[camera][number % len(frames[camera])]
                image = messages.compressed_image(jpeg, "jpeg", now_ns, f"camera{camera}")
                topic = f"/camera{camera}/compressed"
                bag.write(topic, messages.COMPRESSED_IMAGE, image, now_ns)


def converted(bag: Path, out: Path, cameras: int) -> dict[str, float]:
    """Frames and seconds of a conversion in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    made = convert([bag], contract(cameras), out, task="look around")
    used = time.process_time() - cpu
    return {"frames": made.frames * cameras, "cpu_s": used, "wall_s": time.perf_counter() - wall}


def by_png(bag: Path, folder: Path, cameras: int) -> dict[str, float]:
    """The same frames by way of temporary images, with the same encoder."""
    cpu, count = time.process_time(), 0
    for camera in range(cameras):
        images = folder / str(camera)
        images.mkdir(parents=True)
        with BagReader(bag) as reader:
            for i, (_, value) in enumerate(reader.decoded([f"/camera{camera}/compressed"])):
                rgb = decode_color(compressed_image_of(value))
                cv2.imwrite(str(images / f"{i:06d}.png"), rgb[..., ::-1])
        with VideoWriter(folder / f"{camera}.mp4", FPS, (HEIGHT, WIDTH)) as video:
            for path in sorted(images.iterdir()):
                video.add(cv2.imread(str(path))[..., ::-1])
                count += 1
    return {"frames": count, "cpu_s": time.process_time() - cpu}


def peak_mib(bag: Path, out: Path, cameras: int) -> float:
    """Of a process that does nothing but convert."""
    command = [sys.executable, __file__, "--only", str(bag), str(out), "--cameras", str(cameras)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def load(root: Path, samples: int = 150) -> dict[str, float]:
    """Samples a second, each with the frames of all cameras, and the share that is decoding."""
    dataset, rng = Dataset(root), np.random.default_rng(0)
    decoding = 0.0
    began = time.perf_counter()
    for index in rng.integers(0, dataset.n_frames, samples):
        episode = dataset.episode_at(int(index))
        dataset.columns(episode)
        at = time.perf_counter()
        for camera in dataset.spec.cameras:
            dataset.image(episode, camera, int(index) - episode.first_index)
        decoding += time.perf_counter() - at
    passed = time.perf_counter() - began
    return {"samples_per_s": samples / passed, "decoding": decoding / passed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the bag (20)")
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--only", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.only:
        converted(*options.only, options.cameras)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as name:
        folder, cameras = Path(name), options.cameras
        bag, long = folder / "demo.mcap", folder / "long.mcap"
        write_bag(bag, options.seconds, cameras)
        write_bag(long, 3 * options.seconds, cameras)
        converted(bag, folder / "warm", cameras)  # imports and caches
        ours = converted(bag, folder / "set", cameras)
        png = by_png(bag, folder / "png", cameras)
        memory = [peak_mib(path, folder / path.stem, cameras) for path in (bag, long)]
        loader = load(folder / "set")
    pixels_mb = WIDTH * HEIGHT * 3 / 1e6
    fps, png_fps = (part["frames"] / part["cpu_s"] for part in (ours, png))
    told = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "frames": ours["frames"],
        "frames_per_s_and_core": round(fps, 1),
        "mb_per_s_and_core": round(fps * pixels_mb, 1),
        "wall_frames_per_s": round(ours["frames"] / ours["wall_s"], 1),
        "by_png_frames_per_s_and_core": round(png_fps, 1),
        "by_png_mb_per_s_and_core": round(png_fps * pixels_mb, 1),
        "times_faster": round(fps / png_fps, 2),
        "peak_mib": round(memory[0]),
        "peak_mib_of_three_times_the_length": round(memory[1]),
        "loader_samples_per_s": round(loader["samples_per_s"], 1),
        "loader_decoding_share": round(loader["decoding"], 2),
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
