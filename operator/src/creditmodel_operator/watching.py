"""Kopf watches; every change of a CreditModel or of a child goes to the store and puts the key on the queue.

Only `on.event` handlers, which say what to watch: nothing that adds a finalizer, writes an annotation, or keeps state
between events. What the watches tell is read on its way to Kopf (connection.py), which has a task and a queue for each
object; and its indexes take minutes to start with a thousand CreditModels (docs/design/operator.md).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from creditmodel_operator import api, names
from creditmodel_operator.client import KINDS, PAGE
from creditmodel_operator.connection import Backoffs, Connection, Event, Follower
from creditmodel_operator.store import Key, Store

__all__ = ["WATCHED", "Changed", "Collection", "registry", "selector", "settings"]

logger = logging.getLogger(__name__)

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
    """What to watch. `changed` is told of which CreditModels there is news, `listed` of each list of Kopf's."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(Connection(_followers(store, changed, listed)).login)
    for kind in WATCHED:
        kopf.on.event(*_resource(kind), id=f"event_{kind}", registry=found)(_unheard)
    return found


def _unheard(**_: Any) -> None:
    """Kopf watches what there is a handler for; it sees no events."""


def _resource(kind: str) -> tuple[str, str, str]:
    base, plural = KINDS[kind]
    group, _, version = base.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
    return group, version, plural


def _followers(store: Store, changed: Changed, listed: Listed) -> Callable[[str], Follower | None]:
    """Who follows the collection at a path."""

    def of(path: str) -> Follower | None:
        found = _collection(path)
        if found is None:
            return None
        heard = functools.partial(_heard, found[0], store, changed)
        return Follower(functools.partial(listed, found), heard)

    return of


def _heard(kind: str, store: Store, changed: Changed, event: Event) -> None:
    """Tell the store. An object that cannot be read is one CreditModel's affair, and no reason to end."""
    body = event["object"]
    try:
        gone = event["type"] == "DELETED"
        changed(store.vanished(kind, body["metadata"]["uid"]) if gone else store.saw(kind, body))
    except Exception:
        logger.exception("an event of a %s cannot be read", kind)


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
