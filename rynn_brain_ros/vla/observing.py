"""From the contract's live features to what a policy is shown, and why it must not be acted on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rynn_brain_ros.data import live
from rynn_brain_ros.data.conditioning import GROUNDINGS, PLAN
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault, FaultKind
from rynn_brain_ros.data.fields import RGB, FieldError
from rynn_brain_ros.data.streams import StoredImage
from rynn_brain_ros.vla.chunks import RuntimeSpec
from rynn_brain_ros.vla.limits import Hold, HoldCause
from rynn_brain_ros.vla.runner import STATE
from rynn_brain_ros.vla.values import Observation, PolicyError

_STATE_KEY = "observation.state"
_OTHER_FRAME = "have the brain keep its poses in the frame that the policy was trained with"
_NO_WORDS = "say what is to be done: the parameter task, or a message on ~/task"


class Pictures(Mapping[str, RGB]):
    """By camera, decoded when somebody looks: a policy looks at few of all that come, in its own
    thread. Raises `PolicyError` where one cannot be decoded."""

    def __init__(self, stored: Mapping[str, StoredImage]) -> None:
        self._stored = stored

    def __getitem__(self, camera: str) -> RGB:
        try:
            return self._stored[camera].rgb
        except FieldError as error:
            raise PolicyError(f"the newest picture of {camera} is broken: {error}") from error

    def __contains__(self, camera: object) -> bool:
        return camera in self._stored  # Mapping's own decodes it to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


@dataclass(frozen=True, eq=False)
class Shown:
    """What `Runner.tick` is given."""

    observation: Observation
    stamps_ns: Mapping[str, int]
    fault: Hold | None


class Presenter:
    """Shows a policy of ``spec`` what is seen live by ``contract``. `PolicyError` where its target
    points are told in the pictures of a camera that the contract does not have."""

    def __init__(self, contract: Contract, spec: RuntimeSpec) -> None:
        cameras = {f.key.rpartition(".")[2]: f for f in contract.cameras}
        self._keys = {role: feature.key for role, feature in cameras.items()}
        self._topics = {
            **{role: [s.channel.topic for s in f.sources] for role, f in cameras.items()},
            STATE: [
                source.channel.topic
                for feature in contract.observations
                if feature.key == _STATE_KEY
                for source in feature.sources
            ],
        }
        self._aim, seen = spec.statistics.aim, [t for role in cameras for t in self._topics[role]]
        if self._aim.n == 2 and self._aim.camera not in seen:
            raise PolicyError(
                f"the policy was trained with points in the pictures of {self._aim.camera}; the "
                f"contract's cameras are {', '.join(seen) or 'none'}: train for this one"
            )
        self._n_state = len(spec.state_names)

    def shown(self, seen: live.Observation, task: str, broken: Mapping[str, Fault]) -> Shown:
        """``task`` in words; ``broken`` is what was wrong with the last message of a topic."""
        features = seen.features
        stored = {r: features.images[k] for r, k in self._keys.items() if k in features.images}
        unknown = np.full(self._n_state, math.nan)
        state = np.asarray(features.values.get(_STATE_KEY, unknown), np.float64)
        fault = self._fault(seen, task, broken)
        point: tuple[float, ...] = ()
        try:
            point = self._aim.point(seen.words.get(GROUNDINGS, ""), _OTHER_FRAME)
        except PolicyError as error:
            fault = fault or Hold(HoldCause.TARGET_UNUSABLE, str(error))
        step = seen.words.get(PLAN, "")
        observation = Observation(Pictures(stored), state, task, step, point)
        return Shown(observation, self._stamps(seen), fault)

    def _stamps(self, seen: live.Observation) -> dict[str, int]:
        ages_s, t_ns = seen.features.ages_s, seen.features.t_ns
        return {
            name: t_ns - round(max(ages_s[topic] for topic in topics) * 1e9)
            for name, topics in self._topics.items()
            if all(topic in ages_s for topic in topics)
        }

    def _fault(self, seen: live.Observation, task: str, broken: Mapping[str, Fault]) -> Hold | None:
        for fault in seen.features.faults:
            return self._hold(fault, broken.get(fault.where))
        return None if task else Hold(HoldCause.NO_TASK, _NO_WORDS)

    def _hold(self, fault: Fault, broken: Fault | None) -> Hold:
        text = f"{fault.where}: {fault.text}"
        if broken is not None:
            text += f"; of its last message: {broken.kind.value}: {broken.text}"
        camera = next((c for c in self._keys if fault.where in self._topics[c]), "")
        if fault.kind is FaultKind.STALE:
            return Hold(HoldCause.STALE_OBSERVATION, text)
        if camera:
            return Hold(HoldCause.CAMERA_MISSING, f"no picture of {camera}: {text}")
        return Hold(HoldCause.STATE_UNUSABLE, text)
