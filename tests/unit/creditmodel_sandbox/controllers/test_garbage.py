"""The garbage collector's decisions, as a table, and the keys that a change touches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from creditmodel_sandbox.client import Client, Kubeconfig, Obj
from creditmodel_sandbox.controllers import garbage
from creditmodel_sandbox.controllers.garbage import GarbageCollector, Owner, Snapshot
from creditmodel_sandbox.controllers.runtime import Delete, Patch
from creditmodel_sandbox.objects import DEPLOYMENTS, PODS, REPLICA_SETS

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def an_object(*finalizers: str, deleting: bool = False, uid: str = "uid", owners: list[Obj] | None = None) -> Obj:
    meta: Obj = {"name": "thing", "namespace": "ns", "uid": uid, "finalizers": list(finalizers)}
    meta |= {"deletionTimestamp": "2026-03-02T00:00:00Z"} if deleting else {}
    return {"metadata": meta | ({"ownerReferences": owners} if owners else {})}


def only(uid: str) -> Obj:
    """The patch that leaves one owner."""
    return {"ownerReferences": [{"uid": uid}]}


LIVING = Owner({"uid": "living"}, an_object(uid="living"))
ABSENT = Owner({"uid": "absent"}, None)
WAITING = Owner({"uid": "waiting"}, an_object("foregroundDeletion", deleting=True, uid="waiting"))
BLOCKER = (PODS, an_object(uid="child", owners=[{"uid": "uid", "blockOwnerDeletion": True}]))
BYSTANDER = (PODS, an_object(uid="child", owners=[{"uid": "uid"}, {"uid": "other"}]))

# Each case: an object, its owners and its dependents; the deletions and patches that follow.
DECISIONS: list[tuple[str, Obj, list[Owner], list[Any], list[Any]]] = [
    ("an object without owners is no garbage", an_object(), [], [], []),
    ("a living owner holds it", an_object(), [LIVING], [], []),
    ("with its last owner it goes", an_object(), [ABSENT], [], ["Background"]),
    ("it outlives one owner of two and forgets it", an_object(), [LIVING, ABSENT], [], [only("living")]),
    ("an owner in foreground deletion takes it along", an_object(), [WAITING], [], ["Background"]),
    ("and its own dependents first", an_object(), [WAITING], [BLOCKER], ["Foreground"]),
    ("its own wish to orphan is kept", an_object("orphan"), [ABSENT], [], ["Orphan"]),
    ("what is being deleted already is left alone", an_object(deleting=True), [ABSENT], [], []),
    ("foreground deletion waits for a blocker", an_object("foregroundDeletion", deleting=True), [], [BLOCKER], []),
    (
        "and for no one else",
        an_object("other", "foregroundDeletion", deleting=True), [], [BYSTANDER], [{"finalizers": ["other"]}],
    ),
    (
        "orphaning lets dependents go and then itself",
        an_object("orphan", deleting=True), [], [BYSTANDER], [only("other"), {"finalizers": None}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "owners", "dependents", "expected"), [c[1:] for c in DECISIONS], ids=[c[0] for c in DECISIONS]
)
def test_what_becomes_of_an_object(obj: Obj, owners: list[Owner], dependents: list[Any], expected: list[Any]) -> None:
    owned = {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner.reference for owner in owners]}}
    actions = garbage.reconcile(Snapshot(REPLICA_SETS, owned, tuple(owners), tuple(dependents)), NOW)
    done: list[Any] = []
    for action in actions:
        if isinstance(action, Delete):
            done.append(action.propagation)
        elif isinstance(action, Patch):
            done.append(action.patch["metadata"])
    assert done == expected


@pytest.fixture
def collector() -> GarbageCollector:
    """A collector that is asked nothing of its server."""
    return GarbageCollector(Client(Kubeconfig("http://127.0.0.1:1", ssl=True), "test"))


def test_a_deleted_owner_makes_its_dependents_be_looked_at(world: Any, collector: GarbageCollector) -> None:
    owner = world.add(DEPLOYMENTS, "web", spec={})
    world.add(REPLICA_SETS, "web-1", owner=owner, spec={})
    assert list(collector.touched(world.cache, DEPLOYMENTS, owner, gone=False)) == []
    assert list(collector.touched(world.cache, DEPLOYMENTS, owner, gone=True)) == ["apps/v1|replicasets|ns/web-1"]


def test_a_dependent_that_goes_makes_its_owner_be_looked_at(world: Any, collector: GarbageCollector) -> None:
    owner = world.add(DEPLOYMENTS, "web", spec={})
    rs = world.add(REPLICA_SETS, "web-1", owner=owner, spec={})
    list(collector.touched(world.cache, DEPLOYMENTS, owner, gone=False))
    assert "apps/v1|deployments|ns/web" in list(collector.touched(world.cache, REPLICA_SETS, rs, gone=True))


async def test_an_owner_of_the_same_name_with_another_uid_is_absent(world: Any, collector: GarbageCollector) -> None:
    """The cache knows the namesake; only the server, which does not answer here, could know the true owner."""
    namesake = world.add(DEPLOYMENTS, "web", spec={})
    former = {**namesake, "metadata": {**namesake["metadata"], "uid": "former"}}
    rs = world.add(REPLICA_SETS, "web-1", owner=namesake, spec={})
    for resource, obj in ((DEPLOYMENTS, namesake), (REPLICA_SETS, rs)):
        list(collector.touched(world.cache, resource, obj, gone=False))
    snapshot = await collector.observe(world.cache, "apps/v1|replicasets|ns/web-1")
    assert snapshot is not None
    assert snapshot.owners[0].found == namesake
    world.cache.change(REPLICA_SETS, rs, None)
    world.add(REPLICA_SETS, "web-1", owner=former, spec={})
    with pytest.raises(RuntimeError, match="context manager"):
        await collector.observe(world.cache, "apps/v1|replicasets|ns/web-1")
