"""Kopf watches and indexes; every change of a CreditModel or of a child puts the CreditModel's key on the queue.

Only `on.event` handlers and indexes: nothing that adds a finalizer, writes an annotation, or keeps state between
events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kopf
from kubernetes.aio import client as kube

from creditmodel_operator import api, names
from creditmodel_operator.client import KINDS, configuration
from creditmodel_operator.observed import view
from creditmodel_operator.store import Key, Store, key_of

__all__ = ["WATCHED", "registry", "settings"]

WATCHED = tuple(kind for kind in KINDS if kind != "Event")


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
    for kind in WATCHED:
        if kind not in (api.KIND, api.APPROVAL_KIND):
            selector = f"{names.MANAGED_BY}={names.FIELD_MANAGER},{names.INSTANCE}"
            found.watching.label_selectors[_resource(kind)] = selector
    return found


def registry(store: Store, changed: Callable[[Key, bool], None]) -> kopf.OperatorRegistry:
    """The handlers. `changed` is told the key, and whether the CreditModel itself went."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(_login)
    kopf.on.startup(registry=found)(_adopt_indexes(store))
    for kind in WATCHED:
        kopf.index(*_resource(kind), id=_index(kind), registry=found)(_indexer(kind))
        kopf.on.event(*_resource(kind), id=f"event_{kind}", registry=found)(_on_event(kind, store, changed))
    return found


def _resource(kind: str) -> tuple[str, str, str]:
    base, plural = KINDS[kind]
    group, _, version = base.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
    return group, version, plural


def _index(kind: str) -> str:
    return f"index_{kind}"


def _adopt_indexes(store: Store) -> Any:
    def adopt(**kwargs: Any) -> None:
        store.indexes = {kind: kwargs[_index(kind)] for kind in WATCHED}

    return adopt


def _indexer(kind: str) -> Any:
    async def index(body: kopf.Body, **_: Any) -> dict[Key, Any]:
        item = view(kind, body)
        return {key_of(kind, item): item}

    return index


def _on_event(kind: str, store: Store, changed: Callable[[Key, bool], None]) -> Any:
    async def event(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        item = view(kind, body)
        key = key_of(kind, item)
        gone = event["type"] == "DELETED"
        if gone:
            store.vanished(key, kind, item.meta.name, item.meta.uid)
        changed(key, gone and kind == api.KIND)

    return event


async def _login(**_kwargs: Any) -> kopf.ConnectionInfo:
    """The same credentials as the operator's own client, read anew each time they are asked for."""
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
