"""Kopf watches; every change of a CreditModel or of a child goes to the store and puts the key on the queue.

Only `on.event` handlers: nothing that adds a finalizer, writes an annotation, or keeps state between events. Kopf's
indexes are not used: at start every object waits until all are indexed and is woken by each that is, which takes
minutes for a thousand CreditModels (docs/design/operator.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
import kopf
from kubernetes.aio import client as kube

from creditmodel_operator import api, names
from creditmodel_operator.client import KINDS, PAGE, configuration
from creditmodel_operator.store import Key, Store

__all__ = ["WATCHED", "Changed", "Collection", "registry", "selector", "settings"]

WATCHED = tuple(kind for kind in KINDS if kind != "Event")

Collection = tuple[str, str | None]
"""A kind, and the namespace that is looked at (None: every one)."""
Listed = Callable[[Collection], None]
Changed = Callable[[Iterable[Key]], None]


def selector(kind: str) -> str:
    """Which objects of a kind concern the operator."""
    own = f"{names.MANAGED_BY}={names.FIELD_MANAGER},{names.INSTANCE}"
    return "" if kind in (api.KIND, api.APPROVAL_KIND) else own


class _NoMemory(kopf.DiffBaseStorage):
    """Kopf compares objects with their last handled state for handlers that are not used here: spare the copies."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:  # noqa: ARG002
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


def settings() -> kopf.OperatorSettings:
    """No peering, no discovery of namespaces and kinds at run time, no events of Kopf's own."""
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.posting.enabled = False
    found.scanning.disabled = True
    found.persistence.diffbase_storage = _NoMemory()
    found.networking.request_timeout = 60
    found.networking.connect_timeout = 10
    found.networking.enforce_retry_after = True
    found.watching.server_timeout = 600
    found.process.ultimate_exiting_timeout = 30
    found.queueing.idle_timeout = 1.0  # seconds that Kopf keeps a task and a queue for an object after its last event
    found.watching.chunk_size = PAGE
    for kind in WATCHED:
        if selector(kind):
            found.watching.label_selectors[_resource(kind)] = selector(kind)
    return found


def registry(store: Store, changed: Changed, listed: Listed) -> kopf.OperatorRegistry:
    """The handlers. `changed` is told of which CreditModels there is news, `listed` of each list of Kopf's."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(_login(listed))
    for kind in WATCHED:
        kopf.on.event(*_resource(kind), id=f"event_{kind}", registry=found)(_on_event(kind, store, changed))
    return found


def _resource(kind: str) -> tuple[str, str, str]:
    base, plural = KINDS[kind]
    group, _, version = base.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
    return group, version, plural


def _on_event(kind: str, store: Store, changed: Changed) -> Any:
    async def event(event: Mapping[str, Any], **_: Any) -> None:
        body = event["object"]
        gone = event["type"] == "DELETED"
        changed(store.vanished(kind, body["metadata"]["uid"]) if gone else store.saw(kind, body))

    return event


def _login(listed: Listed) -> Any:
    """Gives Kopf sessions with the same credentials as the operator's own client, read anew each time it asks.

    Kopf keeps to itself that it lists, and that it does so again because its watch was too old. The session shows the
    requests, and `listed` is told of each list.
    """

    async def requested(_session: Any, _context: Any, request: aiohttp.TraceRequestEndParams) -> None:
        query, found = request.url.query, _collection(request.url.path)
        is_list = request.method == "GET" and "watch" not in query and "continue" not in query
        if found and is_list and request.response.status == 200:
            listed(found)

    async def login(**_: Any) -> kopf.AiohttpSession:
        info = await _connection()
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(requested)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            trace_configs=[trace],
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    return login


async def _connection() -> kopf.ConnectionInfo:
    found: kube.Configuration = await configuration()
    token = await found.get_api_key_with_prefix("BearerToken") or ""
    scheme, _, value = str(token).rpartition(" ")
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        username=found.username or None,
        password=found.password or None,
        scheme=scheme or None,
        token=value or None,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
    )


def _collection(path: str) -> Collection | None:
    """What a path lists, if it is watched."""
    for kind in WATCHED:
        base, plural = KINDS[kind]
        rest = path.partition(f"{base}/")[2].split("/")
        if rest == [plural]:
            return kind, None
        if rest[0] == "namespaces" and rest[2:] == [plural]:
            return kind, rest[1]
    return None
