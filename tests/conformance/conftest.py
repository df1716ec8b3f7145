"""A cluster with controllers, and a namespace in it where the tests play the kubelet.

Pods name a scheduler that does not exist, so no node runs them: their status is what a test says. Statements that hold
here hold on every cluster with a controller manager, whatever its nodes can run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from harness.kubectl import Kubectl
from harness.node import HOST, clear_away, joined, lasting_nodes

T = TypeVar("T")
JSON = dict[str, Any]
TIMEOUT = float(os.environ.get("CONFORMANCE_TIMEOUT", "120"))

GROUPS = {
    "deployments": "apis/apps/v1", "replicasets": "apis/apps/v1", "jobs": "apis/batch/v1", "cronjobs": "apis/batch/v1",
    "horizontalpodautoscalers": "apis/autoscaling/v2", "poddisruptionbudgets": "apis/policy/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
}  # fmt: skip
KINDS = {
    "deployments": "Deployment", "replicasets": "ReplicaSet", "jobs": "Job", "cronjobs": "CronJob",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler", "poddisruptionbudgets": "PodDisruptionBudget",
    "services": "Service", "configmaps": "ConfigMap", "pods": "Pod",
}  # fmt: skip


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object or a subresource."""
        prefix = f"/{GROUPS.get(plural, 'api/v1')}/namespaces/{self.namespace}"
        return "/".join([prefix, plural, *filter(None, (name, subresource))])

    def create(self, plural: str, name: str, spec: JSON | None = None, **meta: Any) -> JSON:
        """Create an object; `meta` goes to its metadata."""
        version = GROUPS.get(plural, "api/v1").partition("/")[2]
        body = {"apiVersion": version, "kind": KINDS[plural], "metadata": {"name": name, **meta}}
        made: JSON = self.api.post(self.path(plural), body | ({"spec": spec} if spec is not None else {}))
        return made

    def get(self, plural: str, name: str) -> JSON:
        """The object as it is now."""
        found: JSON = self.api.get(self.path(plural, name))
        return found

    def exists(self, plural: str, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self.api.request("GET", self.path(plural, name)).code == 200)

    def all(self, plural: str, **labels: str) -> list[JSON]:
        """Every object with these labels ("_" in a name stands for "-")."""
        selector = ",".join(f"{name.replace('_', '-')}%3D{value}" for name, value in labels.items())
        found: list[JSON] = self.api.get(f"{self.path(plural)}?labelSelector={selector}")["items"]
        return found

    def patch(self, plural: str, name: str, body: JSON, subresource: str = "") -> JSON:
        """Merge-patch an object."""
        changed: JSON = self.api.patch(self.path(plural, name, subresource), body)
        return changed

    def delete(self, plural: str, name: str, policy: str = "Background", **options: Any) -> None:
        """Delete an object with a propagation policy."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy, **options}
        self.api.delete(self.path(plural, name), body)

    def until(self, condition: Callable[[], T], seconds: float = TIMEOUT) -> T:
        """What `condition` returns, as soon as that is true."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition was not met in time"
            time.sleep(0.02)
        return found

    def event(self, reason: str, about: str) -> JSON | None:
        """An Event with this reason about the object of this name."""
        events = self.api.get(self.path("events"))["items"]
        return next((e for e in events if (e["reason"], e["involvedObject"]["name"]) == (reason, about)), None)

    @staticmethod
    def template(restart: str = "Always", image: str = "v1", **labels: str) -> JSON:
        """A pod template for the scheduler that does not exist."""
        main = {"name": "main", "image": image}
        spec = {"schedulerName": "no-such-scheduler", "restartPolicy": restart, "containers": [main]}
        return {"metadata": {"labels": labels}, "spec": {**spec, "terminationGracePeriodSeconds": 0}}

    @staticmethod
    def condition(obj: JSON, kind: str) -> tuple[str, str]:
        """(status, reason) of a condition, ("", "") without it."""
        found = [c for c in (obj.get("status") or {}).get("conditions") or [] if c["type"] == kind]
        return (found[0]["status"], found[0].get("reason", "")) if found else ("", "")

    # The kubelet.

    def set_pod(self, name: str, phase: str, ready: bool = False, **status: Any) -> None:
        """Say that a pod is in this phase."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": kind, "status": str(ready), "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")
        ]
        self.patch("pods", name, {"status": {"phase": phase, "conditions": conditions, **status}}, "status")

    def run_pods(self, **labels: str) -> None:
        """Let every pod that is pending run and be ready."""
        for pod in self.all("pods", **labels):
            if pod["status"]["phase"] == "Pending" and not pod["metadata"].get("deletionTimestamp"):
                self.set_pod(pod["metadata"]["name"], "Running", ready=True)


@pytest.fixture(scope="session")
def apiserver(given_cluster: Any, request: pytest.FixtureRequest) -> Any:
    """The cluster that KUBECONFIG names, or an API server of the sandbox without controllers and node."""
    return given_cluster or request.getfixturevalue("start_apiserver")()


@pytest.fixture
def namespace(namespace: str, apiserver: Any, given_cluster: Any) -> str:
    """A new namespace, deleted afterwards. With controllers no pod is admitted before its account is there."""
    if given_cluster:
        _until_pods_are_admitted(Cluster(apiserver, namespace))
    return namespace


def _until_pods_are_admitted(made: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial"}, "spec": made.template()["spec"]}
    made.until(lambda: made.api.request("POST", f"{made.path('pods')}?dryRun=All", pod).code == 201)


@pytest.fixture(scope="session")
def join(
    given_cluster: Any,
    request: pytest.FixtureRequest,
    loopback_range: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Any], JSON]]:
    """Gives a cluster a node: where none is ready, one of the sandbox, which binds pods unless a scheduler does.

    Returns what a pod's spec says to be there.
    """
    if not given_cluster:
        request.getfixturevalue("start_apiserver")  # whose servers outlive the nodes
    placements: dict[Path, JSON] = {}
    with ExitStack() as stack:

        def join(server: Any) -> JSON:
            kubectl = Kubectl(server.kubeconfig)
            if server.kubeconfig not in placements and given_cluster:
                clear_away(kubectl)
                if lasting_nodes(kubectl):
                    placements[server.kubeconfig] = {}
            if server.kubeconfig not in placements:
                ranges = [] if given_cluster else ["--pod-cidr", loopback_range()]
                name = stack.enter_context(joined(kubectl, tmp_path_factory.mktemp("conformance-node"), *ranges))
                placements[server.kubeconfig] = {"nodeSelector": {HOST: name}}
            return placements[server.kubeconfig]

        yield join


@pytest.fixture(scope="session")
def running_cluster(
    given_cluster: Any, request: pytest.FixtureRequest, join: Callable[[Any], JSON]
) -> tuple[Any, JSON]:
    """A cluster that runs pods, the sandbox's one without controllers; and what a pod's spec says to run there."""
    server = given_cluster or request.getfixturevalue("start_apiserver")()
    return server, join(server)


@pytest.fixture(scope="session")
def cluster_api(
    given_cluster: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The cluster that KUBECONFIG names, or an API server and the controllers of the sandbox."""
    if given_cluster:
        yield given_cluster
        return
    api = request.getfixturevalue("start_apiserver")()
    log = tmp_path_factory.mktemp("controllers") / "log"
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "controllers", "--kubeconfig", str(api.kubeconfig)]
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as process:
        yield api
        process.terminate()
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def cluster(cluster_api: Any) -> Iterator[Cluster]:
    """A new namespace, deleted afterwards."""
    with _made(cluster_api) as made:
        yield made


@pytest.fixture(scope="module")
def lasting_cluster(cluster_api: Any) -> Iterator[Cluster]:
    """A namespace of the module's, for what takes its time while other tests run."""
    with _made(cluster_api) as made:
        yield made


@contextmanager
def _made(api: Any) -> Iterator[Cluster]:
    name = f"test-{time.time_ns():x}"
    api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made = Cluster(api, name)
    _until_pods_are_admitted(made)
    yield made
    api.request("DELETE", f"/api/v1/namespaces/{name}")
