"""Cases: questions with their pictures, and the answers that are expected.

A cases file is a recorded-answers file (see `models.recorded`) whose lines also hold the question,
so that any engine can be asked it again::

    {"model": …, "messages": […], "text": …,
     "query": {"id": "q0001-…", "task": "affordance", "instruction": "Pick up the red cube", …,
               "frames": [{"file": "cases.frames/9f….jpg", "sha256": "9f…", "camera": …,
                           "stamp_ns": …}], "history": [{"frames": […], "answer": "…"}]}}

The pictures lie beside it, in the folder that ``file`` names, byte for byte as they were shown. The
same file serves ``recorded:FILE``. Also read is the authors' ``cases.json`` of their cookbooks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rynn_brain_ros.files import write_whole
from rynn_brain_ros.language import compose, default_budget
from rynn_brain_ros.memory import select
from rynn_brain_ros.memory.selection import VISUAL_TOKENS
from rynn_brain_ros.models import RecordedAnswer, parse_recorded, plain_messages
from rynn_brain_ros.models.profiles import profile_for
from rynn_brain_ros.values import (
    EncodedImage,
    Frame,
    FrameSet,
    ImageError,
    InputError,
    Query,
    QueryBudget,
    SelectedFrame,
    Task,
    Turn,
)

_SUFFIX = {"image/jpeg": "jpg", "image/png": "png"}


@dataclass(frozen=True)
class Case:
    """A question, and what a trusted engine answered."""

    query: Query
    expected: RecordedAnswer

    @property
    def name(self) -> str:
        return self.query.query_id


@dataclass(frozen=True)
class CaseSet:
    """The usable cases of a file, and sentences about those that are not.

    ``sha256`` is of all questions, pictures and expected answers that are used.
    """

    path: Path
    cases: tuple[Case, ...]
    problems: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        parts = (f"{c.name}\0{c.expected.key}\0{c.expected.text}\0" for c in self.cases)
        return hashlib.sha256("".join(parts).encode()).hexdigest()


# --- writing --------------------------------------------------------------------------------------


def save_cases(path: Path, cases: Sequence[Case]) -> None:
    """Writes the pictures beside ``path``, then the file, each whole. Raises `OutputError`."""
    folder = f"{path.stem}.frames"
    lines = [_line(case, folder) for case in cases]
    for frame in {f.sha256: f for case in cases for f in _all_frames(case.query)}.values():
        write_whole(path.parent / _file(frame, folder), frame.image)
    write_whole(path, "".join(lines).encode())


def _all_frames(query: Query) -> Iterable[SelectedFrame]:
    for frames in (*(turn.frames for turn in query.history), query.frames):
        yield from frames


def _file(frame: SelectedFrame, folder: str) -> str:
    return f"{folder}/{frame.sha256[:32]}.{_SUFFIX.get(frame.mime, 'png')}"


def _line(case: Case, folder: str) -> str:
    query = case.query

    def plain(frames: FrameSet) -> list[dict[str, Any]]:
        return [
            {
                "file": _file(f, folder),
                "sha256": f.sha256,
                "camera": f.frame.camera,
                "stamp_ns": f.frame.stamp_ns,
            }
            for f in frames
        ]

    record = json.loads(case.expected.to_json())
    record["query"] = {
        "id": query.query_id,
        "task": query.task.value,
        "instruction": query.instruction,
        "thinking": query.thinking,
        "abstain": query.abstain,
        "max_new_tokens": query.budget.max_new_tokens,
        "timeout_s": query.budget.timeout_s,
        "max_visual_tokens": query.frames.max_visual_tokens,
        "frames": plain(query.frames),
        "history": [
            {"frames": plain(turn.frames), "answer": turn.answer, "refused": turn.refused}
            for turn in query.history
        ],
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


# --- reading --------------------------------------------------------------------------------------


def load_cases(path: Path) -> CaseSet:
    """Reads a cases file, or a cookbook's ``cases.json``. A case whose pictures are missing or
    changed becomes a problem, and the others still count. Raises `InputError` where the file is
    none, or no case is left."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read cases from {path}: {error}") from error
    listed = _cookbook_cases(path, text) if _is_cookbook(text) else _own_cases(path, text)
    cases, left_out = [], dict[str, list[str]]()
    for name, case in listed:
        if isinstance(case, str):
            left_out.setdefault(case, []).append(name)
        else:
            cases.append(case)
    problems = tuple(f"left out {', '.join(names)}: {why}" for why, names in left_out.items())
    if not cases:
        why = f": {problems[0]}" if problems else "; make some with rynn-brain record-answers"
        raise InputError(f"{path} holds no case that can be asked{why}")
    return CaseSet(path, tuple(cases), problems)


def _own_cases(path: Path, text: str) -> Iterable[tuple[str, Case | str]]:
    """A case's name, and the case or why it cannot be used."""
    # splitlines() would also split at U+2028 and U+0085, which JSON may hold inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        expected = parse_recorded(path, number, line)
        record = json.loads(line).get("query")
        if record is None:
            raise InputError(
                f"{path}, line {number} holds an answer and not its question: make the file with "
                "rynn-brain record-answers"
            )
        name = str(record.get("id", number)) if isinstance(record, dict) else str(number)
        try:
            yield name, Case(_query(record, path.parent), expected)
        except (InputError, OSError) as error:
            yield name, str(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: its query cannot be read ({type(error).__name__}: {error})"
            ) from error


def _query(record: Mapping[str, Any], folder: Path) -> Query:
    frames = _frame_set(record["frames"], folder, int(record["max_visual_tokens"]))
    return Query(
        query_id=str(record["id"]),
        task=Task(record["task"]),
        instruction=str(record["instruction"]),
        frames=frames,
        budget=QueryBudget(int(record["max_new_tokens"]), float(record["timeout_s"])),
        history=tuple(
            Turn(
                _frame_set(turn["frames"], folder, VISUAL_TOKENS),
                str(turn["answer"]),
                str(turn["refused"]),
            )
            for turn in record["history"]
        ),
        thinking=bool(record["thinking"]),
        abstain=bool(record["abstain"]),
    )


def _frame_set(records: Iterable[Mapping[str, Any]], folder: Path, tokens: int) -> FrameSet:
    return FrameSet(tuple(_frame(record, folder) for record in records), tokens)


def _frame(record: Mapping[str, Any], folder: Path) -> SelectedFrame:
    path = folder / str(record["file"])
    frame = _picture(path, str(record["camera"]), int(record["stamp_ns"]))
    if frame.sha256 != record["sha256"]:
        raise InputError(f"{path} is not the picture that was shown: its bytes have changed")
    return frame


def _picture(path: Path, camera: str, stamp_ns: int) -> SelectedFrame:
    """A picture's own bytes as a frame. Raises `InputError`."""
    try:
        image = EncodedImage(path.suffix.lstrip("."), path.read_bytes(), compressed=True)
        return select(Frame(camera, stamp_ns, camera, image))
    except OSError as error:
        raise InputError(f"its picture {path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise InputError(f"its picture {path} cannot be decoded: {error}") from error


# --- the authors' cookbooks -----------------------------------------------------------------------

_COOKBOOK = "rynnbrain-cookbook-cases/"
_TASKS = {
    "spatial_understanding": Task.DESCRIBE,
    "object_understanding": Task.DESCRIBE,
    "ocr": Task.DESCRIBE,
    "counting": Task.COUNT,
    "object_location": Task.OBJECT,
    "area_location": Task.AREA,
    "affordance_location": Task.AFFORDANCE,
    "trajectory_location": Task.TRAJECTORY,
    "manipulation_planning": Task.PLAN,
    "navigation": Task.NAVIGATE,
    "contact_point": Task.GRASP,
}
_GOALS = {
    Task.PLAN: re.compile(r"for the goal: (.+?)\n"),
    Task.NAVIGATE: re.compile(r"Your task is to (.+?) Devise"),
}
_PERIOD_NS = 500_000_000  # the cookbooks' films are shown at 2 Hz


def _is_cookbook(text: str) -> bool:
    return text.lstrip().startswith("{") and _COOKBOOK in text[:200]


def _cookbook_cases(path: Path, text: str) -> Iterable[tuple[str, Case | str]]:
    try:
        records = json.loads(text)["cases"]
        for record in records:
            name = str(record["id"])
            if not record["frames_included"]:
                yield name, "its pictures are not part of the collection"
                continue
            try:
                yield name, _cookbook_case(record, path.parent)
            except InputError as error:
                yield name, str(error)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} cannot be read as cookbook cases ({type(error).__name__}: {error})"
        ) from error


def _cookbook_case(record: Mapping[str, Any], folder: Path) -> Case:
    task = _TASKS[record["task"]]
    *earlier, last = record["messages"]
    turns = tuple(
        Turn(_shown(user, folder), answer["content"][0]["text"])
        for user, answer in pairwise(earlier)
        if answer["role"] == "assistant"
    )
    goal = _GOALS[task].search(record["prompt"]) if task in _GOALS else None
    query = Query(
        query_id=record["id"],
        task=task,
        instruction=goal[1] if goal else record["prompt"].split("\n")[0],
        frames=_shown(last, folder),
        budget=default_budget(task),
        history=turns,
    )
    generation = profile_for(record["model"]).generation
    messages = plain_messages(compose(query, generation))
    return Case(
        query, RecordedAnswer(record["model"], messages, record["output"], generation=generation)
    )


def _shown(message: Mapping[str, Any], folder: Path) -> FrameSet:
    names = [part["image"] for part in message["content"] if part["type"] == "image"]
    frames = (_picture(folder / n, "cookbook", i * _PERIOD_NS) for i, n in enumerate(names))
    return FrameSet(tuple(frames), VISUAL_TOKENS // max(1, len(names)))
