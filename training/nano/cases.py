"""Held-out questions with their true answers, for `rynn-brain check-engine`: a new nano, or one in
fewer bits, is then judged as any engine is, and a truth is what it is compared with.

    python -m training.nano.cases CASES.jsonl [--questions 40] [--seed 900000] [--taught]
    rynn-brain check-engine nano nano#int8 --cases CASES.jsonl --min-iou 0.5 --max-units 40
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rynn_brain_ros.checking.cases import Case, save_cases
from rynn_brain_ros.language import compose
from rynn_brain_ros.models import RecordedAnswer, plain_messages
from rynn_brain_ros.values import Query
from training.nano.evaluate import HELD_OUT_SEED, KINDS, held_out
from training.nano.evaluate_plans import held_out_turns
from training.nano.evaluate_tasks import KINDS as TASK_KINDS
from training.nano.evaluate_tasks import held_out_tasks
from training.nano.lessons import GENERATION

TRUTH = "truth"
"""The name that the answers are recorded under."""


def true_cases(seed: int, count: int, taught: bool = False) -> Iterator[Case]:
    """``count`` of each kind of question; with those that the shipped nano does not know yet."""
    for kind in KINDS:
        for number, asked in enumerate(held_out(kind, seed, count)):
            yield _case(f"{kind}-{number:03}", asked.query, asked.answer)
    for number, turn in enumerate(held_out_turns(seed, count)):
        yield _case(f"plans-{number:03}", turn.query, turn.answer)
    for kind in TASK_KINDS if taught else ():
        for number, task in enumerate(held_out_tasks(kind, seed, count)):
            yield _case(f"{kind}-{number:03}", task.query, task.exchange.answer)


def _case(name: str, query: Query, answer: str) -> Case:
    query = replace(query, query_id=name)
    messages = plain_messages(compose(query, GENERATION))
    return Case(query, RecordedAnswer(TRUTH, messages, answer, generation=GENERATION))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("--questions", type=int, default=40, help="of each kind (40)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--taught", action="store_true", help="and of what is not known yet")
    options = parser.parse_args(arguments)
    cases = list(true_cases(options.seed, options.questions, options.taught))
    save_cases(options.cases, cases)
    print(f"{len(cases)} questions with true answers: {options.cases}")


if __name__ == "__main__":
    main()
