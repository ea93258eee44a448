"""``rynn-brain record-answers`` and ``rynn-brain check-engine``: what an engine said, and whether
another says the same."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rynn_brain_ros.checking import (
    PAGE,
    Case,
    CaseSet,
    CheckInterrupted,
    DriftLimits,
    EngineCheck,
    GatheringInterrupted,
    check_record,
    check_specs,
    check_table,
    gather,
    load_cases,
    questions_of,
    save_cases,
    write_check,
)
from rynn_brain_ros.cli.common import (
    DONE,
    DRIFTED,
    INTERRUPTED,
    path,
    progress_bar,
    refuse_without,
    say,
)
from rynn_brain_ros.cli.replaying import (
    FRAME_OPTIONS,
    QUESTION_OPTIONS,
    add_question_arguments,
    question_of,
    replay_config,
)
from rynn_brain_ros.config import configure, settings
from rynn_brain_ros.files import refuse_a_file, refuse_to_replace
from rynn_brain_ros.models import ENGINE_SPELLINGS, open_engine
from rynn_brain_ros.replay import ReplayConfig, RunKind, check_run_folder
from rynn_brain_ros.values import InputError


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_record_answers)
    parser.description = (
        "Keeps an engine's answers with their questions and pictures. The source is a recording "
        "with --ask or --questions, or the folder of a run or an episode, which holds answers."
    )
    parser.add_argument("source", type=path, metavar="SOURCE", help="a recording, or a run")
    parser.add_argument(
        "--engine",
        default="",
        metavar="ENGINE",
        help=f"{ENGINE_SPELLINGS} (for a run: the answers that it holds)",
    )
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="a new .jsonl")
    parser.add_argument(
        "--questions", type=path, metavar="FILE", help="lines like affordance: Pick up the cup"
    )
    add_question_arguments(parser)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_check_engine)
    parser.description = (
        "Asks engines the recorded cases again and tells how far their answers drifted. A robot "
        "moves only for an engine whose verdict.json says that it passed."
    )
    parser.add_argument("engines", nargs="+", metavar="ENGINE", help=ENGINE_SPELLINGS)
    parser.add_argument(
        "--cases", type=path, required=True, metavar="FILE",
        help="of rynn-brain record-answers, or a cookbook's cases.json",
    )  # fmt: skip
    parser.add_argument("--out", type=path, default=Path("runs/check"), metavar="DIR")
    for item in settings(DriftLimits):
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=type(item.default),
            default=item.default,
            metavar="N",
            help=f"{item.description.replace('%', '%%')} ({item.default})",
        )
    parser.add_argument("--json", action="store_true", help="print the verdict file")


def _record_answers(options: argparse.Namespace) -> int:
    config = _questions_config(options)
    _check_cases_file(options.out)  # before an engine that may take minutes to open
    try:
        cases = _gathered(options, config)
    except GatheringInterrupted as stop:
        return _keep_part(options.out, stop.cases)
    print(_kept(options.out, cases))
    return DONE


def _gathered(options: argparse.Namespace, config: ReplayConfig | None) -> tuple[Case, ...]:
    with progress_bar() as progress:
        engine = open_engine(options.engine, progress) if options.engine else None
        try:
            return gather(options.source, engine, config, progress)
        finally:
            if engine is not None:
                engine.close()


def _keep_part(out: Path, cases: Sequence[Case]) -> int:
    if not cases:
        say("interrupted before the first answer: nothing was kept")
    else:
        say(f"interrupted: {_kept(_part_of(out), cases)}")
    return INTERRUPTED


def _part_of(out: Path) -> Path:
    """Where the answers are kept that an interrupted command got."""
    return out.with_name(f"{out.stem}.partial{out.suffix}")


def _kept(out: Path, cases: Sequence[Case]) -> str:
    save_cases(out, cases)
    models = ", ".join(sorted({case.expected.model for case in cases}))
    return f"{len(cases)} answers of {models} kept in {out}"


def _check_cases_file(out: Path) -> None:
    if out.suffix != ".jsonl":
        raise InputError(f"--out {out}: answers are kept in a file whose name ends in .jsonl")
    refuse_a_file(out.parent)
    refuse_to_replace(out)
    refuse_to_replace(_part_of(out))


def _questions_config(options: argparse.Namespace) -> ReplayConfig | None:
    """``None`` where nothing is asked and the source must hold the answers."""
    if options.ask is None:
        refuse_without("--ask", options, QUESTION_OPTIONS)
        if options.questions is None:
            refuse_without("--ask or --questions", options, FRAME_OPTIONS)
    asked = () if options.ask is None else (question_of(options),)
    listed = tuple(questions_of(options.questions)) if options.questions else ()
    if options.questions and not listed:
        raise InputError(f"{options.questions} holds no question")
    questions = (*asked, *listed)
    return replay_config(options, questions) if questions else None


def _check_engine(options: argparse.Namespace) -> int:
    limits = configure(
        DriftLimits, {item.name: getattr(options, item.name) for item in settings(DriftLimits)}
    )
    cases = load_cases(options.cases)
    check_run_folder(options.out, RunKind.CHECK)  # before engines that may take minutes to open
    try:
        with progress_bar() as progress:
            checks = check_specs(options.engines, cases, limits, progress)
    except CheckInterrupted as stop:
        print("\n".join(check_table(stop.checks) if stop.checks else ()))
        say("interrupted: not all was asked, so no verdict was written")
        return INTERRUPTED
    record = check_record(checks, cases)
    verdict = write_check(options.out, checks, cases, record)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        _print_checks(checks, cases, verdict)
    return DONE if all(check.passed for check in checks) else DRIFTED


def _print_checks(checks: Sequence[EngineCheck], cases: CaseSet, verdict: Path) -> None:
    for problem in cases.problems:
        print(f"note: {problem}")
    print("\n".join(check_table(checks)))
    for check in checks:
        for result in check.asked:
            for failure in result.failures:
                print(f"{check.spec}: {result.case.name}: {failure}")
        if check.not_asked:
            print(f"{check.spec}: {check.not_asked}")
        for reason in check.reasons:
            print(f"{check.spec} did not pass: {reason}")
    print(f"report: {verdict.parent / PAGE}")
    print(f"verdict: {verdict}")
