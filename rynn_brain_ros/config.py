"""Configuration: frozen dataclasses, one source for YAML, ROS parameters and documentation.

A field says what it is for with `setting`; its type and default are the dataclass's own.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rynn_brain_ros.values import ConfigError, Task

C = TypeVar("C")


def setting(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    choices: tuple[str, ...] = (),
    tighter: str = "",
) -> Any:
    """A dataclass field with what a person needs to know about it.

    ``choices`` are the only words allowed. ``tighter`` is for limits of safety: the direction,
    ``lower`` or ``higher``, in which the value may change while the robot runs; for choices
    ``higher`` is later in their order. Empty: it may not change.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "tighter": tighter,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One configurable value, as a ROS parameter descriptor or a line of documentation wants it."""

    name: str
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    tighter: str = ""


def settings(config: type[Any]) -> Iterator[Setting]:
    """All settings of a configuration class, in their order."""
    for field in dataclasses.fields(config):
        yield Setting(field.name, field.default, **field.metadata)


def configure(config: type[C], values: Mapping[str, Any]) -> C:
    """An instance of ``config``. Unknown keys, wrong types and values out of limits are a
    `ConfigError` that names the key and, for a misspelled one, the nearest known."""
    known = {item.name: item for item in settings(config)}
    for name in values:
        if name not in known:
            raise ConfigError(unknown("setting", name, known))
    return config(**{name: checked(known[name], value) for name, value in values.items()})


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The words for a name that is none of the ``known``: they tell the nearest, or else all."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def checked(item: Setting, value: Any) -> Any:
    """The value as its setting's type; `ConfigError` where it is not one that is allowed."""
    wanted = type(item.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(
            f"setting {item.name!r} is {value!r}, of type {type(value).__name__}; "
            f"it must be of type {wanted.__name__}"
        )
    if item.choices and value not in item.choices:
        raise ConfigError(
            f"setting {item.name!r} is {value!r}; it must be one of {', '.join(item.choices)}"
        )
    high_enough = item.minimum is None or value >= item.minimum
    low_enough = item.maximum is None or value <= item.maximum
    if not (high_enough and low_enough):  # so that NaN is neither
        low = "…" if item.minimum is None else f"{item.minimum:g}"
        high = "…" if item.maximum is None else f"{item.maximum:g}"
        raise ConfigError(f"setting {item.name!r} is {value!r}; it must be within {low} to {high}")
    return value


class _OnceLoader(yaml.SafeLoader):
    """YAML's own loader keeps the last of two equal keys, and with it only half of what a person
    wrote: a second ``limits:`` further down would drop every limit of the first."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: the key {key.value!r} is given twice")
            if isinstance(key, yaml.ScalarNode):
                seen.add((key.tag, key.value))
        return node


def read_yaml(text: str) -> Any:
    """What a person wrote in YAML. Raises `ConfigError`, also where a key is given twice."""
    try:
        return yaml.load(text, _OnceLoader)
    except RecursionError as error:
        raise ConfigError("this is no YAML that can be read: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"this is no YAML: {error}") from error


def bundled(kind: str) -> dict[str, Path]:
    """The YAML files of a ``kind`` (robots, contracts) that come with the package, by their names
    in the alphabet's order. Of two of one name it is that of the first folder."""
    found: dict[str, Path] = {}
    for folder in _folders_of(kind):
        found = {path.stem: path for path in folder.glob("*.yaml")} | found
    return dict(sorted(found.items()))


def _folders_of(kind: str) -> Iterator[Path]:
    """Where they may lie: inside of the package, where pip put them; beside it in a checkout; in
    the workspaces of ROS."""
    package = Path(__file__).resolve().parent
    yield package / "known" / kind
    yield package.parent / "config" / kind
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")):
        yield Path(prefix) / "share" / package.name / "config" / kind


@dataclass(frozen=True)
class CameraConfig:
    """The topics of one camera, resolved in the node's namespace."""

    color_topic: str = setting(
        "camera/color/image_raw",
        "colour images: sensor_msgs/Image, or CompressedImage where the name ends in /compressed",
    )
    color_info_topic: str = setting(
        "", "sensor_msgs/CameraInfo of the colour camera; empty: camera_info beside color_topic"
    )
    depth_topic: str = setting(
        "",
        "depth images, best aligned to colour: sensor_msgs/Image, or CompressedImage where the "
        "name ends in /compressedDepth; empty: no depth, no 3D",
    )
    depth_info_topic: str = setting(
        "", "sensor_msgs/CameraInfo of the depth camera; empty: camera_info beside depth_topic"
    )

    @property
    def color_info(self) -> str:
        if self.color_info_topic:
            return self.color_info_topic
        return _info_beside(self.color_topic.removesuffix("/compressed"))

    @property
    def depth_info(self) -> str:
        return self.depth_info_topic or _info_beside(
            self.depth_topic.removesuffix("/compressedDepth")
        )


def _info_beside(topic: str) -> str:
    folder, slash, _ = topic.rpartition("/")
    return f"{folder}{slash}camera_info"


@dataclass(frozen=True)
class SeeingConfig(CameraConfig):
    """What a node that sees and answers is told: one camera, unless ``cameras`` names several, how
    long they are remembered, and what answers."""

    cameras: str = setting(
        "",
        "names of several cameras with commas between, the first one is the default; each has "
        "parameters NAME.color_topic, NAME.depth_topic and so on; empty: one camera, color_topic's",
    )
    fixed_frame: str = setting(
        "", "continuous frame that poses are kept in; empty: odom, else the robot's base"
    )
    engine: str = setting(
        "color-baseline",
        "what answers: color-baseline, nano, recorded:FILE, local:DIR[#QUANTIZATION] or "
        "http://HOST:PORT/v1[#MODEL]; or one for each role: ground=ENGINE,plan=ENGINE,…",
    )
    engine_python: str = setting(
        "",
        "the Python that runs the engine, in a process of its own that is watched and started "
        "anew; empty: only engines that are light, or served elsewhere",
    )
    horizon_s: float = setting(60.0, "how long frames are remembered [s]", 1.0, 3600.0)
    buffer_mib: int = setting(512, "how much memory frames may take [MiB]", 1, 65536)
    max_wait_s: float = setting(
        0.3, "how long an image waits for depth and transform [s]", 0.0, 5.0
    )
    sync_tolerance_s: float = setting(
        0.02, "how far the stamps of an image and of its depth may be apart [s]", 0.0, 1.0
    )


@dataclass(frozen=True)
class BrainConfig(SeeingConfig):
    """The brain node's settings."""

    question_task: str = setting(
        "object",
        "what a question on ~/question asks for, unless it begins with another task's name and a "
        "colon",
        choices=tuple(task.value for task in Task if task is not Task.NAVIGATE),
    )
    frames: int = setting(8, "frames shown with a question, at most", 1, 512)
    fps: float = setting(2.0, "frames per second of a question's history [Hz]", 0.01, 60.0)
    max_frame_age_s: float = setting(
        2.0, "how old the newest image may be when a question about now is asked [s]", 0.05, 3600.0
    )


@dataclass(frozen=True)
class ViewConfig:
    """The view node's settings. Topic names are resolved in the node's namespace."""

    sources: str = setting("brain, act", "nodes whose groundings, plan and status are shown")
    color_topics: str = setting(
        "camera/color/image_raw",
        "colour images to draw into, as the brain's color_topic; several with commas between",
    )
    image_mib: int = setting(256, "how much memory images may take [MiB]", 1, 65536)
    marker_lifetime_s: float = setting(
        10.0, "how long markers stay in RViz; 0: until the next answer [s]", 0.0, 3600.0
    )
