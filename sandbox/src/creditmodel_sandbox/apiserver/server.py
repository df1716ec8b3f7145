"""The HTTP side: finds what a request is about, asks the part that knows, writes the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import yaml
from aiohttp import web

from creditmodel_sandbox.apiserver import access, admission, discovery, openapi, subresources, watch
from creditmodel_sandbox.apiserver.credentials import Credentials
from creditmodel_sandbox.apiserver.errors import (
    ApiError,
    bad_request,
    invalid_options,
    method_not_allowed,
    not_implemented,
    required,
)  # fmt: skip
from creditmodel_sandbox.apiserver.events import from_core, to_core
from creditmodel_sandbox.apiserver.nodes import Nodes
from creditmodel_sandbox.apiserver.objects import Objects
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.storage import Key, Record
from creditmodel_sandbox.apiserver.wire import (
    APPLY,
    View,
    change_of,
    check_list_options,
    continue_token,
    delete_options,
    json_answer,
    parse_delete_options,
    parse_fields,
    read_body,
    read_continue_token,
    version_number,
    whole_number,
    write_options,
)  # fmt: skip
from creditmodel_sandbox.notation import SelectorError, is_set, matches, parse_selector

__all__ = ["Server"]

JSON = dict[str, Any]
logger = logging.getLogger(__name__)

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "gitVersion": "v1.36.0+creditmodel-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_ROOT = ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SHOWN_WHEN_DELETED = ("pods", "services", "namespaces", "customresourcedefinitions")
SCALE = Resource("autoscaling", "v1", "scales", "Scale", namespaced=True)
ACCOUNT_TRIES, ACCOUNT_SECONDS = 10, 0.15
_CLIENT_ERRORS = (msgspec.DecodeError, yaml.YAMLError)


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


def _warning(text: str) -> str:
    return '299 - "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _selector(text: str) -> JSON:
    try:
        return parse_selector(text)
    except SelectorError as error:
        raise bad_request(str(error)) from error


def _is_watch(request: web.Request, target: Target) -> bool:
    """One object cannot be watched: asking for it by name gives it."""
    return not target.name and is_set(request.query.get("watch"))


def _verb(request: web.Request, target: Target) -> str:
    """The request's verb in the words of a Role."""
    match request.method:
        case "GET":
            return "watch" if _is_watch(request, target) else "get" if target.name else "list"
        case "POST":
            return "create"
        case "DELETE":
            return "delete" if target.name else "deletecollection"
        case method:
            return {"PUT": "update", "PATCH": "patch"}.get(method, method.lower())


class Server:
    """Answers requests. One per instance."""

    def __init__(self, objects: Objects, credentials: Credentials) -> None:
        self.objects, self.registry, self.store = objects, objects.registry, objects.store
        self.credentials, self.nodes = credentials, Nodes(objects)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request comes through here; every error leaves as a Status."""
        try:
            return await self._route(request)
        except ApiError as error:
            seconds = (error.details or {}).get("retryAfterSeconds")
            return json_answer(error.status(), error.code, [("Retry-After", str(seconds))] if seconds else ())
        except _CLIENT_ERRORS as error:
            return json_answer(bad_request(f"the body cannot be read: {error}").status(), 400)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            logger.exception("request failed: %s %s", request.method, request.path_qs)
            message = "the sandbox failed on this request: its log says how"
            return json_answer(ApiError(500, "InternalError", message).status(), 500)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if parts[:1] and parts[0] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        if parts == ["version"]:
            return json_answer(VERSION)
        user = access.authenticate(request.headers, self.credentials, self.store)
        if parts[:1] == ["api"] and len(parts) > 2:
            return await self._resource(request, user, "", parts[1], parts[2:])
        if parts[:1] == ["apis"] and len(parts) > 3:
            return await self._resource(request, user, parts[1], parts[2], parts[3:])
        found = self._document(request, parts)
        if found is None:
            raise ApiError(404, "NotFound", f"the server could not find the requested resource ({request.path})", {})
        return found

    def _document(self, request: web.Request, parts: list[str]) -> web.Response | None:
        """Discovery and OpenAPI."""
        found: Any = None
        match parts:
            case []:
                found = {"paths": _ROOT}
            case ["api" | "apis" as root] if "as=APIGroupDiscoveryList" in request.headers.get("Accept", ""):
                body = msgspec.json.encode(discovery.aggregated(self.registry, root == "api"))
                return web.Response(body=body, headers={"Content-Type": _AGGREGATED})
            case ["api"]:
                found = discovery.api_versions(request.host)
            case ["apis"]:
                found = discovery.group_list(self.registry)
            case ["apis", group]:
                found = discovery.group(self.registry, group)
            case ["api", version]:
                found = discovery.resource_list(self.registry, "", version)
            case ["apis", group, version]:
                found = discovery.resource_list(self.registry, group, version)
            case ["openapi", *rest]:
                return openapi.answer(self.registry, rest, request.headers.get("Accept", ""))
            case _:
                pass
        return None if found is None else json_answer(found)

    # Finding the way

    def _target(self, group: str, version: str, parts: list[str]) -> Target:
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in ("status", "finalize"):
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource = [*parts, "", ""][:3]
        resource = self.registry.get(group, version, plural)
        misplaced = resource is not None and bool(namespace) != resource.namespaced and bool(namespace or name)
        if resource is None or misplaced:
            what = f"{plural}.{group}/{version}" if group else f"{plural} in {version}"
            raise ApiError(
                404, "NotFound", f"the server could not find the requested resource ({what})", {"kind": plural}
            )
        if subresource and subresource not in resource.subresources:
            message = f"the server could not find the requested resource ({plural}/{subresource})"
            raise ApiError(404, "NotFound", message, {"kind": plural})
        return Target(resource, namespace, name, subresource)

    async def _resource(
        self, request: web.Request, user: access.User, group: str, version: str, parts: list[str]
    ) -> web.StreamResponse:
        target = self._target(group, version, parts)
        if not user.is_admin:
            self._authorize(request, user, target)
        if target.resource.absent and request.method not in ("GET", "DELETE"):
            raise not_implemented(target.resource.storage)
        if target.resource.virtual:
            return await self._review(request, user, target)
        if group == "metrics.k8s.io":
            return await self._metrics(request, target)
        if target.subresource not in ("", "status"):
            return await self._subresource(request, target)
        handler = self._handler(request, target)
        answer = await handler(request, target)
        if (warning := target.resource.deprecation) and not answer.prepared:
            answer.headers.add("Warning", _warning(warning))
        return answer

    def _handler(
        self, request: web.Request, target: Target
    ) -> Callable[[web.Request, Target], Awaitable[web.StreamResponse]]:
        match request.method, bool(target.name):
            case "GET", True:
                return self._get
            case "GET", _:
                return self._watch if _is_watch(request, target) else self._list
            case "POST", False:
                return self._create
            case "PUT", True:
                return self._put
            case "PATCH", True:
                return self._patch
            case "DELETE", True if not target.subresource:
                return self._delete
            case "DELETE", False:
                return self._delete_collection
            case _:
                raise method_not_allowed()

    def _authorize(self, request: web.Request, user: access.User, target: Target) -> None:
        resource = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
        namespace = target.namespace or (target.name if target.resource.storage == "namespaces" else "")
        action = access.Action(_verb(request, target), target.resource.group, resource, namespace, target.name)
        if not target.resource.virtual and not access.authorized(user, action, self.store):
            raise access.refuse(user, action)

    # Reading

    def _answer(
        self, request: web.Request, target: Target, record: Record, code: int = 200, warnings: list[str] | None = None
    ) -> web.Response:
        body = View.of(request).one(target.resource, record)
        answer = json_answer(body, code)
        for text in dict.fromkeys(warnings or ()):
            answer.headers.add("Warning", _warning(text))
        return answer

    async def _get(self, request: web.Request, target: Target) -> web.Response:
        return self._answer(request, target, self.objects.read(target.resource, target.key))

    def _matcher(self, request: web.Request, target: Target) -> tuple[Callable[[Record], bool], bool]:
        """A test of the records that a list or watch selects, and whether all pass it."""
        tests: list[Callable[[Record], bool]] = []
        if target.namespace:
            tests.append(lambda record: record.key[0] == target.namespace)
        if target.name:
            tests.append(lambda record: record.key[1] == target.name)
        if labels := request.query.get("labelSelector"):
            wanted = _selector(labels)
            tests.append(lambda record: matches(wanted, record.labels))
        if fields := request.query.get("fieldSelector"):
            tests.append(parse_fields(fields, target.resource))
        return lambda record: all(test(record) for test in tests), not tests

    async def _list(self, request: web.Request, target: Target) -> web.Response:
        query, resource = request.query, target.resource
        check_list_options(query, watch=False)
        collection = self.store.collection(resource.storage)
        selects, everything = self._matcher(request, target)
        rv, start, records = self.store.rv, ("", ""), collection.records
        if token := query.get("continue"):
            if query.get("resourceVersion", "0") not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            rv, start = read_continue_token(token)
            records = collection.snapshot(rv)
        elif wanted := version_number(query.get("resourceVersion") or "0"):
            self.store.check_known(wanted)
            if query.get("resourceVersionMatch") == "Exact":
                rv, records = wanted, collection.snapshot(wanted)
        chosen = [records[key] for key in sorted(records) if key > start and (everything or selects(records[key]))]
        metadata: JSON = {"resourceVersion": str(rv)}
        # Version 0 is whatever is at hand, and that is always everything.
        limit = 0 if query.get("resourceVersion") == "0" and not token else whole_number(query.get("limit"), 0)
        if limit and 0 < limit < len(chosen):
            metadata["continue"] = continue_token(rv, chosen[limit - 1].key)
            if not (query.get("labelSelector") or query.get("fieldSelector")):
                metadata["remainingItemCount"] = len(chosen) - limit
            chosen = chosen[:limit]
        return json_answer(View.of(request).many(resource, chosen, metadata))

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query, resource = request.query, target.resource
        check_list_options(query, watch=True)
        selects, everything = self._matcher(request, target)
        since = version_number(query.get("resourceVersion") or "0")
        initial, bookmarks = is_set(query.get("sendInitialEvents")), is_set(query.get("allowWatchBookmarks"))
        if "sendInitialEvents" in query and not initial:
            since = since or self.store.rv
        view = View.of(request)
        asked = watch.Watch(
            selects,
            everything,
            lambda record: view.one(resource, record),
            (resource.api_version, view),
            {"apiVersion": resource.api_version, "kind": resource.kind},
            since if since and not initial else None,
            bookmarks,
            initial and bookmarks,
            float(whole_number(query.get("timeoutSeconds"), 0) or 0),
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionResetError):  # the client has gone, as every watcher does
            async for chunk in watch.stream(self.store, self.store.collection(resource.storage), asked):
                await response.write(chunk)
        return response

    # Writing

    def _stored(self, target: Target) -> Resource:
        """The resource under which objects are written: events of both groups are core events."""
        if target.resource.group != "events.k8s.io":
            return target.resource
        return self.registry.builtin("events")

    async def _object(self, request: web.Request, target: Target) -> JSON:
        body = await read_body(request)
        return to_core(body) if target.resource.group == "events.k8s.io" else body

    async def _await_account(self, target: Target, body: JSON) -> None:
        """Give a new namespace's default account a moment to come before a pod is refused for want of it."""
        if not (target.resource.storage == "pods" and admission.needs_default_account(body)):
            return
        for _ in range(ACCOUNT_TRIES):
            if self.store.get("serviceaccounts", (target.namespace, "default")) is not None:
                return
            await asyncio.sleep(ACCOUNT_SECONDS)

    async def _create(self, request: web.Request, target: Target) -> web.Response:
        options, body = write_options(request), await self._object(request, target)
        if target.resource.namespaced and not target.namespace:
            raise method_not_allowed()
        await self._await_account(target, body)
        record = self.objects.create(self._stored(target), target.namespace, body, options)
        return self._answer(request, target, record, 201, options.warnings)

    async def _put(self, request: web.Request, target: Target) -> web.Response:
        options, body = write_options(request), await self._object(request, target)
        self.objects.check_replacement(self._stored(target), target.key, body)
        record = self.objects.update(self._stored(target), target.key, lambda _: body, options, target.subresource)
        return self._answer(request, target, record, 200, options.warnings)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        options, resource = write_options(request), self._stored(target)
        if request.content_type == APPLY:
            if not request.query.get("fieldManager"):
                raise invalid_options("PatchOptions", [required("fieldManager", "is required for apply patch")])
            body = await self._object(request, target)
            await self._await_account(target, body)
            record, created = self.objects.apply(resource, target.key, body, options, target.subresource)
            return self._answer(request, target, record, 201 if created else 200, options.warnings)
        change = change_of(request.content_type, msgspec.json.decode(await request.read()), target.resource)
        if resource is not target.resource:
            plain = change
            change = lambda obj: to_core(plain(from_core(obj)))  # noqa: E731 - a change of a change
        record = self.objects.update(resource, target.key, change, options, target.subresource)
        return self._answer(request, target, record, 200, options.warnings)

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request)
        record, gone = self.objects.delete(target.resource, target.key, options)
        if not gone or target.resource.plural in _SHOWN_WHEN_DELETED:
            return self._answer(request, target, record)
        details = {"name": target.name, "group": target.resource.group, "kind": target.resource.plural}
        details["uid"] = record.object()["metadata"]["uid"]
        return json_answer(subresources.success() | {"details": {name: text for name, text in details.items() if text}})

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request)
        selects, _ = self._matcher(request, target)
        answer = await self._list(request, target)
        records = self.store.collection(target.resource.storage).records
        for key in [key for key, record in records.items() if selects(record)]:
            if key in records:
                self.objects.delete(target.resource, key, options)
        return answer

    # What is more than storage

    async def _subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        resource, key, objects = target.resource, target.key, self.objects
        match target.subresource, request.method:
            case "log", "GET":
                return await self.nodes.logs(request, resource, key)
            case "scale", "GET":
                scale = subresources.scale_of(resource, objects.read(resource, key))
                return json_answer(View.of(request).shown(SCALE, scale))
            case "scale", "PUT" | "PATCH":
                options, change = write_options(request), await self._scale_change(request)
                return json_answer(subresources.set_scale(objects, resource, key, change, options))
            case "binding", "POST":
                return json_answer(subresources.bind(objects, resource, key, await read_body(request)), 201)
            case "eviction", "POST":
                body = await read_body(request)
                given = body.get("deleteOptions") or {}
                how = parse_delete_options(given, {}, request.query.getall("dryRun", given.get("dryRun") or []))
                return json_answer(subresources.evict(objects, resource, key, how), 201)
            case "finalize", "PUT":
                record = subresources.finalize(objects, resource, key, await read_body(request))
                return self._answer(request, target, record)
            case "token", "POST":
                body = await read_body(request)
                return json_answer(subresources.issue_token(objects, resource, key, body, self.credentials), 201)
            case name, _ if name in discovery.HIDDEN:
                raise not_implemented(f"{resource.plural}/{name}")
            case _:
                raise method_not_allowed()

    async def _scale_change(self, request: web.Request) -> Callable[[JSON], JSON]:
        if request.method == "PUT":
            body = await read_body(request)
            return lambda _: body
        kind, patched = request.content_type, msgspec.json.decode(await request.read())
        if kind.startswith(("application/strategic-merge", "application/apply")):
            kind = "application/merge-patch+json"  # a Scale has no list, and one field
        return change_of(kind, patched, SCALE)

    async def _review(self, request: web.Request, user: access.User, target: Target) -> web.Response:
        if request.method != "POST":
            raise method_not_allowed()
        body = await read_body(request)
        body |= {"apiVersion": target.resource.api_version, "kind": target.resource.kind}
        status = access.review(target.resource.kind, body, user, self.credentials, self.store)
        return json_answer({"metadata": {}, "spec": {}} | body | {"status": status}, 201)

    async def _metrics(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "GET" or _is_watch(request, target):
            raise method_not_allowed()
        items = await self.nodes.metrics(target.resource, target.namespace, target.name)
        if target.name:
            return json_answer(items[0])
        selects, _ = self._matcher(request, replace(target, namespace=""))
        chosen = [
            item
            for item in items
            if selects(Record(("", item["metadata"]["name"]), 0, b"", item["metadata"]["labels"], {}))
        ]
        head = {"kind": target.resource.list_kind, "apiVersion": target.resource.api_version, "metadata": {}}
        return json_answer(head | {"items": chosen})
