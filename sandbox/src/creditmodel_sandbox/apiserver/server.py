"""The HTTP side: reads a request, asks the parts that know, writes the answer."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml
from aiohttp import web

from creditmodel_sandbox.apiserver import discovery, patch, watch
from creditmodel_sandbox.apiserver.errors import ApiError, bad_request, method_not_allowed, not_implemented
from creditmodel_sandbox.apiserver.objects import DeleteOptions, Objects, Options
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.selectors import parse_fields, parse_labels
from creditmodel_sandbox.apiserver.storage import Key, Record

__all__ = ["Server", "Target"]

JSON = dict[str, Any]
logger = logging.getLogger(__name__)

VERSION = {
    "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "gitVersion": "v1.36.0+creditmodel-sandbox",
    "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "none",
    "platform": "linux/amd64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    rest: str

    @property
    def key(self) -> Key:
        return self.namespace, self.name


class Server:
    """Answers requests. One per instance."""

    def __init__(self, objects: Objects, authenticate: Callable[[web.Request], str]) -> None:
        self.objects, self.registry, self.store = objects, objects.registry, objects.store
        self._authenticate = authenticate

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request comes through here; every error leaves as a Status."""
        try:
            return await self._route(request)
        except ApiError as error:
            return _json(error.status(), error.code, headers=_retry(error))
        except (msgspec.DecodeError, yaml.YAMLError) as error:
            return _json(bad_request(f"the body cannot be read: {error}").status(), 400)
        except ConnectionError:
            raise
        except Exception:
            logger.exception("request failed: %s %s", request.method, request.path_qs)
            return _json(ApiError(500, "InternalError", "the sandbox failed on this request: see its log").status(), 500)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(VERSION)
        user = self._authenticate(request)
        if not parts:
            return _json({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})  # fmt: skip
        if parts[0] == "api" and len(parts) > 2:
            return await self._resource(request, user, "", parts[1], parts[2:])
        if parts[0] == "apis" and len(parts) > 3:
            return await self._resource(request, user, parts[1], parts[2], parts[3:])
        found = self._document(request, parts)
        if found is None:
            raise ApiError(404, "NotFound", f"the server could not find the requested resource: {request.path}", {})
        return found

    def _document(self, request: web.Request, parts: list[str]) -> web.Response | None:
        accept = request.headers.get("Accept", "")
        match parts:
            case ["api" | "apis" as root] if "as=APIGroupDiscoveryList" in accept:
                body = discovery.aggregated(self.registry, root == "api")
                return _json(body, content_type="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            case ["api"]:
                return _json(discovery.api_versions(request.host))
            case ["apis"]:
                return _json(discovery.group_list(self.registry))
            case ["apis", group]:
                return _maybe(discovery.group(self.registry, group))
            case ["api", version]:
                return _maybe(discovery.resource_list(self.registry, "", version))
            case ["apis", group, version]:
                return _maybe(discovery.resource_list(self.registry, group, version))
        return None

    # Resources

    def _target(self, group: str, version: str, parts: list[str]) -> Target:
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in ("status", "finalize"):
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource, *rest = [*parts, "", ""][: max(3, len(parts))]
        resource = self.registry.get(group, version, plural)
        if resource is None:
            what = f"{plural}.{group}/{version}" if group else f"{plural} in {version}"
            raise ApiError(404, "NotFound", f"the server could not find the requested resource ({what})", {"kind": plural, "group": group})  # fmt: skip
        if subresource and subresource not in resource.subresources:
            raise ApiError(404, "NotFound", f"the server could not find the requested resource ({plural}/{subresource})", {})
        if not resource.namespaced:
            namespace = ""
        return Target(resource, namespace, name, subresource, "/".join(rest))

    async def _resource(self, request: web.Request, user: str, group: str, version: str, parts: list[str]) -> web.StreamResponse:
        target = self._target(group, version, parts)
        if target.subresource not in ("", "status"):
            raise not_implemented(f"{target.resource.plural}/{target.subresource}")
        if target.name and target.resource.namespaced and not target.namespace:
            raise ApiError(404, "NotFound", "the server could not find the requested resource: a namespace is missing", {})
        match request.method, bool(target.name):
            case "GET", True if request.query.get("watch") in ("true", "1"):
                return await self._watch(request, target)
            case "GET", True:
                return self._answer(request, target, self.objects.read(target.resource, target.key))
            case "GET", False if request.query.get("watch") in ("true", "1"):
                return await self._watch(request, target)
            case "GET", False:
                return self._list(request, target)
            case "POST", False:
                return await self._create(request, user, target)
            case "PUT", True:
                return await self._put(request, user, target)
            case "PATCH", True:
                return await self._patch(request, user, target)
            case "DELETE", True:
                return await self._delete(request, target)
            case "DELETE", False:
                return await self._delete_collection(request, target)
        raise method_not_allowed()

    def _answer(self, request: web.Request, target: Target, record: Record, code: int = 200, warnings: list[str] | None = None) -> web.Response:
        headers = [("Warning", f'299 - "{_quote(text)}"') for text in warnings or ()]
        return web.Response(body=present(target.resource, record), status=code, content_type="application/json", headers=headers)

    def _matcher(self, request: web.Request, target: Target) -> tuple[Callable[[Record], bool], bool]:
        """A test of the records that a list or watch selects, and whether all pass it."""
        tests: list[Callable[[Record], bool]] = []
        namespace = target.namespace
        if namespace:
            tests.append(lambda record: record.key[0] == namespace)
        if target.name:
            tests.append(lambda record: record.key[1] == target.name)
        if labels := request.query.get("labelSelector"):
            holds = parse_labels(labels)
            tests.append(lambda record: holds(record.labels))
        if fields := request.query.get("fieldSelector"):
            tests.append(parse_fields(fields, target.resource))
        return lambda record: all(test(record) for test in tests), not tests

    def _list(self, request: web.Request, target: Target) -> web.Response:
        query, resource = request.query, target.resource
        collection = self.store.collection(resource.storage)
        matches, everything = self._matcher(request, target)
        limit = int(query.get("limit") or 0)
        rv, start = self.store.rv, ("", "")
        records = collection.records
        if token := query.get("continue"):
            rv, start = _read_token(token)
            records = collection.snapshot(rv)
        elif wanted := query.get("resourceVersion"):
            self.store.check_known(_version(wanted))
            if query.get("resourceVersionMatch") == "Exact":
                rv = int(wanted)
                records = collection.snapshot(rv)
        chosen = [records[key] for key in sorted(records) if key > start and (everything or matches(records[key]))]
        metadata: JSON = {"resourceVersion": str(rv)}
        if limit and len(chosen) > limit:
            metadata["continue"] = _token(rv, chosen[limit - 1].key)
            if not (query.get("labelSelector") or query.get("fieldSelector")):
                metadata["remainingItemCount"] = len(chosen) - limit
            chosen = chosen[:limit]
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
        items = b",".join(present(resource, record, listed=True) for record in chosen)
        return web.Response(body=msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}", content_type="application/json")

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query, resource = request.query, target.resource
        matches, everything = self._matcher(request, target)
        since = _version(query.get("resourceVersion") or "0")
        self.store.check_known(since)
        initial = query.get("sendInitialEvents") == "true"
        asked = watch.Watch(
            matches, everything, lambda record: present(resource, record), (resource.api_version,), resource.api_version,
            resource.kind, since if since and not initial else None,
            bookmarks=query.get("allowWatchBookmarks") == "true", initial=initial, seconds=float(query.get("timeoutSeconds") or 0) or None,
        )  # fmt: skip
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for chunk in watch.stream(self.store, self.store.collection(resource.storage), asked):
            await response.write(chunk)
        return response

    # Writing

    def _options(self, request: web.Request, user: str) -> Options:
        query = request.query
        manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        dry_run = query.getall("dryRun", [])
        if dry_run not in ([], ["All"]):
            raise bad_request(f'invalid dryRun: only "All" is known, not {dry_run}')
        return Options(manager, bool(dry_run), query.get("fieldValidation") or "Warn", query.get("force") == "true", user)

    async def _create(self, request: web.Request, user: str, target: Target) -> web.Response:
        options = self._options(request, user)
        obj = await _body(request)
        if not target.namespace and target.resource.namespaced:
            raise bad_request("an object of a namespaced resource is created in a namespace")
        record = self.objects.create(target.resource, target.namespace, obj, options)
        return self._answer(request, target, record, 201, options.warnings)

    async def _put(self, request: web.Request, user: str, target: Target) -> web.Response:
        options = self._options(request, user)
        obj = await _body(request)
        record = self.objects.update(target.resource, target.key, lambda _: obj, options, target.subresource)
        return self._answer(request, target, record, 200, options.warnings)

    async def _patch(self, request: web.Request, user: str, target: Target) -> web.Response:
        options = self._options(request, user)
        content = request.content_type
        if content == "application/apply-patch+yaml":
            if not request.query.get("fieldManager"):
                raise bad_request("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
            config = await _body(request)
            record, created = self.objects.apply(target.resource, target.key, config, options, target.subresource)
            return self._answer(request, target, record, 201 if created else 200, options.warnings)
        body = msgspec.json.decode(await request.read())
        record = self.objects.update(target.resource, target.key, lambda obj: patch.merge(obj, body), options, target.subresource)
        return self._answer(request, target, record, 200, options.warnings)

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options = await _delete_options(request)
        record, gone = self.objects.delete(target.resource, target.key, options)
        if gone and target.resource.plural not in ("pods", "services", "namespaces"):
            meta = record.object()["metadata"]
            details = {"name": target.name, "group": target.resource.group, "kind": target.resource.plural, "uid": meta["uid"]}
            return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {k: v for k, v in details.items() if v}})  # fmt: skip
        return self._answer(request, target, record)

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = await _delete_options(request)
        matches, _ = self._matcher(request, target)
        answer = self._list(request, target)
        records = self.store.collection(target.resource.storage).records
        for key in [key for key, record in records.items() if matches(record)]:
            if key in records:
                self.objects.delete(target.resource, key, options)
        return answer


def present(resource: Resource, record: Record, listed: bool = False) -> bytes:
    """A record as JSON in a version of its resource."""
    if listed and resource.custom is None:
        return record.raw
    return f'{{"apiVersion":"{resource.api_version}","kind":"{resource.kind}",'.encode() + record.raw[1:]


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _retry(error: ApiError) -> dict[str, str]:
    seconds = (error.details or {}).get("retryAfterSeconds")
    return {"Retry-After": str(seconds)} if seconds else {}


def _json(body: Any, code: int = 200, content_type: str = "application/json", headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=code, headers={"Content-Type": content_type, **(headers or {})})


def _maybe(body: JSON | None) -> web.Response | None:
    return None if body is None else _json(body)


def _version(text: str) -> int:
    if not text.isdigit():
        raise bad_request(f"invalid resource version {text!r}: it must be a number")
    return int(text)


def _token(rv: int, last: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([rv, *last]).encode()).decode()


def _read_token(token: str) -> tuple[int, Key]:
    try:
        rv, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise bad_request("continue key is not valid: it must come from a list of this server") from error
    return rv, (namespace, name)


async def _body(request: web.Request) -> JSON:
    data = await request.read()
    kind = request.content_type
    if kind not in ("application/json", "application/yaml", "application/apply-patch+yaml", "application/octet-stream"):
        raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, not {kind}")  # fmt: skip
    try:
        body = msgspec.json.decode(data)
    except msgspec.DecodeError:
        if "yaml" not in kind:
            raise
        body = yaml.safe_load(data)
    if not isinstance(body, dict):
        raise bad_request("the body must be one object")
    return body


async def _delete_options(request: web.Request) -> DeleteOptions:
    body: JSON = msgspec.json.decode(await request.read() or b"{}")
    query = request.query
    grace = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    policy = query.get("propagationPolicy", body.get("propagationPolicy"))
    if policy is None and body.get("orphanDependents") is not None:
        policy = "Orphan" if body["orphanDependents"] else "Background"
    preconditions = body.get("preconditions") or {}
    dry_run = query.getall("dryRun", body.get("dryRun") or [])
    return DeleteOptions(None if grace is None else int(grace), policy, preconditions.get("uid"), preconditions.get("resourceVersion"), bool(dry_run))  # fmt: skip
