"""``rynn-brain record``, ``convert`` and ``dataset``: from demonstrations to data sets."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rynn_brain_ros.cli.common import DONE, DRIFTED, INTERRUPTED, path, say
from rynn_brain_ros.data import Contract, Dataset, convert
from rynn_brain_ros.data.converting import Report
from rynn_brain_ros.data.importing import import_bridge, import_franka_log
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.page import write_page
from rynn_brain_ros.data.rearranging import merge, split
from rynn_brain_ros.data.verifying import problems
from rynn_brain_ros.demo import StageConfig
from rynn_brain_ros.demo.teleoperating import OPERATORS, demonstrate, is_recorded, partial_of
from rynn_brain_ros.models import Engines, open_engines
from rynn_brain_ros.values import InputError

# --- record --------------------------------------------------------------------------------------


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_record)
    parser.add_argument("--world", default="table", choices=("table",), help="where (table)")
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="how many (1)")
    parser.add_argument("--operator", default="human", choices=OPERATORS, help="whose hand (human)")
    parser.add_argument("--kind", default="one", metavar="KIND", help="sort of task (one)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first scene (0)")
    parser.add_argument(
        "--contract", default="sim_table", metavar="C", help="a file, or a name (sim_table)"
    )
    parser.add_argument("--out", type=path, default=Path("runs/record"), metavar="DIR")


def _record(options: argparse.Namespace) -> int:
    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes}: record at least one")
    contract, engines = find_contract(options.contract), open_engines("color-baseline")
    numbers = range(options.seed, options.seed + options.episodes)
    with tqdm(numbers, unit="episode", disable=not sys.stderr.isatty(), leave=False) as bar:
        for seed in bar:
            file = options.out / f"{options.world}-{options.operator}-{seed:05d}.mcap"
            config = StageConfig(world=options.world, seed=seed, kind=options.kind)
            try:
                told = _recorded(config, engines, contract, file, options.operator)
            except KeyboardInterrupt:
                bar.close()
                return _interrupted(file, seed - options.seed, options.episodes)
            tqdm.write(f"{file}: {told}", file=sys.stdout)
    return DONE


def _recorded(
    config: StageConfig, engines: Engines, contract: Contract, file: Path, operator: str
) -> str:
    if is_recorded(config, contract, file, operator=operator):
        return "recorded before"
    made = demonstrate(config, engines, contract, file, operator=operator)
    return f"{made.seconds:.1f} s, {'success' if made.success else 'failure'}, {made.task}"


def _interrupted(file: Path, n_whole: int, n: int) -> int:
    partial = partial_of(file)
    begun = f"; of the one begun, {partial} holds what was done" if partial.exists() else ""
    say(f"interrupted: {n_whole} of {n} episodes are whole{begun}.")
    say("the same command goes on from there")
    return INTERRUPTED


# --- convert -------------------------------------------------------------------------------------


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_convert)
    parser.add_argument("bags", type=path, nargs="+", metavar="BAG")
    parser.add_argument("--contract", required=True, metavar="C", help="a file, or a name")
    parser.add_argument("--out", type=path, required=True, metavar="DATASET")
    parser.add_argument("--task", default="", metavar="TEXT", help="where nobody said what is done")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")


def _convert(options: argparse.Namespace) -> int:
    if options.jobs < 0:
        raise InputError(f"--jobs {options.jobs}: 1 or more, or 0 for one a core")
    contract = find_contract(options.contract)
    hidden = options.json or not sys.stderr.isatty()
    with tqdm(total=len(options.bags), unit="bag", disable=hidden, leave=False) as bar:

        def done(_: Path, reports: Sequence[Report]) -> None:
            bar.update()
            for report in reports if not options.json else ():
                tqdm.write(_told(report), file=sys.stdout)

        made = convert(
            options.bags,
            contract,
            options.out,
            task=options.task,
            jobs=options.jobs or os.cpu_count() or 1,
            done=done,
        )
    is_whole = made.kept == len(made.reports) and made.kept + made.known > 0
    if options.json:
        print(json.dumps({"known": made.known, "episodes": made.reports}, ensure_ascii=False))
        return DONE if is_whole else DRIFTED
    before = f", {made.known} known before" if made.known else ""
    print(
        f"{options.out}: {made.kept} of {len(made.reports)} episodes, {made.frames} frames{before}"
    )
    return DONE if is_whole else DRIFTED


def _told(report: Report) -> str:
    """An episode in a line, and one for each fault."""
    cameras = report["cameras"].values()
    repeated = sum(camera["repeated"] for camera in cameras)
    dropped = sum(camera["dropped"] for camera in cameras)
    head = "kept    " if report["kept"] else "left out"
    lines = [
        f"{head} {report['episode']}: {report['frames']} frames, {report['recorded_s']:.1f} s"
        f" recorded, {repeated} images repeated, {dropped} dropped; {report['task'] or 'no task'}"
    ]
    for fault in report["faults"]:
        times = f" ({fault['times']} times)" if fault["times"] > 1 else ""
        lines.append(f"  {fault['text']}{times}")
    return "\n".join(lines)


# --- dataset -------------------------------------------------------------------------------------


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspecting = commands.add_parser("inspect", help="what is in it")
    stats = commands.add_parser("stats", help="what its numbers are like")
    checking = commands.add_parser("check", help="whether it keeps what its tables promise")
    for command, run in ((inspecting, _inspect), (stats, _stats), (checking, _check)):
        command.set_defaults(run=run)
        command.add_argument("dataset", type=path, metavar="DATASET")
        command.add_argument("--json", action="store_true", help="print one JSON object")
    merging = commands.add_parser("merge", help="several into one")
    merging.set_defaults(run=_merge)
    merging.add_argument("datasets", type=path, nargs="+", metavar="DATASET")
    merging.add_argument("--out", type=path, required=True, metavar="DATASET")
    splitting = commands.add_parser("split", help="one into parts")
    splitting.set_defaults(run=_split)
    splitting.add_argument("dataset", type=path, metavar="DATASET")
    splitting.add_argument(
        "parts",
        nargs="+",
        metavar="NAME=SHARE",
        help="train=0.9 val=0.1; below 1 in sum they still share all episodes",
    )
    splitting.add_argument("--out", type=path, required=True, metavar="DIR")
    showing = commands.add_parser("visualize", help="an episode as a page to scrub through")
    showing.set_defaults(run=_visualize)
    showing.add_argument("dataset", type=path, metavar="DATASET")
    showing.add_argument("--episode", type=int, default=0, metavar="N", help="which (0)")
    showing.add_argument("--out", type=path, metavar="FILE", help="(DATASET/episode-N.html)")
    importing = commands.add_parser("import", help="from other projects' formats")
    importing.set_defaults(run=_import)
    importing.add_argument("kind", choices=("bridge", "franka-log"))
    importing.add_argument("files", type=path, nargs="+", metavar="FILE")
    importing.add_argument("--task", default="", metavar="TEXT", help="franka-log: what was done")
    importing.add_argument("--fps", type=int, default=30, metavar="N", help="franka-log (30)")
    importing.add_argument("--out", type=path, required=True, metavar="DATASET")


def _inspect(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    spec = dataset.spec
    if options.json:
        episodes = [{"length": e.length, "tasks": e.tasks} for e in dataset.episodes]
        print(json.dumps({**dataset.info, "tasks": dataset.tasks, "episodes": episodes}))
        return DONE
    seconds = dataset.n_frames / spec.fps
    print(
        f"{dataset.root}: {spec.robot_type}, {len(dataset.episodes)} episodes, "
        f"{dataset.n_frames} frames at {spec.fps} a second, {seconds:.1f} s"
    )
    for key, feature in spec.features.items():
        shape = "×".join(str(n) for n in feature.shape)
        told = f"  {', '.join(feature.names)}" if feature.names else ""
        print(
            f"  {key}  {feature.dtype} {shape}{f' {feature.units}' if feature.units else ''}{told}"
        )
    for task in dataset.tasks:
        count = sum(task in episode.tasks for episode in dataset.episodes)
        print(f"  {count} × {task}")
    return DONE


def _stats(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    stats = dataset.stats()
    if options.json:
        told = {k: {n: v.tolist() for n, v in part.items()} for k, part in stats.items()}
        print(json.dumps(told))
        return DONE
    for key, feature in dataset.spec.features.items():
        if key not in stats:
            continue
        print(f"{key}{f' [{feature.units}]' if feature.units else ''}")
        part = {name: values.reshape(-1) for name, values in stats[key].items()}
        names = feature.names or (("red", "green", "blue") if feature.is_video else ())
        for i in range(len(part["mean"])):
            name = names[i] if i < len(names) else str(i)
            row = "  ".join(f"{n} {part[n][i]:9.4f}" for n in ("min", "mean", "std", "max"))
            print(f"  {name:28} {row}")
    return DONE


def _check(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    found = list(problems(dataset))
    if options.json:
        print(json.dumps({"problems": found}, ensure_ascii=False))
    else:
        for problem in found:
            print(problem)
        print(f"{len(dataset.episodes)} episodes, {len(found) or 'no'} problems")
    return DRIFTED if found else DONE


def _merge(options: argparse.Namespace) -> int:
    with _episodes() as bar:
        count = merge(options.datasets, options.out, bar.update)
    print(f"{options.out}: {count} episodes")
    return DONE


def _split(options: argparse.Namespace) -> int:
    parts: dict[str, float] = {}
    for text in options.parts:
        name, _, share = text.partition("=")
        if name in parts:
            raise InputError(f"{text!r}: the part {name!r} is named twice")
        try:
            parts[name] = float(share)
        except ValueError as error:
            raise InputError(f"{text!r} is not NAME=SHARE, such as train=0.9") from error
        if not name or Path(name).name != name:
            raise InputError(f"{text!r}: {name!r} is no name for a folder")
    with _episodes() as bar:
        counts = split(options.dataset, parts, options.out, bar.update)
    for name, count in counts.items():
        print(f"{options.out / name}: {count} episodes")
    return DONE


def _visualize(options: argparse.Namespace) -> int:
    out = options.out or options.dataset / f"episode-{options.episode}.html"
    write_page(Dataset(options.dataset), options.episode, out)
    say(f"open {out}")
    return DONE


def _import(options: argparse.Namespace) -> int:
    if options.kind == "bridge":
        with _episodes() as bar:
            count = import_bridge(options.files, options.out, bar.update)
    else:
        count = import_franka_log(options.files, options.out, options.task, options.fps)
    print(f"{options.out}: {count} episodes")
    return DONE


@contextmanager
def _episodes() -> Iterator[Any]:
    with tqdm(unit="episode", disable=not sys.stderr.isatty(), leave=False) as bar:
        yield bar
