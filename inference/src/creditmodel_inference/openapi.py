"""The OpenAPI document of one model: its own field names, ranges, categories and examples."""

from __future__ import annotations

import math
from typing import Any

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.reasons import MAX_REASONS
from creditmodel_inference.answers import Identity
from creditmodel_inference.errors import PROBLEM_JSON
from creditmodel_inference.intake import REQUEST_ID
from creditmodel_inference.keys import is_guarded
from creditmodel_inference.settings import Limits

__all__ = ["example_applicant", "openapi_document"]

Json = dict[str, Any]
_JSON_TYPES = {str: "string", int: "integer"}


def openapi_document(contract: Contract, identity: Identity, limits: Limits, *, asks_for_key: bool = False) -> Json:
    """OpenAPI 3.1 of the server that serves this model."""
    document = _document(contract, identity, limits)
    return _with_keys(document) if asks_for_key else document


def _with_keys(document: Json) -> Json:
    """The same of a server that asks for API keys."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values() if is_guarded(path) else ():
            operation["security"] = [{"bearer": []}, {"header": []}]
            operation["responses"] |= {
                "401": _problem("No API key"),
                "403": _problem("An API key that is not known here"),
                "429": _problem("Too much is in flight, or more than this API key may send"),
            }
    return document


def _document(contract: Contract, identity: Identity, limits: Limits) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{identity.name}: credit scoring",
            "version": identity.version,
            "description": f"Revision {identity.revision}, model digest {identity.digest}.",
        },
        "paths": {
            "/v1/score": {"post": _score_operation(contract)},
            "/v1/model": {"get": _get("model", "What model answers, and its contract", "model")},
            "/healthz/live": {"get": _get("live", "Whether the process runs", "operation")},
            "/healthz/ready": {"get": _get("ready", "Whether the server wants requests", "operation", unready=True)},
            "/metrics": {"get": _get("metrics", "Prometheus metrics", "operation", content="text/plain")},
            **_inference_paths(identity),
        },
        "components": {"schemas": _schemas(contract, limits)},
    }


def example_applicant(contract: Contract) -> Json:
    """An applicant that the contract accepts, from the features' own examples."""
    return {feature.name: _example(feature) for feature in contract.features}


def _score_operation(contract: Contract) -> Json:
    example = {"applicants": [example_applicant(contract)]}
    return {
        "summary": "Score one or many applicants",
        "operationId": "score",
        "tags": ["scoring"],
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": _ref("ScoreRequest", example)}},
        "responses": {
            "200": {
                "description": "Probability of default, points, decision and reasons of each applicant, in order",
                "headers": {name: {"schema": {"type": "string"}} for name in ("X-Request-ID", "X-Model-Digest")},
                "content": {"application/json": _ref("ScoreResponse")},
            },
            **{status: _problem(text) for status, text in _PROBLEMS.items()},
        },
    }


_PROBLEMS = {
    "400": "The body is not JSON",
    "408": "The request did not arrive in time",
    "413": "Too many bytes or rows",
    "415": "Not application/json",
    "422": "Values outside the contract; each is named with what is allowed",
    "429": "Too much is in flight",
    "500": "The model gave no finite answer",
    "503": "Not ready",
}


def _problem(text: str) -> Json:
    return {"description": text, "content": {PROBLEM_JSON: _ref("Problem")}}


def _ref(name: str, example: Json | None = None) -> Json:
    media: Json = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return media if example is None else media | {"example": example}


def _get(name: str, summary: str, tag: str, *, unready: bool = False, content: str = "application/json") -> Json:
    """A GET operation. Generated clients call it `name`, and else after its path, in which the model's name may be."""
    responses: Json = {"200": {"description": "OK", "content": {content: {"schema": {}}}}}
    if unready:
        responses["503"] = {"description": "Starting, draining or refused", "content": {content: {"schema": {}}}}
    elif tag in ("model", "inference protocol"):
        responses["503"] = _problem("Not ready")
    return {"operationId": name, "summary": summary, "tags": [tag], "responses": responses}


def _inference_paths(identity: Identity) -> Json:
    tag = "inference protocol"
    base = f"/v2/models/{identity.name}"
    infer = {
        "operationId": "infer",
        "summary": "Score rows of encoded numbers (Open Inference Protocol v2)",
        "tags": [tag],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "200": {"description": "Output tensors", "content": {"application/json": {"schema": {}}}},
            **{status: _problem(text) for status, text in _PROBLEMS.items()},
        },
    }
    return {
        "/v2": {"get": _get("inferenceServer", "Server metadata", tag)},
        "/v2/health/live": {"get": _get("inferenceLive", "Liveness", tag)},
        "/v2/health/ready": {"get": _get("inferenceReady", "Readiness", tag, unready=True)},
        base: {"get": _get("inferenceModel", "Model metadata", tag)},
        f"{base}/ready": {"get": _get("inferenceModelReady", "Model readiness", tag)},
        f"{base}/infer": {"post": infer},
    }


def _schemas(contract: Contract, limits: Limits) -> Json:
    decisions = [cutoff.decision for cutoff in contract.cutoffs]
    return {
        "Applicant": {
            "type": "object",
            "additionalProperties": False,
            "required": [f.name for f in contract.features if f.missing == "forbidden"],
            "properties": {feature.name: _property(feature) for feature in contract.features},
        },
        "ScoreRequest": {
            "type": "object",
            "additionalProperties": False,
            "required": ["applicants"],
            "properties": {
                "applicants": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": limits.rows,
                    "items": {"$ref": "#/components/schemas/Applicant"},
                },
                "request_id": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
            },
        },
        "ScoreResponse": _object(
            request_id={"type": "string"},
            model=_object(**{key: {"type": "string"} for key in ("name", "version", "revision", "digest")}),
            results={"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
        ),
        "Result": _object(
            probability={"type": "number", "minimum": 0, "maximum": 1, "description": "Probability of default"},
            log_odds={"type": "number", "description": "Natural log of bad:good odds"},
            points={"type": "integer", "description": "Score points: higher is better"},
            decision={"type": "string", "enum": decisions},
            cutoff=_object(
                decision={"type": "string", "enum": decisions},
                min_probability={"type": "number"},
            ),
            reasons={
                "type": "array",
                "maxItems": MAX_REASONS,
                "items": _object(
                    code={"type": "string"},
                    text={"type": "string"},
                    feature={"type": "string"},
                    contribution={"type": "number", "description": "Log-odds against the baseline, to 6 decimals"},
                ),
            },
        ),
        "Problem": _problem_schema(),
    }


def _problem_schema() -> Json:
    field_error = _object(
        path={"type": "string", "description": "JSON Pointer"},
        message={"type": "string"},
        kind={"type": "string"},
        allowed={},
    )
    schema = _object(
        type={"type": "string"}, title={"type": "string"}, status={"type": "integer"}, detail={"type": "string"}
    )
    schema["properties"] |= {"request_id": {"type": "string"}, "errors": {"type": "array", "items": field_error}}
    return schema


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _property(feature: Feature) -> Json:
    described = f"{feature.description or feature.name}{f' ({feature.unit})' if feature.unit else ''}"
    schema: Json = {"description": described, "examples": [_example(feature)]}
    if feature.dtype == "category":
        labels = [f"{c.value}: {c.label}" for c in feature.categories if c.label]
        values: list[Any] = [category.value for category in feature.categories]
        schema["enum"] = values + ([None] if feature.missing == "allowed" else [])
        schema["type"] = _types(feature, *dict.fromkeys(_JSON_TYPES[type(value)] for value in values))
        if labels:
            schema["description"] = f"{described}. {'; '.join(labels)}"
        return schema
    schema["type"] = _types(feature, feature.dtype)
    return schema | (_integer(feature) if feature.dtype == "integer" else _number(feature))


def _types(feature: Feature, *names: str) -> str | list[str]:
    found = [*names, "null"] if feature.missing == "allowed" else [*names]
    return found[0] if len(found) == 1 else found


def _number(feature: Feature) -> Json:
    """The graph computes in float32, which bounds what has no bounds of its own."""
    return {
        "minimum": -FLOAT32_LIMIT if feature.minimum is None else feature.minimum,
        "maximum": FLOAT32_LIMIT if feature.maximum is None else feature.maximum,
    }


def _integer(feature: Feature) -> Json:
    """64 bits are promised, though the server takes more: generated clients have no type for more."""
    return {
        "format": "int64",
        "minimum": -(2**63) if feature.minimum is None else math.ceil(feature.minimum),
        "maximum": 2**63 - 1 if feature.maximum is None else math.floor(feature.maximum),
    }


def _example(feature: Feature) -> str | int | float | None:
    if feature.example is not None:
        return feature.example
    if feature.categories:
        return feature.categories[0].value
    if feature.missing == "allowed":
        return None
    low = feature.minimum if feature.minimum is not None else min(0.0, feature.maximum or 0.0)
    return int(low) if feature.dtype == "integer" else low
