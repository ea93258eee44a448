"""What a policy sees, from live messages: the converter's own `Streams`, `sample` and `Said`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rynn_brain_ros.data.conditioning import Said
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.faults import Fault
from rynn_brain_ros.data.sampling import Features, sample
from rynn_brain_ros.data.streams import Streams


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame as the data set would hold it, but for the action.

    ``features``: the observations at its ``t_ns``, how old each topic's sample is, and what is
    missing or stale; a policy must not act while it has ``faults``. ``words``: the text features
    (see `conditioning`). ``task``: the last on the contract's topic; empty before, or without one.
    """

    features: Features
    words: Mapping[str, str]
    task: str


class Observer:
    """Feed it every message of ``topics`` once, in the order they were received, and ask `at` any
    time. One for each episode: what was said in another is not about this one."""

    def __init__(self, contract: Contract) -> None:
        self._contract = replace(contract, actions=())  # what a policy sends, it does not wait for
        self._streams, self._said = Streams(self._contract), Said(contract.conditioning)
        self._task = ""

    @property
    def topics(self) -> Mapping[str, str]:
        """Types by name."""
        return self._contract.topics

    def receive(self, topic: str, message: Any, received_ns: int) -> Sequence[Fault]:
        """What is wrong with the message, which is then not used; mostly nothing."""
        self._said.receive(topic, message)
        if self._contract.task is not None and topic == self._contract.task.topic:
            self._task = str(message.data)
        return self._streams.receive(topic, message, received_ns)

    def forget_words(self, but_for: str) -> None:
        """What the brain said of any task but this one; pictures and numbers are seen on."""
        self._said.forget(but_for)

    def at(self, t_ns: int, *, decoded: bool = True) -> Observation:
        """``t_ns``: on the clock of ``received_ns``. Not ``decoded``: pictures are in ``images``
        alone, for who looks at few of them."""
        features = sample(self._contract, self._streams, t_ns, decoded=decoded)
        return Observation(features, self._said.values, self._task)
