"""Recordings to one data set: bags side by side, episodes in their order, taken up where it ended.

Each bag is converted in a process of its own into a folder under the data set's meta/; whole
episodes are then moved in, in the order of the bags. An episode that the contract leaves out is
reported, and tried again by every later call: what it lacked, a task, may be given then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.episode_files import pyarrow
from rynn_brain_ros.data.faults import Fault, FaultKind, FaultyRecordingError
from rynn_brain_ros.data.layout import OURS, remove
from rynn_brain_ros.data.marks import Span, spans
from rynn_brain_ros.data.span_conversion import Converted, SpanConversion
from rynn_brain_ros.data.writer import DatasetWriter, differences, episode_names
from rynn_brain_ros.files import refuse_a_file, write_whole
from rynn_brain_ros.values import BagError, InputError, RynnBrainError
from rynn_brain_ros.workers import workers

CONTRACT_FILE, LEFT_OUT, STAGING = f"{OURS}/contract.yaml", f"{OURS}/left_out", f"{OURS}/staging"
_LEAD_NS = 1_000_000_000
"""Messages from so long before an episode are read, so that its first frame has all."""
_HASHED_BYTES = 1 << 16

Done = Callable[[Path, Sequence["Report"]], None]
"""Told of each bag when it is done, and of its episodes."""
Report = dict[str, Any]


@dataclass(frozen=True)
class Conversion:
    """``reports`` of all episodes of this run, kept or not, in the order of the bags.
    ``known``: how many the data set had before."""

    reports: tuple[Report, ...]
    known: int = 0

    @property
    def kept(self) -> int:
        return sum(bool(report["kept"]) for report in self.reports)

    @property
    def frames(self) -> int:
        return sum(int(report["frames"]) for report in self.reports)


@dataclass(frozen=True)
class BagJob:
    """``known``: the names of episodes that are not wanted again."""

    bag: Path
    name: str
    contract: Contract
    task: str
    folder: Path
    known: frozenset[str]


@dataclass
class BagOutcome:
    """What was converted; with an error, what was before it."""

    converted: list[Converted] = field(default_factory=list)
    error: RynnBrainError | None = None


def convert(
    bags: Sequence[Path],
    contract: Contract,
    out: Path,
    *,
    task: str = "",
    jobs: int = 1,
    done: Done | None = None,
) -> Conversion:
    """Adds the episodes of ``bags`` to the data set ``out``.

    After an error, or Ctrl-C, the data set holds the episodes that were whole by then, and the
    same call goes on from there.

    Raises:
        InputError: a bag is not there, or ``out`` belongs to another contract.
        FaultyRecordingError: a recording broke the contract, and the contract refuses.
        OutputError: the data set cannot be written.
    """
    pyarrow()
    names = _names(bags)
    _claim(out, contract)
    known = episode_names(out)
    work = [
        BagJob(bag, name, contract, task, out / STAGING / str(i), known)
        for i, (bag, name) in enumerate(zip(bags, names, strict=True))
    ]
    reports: list[Report] = []
    target = _Target(out, contract)
    try:
        for job, outcome in _each(work, jobs):
            of_bag = [target.take(converted) for converted in outcome.converted]
            reports += of_bag
            if outcome.error is not None:
                raise outcome.error
            if done is not None:
                done(job.bag, of_bag)
    finally:
        remove(out / STAGING)
    return Conversion(tuple(reports), len(known))


class _Target:
    """The data set, which gets its features from the first episode that is kept."""

    def __init__(self, out: Path, contract: Contract) -> None:
        self._out, self._contract = out, contract
        self._writer: DatasetWriter | None = None

    def take(self, converted: Converted) -> Report:
        """Moves an episode in, or notes why it was left out. Raises `OutputError`,
        `FaultyRecordingError`."""
        report = dict(converted.report)
        if converted.files is None or converted.spec is None:
            return self._leave_out(report)
        if self._writer is None:
            self._writer = DatasetWriter.existing(self._out) or DatasetWriter(
                self._out, converted.spec
            )
        if self._writer.spec != converted.spec:
            text = f"it differs from the data set: {differences(self._writer.spec, converted.spec)}"
            fault = Fault(FaultKind.SIZE_CHANGED, "the episode", text)
            if self._contract.limits.on_fault == "refuse":
                raise FaultyRecordingError(f"{report['episode']}: {fault.told()}")
            told = {"kind": fault.kind.value, "text": fault.told(), "times": 1}
            return self._leave_out({**report, "kept": False, "faults": [told]})
        report["index"] = self._writer.add(converted.files)
        self._left_out(report).unlink(missing_ok=True)
        return report

    def _leave_out(self, report: Report) -> Report:
        data = json.dumps(report, ensure_ascii=False, indent=1).encode()
        write_whole(self._left_out(report), data)
        return report

    def _left_out(self, report: Report) -> Path:
        return self._out / LEFT_OUT / f"{report['episode'].replace('#', '-')}.json"


# --- one bag -------------------------------------------------------------------------------------


def convert_bag(job: BagJob) -> BagOutcome:
    """All of its episodes; raises nothing that it can tell."""
    outcome = BagOutcome()
    try:
        for converted in _episodes(job):
            outcome.converted.append(converted)
    except BagError as error:
        try:
            outcome.converted.append(_unreadable(job, error))
        except FaultyRecordingError as refused:
            outcome.error = refused
    except RynnBrainError as error:
        outcome.error = error
    return outcome


def _unreadable(job: BagJob, error: BagError) -> Converted:
    fault = Fault(FaultKind.UNREADABLE, "the recording", str(error))
    return SpanConversion(
        job.contract, Span(0, 0, 0, job.task, faults=(fault,)), job.folder, f"{job.name}#0"
    ).finish_empty()


def _episodes(job: BagJob) -> Iterator[Converted]:
    with BagReader(job.bag) as reader:
        info = reader.info()
        wanted = job.contract.topics
        there = {t.topic for t in info.topics if wanted.get(t.topic) == t.typename and t.count}
        for span in spans(info, job.contract, job.task):
            name = f"{job.name}#{span.index}"
            if name in job.known:
                continue
            conversion = SpanConversion(job.contract, span, job.folder / str(span.index), name)
            try:
                conversion.check_topics({t.topic: t.typename for t in info.topics if t.count})
                _feed(reader, there, job.contract.lasting, span, conversion)
                yield conversion.finish()
            except BaseException:
                conversion.discard()
                raise


def _feed(
    reader: BagReader,
    topics: set[str],
    lasting: frozenset[str],
    span: Span,
    conversion: SpanConversion,
) -> None:
    lead_ns = span.start_ns - _LEAD_NS
    early = topics & lasting
    parts = [reader.messages(early, None, lead_ns)] if early else []
    parts += [reader.messages(topics, lead_ns, span.end_ns + 1)] if topics else []
    for message in chain(*parts):
        try:
            value = message.decode()
        except BagError as error:
            conversion.unreadable(message.topic, str(error), message.log_time_ns)
            continue
        conversion.feed(message.topic, value, message.log_time_ns)


# --- many bags -----------------------------------------------------------------------------------


def _each(work: Sequence[BagJob], jobs: int) -> Iterator[tuple[BagJob, BagOutcome]]:
    """In their order."""
    if jobs <= 1 or len(work) == 1:
        for job in work:
            yield job, convert_bag(job)
        return
    with workers(min(jobs, len(work))) as pool:
        futures = [pool.submit(convert_bag, job) for job in work]
        for job, future in zip(work, futures, strict=True):
            yield job, future.result()


def _names(bags: Sequence[Path]) -> list[str]:
    """A name for each that stays the same wherever the bag is moved."""
    names = [f"{bag.name}-{_fingerprint(bag)}" for bag in bags]
    for bag, name in zip(bags, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"{bag} is given twice")
    return names


def _fingerprint(bag: Path) -> str:
    """Of its files' sizes, beginnings and ends."""
    try:
        files = sorted(path for path in bag.rglob("*") if path.is_file()) if bag.is_dir() else [bag]
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                digest.update(str(size).encode())
                for start in (0, max(0, size - _HASHED_BYTES)):
                    file.seek(start)
                    digest.update(file.read(_HASHED_BYTES))
    except OSError as error:
        raise BagError(f"There is no recording at {bag}: {error.strerror}.") from error
    return digest.hexdigest()[:8]


def _claim(out: Path, contract: Contract) -> None:
    """The folder is this contract's, from now on or already."""
    refuse_a_file(out)
    path = out / CONTRACT_FILE
    if path.exists():
        if path.read_text(encoding="utf-8") != contract.text:
            raise InputError(
                f"{out} was made with another contract ({path}): use that one, or another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose another folder")
    else:
        write_whole(path, contract.text.encode())
