"""Open Inference Protocol v2 over REST, binary tensors included.

Specification: the KServe project's "Open Inference Protocol (V2)" and Triton's binary tensor data extension. The one
input is `features`, float32 [rows, F], encoded as the contract says and checked against it; the outputs are the
graph's, and `points`. A row that is scored here is counted and logged like any other.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray

from creditmodel_inference.blocks import Outputs
from creditmodel_inference.bodies import InFlight, body_parts, json_response
from creditmodel_inference.errors import NotFound, Problem
from creditmodel_inference.intake import REQUEST_ID
from creditmodel_inference.lifecycle import Lifecycle, Phase
from creditmodel_inference.requests import check_encoding, check_length, given_request_id
from creditmodel_inference.service import Service
from creditmodel_inference.settings import Limits
from creditmodel_inference.steps import in_turns
from creditmodel_inference.tensors import FEATURES, OUTPUTS, Call

__all__ = ["add_inference_protocol"]

HEADER_LENGTH = "inference-header-content-length"


def add_inference_protocol(app: FastAPI, lifecycle: Lifecycle, limits: Limits, in_flight: InFlight) -> None:
    """Add the protocol's routes."""
    tags: list[Any] = ["inference protocol"]

    @app.get("/v2", tags=tags)
    async def server_metadata() -> Response:
        document = {
            "name": "creditmodel-serve",
            "version": version("creditmodel-inference"),
            "extensions": ["binary_tensor_data"],
        }
        return _json(document)

    @app.get("/v2/health/live", tags=tags)
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", tags=tags)
    async def ready() -> Response:
        return _readiness(lifecycle)

    @app.get("/v2/models/{name}", tags=tags)
    @app.get("/v2/models/{name}/versions/{model_version}", tags=tags)
    async def model_metadata(name: str, model_version: str | None = None) -> Response:
        return _json(_metadata(_named(lifecycle, name, model_version)))

    @app.get("/v2/models/{name}/ready", tags=tags)
    @app.get("/v2/models/{name}/versions/{model_version}/ready", tags=tags)
    async def model_ready(name: str, model_version: str | None = None) -> Response:
        _named(lifecycle, name, model_version)
        return _readiness(lifecycle, name)

    @app.post("/v2/models/{name}/infer", tags=tags)
    @app.post("/v2/models/{name}/versions/{model_version}/infer", tags=tags)
    async def infer(request: Request, name: str, model_version: str | None = None) -> Response:
        service = _named(lifecycle, name, model_version)
        arrived, state = time.perf_counter(), request.scope["state"]
        headers = dict(request.scope["headers"])
        try:
            given_id = given_request_id(headers)
            state["request_id"] = given_id or state["request_id"]
            check_encoding(headers)
            with in_flight.admit(check_length(headers, limits) or limits.body_bytes):
                body = b"".join([part async for part in body_parts(request, limits)])
                call = await in_turns(service.tensors.read(body, request.headers.get(HEADER_LENGTH)))
                if given_id is None:
                    state["request_id"] = _loggable(call.id) or state["request_id"]
                outputs, points = await in_turns(service.infer(call.rows, state["request_id"], arrived))
        except Problem as problem:
            service.log_problem(problem, state["request_id"], time.perf_counter() - arrived)
            raise
        return _answer(service, call, outputs, points)


def _loggable(call_id: str | None) -> str | None:
    """The client's id of the call, where it is fit to be the request's id in the scoring log."""
    return call_id if call_id is not None and REQUEST_ID.fullmatch(call_id) else None


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _readiness(lifecycle: Lifecycle, name: str | None = None) -> Response:
    ready = lifecycle.phase is Phase.READY
    document: dict[str, object] = {"ready": ready} if name is None else {"name": name, "ready": ready}
    return _json(document, 200 if ready else 503)


def _named(lifecycle: Lifecycle, name: str, model_version: str | None) -> Service:
    """The service. Raises NotFound for another model or version than the one that is served."""
    service = lifecycle.require_service()
    identity = service.scorer.identity
    if name != identity.name or model_version not in (None, identity.version):
        asked = name if model_version is None else f"{name} {model_version}"
        raise NotFound(f"The model served here is {identity.name} {identity.version}, not {asked[:200]}.")
    return service


def _metadata(service: Service) -> dict[str, object]:
    identity, width = service.scorer.identity, service.scorer.width
    shapes = {"contributions": [-1, width]}
    return {
        "name": identity.name,
        "versions": [identity.version],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": FEATURES, "datatype": "FP32", "shape": [-1, width]}],
        "outputs": [{"name": n, "datatype": kind, "shape": shapes.get(n, [-1])} for n, kind in OUTPUTS.items()],
    }


def _answer(service: Service, call: Call, outputs: Outputs, points: NDArray[np.int64]) -> Response:
    arrays: dict[str, NDArray[Any]] = {**outputs._asdict(), "points": points.astype("<i4")}
    identity = service.scorer.identity
    tensors: list[dict[str, object]] = []
    binary: list[bytes] = []
    for name, as_bytes in call.outputs:
        array = arrays[name]
        tensor: dict[str, object] = {"name": name, "datatype": OUTPUTS[name], "shape": list(array.shape)}
        if as_bytes:
            binary.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = array.reshape(-1).tolist()
        tensors.append(tensor)
    document: dict[str, object] = {
        "model_name": identity.name,
        "model_version": identity.version,
        "outputs": tensors,
        "parameters": {"digest": identity.digest, "revision": identity.revision},
    }
    if call.id is not None:
        document["id"] = call.id
    return _encoded(document, binary, {"x-model-digest": identity.digest, "x-model-revision": identity.revision})


def _encoded(document: dict[str, object], binary: list[bytes], headers: dict[str, str]) -> Response:
    header = msgspec.json.encode(document)
    if not binary:
        return json_response(header, headers)
    headers = headers | {HEADER_LENGTH: str(len(header))}
    return Response(b"".join([header, *binary]), media_type="application/octet-stream", headers=headers)
