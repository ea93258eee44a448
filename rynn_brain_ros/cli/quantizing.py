"""``rynn-brain quantize``: a smaller model that loads faster."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rynn_brain_ros.cli.common import DONE, path, progress_bar
from rynn_brain_ros.models.local import QUANTIZATIONS, require_packages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_quantize)
    parser.description = (
        "Writes a model directory whose language model is quantized. It loads in a fraction of the "
        "time and answers as local:SRC#QUANTIZATION does."
    )
    parser.add_argument("source", type=path, metavar="SRC", help="a model directory in 16 bits")
    parser.add_argument("target", type=path, metavar="DST", help="a new or empty folder")
    parser.add_argument("--to", choices=QUANTIZATIONS[1:], default="nf4", help="(default: nf4)")


def _quantize(options: argparse.Namespace) -> int:
    require_packages()
    from rynn_brain_ros.models.local.memory import gib  # noqa: PLC0415
    from rynn_brain_ros.models.local.quantizing import quantize  # noqa: PLC0415 (imports torch)

    source, target = Path(options.source).expanduser(), Path(options.target).expanduser()
    began = time.perf_counter()
    with progress_bar() as progress:
        made = quantize(source, target, options.to, progress=progress)
    print(
        f"{made.source.name} in {options.to}: {gib(made.source.n_bytes)} → "
        f"{gib(made.written.n_bytes)} in {time.perf_counter() - began:.0f} s\n"
        f"use it as local:{target}"
    )
    return DONE
