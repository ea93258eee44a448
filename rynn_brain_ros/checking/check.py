"""Asking an engine the cases again, and what came of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rynn_brain_ros.checking.cases import Case, CaseSet
from rynn_brain_ros.checking.drift import Drift, DriftLimits, measure
from rynn_brain_ros.language import parse
from rynn_brain_ros.models import open_engine
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.safety import EngineIdentity
from rynn_brain_ros.values import (
    Answer,
    Engine,
    EngineError,
    FinishReason,
    InputError,
    Query,
    Reading,
    Task,
)


@dataclass(frozen=True)
class CaseResult:
    """One case on one engine. Without ``answer``, ``failures`` says why there is none; a case
    that is ``skipped`` is not the engine's task and counts for nothing."""

    case: Case
    answer: Answer | None = None
    expected: Reading | None = None
    got: Reading | None = None
    drift: Drift = field(default_factory=Drift)
    failures: tuple[str, ...] = ()
    skipped: bool = False

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True)
class EngineCheck:
    """All cases on one engine. ``spec`` is how it was named on the command line, ``unopened`` why
    it could not be opened, ``None`` where it could, and ``tasks`` what the engine knows."""

    spec: str
    identity: EngineIdentity
    results: tuple[CaseResult, ...]
    limits: DriftLimits
    unopened: EngineError | InputError | None = None
    tasks: frozenset[Task] = frozenset()

    @property
    def asked(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if not result.skipped)

    @property
    def not_asked(self) -> str:
        """What the verdict says nothing about: which cases, and plans, without which the gate lets
        no arm move by it. Empty where it says all."""
        told = []
        skipped = [result.case.query.task.value for result in self.results if result.skipped]
        if skipped:
            tasks = sorted(set(skipped))
            are = "is not this engine's task" if len(tasks) == 1 else "are not this engine's tasks"
            told = [f"{len(skipped)} of {len(self.results)} not asked: {', '.join(tasks)} {are}"]
        if Task.PLAN in self.tasks - {result.case.query.task for result in self.asked}:
            told.append("no plan among the cases: an arm will carry out none of this engine's")
        return "; ".join(told)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is no; empty where it is yes."""
        return tuple(_reasons(self))

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def numbers(self) -> dict[str, Any]:
        """The drift of all cases together, ready for JSON; ``None`` where nothing was measured."""
        return _numbers([r for r in self.asked if r.got is not None], self.asked)


class CheckInterrupted(KeyboardInterrupt):
    """Ctrl-C, with what was asked until then: no grounds for a verdict."""

    def __init__(self, checks: Sequence[EngineCheck]) -> None:
        super().__init__()
        self.checks = tuple(checks)


def _reasons(check: EngineCheck) -> Iterable[str]:
    if check.unopened is not None:
        yield f"the engine could not be opened: {check.unopened}"
        return
    telling = sum(result.drift.telling or result.got is None for result in check.asked)
    if telling < check.limits.min_cases:
        yield (
            f"{telling} cases tell something about motion, at least {check.limits.min_cases} "
            "are needed"
        )
    n, failed = len(check.asked), sum(not result.passed for result in check.asked)
    if failed > n * (1 - check.limits.min_share) + 1e-9:
        yield f"{failed} of {n} cases failed, {check.limits.min_share:.0%} must pass"
    others = {EngineIdentity.of(r.answer) for r in check.asked if r.answer} - {check.identity}
    if others:
        yield f"some answers came from {', '.join(sorted(map(str, others)))}"


def check_specs(
    specs: Sequence[str], cases: CaseSet, limits: DriftLimits, progress: Progress = untold
) -> list[EngineCheck]:
    """Checks engines one after the other: two may not fit into memory together. One that cannot be
    opened is a check that failed; raises what the first one raised where none can, since nothing
    was checked then. Raises `CheckInterrupted` at Ctrl-C."""
    checks: list[EngineCheck] = []
    try:
        for spec in specs:
            checks.append(_check_spec(spec, cases, limits, progress))
    except CheckInterrupted as stop:
        raise CheckInterrupted((*checks, *stop.checks)) from stop
    except KeyboardInterrupt as stop:
        raise CheckInterrupted(checks) from stop
    errors = [check.unopened for check in checks if check.unopened is not None]
    if len(errors) < len(checks):
        return checks
    told = "; ".join(str(error) for error in errors)
    kind = EngineError if isinstance(errors[0], EngineError) else InputError
    raise kind(f"nothing was checked, and no verdict was written: {told}") from errors[0]


def _check_spec(spec: str, cases: CaseSet, limits: DriftLimits, progress: Progress) -> EngineCheck:
    try:
        engine = open_engine(spec, progress)
    except (EngineError, InputError) as error:
        unknown = EngineIdentity(spec.partition(":")[0], "", "", "")
        return EngineCheck(spec, unknown, (), limits, error)
    try:
        return check(spec, engine, cases, limits, progress)
    finally:
        engine.close()


def check(
    spec: str,
    engine: Engine,
    cases: CaseSet,
    limits: DriftLimits,
    progress: Progress = untold,
) -> EngineCheck:
    """Asks every case; one that fails is named, and the others are still asked. Raises
    `CheckInterrupted` at Ctrl-C."""
    results: list[CaseResult] = []
    try:
        for case in cases.cases:
            progress(f"asking {spec}", len(results), len(cases.cases))
            results.append(_result(engine, case, limits))
    except KeyboardInterrupt as stop:
        raise CheckInterrupted([_checked(spec, engine, results, limits)]) from stop
    return _checked(spec, engine, results, limits)


def _checked(
    spec: str, engine: Engine, results: Sequence[CaseResult], limits: DriftLimits
) -> EngineCheck:
    first = next((result.answer for result in results if result.answer is not None), None)
    info = engine.info
    identity = (
        EngineIdentity.of(first)
        if first is not None
        else EngineIdentity(info.name, info.model, info.revision, info.quantization)
    )
    return EngineCheck(spec, identity, tuple(results), limits, tasks=info.tasks)


def _result(engine: Engine, case: Case, limits: DriftLimits) -> CaseResult:
    query, known = case.query, engine.info.tasks
    if query.task not in known:
        why = f"{query.task.value} is not among the engine's tasks"
        return CaseResult(case, failures=(why,), skipped=True)
    expected = _read(query, case.expected.text, case.expected.finish_reason)
    try:
        answer = engine.ask(query)
    except (EngineError, InputError) as error:  # a prompt that the generation does not know
        return CaseResult(case, expected=expected, failures=(f"no answer: {error}",))
    got = _read(query, answer.text, answer.finish_reason)
    drift = measure(expected, got, case.expected.finish_reason, answer.finish_reason, query.task)
    return CaseResult(case, answer, expected, got, drift, tuple(drift.failures(limits)))


def _read(query: Query, text: str, finish: FinishReason) -> Reading:
    n_frames = len(query.frames)
    return parse(text, n_frames, task=query.task, finish_reason=finish, thinking=query.thinking)


def _numbers(answered: Sequence[CaseResult], asked: Sequence[CaseResult]) -> dict[str, Any]:
    drifts = [result.drift for result in answered]
    ious = [value for drift in drifts for value in drift.ious]
    units = [value for drift in drifts for value in drift.units]
    angles = [value for drift in drifts for value in drift.angles_deg]
    same, pairs = (sum(drift.frames[i] for drift in drifts) for i in (0, 1))
    total_s = [r.answer.timings.total_s for r in answered if r.answer is not None]
    known_s = [value for value in total_s if math.isfinite(value)]
    return {
        "cases": len(asked),
        "passed": sum(result.passed for result in asked),
        "unanswered": len(asked) - len(answered),
        "boxes": len(ious),
        "iou_mean": _rounded(statistics.fmean(ious)) if ious else None,
        "iou_min": _rounded(min(ious)) if ious else None,
        "points": len(units),
        "units_mean": _rounded(statistics.fmean(units)) if units else None,
        "units_max": _rounded(max(units)) if units else None,
        "angle_deg_max": _rounded(max(angles)) if angles else None,
        "key_frames": _share([same, pairs]),
        "format": _agreement(drift.valid for drift in drifts),
        "abstention": _agreement(drift.abstained for drift in drifts),
        "decisions": _agreement(drift.decided for drift in drifts),
        "same_words": _share([sum(d.same_words for d in drifts), len(drifts)]),
        "median_s": _rounded(statistics.median(known_s)) if known_s else None,
    }


def _agreement(verdicts: Iterable[bool | None]) -> list[int] | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return _share([sum(known), len(known)])


def _share(counts: list[int]) -> list[int] | None:
    """[agreeing, all], ``None`` of nothing."""
    return counts if counts[1] else None


def _rounded(value: float) -> float:
    return round(value, 4)
