"""The cluster under test: that of KUBECONFIG, or a sandbox of its own, with the CRD, a node and the operator on it.

Environment (all optional):
  KUBECONFIG                  an existing cluster; what it lacks is added: the CRD to stay, a node and the operator as
                              processes of this run
  E2E_TIMEOUT                 seconds that a rollout may take (default 180)
  E2E_BUNDLES_URI             where bundles, logs and reports are put, for clusters whose pods do not see this
                              machine's files (default: a directory of this machine)
  CREDITMODEL_SERVING_IMAGE,
  CREDITMODEL_JOBS_IMAGE      images that the operator runs
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.kubectl import Kubectl, KubectlError, until
from harness.process import background, console_script

__all__ = ["ROOT", "TIMEOUT", "Cluster", "cluster", "endpoint", "operator", "run", "sandbox"]

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = float(os.environ.get("E2E_TIMEOUT", "180"))


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready for CreditModels. `work` is a directory of this run's own."""

    kubeconfig: Path
    work: Path

    def kubectl(self, namespace: str | None = None) -> Kubectl:
        """kubectl on this cluster."""
        return Kubectl(self.kubeconfig, namespace)


@contextmanager
def cluster(work: Path) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, or a sandbox, with everything that a CreditModel needs."""
    with ExitStack() as stack:
        given = os.environ.get("KUBECONFIG")
        kubeconfig = Path(given).absolute() if given else stack.enter_context(sandbox("e2e", work / "sandbox"))
        ours = Cluster(kubeconfig, work)
        kubectl = ours.kubectl()
        kubectl("apply", "-f", str(ROOT / "crds"))
        until(lambda: _established(kubectl), "the CRD to be established", 60)
        if not _ready_nodes(kubectl):
            stack.enter_context(_node(ours))
        if not _operator_deployed(kubectl):
            stack.enter_context(operator(kubeconfig, work / "operator.log"))
        yield ours


@contextmanager
def sandbox(name: str, state: Path) -> Iterator[Path]:
    """A sandbox of this run's own; yields its kubeconfig."""
    command = console_script("creditmodel-sandbox")
    identity = ["--name", f"{name}-{os.getpid()}", "--state-dir", str(state)]
    run([command, "up", *identity])
    try:
        yield state / "kubeconfig"
    finally:
        run([command, "down", *identity])


@contextmanager
def operator(kubeconfig: Path, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as a local process."""
    command = [console_script("creditmodel-operator"), "run", *arguments]
    with background(command, log, {"KUBECONFIG": str(kubeconfig)}) as process:
        yield process


def _established(kubectl: Kubectl) -> bool:
    """Not by `kubectl wait`: that fails on the null which a new CRD has for its conditions."""
    return _is_true(kubectl.get("crd", "creditmodels.creditmodel.dev"), "Established")


def _ready_nodes(kubectl: Kubectl) -> list[str]:
    return [node["metadata"]["name"] for node in kubectl.get("nodes")["items"] if _is_true(node, "Ready")]


def _is_true(found: dict[str, Any], condition: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


@contextmanager
def _node(ours: Cluster) -> Iterator[None]:
    """Join the sandbox's node to a control plane that has none."""
    name = f"e2e-{os.getpid()}"
    command = [console_script("creditmodel-sandbox"), "node", "--kubeconfig", str(ours.kubeconfig)]
    command += ["--name", name, "--state-dir", str(ours.work / "node")]
    with background(command, ours.work / "node.log"):
        until(lambda: name in _ready_nodes(ours.kubectl()), f"node {name} to be Ready", 60)
        yield
    ours.kubectl()("delete", "node", name, "--ignore-not-found")


def _operator_deployed(kubectl: Kubectl) -> bool:
    selector = "app.kubernetes.io/name=creditmodel-operator"
    found = kubectl.get("deployments", "--all-namespaces", "--selector", selector)["items"]
    return any(deployment["status"].get("availableReplicas") for deployment in found)


@contextmanager
def endpoint(kubectl: Kubectl, service: str, log: Path) -> Iterator[str]:
    """A URL at which this machine reaches a Service: its cluster address, or a port-forward where there is no route."""
    spec = kubectl.get("service", service)["spec"]
    port = spec["ports"][0]["port"]
    if spec["clusterIP"] not in ("", "None") and _connects(spec["clusterIP"], port):
        yield f"http://{spec['clusterIP']}:{port}"
        return
    free = _free_port()
    with background(kubectl.command("port-forward", f"service/{service}", f"{free}:{port}"), log):
        until(lambda: _connects("127.0.0.1", free), f"a port-forward to {service}", 30)
        yield f"http://127.0.0.1:{free}"


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run(command: list[str]) -> None:
    """Run a command to its end, quietly. Raises KubectlError with what it said when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise KubectlError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
