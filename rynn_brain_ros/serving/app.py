"""The routes of the server."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from rynn_brain_ros.serving.desk import Desk
from rynn_brain_ros.serving.exchange import ChatExchange
from rynn_brain_ros.serving.guard import Guard, error_response
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.serving.metrics import CONTENT_TYPE, Metrics
from rynn_brain_ros.serving.refusals import RequestError, refusal_of
from rynn_brain_ros.serving.replies import model_record, now_s, to_json

_CHAT, _MODELS, _MODEL = "/v1/chat/completions", "/v1/models", "/v1/models/{name:path}"
_HEALTH, _METRICS = "/healthz", "/metrics"


def build_app(
    desk: Desk, limits: Limits, token: str = "", lifespan: Lifespan[Starlette] | None = None
) -> Starlette:
    """An ASGI application; with a ``token``, all but ``/healthz`` is for those who show it."""
    metrics = Metrics(desk.engine)
    metrics.watch(lambda: desk.n_waiting, lambda: desk.n_answering)
    pages = _Pages(desk, metrics)
    routes = [
        Route(_CHAT, ChatExchange(desk, limits, metrics), methods=["POST"]),
        Route(_MODELS, pages.models),
        Route(_MODEL, pages.model),
        Route(_HEALTH, pages.health),
        Route(_METRICS, pages.metrics),
    ]
    paths = frozenset({_CHAT, _MODELS, _HEALTH, _METRICS})
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token, limits, metrics, paths)],
        exception_handlers={HTTPException: _no_such_page, Exception: _failed},
        lifespan=lifespan,
    )


class _Pages:
    """Everything that is answered at once."""

    def __init__(self, desk: Desk, metrics: Metrics) -> None:
        self._desk, self._metrics = desk, metrics
        self._created = now_s()

    async def models(self, _: Request) -> Response:
        record = model_record(self._desk.engine.info, self._created)
        return _json({"object": "list", "data": [record]})

    async def model(self, request: Request) -> Response:
        info = self._desk.engine.info
        if request.path_params["name"] != info.model:
            raise RequestError(
                f"there is no such model here; this server has {info.model}",
                status=404,
                code="model_not_found",
                param="model",
            )
        return _json(model_record(info, self._created))

    async def health(self, _: Request) -> Response:
        trouble = self._desk.trouble
        record = {"status": trouble or "ok", "waiting": self._desk.n_waiting}
        return _json(record, 503 if trouble else 200)

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), headers={"content-type": CONTENT_TYPE})


def _json(record: dict[str, object], status: int = 200) -> Response:
    return Response(to_json(record), status, media_type="application/json")


async def _no_such_page(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = "does not take" if status == 405 else "is not a page here; it does not take"
    return error_response(
        RequestError(f"{request.url.path} {said} {request.method}", status=status)
    )


async def _failed(_: Request, error: Exception) -> Response:
    return error_response(refusal_of(error))
