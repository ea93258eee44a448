"""A bag through the whole brain: what a robot would have answered, asked again at a desk."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rynn_brain_ros import __version__, messages
from rynn_brain_ros.bags import BagInfo, BagMessage, BagReader, CameraTopics, find_cameras
from rynn_brain_ros.geometry import LiftLimits
from rynn_brain_ros.memory import SelectionPolicy
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning import Perception, PerceptionConfig, Question, ask, make_query
from rynn_brain_ros.replay.claiming import RunKind, check_run_folder
from rynn_brain_ros.replay.inputs import (
    assembly_of,
    bag_inputs,
    check_fixed_frame,
    choose_camera,
    color_topic_of,
    transform_topics,
)
from rynn_brain_ros.replay.run_folder import RunFolder
from rynn_brain_ros.values import (
    BagError,
    FrameSet,
    ImageError,
    InputError,
    LiftedGrounding,
    Response,
)

MIN_EVERY_S, MAX_EVERY_S = 0.001, 1e6
OLD_IMAGE_S = 2.0
_MAX_REMEMBERED = 10_000
"""Images whose time of arrival is known: more than any buffer holds, and bounded."""


@dataclass(frozen=True)
class ReplayConfig:
    """How a bag is replayed.

    ``at_s`` asks once, that many seconds after the bag begins; ``every_s`` asks again and again
    from the first image on, and once in a pause of the recording; with neither, once at the end.
    ``camera`` is a colour topic or a
    camera's name; empty: the only usable one. ``fixed_frame`` is one that the bag's transforms
    name; empty: chosen from their tree.
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


_DROPPED = {
    "duplicate": "their stamp had been seen",
    "late": "an image with a later stamp had been shown before they arrived",
    "overflow": "too many waited for depth or transforms",
    "reset": "the clock went back while they waited",
}

Progress = Callable[[float, float], None]
"""Called with the seconds of the bag that have been replayed, and all that it has."""


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
    check_out(bag, out)
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
    return ReplayResult(out, report, folder.n_answers, complete, problems)


def check_out(bag: Path, out: Path) -> None:
    """Raises `InputError` where a replay into ``out`` would replace the bag itself, `OutputError`
    where it would replace anything else that no replay wrote."""
    if bag.resolve() in (path.resolve() for path in (out, *RunFolder.bags_of(out))):
        raise InputError(f"a replay of {bag} into {out} would replace it: give another --out")
    check_run_folder(out, RunKind.REPLAY)


def _check(config: ReplayConfig) -> None:
    if config.at_s is not None and config.every_s is not None:
        raise InputError("a replay asks at one time or every so often, not both")
    if config.every_s is not None and not MIN_EVERY_S <= config.every_s <= MAX_EVERY_S:
        raise InputError(
            f"cannot ask every {config.every_s} s: give {MIN_EVERY_S} s or more, up to "
            f"{MAX_EVERY_S:.0f} s"
        )
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
        self._assembly = assembly_of(camera)
        self._perception = Perception(
            PerceptionConfig((self._assembly,), fixed_frame=config.fixed_frame)
        )
        self._transforms, self._other_transforms = transform_topics(info, self._name)
        if config.fixed_frame:
            check_fixed_frame(reader, self._transforms, config.fixed_frame)
        self._inputs = bag_inputs(camera, self._transforms, self._perception)
        self._damaged: Counter[str] = Counter()
        self._received_ns: dict[int, int] = {}  # log time of each colour image, by its stamp
        self._old_s: list[float] = []  # how old the newest image was, where it was too old
        self._asked = 0
        self._next_due_ns = self._first_due_ns()

    def play(self, folder: RunFolder, progress: Progress | None) -> bool:
        """True when the bag was played to its end, false after Ctrl-C."""
        try:
            for due in self._dues(folder, progress):
                frames = self._frames_of(due)
                if frames is None:
                    continue
                found: list[LiftedGrounding] = []
                for question in self._config.questions:
                    self._asked += 1
                    response = self._ask(question, due.time_ns, frames, self._asked)
                    folder.add(response, due.time_ns, self._received_ns, found)
                    found += response.lifted
        except KeyboardInterrupt:
            return False
        if not self._asked:
            raise BagError(self._no_image(self._info.end_ns))
        return True

    def problems(self) -> tuple[str, ...]:
        return (
            *self._camera.problems,
            *self._transform_problems(),
            *self._perception.problems,
            *self._frame_problems(),
            *self._old_images(),
            *(f"{topic}: {n} messages could not be read" for topic, n in self._damaged.items()),
        )

    def _transform_problems(self) -> list[str]:
        others, used = ", ".join(self._other_transforms), ", ".join(self._transforms)
        problems = []
        if not self._transforms:
            which = f"no /tf that is {self._name}'s" if others else "no /tf"
            problems.append(f"{which}: places are told in the camera's own frame")
        if others:
            instead = f"; the camera's transforms are those of {used}" if used else ""
            problems.append(
                f"{others}: not read, since another robot's frames may have the same names{instead}"
            )
        return problems

    def _frame_problems(self) -> list[str]:
        stats = self._perception.stats(self._name)
        # What the bag has no topic for is said once, not for every frame.
        never = {"camera_info"} if self._camera.color_info_topic is None else set()
        if not self._transforms:
            never.add("pose")
        missing = [
            f"{self._name}: {count} of {stats.emitted} frames came without {what}"
            + (self._why_no_pose() if what == "pose" else "")
            for what, count in sorted(stats.missing.items())
            if what not in never
        ]
        dropped = [
            f"{self._name}: {count} images were left out: {_DROPPED.get(reason, reason)}"
            for reason, count in sorted(stats.dropped.items())
        ]
        return [*missing, *dropped]

    def _why_no_pose(self) -> str:
        frames = self._perception.buffer.frames(self._name)
        return next((f": {f.pose_refusal.text}" for f in frames if f.pose_refusal), "")

    def _old_images(self) -> list[str]:
        if not self._old_s:
            return []
        return [
            f"{self._name}: the newest image shown had been received {max(self._old_s):.1f} s "
            f"before the question (in {len(self._old_s)} of {self._asked} questions it was older "
            f"than {OLD_IMAGE_S:g} s)"
        ]

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
        if self._config.at_s > self._info.duration_s:
            raise InputError(
                f"cannot ask at {self._config.at_s:g} s: {self._info.path} ends after "
                f"{self._info.duration_s:.2f} s"
            )
        return self._info.start_ns + round(self._config.at_s * 1e9)

    def _dues(self, folder: RunFolder, progress: Progress | None) -> Iterator[_Due]:
        """Plays the bag and yields each moment at which the questions are asked.

        A question at time T sees the images received until T. Depth and transforms of the newest
        of them may arrive later: it waits for them, bounded, as the live brain does.
        """
        waiting: deque[_Due] = deque()
        wait_ns = round(self._assembly.max_wait_s * 1e9)
        for message in self._reader.messages(tuple(self._inputs)):
            now_ns = message.log_time_ns
            # Only by what a run keeps of a bag, so that a replay of it asks at the same moments.
            if message.topic == self._name or message.typename == messages.TF_MESSAGE:
                waiting.extend(self._fell_due(now_ns - 1))
            self._take(message, folder)
            self._perception.poll(now_ns)
            while waiting and (self._seen(waiting[0]) or now_ns > waiting[0].time_ns + wait_ns):
                yield waiting.popleft()
            if progress is not None:
                progress((now_ns - self._info.start_ns) / 1e9, self._info.duration_s)
        self._perception.flush()
        waiting.extend(self._fell_due(self._info.end_ns))
        yield from waiting

    def _fell_due(self, until_ns: int) -> Iterator[_Due]:
        """The first moment since the message before. Those between it and ``until_ns`` would ask
        about the same images, in a pause of the recording or where its clock jumped by years."""
        due_ns = self._next_due_ns
        if due_ns is None or due_ns > until_ns:
            return
        yield _Due(due_ns, self._perception.newest_stamp_ns(self._name))
        self._next_due_ns = None
        if self._config.every_s is not None:
            every_ns = round(self._config.every_s * 1e9)
            self._next_due_ns = due_ns + ((until_ns - due_ns) // every_ns + 1) * every_ns

    def _seen(self, due: _Due) -> bool:
        newest = self._perception.buffer.latest(self._name)
        return due.until_ns is not None and newest is not None and newest.stamp_ns >= due.until_ns

    def _take(self, message: BagMessage, folder: RunFolder) -> None:
        try:
            value = message.decode()
            self._inputs[message.topic](value)
        except (BagError, ImageError):
            self._damaged[message.topic] += 1
            return
        if message.typename == messages.TF_MESSAGE:
            folder.copy(message)
        if message.topic == self._name:
            self._note_received(messages.stamp_ns_of(value.header.stamp), message.log_time_ns)
            if self._next_due_ns is None and self._config.every_s:
                self._next_due_ns = message.log_time_ns

    def _note_received(self, stamp_ns: int, log_ns: int) -> None:
        self._received_ns[stamp_ns] = log_ns
        if len(self._received_ns) > _MAX_REMEMBERED:
            del self._received_ns[next(iter(self._received_ns))]

    def _frames_of(self, due: _Due) -> FrameSet | None:
        """The frames to show. Asked every so often, a moment without any image that can be shown
        is passed over: ``None``."""
        if due.until_ns is not None:
            with suppress(InputError):
                return self._perception.select(self._config.selection, self._name, due.until_ns)
        if self._config.every_s is None:
            raise BagError(self._no_image(due.time_ns))
        return None

    def _no_image(self, time_ns: int) -> str:
        after_s = (time_ns - self._info.start_ns) / 1e9
        reasons = "".join(f"; {problem}" for problem in self._perception.problems[:1])
        where = f"{self._info.path}: no usable image of {self._name}"
        return f"{where} had arrived by {after_s:.2f} s{reasons}"

    def _ask(self, question: Question, time_ns: int, frames: FrameSet, number: int) -> Response:
        self._note_age(frames, time_ns)
        query = make_query(number, question, frames)
        engine = self._engines.select(query)
        return ask(engine, query, self._config.limits)

    def _note_age(self, frames: FrameSet, time_ns: int) -> None:
        received_ns = self._received_ns.get(frames[-1].frame.stamp_ns, time_ns)
        age_s = (time_ns - received_ns) / 1e9
        if age_s > OLD_IMAGE_S:
            self._old_s.append(age_s)
