"""What this machine has and lacks, and what its user can do next.

Nothing heavy is imported: packages are looked up by their metadata, and torch, nvidia-smi and ros2
are asked in processes of their own, so that a broken one is a line of the page and not its end.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rynn_brain_ros import __version__
from rynn_brain_ros.bags import CameraTopics
from rynn_brain_ros.checking.found_models import FoundModel, find_models
from rynn_brain_ros.checking.live_cameras import best_camera
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.models.local import missing_packages
from rynn_brain_ros.models.local.memory import SHARED, available_bytes, gib
from rynn_brain_ros.models.roles import Role

TORCH_TIMEOUT_S, TOOL_TIMEOUT_S = 90.0, 20.0
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_PACKAGES = {
    "transformers": "local models",
    "accelerate": "local models",
    "bitsandbytes": "int8 and nf4",
    "llguidance": "answers held to the grammar",
    "mujoco": "the simulator",
    "onnxruntime": "exported models",
}
_PROBE_TORCH = """
import json, torch
gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda or "",
    "gpus": [
        [
            torch.cuda.get_device_name(i),
            *torch.cuda.mem_get_info(i),
            torch.cuda.get_device_capability(i),
            bool(torch.cuda.get_device_properties(i).is_integrated),
        ]
        for i in gpus
    ],
}))
"""
_QUESTIONS = {
    Role.GROUND.value: "--task affordance --ask 'Pick up the mug'",
    Role.PLAN.value: "--task plan --ask 'Put the mug on the plate'",
    Role.THINK.value: "--task affordance --think --ask 'Pick up the mug'",
}
"""What a model of each role can be asked about a recording."""
_SMI = ("nvidia-smi", "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits")
_MIB = 1 << 20


@dataclass(frozen=True)
class Ran:
    """How another program ended. ``code`` is its exit code, −1 where it could not run or did not
    end in time."""

    code: int
    output: str
    error: str = ""


Run = Callable[[Sequence[str], float], Ran]
"""Runs a command for at most so many seconds."""


@dataclass(frozen=True)
class Fact:
    """A line of the page. ``has`` is ``None`` for what is neither good nor bad, ``todo`` what a
    person can do about it."""

    name: str
    text: str
    has: bool | None = None
    todo: str = ""


@dataclass(frozen=True)
class Gpu:
    """``capability`` is CUDA's compute capability, where torch told it; ``is_integrated``: its
    memory is the processor's."""

    name: str
    free_bytes: int
    total_bytes: int
    capability: tuple[int, int] | None = None
    is_integrated: bool = False


@dataclass(frozen=True)
class Survey:
    """The page. ``cameras`` are (topic, type), ``commands`` what can be done now, best first."""

    facts: tuple[Fact, ...]
    gpus: tuple[Gpu, ...]
    models: tuple[FoundModel, ...]
    cameras: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


def run_program(command: Sequence[str], timeout_s: float) -> Ran:
    """Never raises: what goes wrong is in the result."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return Ran(-1, "", f"no answer within {timeout_s:g} s")
    except OSError as error:
        return Ran(-1, "", error.strerror or str(error))
    return Ran(done.returncode, done.stdout, done.stderr)


def survey(
    folders: Sequence[Path] = (),
    *,
    environ: Mapping[str, str] | None = None,
    run: Run = run_program,
) -> Survey:
    """Looks at this machine, and for models in ``folders`` and the Hugging Face cache."""
    environ = os.environ if environ is None else environ
    torch = _Torch.probe(run)
    gpus = torch.gpus or _smi_gpus(run)
    ros = bool(environ.get("ROS_DISTRO")) or _importable("rclpy")
    topics, topic_fact = _topics(run) if ros else ((), None)
    pictures = tuple((topic, kind) for topic, kind in topics if kind in _IMAGES)
    camera = best_camera(topics)
    best = max(torch.gpus, key=lambda gpu: gpu.free_bytes, default=None)
    free, capability = (
        (available_bytes(), None) if best is None else (best.free_bytes, best.capability)
    )
    models = find_models(folders, environ, free, capability)
    facts = (
        Fact("rynn_brain_ros", __version__, True),
        Fact("Python", f"{platform.python_version()} at {sys.executable}", True),
        *_ros_facts(environ),
        *(() if topic_fact is None else (topic_fact,)),
        *(() if camera is None else (_depth_fact(camera),)),
        *_gpu_facts(gpus, torch),
        torch.fact,
        *_package_facts(),
        *_memory_facts(environ),
    )
    commands = tuple(_commands(models, camera, torch, _called(environ)))
    return Survey(facts, gpus, models, pictures, commands)


# --- torch and GPUs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Torch:
    fact: Fact
    works: bool = False
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def probe(cls, run: Run) -> _Torch:
        installed = _version("torch")
        if installed is None:
            none = "not installed: no local models"
            return cls(Fact("torch", none, False, pip_install("model")))
        ran = run((sys.executable, "-c", _PROBE_TORCH), TORCH_TIMEOUT_S)
        try:
            told = json.loads(ran.output)
            gpus = tuple(_gpu(*gpu) for gpu in told["gpus"])
            build = f"CUDA {told['cuda']}" if told["cuda"] else "CPU only"
        except (ValueError, KeyError, TypeError):
            said = (ran.error.strip().splitlines() or ["it ended without a word"])[-1]
            text = f"{installed} is installed and does not work: {said}"
            return cls(Fact("torch", text, False, "install it again"))
        return cls(Fact("torch", f"{told['version']}, {build}", True), True, gpus)


def _gpu(
    name: str,
    free_bytes: int,
    total_bytes: int,
    capability: tuple[int, int],
    is_integrated: bool = False,
) -> Gpu:
    major, minor = capability
    free = (available_bytes() if is_integrated else None) or int(free_bytes)
    return Gpu(str(name), free, int(total_bytes), (int(major), int(minor)), bool(is_integrated))


def _smi_gpus(run: Run) -> tuple[Gpu, ...]:
    """GPUs of the driver, which torch may not be able to use."""
    ran = run(_SMI, TOOL_TIMEOUT_S)
    gpus = []
    for line in ran.output.splitlines() if ran.code == 0 else ():
        name, *numbers = (part.strip() for part in line.rsplit(",", 2))
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            free, total = (int(number) * _MIB for number in numbers)
            gpus.append(Gpu(name, free, total))
    return tuple(gpus)


def _gpu_facts(gpus: Sequence[Gpu], torch: _Torch) -> Iterator[Fact]:
    if not gpus:
        yield Fact("GPU", "none that nvidia-smi or torch knows: models run on the CPU")
    for gpu in gpus:
        where = f" ({SHARED})" if gpu.is_integrated else ""
        text = f"{gpu.name}, {gib(gpu.free_bytes)} of {gib(gpu.total_bytes)} free{where}"
        if torch.works and not torch.gpus:
            yield Fact("GPU", f"{text}; torch cannot use it", False, "install torch for CUDA")
        else:
            yield Fact("GPU", text, True)


# --- the rest -------------------------------------------------------------------------------------


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package around it that is broken
        return False


def _package_facts() -> Iterator[Fact]:
    for package, purpose in _PACKAGES.items():
        version = _version(package)
        if version is None:
            yield Fact(package, f"not installed: {purpose}", False)
        else:
            yield Fact(package, f"{version}: {purpose}", True)


def _memory_facts(environ: Mapping[str, str]) -> Iterator[Fact]:
    free = available_bytes()
    text = "unknown" if free is None else f"{gib(free)} free"
    yield Fact("memory", f"{text}, {os.cpu_count() or 1} cores")
    home = Path(environ.get("HOME", "/"))
    for name, folder in (("disk here", Path.cwd()), ("disk at home", home)):
        try:
            usage = shutil.disk_usage(folder)
        except OSError as error:
            yield Fact(name, f"{folder}: {error.strerror}", False)
        else:
            yield Fact(name, f"{gib(usage.free)} of {gib(usage.total)} free")


def _ros_facts(environ: Mapping[str, str]) -> Iterator[Fact]:
    distro = environ.get("ROS_DISTRO", "")
    if not distro:
        yield Fact("ROS", "not sourced: recordings and the demo work without", None,
                   "source /opt/ros/DISTRO/setup.bash")  # fmt: skip
        return
    yield Fact("ROS", distro, True)
    for package, todo in (
        ("rclpy", f"use the Python that ROS {distro} was built for"),
        ("rynn_brain_ros.msg", "colcon build, then source install/setup.bash"),
    ):
        found = _importable(package)
        text = "importable" if found else f"not importable from {sys.executable}"
        yield Fact(package, text, found, "" if found else todo)


def _topics(run: Run) -> tuple[tuple[tuple[str, str], ...], Fact]:
    """All topics with their types."""
    ran = run(("ros2", "topic", "list", "-t"), TOOL_TIMEOUT_S)
    if ran.code != 0:
        said = (ran.error.strip().splitlines() or ["it ended without a word"])[-1]
        return (), Fact("topics", f"ros2 topic list failed: {said}", False)
    listed = [line.partition(" [") for line in ran.output.splitlines() if " [" in line]
    typed = tuple((topic.strip(), kind.rstrip("] ")) for topic, _, kind in listed)
    n_pictures = sum(kind in _IMAGES for _, kind in typed)
    text = f"{len(typed)}, of which {n_pictures} carry pictures"
    todo = "" if n_pictures else "start the camera's driver"
    return typed, Fact("topics", text, bool(n_pictures), todo)


def _depth_fact(camera: CameraTopics) -> Fact:
    """Whether points in the pictures that a brain would look at become places."""
    if camera.depth_registered:
        return Fact("depth", f"{camera.depth_topic}, aligned to colour", True)
    aligning = "let the driver align it (RealSense: align_depth.enable:=true)"
    if _has_usable_depth(camera):
        how = "placed by the camera_info beside it where it is not aligned to colour"
        return Fact("depth", f"{camera.depth_topic}, {how}", True, f"faster: {aligning}")
    own = (
        f"; or depth_topic:={camera.depth_topic}, with its own camera_info beside it"
        if camera.depth_topic
        else ""
    )
    return Fact(
        "depth",
        f"none that is aligned to {camera.color_topic}: it shows points, without places",
        False,
        f"{aligning}{own}",
    )


def _has_usable_depth(camera: CameraTopics) -> bool:
    """An Orbbec's aligned depth has the name and the camera_info of any other depth."""
    return camera.depth_registered or camera.depth_info_topic is not None


def _called(environ: Mapping[str, str]) -> str:
    """How `rynn-brain` is called here: colcon puts it where `ros2 run` alone looks."""
    on_path = shutil.which("rynn-brain", path=environ.get("PATH", ""))
    only_ros = environ.get("ROS_DISTRO") and on_path is None
    return "ros2 run rynn_brain_ros rynn-brain" if only_ros else "rynn-brain"


def _commands(
    models: Sequence[FoundModel], camera: CameraTopics | None, torch: _Torch, command: str
) -> Iterator[str]:
    """What can be done now, the most telling first. ``command`` is how `rynn-brain` is called."""
    has_models = torch.works and not missing_packages()
    fitting = next((model for model in models if model.fits_in), None) if has_models else None
    engine = "" if fitting is None else shlex.quote(fitting.spelling)
    if camera is not None and not _importable("rynn_brain_ros.msg"):
        yield "colcon build --packages-select rynn_brain_ros && source install/setup.bash"
    elif camera is not None:
        depth = f" depth_topic:={camera.depth_topic}" if _has_usable_depth(camera) else ""
        chosen = f" engine:={engine} engine_python:={shlex.quote(sys.executable)}" if engine else ""
        watched = f"color_topic:={camera.color_topic}{depth}{chosen}"
        yield f"ros2 launch rynn_brain_ros brain.launch.py {watched}"
    if fitting is not None:
        for ask in filter(None, map(_QUESTIONS.get, fitting.roles)):
            yield f"{command} replay BAG --engine {engine} {ask}"
    if not has_models:
        yield pip_install("model")
    installing = "" if _version("mujoco") else f"{pip_install('sim')} && "
    yield f"{installing}{command} demo{'' if has_models else ' --engine color-baseline'}"
