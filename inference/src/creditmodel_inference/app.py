"""The FastAPI application: every route, the OpenAPI document of the model's own contract, problem details.

It answers /v1/score like the short way in protocol.py does, for bodies that are large, unannounced or not on HTTP/1.1,
and under any other ASGI server.
"""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from msgspec.json import encode
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from creditmodel_inference.bodies import InFlight, LongResponse, body_parts, json_response
from creditmodel_inference.errors import PROBLEM_JSON, Denied, MethodNotAllowed, NotFound, Problem, Unscorable
from creditmodel_inference.inference_protocol import add_inference_protocol
from creditmodel_inference.keys import Keys, is_guarded
from creditmodel_inference.lifecycle import Lifecycle, Phase
from creditmodel_inference.meter import SCORE, Meter
from creditmodel_inference.openapi import openapi_document
from creditmodel_inference.requests import check_headers, check_length, given_request_id
from creditmodel_inference.settings import Limits
from creditmodel_inference.wire import RequestIds

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["create_app"]

DOCS_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"


def create_app(lifecycle: Lifecycle, meter: Meter, limits: Limits, in_flight: InFlight, keys: Keys | None) -> FastAPI:
    """The application. Routes that need a model answer 503 until the lifecycle has one."""
    app = FastAPI(
        title="CreditModel",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would name the host that the client named
    )
    _add_operation_routes(app, lifecycle, meter)
    _add_score(app, lifecycle, limits, in_flight)
    _add_docs(app, lifecycle, limits, asks_for_key=keys is not None)
    add_inference_protocol(app, lifecycle, limits, in_flight)
    _add_problem_handlers(app)
    app.add_middleware(_Instrumented, meter=meter, keys=keys)
    return app


def _add_operation_routes(app: FastAPI, lifecycle: Lifecycle, meter: Meter) -> None:
    @app.get("/healthz/live", tags=["operation"])
    async def live() -> Response:
        return json_response(b'{"status":"live"}')

    @app.get("/healthz/ready", tags=["operation"])
    async def ready() -> Response:
        body = encode({"status": lifecycle.phase.value, "reason": lifecycle.reason})
        status = 200 if lifecycle.phase is Phase.READY else 503
        return Response(body, status, media_type="application/json")

    @app.get("/metrics", tags=["operation"])
    async def metrics() -> Response:
        return Response(meter.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/model", tags=["model"])
    async def model() -> Response:
        scorer = lifecycle.require_service().scorer
        contract = scorer.contract.model_dump(mode="json", exclude={"bins"})
        return json_response(encode({"model": scorer.identity.document(), "contract": contract}))


def _add_score(app: FastAPI, lifecycle: Lifecycle, limits: Limits, in_flight: InFlight) -> None:
    @app.post(SCORE, tags=["scoring"])
    async def score(request: Request) -> Response:
        service = lifecycle.require_service()
        arrived = time.perf_counter()
        headers, state = dict(request.scope["headers"]), request.scope["state"]
        try:
            state["request_id"] = given_request_id(headers) or state["request_id"]
            check_headers(headers)
            with in_flight.admit(check_length(headers, limits) or limits.body_bytes):
                rows, own_id = await service.read(body_parts(request, limits))
                state["request_id"] = own_id or state["request_id"]
                answer = await service.score(rows, state["request_id"], arrived)
        except Problem as problem:
            service.note_problem(problem, state["request_id"], arrived)
            state["counted"] = True
            raise
        state["counted"] = True
        identity = service.scorer.identity
        return LongResponse(answer, {"x-model-digest": identity.digest, "x-model-revision": identity.revision})


def _add_docs(app: FastAPI, lifecycle: Lifecycle, limits: Limits, *, asks_for_key: bool) -> None:
    static = files("creditmodel_inference") / "static"
    assets = {"docs.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}

    def asset(name: str) -> Response:
        content = (static / name).read_bytes()
        headers = {"content-security-policy": DOCS_POLICY, "x-content-type-options": "nosniff"}
        return Response(content, media_type=assets[name], headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return asset("docs.html")

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_asset(name: str) -> Response:
        if name not in assets:
            raise NotFound(f"There is no {name[:80]!r} under /docs.")
        return asset(name)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        scorer = lifecycle.require_service().scorer
        return json_response(
            encode(openapi_document(scorer.contract, scorer.identity, limits, asks_for_key=asks_for_key))
        )


def _add_problem_handlers(app: FastAPI) -> None:
    async def handler(request: Request, error: Exception) -> Response:
        return _problem_response(request, _as_problem(request, error))

    for kind in (Problem, HTTPException, Exception):
        app.add_exception_handler(kind, handler)


def _problem_response(request: Request, problem: Problem) -> Response:
    to_protocol = request.scope["path"].startswith("/v2")
    body = problem.body(request.scope["state"].get("request_id"), to_protocol=to_protocol)
    return Response(body, int(problem.status), media_type=PROBLEM_JSON, headers=dict(problem.headers))


def _as_problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _from_http(request, error)
    return Unscorable("The server failed on this request; its log says why.")


def _from_http(request: Request, error: HTTPException) -> Problem:
    path = request.url.path[:200]
    if error.status_code == MethodNotAllowed.status:
        allowed = dict(error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{path} takes {allowed}.", headers=[("allow", allowed)])
    if error.status_code == NotFound.status:
        return NotFound(f"There is no {path}; /docs lists what there is.")
    return Unscorable(str(error.detail))


class _Instrumented:
    """Counts requests, names them, asks for keys. Plain ASGI: the framework's own middleware halves the throughput."""

    def __init__(self, app: ASGIApp, meter: Meter, keys: Keys | None) -> None:
        self._keys = keys
        self._app = app
        self._meter = meter
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the connection leaves the body out
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self._request_ids()
        arrived = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", state["request_id"].encode())]
            await send(message)

        try:
            if self._keys is not None and is_guarded(scope["path"]):
                self._keys.check(dict(scope["headers"]))
            await self._app(scope, receive, send_with_id)
        except Denied as problem:
            await _problem_response(Request(scope), problem)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = 499
        finally:
            if not state.get("counted"):
                self._meter.request(_route(scope), status, time.perf_counter() - arrived)


def _route(scope: Scope) -> str:
    """The route's template: a label that clients cannot make up."""
    route = scope.get("route")
    return getattr(route, "path", "other")
