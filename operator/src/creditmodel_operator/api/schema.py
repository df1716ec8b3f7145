"""The structural schema of a typed model: every field has a type, nothing is a $ref, and no field may be null."""

from __future__ import annotations

from typing import Any

from creditmodel_operator.api.base import Part

__all__ = ["schema_of"]


def schema_of(model: type[Part]) -> dict[str, Any]:
    """The structural schema of a model."""
    document = model.model_json_schema(by_alias=True)
    return _structural(document, document.get("$defs", {}))


_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One node of pydantic's JSON schema as a structural schema: references resolved, nulls dropped."""
    node = _resolved(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]} | {k: node[k] for k in _KEPT if k in node}
    result = {key: node[key] for key in _KEPT if key in node}
    if "description" in result:
        result["description"] = _unwrapped(result["description"])
    if "const" in node:
        result["enum"] = [node["const"]]
    if node.get("default") is not None and node["default"] != []:
        result["default"] = _without_nulls(node["default"])
    if "properties" in node:
        result["properties"] = {name: _structural(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    return result


def _unwrapped(text: str) -> str:
    """The paragraphs of a docstring, each as one line: whoever prints them wraps them."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node with its reference or its `X | None` replaced by X; what stands beside it wins."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rsplit("/", 1)[1]], definitions) | beside
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        return _resolved(options[0], definitions) | beside
    return node


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
