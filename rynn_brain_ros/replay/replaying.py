"""A bag through the whole brain: what a robot would have answered, asked again at a desk."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rynn_brain_ros import __version__, messages
from rynn_brain_ros.bags import BagInfo, BagMessage, BagReader, CameraTopics, find_cameras
from rynn_brain_ros.geometry import LiftLimits
from rynn_brain_ros.memory import AssemblyConfig, SelectionPolicy
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning import Perception, PerceptionConfig, Question, ask, make_query
from rynn_brain_ros.replay.run_folder import OWN_TOPICS, RunFolder
from rynn_brain_ros.values import (
    BagError,
    CameraInfo,
    EncodedImage,
    ImageError,
    InputError,
)

MIN_EVERY_S = 0.001


@dataclass(frozen=True)
class ReplayConfig:
    """How a bag is replayed.

    ``at_s`` asks once, that many seconds after the bag begins; ``every_s`` asks again and again
    from the first image on; with neither, once at the end. ``camera`` is a colour topic or a
    camera's name; empty: the only usable one.
    """

    questions: tuple[Question, ...]
    at_s: float | None = None
    every_s: float | None = None
    camera: str = ""
    fixed_frame: str = ""
    selection: SelectionPolicy = field(default_factory=SelectionPolicy)
    limits: LiftLimits = field(default_factory=LiftLimits)


@dataclass(frozen=True)
class ReplayResult:
    """How a replay ended. ``complete`` is false when it was interrupted."""

    folder: Path
    report: Path
    n_answers: int
    complete: bool
    problems: tuple[str, ...]


Progress = Callable[[float], None]
"""Called with the seconds of the bag that have been replayed."""


def replay(
    bag: Path,
    config: ReplayConfig,
    engines: Engines,
    out: Path,
    progress: Progress | None = None,
) -> ReplayResult:
    """Replays ``bag`` and writes a run folder to ``out``.

    Ctrl-C ends it early and keeps what is done. Raises `BagError` when the bag cannot be used,
    `EngineError` when a question cannot be answered, `OutputError` when ``out`` cannot be written.
    """
    _check(config)
    if out.resolve() in (bag.resolve(), bag.resolve().parent):
        raise InputError(f"a replay of {bag} into {out} would replace it: give another --out")
    with BagReader(bag) as reader:
        info = reader.info()
        camera = choose_camera(info, find_cameras(info, reader.first_encoding), config.camera)
        run = _Run(reader, info, camera, config, engines)
        with RunFolder(out, run.provenance(), camera) as folder:
            complete = run.play(folder, progress)
            problems = (*info.problems, *reader.warnings, *run.problems())
            problems = tuple(dict.fromkeys(problems))
            report = folder.close(
                title=f"Replay of {bag.name}",
                subtitle=run.subtitle(),
                engine_note=run.engine_note(),
                problems=problems,
                complete=complete,
            )
    return ReplayResult(out, report, len(folder.responses), complete, problems)


def _check(config: ReplayConfig) -> None:
    if config.at_s is not None and config.every_s is not None:
        raise InputError("a replay asks at one time or every so often, not both")
    if config.every_s is not None and not MIN_EVERY_S <= config.every_s < math.inf:
        raise InputError(f"cannot ask every {config.every_s} s: give {MIN_EVERY_S} s or more")
    if config.at_s is not None and not 0 <= config.at_s < math.inf:
        raise InputError(f"cannot ask at {config.at_s} s: give the seconds since the bag begins")
    if not config.questions or not all(question.text.strip() for question in config.questions):
        raise InputError("no question was given: say what to ask")
    for question in config.questions:
        if _is_no_text(question.text):
            raise InputError(f"the question {question.text!r} is no UTF-8 text")


def _is_no_text(text: str) -> bool:
    """Bytes of an argument that are no UTF-8 arrive as lone surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def choose_camera(info: BagInfo, found: Sequence[CameraTopics], wanted: str = "") -> CameraTopics:
    """The camera to replay. Raises `BagError` with what the bag has instead."""
    cameras = [camera for camera in found if camera.can_show]
    if not wanted:  # a run.mcap also holds the pictures that we drew on
        cameras = [c for c in cameras if not color_topic_of(c).startswith(OWN_TOPICS)]
    if not cameras:
        types = ", ".join(sorted({topic.typename for topic in info.topics})) or "nothing"
        raise BagError(
            f"{info.path} has no camera: it holds no sensor_msgs Image or CompressedImage that can "
            f"be read (it holds {types})"
        )
    named = [c for c in cameras if wanted in (c.name, c.color_topic)] if wanted else list(cameras)
    if not named:
        known = ", ".join(map(color_topic_of, cameras))
        raise BagError(f"{info.path} has no camera {wanted!r}; it has: {known}")
    if len(named) > 1:
        with_depth = [camera for camera in named if camera.depth_topic]
        if len(with_depth) == 1:
            return with_depth[0]
        known = ", ".join(map(color_topic_of, named))
        raise BagError(f"{info.path} has several cameras, choose one with --camera: {known}")
    return named[0]


def color_topic_of(camera: CameraTopics) -> str:
    if camera.color_topic is None:
        raise BagError(f"camera {camera.name!r} has depth but no colour image to ask about")
    return camera.color_topic


@dataclass(frozen=True)
class _Due:
    """A moment at which the questions are asked: a log time, and the newest image until then."""

    time_ns: int
    until_ns: int | None


class _Run:
    """One pass over the bag, driven by its log time."""

    def __init__(
        self,
        reader: BagReader,
        info: BagInfo,
        camera: CameraTopics,
        config: ReplayConfig,
        engines: Engines,
    ) -> None:
        self._reader, self._info, self._camera = reader, info, camera
        self._config, self._engines = config, engines
        self._name = color_topic_of(camera)
        self._assembly = AssemblyConfig(
            self._name,
            expects_depth=camera.depth_topic is not None,
            depth_registered=camera.depth_registered or None,
        )
        self._perception = Perception(
            PerceptionConfig((self._assembly,), fixed_frame=config.fixed_frame)
        )
        self._inputs = bag_inputs(camera, info, self._perception)
        self._damaged: Counter[str] = Counter()
        self._next_due_ns = self._first_due_ns()

    def play(self, folder: RunFolder, progress: Progress | None) -> bool:
        """True when the bag was played to its end, false after Ctrl-C."""
        asked = 0
        try:
            for due in self._dues(folder, progress):
                until_ns = self._now_of(due)
                if until_ns is None:
                    continue
                for question in self._config.questions:
                    asked += 1
                    self._ask(folder, question, due.time_ns, until_ns, asked)
        except KeyboardInterrupt:
            return False
        if not asked:
            raise BagError(self._no_image(self._info.end_ns))
        return True

    def problems(self) -> tuple[str, ...]:
        stats = self._perception.stats(self._name)
        # What the bag has no topic for is said once, not for every frame.
        never = {"camera_info"} if self._camera.color_info_topic is None else set()
        if not any(topic.typename == messages.TF_MESSAGE for topic in self._info.topics):
            never.add("pose")
        missing = [
            f"{self._name}: {count} of {stats.emitted} frames came without {what}"
            for what, count in sorted(stats.missing.items())
            if what not in never
        ]
        no_tf = ["no /tf: places are told in the camera's own frame"] if "pose" in never else []
        damaged = [f"{topic}: {n} messages could not be read" for topic, n in self._damaged.items()]
        return (*self._camera.problems, *no_tf, *self._perception.problems, *missing, *damaged)

    def provenance(self) -> dict[str, str]:
        selection = self._config.selection
        infos = {e.info.name: e.info for e in self._engines.by_role.values()}
        known = {
            "rynn_brain_ros": __version__,
            "bag": self._info.path.name,
            "camera": self._name,
            "engine": ", ".join(infos),
            "model": ", ".join(info.model for info in infos.values()),
            "revision": ", ".join(info.revision for info in infos.values() if info.revision),
            "quantization": ", ".join(sorted({i.quantization for i in infos.values()})),
            "frames": f"{selection.kind.value}, at most {selection.n}, {selection.fps:g} Hz",
            "questions": "; ".join(f"{q.task.value}: {q.text}" for q in self._config.questions),
        }
        return {name: value for name, value in known.items() if value}

    def subtitle(self) -> str:
        duration = f"{self._info.duration_s:.1f} s"
        return f"{self._name} · {duration} · {self._info.message_count} messages"

    def engine_note(self) -> str:
        names = {engine.info.name for engine in self._engines.by_role.values()}
        if "color-baseline" in names:
            return "Answered by color-baseline: a colour and shape segmenter, not RynnBrain."
        if "recorded" in names:
            return "These answers were recorded earlier and are given again to the same pictures."
        return ""

    def _first_due_ns(self) -> int | None:
        """When the questions are due first; ``None``: at the first image."""
        if self._config.every_s is not None:
            return None
        if self._config.at_s is None:
            return self._info.end_ns
        due_ns = self._info.start_ns + round(self._config.at_s * 1e9)
        if due_ns > self._info.end_ns:
            raise InputError(
                f"cannot ask at {self._config.at_s:g} s: {self._info.path} ends after "
                f"{self._info.duration_s:.2f} s"
            )
        return due_ns

    def _dues(self, folder: RunFolder, progress: Progress | None) -> Iterator[_Due]:
        """Plays the bag and yields each moment at which the questions are asked.

        A question at time T sees the images received until T. Depth and transforms of the newest
        of them may arrive later: it waits for them, bounded, as the live brain does.
        """
        waiting: deque[_Due] = deque()
        wait_ns = round(self._assembly.max_wait_s * 1e9)
        for message in self._reader.messages(tuple(self._inputs)):
            now_ns = message.log_time_ns
            waiting.extend(self._fell_due(now_ns - 1))
            self._take(message, folder)
            self._perception.poll(now_ns)
            while waiting and (self._seen(waiting[0]) or now_ns > waiting[0].time_ns + wait_ns):
                yield waiting.popleft()
            if progress is not None:
                progress((now_ns - self._info.start_ns) / 1e9)
        self._perception.flush()
        waiting.extend(self._fell_due(self._info.end_ns))
        yield from waiting

    def _fell_due(self, until_ns: int) -> Iterator[_Due]:
        while self._next_due_ns is not None and self._next_due_ns <= until_ns:
            yield _Due(self._next_due_ns, self._perception.newest_stamp_ns(self._name))
            every_s = self._config.every_s
            self._next_due_ns = self._next_due_ns + round(every_s * 1e9) if every_s else None

    def _seen(self, due: _Due) -> bool:
        newest = self._perception.buffer.latest(self._name)
        return due.until_ns is not None and newest is not None and newest.stamp_ns >= due.until_ns

    def _take(self, message: BagMessage, folder: RunFolder) -> None:
        try:
            self._inputs[message.topic](message.decode())
        except (BagError, ImageError):
            self._damaged[message.topic] += 1
            return
        if message.typename == messages.TF_MESSAGE:
            folder.copy(message)
        if message.topic == self._name and self._next_due_ns is None and self._config.every_s:
            self._next_due_ns = message.log_time_ns

    def _now_of(self, due: _Due) -> int | None:
        """Stamp of the newest image to show. Asked every so often, a moment without any image is
        passed over: ``None``."""
        if due.until_ns is not None and self._perception.buffer.frames(self._name, due.until_ns):
            return due.until_ns
        if self._config.every_s is None:
            raise BagError(self._no_image(due.time_ns))
        return None

    def _no_image(self, time_ns: int) -> str:
        after_s = (time_ns - self._info.start_ns) / 1e9
        reasons = "".join(f"; {problem}" for problem in self._perception.problems[:1])
        where = f"{self._info.path}: no usable image of {self._name}"
        return f"{where} had arrived by {after_s:.2f} s{reasons}"

    def _ask(
        self, folder: RunFolder, question: Question, time_ns: int, until_ns: int, number: int
    ) -> None:
        frames = self._perception.select(self._config.selection, self._name, until_ns)
        query = make_query(number, question, frames)
        engine = self._engines.select(query)
        folder.add(ask(engine, query, self._config.limits), time_ns)


Input = Callable[[Any], None]


def bag_inputs(camera: CameraTopics, info: BagInfo, perception: Perception) -> dict[str, Input]:
    """What to do with the messages of each topic that the replay reads."""
    name = color_topic_of(camera)
    inputs: dict[str, Input] = {
        name: _image_input(perception.add_color, name, camera.color_compressed)
    }
    if camera.depth_topic is not None:
        inputs[camera.depth_topic] = _image_input(
            perception.add_depth, name, camera.depth_compressed
        )
    if camera.color_info_topic is not None:
        inputs[camera.color_info_topic] = _info_input(perception.add_color_info, name)
    if camera.depth_info_topic not in (None, camera.color_info_topic):
        inputs[str(camera.depth_info_topic)] = _info_input(perception.add_depth_info, name)
    for topic in info.topics:
        if topic.typename == messages.TF_MESSAGE:
            inputs[topic.topic] = _tf_input(perception, topic.topic.endswith("tf_static"))
    return inputs


def _image_input(
    add: Callable[[str, int, str, EncodedImage], None], camera: str, compressed: bool
) -> Input:
    read = messages.compressed_image_of if compressed else messages.image_of

    def take(message: Any) -> None:
        stamp_ns = messages.stamp_ns_of(message.header.stamp)
        add(camera, stamp_ns, str(message.header.frame_id).lstrip("/"), read(message))

    return take


def _info_input(add: Callable[[str, CameraInfo, int], None], camera: str) -> Input:
    def take(message: Any) -> None:
        add(camera, messages.camera_info_of(message), messages.stamp_ns_of(message.header.stamp))

    return take


def _tf_input(perception: Perception, static: bool) -> Input:
    def take(message: Any) -> None:
        perception.add_transforms(messages.transforms_of(message), static)

    return take
