"""Cases out of recordings: a bag and questions, a run that was answered, or an episode.

What is already answered needs no engine; with one, the same questions are asked of it instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.bags.writer import PROVENANCE
from rynn_brain_ros.checking.cases import Case
from rynn_brain_ros.memory import select
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.models import Engines, RecordingEngine, recorded_answer
from rynn_brain_ros.models.profiles import profile_for
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.planning import Question, make_query
from rynn_brain_ros.replay import (
    ReplayConfig,
    is_episode,
    read_answers,
    recorded_engines,
    replay,
    replay_episode,
)
from rynn_brain_ros.values import (
    Answer,
    BagError,
    Engine,
    FinishReason,
    Frame,
    FrameSet,
    InputError,
    Query,
    SelectedFrame,
    Task,
)


class GatheringInterrupted(KeyboardInterrupt):
    """Ctrl-C, with the ``cases`` that were gathered until then."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = tuple(cases)


def gather(
    source: Path,
    engine: Engine | None,
    config: ReplayConfig | None = None,
    progress: Progress = untold,
) -> tuple[Case, ...]:
    """Cases from ``source``: with ``config`` a bag is asked these questions, which needs an engine;
    without, the source must hold answers (a run's folder or an episode), which an ``engine``
    replaces by its own.

    Raises `InputError` where that does not fit together, `EngineError` where a question cannot be
    answered, `GatheringInterrupted` at Ctrl-C.
    """
    cases: list[Case] = []
    try:
        _gather(source, engine, config, progress, cases)
    except KeyboardInterrupt as stop:
        raise GatheringInterrupted(cases) from stop
    return tuple(cases)


def _gather(
    source: Path,
    engine: Engine | None,
    config: ReplayConfig | None,
    progress: Progress,
    cases: list[Case],
) -> None:
    """Adds to ``cases`` one by one."""
    if config is not None:
        if engine is None:
            raise InputError("questions need an --engine to answer them")
        _ask(source, engine, config, progress, cases)
        return
    answered = _answered(source)
    if not answered:
        raise InputError(f"{source} holds no answer")
    if engine is None:
        cases.extend(answered)
    else:
        _ask_again(engine, answered, progress, cases)


def _keeper(engine: Engine, cases: list[Case]) -> RecordingEngine:
    """The same engine, and what it answers becomes a case."""
    return RecordingEngine(engine, lambda query, answer: cases.append(Case(query, answer)))


def _ask(
    bag: Path, engine: Engine, config: ReplayConfig, progress: Progress, cases: list[Case]
) -> None:
    def played(done_s: float, total_s: float) -> None:
        progress("playing the recording", round(done_s), round(total_s))

    with tempfile.TemporaryDirectory(prefix="rynn-brain-") as folder:
        engines = Engines.one(_keeper(engine, cases))
        result = replay(bag, config, engines, Path(folder), played)
    if not result.complete:
        raise KeyboardInterrupt


def _ask_again(
    engine: Engine, answered: Sequence[Case], progress: Progress, cases: list[Case]
) -> None:
    keeper = _keeper(engine, cases)
    for number, case in enumerate(answered):
        progress("asking", number, len(answered))
        keeper.ask(case.query)


def _answered(source: Path) -> tuple[Case, ...]:
    bag = source / "run.mcap" if (source / "run.mcap").is_file() else source
    with BagReader(bag) as reader:
        info = reader.info()
        if is_episode(info):
            return _episode_cases(bag)
        answers = bag.parent / "answers.jsonl"
        if bag.name != "run.mcap" or not answers.is_file():
            raise InputError(
                f"{source} holds no answers: give questions with --ask or --questions, or the "
                "folder of a run or an episode"
            )
        records = read_answers(answers)
        frames = _frames(reader, records)
        about = info.metadata.get(PROVENANCE, {})
    return tuple(
        _run_case(answers, number, record, frames, about)
        for number, record in enumerate(records, 1)
    )


def _episode_cases(bag: Path) -> tuple[Case, ...]:
    """Decides the episode again with its own answers, which shows every question as it was."""
    cases: list[Case] = []
    by_role = recorded_engines(bag).by_role.items()
    keepers = Engines({role: _keeper(engine, cases) for role, engine in by_role})
    drifts = replay_episode(bag, keepers).drifts
    if drifts:
        raise BagError(f"{bag} is not decided as it was, so its questions are others: {drifts[0]}")
    return tuple(cases)


# --- a run's folder -------------------------------------------------------------------------------

_Key = tuple[str, int, str]
"""Camera, stamp and the picture's sha256, since a clock that was reset repeats stamps."""


def _frames(reader: BagReader, records: Sequence[Mapping[str, Any]]) -> dict[_Key, SelectedFrame]:
    """The frames that the answers were about, from the run's own bag."""
    wanted = {_key(frame) for record in records for frame in record["frames"]}
    stamps = {(camera, stamp_ns) for camera, stamp_ns, _ in wanted}
    found: dict[_Key, SelectedFrame] = {}
    known = {topic.topic for topic in reader.info().topics}
    for message in reader.messages(tuple({camera for camera, _ in stamps} & known)):
        value = message.decode()
        shown = (message.topic, messages.stamp_ns_of(value.header.stamp))
        if shown in stamps:
            compressed = message.typename == messages.COMPRESSED_IMAGE
            image = (messages.compressed_image_of if compressed else messages.image_of)(value)
            selected = select(Frame(*shown, str(value.header.frame_id), image))
            found.setdefault((*shown, selected.sha256), selected)
    return found


def _key(record: Mapping[str, Any]) -> _Key:
    return str(record["camera"]), int(record["stamp_ns"]), str(record["sha256"])


def _run_case(
    path: Path,
    number: int,
    record: Mapping[str, Any],
    frames: Mapping[_Key, SelectedFrame],
    about: Mapping[str, str],
) -> Case:
    keys = [_key(frame) for frame in record["frames"]]
    found = tuple(frames[key] for key in keys if key in frames)
    if len(found) != len(keys):
        raise BagError(f"{path}, line {number}: run.mcap does not hold the pictures it was asked")
    frame_set = FrameSet(found, VISUAL_TOKENS // max(1, len(found)))
    query = _query(path, number, record, frame_set)
    generation = profile_for(str(record["model"])).generation
    answer = Answer(
        query.query_id,
        str(record["text"]),
        FinishReason(record["finish_reason"]),
        str(record["engine"]),
        str(record["model"]),
        about.get("revision", ""),
        about.get("quantization", "none"),
    )
    return Case(query, recorded_answer(query, answer, generation))


def _query(path: Path, number: int, record: Mapping[str, Any], frames: FrameSet) -> Query:
    """The question as it was asked. Whether to think and to abstain is not told, but a query's id
    is the digest of all that was asked."""
    for thinking, abstain in product((False, True), repeat=2):
        question = Question(str(record["ask"]), Task(record["task"]), thinking, abstain)
        query = make_query(number, question, frames)
        if query.query_id == record["query_id"]:
            return query
    raise BagError(f"{path}, line {number} is not the answer to the question that it tells")


def questions_of(path: Path) -> Iterable[Question]:
    """Questions from a file with lines like ``affordance: Pick up the red cube``; empty lines and
    those that begin with ``#`` do not count. Raises `InputError`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read questions from {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.partition(":")
        tasks = {task.value: task for task in Task if task is not Task.NAVIGATE}
        if name.strip() not in tasks or not text.strip():
            raise InputError(
                f"{path}, line {number} is no question: write TASK: TEXT, with a task of "
                f"{', '.join(tasks)}"
            )
        yield Question(text.strip(), tasks[name.strip()])
