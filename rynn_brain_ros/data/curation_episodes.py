"""The questions of an episode, by what its recording holds itself.

Nothing is decided again, so it does not matter which version recorded it, nor what the settings
are now. The recorded answers hold the words of their questions and the digests of the pictures
(see `models.recorded`), the published answers their ids and tasks, the turns the cameras and stamps
of the pictures, and the bag the pictures themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.checking import Case
from rynn_brain_ros.language import default_budget
from rynn_brain_ros.memory import select
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.models import RecordedAnswer
from rynn_brain_ros.models.recorded import PlainMessage, parse_recorded
from rynn_brain_ros.replay.episode_folder import ANSWERS, TURNS
from rynn_brain_ros.replay.run_folder import OWN_TOPICS
from rynn_brain_ros.values import BagError, Frame, FrameSet, Query, SelectedFrame, Task, Turn
from rynn_brain_ros.view.publications import GROUNDINGS

_SAID = f"{OWN_TOPICS}{GROUNDINGS}"
_Key = tuple[str, int]
"""Camera and stamp."""


def episode_cases(bag: Path) -> tuple[Case, ...]:
    """Every question of the episode in ``bag`` with its answer, in their order.

    What was refused to a driving model is in the words of its next question and not in the query's
    ``history``. Raises `BagError` where the bag lacks the answers, what was published of one, the
    turns or a picture.
    """
    with BagReader(bag) as reader:
        texts = [str(message.data) for message in _decoded(reader, ANSWERS)]
        said, turns = _decoded(reader, _SAID), _decoded(reader, TURNS)
        for topic, found in ((ANSWERS, texts), (_SAID, said), (TURNS, turns)):
            if not found:
                raise BagError(f"{bag} lacks the answers of an episode: nothing is on {topic}")
        pictures = _Pictures(reader, _keys(bag, turns, said))
    cases, left = list[Case](), iter(said)
    for number, text in enumerate(texts, 1):
        answer = parse_recorded(bag, number, text)
        told = next((one for one in left if str(one.answer) == answer.text), None)
        if told is None:
            raise BagError(f"{bag} lacks the question of answer {number}: it is not on {_SAID}")
        cases.append(Case(_query(told, answer, pictures), answer))
    return tuple(cases)


def _decoded(reader: BagReader, topic: str) -> list[Any]:
    if reader.info().topic(topic) is None:
        return []
    return [message.decode() for message in reader.messages((topic,))]


def _query(told: Any, answer: RecordedAnswer, pictures: _Pictures) -> Query:
    """``told`` is the GroundingArray of this ``answer``."""
    asked = [message for message in answer.messages if message["role"] != "assistant"]
    shown = pictures.of(asked, messages.stamp_ns_of(told.header.stamp))
    history, now = list[Turn](), list[SelectedFrame]()
    at = 0
    for message, after in pairwise((*answer.messages, None)):
        if message is None or message["role"] == "assistant":
            continue
        if after is not None and after["role"] == "assistant":
            history.append(Turn(_frame_set(shown[at]), "".join(after["content"])))
        else:  # driving shows its old views in a message of their own
            now += shown[at]
        at += 1
    task = Task(told.task)
    return Query(
        str(told.query_id),
        task,
        str(told.question),
        _frame_set(now),
        default_budget(task),
        tuple(history),
    )


def _frame_set(frames: Sequence[SelectedFrame]) -> FrameSet:
    return FrameSet(tuple(frames), VISUAL_TOKENS // max(1, len(frames)))


# --- pictures -------------------------------------------------------------------------------------


def _keys(bag: Path, turns: Sequence[Any], said: Sequence[Any]) -> set[_Key]:
    """Of the pictures of all turns, and of the newest one of each question."""
    try:
        frames = [frame for turn in turns for frame in json.loads(turn.data)["frames"]]
        keys = {(str(frame["camera"]), int(frame["stamp_ns"])) for frame in frames}
    except (ValueError, KeyError, TypeError) as error:
        raise BagError(f"{bag}: its turns cannot be read: {error!r}") from error
    stamps = [messages.stamp_ns_of(one.header.stamp) for one in said]
    return keys | set(product({camera for camera, _ in keys}, stamps))


class _Pictures:
    """Those of the bag that may have been shown, by their digests."""

    def __init__(self, reader: BagReader, keys: set[_Key]) -> None:
        self._bag = reader.path
        self._by_digest: dict[str, list[SelectedFrame]] = {}
        for frame in sorted(_found(reader, keys), key=lambda frame: frame.frame.stamp_ns):
            self._by_digest.setdefault(f"sha256:{frame.sha256}", []).append(frame)

    def of(self, asked: Sequence[PlainMessage], newest_ns: int) -> list[list[SelectedFrame]]:
        """The pictures of each message. They are told in the order of time, so where the same
        bytes were taken several times, each is the latest before the one that follows."""
        shown: list[list[SelectedFrame]] = []
        before_ns: float = newest_ns + 1
        for message in reversed(asked):
            frames: list[SelectedFrame] = []
            for digest in reversed(_digests(message)):
                same = self._same(digest)
                earlier = [frame for frame in same if frame.frame.stamp_ns < before_ns]
                frames.insert(0, (earlier or same)[-1])
                before_ns = frames[0].frame.stamp_ns
            shown.insert(0, frames)
        return shown

    def _same(self, digest: str) -> list[SelectedFrame]:
        if digest not in self._by_digest:
            raise BagError(f"{self._bag} lacks a picture that was shown: {digest[:19]}")
        return self._by_digest[digest]


def _found(reader: BagReader, keys: set[_Key]) -> Iterator[SelectedFrame]:
    left, known = set(keys), {topic.topic for topic in reader.info().topics}
    for message in reader.messages(tuple({camera for camera, _ in keys} & known)):
        value = message.decode()
        key = (message.topic, messages.stamp_ns_of(value.header.stamp))
        if key in left:
            left.remove(key)
            compressed = message.typename == messages.COMPRESSED_IMAGE
            image = (messages.compressed_image_of if compressed else messages.image_of)(value)
            yield select(Frame(*key, str(value.header.frame_id), image))


def _digests(message: Mapping[str, Any]) -> list[str]:
    return [part["image"] for part in message["content"] if isinstance(part, dict)]
