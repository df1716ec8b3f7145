"""What Kubernetes documents of owners, dependents and cascading deletion."""

from __future__ import annotations

from typing import Any


def own(*owners: Any, block: bool = False) -> list[Any]:
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"],
         "blockOwnerDeletion": block}
        for o in owners
    ]  # fmt: skip


def test_a_dependent_goes_with_its_owner(cluster: Any) -> None:
    owner = cluster.create("configmaps", "owner")
    child = cluster.create("configmaps", "child", ownerReferences=own(owner))
    cluster.create("configmaps", "grandchild", ownerReferences=own(child))
    cluster.delete("configmaps", "owner")
    assert not cluster.exists("configmaps", "owner")
    cluster.until(lambda: not cluster.exists("configmaps", "child") and not cluster.exists("configmaps", "grandchild"))


def test_a_dependent_of_an_owner_that_never_was_is_collected(cluster: Any) -> None:
    namesake = cluster.create("configmaps", "owner")
    namesake["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    cluster.create("configmaps", "child", ownerReferences=own(namesake))
    cluster.until(lambda: not cluster.exists("configmaps", "child"))
    assert cluster.exists("configmaps", "owner")


def test_a_dependent_outlives_one_of_two_owners(cluster: Any) -> None:
    first, second = cluster.create("configmaps", "first"), cluster.create("configmaps", "second")
    cluster.create("configmaps", "child", ownerReferences=own(first, second))
    cluster.create("configmaps", "witness", ownerReferences=own(first))
    cluster.delete("configmaps", "first")
    cluster.until(lambda: not cluster.exists("configmaps", "witness"))
    assert cluster.exists("configmaps", "child")
    cluster.delete("configmaps", "second")
    cluster.until(lambda: not cluster.exists("configmaps", "child"))


def test_foreground_deletion_keeps_the_owner_until_a_blocking_dependent_is_gone(cluster: Any) -> None:
    owner = cluster.create("configmaps", "owner")
    hold = {"finalizers": ["conformance.test/hold"]}
    cluster.create("configmaps", "child", ownerReferences=own(owner, block=True), **hold)
    cluster.delete("configmaps", "owner", "Foreground")
    cluster.until(lambda: cluster.get("configmaps", "child")["metadata"].get("deletionTimestamp"))
    meta = cluster.get("configmaps", "owner")["metadata"]
    assert "foregroundDeletion" in meta["finalizers"]
    assert "deletionTimestamp" in meta
    cluster.patch("configmaps", "child", {"metadata": {"finalizers": None}})
    cluster.until(lambda: not cluster.exists("configmaps", "owner"))


def test_orphaning_keeps_the_dependent_and_takes_its_reference_away(cluster: Any) -> None:
    owner = cluster.create("configmaps", "owner")
    cluster.create("configmaps", "child", ownerReferences=own(owner))
    cluster.delete("configmaps", "owner", "Orphan")
    cluster.until(lambda: not cluster.exists("configmaps", "owner"))
    assert not cluster.get("configmaps", "child")["metadata"].get("ownerReferences")


def test_a_deployment_takes_its_replica_sets_and_pods_along(cluster: Any) -> None:
    selector = {"matchLabels": {"app": "web"}}
    cluster.create("deployments", "web", {"replicas": 2, "selector": selector, "template": cluster.template(app="web")})
    cluster.until(lambda: len(cluster.all("pods", app="web")) == 2)
    cluster.delete("deployments", "web", "Foreground")
    cluster.until(lambda: not cluster.exists("deployments", "web"))
    assert cluster.all("replicasets") == []


def test_dependents_of_a_custom_resource_go_with_it(cluster: Any) -> None:
    group = f"{cluster.namespace}.conformance.test"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    meta = {"name": f"widgets.{group}"}
    cluster.api.post(
        crds,
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec},
    )
    try:
        path = f"/apis/{group}/v1/namespaces/{cluster.namespace}/widgets"
        cluster.until(lambda: cluster.api.request("GET", path).code == 200)
        widget = cluster.api.post(path, {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "owner"}})
        (reference,) = own(widget)
        reference |= {"apiVersion": f"{group}/v1", "kind": "Widget"}
        cluster.create("configmaps", "child", ownerReferences=[reference])
        cluster.api.delete(f"{path}/owner")
        cluster.until(lambda: not cluster.exists("configmaps", "child"), seconds=90)
    finally:
        cluster.api.delete(f"{crds}/widgets.{group}")
