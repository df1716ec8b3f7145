"""The controllers as a process beside a real API server: crashes, restarts, idleness, exit codes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.instance import free_port

JSON = dict[str, Any]
WEB: JSON = {"matchLabels": {"app": "web"}}


class Controllers:
    """The controllers of one API server, which may be killed and started again."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        command = [sys.executable, "-m", "creditmodel_sandbox.cli", "controllers", "--kubeconfig", str(kubeconfig)]
        self._command, self._log = [*command, *options], log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stderr=log)

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(60)

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def start_controllers(tmp_path: Path) -> Iterator[Callable[..., Controllers]]:
    """Starts the controllers of an API server."""
    running: list[Controllers] = []

    def start(api: Any, *options: str) -> Controllers:
        running.append(Controllers(api.kubeconfig, tmp_path / f"log-{len(running)}", *options))
        return running[-1]

    yield start
    for controllers in running:
        if controllers.process.poll() is None:
            controllers.end(signal.SIGKILL)
        assert "Traceback" not in controllers.log(), controllers.log()


@pytest.fixture
def api(start_apiserver: Callable[..., Any]) -> Any:
    """An API server of its own, so that no other test's controllers meddle."""
    return start_apiserver()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)
    return found


def objects(api: Any, plural: str, group: str = "api/v1") -> list[JSON]:
    found: list[JSON] = api.get(f"/{group}/namespaces/default/{plural}")["items"]
    return found


def create(api: Any, plural: str, group: str, body: JSON) -> JSON:
    made: JSON = api.post(f"/{group}/namespaces/default/{plural}", {"apiVersion": group.partition("/")[2], **body})
    return made


def template(restart: str = "Always", **requests: str) -> JSON:
    container = {"name": "main", "image": "v1", "resources": {"requests": requests}}
    spec = {"restartPolicy": restart, "schedulerName": "none", "containers": [container]}
    return {"metadata": {"labels": {"app": "web"}}, "spec": spec}


def deploy(api: Any, name: str = "web", replicas: int = 1, **pod: Any) -> None:
    labels = {"app": name}
    shape = template()
    shape = {"metadata": {"labels": labels}, "spec": {**shape["spec"], **pod}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": shape}
    create(api, "deployments", "apis/apps/v1", {"kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def set_phase(api: Any, pod: JSON, phase: str) -> None:
    condition = {"type": "Ready", "status": str(phase == "Running"), "lastTransitionTime": "2026-01-01T00:00:00Z"}
    path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/status"
    api.patch(path, {"status": {"phase": phase, "conditions": [condition]}})


def test_controllers_killed_again_and_again_make_nothing_twice(api: Any, start_controllers: Any) -> None:
    deploy(api, replicas=4)
    job = {"parallelism": 2, "completions": 6, "template": template("Never")}
    create(api, "jobs", "apis/batch/v1", {"kind": "Job", "metadata": {"name": "job"}, "spec": job})
    service = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    create(api, "services", "api/v1", {"kind": "Service", "metadata": {"name": "web"}, "spec": service})
    controllers = start_controllers(api)
    chance = random.Random(7)  # noqa: S311 - moments to strike, the same in every run
    names: set[str] = set()

    def play_kubelet() -> bool:
        for pod in objects(api, "pods"):
            of_job = pod["metadata"]["ownerReferences"][0]["kind"] == "Job"
            names.update({pod["metadata"]["name"]} if of_job else ())
            if pod["status"]["phase"] == "Pending":
                set_phase(api, pod, "Succeeded" if of_job else "Running")
        (job,) = objects(api, "jobs", "apis/batch/v1")
        return "completionTime" in job.get("status", {})

    for _ in range(5):
        pause = time.monotonic() + chance.uniform(0.3, 0.9)
        while time.monotonic() < pause:
            play_kubelet()
        controllers.end(signal.SIGKILL)
        controllers.start()
    until(play_kubelet)
    status = objects(api, "jobs", "apis/batch/v1")[0]["status"]
    assert (status["succeeded"], status.get("failed", 0), len(names)) == (6, 0, 6)
    until(lambda: objects(api, "deployments", "apis/apps/v1")[0].get("status", {}).get("availableReplicas") == 4)
    assert len(objects(api, "replicasets", "apis/apps/v1")) == 1
    assert len([pod for pod in objects(api, "pods") if pod["metadata"]["name"].startswith("web-")]) == 4
    slices = objects(api, "endpointslices", "apis/discovery.k8s.io/v1")
    assert [s["metadata"]["labels"].get("kubernetes.io/service-name") for s in slices].count("web") == 1


def test_controllers_outlive_the_api_server(
    start_apiserver: Callable[..., Any], start_controllers: Any, tmp_path: Path
) -> None:
    port = str(free_port())
    state = tmp_path / "state"
    state.mkdir()
    api = start_apiserver("--port", port, state=state)
    controllers = start_controllers(api)
    deploy(api)
    until(lambda: objects(api, "pods"))
    api.process.kill()
    api.process.wait(60)
    until(lambda: "Cannot connect" in controllers.log())
    again = start_apiserver("--port", port, state=state)
    deploy(again, "second")
    until(lambda: len(objects(again, "pods")) == 2)
    assert controllers.process.poll() is None


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_at_rest_nothing_is_written_and_hardly_any_time_is_spent(api: Any, start_controllers: Any) -> None:
    controllers = start_controllers(api)
    for number in range(10):
        deploy(api, f"web-{number}", 2)
    until(lambda: len(objects(api, "pods")) == 20)
    for pod in objects(api, "pods"):
        set_phase(api, pod, "Running")
    until(
        lambda: all(
            d.get("status", {}).get("availableReplicas") == 2 for d in objects(api, "deployments", "apis/apps/v1")
        )
    )

    def version() -> str:
        return str(api.get("/api/v1/namespaces/default/pods")["metadata"]["resourceVersion"])

    def rests() -> bool:
        before, spent = version(), cpu_seconds(controllers.process)
        time.sleep(2)
        return version() == before and cpu_seconds(controllers.process) - spent < 0.1

    until(rests)


def test_a_resource_defined_later_is_collected_too(api: Any, start_controllers: Any) -> None:
    start_controllers(api)
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "test.dev", "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"kind": "CustomResourceDefinition", "metadata": {"name": "widgets.test.dev"}, "spec": spec}
    group = "apiextensions.k8s.io/v1"
    api.post(f"/apis/{group}/customresourcedefinitions", {"apiVersion": group, **body})
    path = "/apis/test.dev/v1/namespaces/default/widgets"
    until(lambda: api.request("GET", path).code == 200)
    owner = api.post(path, {"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "owner"}})
    reference = {"apiVersion": "test.dev/v1", "kind": "Widget", "name": "owner", "uid": owner["metadata"]["uid"]}
    meta = {"name": "child", "ownerReferences": [reference]}
    create(api, "configmaps", "api/v1", {"kind": "ConfigMap", "metadata": meta})
    api.delete(f"{path}/owner")
    until(lambda: "child" not in [found["metadata"]["name"] for found in objects(api, "configmaps")])


def test_sigterm_ends_the_controllers_with_0(api: Any, start_controllers: Any) -> None:
    controllers = start_controllers(api)
    deploy(api)
    until(lambda: objects(api, "pods"))
    assert controllers.end() == 0


def test_a_kubeconfig_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "controllers", "--kubeconfig", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(f"cannot read the kubeconfig {tmp_path}/none: No such file or directory")
