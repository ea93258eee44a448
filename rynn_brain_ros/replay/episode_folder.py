"""The folder of one episode: everything that came in, was said, decided and done.

``run.mcap`` holds the robot's own messages as they were received and the brain's beside them,
``turns.jsonl`` one line a turn, ``answers.recorded.jsonl`` the engine's answers, ``report.html``
the story. A file has its final name when it is whole; an episode that dies keeps what it recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rynn_brain_ros.bags import BagWriter
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.models import RecordedAnswer, save_recorded
from rynn_brain_ros.planning.episode import Answered, Episode, EpisodeEvent, TurnEnded
from rynn_brain_ros.replay.claiming import RunKind, claim_run_folder
from rynn_brain_ros.replay.run_folder import OWN_TOPICS
from rynn_brain_ros.replay.turns import as_line, episode_record, turn_line
from rynn_brain_ros.view import annotated_frames, publications
from rynn_brain_ros.view.publications import TYPES
from rynn_brain_ros.view.turn_messages import TURN_TYPES, turn_publications

STRING = "std_msgs/msg/String"
EPISODE = "rynn_brain_ros.episode"
"""Name of the metadata record that tells a replay what was asked of which robot."""
ANSWERS, TURNS, ACTUATOR, INPUTS, ENDED = (
    f"{OWN_TOPICS}{name}" for name in ("answers", "turns", "actuator", "inputs", "episode")
)

_FILES = (
    *("run.mcap", "run.partial.mcap", "turns.jsonl", "answers.recorded.jsonl"),
    *("episode.mp4", "episode.gif", "report.html"),
)
"""What a run leaves, the story and the film of whoever plays it included."""


@dataclass(frozen=True)
class EpisodeHead:
    """What a replay must know: the task, the robot's name and settings, what its actuator does."""

    task: str
    robot: str
    settings: Mapping[str, Any]
    camera: str
    actuator: str
    goals: tuple[str, ...]


class EpisodeFolder:
    """Keeps one episode. Use as a context manager."""

    def __init__(
        self,
        path: Path,
        head: EpisodeHead,
        provenance: Mapping[str, str],
        now_ns: Callable[[], int],
    ) -> None:
        self.path = path
        self._now_ns = now_ns
        claim_run_folder(path, RunKind.EPISODE, _FILES)
        self._bag = BagWriter(path / "run.mcap", dict(provenance))
        self._bag.add_metadata(EPISODE, vars(head))
        self._task = head.task
        self._turns: list[Any] = []
        self._answers: list[RecordedAnswer] = []

    def __enter__(self) -> EpisodeFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            return
        self._bag.close(complete=False)
        with contextlib.suppress(OSError):  # closed and readable, but no whole run
            self._bag.path.replace(self._bag.partial_path)

    # --- what comes in ---------------------------------------------------------------------------

    def receive(self, topic: str, typename: str, message: Any, now_ns: int) -> None:
        """A message of the robot's, as it was received."""
        self._bag.write(topic, typename, message, now_ns)

    def keep_answer(self, answer: RecordedAnswer) -> None:
        """What the engine said, so that it can be given again."""
        self._answers.append(answer)
        self._string(ANSWERS, answer.to_json())

    def keep_actuator(self, record: Mapping[str, Any]) -> None:
        self._string(ACTUATOR, as_line(record).rstrip("\n"))

    def keep_input(self, name: str) -> None:
        """A person did something: ``cancel``, ``arm``, ``disarm``."""
        self._string(INPUTS, name)

    def _string(self, topic: str, text: str) -> None:
        self._bag.write(topic, STRING, {"data": text}, self._now_ns())

    # --- what the executive tells ----------------------------------------------------------------

    def tell(self, event: EpisodeEvent) -> None:
        if isinstance(event, Answered):
            self._answered(event)
        elif isinstance(event, TurnEnded):
            self._turns.append(event.record)
            self._string(TURNS, turn_line(event.record).rstrip("\n"))
            for name, data in turn_publications(self._task, self._turns, self._now_ns()):
                self._bag.write(f"{OWN_TOPICS}{name}", TURN_TYPES[name], data, self._now_ns())

    def _answered(self, event: Answered) -> None:
        pictures = annotated_frames(event.response)
        for name, data in publications(event.response, pictures):
            self._bag.write(f"{OWN_TOPICS}{name}", TYPES[name], data, self._now_ns())

    # --- the end ---------------------------------------------------------------------------------

    def close(self, episode: Episode) -> None:
        """Makes everything whole. Raises `OutputError`."""
        self._string(ENDED, as_line(episode_record(episode)).rstrip("\n"))
        self._bag.close()
        lines = "".join(turn_line(turn) for turn in episode.turns)
        write_whole(self.path / "turns.jsonl", lines.encode())
        save_recorded(self.path / "answers.recorded.jsonl", self._answers)
