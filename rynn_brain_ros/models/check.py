"""A checker that any engine must pass, in the spirit of Gymnasium's ``check_env``."""

from __future__ import annotations

import math
import threading

from rynn_brain_ros.values import (
    Answer,
    Engine,
    EngineError,
    EngineInfo,
    FinishReason,
    Query,
    Task,
    UnsupportedTaskError,
)


def check_engine(engine: Engine, query: Query) -> tuple[str, ...]:
    """Asks ``query`` in every way the protocol knows and returns what is wrong, as sentences.

    ``query`` should be one that the engine can answer. Empty means that the engine may be used.
    The engine is closed at the end, twice: closing must be idempotent.
    """
    problems: list[str] = []
    problems += _check_info(engine.info)
    try:
        problems += _check_answer(engine, query)
        problems += _check_cancel(engine, query)
        problems += _check_unsupported(engine, query)
    except EngineError as error:
        problems.append(f"ask raised {type(error).__name__} for a question it should know: {error}")
    engine.close()
    engine.close()
    return tuple(problems)


def _check_info(info: EngineInfo) -> list[str]:
    problems = []
    if not info.name or not info.model:
        problems.append("info.name and info.model must not be empty")
    if not info.tasks:
        problems.append("info.tasks must name at least one task")
    return problems


def _check_answer(engine: Engine, query: Query) -> list[str]:
    problems = []
    pieces: list[str] = []
    streamed = engine.ask(query, on_text=pieces.append)
    silent = engine.ask(query)
    if "".join(pieces) != streamed.text:
        problems.append("the streamed pieces joined differ from Answer.text")
    if silent.text != streamed.text:
        problems.append("the same question was answered differently when streamed")
    if streamed.query_id != query.query_id:
        problems.append(f"Answer.query_id is {streamed.query_id!r}, asked was {query.query_id!r}")
    if streamed.finish_reason is FinishReason.CANCELLED:
        problems.append("an answer that nobody cancelled says that it was")
    return problems + _check_fields(streamed)


def _check_fields(answer: Answer) -> list[str]:
    problems = []
    if not answer.engine or not answer.model:
        problems.append("Answer.engine and Answer.model must not be empty")
    for token in answer.token_probabilities:
        in_text = 0 <= token.start <= token.end <= len(answer.text)
        if not in_text or not 0.0 <= token.probability <= 1.0:
            problems.append(f"token probability out of the text or of 0…1: {token}")
            break
    if not math.isnan(answer.timings.total_s) and answer.timings.total_s < 0:
        problems.append("Answer.timings.total_s is negative")
    return problems


def _check_cancel(engine: Engine, query: Query) -> list[str]:
    cancel = threading.Event()
    cancel.set()
    if engine.ask(query, cancel=cancel).finish_reason is not FinishReason.CANCELLED:
        return ["a question cancelled before it began did not end with FinishReason.CANCELLED"]
    return []


def _check_unsupported(engine: Engine, query: Query) -> list[str]:
    missing = next((task for task in Task if task not in engine.info.tasks), None)
    if missing is None:
        return []
    unsupported = Query(query.query_id, missing, query.instruction, query.frames, query.budget)
    try:
        engine.ask(unsupported)
    except UnsupportedTaskError:
        return []
    return [f"task {missing.value} is not in info.tasks, yet asking it raised nothing"]
