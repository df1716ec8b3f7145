"""The Kubernetes client of the controllers and of the node: kubeconfig, requests, and list+watch informers.

Works against any API server. Objects are the plain dictionaries of their JSON.

    ClientError
    ├── KubeconfigError   the kubeconfig cannot be used; the message says which entry
    ├── Unreachable       no answer: refused, reset, timed out, not HTTP
    └── ApiError          the server answered with an error Status
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import aiohttp
import msgspec
import yaml

__all__ = [
    "MERGE_PATCH",
    "STRATEGIC_PATCH",
    "ApiError",
    "Client",
    "ClientError",
    "Informer",
    "Kubeconfig",
    "KubeconfigError",
    "Obj",
    "Resource",
    "Unreachable",
    "key_of",
    "load_kubeconfig",
    "resource_version",
]

Obj = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

log = logging.getLogger(__name__)


class ClientError(Exception):
    """Root of everything this module raises on purpose."""


class KubeconfigError(ClientError):
    """The kubeconfig cannot be used."""


class Unreachable(ClientError):
    """The API server gave no answer; whether a write took effect is unknown."""


class ApiError(ClientError):
    """An error Status: `code` is the HTTP status, `reason` and `causes` Kubernetes' own words."""

    def __init__(self, code: int, reason: str, message: str, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message, self.causes = code, reason, message, causes

    @classmethod
    def from_status(cls, code: int, status: Any) -> Self:
        """Read a Status object; anything else becomes its text, shortened."""
        if not isinstance(status, dict):
            return cls(code, "", str(status)[:500])
        causes = (status.get("details") or {}).get("causes") or []
        return cls(
            status.get("code") or code,
            status.get("reason") or "",
            status.get("message") or "",
            tuple(cause.get("reason", "") for cause in causes),
        )


# --- kubeconfig ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kubeconfig:
    """What a request needs: the server's URL, its trust, and one credential."""

    server: str
    ssl: ssl.SSLContext | bool
    ca_data: bytes = b""
    token: str = ""
    token_file: Path | None = None

    def authorization(self) -> str:
        """The bearer header's value ("" without a token); a token file is read anew, for it may be rotated."""
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return f"Bearer {token}" if token else ""


def load_kubeconfig(path: Path | str) -> Kubeconfig:
    """Read the current context. Raises KubeconfigError."""
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as e:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {e.strerror}") from e
    except yaml.YAMLError as e:
        raise KubeconfigError(f"the kubeconfig {path} is not YAML: {e}") from e
    if not isinstance(config, dict):
        raise KubeconfigError(f"the kubeconfig {path} is not a mapping")
    chosen = _entry(config, "contexts", config.get("current-context") or "", "context")
    cluster = _entry(config, "clusters", chosen.get("cluster") or "", "cluster")
    user = _entry(config, "users", chosen["user"], "user") if chosen.get("user") else {}
    if unsupported := sorted({"exec", "auth-provider", "username"} & user.keys()):
        raise KubeconfigError(f"user {chosen['user']!r} uses {unsupported[0]}: give a token or a client certificate")
    if unsupported := sorted({"tls-server-name", "proxy-url"} & cluster.keys()):
        raise KubeconfigError(f"cluster {chosen['cluster']!r} uses {unsupported[0]}: give an address that needs none")
    ca_data = _material(cluster, "certificate-authority", path)
    return Kubeconfig(
        server=str(cluster.get("server") or "").rstrip("/"),
        ssl=_ssl_context(cluster, user, ca_data, path),
        ca_data=ca_data,
        token=user.get("token") or "",
        token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
    )


def _entry(config: Obj, section: str, name: str, key: str) -> Obj:
    for item in config.get(section) or []:
        if item.get("name") == name:
            return item.get(key) or {}
    raise KubeconfigError(f"the kubeconfig has no entry named {name!r} under {section}")


def _material(entry: Obj, key: str, path: Path) -> bytes:
    """A PEM given inline as `<key>-data` or as a file relative to the kubeconfig; b"" when neither is there."""
    try:
        if entry.get(f"{key}-data"):
            return base64.b64decode(entry[f"{key}-data"], validate=True)
        return (path.parent / entry[key]).read_bytes() if entry.get(key) else b""
    except (OSError, binascii.Error) as e:
        raise KubeconfigError(f"{key} of {path} cannot be read: {e}") from e


def _ssl_context(cluster: Obj, user: Obj, ca_data: bytes, path: Path) -> ssl.SSLContext | bool:
    if not str(cluster.get("server", "")).startswith("https://"):
        return True
    try:
        context = ssl.create_default_context(cadata=ca_data.decode() or None)
        # From 3.13 on Python asks for extensions that the certificates of kube-apiserver and of test clusters lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _material(user, "client-certificate", path), _material(user, "client-key", path)
        if certificate and key:
            # The ssl module takes files only: one private file, gone as soon as it is loaded.
            with tempfile.NamedTemporaryFile() as pem:
                pem.write(certificate + b"\n" + key)
                pem.flush()
                context.load_cert_chain(pem.name)
    except (ssl.SSLError, ValueError) as e:
        raise KubeconfigError(f"the certificates of {path} cannot be used: {e}") from e
    return context


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resource:
    """One served resource, as discovery names it. `api_version` is "v1" or "group/version"."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True
    verbs: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def group(self) -> str:
        """The API group, "" for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object or a subresource."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        parts += ["namespaces", namespace] if self.namespaced and namespace else []
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


class Client:
    """Requests to one API server. Use as an async context manager.

    Every call raises Unreachable or ApiError. Nothing is retried here: the caller knows whether it may.
    """

    def __init__(self, config: Kubeconfig, user_agent: str, field_manager: str = "") -> None:
        self.config = config
        self._agent, self._manager = user_agent, field_manager
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self.config.server,
            connector=aiohttp.TCPConnector(limit=0, ssl=self.config.ssl, keepalive_timeout=60),
            headers={"User-Agent": self._agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=30, connect=5),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open HTTP session, for a request to another server than this one too."""
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        return self._session

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Obj:
        """One request, its JSON answer."""
        headers = {"Content-Type": content_type} if body is not None else {}
        data = msgspec.json.encode(body) if body is not None else None
        params = dict(params or {})
        if self._manager and method in {"POST", "PUT", "PATCH"}:
            params.setdefault("fieldManager", self._manager)
        with _no_answer(f"{method} {path}"):
            headers |= self._authorization()
            async with self.session.request(method, path, params=params, data=data, headers=headers) as response:
                return _decode(response.status, await response.read())

    def _authorization(self) -> dict[str, str]:
        value = self.config.authorization()
        return {"Authorization": value} if value else {}

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """Read one object."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str = "", **params: str) -> Obj:
        """List a collection (all namespaces when none is given); params: labelSelector, fieldSelector, limit…"""
        return await self.request("GET", resource.path(namespace), params=params)

    async def create(self, resource: Resource, namespace: str, body: Obj, name: str = "", subresource: str = "") -> Obj:
        """Create an object, or post to a subresource such as binding or eviction."""
        return await self.request("POST", resource.path(namespace, name, subresource), body=body)

    async def replace(self, resource: Resource, body: Obj, subresource: str = "") -> Obj:
        """Replace an object or its status; refused with 409 when `body` is not the newest version."""
        meta = body["metadata"]
        return await self.request("PUT", resource.path(meta.get("namespace", ""), meta["name"], subresource), body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> Obj:
        """Patch an object or a subresource (merge patch by default)."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=patch, content_type=content_type)

    async def delete(self, resource: Resource, namespace: str, name: str, options: Obj | None = None) -> Obj:
        """Delete an object; options hold preconditions, propagationPolicy, gracePeriodSeconds (of DeleteOptions)."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **(options or {})}
        return await self.request("DELETE", resource.path(namespace, name), body=body)

    async def watch(self, resource: Resource, namespace: str = "", **params: str) -> AsyncIterator[Obj]:
        """The events of one watch request until the server ends it. An ERROR event is raised as ApiError."""
        seconds = random.randint(300, 600)  # noqa: S311 - spreads reconnections, protects nothing
        params = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **params}
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=seconds + 30)
        path = resource.path(namespace)
        with _no_answer(f"watch {path}"):
            headers = self._authorization()
            async with self.session.get(path, params=params, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    _decode(response.status, await response.read())
                async for line in _lines(response.content):
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        raise ApiError.from_status(500, event["object"])
                    yield event

    async def discover(self) -> Sequence[Resource]:
        """Every served resource in its group's preferred version, subresources left out.

        A group that does not answer is left out: an aggregated API may be down.
        """
        core, groups = await asyncio.gather(self.request("GET", "/api/v1"), self.request("GET", "/apis"))
        versions = [group["preferredVersion"]["groupVersion"] for group in groups["groups"]]
        answers = await asyncio.gather(
            *(self.request("GET", f"/apis/{version}") for version in versions), return_exceptions=True
        )
        found = list(_resources(core))
        for version, answer in zip(versions, answers, strict=True):
            if isinstance(answer, ApiError):
                log.warning("discovery of %s failed: %s", version, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.extend(_resources(answer))
        return found


@contextmanager
def _no_answer(what: str) -> Iterator[None]:
    """Everything that means "no usable answer" becomes Unreachable."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as e:
        raise Unreachable(f"{what}: {str(e) or type(e).__name__}") from e


def _decode(status: int, data: bytes) -> Obj:
    try:
        body = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        if status < 400:
            raise
        raise ApiError.from_status(status, data.decode(errors="replace")) from None
    if status >= 400:
        raise ApiError.from_status(status, body)
    return cast("Obj", body)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Complete lines of any length: the reader's own readline has a limit that a large object passes."""
    pending: list[bytes] = []
    async for chunk in stream.iter_any():
        head, *rest = chunk.split(b"\n")
        pending.append(head)
        for line in rest:
            if complete := b"".join(pending):
                yield complete
            pending = [line]


def _resources(document: Obj) -> Iterator[Resource]:
    for item in document.get("resources") or []:
        if "/" not in item["name"]:
            verbs = frozenset(item.get("verbs") or [])
            yield Resource(document["groupVersion"], item["name"], item["kind"], item["namespaced"], verbs)


# --- informer --------------------------------------------------------------------------------------------------------

Change = Callable[[Obj | None, Obj | None], None]


def key_of(obj: Obj) -> str:
    """`namespace/name`, or `name` for what has no namespace."""
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def resource_version(obj: Obj) -> int:
    """The version as a number: since 1.35 Kubernetes promises that versions of one resource can be compared."""
    return int(obj["metadata"].get("resourceVersion") or 0)


class Informer:
    """A local copy of one resource, kept by list and watch for as long as `run` runs.

    `store` maps `key_of` to objects, which nobody may change in place. `on_change(old, new)` is called after each
    change of the store (old None: added, new None: removed), never twice for one version. `observe` and `forget` put
    the answer of an own write into the store at once, so that a decision made next already sees it; an older event
    that arrives later is dropped.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        on_change: Change | None = None,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Obj], Obj] | None = None,
        page_size: int = 500,
    ) -> None:
        self.client, self.resource, self.namespace = client, resource, namespace
        self.store: dict[str, Obj] = {}
        self.synced = asyncio.Event()
        self._on_change: Change = on_change or (lambda _old, _new: None)
        self._transform = transform or (lambda obj: obj)
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._selectors = {name: value for name, value in selectors.items() if value}
        self._page_size = page_size
        self._version = ""

    async def run(self) -> None:
        """List, then watch, for ever; a lost connection is taken up where it broke, with growing pauses."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
                # A server that ends every watch at once must not be asked in a hot loop.
                failures = failures + 1 if time.monotonic() - started < 1 else 0
            except ApiError as e:
                if e.code == 410:  # our version is compacted away: begin anew, keeping the store to compare with
                    self._version = ""
                failures += 1
                log.log(logging.DEBUG if e.code == 410 else logging.WARNING, "%s: %s", self.resource.plural, e)
            except Unreachable as e:
                failures = failures + 1 if time.monotonic() - started < 60 else 1
                log.info("%s: %s", self.resource.plural, e)
            if failures:
                pause = min(0.1 * 2 ** min(failures, 6), 5.0)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnections

    async def _relist(self) -> None:
        seen: set[str] = set()
        params = {**self._selectors, "limit": str(self._page_size)}
        while True:
            answer = await self.client.list(self.resource, self.namespace, **params)
            for item in answer.get("items") or []:
                # Lists leave out what every item shares.
                item.setdefault("apiVersion", self.resource.api_version)
                item.setdefault("kind", self.resource.kind)
                seen.add(key_of(item))
                self.observe(item)
            token = answer["metadata"].get("continue")
            if not token:
                break
            params["continue"] = token
        version = answer["metadata"]["resourceVersion"]
        for key in [key for key, obj in self.store.items() if key not in seen]:
            # What an own write created after the list is newer than the list.
            if resource_version(self.store[key]) <= int(version):
                self._remove(key)
        self._version = version
        self.synced.set()

    async def _follow(self) -> None:
        async for event in self.client.watch(
            self.resource, self.namespace, resourceVersion=self._version, **self._selectors
        ):
            obj = event["object"]
            if event["type"] == "DELETED":
                self.forget(obj)
            elif event["type"] != "BOOKMARK":
                self.observe(obj)
            self._version = obj["metadata"]["resourceVersion"]

    def observe(self, obj: Obj) -> None:
        """Take `obj` in unless a version as new is there."""
        key, new = key_of(obj), self._transform(obj)
        old = self.store.get(key)
        if old is not None and resource_version(old) >= resource_version(new):
            return
        self.store[key] = new
        if old is not None and old["metadata"].get("uid") != new["metadata"].get("uid"):
            self._on_change(old, None)  # deleted and created anew between two looks
            old = None
        self._on_change(old, new)

    def forget(self, obj: Obj) -> None:
        """Drop the object, unless another of the same name has taken its place."""
        old = self.store.get(key_of(obj))
        if old is not None and old["metadata"].get("uid") == obj["metadata"].get("uid"):
            self._remove(key_of(obj))

    def _remove(self, key: str) -> None:
        self._on_change(self.store.pop(key), None)
