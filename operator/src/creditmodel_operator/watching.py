"""Kopf watches; every change of a CreditModel or of a child goes to the store and puts the key on the queue.

Only `on.event` handlers: nothing that adds a finalizer, writes an annotation, or keeps state between events. Kopf's
indexes are not used: at start every object waits until all are indexed and is woken by each that is, which takes
minutes for a thousand CreditModels (docs/design/operator.md).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kopf

from creditmodel_operator import api, names
from creditmodel_operator.client import KINDS, PAGE
from creditmodel_operator.connection import Backoffs, Connection
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


def settings(patience: float) -> kopf.OperatorSettings:
    """No peering, no discovery of namespaces and kinds at run time, no events of Kopf's own; attempts without end.

    A watch from which nothing has come for `patience` seconds is opened anew.
    """
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.posting.enabled = False
    found.scanning.disabled = True
    found.persistence.diffbase_storage = _NoMemory()
    found.networking.request_timeout = 60
    found.networking.connect_timeout = 10
    found.networking.enforce_retry_after = True
    found.networking.error_backoffs = Backoffs()
    found.watching.server_timeout = 600
    found.watching.inactivity_timeout = patience
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
    kopf.on.login(registry=found)(Connection(_lister(listed)).login)
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


def _lister(listed: Listed) -> Callable[[str], Callable[[], None] | None]:
    """Kopf lists at start, and whenever its watch was too old: what to call then, for the path of a list."""

    def of(path: str) -> Callable[[], None] | None:
        found = _collection(path)
        return None if found is None else functools.partial(listed, found)

    return of


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
