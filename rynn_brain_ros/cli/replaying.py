"""``rynn-brain replay``: ask a recording."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.cli.common import (
    DONE,
    DRIFTED,
    INTERRUPTED,
    path,
    progress_bar,
    refuse_without,
    said,
)
from rynn_brain_ros.memory import SelectionKind, SelectionPolicy
from rynn_brain_ros.memory.selection import MAX_FRAMES
from rynn_brain_ros.models import ENGINES_SPELLINGS, Engines, open_engines
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import (
    ReplayConfig,
    ReplayResult,
    RunFolder,
    Tolerance,
    check_out,
    compare_answers,
    episode_record,
    is_episode,
    read_answers,
    replay,
    replay_episode,
)
from rynn_brain_ros.values import EngineInfo, InputError, Task

_COLUMN = 44
QUESTION_OPTIONS = ("task", "think", "abstain")
FRAME_OPTIONS = ("at", "every", "camera", "frames", "select", "fixed_frame")
_ASKED_OPTIONS = (*QUESTION_OPTIONS, *FRAME_OPTIONS, "expect", "tol_px", "tol_m", "out")
"""What has no meaning where nothing is asked. Their defaults are not the parser's, so that it is
known which ones were given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_replay)
    parser.add_argument("bag", type=path, metavar="BAG", help="a rosbag2 folder, .mcap or .db3")
    parser.description = (
        "Asks a recording a question; or, without --ask, decides a recorded episode again and "
        "compares every decision."
    )
    add_question_arguments(parser)
    parser.add_argument(
        "--engine",
        default="",
        metavar="ENGINE",
        help=f"{ENGINES_SPELLINGS} (color-baseline; for an episode its recorded answers)",
    )
    parser.add_argument("--expect", type=path, metavar="FILE", help="an answers.jsonl to compare")
    parser.add_argument("--tol-px", type=float, metavar="P", help="pixels (2)")
    parser.add_argument("--tol-m", type=float, metavar="M", help="metres (0.01)")
    parser.add_argument("--out", type=path, metavar="DIR", help="the run's folder (runs/replay)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """What a recording is asked, and of which frames: read by `replay_config`."""
    parser.add_argument(
        "--ask", type=said("--ask"), metavar="TEXT", help="the question or instruction"
    )
    tasks = [task.value for task in Task if task is not Task.NAVIGATE]
    parser.add_argument("--task", choices=tasks, help="what kind of answer (describe)")
    parser.add_argument("--think", action="store_true", help="reason first (Chain-of-Point)")
    parser.add_argument("--abstain", action="store_true", help="let the model say: it is not there")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--at", type=float, metavar="S", help="ask S seconds into the bag")
    when.add_argument("--every", type=float, metavar="S", help="ask every S seconds")
    parser.add_argument("--camera", metavar="TOPIC", help="which colour topic")
    parser.add_argument("--frames", type=int, metavar="N", help="show N frames at most (8)")
    kinds = [kind.value for kind in SelectionKind]
    parser.add_argument("--select", choices=kinds, help="which frames (latest)")
    parser.add_argument("--fixed-frame", metavar="FRAME", help="odom or the robot base")


def question_of(options: argparse.Namespace) -> Question:
    task = Task(options.task or Task.DESCRIBE)
    return Question(options.ask, task, options.think, options.abstain)


def replay_config(options: argparse.Namespace, questions: tuple[Question, ...]) -> ReplayConfig:
    frames = 8 if options.frames is None else options.frames
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(f"--frames {frames}: show 1…{MAX_FRAMES} frames")
    return ReplayConfig(
        questions=questions,
        at_s=options.at,
        every_s=options.every,
        camera=options.camera or "",
        fixed_frame=options.fixed_frame or "",
        selection=SelectionPolicy(SelectionKind(options.select or SelectionKind.LATEST), frames),
    )


def _replay(options: argparse.Namespace) -> int:
    if options.ask is None:
        return _replay_episode(options)
    if options.expect is None:
        refuse_without("--expect", options, ("tol_px", "tol_m"))
    out = options.out or Path("runs/replay")
    within = _tolerance(options)
    expected = _expected(options.expect, out) if options.expect else None
    config = replay_config(options, (question_of(options),))
    check_out(options.bag, out)  # before an engine that may take minutes to open
    with progress_bar() as progress:
        engines = open_engines(options.engine or "color-baseline", progress)
    try:
        result = _replay_with_bar(options, config, engines, out)
    finally:
        engines.close()
    answers = read_answers(result.folder / "answers.jsonl")
    drifts = compare_answers(expected, answers, within) if expected is not None else []
    if options.json:
        print(json.dumps(_result_record(result, answers, drifts if expected is not None else None)))
    else:
        _print_replay(result, answers, drifts, expected is not None)
    if not result.complete:
        return INTERRUPTED
    return DRIFTED if drifts else DONE


def _tolerance(options: argparse.Namespace) -> Tolerance:
    given = {"px": options.tol_px, "m": options.tol_m}
    return Tolerance(**{name: value for name, value in given.items() if value is not None})


def _replay_episode(options: argparse.Namespace) -> int:
    refuse_without("--ask", options, _ASKED_OPTIONS)
    with BagReader(options.bag) as reader:
        if not is_episode(reader.info()):
            raise InputError(f"{options.bag} is no recorded episode: say what to --ask it")
    with progress_bar() as progress:
        engines = open_engines(options.engine, progress) if options.engine else None
    try:
        result = replay_episode(options.bag, engines)
    finally:
        if engines is not None:
            engines.close()
    if options.json:
        record = {"turns": result.n_recorded, "drifts": list(result.drifts)}
        print(json.dumps({**episode_record(result.episode), **record}, ensure_ascii=False))
    else:
        for drift in result.drifts:
            print(f"drift: {drift}")
        same = "not all decisions" if result.drifts else "every decision"
        print(f"{result.episode.task}: {same} of {result.n_recorded} turns reproduced")
    return DRIFTED if result.drifts else DONE


def _expected(expect: Path, out: Path) -> list[dict[str, Any]]:
    if expect.resolve() in (path.resolve() for path in RunFolder.answers_of(out)):
        raise InputError(
            f"--expect {expect} is replaced by this run's own answers: copy it out of {out}, or "
            "give another --out"
        )
    return read_answers(expect)


def _replay_with_bar(
    options: argparse.Namespace, config: ReplayConfig, engines: Engines, out: Path
) -> ReplayResult:
    hidden = options.json or not sys.stderr.isatty()
    with tqdm(unit="s", disable=hidden, leave=False) as bar:

        def advance(done_s: float, total_s: float) -> None:
            bar.total = round(total_s, 1)
            bar.update(max(0.0, min(done_s, total_s) - bar.n))

        return replay(options.bag, config, engines, out, advance)


def _result_record(
    result: ReplayResult, answers: list[dict[str, Any]], drifts: list[str] | None
) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "report": str(result.report),
        "complete": result.complete,
        "answers": answers,
        "problems": list(result.problems),
        "drifts": drifts,
    }


def _print_replay(
    result: ReplayResult, answers: list[dict[str, Any]], drifts: list[str], compared: bool
) -> None:
    for answer in answers:
        _print_answer(answer)
    for problem in result.problems:
        print(f"note: {problem}")
    if not result.complete:
        print(f"interrupted after {result.n_answers} answers; what was done is kept")
    for drift in drifts:
        print(f"drift: {drift}")
    if compared and not drifts:
        print("as expected")
    print(f"report: {result.report}")


def _print_answer(answer: dict[str, Any]) -> None:
    print(f"{answer['query_id']}  {answer['task']}: {answer['ask']}")
    title = EngineInfo(answer["engine"], answer["model"]).title
    print(f"  {title}: {answer['text']}")
    for grounding in answer["groundings"]:
        print(f"  {describe_grounding(grounding)}")


def describe_grounding(grounding: dict[str, Any]) -> str:
    """One line for people: where, in pixels and metres, or why not."""
    frame = "" if grounding["frame"] is None else f" in frame {grounding['frame']}"
    pixels = " ".join(f"({u:.0f}, {v:.0f})" for u, v in grounding["points_px"])
    line = f"→ {grounding['kind']}{frame} {pixels}".rstrip().ljust(_COLUMN)
    if grounding["refusal"] is not None:
        return f"{line} refused, {grounding['refusal']['code']}: {grounding['refusal']['text']}"
    place, frame_id = grounding["point_fixed_m"], grounding["fixed_frame_id"]
    if place is None:
        place, frame_id = grounding["point_camera_m"], grounding["frame_id"]
    x, y, z = place
    return f"{line} x {x:.3f}  y {y:.3f}  z {z:.3f} m in {frame_id}"
