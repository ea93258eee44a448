"""``rynn-brain demo`` and ``rynn-brain evaluate``: the whole loop on simulated robots."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from rynn_brain_ros.cli.common import (
    DONE,
    DRIFTED,
    INTERRUPTED,
    STOPPING,
    path,
    progress_bar,
    refuse_without,
    said,
    say_if_heard,
)
from rynn_brain_ros.demo import (
    ARM_LOOKS,
    WORLDS,
    Evaluation,
    StageConfig,
    check_out,
    check_stage,
    evaluate,
    run_demo,
    tell_evaluation,
    write_evaluation,
)
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.interrupts import Interrupt
from rynn_brain_ros.models import ENGINES_SPELLINGS, open_engines
from rynn_brain_ros.models.local import missing_packages
from rynn_brain_ros.planning.executive import Approve
from rynn_brain_ros.replay import RunKind, check_run_folder
from rynn_brain_ros.values import EngineError, InputError, Motion, Status, Step
from rynn_brain_ros.view.evaluation import EpisodeScore

_BASELINE = "color-baseline"
_ENGINES = {"table": "nano", "room": _BASELINE}
"""By world, where none is named: nano has never seen a room."""


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="table", choices=WORLDS, help="where (table)")
    parser.add_argument(
        "--engine",
        default="",
        metavar="ENGINE",
        help=f"{ENGINES_SPELLINGS} (nano; in the room {_BASELINE})",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which scene (0)")
    parser.add_argument(
        "--arm-look", default=ARM_LOOKS[0], choices=ARM_LOOKS, help="how the arm is drawn (plain)"
    )
    parser.add_argument("--json", action="store_true", help="print only the JSON object")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_demo)
    parser.add_argument(
        "task", nargs="?", type=said("the task"), metavar="TEXT", help="what it shall do"
    )
    _add_common(parser)
    parser.add_argument("--dry-run", action="store_true", help="decide everything, move nothing")
    parser.add_argument(
        "--approve", choices=("step", "task"), help="ask me before each step, or once"
    )
    parser.add_argument(
        "--engine-verdict", type=path, metavar="FILE", help="move only if the engine passed this"
    )
    parser.add_argument("--view", action="store_true", help="watch it in a MuJoCo window")
    parser.add_argument("--out", type=path, default=Path("runs/demo"), metavar="DIR")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    _add_common(parser)
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="how many (100)")
    parser.add_argument(
        "--kind",
        default="one",
        metavar="KIND",
        help="one, many, push, pour, hand_over, drawer, absent, ambiguous, either, demo",
    )
    parser.add_argument(
        "--ask", type=said("--ask"), metavar="TEXT", help="the same task in every scene"
    )
    parser.add_argument(
        "--policy",
        default="",
        metavar="POLICY",
        help="moves the arm: a trained one's folder, ws://…",
    )
    parser.add_argument("--contract", metavar="C", help="the policy's (sim_table)")
    parser.add_argument(
        "--alone", action="store_true", help="the policy is told the task, and no engine is asked"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="processes (one a core; one where the policy is a folder and there is a GPU)",
    )
    parser.add_argument("--out", type=path, default=Path("runs/evaluate"), metavar="DIR")


def _demo(options: argparse.Namespace) -> int:
    if options.approve and not sys.stdin.isatty():
        raise InputError("--approve asks on the terminal, and standard input is none")
    config = StageConfig(
        world=options.world,
        seed=options.seed,
        task=options.task or "",
        dry_run=options.dry_run,
        require_approval=bool(options.approve),
        engine_verdict=options.engine_verdict,
        view=options.view,
        arm_look=options.arm_look,
    )
    check_stage(config)  # before an engine that may take minutes to open
    check_run_folder(options.out, RunKind.EPISODE)
    with progress_bar() as progress:
        engines = open_engines(_engine(options.engine, options.world), progress)
    told = _silent if options.json else print
    try:
        with _stop_on_interrupt() as stop:
            approve = _approver(options.approve, stop) if options.approve else None
            outcome = run_demo(
                config, engines, options.out, told, cancel=stop.cancel, approve=approve
            )
    finally:
        engines.close()
    print(json.dumps(outcome.summary))
    if outcome.episode.status is Status.CANCELLED:
        return INTERRUPTED
    return DONE if outcome.summary["success"] else DRIFTED


def _engine(named: str, world: str) -> str:
    """The named one, else the world's. Raises `EngineError` where that one cannot run here."""
    if named:
        return named
    engine, missing = _ENGINES[world], missing_packages()
    if engine == "nano" and missing:
        raise EngineError(
            f"the engine nano needs {', '.join(missing)}, not installed in this Python: "
            f"{pip_install('model')}; or --engine {_BASELINE}, which needs no model"
        )
    return engine


def _silent(_: str) -> None:
    """For ``--json``: the object alone."""


class _Stop:
    """The first Ctrl-C stops the robot and the run ends as it should; the second one kills."""

    def __init__(self) -> None:
        self.cancel = Interrupt()
        self._is_asking = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.cancel.is_set():
            raise KeyboardInterrupt
        self.cancel.set()
        with suppress(RuntimeError):  # it came in the middle of a line to the same stream
            say_if_heard(STOPPING)
        if self._is_asking:
            raise KeyboardInterrupt  # else the reading would go on

    def answer_to(self, question: str) -> str:
        """What a person types, nothing where they stop everything instead."""
        try:
            self._is_asking = True
            if self.cancel.is_set():
                return ""
            print(question, end="", file=sys.stderr, flush=True)
            return sys.stdin.readline()
        except KeyboardInterrupt:
            return ""
        finally:
            self._is_asking = False


@contextmanager
def _stop_on_interrupt() -> Iterator[_Stop]:
    stop, before = _Stop(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop.on_signal)
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _approver(how: str, stop: _Stop) -> Approve:
    said: list[bool] = []

    def approve(step: Step | None, motion: Motion) -> bool:
        if how == "task" and said:
            return said[0]
        what = step.text if step is not None else motion.skill.value
        answer = stop.answer_to(f"  allow   {what}  [y/N] ")
        said.append(answer.strip().lower() in ("y", "yes"))  # nothing more is a no
        return said[-1]

    return approve


def _evaluate(options: argparse.Namespace) -> int:
    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes}: play at least one")
    if options.jobs < 0:
        raise InputError(f"--jobs {options.jobs}: 1 or more, or 0 for one a core")
    if options.alone and not options.policy:
        raise InputError("--alone says that only the policy acts: give --policy")
    if not options.policy:
        refuse_without("--policy", options, ("contract",))
    stage = StageConfig(
        world=options.world,
        seed=options.seed,
        task=options.ask or "",
        kind=options.kind,
        arm_look=options.arm_look,
    )
    check_stage(stage)
    asked = options.engine or (_BASELINE if options.alone else "")  # alone, nobody is
    config = Evaluation(
        stage=stage,
        episodes=options.episodes,
        engine=_engine(asked, options.world),
        jobs=options.jobs,
        policy=options.policy,
        contract=options.contract or "sim_table",
        alone=options.alone,
    )
    check_out(options.out)
    scores: list[EpisodeScore] = []
    hidden = options.json or not sys.stderr.isatty()
    with tqdm(total=options.episodes, unit="episode", disable=hidden, leave=False) as bar:

        def played(score: EpisodeScore) -> None:
            scores.append(score)
            bar.update()

        try:
            evaluate(config, played)
        finally:
            bar.close()
            if scores:
                _tell(config, sorted(scores, key=lambda score: score.seed), options)
    return DONE


def _tell(config: Evaluation, scores: Sequence[EpisodeScore], options: argparse.Namespace) -> None:
    lines, summary = tell_evaluation(config, scores, options.out)
    if not options.json:
        for line in lines:
            print(line)
    print(json.dumps(summary), flush=True)
    write_evaluation(config, scores, options.out)
