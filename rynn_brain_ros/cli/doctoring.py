"""``rynn-brain doctor``: what this machine has and lacks, and the next command."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rynn_brain_ros.checking.found_models import FoundModel
from rynn_brain_ros.checking.machine import Fact, Survey, survey
from rynn_brain_ros.cli.common import BAD_INPUT, DONE, path

_MARKS = {True: "✓", False: "✗", None: "·"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_doctor)
    parser.description = (
        "Says what this machine has and lacks for RynnBrain: ROS, GPU, torch, models, cameras; and "
        "what to type next."
    )
    parser.add_argument("folders", nargs="*", type=path, metavar="DIR", help="where models lie")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _doctor(options: argparse.Namespace) -> int:
    found = survey(options.folders)
    if options.json:
        print(json.dumps(asdict(found), ensure_ascii=False, default=str))
    else:
        print("\n".join(_page(found)))
    return DONE if all(folder.is_dir() for folder in options.folders) else BAD_INPUT


def _page(found: Survey) -> list[str]:
    width = max(len(fact.name) for fact in found.facts)
    lines = [_fact(fact, width) for fact in found.facts]
    lines += ["", "models:" if found.models else "models: none found (name a folder to look in)"]
    lines += [_model(model) for model in found.models]
    if found.cameras:
        lines += ["", "cameras:", *(f"    {topic}  [{kind}]" for topic, kind in found.cameras)]
    return [*lines, "", "next:", *(f"    {command}" for command in found.commands)]


def _fact(fact: Fact, width: int) -> str:
    todo = f"  → {fact.todo}" if fact.todo else ""
    return f"  {_MARKS[fact.has]} {fact.name.ljust(width)}  {fact.text}{todo}"


def _model(model: FoundModel) -> str:
    if model.problem:
        return f"  ✗ {model.path}: {model.problem}"
    fits = f"fits as {', '.join(model.fits_in)}" if model.fits_in else "does not fit into memory"
    kind = model.name if model.name == model.profile else f"{model.name}, like {model.profile}"
    stored = "" if model.quantization == "none" else f" in {model.quantization}"
    large = model.n_bytes >= 1e9
    size = f"{model.n_bytes / 1e9:.1f} GB" if large else f"{model.n_bytes / 1e6:.0f} MB"
    mark = _MARKS[bool(model.fits_in)]
    return f"  {mark} {kind} ({', '.join(model.roles)}), {size}{stored}, {fits}: {model.path}"
