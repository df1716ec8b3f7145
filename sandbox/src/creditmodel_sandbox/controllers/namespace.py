"""Namespaces: what each one has from the start, and their emptying when they are deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from creditmodel_sandbox.client import Client, Obj, Resource, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Create, Delete, Replace, Wake
from creditmodel_sandbox.objects import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, is_deleting, namespace_of

__all__ = ["NamespaceController", "Snapshot", "reconcile"]

FINALIZER = "kubernetes"


@dataclass(frozen=True)
class Snapshot:
    """A namespace, the names of what it is given at the start that are there, and, when it is deleted, its content."""

    namespace: Obj
    present: frozenset[str]
    ca: str
    content: tuple[tuple[Resource, Obj], ...] = ()


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Furnish a living namespace, empty a deleted one and let it go."""
    return list(_empty(snapshot, now) if is_deleting(snapshot.namespace) else _furnish(snapshot))


def _furnish(snapshot: Snapshot) -> Iterator[Action]:
    name = snapshot.namespace["metadata"]["name"]
    if "default" not in snapshot.present:
        meta = {"name": "default", "namespace": name}
        yield Create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    if "kube-root-ca.crt" not in snapshot.present:
        meta = {"name": "kube-root-ca.crt", "namespace": name}
        data = {"ca.crt": snapshot.ca}
        yield Create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


def _empty(snapshot: Snapshot, now: datetime) -> Iterator[Action]:
    namespace = snapshot.namespace
    finalizers = namespace["spec"].get("finalizers") or []
    for resource, obj in snapshot.content:
        if not is_deleting(obj):
            yield Delete(resource, obj)
    if any(not is_deleting(obj) for _, obj in snapshot.content):
        # Nobody watches Events, so nothing else would say that the last of them has gone.
        yield Wake(now)
    if not snapshot.content and FINALIZER in finalizers:
        left = [name for name in finalizers if name != FINALIZER]
        yield Replace(NAMESPACES, namespace | {"spec": namespace["spec"] | {"finalizers": left}}, "finalize")


class NamespaceController:
    """Takes the snapshots. What a deleted namespace still holds is asked of the server, Events included."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def observe(self, cache: Cache, key: str) -> Snapshot | None:
        """The snapshot of the namespace, None when it is gone."""
        namespace = cache.get(NAMESPACES, key)
        if namespace is None:
            return None
        given = {"default": SERVICE_ACCOUNTS, "kube-root-ca.crt": CONFIG_MAPS}
        present = frozenset(name for name, resource in given.items() if cache.get(resource, f"{key}/{name}"))
        content = await self._content(key) if is_deleting(namespace) else ()
        return Snapshot(namespace, present, self._client.config.ca_data.decode(), content)

    async def _content(self, namespace: str) -> tuple[tuple[Resource, Obj], ...]:
        found: list[tuple[Resource, Obj]] = []
        for resource in await self._client.discover():
            if resource.namespaced and {"list", "delete"} <= resource.verbs:
                answer = await self._client.list(resource, namespace)
                found += [(resource, item) for item in answer.get("items") or []]
        return tuple(found)

    def touched(self, cache: Cache, resource: Resource, obj: Obj, gone: bool) -> Iterator[str]:
        """Namespaces; and those being deleted whenever something in them has gone."""
        if resource == NAMESPACES:
            yield key_of(obj)
        elif gone:
            namespace = cache.get(NAMESPACES, namespace_of(obj))
            furniture = resource in (SERVICE_ACCOUNTS, CONFIG_MAPS)
            if namespace and (furniture or is_deleting(namespace)):
                yield key_of(namespace)

    @property
    def controller(self) -> Controller:
        """How the runtime runs it."""
        watched = {NAMESPACES: lambda *_: ()}
        return Controller("namespace-controller", watched, self.observe, reconcile, self.touched)
