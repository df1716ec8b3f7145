"""The namespace controller's decisions."""

from __future__ import annotations

from typing import Any

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import namespace
from creditmodel_sandbox.controllers.namespace import Snapshot
from creditmodel_sandbox.controllers.runtime import Create, Delete, Replace, Wake
from creditmodel_sandbox.objects import NAMESPACES, PODS


def a_namespace(world: Any, *, deleting: bool = False, finalizers: tuple[str, ...] = ("kubernetes",)) -> Obj:
    meta = {"deletionTimestamp": "2026-03-02T12:00:00Z"} if deleting else {}
    made: Obj = world.add(NAMESPACES, "ns", meta=meta, spec={"finalizers": list(finalizers)})
    return made


def test_a_new_namespace_is_given_a_service_account_and_the_root_certificate(world: Any) -> None:
    actions = namespace.reconcile(Snapshot(a_namespace(world), frozenset(), "PEM"), world.now)
    made = {a.body["metadata"]["name"]: a.body for a in actions if isinstance(a, Create)}
    assert {name: body["kind"] for name, body in made.items()} == {
        "default": "ServiceAccount",
        "kube-root-ca.crt": "ConfigMap",
    }
    assert made["kube-root-ca.crt"]["data"] == {"ca.crt": "PEM"}


def test_a_furnished_namespace_is_left_alone(world: Any) -> None:
    snapshot = Snapshot(a_namespace(world), frozenset({"default", "kube-root-ca.crt"}), "PEM")
    assert namespace.reconcile(snapshot, world.now) == []


def test_a_deleted_namespace_is_emptied_first(world: Any) -> None:
    staying, going = world.pod("a"), {**world.pod("b")}
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "2026-03-02T12:00:00Z"}
    content = ((PODS, staying), (PODS, going))
    actions = namespace.reconcile(Snapshot(a_namespace(world, deleting=True), frozenset(), "", content), world.now)
    assert [action.obj["metadata"]["name"] for action in actions if isinstance(action, Delete)] == ["a"]
    assert [type(action) for action in actions] == [Delete, Wake]


def test_content_that_is_on_its_way_out_is_waited_for_without_asking_again(world: Any) -> None:
    going = {**world.pod("b")}
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "2026-03-02T12:00:00Z"}
    snapshot = Snapshot(a_namespace(world, deleting=True), frozenset(), "", ((PODS, going),))
    assert namespace.reconcile(snapshot, world.now) == []


def test_an_empty_namespace_is_let_go_by_its_own_finalizer_only(world: Any) -> None:
    deleted = a_namespace(world, deleting=True, finalizers=("kubernetes", "example.com/hold"))
    (action,) = namespace.reconcile(Snapshot(deleted, frozenset(), ""), world.now)
    assert isinstance(action, Replace)
    assert (action.subresource, action.body["spec"]["finalizers"]) == ("finalize", ["example.com/hold"])
