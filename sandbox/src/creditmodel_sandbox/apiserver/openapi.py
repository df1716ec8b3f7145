"""OpenAPI v3: the published schemas and the custom ones, as kubectl explain and kubectl's validation read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from creditmodel_sandbox.apiserver.errors import not_implemented
from creditmodel_sandbox.apiserver.resources import Registry, Resource, builtin_definitions, definition_name

__all__ = ["answer", "document", "index"]

JSON = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_PATCHES = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
STRATEGIC = "application/strategic-merge-patch+json"
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def answer(registry: Registry, parts: list[str], accept: str) -> web.Response | None:
    """GET /openapi/v3 and the documents below it."""
    match parts:
        case ["v2"] if accept.endswith("+protobuf"):
            # What kubectl asks for when no v3 document has a kind. It finds none here either, and says so.
            return web.Response(body=b"", content_type=_V2_PROTOBUF)
        case ["v3"]:
            return web.json_response(index(registry))
        case ["v3", "api", version]:
            found = document(registry, "", version)
        case ["v3", "apis", group, version]:
            found = document(registry, group, version)
        case _:
            raise not_implemented("/".join(["/openapi", *parts]))
    return None if found is None else web.json_response(found, headers={"ETag": f'"{_digest(found)}"'})


def index(registry: Registry) -> JSON:
    """Where each version's document is; the hash in its address changes with its content."""
    versions = sorted({(resource.group, resource.version) for resource in registry})
    paths = {}
    for group, version in versions:
        name = f"apis/{group}/{version}" if group else f"api/{version}"
        resources = [resource for resource in registry if (resource.group, resource.version) == (group, version)]
        digest = _digest([[r.plural, r.custom] for r in resources])
        paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
    return {"paths": paths}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32].upper()


def document(registry: Registry, group: str, version: str) -> JSON | None:
    """The document of one group version: its resources' paths, and every schema that they need."""
    resources = [resource for resource in registry if (resource.group, resource.version) == (group, version)]
    if not resources:
        return None
    paths: JSON = {}
    schemas: JSON = {}
    for resource in resources:
        name = schema_name(resource)
        paths |= dict(_paths(resource, name))
        if resource.custom is not None:
            schemas[name] = _custom_schema(resource)
            schemas[f"{name}List"] = _list_schema(resource, name)
            _collect(f"{_META}.ObjectMeta", schemas)
            _collect(f"{_META}.ListMeta", schemas)
        elif name in builtin_definitions():
            _collect(name, schemas)
    _collect(f"{_META}.DeleteOptions", schemas)
    info = {"title": "Kubernetes", "version": "v1.36.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def schema_name(resource: Resource) -> str:
    """The name of a resource's schema; a custom one's group is reversed, as in dev.creditmodel.v1alpha1.CreditModel."""
    if resource.custom is None:
        return definition_name(resource.group, resource.version, resource.kind)
    return f"{'.'.join(reversed(resource.group.split('.')))}.{resource.version}.{resource.kind}"


def _gvk(resource: Resource) -> JSON:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _paths(resource: Resource, name: str) -> Iterator[tuple[str, JSON]]:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    base = f"{root}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"
    one = {"$ref": f"#/components/schemas/{name}"}
    content = {"application/json": {"schema": one}}
    kinds = [*_PATCHES, STRATEGIC] if resource.custom is None else _PATCHES
    parameters = [
        {"name": word, "in": "query", "schema": {"type": "string"}}
        for word in ("dryRun", "fieldManager", "fieldValidation")
    ]

    def operation(action: str, accepted: JSON | None = None, query: list[JSON] | None = None) -> JSON:
        found: JSON = {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": _gvk(resource)}
        found["responses"] = {"200": {"description": "OK", "content": content}}
        if accepted:
            found["requestBody"] = {"required": True, "content": accepted}
        return found | ({"parameters": query} if query else {})

    if resource.virtual:
        yield base, {"post": operation("post", content, parameters)}
        return
    yield base, {"get": operation("list"), "post": operation("post", content, parameters)}
    patches = {kind: {"schema": {"type": "object"}} for kind in kinds}
    yield (
        f"{base}/{{name}}",
        {
            "get": operation("get"),
            "put": operation("put", content, parameters),
            "patch": operation("patch", patches, parameters),
            "delete": operation("delete", None, parameters),
        },
    )


def _custom_schema(resource: Resource) -> JSON:
    schema = dict((resource.custom or {})["schema"]["openAPIV3Schema"])
    meta = {
        "description": "Standard object's metadata.",
        "allOf": [{"$ref": f"#/components/schemas/{_META}.ObjectMeta"}],
    }
    own = {
        name: builtin_definitions()["io.k8s.api.core.v1.Pod"]["properties"][name]["description"]
        for name in ("apiVersion", "kind")
    }
    strings = {name: {"type": "string", "description": text} for name, text in own.items()}
    schema["properties"] = {**strings, "metadata": meta, **_without_meta(schema.get("properties", {}))}
    return schema | {"x-kubernetes-group-version-kind": [_gvk(resource)]}


def _without_meta(properties: JSON) -> JSON:
    return {name: child for name, child in properties.items() if name not in ("apiVersion", "kind", "metadata")}


def _list_schema(resource: Resource, name: str) -> JSON:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}
    meta = {"allOf": [{"$ref": f"#/components/schemas/{_META}.ListMeta"}]}
    properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta, "items": items}
    kind = _gvk(resource) | {"kind": resource.list_kind}
    return {"type": "object", "properties": properties, "x-kubernetes-group-version-kind": [kind]}


def _collect(name: str, schemas: JSON) -> None:
    """Add a published schema and all that it refers to."""
    if name in schemas:
        return
    schemas[name] = {}
    schemas[name] = _translate(builtin_definitions()[name], schemas)


def _translate(schema: Any, schemas: JSON) -> Any:
    """A JSON schema in OpenAPI's words: one type, and references to components."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = schema["$ref"].rsplit("/", 1)[1]
        _collect(target, schemas)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {**rest, "allOf": [{"$ref": f"#/components/schemas/{target}"}]}
    translated = dict(schema)
    if "properties" in schema:
        translated["properties"] = {name: _translate(child, schemas) for name, child in schema["properties"].items()}
    for word in ("items", "additionalProperties"):
        if word in schema:
            translated[word] = _translate(schema[word], schemas)
    if isinstance(schema.get("type"), list):
        translated["type"] = schema["type"][0]
    if "oneOf" in schema:
        translated["oneOf"] = [_translate(part, schemas) for part in schema["oneOf"]]
    return translated
