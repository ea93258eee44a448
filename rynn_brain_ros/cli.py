"""The command ``rynn-brain``.

Exit codes: 0 done, 1 the answers drifted from what was expected, 2 bad input, 3 the engine could
not answer, 4 a result could not be written, 130 interrupted (what was done is kept).
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rynn_brain_ros import __version__
from rynn_brain_ros.bags import BagInfo, BagReader, CameraTopics, find_cameras
from rynn_brain_ros.demo import run_demo
from rynn_brain_ros.language import parse
from rynn_brain_ros.memory import SelectionKind, SelectionPolicy
from rynn_brain_ros.memory.selection import MAX_FRAMES
from rynn_brain_ros.models import ENGINE_SPELLINGS, Engines, open_engine
from rynn_brain_ros.planning import Question
from rynn_brain_ros.replay import (
    ReplayConfig,
    ReplayResult,
    RunFolder,
    Tolerance,
    compare_answers,
    grounding_record,
    read_answers,
    rejected_records,
    replay,
)
from rynn_brain_ros.values import (
    EngineError,
    FinishReason,
    InputError,
    OutputError,
    RynnBrainError,
    Task,
)

DONE, DRIFTED, BAD_INPUT, ENGINE_FAILED, NOT_WRITTEN, INTERRUPTED = 0, 1, 2, 3, 4, 130
_COLUMN = 44


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without arrows is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to tell
        return DONE
    except RynnBrainError as error:
        _say(f"rynn-brain: {error}")
        return _exit_code(error)


def _exit_code(error: RynnBrainError) -> int:
    if isinstance(error, OutputError):
        return NOT_WRITTEN
    return ENGINE_FAILED if isinstance(error, EngineError) else BAD_INPUT


def _say(text: str) -> None:
    """To people, on standard error: standard output is for results."""
    print(text, file=sys.stderr)


# --- arguments ---------------------------------------------------------------------------------


def _path(text: str) -> Path:
    """``Path("")`` would mean the folder that one happens to be in."""
    if not text.strip():
        raise InputError("an empty path was given: name a file or a folder")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rynn-brain", description="An embodied brain for robots.")
    parser.add_argument("--version", action="version", version=f"rynn-brain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_replay(commands.add_parser("replay", help="ask a recording"))
    _add_inspect(commands.add_parser("inspect", help="what a recording holds, and what is wrong"))
    _add_parse(commands.add_parser("parse", help="what the brain understands of an answer"))
    _add_demo(commands.add_parser("demo", help="a rendered scene with known truth, bag to metres"))
    return parser


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_replay)
    parser.add_argument("bag", type=_path, metavar="BAG", help="a rosbag2 folder, .mcap or .db3")
    parser.add_argument("--ask", required=True, metavar="TEXT", help="the question or instruction")
    tasks = [task.value for task in Task if task is not Task.NAVIGATE]
    parser.add_argument("--task", default="describe", choices=tasks, help="what kind of answer")
    parser.add_argument("--think", action="store_true", help="reason first (Chain-of-Point)")
    parser.add_argument("--abstain", action="store_true", help="let the model say: it is not there")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--at", type=float, metavar="S", help="ask S seconds into the bag")
    when.add_argument("--every", type=float, metavar="S", help="ask every S seconds")
    parser.add_argument("--camera", default="", metavar="TOPIC", help="which colour topic")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="show N frames at most")
    kinds = [kind.value for kind in SelectionKind]
    parser.add_argument("--select", default="latest", choices=kinds, help="which frames (latest)")
    parser.add_argument("--fixed-frame", default="", metavar="FRAME", help="odom or the robot base")
    parser.add_argument(
        "--engine", default="color-baseline", metavar="ENGINE", help=ENGINE_SPELLINGS
    )
    parser.add_argument("--expect", type=_path, metavar="FILE", help="an answers.jsonl to compare")
    parser.add_argument("--tol-px", type=float, default=2.0, metavar="P", help="pixels (2)")
    parser.add_argument("--tol-m", type=float, default=0.01, metavar="M", help="metres (0.01)")
    parser.add_argument("--out", type=_path, default=Path("runs/replay"), metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_inspect)
    parser.add_argument("bag", type=_path, metavar="BAG")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_parse(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_parse_answer)
    parser.description = "Reads an answer on standard input and prints JSON."
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="frames that were shown")
    tasks = [task.value for task in Task]
    parser.add_argument("--task", choices=tasks, help="what was asked for")
    parser.add_argument("--truncated", action="store_true", help="the token budget ran out")
    parser.add_argument("--json", action="store_true", help="on one line")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_demo)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which scene")
    parser.add_argument("--out", type=_path, default=Path("runs/demo"), metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print only the JSON object")


# --- replay ------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    within = Tolerance(options.tol_px, options.tol_m)
    expected = _expected(options.expect, options.out) if options.expect else None
    config = _replay_config(options)
    engines = Engines.one(open_engine(options.engine))
    try:
        result = _replay_with_bar(options, config, engines)
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


def _expected(expect: Path, out: Path) -> list[dict[str, Any]]:
    if expect.resolve() in (path.resolve() for path in RunFolder.answers_of(out)):
        raise InputError(
            f"--expect {expect} is replaced by this run's own answers: copy it out of {out}, or "
            "give another --out"
        )
    return read_answers(expect)


def _replay_config(options: argparse.Namespace) -> ReplayConfig:
    if not 1 <= options.frames <= MAX_FRAMES:
        raise InputError(f"--frames {options.frames}: show 1…{MAX_FRAMES} frames")
    question = Question(options.ask, Task(options.task), options.think, options.abstain)
    return ReplayConfig(
        questions=(question,),
        at_s=options.at,
        every_s=options.every,
        camera=options.camera,
        fixed_frame=options.fixed_frame,
        selection=SelectionPolicy(SelectionKind(options.select), options.frames),
    )


def _replay_with_bar(
    options: argparse.Namespace, config: ReplayConfig, engines: Engines
) -> ReplayResult:
    hidden = options.json or not sys.stderr.isatty()
    with tqdm(unit="s", disable=hidden, leave=False) as bar:

        def advance(done_s: float, total_s: float) -> None:
            bar.total = round(total_s, 1)
            bar.update(max(0.0, min(done_s, total_s) - bar.n))

        return replay(options.bag, config, engines, options.out, advance)


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
    print(f"  {answer['engine']}: {answer['text']}")
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


# --- inspect -----------------------------------------------------------------------------------


def _inspect(options: argparse.Namespace) -> int:
    with BagReader(options.bag) as reader:
        info = reader.info()
        cameras = find_cameras(info, reader.first_encoding)
    if options.json:
        print(json.dumps(_inspection(info, cameras), ensure_ascii=False))
        return DONE
    print(f"{info.path}: {info.storage}, {info.duration_s:.2f} s, {info.message_count} messages")
    for topic in info.topics:
        note = "" if topic.decodable else f"   cannot be read: {topic.problem}"
        print(f"  {topic.count:>8}  {topic.topic}  [{topic.typename}]{note}")
    print("cameras:" if cameras else "cameras: none")
    for camera in cameras:
        print(f"  {camera.name or '/'}: {_camera_abilities(camera)}")
        for problem in camera.problems:
            print(f"    {problem}")
    for problem in info.problems:
        print(f"problem: {problem}")
    return DONE


def _camera_abilities(camera: CameraTopics) -> str:
    parts = [f"colour {camera.color_topic or '–'}", f"depth {camera.depth_topic or '–'}"]
    parts.append(f"camera_info {camera.color_info_topic or '–'}")
    return ", ".join(parts)


def _inspection(info: BagInfo, cameras: Sequence[CameraTopics]) -> dict[str, Any]:
    return {
        "path": str(info.path),
        "storage": info.storage,
        "start_ns": info.start_ns,
        "end_ns": info.end_ns,
        "duration_s": info.duration_s,
        "message_count": info.message_count,
        "declared_count": info.declared_count,
        "topics": [
            {
                "topic": topic.topic,
                "type": topic.typename,
                "count": topic.count,
                "decodable": topic.decodable,
                "problem": topic.problem,
            }
            for topic in info.topics
        ],
        "cameras": [
            {
                "name": camera.name,
                "color": camera.color_topic,
                "camera_info": camera.color_info_topic,
                "depth": camera.depth_topic,
                "depth_info": camera.depth_info_topic,
                "can_show": camera.can_show,
                "can_lift": camera.can_lift,
                "problems": list(camera.problems),
            }
            for camera in cameras
        ],
        "problems": list(info.problems),
        "metadata": {name: dict(record) for name, record in info.metadata.items()},
    }


# --- parse -------------------------------------------------------------------------------------


def _parse_answer(options: argparse.Namespace) -> int:
    if options.frames < 0:
        raise InputError(f"--frames {options.frames}: the number of frames shown is 0 or more")
    text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    reading = parse(
        text.removesuffix("\n"),
        options.frames,
        task=Task(options.task) if options.task else None,
        finish_reason=FinishReason.LENGTH if options.truncated else FinishReason.STOP,
    )
    record = {
        "groundings": [grounding_record(g) for g in reading.groundings],
        "reasoning": [grounding_record(g) for g in reading.reasoning],
        "rejected": rejected_records(reading),
        "actions": list(reading.actions),
        "done": reading.done,
        "answer_text": reading.answer_text,
    }
    print(json.dumps(record, ensure_ascii=False) if options.json else _indented(record))
    return DONE


def _indented(record: dict[str, Any]) -> str:
    """Indented JSON with lists of numbers on one line. (A raw newline is never inside a string.)"""
    text = json.dumps(record, ensure_ascii=False, indent=2)
    return re.sub(r"\[\n\s+([-+.,\de\s]+?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)


# --- demo --------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_demo(options.out, options.seed, Path(scratch))
    if not options.json:
        for line in outcome.lines:
            print(line)
    print(json.dumps(outcome.summary))
    return DONE if outcome.summary["success"] else DRIFTED


if __name__ == "__main__":
    sys.exit(main())
