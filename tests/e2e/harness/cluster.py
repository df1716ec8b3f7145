"""The cluster under test: a given one, or a sandbox of its own, with the CRD, a node and the operator on it.

What a given one lacks is added: the CRD to stay, a node and the operator as processes of this run.

Environment (all optional):
  KUBECONFIG                  the cluster of the end-to-end suite (default: a sandbox)
  E2E_TIMEOUT                 seconds that a rollout may take (default 180)
  E2E_BUNDLES_URI             where bundles, logs and reports are put, for clusters whose pods do not see this
                              machine's files (default: a directory of this machine)
  CREDITMODEL_SERVING_IMAGE,
  CREDITMODEL_JOBS_IMAGE      images that the operator runs
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from creditmodel_sandbox.instance import free_port
from creditmodel_sandbox.node.proxy import places
from harness.kubectl import Kubectl, KubectlError, until
from harness.node import HOST, OWNER, clear_away, is_true, joined, lasting_nodes
from harness.process import background, console_script

__all__ = ["ROOT", "TIMEOUT", "Cluster", "cluster", "endpoint", "operator", "run", "sandbox"]

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = float(os.environ.get("E2E_TIMEOUT", "180"))


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready for CreditModels. `work` is a directory of this run's own, `node` the node that it joined
    to a cluster without one, "" elsewhere.
    """

    kubeconfig: Path
    work: Path
    node: str = ""

    def kubectl(self, namespace: str | None = None) -> Kubectl:
        """kubectl on this cluster."""
        return Kubectl(self.kubeconfig, namespace)

    @property
    def placement(self) -> dict[str, Any]:
        """What a pod's spec says so that the pod runs on this run's own node, if it has one."""
        return {"nodeSelector": {HOST: self.node}} if self.node else {}

    def namespace(self, name: str) -> dict[str, Any]:
        """A namespace for pods of this run."""
        labels = {OWNER: self.node} if self.node else {}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@contextmanager
def cluster(work: Path, given: str | None = None) -> Iterator[Cluster]:
    """The cluster of a kubeconfig, or a sandbox, with everything that a CreditModel needs."""
    with ExitStack() as stack:
        kubeconfig = Path(given).absolute() if given else stack.enter_context(sandbox("e2e", work / "sandbox"))
        kubectl = Kubectl(kubeconfig)
        # By the server, which lets another run do the same at once.
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        until(lambda: _established(kubectl), "the CRD to be established", 60)
        clear_away(kubectl)
        node = "" if lasting_nodes(kubectl) else stack.enter_context(joined(kubectl, work))
        if not _operator_deployed(kubectl):
            stack.enter_context(operator(kubeconfig, work / "operator.log"))
        yield Cluster(kubeconfig, work, node)


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
    return is_true(kubectl.get("crd", "creditmodels.creditmodel.dev"), "Established")


def _operator_deployed(kubectl: Kubectl) -> bool:
    selector = "app.kubernetes.io/name=creditmodel-operator"
    found = kubectl.get("deployments", "--all-namespaces", "--selector", selector)["items"]
    return any(deployment["status"].get("availableReplicas") for deployment in found)


@contextmanager
def endpoint(kubectl: Kubectl, service: str, log: Path) -> Iterator[str]:
    """A URL at which this machine reaches a CreditModel's Service: its cluster address, or where a node of the sandbox
    has that without root, or a port-forward where there is no route.
    """
    spec = kubectl.get("service", service)["spec"]
    address, port = spec["clusterIP"], spec["ports"][0]["port"]
    urls = [f"http://{host}:{number}" for host, number in places((address, port))]
    if (found := next(filter(_serves, urls), None)) is not None:
        yield found
        return
    free = free_port()
    with background(kubectl.command("port-forward", f"service/{service}", f"{free}:{port}"), log):
        until(lambda: _connects("127.0.0.1", free), f"a port-forward to {service}", 30)
        yield f"http://127.0.0.1:{free}"


def _serves(url: str) -> bool:
    """Whether a scoring server is there, and not a neighbour with the same address."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def run(command: list[str]) -> None:
    """Run a command to its end, quietly. Raises KubectlError with what it said when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise KubectlError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
