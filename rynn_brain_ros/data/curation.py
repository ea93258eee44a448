"""Curation: what a model proposed in recorded runs, laid out for a person to judge.

A curation's folder holds ``proposals.jsonl``, a cases file (see `checking.cases`) whose pictures
lie in ``proposals.frames/``, byte for byte as the model saw them; ``curation.json``, which run,
engine and proposals each case has; and ``curate.html``, the page. The digest of ``curation.json``
names the curation: a review carries it, so that it is never read as the review of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.bags.writer import PROVENANCE
from rynn_brain_ros.checking import Case, gather, load_cases, save_cases
from rynn_brain_ros.data.curation_episodes import episode_cases
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.language import parse
from rynn_brain_ros.replay import read_answers
from rynn_brain_ros.values import (
    AnyGrounding,
    FinishReason,
    Flag,
    InputError,
    NoGrounding,
    Reading,
)

CASES, CURATION, PAGE = "proposals.jsonl", "curation.json", "curate.html"
FORMAT = "rynn_brain_curation/1"
_NOT_RECORDED = "not recorded"
_COUNTS: Mapping[str, tuple[int, int | None]] = {"trajectory": (2, 10), "area": (1, None)}
"""By kind, where points can be added and removed: what the grammar holds (`grammar.SHAPES`), and
of a trajectory, which goes somewhere, its two ends."""


@dataclass(frozen=True)
class Proposal:
    """Something to accept, correct or reject: a thing pointed at, or a whole answer without one.

    ``problem`` says why it cannot be accepted as it is; without a picture to correct it in
    (``movable``) it can only be rejected.
    """

    name: str
    grounding: AnyGrounding | None
    problem: str = ""

    @property
    def movable(self) -> bool:
        return self.grounding is not None and self.grounding.frame is not None

    @property
    def counts(self) -> tuple[int, int | None]:
        """How many points a correction has, at least and at most; ``None``: no bound."""
        item = self.grounding
        if item is None or not self.movable:
            return 0, 0
        return _COUNTS.get(item.kind, (len(item.points), len(item.points)))

    @property
    def record(self) -> dict[str, Any]:
        item = self.grounding
        return {
            "proposal": self.name,
            "tag": None if item is None else item.tag,
            "frame": None if item is None else item.frame,
            "points": [] if item is None else [list(point) for point in item.points],
        }


@dataclass(frozen=True)
class ProposedAnswer:
    """A question with its pictures and the model's answer, from ``run``, by ``engine``."""

    case: Case
    run: str
    engine: str
    proposals: tuple[Proposal, ...]

    @property
    def record(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "query": self.case.name,
            "engine": self.engine,
            "proposals": [proposal.record for proposal in self.proposals],
        }


@dataclass(frozen=True)
class Curation:
    """Everything in a curation's folder. ``sha256`` is the digest of its ``curation.json``."""

    sha256: str
    answers: tuple[ProposedAnswer, ...]

    @property
    def proposals(self) -> dict[str, Proposal]:
        return {item.name: item for answer in self.answers for item in answer.proposals}


def curate(runs: Sequence[Path], folder: Path) -> Curation:
    """Lays the answers of ``runs`` (folders of replays and episodes) out in ``folder``, all but
    the page. The same runs give the same bytes.

    Raises `InputError` where a run holds no answers, is named twice, or does not fit its own
    pictures, and where ``folder`` holds another curation; `OutputError`.
    """
    seen: set[Path] = set()
    for run in runs:
        if run.resolve() in seen:
            raise InputError(f"{run} is named twice: its answers would count twice")
        seen.add(run.resolve())
    found = [part for run in runs for part in _answers_of(run)]
    answers = tuple(
        ProposedAnswer(case, run, engine, proposals_of(number, case))
        for number, (case, run, engine) in enumerate(found, 1)
    )
    return _save(folder, answers)


def _answers_of(run: Path) -> Iterator[tuple[Case, str, str]]:
    answers = run / "answers.jsonl"
    if not (run / "run.mcap").is_file():
        raise InputError(f"{run} is no folder of a whole run: there is no run.mcap in it")
    if not answers.is_file() and not (run / "turns.jsonl").is_file():
        raise InputError(
            f"{run} holds no answers: curate takes what rynn-brain replay (answers.jsonl) or "
            "rynn-brain demo (turns.jsonl) left"
        )
    if answers.is_file():
        cases = gather(run, None)
        engines = [str(record["engine"]) for record in read_answers(answers)]
    else:
        cases = episode_cases(run / "run.mcap")
        with BagReader(run / "run.mcap") as reader:
            about = reader.info().metadata.get(PROVENANCE, {})
        engines = [about.get("engine", _NOT_RECORDED)] * len(cases)
    for case, engine in zip(cases, engines, strict=True):
        if not encodable(case.expected.text):
            raise InputError(f"{run}: the answer to {case.name} holds half a character")
        yield case, str(run.resolve()), engine


# --- what there is to judge -----------------------------------------------------------------------


def proposals_of(number: int, case: Case) -> tuple[Proposal, ...]:
    """The proposals of answer ``number``, in the order of its text; at least one."""
    reading = read(case, case.expected.text)
    named = (*reading.reasoning, *reading.groundings)
    pointed = sorted((item for item in named if item.points), key=lambda item: item.span)
    found = [
        Proposal(f"{number}.{index}", item, _problem(item)) for index, item in enumerate(pointed, 1)
    ]
    whole = _whole_problem(case, reading)
    if whole or not found:
        found.append(Proposal(f"{number}.0", None, whole))
    return tuple(found)


def read(case: Case, text: str) -> Reading:
    """``text`` as an answer to the case's question."""
    query, finish = case.query, case.expected.finish_reason
    return parse(
        text,
        len(query.frames),
        task=query.task,
        finish_reason=finish,
        thinking=query.thinking,
    )


_FLAGS = {
    Flag.OUT_OF_RANGE: "a coordinate is outside of 0…1000",
    Flag.FRAME_IMPLICIT: "it does not say which of the pictures it means",
    Flag.TRUNCATED: "it was cut",
    Flag.DEGENERATE: "the trajectory goes nowhere",
    Flag.FRACTIONS: "its coordinates are fractions, where 0…1000 is wanted",
    Flag.OUTLINE: "it is the outline of the area, and points inside of it are wanted",
}


def _problem(item: AnyGrounding) -> str:
    told = [text for flag, text in _FLAGS.items() if flag in item.flags]
    if any(value != round(value) for point in item.points for value in point):
        told.append("a coordinate is no whole number")
    return "; ".join(told)


def _whole_problem(case: Case, reading: Reading) -> str:
    """Why no part of the answer can be kept."""
    if case.expected.finish_reason is not FinishReason.STOP:
        return f"the answer was not finished ({case.expected.finish_reason.value})"
    if reading.rejected:
        return f"a part of the answer cannot be used: {reading.rejected[0].detail}"
    missing = [i for i in reading.groundings if isinstance(i, NoGrounding) and not i.abstained]
    return f"the answer points at nothing ({missing[0].reason})" if missing else ""


# --- the folder -----------------------------------------------------------------------------------


def _save(folder: Path, answers: tuple[ProposedAnswer, ...]) -> Curation:
    """The cases first, and ``curation.json`` last: where it is, the folder is whole."""
    records = [answer.record for answer in answers]
    record = {"format": FORMAT, "asked_sha256": _asked_sha256(answers), "answers": records}
    text = json.dumps(record, ensure_ascii=False, indent=1)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    if (folder / CURATION).exists() and _bytes(folder / CURATION) != text.encode():
        raise InputError(
            f"{folder} holds the curation of other runs, and a review of it may exist: choose "
            "another folder with --out"
        )
    save_cases(folder / CASES, [answer.case for answer in answers])
    write_whole(folder / CURATION, text.encode())
    return Curation(sha256, answers)


def load_curation(folder: Path) -> Curation:
    """What `curate` left. Every picture's bytes are compared with their digest.

    Raises `InputError` where a file is missing or was changed.
    """
    data = _bytes(folder / CURATION)
    try:
        record = json.loads(data)
        told, known = list(record["answers"]), record["format"]
        origins = [(str(part["run"]), str(part["engine"])) for part in told]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / CURATION} cannot be read: {error!r}") from error
    if known != FORMAT:
        raise InputError(f"{folder / CURATION} is of format {known!r}, not {FORMAT}")
    cases = load_cases(folder / CASES)
    if cases.problems:
        raise InputError(cases.problems[0])
    answers = tuple(
        ProposedAnswer(case, *origin, proposals_of(number, case))
        for number, (case, origin) in enumerate(zip(cases.cases, origins, strict=False), 1)
    )
    if (
        _asked_sha256(answers) != record.get("asked_sha256")
        or [answer.record for answer in answers] != told
    ):
        raise InputError(
            f"{folder / CASES} and {folder / CURATION} do not belong together, or another version "
            "made them: curate the runs again"
        )
    return Curation(hashlib.sha256(data).hexdigest(), answers)


def _asked_sha256(answers: Sequence[ProposedAnswer]) -> str:
    """Of all words, picture digests and answers."""
    said = (f"{a.case.expected.key}\0{a.case.expected.text}\0" for a in answers)
    return hashlib.sha256("".join(said).encode()).hexdigest()


def encodable(text: str) -> bool:
    """JSON may spell half a character, which no file can hold."""
    return not any(0xD800 <= ord(character) < 0xE000 for character in text)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
