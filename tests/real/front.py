"""One API in front of two servers: custom resources from Kubernetes' own server for them, the rest from a sandbox.

Discovery and OpenAPI are the union of both, as kube-aggregator makes it in a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

__all__ = ["Core", "Front", "Upstream", "policies"]

JSON = dict[str, Any]
EXTENSIONS, ADMISSION = "apiextensions.k8s.io", "admissionregistration.k8s.io"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
# What belongs to one connection, and what aiohttp writes anew.
_OWN_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade", "te"}


@dataclass
class Upstream:
    """A server behind the front."""

    url: str
    tls: ssl.SSLContext

    @classmethod
    def at(cls, port: int, certificate: Path) -> Upstream:
        """A server on this machine, by the certificate that it signed itself."""
        context = ssl.create_default_context(cafile=str(certificate))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return cls(f"https://127.0.0.1:{port}", context)


@dataclass
class Front:
    """Passes each request to the server that knows its group."""

    sandbox: Upstream
    extensions: Upstream
    session: aiohttp.ClientSession
    token: str
    built_in: set[str] = field(default_factory=set)

    async def start(self) -> None:
        """Learn which groups the sandbox has."""
        groups = await self._get(self.sandbox, "/apis")
        self.built_in = {group["name"] for group in groups["groups"]} - {EXTENSIONS}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        path = request.path.rstrip("/")
        if path == "/apis":
            return await self._groups(aggregated="APIGroupDiscoveryList" in request.headers.get("Accept", ""))
        if path == "/openapi/v3":
            return web.json_response(await self._openapi())
        return await _pass(self.session, self._server(path), request)

    def _server(self, path: str) -> Upstream:
        parts = path.removeprefix("/openapi/v3").split("/")
        custom = len(parts) > 2 and parts[1] == "apis" and parts[2] not in self.built_in
        return self.extensions if custom else self.sandbox

    async def _get(self, server: Upstream, path: str, accept: str = "application/json") -> JSON:
        # Nothing is unpacked on the way through, so what is read here must come unpacked.
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept, "Accept-Encoding": "identity"}
        async with self.session.get(server.url + path, headers=headers, ssl=server.tls) as found:
            body = json.loads(await found.read())
            if found.status != 200:
                raise web.HTTPBadGateway(text=f"{path}: {found.status} {body}")
            return dict(body)

    async def _groups(self, *, aggregated: bool) -> web.Response:
        custom = await self._custom_groups()
        if not aggregated:
            answer = await self._get(self.sandbox, "/apis")
            kept = [group for group in answer["groups"] if group["name"] in self.built_in]
            return web.json_response(answer | {"groups": kept + custom})
        answer = await self._get(self.sandbox, "/apis", AGGREGATED)
        kept = [item for item in answer["items"] if item["metadata"].get("name") in self.built_in]
        items = kept + [await self._described(group) for group in custom]
        return web.Response(body=json.dumps(answer | {"items": items}), headers={"Content-Type": AGGREGATED})

    async def _custom_groups(self) -> list[JSON]:
        definitions = await self._get(self.extensions, f"/apis/{EXTENSIONS}/v1/customresourcedefinitions")
        names = {EXTENSIONS: None} | {crd["spec"]["group"]: None for crd in definitions["items"]}
        found = await asyncio.gather(*(self._group(name) for name in names))
        return [group for group in found if group]

    async def _group(self, name: str) -> JSON | None:
        """Nothing while a new definition's group is not served yet."""
        with contextlib.suppress(web.HTTPBadGateway, json.JSONDecodeError):
            found = await self._get(self.extensions, f"/apis/{name}")
            return {key: value for key, value in found.items() if key not in ("kind", "apiVersion")}
        return None

    async def _described(self, group: JSON) -> JSON:
        versions = []
        for version in group["versions"]:
            found = await self._get(self.extensions, f"/apis/{version['groupVersion']}")
            resources = _aggregated(group["name"], version["version"], found["resources"])
            versions.append({"version": version["version"], "resources": resources, "freshness": "Current"})
        return {"metadata": {"name": group["name"]}, "versions": versions}

    async def _openapi(self) -> JSON:
        ours = (await self._get(self.sandbox, "/openapi/v3"))["paths"]
        theirs = (await self._get(self.extensions, "/openapi/v3"))["paths"]
        kept = {path: entry for path, entry in ours.items() if self._server("/" + path) is self.sandbox}
        return {"paths": kept | {path: entry for path, entry in theirs.items() if path.startswith("apis/")}}


@dataclass
class Core:
    """What Kubernetes' server for custom resources sees of the sandbox: all of it, and admission policies besides.

    `policies` are lists by their resource.
    """

    sandbox: Upstream
    session: aiohttp.ClientSession
    policies: Mapping[str, JSON]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        group, _, resource = request.path.removeprefix("/apis/").partition("/v1/")
        if group != ADMISSION:
            return await _pass(self.session, self.sandbox, request)
        if "sendInitialEvents" in request.query:  # the client then lists instead
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}
            return web.json_response(status, status=422)
        if "watch" in request.query:
            return await _silence(request)
        return web.json_response(self.policies[resource])


def policies(documents: Sequence[JSON]) -> dict[str, JSON]:
    """Admission policies and their bindings as the API server would list them."""
    found = {}
    for kind, plural in (("Policy", "policies"), ("PolicyBinding", "policybindings")):
        items = [_defaulted(document) for document in documents if document["kind"] == f"ValidatingAdmission{kind}"]
        head = {"apiVersion": f"{ADMISSION}/v1", "kind": f"ValidatingAdmission{kind}List"}
        found[f"validatingadmission{plural}"] = head | {"metadata": {"resourceVersion": "1"}, "items": items}
    return found


def _defaulted(document: JSON) -> JSON:
    spec = dict(document["spec"])
    if "matchConstraints" in spec:
        rules = [{"scope": "*"} | rule for rule in spec["matchConstraints"]["resourceRules"]]
        spec["matchConstraints"] |= {"resourceRules": rules, "matchPolicy": "Equivalent"}
        spec["matchConstraints"] |= {"namespaceSelector": {}, "objectSelector": {}}
    return document | {"spec": spec}


async def _silence(request: web.Request) -> web.StreamResponse:
    """A watch of what never changes."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    await asyncio.Event().wait()
    return answer


async def _pass(session: aiohttp.ClientSession, server: Upstream, request: web.Request) -> web.StreamResponse:
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS]
    body = await request.read()
    url = URL(server.url + request.raw_path, encoded=True)
    async with session.request(
        request.method,
        url,
        headers=headers,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        data=body or None,
        ssl=server.tls,
        allow_redirects=False,
    ) as found:
        kept = [(name, value) for name, value in found.headers.items() if name.lower() not in _OWN_HEADERS]
        answer = web.StreamResponse(status=found.status, reason=found.reason)
        for name, value in kept:
            answer.headers.add(name, value)
        if found.headers.get("Content-Length"):
            answer.content_length = int(found.headers["Content-Length"])
        await answer.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the client has gone
            async for piece in found.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
        return answer


def _aggregated(group: str, version: str, resources: list[JSON]) -> list[JSON]:
    """The resources of an APIResourceList in the form of aggregated discovery."""
    found: dict[str, JSON] = {}
    for resource in resources:
        plural, _, sub = resource["name"].partition("/")
        kind = {"group": resource.get("group", group), "version": resource.get("version", version)}
        entry: JSON = {"responseKind": kind | {"kind": resource["kind"]}, "verbs": resource["verbs"]}
        if sub:
            found[plural].setdefault("subresources", []).append({"subresource": sub} | entry)
            continue
        entry |= {"resource": plural, "singularResource": resource["singularName"]}
        entry |= {"scope": "Namespaced" if resource["namespaced"] else "Cluster"}
        found[plural] = entry | {name: resource[name] for name in ("shortNames", "categories") if name in resource}
    return list(found.values())
