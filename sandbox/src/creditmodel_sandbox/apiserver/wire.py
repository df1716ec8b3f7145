"""Between HTTP and objects: bodies and queries in, JSON and tables out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml
from aiohttp import web

from creditmodel_sandbox.apiserver import patch
from creditmodel_sandbox.apiserver.errors import (
    ApiError,
    FieldError,
    bad_request,
    invalid_options,
    invalid_value,
    unsupported_media_type,
    unsupported_value,
)
from creditmodel_sandbox.apiserver.events import from_core
from creditmodel_sandbox.apiserver.objects import DeleteOptions, Options
from creditmodel_sandbox.apiserver.protobuf import PROTOBUF, decode_object
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.storage import Key, Record
from creditmodel_sandbox.apiserver.tables import partial, table
from creditmodel_sandbox.notation import is_set

__all__ = [
    "APPLY",
    "View",
    "change_of",
    "check_list_options",
    "continue_token",
    "delete_options",
    "json_answer",
    "parse_delete_options",
    "parse_fields",
    "read_body",
    "read_continue_token",
    "version_number",
    "whole_number",
    "write_options",
]

JSON = dict[str, Any]
MAX_VERSION_DIGITS = 18
MAX_MANAGER = 128
APPLY = "application/apply-patch+yaml"
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_POLICIES = ("Foreground", "Background", "Orphan")


class _Loader(yaml.SafeLoader):
    """YAML as JSON has it: a date is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


# Requests


async def read_body(request: web.Request) -> JSON:
    """The object in a request's body: JSON, YAML, or a built-in kind as protobuf."""
    data, kind = await request.read(), request.content_type
    if kind == PROTOBUF:
        return decode_object(data)
    if kind not in ("application/json", "application/yaml", APPLY, "application/octet-stream"):
        raise unsupported_media_type(["application/json", "application/yaml", PROTOBUF])
    try:
        body = msgspec.json.decode(data)
    except msgspec.DecodeError:
        if "yaml" not in kind:
            raise
        body = yaml.load(data, _Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(body, dict):
        raise bad_request("the body must be one object")
    return body


def write_options(request: web.Request) -> Options:
    """What the query says of how to write."""
    query = request.query
    manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0][:MAX_MANAGER]
    dry_run, validation = query.getall("dryRun", []), query.get("fieldValidation") or "Warn"
    errors = []
    if "force" in query and request.content_type != APPLY:
        errors.append(_forbidden("force", "may not be specified for non-apply patch"))
    if dry_run not in ([], ["All"]):
        errors.append(unsupported_value("dryRun", dry_run, ["All"]))
    if validation not in _VALIDATIONS:
        errors.append(unsupported_value("fieldValidation", validation, _VALIDATIONS))
    if len(manager) > MAX_MANAGER:
        text = f"Too long: may not be more than {MAX_MANAGER} bytes"
        errors.append(FieldError("fieldManager", "FieldValueTooLong", text))
    if errors:
        kind = {"POST": "CreateOptions", "PUT": "UpdateOptions"}.get(request.method, "PatchOptions")
        raise invalid_options(kind, errors)
    return Options(manager, bool(dry_run), validation, is_set(query.get("force")))


def check_list_options(query: Mapping[str, str], watch: bool) -> None:
    """Raises 422 for combinations of versions that a list or watch cannot be asked for."""
    match, rv = query.get("resourceVersionMatch"), query.get("resourceVersion")
    initial, errors = query.get("sendInitialEvents"), []
    if watch and initial:
        if match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            errors.append(_forbidden("resourceVersionMatch", text))
    elif match:
        if watch:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(_forbidden("resourceVersionMatch", text))
        elif query.get("continue"):
            text = "resourceVersionMatch is forbidden when continue is provided"
            errors.append(_forbidden("resourceVersionMatch", text))
        elif not rv:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            errors.append(_forbidden("resourceVersionMatch", text))
        elif match not in ("Exact", "NotOlderThan"):
            errors.append(unsupported_value("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
        elif (match, rv) == ("Exact", "0"):
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            errors.append(_forbidden("resourceVersionMatch", text))
    if initial and not watch:
        errors.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if errors:
        raise invalid_options("ListOptions", errors)


def _forbidden(field: str, why: str) -> FieldError:
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {why}")


async def delete_options(request: web.Request) -> DeleteOptions:
    """What body and query say of how to delete."""
    data = await request.read()
    body: JSON = {}
    if data:
        body = decode_object(data) if request.content_type == PROTOBUF else msgspec.json.decode(data)
    return parse_delete_options(body, dict(request.query), request.query.getall("dryRun", body.get("dryRun") or []))


def parse_delete_options(body: JSON, query: JSON, dry_run: list[str]) -> DeleteOptions:
    grace = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    policy = query.get("propagationPolicy", body.get("propagationPolicy"))
    orphan = query.get("orphanDependents", body.get("orphanDependents"))
    if policy is not None and orphan is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        raise invalid_options("DeleteOptions", [invalid_value("propagationPolicy", policy, text)])
    if orphan is not None:
        policy = "Orphan" if is_set(str(orphan)) else "Background"
    if policy not in (None, *_POLICIES):
        errors = [unsupported_value("propagationPolicy", policy, [*_POLICIES, "nil"])]
        raise invalid_options("DeleteOptions", errors)
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        whole_number(grace), policy, preconditions.get("uid"), preconditions.get("resourceVersion"), bool(dry_run)
    )


def change_of(content_type: str, body: Any, resource: Resource) -> Callable[[JSON], JSON]:
    """What a patch does to an object."""
    match content_type:
        case "application/json-patch+json":
            return lambda obj: _object(patch.json_patch(obj, body))
        case "application/merge-patch+json":
            return lambda obj: _object(patch.merge(obj, body))
        case "application/strategic-merge-patch+json" if resource.custom is None:
            return lambda obj: _object(patch.strategic(resource.node, obj, body))
        case _:
            known = ["application/json-patch+json", "application/merge-patch+json", APPLY]
            raise unsupported_media_type(known)


def _object(patched: Any) -> JSON:
    if not isinstance(patched, dict):
        raise bad_request("the patch does not leave an object")
    return patched


_FIELD = re.compile(r"([^\s,!=]+)\s*(==|!=|=)\s*([^\s,!=]*)")


def parse_fields(text: str, resource: Resource) -> Callable[[Record], bool]:
    """A test of a record, from `metadata.name=x,status.phase!=Running`."""
    wanted = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _FIELD.fullmatch(part)
        if found is None:
            raise bad_request(f'invalid field selector: "{text}"; can\'t understand {part!r}')
        name, operator, value = found.groups()
        if name not in ("metadata.name", "metadata.namespace", *resource.fields):
            raise bad_request(f"field label not supported: {name}")
        wanted.append((name, value, operator != "!="))
    return lambda record: all((record.field(name) == value) == equal for name, value, equal in wanted)


def whole_number(text: Any, default: int | None = None) -> int | None:
    """A number of a query or body; None or "" gives the default."""
    if text in (None, ""):
        return default
    if re.fullmatch(r"-?\d{1,18}", str(text)):
        return int(text)
    raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')


def version_number(text: str) -> int:
    """A resourceVersion as a number."""
    if not text.isdigit() or len(text) > MAX_VERSION_DIGITS:
        raise bad_request(f'resourceVersion: Invalid value: "{text}": it must be a number that this server gave')
    return int(text)


def continue_token(rv: int, last: Key) -> str:
    """Where the next page of a list begins, and of which version."""
    return base64.urlsafe_b64encode(json.dumps([rv, *last]).encode()).decode()


def read_continue_token(token: str) -> tuple[int, Key]:
    try:
        rv, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise bad_request("continue key is not valid: it must come from a list of this server") from error
    return rv, (namespace, name)


# Answers


def json_answer(body: Any, code: int = 200, headers: Iterable[tuple[str, str]] = ()) -> web.Response:
    """Anything as JSON."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(body=data, status=code, content_type="application/json", headers=dict(headers) or None)


_JSON_TYPES = ("application/json", "application/*", "*/*", "")


@dataclass(frozen=True, slots=True)
class View:
    """The form in which a client wants objects: whole, as a table, or their metadata alone."""

    form: str = ""
    include: str = "Metadata"

    @classmethod
    def of(cls, request: web.Request) -> View:
        """The first form that the Accept header names and the server has. Raises 406 when it has none."""
        options = [option.replace(" ", "").split(";") for option in request.headers.get("Accept", "*/*").split(",")]
        for kind, *words in options:
            given = dict(word.split("=", 1) for word in words if "=" in word)
            form = given.get("as", "")
            if kind not in _JSON_TYPES or given.get("v", "v1") != "v1":
                continue
            if form.removesuffix("List") in ("", "Table", "PartialObjectMetadata"):
                return cls(form.removesuffix("List"), request.query.get("includeObject", "Metadata"))
        raise ApiError(406, "NotAcceptable", "only the following media types are accepted: application/json")

    def one(self, resource: Resource, record: Record) -> bytes:
        """A stored object."""
        return (
            msgspec.json.encode(self.shown(resource, _typed(resource, record)))
            if self.form
            else _whole(resource, record)
        )

    def shown(self, resource: Resource, obj: JSON) -> JSON:
        """Any object."""
        match self.form:
            case "Table":
                version = obj["metadata"].get("resourceVersion", "")  # an object of a dry run has none
                return table(resource, [obj], {"resourceVersion": version}, self.include)
            case "PartialObjectMetadata":
                return partial(obj)
            case _:
                return obj

    def many(self, resource: Resource, records: Iterable[Record], metadata: JSON) -> bytes:
        """A list."""
        match self.form:
            case "Table":
                objects = (_typed(resource, record) for record in records)
                return msgspec.json.encode(table(resource, objects, metadata, self.include))
            case "PartialObjectMetadata":
                head: JSON = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
                return msgspec.json.encode(head | {"items": [partial(record.object()) for record in records]})
            case _:
                head = {"kind": resource.list_kind, "apiVersion": resource.api_version}
                head["metadata"] = metadata if resource.custom is None else {"continue": "", **metadata}
                items = b",".join(_listed(resource, record) for record in records)
                return msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}"


def _typed(resource: Resource, record: Record) -> JSON:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **record.object()}


def _whole(resource: Resource, record: Record) -> bytes:
    if resource.group == "events.k8s.io":
        return msgspec.json.encode({"kind": resource.kind} | from_core(record.object()))
    return f'{{"apiVersion":"{resource.api_version}","kind":"{resource.kind}",'.encode() + record.raw[1:]


def _listed(resource: Resource, record: Record) -> bytes:
    """An item of a list, which names its kind only where Kubernetes does: in lists of custom resources."""
    return record.raw if resource.custom is None and resource.group != "events.k8s.io" else _whole(resource, record)
