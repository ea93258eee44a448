"""The command ``rynn-brain``.

Exit codes: 0 done, 1 the answers drifted from what was expected or the task was not done, 2 bad
input, 3 the engine could not answer, 4 a result could not be written, 130 interrupted (what was
done is kept), 141 whoever read the output went away.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rynn_brain_ros import __version__
from rynn_brain_ros.cli import (
    acting,
    calibrating,
    checking,
    curating,
    datasets,
    doctoring,
    exporting,
    quantizing,
    recordings,
    replaying,
    serving,
    serving_policies,
)
from rynn_brain_ros.cli.common import (
    BAD_INPUT,
    INTERRUPTED,
    NOT_WRITTEN,
    READER_GONE,
    discard,
    exit_code,
    say,
)
from rynn_brain_ros.values import RynnBrainError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without arrows is no error
            stream.reconfigure(errors="backslashreplace")
    # What the log would say of a refusal is told by the commands themselves.
    logging.getLogger("rynn_brain_ros").addHandler(logging.NullHandler())
    try:
        options = _parser().parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()  # here, where it can still be told that it failed
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)
        return READER_GONE
    except RynnBrainError as error:
        say(f"rynn-brain: {error}")
        return exit_code(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:  # not 1, which says that answers drifted
            say(f"rynn-brain: {error}")
            return BAD_INPUT
        discard(sys.stdout)
        say(f"rynn-brain: cannot write the output: {error.strerror}")
        return NOT_WRITTEN
    except RuntimeError as error:
        if "Symlink loop" not in str(error):  # of Path.resolve, until Python 3.13
            raise
        say(f"rynn-brain: {error}")
        return BAD_INPUT


def _open_closed_streams() -> None:
    """Where a command was started without one, as some services do, Python has ``None``."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rynn-brain", description="An embodied brain for robots.")
    parser.add_argument("--version", action="version", version=f"rynn-brain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    acting.add_demo_arguments(
        commands.add_parser("demo", help="a simulated robot does what you say")
    )
    acting.add_evaluate_arguments(
        commands.add_parser("evaluate", help="many simulated episodes, compared with the truth")
    )
    replaying.add_arguments(commands.add_parser("replay", help="ask or decide a recording again"))
    recordings.add_inspect_arguments(
        commands.add_parser("inspect", help="what a recording holds, and what is wrong")
    )
    recordings.add_parse_arguments(
        commands.add_parser("parse", help="what the brain understands of an answer")
    )
    quantizing.add_arguments(
        commands.add_parser("quantize", help="write a smaller model that loads faster")
    )
    exporting.add_arguments(
        commands.add_parser("export", help="an action policy as ONNX graphs, compared with torch")
    )
    checking.add_record_arguments(
        commands.add_parser("record-answers", help="keep an engine's answers, to check others")
    )
    checking.add_check_arguments(
        commands.add_parser("check-engine", help="how far an engine's answers drift; the verdict")
    )
    calibrating.add_arguments(
        commands.add_parser("check-calibration", help="is the camera where the transforms say?")
    )
    datasets.add_record_arguments(
        commands.add_parser("record", help="demonstrations of a simulated robot, as recordings")
    )
    datasets.add_convert_arguments(
        commands.add_parser("convert", help="recordings to a LeRobot data set")
    )
    datasets.add_dataset_arguments(
        commands.add_parser("dataset", help="inspect, check, merge, split, show, import data sets")
    )
    curating.add_arguments(
        commands.add_parser("curate", help="answers of runs, judged, as training conversations")
    )
    doctoring.add_arguments(
        commands.add_parser("doctor", help="what this machine has and lacks, and what to do next")
    )
    serving.add_arguments(
        commands.add_parser("serve", help="an engine for other programs and machines, over HTTP")
    )
    serving_policies.add_arguments(
        commands.add_parser("serve-policy", help="an action policy for the robot that it moves")
    )
    return parser
