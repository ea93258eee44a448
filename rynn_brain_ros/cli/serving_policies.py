"""``rynn-brain serve-policy``: an action policy, for the ``policy`` node or openpi's clients."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from rynn_brain_ros.cli.common import (
    DONE,
    ENGINE_FAILED,
    STOPPING,
    path,
    refuse_without,
    say,
    say_if_heard,
)
from rynn_brain_ros.cli.endpoints import (
    add_endpoint_arguments,
    stop_at_eof,
    stop_on_signals,
    token_of,
)
from rynn_brain_ros.config import configure
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.listening import check_reach
from rynn_brain_ros.models.local import require_packages
from rynn_brain_ros.values import EngineError, InputError
from rynn_brain_ros.vla.settings import TOKEN_VARIABLE

_LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.description = (
        "Puts an action policy behind openpi's protocol (msgpack over a websocket). "
        f"Set {TOKEN_VARIABLE}, or give --token-file, to ask clients for a token."
    )
    parser.add_argument("policy", type=path, metavar="POLICY", help="what training or export wrote")
    parser.add_argument(
        "--graphs", choices=("fp32", "int8"), help="an export's ONNX graphs, instead of torch"
    )
    parser.add_argument(
        "--provider",
        choices=("cpu", "cuda", "tensorrt"),
        help="where --graphs are computed (cpu)",
    )
    parser.add_argument(
        "--device",
        default="",
        choices=("", "cpu", "cuda"),
        help="torch's, which --graphs need too (a GPU where there is one)",
    )
    parser.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="torch on an NVIDIA GPU: a step's kernels are launched at once; chunks that are bound "
        "to the one before only with --approximate",
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="real-time chunking without gradients, as graphs always do: faster, less smooth",
    )
    parser.add_argument(
        "--execution-horizon",
        type=int,
        default=10,
        metavar="N",
        help="real-time chunking: steps of the previous chunk that bind the next (10); more than "
        "latency x rate; fewer where answers come soon, or a hand closes too early",
    )
    add_endpoint_arguments(parser, 8100)


def _serve(options: argparse.Namespace) -> int:
    require_packages()
    _require_endpoint()
    from rynn_brain_ros.vla.serving import PolicyServer  # noqa: PLC0415

    token = token_of(options.token_file, TOKEN_VARIABLE)
    check_reach(options.host, token)  # before a model is loaded
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    if options.until_eof:
        stop_at_eof()
    policy = _open(options)
    with stop_on_signals() as asked_to_stop:
        server = PolicyServer(policy, host=options.host, port=options.port, token=token)
        say(f"{_described(policy)} at {server.url}" + ", for those with the token" * bool(token))
        while not asked_to_stop.wait(_LOOK_S) and server.running:
            pass
        if asked_to_stop.is_set():
            say_if_heard(STOPPING)
        if not server.stop():
            say_if_heard("the policy or a connection does not end: ending without it")
            os._exit(ENGINE_FAILED)
        if not asked_to_stop.is_set():
            raise EngineError("the server ended by itself; the lines above say why")
    return DONE


def _require_endpoint() -> None:
    missing = [name for name in ("websockets", "msgpack") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serving a policy needs {', '.join(missing)}, not installed in this Python: "
            f"{pip_install('policy')}"
        )


def _open(options: argparse.Namespace) -> Any:
    """A `vla.chunks.Policy`; its modules import torch."""
    from rynn_brain_ros.vla.guidance import CheckpointPolicy, Chunking  # noqa: PLC0415

    folder = Path(options.policy).expanduser()
    told = {
        "execution_horizon": options.execution_horizon,
        "approximate": options.approximate or bool(options.graphs),
    }
    chunking = configure(Chunking, told)
    if options.graphs:
        if options.cuda_graphs:
            raise InputError("--cuda-graphs is for torch and --graphs for ONNX: give one")
        from rynn_brain_ros.vla.onnx_policy import Precision, Provider, open_policy  # noqa: PLC0415

        precision, provider = Precision(options.graphs), Provider(options.provider or "cpu")
        return open_policy(
            folder,
            precision=precision,
            provider=provider,
            chunking=chunking,
            device=options.device,
        )
    refuse_without("--graphs", options, ("provider",))
    from rynn_brain_ros.vla.checkpoint import load_policy, with_cuda_graphs  # noqa: PLC0415

    loaded = load_policy(folder, device=options.device)
    return CheckpointPolicy(with_cuda_graphs(loaded) if options.cuda_graphs else loaded, chunking)


def _described(policy: Any) -> str:
    told, horizon = policy.spec.statistics.provenance, policy.spec.horizon
    return (
        f"{told.contract}: chunks of {horizon} at {told.rate_hz:g} Hz, {told.action_space.size} "
        f"numbers each, from cameras {', '.join(told.cameras)}"
    )
