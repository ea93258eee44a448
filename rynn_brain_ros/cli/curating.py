"""``rynn-brain curate``: answers of runs, judged by a person, as training conversations."""

from __future__ import annotations

import argparse
from pathlib import Path

from rynn_brain_ros.cli.common import DONE, path, say
from rynn_brain_ros.data.curation import curate, load_curation
from rynn_brain_ros.data.curation_export import export
from rynn_brain_ros.data.curation_page import write_curation_page
from rynn_brain_ros.data.curation_review import read_review
from rynn_brain_ros.values import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_curate)
    parser.description = (
        "Makes a page of what a model pointed at in runs, on which a person accepts, corrects or "
        "rejects; with --export, training conversations of the review that the page saves."
    )
    parser.add_argument("runs", type=path, nargs="*", metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--out", type=path, required=True, metavar="PATH", help="a folder; with --export a .jsonl"
    )
    parser.add_argument("--export", type=path, metavar="REVIEW", help="a review of the page")
    parser.add_argument(
        "--folder", type=path, metavar="DIR",
        help="--export: where the page's folder is now (where it was when it was made)",
    )  # fmt: skip


def _curate(options: argparse.Namespace) -> int:
    if options.export is not None:
        return _export(options)
    if not options.runs:
        raise InputError("name the folders of the runs to curate, or a review with --export")
    if options.folder is not None:
        raise InputError("--folder goes with --export; the page's folder is --out")
    curation = curate(options.runs, options.out)
    page = write_curation_page(curation, options.out)
    print(
        f"{len(curation.proposals)} proposals in {len(curation.answers)} answers of "
        f"{len(options.runs)} runs"
    )
    say(f"open {page}")
    return DONE


def _export(options: argparse.Namespace) -> int:
    if options.runs:
        raise InputError(f"{options.runs[0]}: --export takes a review alone, which knows its runs")
    review = read_review(options.export)
    folder: Path = options.folder or review.folder
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: say with --folder where the page's folder is now")
    made = export(load_curation(folder), review, options.out)
    left_out = "; ".join(f"{count} {why}" for why, count in made.left_out.items()) or "none"
    print(
        f"{options.out}: {made.conversations} conversations with {made.answers} answers, "
        f"{made.corrected} of them corrected; left out: {left_out}"
    )
    return DONE
