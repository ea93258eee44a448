"""Real recordings of other projects, in their own formats, into a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.data.episode_files import EpisodeWriter
from rynn_brain_ros.data.layout import OURS, DatasetSpec, FeatureSpec, remove
from rynn_brain_ros.data.tfrecords import Example, examples
from rynn_brain_ros.data.writer import DatasetWriter, episode_names
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.values import EncodedImage, InputError

Floats = NDArray[np.float64]
Done = Callable[[], None]

_POSE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
_BRIDGE_FPS = 5
_LOG_COLUMNS = 42
_MAX_GAP_S = 0.05

# Craig's Denavit-Hartenberg parameters of the FR3 and the Panda, from Franka's documentation
# (frankarobotics.github.io/docs, "Denavit-Hartenberg parameters"): a [m], d [m], alpha [rad].
_DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
HAND_M = 0.2104
"""From the last joint to the tool centre point of the Franka hand: flange 0.107, hand 0.1034."""


def _nothing() -> None:
    """For whoever does not listen."""


def _check_new(name: str, out: Path, known: Set[str]) -> None:
    """Copies of an episode could be learned from and held out."""
    if name in known:
        raise InputError(f"{out} holds {name} already: import others, or into a new folder")


# --- BridgeData V2 -------------------------------------------------------------------------------


def import_bridge(files: list[Path], out: Path, done: Done = _nothing) -> int:
    """Episodes of BridgeData V2 in RLDS' TFRecord files; returns how many.

    The state is the hand's pose in the base [m, rad] and the gripper, 1 open; the action, under
    the same names, the change of the pose and the gripper's command, as the authors recorded them
    at 5 Hz (training/contracts/bridge.yaml). The cameras are those that the first episode has.
    """
    writer, cameras = None, tuple[int, ...]()
    known = episode_names(out)
    try:
        for file in files:
            for number, episode in enumerate(examples(file)):
                if writer is None:
                    cameras = _bridge_cameras(episode)
                    writer = DatasetWriter(out, _bridge_spec(episode, cameras))
                where = f"{file.name}, episode {number}"
                _check_new(where, out, known)
                _bridge_episode(writer, episode, cameras, out / OURS / "staging", where)
                done()
    except KeyError as error:
        raise InputError(f"{file} is no BridgeData V2: it has no {error}") from error
    finally:
        remove(out / OURS / "staging")
    if writer is None:
        raise InputError("there is no episode in these files")
    return writer.n_episodes


def _bridge_cameras(episode: Example) -> tuple[int, ...]:
    """Those that show something: a missing one is black, and the flags of the authors' cut-down
    set (``has_image_0`` …) are 0 for all."""
    return tuple(i for i in range(4) if _bridge_image(episode, i, 0).any())


def _bridge_spec(episode: Example, cameras: tuple[int, ...]) -> DatasetSpec:
    features = {
        f"observation.images.image_{i}": FeatureSpec("video", _bridge_image(episode, i, 0).shape)
        for i in cameras
    }
    features["observation.state"] = FeatureSpec("float32", (7,), _POSE)
    features["action"] = FeatureSpec("float32", (7,), _POSE)
    return DatasetSpec("widowx", _BRIDGE_FPS, features)


def _bridge_episode(
    writer: DatasetWriter, episode: Example, cameras: tuple[int, ...], folder: Path, where: str
) -> None:
    state: Any = episode["steps/observation/state"]
    action: Any = episode["steps/action"]
    if not len(state) or len(state) % 7 or len(action) != len(state):
        raise InputError(f"{where} has {len(state)} numbers of state and {len(action)} of action")
    files = EpisodeWriter(folder, writer.spec)
    for row in range(len(state) // 7):
        images = {f"observation.images.image_{i}": _bridge_image(episode, i, row) for i in cameras}
        numbers = {
            "observation.state": state[7 * row : 7 * row + 7],
            "action": action[7 * row : 7 * row + 7],
        }
        files.add({**images, **numbers})
    task = episode["steps/language_instruction"][0]
    report = {"episode": where, "source": str(_text(episode, "episode_metadata/file_path"))}
    writer.add(files.close(task.decode() if isinstance(task, bytes) else str(task), report))


def _bridge_image(episode: Example, camera: int, row: int) -> NDArray[np.uint8]:
    data = episode[f"steps/observation/image_{camera}"][row]
    if not isinstance(data, bytes):
        raise InputError(f"image_{camera} holds numbers, not pictures")
    return decode_color(EncodedImage("jpeg", data, compressed=True))


def _text(episode: Example, key: str) -> str:
    value = episode[key][0]
    return value.decode() if isinstance(value, bytes) else str(value)


# --- a Franka's log ------------------------------------------------------------------------------


def read_franka_log(path: Path) -> Floats:
    """A log of one hand-guided motion, float64 [n, 42]: time [ns], joint positions [rad],
    velocities, torques, external torques (seven each), the hand's place [m], its quaternion
    (x, y, z, w) and its velocity. Raises `InputError` for another, or one with holes."""
    try:
        log = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no NumPy file: {error}") from error
    if log.ndim != 2 or log.shape[1] != _LOG_COLUMNS or len(log) < 2:
        raise InputError(f"{path} has the shape {log.shape}, not (n, {_LOG_COLUMNS})")
    log = np.asarray(log, np.float64)
    if not np.isfinite(log).all():
        row = int((~np.isfinite(log)).any(axis=1).argmax())
        raise InputError(f"{path} is not finite in row {row}")
    steps_s = np.diff(log[:, 0]) / 1e9
    if (steps_s <= 0).any() or steps_s.max() > _MAX_GAP_S:
        row = int(np.argmax((steps_s <= 0) | (steps_s > _MAX_GAP_S)))
        raise InputError(f"{path}: {steps_s[row]:.4f} s pass between rows {row} and {row + 1}")
    return log


def hand_place(joints: Floats) -> Floats:
    """Where the tool centre point is in the arm's base, [..., 3] m, for joints [..., 7] rad."""
    pose = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4))
    for i, (a, d, alpha) in enumerate(_DH):
        pose = pose @ _link(joints[..., i], a, d, alpha)
    return np.asarray(pose[..., :3, 3] + HAND_M * pose[..., :3, 2], np.float64)


def _link(theta: Floats, a: float, d: float, alpha: float) -> Floats:
    """Craig's transform from one joint's frame to the next, [..., 4, 4]."""
    c, s, ca, sa = np.cos(theta), np.sin(theta), math.cos(alpha), math.sin(alpha)
    zero, one = np.zeros_like(c), np.ones_like(c)
    rows = (
        (c, -s, zero, a * one),
        (s * ca, c * ca, -sa * one, -sa * d * one),
        (s * sa, c * sa, ca * one, ca * d * one),
        (zero, zero, zero, one),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def import_franka_log(files: list[Path], out: Path, task: str, fps: int = 30) -> int:
    """Hand-guided motions as episodes of joint positions, resampled linearly from about 1 kHz;
    the action is where the joints are one frame later. Returns how many there are then."""
    if not task:
        raise InputError("nobody said what was done: give --task")
    names = tuple(f"position.fr3_joint{i}" for i in range(1, 8))
    joints = FeatureSpec("float32", (7,), names, "rad")
    place = FeatureSpec("float32", (3,), ("x", "y", "z"), "m")
    features = {"observation.state": joints, "observation.ee_position": place, "action": joints}
    writer = DatasetWriter(out, DatasetSpec("fr3", fps, features))
    folder = out / OURS / "staging"
    known = episode_names(out)
    for file in files:
        _check_new(file.name, out, known)
        log = read_franka_log(file)
        passed_s = (log[:, 0] - log[0, 0]) / 1e9
        n = int(passed_s[-1] * fps)
        if n < 1:
            raise InputError(f"{file.name} lasts {passed_s[-1]:.3f} s, no frame of 1/{fps} s")
        at_s = np.arange(n + 1) / fps
        q = np.stack([np.interp(at_s, passed_s, log[:, 1 + i]) for i in range(7)], axis=1)
        ee = np.stack([np.interp(at_s, passed_s, log[:, 29 + i]) for i in range(3)], axis=1)
        episode = EpisodeWriter(folder, writer.spec)
        for row in range(n):
            values = {"observation.state": q[row], "action": q[row + 1]}
            episode.add({**values, "observation.ee_position": ee[row]})
        writer.add(episode.close(task, {"episode": file.name, "rows": len(log)}))
    return writer.n_episodes
