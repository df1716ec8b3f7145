"""CustomResourceDefinitions: what they must satisfy, and the resources that they define."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from creditmodel_sandbox.apiserver.cel import CelRule
from creditmodel_sandbox.apiserver.cel_types import check_rules
from creditmodel_sandbox.apiserver.discovery import priority
from creditmodel_sandbox.apiserver.errors import FieldError, invalid_value, required, unsupported_value
from creditmodel_sandbox.apiserver.jsonpath import JsonPathError, compile_path
from creditmodel_sandbox.apiserver.resources import Registry, Resource, Scale, builtin_node
from creditmodel_sandbox.apiserver.schema import MISSING, Node, Rule, ask_rules, validate

__all__ = ["CRD_FINALIZER", "CRD_STORAGE", "accept_names", "check_definition", "custom_resources", "serve_definition"]

JSON = dict[str, Any]
Errors = Iterator[FieldError]

CRD_STORAGE = "customresourcedefinitions.apiextensions.k8s.io"
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("integer", "number", "string", "boolean", "date")
_REFUSED = (
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
)


def accept_names(obj: JSON, now: str) -> None:
    """Accept a definition's names and serve it: nothing in the sandbox competes for names."""
    found = {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or ()}
    texts = {
        "NamesAccepted": ("NoConflicts", "no conflicts found"),
        "Established": ("InitialNamesAccepted", "the initial names have been accepted"),
    }
    conditions = [
        found.get(kind)
        or {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}
        for kind, (reason, message) in texts.items()
    ]
    stored = list((obj.get("status") or {}).get("storedVersions") or ())
    stored += [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage") and v["name"] not in stored]
    obj["status"] = {"conditions": conditions, "acceptedNames": obj["spec"]["names"], "storedVersions": stored}


def _rules(schema: JSON) -> list[Rule]:
    return [CelRule(rule) for rule in schema.get("x-kubernetes-validations") or ()]


def custom_node(schema: JSON) -> Node:
    """The schema of a custom resource, with the metadata that every object has.

    Raises CelError.
    """
    meta = builtin_node("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    node = Node.parse(schema, _rules, meta)
    node.preserve = node.preserve or not schema
    for name in ("apiVersion", "kind"):
        node.properties[name] = Node({"type": "string"})
    given = node.properties.get("metadata")
    node.properties["metadata"] = _Metadata(meta, given)
    node.filled = True
    return node


class _Metadata(Node):
    """ObjectMeta, with the limits that a custom resource may put on the object's name."""

    __slots__ = ("_meta",)

    def __init__(self, meta: Node, given: Node | None) -> None:
        super().__init__({"type": "object"}, builtin=True)
        self._meta, self.filled = meta, True
        self.properties = dict(meta.properties)
        if given is not None and "name" in given.properties:
            self.properties["name"] = given.properties["name"]


def custom_resources(definition: JSON) -> Iterator[Resource]:
    """The resources of a definition, one for each version that it serves."""
    spec, names = definition["spec"], definition["spec"]["names"]
    for version in spec["versions"]:
        if version.get("served"):
            subresources = version.get("subresources") or {}
            scale = subresources.get("scale")
            yield Resource(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(name for name in ("status", "scale") if name in subresources),
                fields=tuple(field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()),
                scale=_scale(scale) if scale else None,
                custom=version,
                node=custom_node((version.get("schema") or {}).get("openAPIV3Schema") or {}),
                singular=names.get("singular") or names["kind"].lower(),
                list_kind=names.get("listKind") or f"{names['kind']}List",
                deprecation=_deprecation(spec, version) if version.get("deprecated") else "",
            )


def _deprecation(spec: JSON, version: JSON) -> str:
    """What to warn of, and the newest version to use instead."""
    kind = spec["names"]["kind"]
    text = f"{spec['group']}/{version['name']} {kind} is deprecated"
    current = [other["name"] for other in spec["versions"] if other.get("served") and not other.get("deprecated")]
    newest = max(current, key=priority, default=version["name"])
    if priority(newest) > priority(version["name"]):
        text += f"; use {spec['group']}/{newest} {kind}"
    return str(version.get("deprecationWarning") or text)


def _scale(paths: JSON) -> Scale:
    selector = paths.get("labelSelectorPath", "").lstrip(".") or None
    return Scale(paths["specReplicasPath"].lstrip("."), paths["statusReplicasPath"].lstrip("."), selector)


def serve_definition(registry: Registry, definition: JSON) -> None:
    """Serve what a definition defines."""
    registry.define(definition["metadata"]["name"], custom_resources(definition))


# Validation


def check_definition(obj: JSON, old: JSON | None) -> list[FieldError]:
    """What is wrong with a definition. One that did not change is not judged again."""
    return [] if old is not None and old["spec"] == obj["spec"] else list(_definition_errors(obj, old))


def _definition_errors(obj: JSON, old: JSON | None) -> Errors:
    spec, names = obj["spec"], obj["spec"].get("names") or {}
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if obj["metadata"]["name"] != wanted:
        text = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", obj["metadata"]["name"], text)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield unsupported_value("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    if (spec.get("conversion") or {}).get("strategy") != "None":
        text = "the sandbox converts between versions with strategy None alone"
        yield invalid_value("spec.conversion.strategy", spec["conversion"].get("strategy"), text)
    if old is not None:
        for path in ("group", "scope"):
            if spec.get(path) != old["spec"].get(path):
                yield invalid_value(f"spec.{path}", spec.get(path), "field is immutable")
    versions = spec.get("versions") or []
    names_of_versions = [version["name"] for version in versions]
    for index, name in enumerate(((old or {}).get("status") or {}).get("storedVersions") or ()):
        if name not in names_of_versions:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            yield invalid_value(f"status.storedVersions[{index}]", name, text)
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid_value("spec.versions", versions, "must have exactly one version marked as storage version")
    for index, version in enumerate(versions):
        yield from _version_errors(version, f"spec.versions[{index}]")


def _version_errors(version: JSON, path: str) -> Errors:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        yield required(f"{path}.schema.openAPIV3Schema", "schemas are required")
        return
    where = f"{path}.schema.openAPIV3Schema"
    if schema.get("type") != "object":
        yield invalid_value(f"{where}.type", schema.get("type", ""), "must be object at the root")
    errors = list(_schema_errors(schema, where))
    yield from errors
    if not errors:
        yield from _default_errors(schema, Node.parse(schema, _rules), where)
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _column_errors(column, f"{path}.additionalPrinterColumns[{index}]")


def _column_errors(column: JSON, path: str) -> Errors:
    if column.get("type") not in _COLUMN_TYPES:
        yield unsupported_value(f"{path}.type", column.get("type"), _COLUMN_TYPES)
    try:
        compile_path(column.get("jsonPath", ""))
    except JsonPathError as error:
        yield invalid_value(f"{path}.jsonPath", column.get("jsonPath"), str(error))


def _schema_errors(schema: JSON, path: str, blind: str = "") -> Errors:
    """Whether a schema is structural, and its rules can be compiled.

    `blind` is the list above it, if there is one, whose items have no identity and so no old value.
    """
    yield from _type_errors(schema, path)
    for word in _REFUSED:
        if word in schema:
            yield FieldError(f"{path}.{word}", "FieldValueForbidden", f"Forbidden: {word} is not supported")
    if schema.get("properties") and schema.get("additionalProperties"):
        text = "Forbidden: additionalProperties and properties are mutual exclusive"
        yield FieldError(f"{path}.additionalProperties", "FieldValueForbidden", text)
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")
    if schema.get("x-kubernetes-list-type") == "map":
        yield from _map_list_errors(schema, path)
    yield from _rule_errors(schema, path, blind)
    for name, child in (schema.get("properties") or {}).items():
        if not (name == "metadata" and path.endswith("openAPIV3Schema")):
            yield from _schema_errors(child, f"{path}.properties[{name}]", blind)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _schema_errors(schema["additionalProperties"], f"{path}.additionalProperties", blind)
    if isinstance(schema.get("items"), dict):
        keyed = schema.get("x-kubernetes-list-type") == "map"
        yield from _schema_errors(schema["items"], f"{path}.items", blind or ("" if keyed else path))


def _type_errors(schema: JSON, path: str) -> Errors:
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not free:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    elif schema.get("type") and schema["type"] not in _TYPES:
        yield unsupported_value(f"{path}.type", schema["type"], _TYPES)


def _rule_errors(schema: JSON, path: str, blind: str) -> Errors:
    for index, complaint in enumerate(check_rules(schema, root=path.endswith("openAPIV3Schema"))):
        if complaint:
            rule = schema["x-kubernetes-validations"][index]["rule"]
            yield invalid_value(f"{path}.x-kubernetes-validations[{index}].rule", rule, complaint)
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        if blind and CelRule.looks_back(rule):
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {blind}"
            yield invalid_value(f"{path}.x-kubernetes-validations[{index}].rule", rule["rule"], text)


def _map_list_errors(schema: JSON, path: str) -> Errors:
    items = schema.get("items") or {}
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    for key in keys:
        child = (items.get("properties") or {}).get(key)
        if child is None:
            text = "entries must all be names of item properties"
            yield invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, text)
        elif key not in (items.get("required") or ()) and "default" not in child:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            yield required(f"{path}.items.properties[{key}].default", text)


def _default_errors(schema: JSON, node: Node, path: str) -> Errors:
    if "default" in schema:
        where = f"{path}.default"
        # As it stands: what the fields in it default to is not in it yet.
        yield from validate(node, schema["default"], path=where) or ask_rules(node, schema["default"], MISSING, where)
    for name, child in (schema.get("properties") or {}).items():
        yield from _default_errors(child, node.properties[name], f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), dict) and node.items is not None:
        yield from _default_errors(schema["items"], node.items, f"{path}.items")
