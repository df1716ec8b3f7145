"""The EndpointSlice controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import endpointslice
from creditmodel_sandbox.controllers.runtime import Action
from creditmodel_sandbox.objects import ENDPOINT_SLICES, PODS, SERVICES

LABELS = {"app": "web"}


def act(world: Any) -> Sequence[Action]:
    snapshot = endpointslice.observe(world.cache, "ns/web")
    return endpointslice.reconcile(snapshot, world.now) if snapshot else []


def a_service(world: Any, *, target: Any = "http", **spec: Any) -> Obj:
    ports = [{"name": "web", "port": 80, "targetPort": target, "protocol": "TCP"}]
    made: Obj = world.add(
        SERVICES, "web", meta={"labels": {"team": "risk"}}, spec={"selector": LABELS, "ports": ports, **spec}
    )
    return made


def a_pod(world: Any, name: str, number: int, *, ready: bool = True, port: int = 8080, **options: Any) -> Obj:
    address = {} if options.pop("no_address", False) else {"podIP": f"127.1.0.{number}"}
    pod = world.pod(name, ready=ready, labels=LABELS, node="node-a", status=address, **options)
    container = {"name": "main", "ports": [{"name": "http", "containerPort": port}]}
    made: Obj = world.change(PODS, pod, spec={**pod["spec"], "containers": [container]})
    return made


def endpoints(world: Any) -> dict[str, tuple[bool, bool, bool]]:
    """(ready, serving, terminating) by pod."""
    return {
        endpoint["targetRef"]["name"]: tuple(endpoint["conditions"][c] for c in ("ready", "serving", "terminating"))
        for found in world.all(ENDPOINT_SLICES)
        for endpoint in found["endpoints"]
    }


def test_a_slice_lists_the_pods_behind_a_service(world: Any) -> None:
    service = a_service(world)
    pod = a_pod(world, "a", 1)
    world.settle(act)
    (found,) = world.all(ENDPOINT_SLICES)
    assert found["metadata"]["labels"] == {
        "team": "risk",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert found["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    assert found["addressType"] == "IPv4"
    assert found["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]
    assert found["endpoints"] == [
        {
            "addresses": ["127.1.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-a",
            "targetRef": {"kind": "Pod", "namespace": "ns", "name": "a", "uid": pod["metadata"]["uid"]},
        }
    ]


def test_conditions_follow_the_pod_from_start_to_end(world: Any) -> None:
    a_service(world)
    pod = a_pod(world, "a", 1, ready=False, phase="Running")
    world.settle(act)
    assert endpoints(world) == {"a": (False, False, False)}
    pod = world.change(PODS, pod, status={**pod["status"], "conditions": [world.ready()]})
    world.settle(act)
    assert endpoints(world) == {"a": (True, True, False)}
    world.delete(PODS, pod, grace=True)
    world.settle(act)
    assert endpoints(world) == {"a": (False, True, True)}
    world.cache.change(PODS, world.get(PODS, "a"), None)
    world.settle(act)
    assert endpoints(world) == {}
    assert len(world.all(ENDPOINT_SLICES)) == 1


@pytest.mark.parametrize("options", [{"phase": "Succeeded"}, {"phase": "Failed"}, {"no_address": True}])
def test_a_finished_pod_or_one_without_address_is_no_endpoint(world: Any, options: Obj) -> None:
    a_service(world)
    a_pod(world, "a", 1, **options)
    world.settle(act)
    assert endpoints(world) == {}


def test_a_numbered_target_port_needs_no_container_port(world: Any) -> None:
    a_service(world, target=9000)
    a_pod(world, "a", 1)
    world.settle(act)
    assert world.all(ENDPOINT_SLICES)[0]["ports"][0]["port"] == 9000


def test_pods_whose_named_port_differs_are_in_slices_of_their_own(world: Any) -> None:
    a_service(world)
    a_pod(world, "a", 1)
    a_pod(world, "b", 2, port=8081)
    world.settle(act)
    assert sorted(found["ports"][0]["port"] for found in world.all(ENDPOINT_SLICES)) == [8080, 8081]


def test_more_than_a_hundred_endpoints_take_a_second_slice(world: Any) -> None:
    a_service(world)
    for number in range(101):
        a_pod(world, f"pod-{number:03}", number)
    world.settle(act)
    assert sorted(len(found["endpoints"]) for found in world.all(ENDPOINT_SLICES)) == [1, 100]


def test_moving_the_selector_replaces_the_endpoints_in_one_write(world: Any) -> None:
    service = a_service(world)
    a_pod(world, "a", 1)
    blue = a_pod(world, "b", 2)
    world.change(PODS, blue, metadata={**blue["metadata"], "labels": {"app": "next"}})
    world.settle(act)
    before = world.writes
    world.change(SERVICES, service, spec={**service["spec"], "selector": {"app": "next"}})
    world.settle(act)
    assert endpoints(world) == {"b": (True, True, False)}
    assert world.writes == before + 1


def test_publishing_not_ready_addresses_makes_every_pod_ready(world: Any) -> None:
    a_service(world, publishNotReadyAddresses=True)
    a_pod(world, "a", 1, ready=False, phase="Running")
    world.settle(act)
    assert endpoints(world) == {"a": (True, True, False)}


def test_a_service_without_a_selector_gets_no_slice(world: Any) -> None:
    a_service(world, selector=None)
    a_pod(world, "a", 1)
    world.settle(act)
    assert world.all(ENDPOINT_SLICES) == []


def test_a_headless_service_is_labelled_so(world: Any) -> None:
    a_service(world, clusterIP="None")
    world.settle(act)
    assert world.all(ENDPOINT_SLICES)[0]["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_slices_that_someone_else_manages_are_left_alone(world: Any) -> None:
    service = a_service(world)
    world.add(ENDPOINT_SLICES, "by-hand", owner=service, endpoints=[], ports=[])
    world.settle(act)
    assert len(world.all(ENDPOINT_SLICES)) == 2
