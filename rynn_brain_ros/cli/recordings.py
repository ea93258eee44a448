"""``rynn-brain inspect`` and ``rynn-brain parse``: what is in a bag, what is in an answer."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rynn_brain_ros.bags import BagInfo, BagReader, CameraTopics, find_cameras
from rynn_brain_ros.cli.common import DONE, path
from rynn_brain_ros.language import parse
from rynn_brain_ros.replay import grounding_record, rejected_records
from rynn_brain_ros.values import FinishReason, InputError, Task


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_inspect)
    parser.add_argument("bag", type=path, metavar="BAG")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_parse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_parse_answer)
    parser.description = "Reads an answer on standard input and prints JSON."
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="frames that were shown")
    tasks = [task.value for task in Task]
    parser.add_argument("--task", choices=tasks, help="what was asked for")
    parser.add_argument("--truncated", action="store_true", help="the token budget ran out")
    parser.add_argument("--json", action="store_true", help="on one line")


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
