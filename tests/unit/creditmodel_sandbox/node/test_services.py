from __future__ import annotations

from typing import Any

import pytest

from creditmodel_sandbox.node.services import backends, matches

READY = {"podIP": "127.1.0.1", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
CONTAINERS = [{"name": "m", "ports": [{"name": "http", "containerPort": 8080}]}]


def service(**spec: Any) -> Any:
    defaults = {"clusterIP": "127.9.0.1", "selector": {"app": "w"}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"metadata": {"name": "s", "namespace": "ns"}, "spec": {**defaults, **spec}}


def web(pod: Any, name: str = "p", *, deleted: bool = False, **status: Any) -> Any:
    made = pod(name, labels={"app": "w"}, status={**READY, **status}, containers=CONTAINERS)
    if deleted:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


@pytest.mark.parametrize(
    ("selector", "expected"),
    [({"app": "w"}, True), ({"app": "w", "x": "y"}, False), ({"app": "other"}, False), ({}, False), (None, False)],
)
def test_a_selector_matches_all_of_its_labels(pod: Any, selector: Any, expected: bool) -> None:
    assert matches(service(selector=selector), web(pod)) is expected


def test_a_service_selects_in_its_own_namespace(pod: Any) -> None:
    other = web(pod)
    other["metadata"]["namespace"] = "elsewhere"
    assert not matches(service(), other)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, True),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"conditions": []}, False),
        ({"podIP": ""}, False),
        ({"phase": "Succeeded"}, False),
    ],
)
def test_only_ready_pods_with_an_address_are_backends(pod: Any, status: Any, ready: bool) -> None:
    expected = (("127.1.0.1", 8080),) if ready else ()
    assert backends(service(), [web(pod, **status)]) == {("127.9.0.1", 80): expected}


def test_a_pod_that_is_being_deleted_is_a_backend_only_when_no_other_is_left(pod: Any) -> None:
    leaving, staying = web(pod, deleted=True), web(pod, "q", podIP="127.1.0.2")
    assert backends(service(), [leaving, staying]) == {("127.9.0.1", 80): (("127.1.0.2", 8080),)}
    assert backends(service(), [leaving]) == {("127.9.0.1", 80): (("127.1.0.1", 8080),)}


def test_ports_by_name_by_number_and_by_default(pod: Any) -> None:
    ports = [
        {"port": 1, "targetPort": "http"},
        {"port": 2, "targetPort": 9},
        {"port": 3},
        {"port": 4, "targetPort": "none"},
    ]
    found = backends(service(ports=[*ports, {"port": 5, "protocol": "UDP"}]), [web(pod)])
    assert {port: [number for _, number in targets] for (_, port), targets in found.items()} == {
        1: [8080],
        2: [9],
        3: [3],
        4: [],
    }


@pytest.mark.parametrize("address", ["None", "", None])
def test_a_headless_service_has_no_address(pod: Any, address: Any) -> None:
    assert backends(service(clusterIP=address), [web(pod)]) == {}


def test_pods_that_are_not_ready_are_backends_when_the_service_publishes_them(pod: Any) -> None:
    found = backends(service(publishNotReadyAddresses=True), [web(pod, conditions=[])])
    assert found == {("127.9.0.1", 80): (("127.1.0.1", 8080),)}
