"""Owner garbage collection: what lost its last owner goes; foreground deletion waits for dependents; orphaning lets go.

A key is `apiVersion|plural|namespace/name`: any kind of object may own or be owned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from creditmodel_sandbox.client import ApiError, Client, Obj, Resource, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Delete, Patch
from creditmodel_sandbox.objects import is_deleting, namespace_of

__all__ = ["GarbageCollector", "Owner", "Snapshot", "reconcile"]

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True)
class Owner:
    """One owner reference: the owner itself if it exists with that uid, None if it is known to be absent."""

    reference: Obj
    found: Obj | None


@dataclass(frozen=True)
class Snapshot:
    """An object, its owners, and its dependents."""

    resource: Resource
    obj: Obj
    owners: tuple[Owner, ...]
    dependents: tuple[tuple[Resource, Obj], ...] = ()


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:  # noqa: ARG001 - every controller's signature
    """What is to be done about one object."""
    finalizers = snapshot.obj["metadata"].get("finalizers") or []
    if is_deleting(snapshot.obj):
        if ORPHAN in finalizers:
            return list(_let_go(snapshot))
        return list(_wait_for_dependents(snapshot)) if FOREGROUND in finalizers else []
    return list(_judge(snapshot, finalizers))


def _without_owner(resource: Resource, obj: Obj, *uids: str) -> Patch:
    kept = [ref for ref in obj["metadata"].get("ownerReferences") or [] if ref["uid"] not in uids]
    return Patch(resource, obj, {"metadata": {"ownerReferences": kept or None}})


def _without_finalizer(snapshot: Snapshot, name: str) -> Patch:
    kept = [other for other in snapshot.obj["metadata"]["finalizers"] if other != name]
    return Patch(snapshot.resource, snapshot.obj, {"metadata": {"finalizers": kept or None}})


def _let_go(snapshot: Snapshot) -> Iterator[Action]:
    for resource, dependent in snapshot.dependents:
        yield _without_owner(resource, dependent, snapshot.obj["metadata"]["uid"])
    yield _without_finalizer(snapshot, ORPHAN)


def _wait_for_dependents(snapshot: Snapshot) -> Iterator[Action]:
    """Dependents that hold the owner back are deleted in the foreground too; with the last of them it may go."""
    uid = snapshot.obj["metadata"]["uid"]
    blocking = [(r, d) for r, d in snapshot.dependents if _reference(d, uid).get("blockOwnerDeletion")]
    if not blocking:
        yield _without_finalizer(snapshot, FOREGROUND)
    # The dependents' own passes delete them; see _judge.


def _reference(obj: Obj, uid: str) -> Obj:
    return next((ref for ref in obj["metadata"].get("ownerReferences") or [] if ref["uid"] == uid), {})


def _judge(snapshot: Snapshot, finalizers: Sequence[str]) -> Iterator[Action]:
    """Delete what no living owner holds; forget owners that are gone while another lives."""
    if not snapshot.owners:
        return
    waiting = [owner for owner in snapshot.owners if owner.found and _waits(owner.found)]
    solid = [owner for owner in snapshot.owners if owner.found and owner not in waiting]
    if solid:
        gone = [owner.reference["uid"] for owner in snapshot.owners if owner not in solid]
        if gone:
            yield _without_owner(snapshot.resource, snapshot.obj, *gone)
    elif waiting and snapshot.dependents:
        yield Delete(snapshot.resource, snapshot.obj, "Foreground")
    elif ORPHAN in finalizers:
        yield Delete(snapshot.resource, snapshot.obj, "Orphan")
    else:
        yield Delete(snapshot.resource, snapshot.obj, "Foreground" if FOREGROUND in finalizers else "Background")


def _waits(owner: Obj) -> bool:
    return is_deleting(owner) and FOREGROUND in (owner["metadata"].get("finalizers") or [])


# --- wiring ----------------------------------------------------------------------------------------------------------


class GarbageCollector:
    """Takes the snapshots. An owner that the cache lacks is looked for on the server before it counts as absent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._resources: dict[tuple[str, str], Resource] = {}  # (group, kind)

    async def observe(self, cache: Cache, key: str) -> Snapshot | None:
        """The snapshot of one object, None when it is gone."""
        api_version, plural, name = key.split("|")
        resource = next(
            (r for r in self._resources.values() if (r.api_version, r.plural) == (api_version, plural)), None
        )
        obj = cache.get(resource, name) if resource else None
        if resource is None or obj is None:
            return None
        references = obj["metadata"].get("ownerReferences") or []
        if is_deleting(obj):
            references = []
        owners = [Owner(ref, await self._find(cache, ref, namespace_of(obj))) for ref in references]
        return Snapshot(resource, obj, tuple(owners), tuple(cache.dependents(obj["metadata"]["uid"])))

    async def _find(self, cache: Cache, reference: Obj, namespace: str) -> Obj | None:
        """The owner with the reference's uid. A kind that is not served raises: nothing can be known of its objects."""
        resource = self._resources.get((reference["apiVersion"].rpartition("/")[0], reference["kind"]))
        if resource is None:
            resource = await self._look_up(reference)
        namespace = namespace if resource.namespaced else ""
        cached = cache.get(resource, f"{namespace}/{reference['name']}".lstrip("/"))
        if cached and cached["metadata"]["uid"] == reference["uid"]:
            return cached
        try:
            live = await self._client.get(resource, namespace, reference["name"])
        except ApiError as e:
            if e.code == 404:
                return None
            raise
        return live if live["metadata"]["uid"] == reference["uid"] else None

    async def _look_up(self, reference: Obj) -> Resource:
        for resource in await self._client.discover():
            self._resources.setdefault((resource.group, resource.kind), resource)
        try:
            return self._resources[reference["apiVersion"].rpartition("/")[0], reference["kind"]]
        except KeyError:
            raise ApiError(404, "NotFound", f"no such kind: {reference['apiVersion']} {reference['kind']}") from None

    def touched(self, cache: Cache, resource: Resource, obj: Obj, gone: bool) -> Iterator[str]:
        """The object itself, and, when it is deleted or going, its dependents; its owners wait for it."""
        self._resources.setdefault((resource.group, resource.kind), resource)
        meta: dict[str, Any] = obj["metadata"]
        if meta.get("ownerReferences") or meta.get("deletionTimestamp"):
            yield _key(resource, obj)
        if gone or _waits(obj):
            yield from (_key(r, d) for r, d in cache.dependents(meta["uid"]))
        for reference in meta.get("ownerReferences") or []:
            owner = self._resources.get((reference["apiVersion"].rpartition("/")[0], reference["kind"]))
            if owner and reference.get("blockOwnerDeletion"):
                namespace = namespace_of(obj) if owner.namespaced else ""
                yield f"{owner.api_version}|{owner.plural}|" + f"{namespace}/{reference['name']}".lstrip("/")

    @property
    def controller(self) -> Controller:
        """How the runtime runs it."""
        return Controller("garbage-collector", {}, self.observe, reconcile, self.touched)


def _key(resource: Resource, obj: Obj) -> str:
    return f"{resource.api_version}|{resource.plural}|{key_of(obj)}"
