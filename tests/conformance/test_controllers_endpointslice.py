"""What Kubernetes documents of the EndpointSlices of a Service with a selector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def node(cluster: Any) -> Iterator[str]:
    """A node that no kubelet stands behind: pods on it are ended by the test."""
    name = f"conformance-{time.time_ns():x}"
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}}
    cluster.api.post("/api/v1/nodes", body)
    yield name
    for pod in cluster.all("pods"):
        cluster.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    cluster.api.delete(f"/api/v1/nodes/{name}")


def a_pod(cluster: Any, node: str, name: str, address: str, *, ready: bool = True, port: int = 8080) -> None:
    spec = cluster.template()["spec"]
    spec["containers"][0]["ports"] = [{"name": "http", "containerPort": port}]
    cluster.create("pods", name, {**spec, "nodeName": node, "terminationGracePeriodSeconds": 30}, labels={"app": "web"})
    cluster.set_pod(name, "Running", ready=ready, podIP=address, podIPs=[{"ip": address}])


def a_service(cluster: Any) -> Any:
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    return cluster.create("services", "web", {"selector": {"app": "web"}, "ports": ports})


def slices(cluster: Any) -> list[Any]:
    found: list[Any] = cluster.api.get(
        f"{cluster.path('endpointslices')}?labelSelector=kubernetes.io/service-name%3Dweb"
    )["items"]
    return found


def states(cluster: Any) -> dict[str, tuple[bool, bool, bool]]:
    """(ready, serving, terminating) by pod."""
    return {
        endpoint["targetRef"]["name"]: tuple(endpoint["conditions"][c] for c in ("ready", "serving", "terminating"))
        for found in slices(cluster)
        for endpoint in found.get("endpoints") or []
    }


def test_a_slice_lists_the_pods_that_a_service_selects(cluster: Any, node: str) -> None:
    service = a_service(cluster)
    a_pod(cluster, node, "a", "10.9.8.7")
    cluster.until(lambda: states(cluster) == {"a": (True, True, False)})
    (found,) = slices(cluster)
    labels = found["metadata"]["labels"]
    assert labels["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert found["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    assert found["addressType"] == "IPv4"
    (port,) = found["ports"]
    assert (port["name"], port["port"], port["protocol"]) == ("web", 8080, "TCP")
    (endpoint,) = found["endpoints"]
    assert (endpoint["addresses"], endpoint["nodeName"], endpoint["targetRef"]["kind"]) == (["10.9.8.7"], node, "Pod")


def test_a_pod_that_is_not_ready_is_listed_as_such(cluster: Any, node: str) -> None:
    a_service(cluster)
    a_pod(cluster, node, "a", "10.9.8.7", ready=False)
    cluster.until(lambda: states(cluster) == {"a": (False, False, False)})
    cluster.set_pod("a", "Running", ready=True)
    cluster.until(lambda: states(cluster) == {"a": (True, True, False)})


def test_a_terminating_pod_still_serves_but_is_not_ready(cluster: Any, node: str) -> None:
    a_service(cluster)
    a_pod(cluster, node, "a", "10.9.8.7")
    cluster.until(lambda: states(cluster) == {"a": (True, True, False)})
    cluster.delete("pods", "a")
    cluster.until(lambda: states(cluster) == {"a": (False, True, True)})
    cluster.delete("pods", "a", gracePeriodSeconds=0)
    cluster.until(lambda: states(cluster) == {})


def test_a_finished_pod_is_not_listed(cluster: Any, node: str) -> None:
    a_service(cluster)
    a_pod(cluster, node, "a", "10.9.8.7")
    cluster.until(lambda: states(cluster))
    cluster.set_pod("a", "Succeeded")
    cluster.until(lambda: states(cluster) == {})


def test_a_new_selector_moves_the_service_to_other_pods(cluster: Any, node: str) -> None:
    a_service(cluster)
    a_pod(cluster, node, "a", "10.9.8.7")
    a_pod(cluster, node, "b", "10.9.8.8")
    cluster.patch("pods", "b", {"metadata": {"labels": {"app": "next"}}})
    cluster.until(lambda: set(states(cluster)) == {"a"})
    cluster.patch("services", "web", {"spec": {"selector": {"app": "next"}}})
    cluster.until(lambda: set(states(cluster)) == {"b"})


def test_the_slices_go_with_the_service(cluster: Any, node: str) -> None:
    a_service(cluster)
    cluster.until(lambda: slices(cluster))
    cluster.delete("services", "web")
    cluster.until(lambda: not slices(cluster))
