"""A node of the sandbox beside the API server, and pods on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]
IMAGE = "creditmodel-jobs:dev"


class NodeProcess:
    """A node process that can be ended and started again on the same state."""

    def __init__(self, kubeconfig: Path, directory: Path, name: str, *options: str) -> None:
        self.name, self.directory = name, directory
        node = ["node", "--kubeconfig", str(kubeconfig), "--state-dir", str(directory), "--name", name]
        self._command = [sys.executable, "-m", "creditmodel_sandbox.cli", *node, "--kubelet-tls", "never", *options]
        self.start()

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "out").open("a") as out:
            self.process = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)

    def add_options(self, *options: str) -> None:
        """For the next start."""
        self._command += options

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(60)


class Pods:
    """Pods of one namespace, all of them for one node."""

    def __init__(self, api: Any, namespace: str, node: NodeProcess) -> None:
        self.api, self.namespace, self.node = api, namespace, node
        self.path = f"/api/v1/namespaces/{namespace}"

    def create(
        self, name: str, *command: str, labels: JSON | None = None, container: JSON | None = None, **spec: Any
    ) -> JSON:
        """A pod with one container named main, unless `spec` has its own containers."""
        main = {"name": "main", "image": IMAGE, "command": list(command), **(container or {})}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels or {}},
            "spec": {"nodeName": self.node.name, "restartPolicy": "Never", "containers": [main], **spec},
        }
        created: JSON = self.api.post(f"{self.path}/pods", body)
        return created

    def create_object(self, plural: str, kind: str, name: str, **content: Any) -> JSON:
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
        created: JSON = self.api.post(f"{self.path}/{plural}", body)
        return created

    def get(self, name: str) -> JSON:
        found: JSON = self.api.get(f"{self.path}/pods/{name}")
        return found

    def wait(self, name: str, condition: Callable[[JSON], object], seconds: float = 60) -> JSON:
        """The pod, once its status fulfils the condition."""
        deadline = time.monotonic() + seconds
        while True:
            pod = self.get(name)
            try:
                if condition(pod.get("status", {})):
                    return pod
            except (KeyError, IndexError):
                pass
            assert time.monotonic() < deadline, json.dumps(pod.get("status"), indent=1) + self.log()
            time.sleep(0.03)

    def wait_phase(self, name: str, *phases: str) -> JSON:
        """The status, once the pod is in one of the phases."""
        status: JSON = self.wait(name, lambda status: status.get("phase") in phases)["status"]
        return status

    def wait_ready(self, name: str) -> JSON:
        status: JSON = self.wait(name, lambda s: conditions(s).get("Ready", {}).get("status") == "True")["status"]
        return status

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.03)

    def wait_gone(self, name: str) -> None:
        self.until(lambda: self.api.request("GET", f"{self.path}/pods/{name}").code == 404)

    def wait_log(self, name: str, text: str) -> None:
        """Until the container has written the text, as one that is ready for what comes."""
        self.wait_phase(name, "Running")
        self.until(lambda: text in self.logs(name))

    def wait_event(self, name: str, reason: str, message: str = "") -> None:
        """Until there is such an Event about the pod."""

        def told() -> bool:
            events = self.api.get(f"{self.path}/events")["items"]
            about = [e for e in events if (e["involvedObject"]["name"], e["reason"]) == (name, reason)]
            return any(message in event["message"] for event in about)

        self.until(told)

    def delete(self, name: str, **options: Any) -> None:
        self.api.delete(f"{self.path}/pods/{name}", {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    def message(self, name: str, phase: str = "Succeeded") -> str:
        """What the pod's container wrote as its termination message."""
        status = self.wait_phase(name, "Succeeded", "Failed")
        assert status["phase"] == phase, status
        return str(status["containerStatuses"][0]["state"]["terminated"].get("message", ""))

    def logs(self, pod: str, container: str = "main", query: str = "") -> str:
        """From the node's own server, as the API server asks it."""
        node = self.api.get(f"/api/v1/nodes/{self.node.name}")
        port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        url = f"http://127.0.0.1:{port}/containerLogs/{self.namespace}/{pod}/{container}?{query}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return str(response.read().decode())

    def log(self) -> str:
        return "\n" + (self.node.directory / "out").read_text()[-3000:]


def conditions(status: JSON) -> dict[str, JSON]:
    return {c["type"]: c for c in status.get("conditions") or []}


@pytest.fixture(scope="session")
def start_node(apiserver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes, which end with the session."""
    nodes: list[NodeProcess] = []

    def start(name: str, *options: str) -> NodeProcess:
        nodes.append(NodeProcess(apiserver.kubeconfig, tmp_path_factory.mktemp(name), name, *options))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.end()
        apiserver.request("DELETE", f"/api/v1/nodes/{node.name}")


@pytest.fixture(scope="session")
def node(start_node: Callable[..., NodeProcess], loopback_range: Callable[[], str]) -> NodeProcess:
    """One node that runs all the pods of these tests, restarting what fails soon."""
    return start_node("node-a", "--bind", "never", "--restart-backoff", "0.4", "--pod-cidr", loopback_range())


@pytest.fixture
def pods(apiserver: Any, namespace: str, node: NodeProcess) -> Iterator[Pods]:
    """Pods in a namespace of their own, gone afterwards."""
    pods = Pods(apiserver, namespace, node)
    yield pods
    for pod in apiserver.get(f"{pods.path}/pods")["items"]:
        apiserver.request("DELETE", f"{pods.path}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")
