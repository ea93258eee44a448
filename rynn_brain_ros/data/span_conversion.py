"""One episode of one recording: fed message by message, sampled tick by tick, encoded at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rynn_brain_ros.data.conditioning import Said
from rynn_brain_ros.data.contract import Contract, Feature
from rynn_brain_ros.data.episode_files import EpisodeFiles, EpisodeWriter
from rynn_brain_ros.data.faults import Fault, FaultKind, FaultyRecordingError
from rynn_brain_ros.data.layout import DatasetSpec, FeatureSpec
from rynn_brain_ros.data.marks import Span
from rynn_brain_ros.data.sampling import Features, is_ready, sample
from rynn_brain_ros.data.streams import StoredImage, Streams
from rynn_brain_ros.data.watching import faults_of, watches

_INVERTED = -0.5
_MOVES = 0.1
"""A gripper that never moves has no sense to be told."""


@dataclass(frozen=True)
class Converted:
    """``files`` is ``None`` for an episode that was left out; ``report`` says why."""

    files: EpisodeFiles | None
    spec: DatasetSpec | None
    report: Mapping[str, Any]

    @property
    def kept(self) -> bool:
        return self.files is not None


@dataclass
class _Camera:
    """How often its images were shown again."""

    last: StoredImage | None = None
    shown: int = 0
    repeated: int = 0

    def show(self, image: StoredImage) -> None:
        if image is self.last:
            self.repeated += 1
        self.last, self.shown = image, self.shown + 1


@dataclass
class _Found:
    """Faults by kind and place: the first, and how many there were."""

    faults: dict[tuple[FaultKind, str], tuple[Fault, int]] = field(default_factory=dict)

    def add(self, fault: Fault) -> None:
        key = (fault.kind, fault.where)
        first, count = self.faults.get(key, (fault, 0))
        self.faults[key] = (first, count + 1)


class SpanConversion:
    """Converts ``span`` into ``folder``.

    Feed it the messages of the contract's topics in the order they were received, from a little
    before the span's start; then `finish`. With the contract's ``refuse`` the first fault raises
    `FaultyRecordingError`; with ``skip`` the episode is left out and the rest only counted.
    """

    def __init__(self, contract: Contract, span: Span, folder: Path, name: str) -> None:
        self._contract, self._span, self._folder, self._name = contract, span, folder, name
        self._streams, self._said = Streams(contract), Said(contract.conditioning)
        self._watches = watches(contract)
        self._cameras = {camera.key: _Camera() for camera in contract.cameras}
        self._grippers = _Grippers(contract)
        self._found = _Found()
        self._task = span.task
        self._first_tick_ns: int | None = None
        self._ticks = 0
        self._writer: EpisodeWriter | None = None
        self._spec: DatasetSpec | None = None
        self._oldest_s: dict[str, float] = {}
        for fault in span.faults:
            self._fault(fault)

    # --- messages --------------------------------------------------------------------------------

    def feed(self, topic: str, message: Any, received_ns: int) -> None:
        """Raises `FaultyRecordingError`, `OutputError`."""
        self._tick_until(received_ns - 1)
        inside = received_ns >= self._span.start_ns
        if inside and topic in self._watches:
            self._watches[topic].see(message, received_ns)
        for fault in self._streams.receive(topic, message, received_ns):
            if inside:
                self._fault(fault)
        if inside:  # what was said in another episode is not about this one
            self._said.receive(topic, message)
        if self._contract.task is not None and topic == self._contract.task.topic:
            self._task = str(message.data)

    def check_topics(self, there: Mapping[str, str]) -> None:
        """``there``: the types of the recording's topics by name."""
        for topic, wanted in self._contract.topics.items():
            if topic not in self._watches:
                continue  # the brain's words and the task may be missing
            found = there.get(topic)
            if found != wanted:
                text = "it is not there" if found is None else f"it is {found}, not {wanted}"
                near = difflib.get_close_matches(topic, there, n=1)
                hint = f"; did you mean {near[0]}?" if found is None and near else ""
                self._fault(Fault(FaultKind.MISSING_TOPIC, topic, text + hint))

    def unreadable(self, topic: str, text: str, received_ns: int) -> None:
        """A message that could not be decoded at all."""
        self._fault(Fault(FaultKind.UNREADABLE, topic, text, received_ns))

    def finish(self) -> Converted:
        """Raises `FaultyRecordingError`, `OutputError`."""
        self._tick_until(self._span.end_ns)
        self._judge()
        report = self._report()
        if self._writer is None:
            return Converted(None, None, report)
        files = self._writer.close(self._task, report)
        return Converted(files, self._spec, report)

    def finish_empty(self) -> Converted:
        """For a recording that could not even be opened."""
        return Converted(None, None, self._report())

    def discard(self) -> None:
        """Leaves nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()

    # --- ticks -----------------------------------------------------------------------------------

    def _tick_until(self, now_ns: int) -> None:
        """Frames begin when every source has said something."""
        while not self._found.faults:
            t_ns = self._span.start_ns + round(self._ticks * 1e9 / self._contract.fps)
            if t_ns > min(now_ns, self._span.end_ns):
                return
            self._ticks += 1
            if self._first_tick_ns is None:
                if not is_ready(self._contract, self._streams, t_ns):
                    continue
                self._first_tick_ns = t_ns
            self._frame(sample(self._contract, self._streams, t_ns))

    def _frame(self, features: Features) -> None:
        for fault in features.faults:
            self._fault(fault)
        if features.faults:
            return
        for key, image in features.images.items():
            self._cameras[key].show(image)
        for topic, age_s in features.ages_s.items():
            self._oldest_s[topic] = max(age_s, self._oldest_s.get(topic, 0.0))
        self._grippers.see(features.values)
        values = {**features.values, **self._said.values}
        if self._writer is None:
            self._spec = _spec(self._contract, values)
            self._writer = EpisodeWriter(self._folder, self._spec)
        self._writer.add(values)

    # --- judging ---------------------------------------------------------------------------------

    def _judge(self) -> None:
        contract, limits = self._contract, self._contract.limits
        for watch in self._watches.values():
            for fault in faults_of(contract, watch, self._span.end_ns):
                self._fault(fault)
        for key, camera in self._cameras.items():
            share = camera.repeated / camera.shown if camera.shown else 0.0
            if share > limits.max_repeated:
                text = f"{share:.0%} of the frames show the image before again"
                self._fault(Fault(FaultKind.REPEATED, key, text))
        if self._grippers.inverted:
            text = "the hand opens where its command closes: check open and closed of both"
            self._fault(Fault(FaultKind.GRIPPER_INVERTED, "the gripper", text))
        length_s = 0.0 if self._writer is None else self._writer.length / contract.fps
        if not self._found.faults and length_s < limits.min_duration_s:
            text = f"{length_s:.2f} s of it can be used; {limits.min_duration_s:g} s are wanted"
            self._fault(Fault(FaultKind.TOO_SHORT, "the episode", text))
        if not self._task:
            text = "give it with --task, the operator's mark or the contract's tasks"
            self._fault(Fault(FaultKind.NO_TASK, "the episode", text))

    def _fault(self, fault: Fault) -> None:
        self._found.add(fault)
        self.discard()
        if self._contract.limits.on_fault == "refuse":
            raise FaultyRecordingError(
                f"{self._name}: {fault.told(self._span.start_ns)}. The contract refuses such "
                "recordings; with on_fault: skip the episode is left out"
            )

    def _report(self) -> dict[str, Any]:
        start_ns, fps = self._span.start_ns, self._contract.fps
        length = 0 if self._writer is None else self._writer.length
        first_ns = self._first_tick_ns
        return {
            "episode": self._name,
            "kept": self._writer is not None,
            "task": self._task,
            "outcome": self._span.outcome,
            "start_ns": start_ns,
            "recorded_s": round((self._span.end_ns - start_ns) / 1e9, 3),
            "frames": length,
            "seconds": round(length / fps, 3),
            "waited_s": None if first_ns is None else round((first_ns - start_ns) / 1e9, 3),
            "topics": {
                topic: {
                    **watch.record(),
                    "oldest_sample_s": round(self._oldest_s.get(topic, 0.0), 4),
                }
                for topic, watch in self._watches.items()
            },
            "cameras": {key: self._camera_record(key) for key in self._cameras},
            "faults": [
                {"kind": fault.kind.value, "text": fault.told(start_ns), "times": times}
                for fault, times in self._found.faults.values()
            ],
        }

    def _camera_record(self, key: str) -> dict[str, int]:
        camera = self._cameras[key]
        feature = next(f for f in self._contract.cameras if f.key == key)
        came = self._watches[feature.sources[0].channel.topic].count
        used = camera.shown - camera.repeated
        return {"images": came, "repeated": camera.repeated, "dropped": max(0, came - used)}


class _Grippers:
    """Whether an observed hand and its command go the same way."""

    def __init__(self, contract: Contract) -> None:
        self._state = _gripper_place(contract.observations)
        self._action = _gripper_place(contract.actions)
        self._pairs: list[tuple[float, float]] = []

    def see(self, values: Mapping[str, Any]) -> None:
        if self._state is not None and self._action is not None:
            (state, i), (action, j) = self._state, self._action
            self._pairs.append((values[state][i], values[action][j]))

    @property
    def inverted(self) -> bool:
        if len(self._pairs) < 2:
            return False
        state, action = np.array(self._pairs, np.float64).T
        if state.std() < _MOVES or action.std() < _MOVES:
            return False
        return bool(np.corrcoef(state, action)[0, 1] < _INVERTED)


def _gripper_place(features: tuple[Feature, ...]) -> tuple[str, int] | None:
    """Feature and place in it of the first gripper."""
    for feature in features:
        place = 0
        for source in feature.sources:
            if source.gripper is not None:
                return feature.key, place
            place += len(source.select)
    return None


def _spec(contract: Contract, values: Mapping[str, Any]) -> DatasetSpec:
    """From the contract, and the sizes of the first images."""
    features = {}
    for feature in contract.features:
        if feature.is_image:
            features[feature.key] = FeatureSpec("video", values[feature.key].shape)
        else:
            units = ", ".join(dict.fromkeys(s.units for s in feature.sources if s.units))
            shape, names = values[feature.key].shape, feature.names
            features[feature.key] = FeatureSpec(feature.dtype, shape, names, units)
    for key in Said(contract.conditioning).values:
        features[key] = FeatureSpec("string", (1,))
    return DatasetSpec(contract.robot_type, contract.fps, features)
