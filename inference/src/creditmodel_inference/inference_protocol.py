"""Open Inference Protocol v2 over REST, binary tensors included.

Specification: the KServe project's "Open Inference Protocol (V2)" and Triton's binary tensor data extension. The one
input is `features`, float32 [rows, F], encoded as the contract says; the outputs are the graph's, and `points`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray

from creditmodel_bundle.contract import FLOAT32_LIMIT
from creditmodel_inference.bodies import InFlight, json_response, read_body
from creditmodel_inference.errors import FieldError, Malformed, NotFound, TooLarge, Unacceptable
from creditmodel_inference.lifecycle import Lifecycle, Phase
from creditmodel_inference.requests import check_length
from creditmodel_inference.service import Service
from creditmodel_inference.settings import Limits

__all__ = ["add_inference_protocol"]

HEADER_LENGTH = "inference-header-content-length"
FEATURES = "features"
NUMPY: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
OUTPUTS = {"probability": "FP32", "log_odds": "FP32", "contributions": "FP32", "points": "INT32"}


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class _Call:
    """A parsed request: the rows, and which outputs are wanted, each as JSON or as bytes."""

    id: str | None
    rows: NDArray[np.float64]
    outputs: list[tuple[str, bool]]


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
        size = check_length(dict(request.scope["headers"]), limits) or limits.body_bytes
        with in_flight.admit(size):
            body = await read_body(request, limits)
            call = _parse(body, request.headers.get(HEADER_LENGTH), service.scorer.width, limits)
            return _answer(service, call)


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


def _parse(body: bytes, header_length: str | None, width: int, limits: Limits) -> _Call:
    """The call in these bytes. Raises Malformed, TooLarge or Unacceptable."""
    split = len(body) if header_length is None else _header_length(header_length, len(body))
    try:
        document = msgspec.json.decode(body[:split], type=_Infer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if isinstance(e, msgspec.ValidationError):
            raise Unacceptable("The request is no inference request.", [FieldError("", str(e), "type")]) from e
        raise Malformed(f"The inference header is not JSON: {e}.") from e
    if [tensor.name for tensor in document.inputs] != [FEATURES]:
        raise _wrong("/inputs", "must be one tensor named 'features'", "missing", FEATURES)
    rows = _rows(document.inputs[0], body[split:], width, limits)
    return _Call(document.id, rows, _wanted(document))


def _header_length(text: str, size: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
        raise Malformed("Inference-Header-Content-Length is no length within the body.")
    return int(text)


def _rows(tensor: _Tensor, binary: bytes, width: int, limits: Limits) -> NDArray[np.float64]:
    kind: np.dtype[Any] | None = NUMPY.get(tensor.datatype)
    if kind is None:
        raise _wrong("/inputs/0/datatype", "is not supported", "category", list(NUMPY))
    if len(tensor.shape) != 2 or tensor.shape[1] != width or tensor.shape[0] < 1:
        raise _wrong("/inputs/0/shape", f"is {tensor.shape[:8]}", "range", ["rows", width])
    count = tensor.shape[0]
    if count > limits.rows:
        raise TooLarge(f"A request takes at most {limits.rows} rows; send them in several.")
    values = _values(tensor, binary, kind, count * width)
    # A missing value is NaN in binary, null in JSON; infinities and what overflows float32 have no meaning.
    if np.any(np.abs(values) > FLOAT32_LIMIT):
        raise _wrong("/inputs/0/data", "has numbers beyond float32", "range", {"maximum": FLOAT32_LIMIT})
    return values.reshape(count, width)


def _values(tensor: _Tensor, binary: bytes, kind: np.dtype[Any], count: int) -> NDArray[np.float64]:
    """The tensor's numbers, flat."""
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if size != len(binary) or size != count * kind.itemsize:
            raise _wrong("/inputs/0/parameters/binary_data_size", "does not fit", "range", count * kind.itemsize)
        return np.frombuffer(binary, kind).astype(np.float64)
    try:
        values = np.array(tensor.data, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as e:
        raise _wrong("/inputs/0/data", "is no array of numbers", "type", "numbers, null where missing") from e
    if values.size != count:
        raise _wrong("/inputs/0/data", f"has {values.size} numbers", "range", count)
    return values


def _wanted(document: _Infer) -> list[tuple[str, bool]]:
    binary = document.parameters.get("binary_data_output") is True
    if not document.outputs:
        return [(name, binary) for name in OUTPUTS]
    for index, output in enumerate(document.outputs):
        if output.name not in OUTPUTS:
            raise _wrong(f"/outputs/{index}/name", "is no output of this model", "unknown", list(OUTPUTS))
    return [(output.name, output.parameters.get("binary_data", binary) is True) for output in document.outputs]


def _wrong(path: str, message: str, kind: str, allowed: object) -> Unacceptable:
    return Unacceptable("The inference request does not fit the model.", [FieldError(path, message, kind, allowed)])


def _answer(service: Service, call: _Call) -> Response:
    outputs, columns = service.infer(call.rows)
    arrays: dict[str, NDArray[Any]] = {
        **outputs._asdict(),
        "points": columns.points.astype("<i4"),
    }
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
    return _encoded(document, binary, {"x-model-digest": identity.digest})


def _encoded(document: dict[str, object], binary: list[bytes], headers: dict[str, str]) -> Response:
    header = msgspec.json.encode(document)
    if not binary:
        return json_response(header, headers)
    headers = headers | {HEADER_LENGTH: str(len(header))}
    return Response(b"".join([header, *binary]), media_type="application/octet-stream", headers=headers)
