"""``rynn-brain export``: an action policy as ONNX graphs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rynn_brain_ros.cli.common import DONE, DRIFTED, path, progress_bar, refuse_without, say
from rynn_brain_ros.models.local import require_packages
from rynn_brain_ros.values import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_export)
    parser.description = (
        "Writes an action policy with its action step and its vision tower as ONNX graphs, in "
        "32 and in 8 bits. Without OUT, CHECKPOINT is an exported policy that --verify compares "
        "with torch on this machine."
    )
    parser.add_argument("source", type=path, metavar="CHECKPOINT", help="a policy's directory")
    parser.add_argument("target", type=path, metavar="OUT", nargs="?", help="a new folder")
    parser.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        action="append",
        help="of OUT: only this one; may be given twice (default: both)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare with torch; nothing is kept of an export that fails (exit code 1)",
    )
    parser.add_argument(
        "--provider",
        choices=("cpu", "cuda", "tensorrt"),
        help="where --verify lets onnxruntime compute (default: cpu)",
    )


def _export(options: argparse.Namespace) -> int:
    if options.target is None:
        refuse_without("OUT", options, ("precision",))
    if not options.verify:
        refuse_without("--verify", options, ("provider",))
    require_packages()
    from rynn_brain_ros.vla.export import export  # noqa: PLC0415 (imports torch)
    from rynn_brain_ros.vla.export_checks import verify  # noqa: PLC0415
    from rynn_brain_ros.vla.onnx_policy import Precision, Provider  # noqa: PLC0415

    source = Path(options.source).expanduser()
    provider = Provider(options.provider or "cpu")
    with progress_bar() as progress:
        if options.target is None:
            if not options.verify:
                raise InputError("name a folder OUT for the export, or --verify one that is there")
            return _told(verify(source, provider, progress))
        target = Path(options.target).expanduser()
        precisions = tuple(map(Precision, dict.fromkeys(options.precision or ())))
        checks = export(
            source,
            target,
            precisions or tuple(Precision),
            provider if options.verify else None,
            progress,
        )
    code = _told(checks)
    if code == DONE:
        graphs = ", ".join(f"{f.name} {f.stat().st_size / 2**20:.1f} MiB" for f in _graphs(target))
        print(f"{target}: {graphs}")
    else:
        say(f"{target} was not kept; export only a precision that passes, with --precision")
    return code


def _graphs(target: Path) -> list[Path]:
    return sorted(file for file in target.iterdir() if ".onnx" in file.name)


def _told(checks: Sequence[Any]) -> int:
    """Of `vla.export_checks.Check`, whose module needs torch."""
    if checks:
        print(f"{'graph':13}{'in':6}{'inputs':32}{'max error':>11}{'cosine':>10}")
    for check in checks:
        print(
            f"{check.graph:13}{check.precision.value:6}{check.inputs:32}{check.error:11.1e}"
            f"{check.cosine:10.6f}  {'pass' if check.passed else 'FAIL'}"
        )
    return DONE if all(check.passed for check in checks) else DRIFTED
