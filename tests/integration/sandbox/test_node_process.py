"""The node as a process: ended, killed, started again, started wrongly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.client import STRATEGIC_PATCH, Client, load_kubeconfig
from creditmodel_sandbox.node.process import processes_of, sweep
from creditmodel_sandbox.node.register import Registration
from creditmodel_sandbox.objects import NODES


@pytest.fixture
def node(start_node: Callable[..., Any], apiserver: Any, namespace: str) -> Iterator[Any]:
    """A node of the test's own, because it is ended."""
    node = start_node(namespace, "--bind", "never", "--restart-backoff", "0.2")
    yield node
    if node.process.poll() is None:
        node.end(signal.SIGKILL)
    sweep(node.directory)
    apiserver.request("DELETE", f"/api/v1/nodes/{node.name}")


def alive(node: Any) -> list[int]:
    return processes_of((node.directory / "id").read_text().strip())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.03)


def test_a_node_that_is_ended_leaves_no_process_and_says_that_it_is_not_ready(pods: Any) -> None:
    pods.create("p", "sh", "-c", "sleep 1000 & sleep 1000", restartPolicy="Always")
    pods.wait_phase("p", "Running")
    wait_for(lambda: len(alive(pods.node)) == 3)
    assert pods.node.end() == 0
    assert alive(pods.node) == []
    node = pods.api.get(f"/api/v1/nodes/{pods.node.name}")
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "False"


def test_a_pod_may_finish_what_it_does_when_its_node_ends(pods: Any, tmp_path: Path) -> None:
    done, ready = tmp_path / "done", tmp_path / "ready"
    finish = f"trap 'sleep 3.2; touch {done}; exit' TERM; touch {ready}; while :; do sleep 0.1; done"
    pods.create("p", "sh", "-c", finish, terminationGracePeriodSeconds=30)
    wait_for(ready.exists)
    assert pods.node.end() == 0
    assert done.exists()
    assert alive(pods.node) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_that_is_started_again_goes_on_and_runs_nothing_twice(pods: Any, signum: signal.Signals) -> None:
    pods.create("serves", "sleep", "1000", restartPolicy="Always")
    pods.create("done", "sh", "-c", "echo kept; exit 0")
    pods.create("works", "sleep", "1000")
    pods.wait_phase("serves", "Running")
    pods.wait_phase("works", "Running")
    before = pods.wait_phase("done", "Succeeded")
    address = pods.get("serves")["status"]["podIP"]
    wait_for(lambda: len(alive(pods.node)) == 2)
    pods.node.end(signum)
    wait_for(lambda: alive(pods.node) == [])
    pods.node.start()
    again = pods.wait("serves", lambda s: s["containerStatuses"][0]["restartCount"] == 1)["status"]
    assert again["podIP"] == address
    assert again["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] in {137, 143}
    assert pods.wait_phase("works", "Failed")["containerStatuses"][0]["restartCount"] == 0
    assert pods.get("done")["status"] == before
    assert pods.logs("done") == "kept\n"
    assert len(alive(pods.node)) == 1


def test_what_escaped_a_killed_node_is_ended_by_the_next_one(pods: Any) -> None:
    pods.create("p", "sh", "-c", "setsid sleep 1000 & sleep 1000", restartPolicy="Always")
    pods.wait_phase("p", "Running")
    wait_for(lambda: len(alive(pods.node)) == 3)
    escaped = set(alive(pods.node))
    pods.node.end(signal.SIGKILL)
    pods.node.start()
    pods.wait("p", lambda s: s["containerStatuses"][0]["restartCount"] == 1)
    assert not escaped & set(alive(pods.node))


def test_a_pod_that_is_deleted_while_the_node_is_away_is_finished_when_it_is_back(pods: Any) -> None:
    pods.create("p", "sleep", "1000")
    pods.wait_phase("p", "Running")
    pods.node.end(signal.SIGKILL)
    pods.delete("p")
    pods.node.start()
    pods.wait_gone("p")


def ready_of(obj: Any) -> str:
    found = {c["type"]: c["status"] for c in obj["status"].get("conditions") or []}
    return str(found.get("Ready"))


def test_readiness_that_the_control_plane_took_away_from_a_pod_is_said_again(pods: Any) -> None:
    """As it does with the pods of a node that it has not heard of for long."""
    pods.create("p", "sleep", "1000")
    pods.wait_ready("p")
    lost = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    kind = "strategic-merge-patch+json"
    answer = pods.api.patch(f"{pods.path}/pods/p/status", {"status": {"conditions": [lost]}}, kind)
    assert ready_of(answer) == "False"
    pods.wait_ready("p")


async def test_a_node_thought_lost_or_deleted_says_that_it_is_there(apiserver: Any, namespace: str) -> None:
    path = f"/api/v1/nodes/{namespace}"
    async with Client(load_kubeconfig(apiserver.kubeconfig), "test") as client:
        registration = Registration(client, namespace, "127.0.0.1", 1, period=0.05)
        await registration.register()
        keeps = asyncio.create_task(registration.run())
        lost = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        await client.patch(NODES, "", namespace, {"status": {"conditions": [lost]}}, "status", STRATEGIC_PATCH)
        await asyncio.to_thread(wait_for, lambda: ready_of(apiserver.get(path)) == "True")
        await client.delete(NODES, "", namespace)
        await asyncio.to_thread(wait_for, lambda: apiserver.request("GET", path).code == 200)
        keeps.cancel()
    apiserver.request("DELETE", path)


@pytest.fixture
def scheduler(apiserver: Any) -> Iterator[Callable[[], None]]:
    """The lease of a kube-scheduler that is alive, until this is called, and at the latest until the test ends."""
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "the-real-one", "leaseDurationSeconds": 600, "renewTime": renewed}
    apiserver.post(leases, {"metadata": {"name": "kube-scheduler"}, "spec": spec})
    yield lambda: apiserver.delete(f"{leases}/kube-scheduler")
    apiserver.request("DELETE", f"{leases}/kube-scheduler")


def test_a_node_binds_what_fits_while_no_scheduler_is_alive(
    apiserver: Any, start_node: Any, namespace: str, scheduler: Callable[[], None]
) -> None:
    start_node(namespace)
    path = f"/api/v1/namespaces/{namespace}/pods"
    requests = {"cpu": f"{600 * (os.cpu_count() or 1)}m"}
    main = {
        "name": "main",
        "image": "creditmodel-jobs",
        "command": ["sleep", "1000"],
        "resources": {"requests": requests},
    }

    def node_of(name: str) -> str | None:
        found: str | None = apiserver.get(f"{path}/{name}")["spec"].get("nodeName")
        return found

    wait_for(lambda: apiserver.request("GET", f"/api/v1/nodes/{namespace}").code == 200)
    wait_for(lambda: ready_of(apiserver.get(f"/api/v1/nodes/{namespace}")) == "True")
    for name in ("first", "second"):
        here = {"nodeSelector": {"kubernetes.io/hostname": namespace}, "terminationGracePeriodSeconds": 0}
        apiserver.post(path, {"metadata": {"name": name}, "spec": {"containers": [main], **here}})
    assert (node_of("first"), node_of("second")) == (None, None)
    scheduler()
    wait_for(lambda: node_of("first") == namespace)

    def why() -> str:
        conditions = apiserver.get(f"{path}/second")["status"].get("conditions") or []
        return str(next((c["message"] for c in conditions if c["type"] == "PodScheduled"), ""))

    wait_for(lambda: why() == "0/1 nodes are available: 1 Insufficient cpu.")
    apiserver.delete(f"{path}/first")
    wait_for(lambda: node_of("second") == namespace)


def test_a_node_at_rest_uses_next_to_no_cpu(pods: Any) -> None:
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 10}
    limits = {"limits": {"memory": "512Mi"}}
    pods.create("p", "sleep", "1000", container={"readinessProbe": probe, "resources": limits})
    pods.wait_phase("p", "Running")
    time.sleep(0.5)
    before = cpu_seconds(pods.node.process.pid)
    time.sleep(3)
    assert cpu_seconds(pods.node.process.pid) - before < 0.15


def _main(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "node", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_second_node_on_the_same_state_is_refused(node: Any, apiserver: Any) -> None:
    wait_for(lambda: (node.directory / "id").exists())
    done = _main("--kubeconfig", str(apiserver.kubeconfig), "--state-dir", str(node.directory))
    assert done.returncode == 2
    assert "another node uses" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--kubeconfig"),
        (("--kubeconfig", "/does/not/exist"), "/does/not/exist"),
        (("--kubeconfig", "x", "--image", "tool"), "write it as NAME=BIN_DIR"),
        (("--kubeconfig", "x", "--pod-cidr", "10.0.0.1/8"), "--pod-cidr"),
        (("--kubeconfig", "x", "--restart-backoff", "0"), "--restart-backoff"),
        (("--kubeconfig", "x", "--name", "Not_A_Name"), "--name"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = _main("--state-dir", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path, apiserver: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = _main("--kubeconfig", str(apiserver.kubeconfig), "--state-dir", str(tmp_path), "--kubelet-port", port)
    assert done.returncode == 2
    assert port in done.stderr


def test_an_address_is_never_given_to_two_pods_at_once(pods: Any) -> None:
    """A finished pod's address is free; deleting that pod later must not free it for a third."""
    node = pods.node
    node.end()
    node.add_options("--pod-cidr", "127.247.0.0/30")  # two addresses
    node.start()
    pods.create("done", "true")
    pods.wait_phase("done", "Succeeded")
    for name in ("a", "b"):
        pods.create(name, "sleep", "1000")
        pods.wait_phase(name, "Running")
    pods.delete("done")
    pods.wait_gone("done")
    pods.create("c", "sleep", "1000")
    pods.wait_event("c", "FailedCreatePodSandBox", "every address of 127.247.0.0/30 is in use")
    assert pods.get("c")["status"]["phase"] == "Pending"
    pods.delete("a")
    pods.wait_phase("c", "Running")
    assert pods.get("c")["status"]["podIP"] != pods.get("b")["status"]["podIP"]
