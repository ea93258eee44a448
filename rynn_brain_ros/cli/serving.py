"""``rynn-brain serve``: an engine for other programs, other machines and other languages."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading

from rynn_brain_ros.cli.common import (
    DONE,
    ENGINE_FAILED,
    STOPPING,
    progress_bar,
    progress_lines,
    say,
    say_if_heard,
)
from rynn_brain_ros.cli.endpoints import (
    add_endpoint_arguments,
    stop_at_eof,
    stop_on_signals,
    token_of,
)
from rynn_brain_ros.listening import check_reach
from rynn_brain_ros.models import ENGINE_SPELLINGS, open_engine
from rynn_brain_ros.models.http import TOKEN_VARIABLE
from rynn_brain_ros.models.local.warming import warm_up
from rynn_brain_ros.serving import Limits, require_packages
from rynn_brain_ros.values import EngineError, InputError

_LOOK_S = 0.5
"""How often the command looks whether its server is still there."""
_DEFAULT = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.description = (
        "Puts an engine behind the OpenAI protocol: /v1/chat/completions, /v1/models, /healthz "
        f"and /metrics. Set {TOKEN_VARIABLE}, or give --token-file, to ask clients for a token."
    )
    parser.add_argument("engine", metavar="ENGINE", help=ENGINE_SPELLINGS)
    add_endpoint_arguments(parser, 8000)
    parser.add_argument(
        "--queue", type=int, default=_DEFAULT.waiting, metavar="N", help="N questions may wait (32)"
    )
    parser.add_argument(
        "--per-client", type=int, default=_DEFAULT.per_client, metavar="N", help="of one client (8)"
    )
    parser.add_argument(
        "--rate", type=float, default=_DEFAULT.rate, metavar="N", help="a minute and address (600)"
    )
    parser.add_argument(
        "--max-images", type=int, default=_DEFAULT.images, metavar="N", help="a question (64)"
    )
    parser.add_argument(
        "--max-mib", type=int, default=_DEFAULT.body_bytes >> 20, metavar="N", help="a request (64)"
    )
    parser.add_argument(
        "--warm-up", type=int, default=1, metavar="N", help="frames shown to a local model (1)"
    )
    parser.add_argument(
        "--grace", type=float, default=10.0, metavar="S", help="to finish when stopped (10)"
    )


def _serve(options: argparse.Namespace) -> int:
    require_packages()
    from rynn_brain_ros.serving.running import RunningServer  # noqa: PLC0415

    limits = Limits(
        waiting=options.queue,
        per_client=options.per_client,
        rate=options.rate,
        images=options.max_images,
        body_bytes=options.max_mib << 20,
    )
    if not 0 <= options.grace < threading.TIMEOUT_MAX:
        raise InputError(f"--grace {options.grace}: 0 or more seconds")
    token = token_of(options.token_file, TOKEN_VARIABLE)
    check_reach(options.host, token)  # before a model is loaded
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    if options.until_eof:
        stop_at_eof()
    with progress_bar() if sys.stderr.isatty() else progress_lines() as progress:
        engine = open_engine(options.engine, progress)
    try:
        if options.engine.startswith("local:") and options.warm_up > 0:
            seconds = warm_up(engine, n_frames=options.warm_up)
            say(f"warmed up with {options.warm_up} frames of 640×480 in {seconds:.1f} s")
        server = RunningServer(
            engine, host=options.host, port=options.port, token=token, limits=limits
        )
        with stop_on_signals() as asked_to_stop:
            say(f"{engine.info.model} at {server.url}" + ", for those with the token" * bool(token))
            while not asked_to_stop.wait(_LOOK_S) and server.running and not server.trouble:
                pass
            if asked_to_stop.is_set():
                say_if_heard(STOPPING)
            if not server.stop(options.grace):
                say_if_heard("the engine does not stop: ending without it")
                os._exit(ENGINE_FAILED)
            if server.trouble:  # whoever supervises this process starts another
                raise EngineError(server.trouble)
            if not asked_to_stop.is_set():
                raise EngineError("the server ended by itself; the lines above say why")
    finally:
        engine.close()
    return DONE
