"""Ordinary clients work unchanged: kubernetes, kubernetes.aio, Kopf."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]

# Not typed throughout, so not typed at all here.
client: Any = import_module("kubernetes.client")
config: Any = import_module("kubernetes.config")
dynamic: Any = import_module("kubernetes.dynamic")
aio_config: Any = import_module("kubernetes.aio.config")
aio_dynamic: Any = import_module("kubernetes.aio.dynamic")

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

OPERATOR = """
import kopf


@kopf.index("gizmos.example.org")
def sizes(name, spec, **_):
    return {name: spec.get("size")}


@kopf.on.event("gizmos.example.org")
def seen(event, name, sizes, **_):
    print("EVENT", event["type"], name, sorted(sizes), flush=True)


@kopf.on.event("configmaps", labels={"kopf-test": "yes"})
def child(event, name, **_):
    print("CHILD", event["type"], name, flush=True)
"""


@pytest.fixture
def gizmos(apiserver: Any, namespace: str) -> Iterator[str]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "gizmos", "kind": "Gizmo"}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}
    apiserver.post(CRD, {"metadata": {"name": "gizmos.example.org"}, "spec": spec})
    yield f"/apis/example.org/v1/namespaces/{namespace}/gizmos"
    apiserver.delete(f"{CRD}/gizmos.example.org")


def gizmo(name: str, size: int = 1) -> JSON:
    return {"apiVersion": "example.org/v1", "kind": "Gizmo", "metadata": {"name": name}, "spec": {"size": size}}


def test_the_generated_client_makes_reads_and_scales_a_deployment(apiserver: Any, namespace: str) -> None:
    with config.new_client_from_config(str(apiserver.kubeconfig)) as session:
        apps = client.AppsV1Api(session)
        labels = {"app": "a"}
        container = client.V1Container(name="c", image="example.invalid/none:1")
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
        )
        spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template)
        body = client.V1Deployment(metadata=client.V1ObjectMeta(name="a"), spec=spec)
        assert apps.create_namespaced_deployment(namespace, body).spec.replicas == 1
        scale = apps.read_namespaced_deployment_scale("a", namespace)
        scale.spec.replicas = 4
        apps.replace_namespaced_deployment_scale("a", namespace, scale)
        assert apps.list_namespaced_deployment(namespace).items[0].spec.replicas == 4
        apps.delete_namespaced_deployment("a", namespace)


def test_the_dynamic_client_finds_custom_resources(apiserver: Any, namespace: str, gizmos: str) -> None:
    with config.new_client_from_config(str(apiserver.kubeconfig)) as session:
        resource = dynamic.DynamicClient(session).resources.get(api_version="example.org/v1", kind="Gizmo")
        resource.create(gizmo("a", 3), namespace=namespace)
        assert resource.get("a", namespace=namespace).spec.size == 3
    assert gizmos


async def test_the_asynchronous_client_applies_and_watches(apiserver: Any, namespace: str, gizmos: str) -> None:
    session = await aio_config.new_client_from_config(str(apiserver.kubeconfig))
    async with session, aio_dynamic.DynamicClient(session) as found:
        resource = await found.resources.get(api_version="example.org/v1", kind="Gizmo")
        options = {"namespace": namespace, "field_manager": "tester"}
        await resource.server_side_apply(body=gizmo("a", 3), name="a", **options)
        seen = []
        async with asyncio.timeout(60), aclosing(resource.watch(namespace=namespace, timeout=5)) as events:
            async for event in events:
                seen.append((event["type"], event["object"]["metadata"]["name"]))
                if len(seen) == 1:
                    await resource.delete(name="a", namespace=namespace)
    assert seen == [("ADDED", "a"), ("DELETED", "a")]
    assert gizmos


def test_kopf_sees_events_and_keeps_an_index(apiserver: Any, namespace: str, gizmos: str, tmp_path: Path) -> None:
    (tmp_path / "operator.py").write_text(OPERATOR)
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "-n", namespace, str(tmp_path / "operator.py")]
    log = tmp_path / "log"
    with log.open("w") as output, subprocess.Popen(
        command, stdout=output, stderr=output, env={"KUBECONFIG": str(apiserver.kubeconfig), "PATH": ""}
    ) as operator:  # fmt: skip
        try:
            apiserver.post(gizmos, gizmo("early"))
            expect(log, "early ['early']")
            apiserver.post(gizmos, gizmo("late"))
            expect(log, "EVENT ADDED late ['early', 'late']")
            apiserver.patch(f"{gizmos}/late", {"spec": {"size": 9}})
            expect(log, "EVENT MODIFIED late")
            body = {"metadata": {"name": "c", "labels": {"kopf-test": "yes"}}}
            apiserver.post(f"/api/v1/namespaces/{namespace}/configmaps", body)
            expect(log, "CHILD ADDED c")
            apiserver.delete(f"{gizmos}/late")
            expect(log, "EVENT DELETED late ['early']")
        finally:
            operator.terminate()
            operator.wait(60)
    assert "Traceback" not in log.read_text()


def expect(log: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"{text!r} is not in:\n{log.read_text()}"
        time.sleep(0.05)
