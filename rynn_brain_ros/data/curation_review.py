"""A review: what a person decided about each proposal of a curation.

The page saves it as one JSON object::

    {"format": "rynn_brain_review/1", "curation": "9f…", "folder": "/data/curation",
     "reviewer": "Ada", "saved": "2026-01-31T12:00:00.000Z",
     "decisions": [{"proposal": "1.1", "verdict": "accepted"},
                   {"proposal": "2.1", "verdict": "corrected", "points": [[12, 34], [56, 78]]},
                   {"proposal": "2.2", "verdict": "rejected"}]}

Points are whole numbers in 0…1000 of the proposal's own picture; a trajectory and an area may have
more or fewer than the model gave (`Proposal.counts`). What is not decided is not named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rynn_brain_ros.data.curation import Curation, Proposal, encodable
from rynn_brain_ros.values import InputError, Point2

FORMAT = "rynn_brain_review/1"


class Verdict(str, Enum):
    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Decision:
    """``points`` are the corrected ones, in 0…1000; empty unless the verdict is that."""

    verdict: Verdict
    points: tuple[Point2, ...] = ()


@dataclass(frozen=True)
class Review:
    """Decisions by the name of the proposal. ``folder`` is where the curation lay then."""

    path: Path
    curation: str
    folder: Path
    reviewer: str
    saved: str
    decisions: Mapping[str, Decision]


def read_review(path: Path) -> Review:
    """Raises `InputError` with the place where the file is not as the page writes it."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the review {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the review {path} is no whole JSON file: {error}") from error
    keys = {"format", "curation", "folder", "reviewer", "saved", "decisions"}
    _same_keys(record, keys, str(path))
    if record["format"] != FORMAT:
        raise InputError(f"{path} is of format {record['format']!r}, not {FORMAT}")
    texts = {key: record[key] for key in keys - {"decisions"}}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip() or not encodable(value):
            raise InputError(f"{path}: {key} must be a text that is not empty, not {value!r}")
    if not isinstance(record["decisions"], list):
        raise InputError(f"{path}: decisions must be a list")
    decisions: dict[str, Decision] = {}
    for number, part in enumerate(record["decisions"], 1):
        name, decision = _decision(part, f"{path}, decision {number}")
        if name in decisions:
            raise InputError(f"{path}, decision {number}: proposal {name} is decided twice")
        decisions[name] = decision
    return Review(
        path,
        texts["curation"],
        Path(texts["folder"]),
        texts["reviewer"].strip(),
        texts["saved"],
        decisions,
    )


def check_review(review: Review, curation: Curation) -> None:
    """Raises `InputError` where the review is not one of this curation."""
    if review.curation != curation.sha256:
        raise InputError(
            f"{review.path} is the review of another curation ({review.curation[:12]}, and this "
            f"one is {curation.sha256[:12]})"
        )
    proposals = curation.proposals
    for name, decision in review.decisions.items():
        if name not in proposals:
            raise InputError(f"{review.path}: there is no proposal {name!r}")
        _check_decision(proposals[name], decision, f"{review.path}, proposal {name}")


def _check_decision(proposal: Proposal, decision: Decision, where: str) -> None:
    if decision.verdict is Verdict.ACCEPTED and proposal.problem:
        raise InputError(f"{where} cannot be accepted: {proposal.problem}")
    if decision.verdict is Verdict.CORRECTED and not proposal.movable:
        raise InputError(f"{where} has no picture to be corrected in: reject it")
    least, most = proposal.counts
    count = len(decision.points)
    if decision.verdict is Verdict.CORRECTED and not least <= count <= (most or count):
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise InputError(f"{where} has {count} points, not {wanted}: correct it on the page again")


def _decision(part: Any, where: str) -> tuple[str, Decision]:
    corrected = isinstance(part, dict) and part.get("verdict") == Verdict.CORRECTED.value
    _same_keys(part, {"proposal", "verdict"} | ({"points"} if corrected else set()), where)
    known = [verdict.value for verdict in Verdict]
    if part["verdict"] not in known:
        raise InputError(f"{where}: {part['verdict']!r} is no verdict; use {', '.join(known)}")
    points = _points(part["points"], where) if corrected else ()
    return str(part["proposal"]), Decision(Verdict(part["verdict"]), points)


def _points(value: Any, where: str) -> tuple[Point2, ...]:
    pairs = isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value)
    if not pairs or not value:
        raise InputError(f"{where}: points must be a list of [x, y], not {value!r}")
    for number in (number for point in value for number in point):
        if type(number) is not int or not 0 <= number <= 1000:
            raise InputError(f"{where}: {number!r} is no whole number in 0…1000")
    return tuple((x, y) for x, y in value)


def _same_keys(record: Any, keys: set[str], where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where}: a JSON object was expected, not {type(record).__name__}")
    wrong = sorted(keys.symmetric_difference(record))
    if wrong:
        lacks = [key for key in wrong if key in keys]
        why = f"lacks {', '.join(lacks)}" if lacks else f"holds an unknown {', '.join(wrong)}"
        raise InputError(f"{where} {why}: save the review from the page again")
