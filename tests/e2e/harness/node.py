"""A node of the sandbox for a cluster that has none, for as long as one run of tests lasts.

Runs may share a cluster, one after another or side by side. Each has a node of its own, for the node of another run
ends with that run, and its pods with it: whoever makes pods asks for the node by its label `HOST`.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.kubectl import Kubectl, KubectlError, until
from harness.process import background, console_script

__all__ = ["HOST", "OWNER", "clear_away", "is_true", "joined", "lasting_nodes"]

HOST = "kubernetes.io/hostname"
OWNER = "creditmodel.dev/test-node"
"""The label of a run's namespaces: the name of its node."""
_PREFIX = "test-node-"


def lasting_nodes(kubectl: Kubectl) -> list[str]:
    """Names of the nodes that are ready and no test's."""
    return [name for name in _ready(kubectl.get("nodes")["items"]) if not name.startswith(_PREFIX)]


def clear_away(kubectl: Kubectl) -> None:
    """Delete what runs that were killed have left: nodes that are not ready any more, namespaces without their node."""
    nodes = kubectl.get("nodes")["items"]
    ready = _ready(nodes)
    names = (node["metadata"]["name"] for node in nodes)
    if lost := [name for name in names if name.startswith(_PREFIX) and name not in ready]:
        kubectl("delete", "node", *lost, "--ignore-not-found")
    found = kubectl.get("namespaces", "--selector", OWNER)["items"]
    left = [item["metadata"]["name"] for item in found if item["metadata"]["labels"][OWNER] not in ready]
    if left:
        kubectl("delete", "namespace", *left, "--ignore-not-found", "--wait=false")


@contextmanager
def joined(kubectl: Kubectl, work: Path, *options: str) -> Iterator[str]:
    """A node of this run's own, with its state and its log in `work`; yields its name when it is ready."""
    name = f"{_PREFIX}{uuid.uuid4().hex[:8]}"
    command = [console_script("creditmodel-sandbox"), "node", "--kubeconfig", str(kubectl.kubeconfig)]
    command += ["--name", name, "--state-dir", str(work / "node"), *options]
    try:
        with background(command, work / "node.log") as process:
            until(lambda: _has_begun(kubectl, name, process), f"node {name} to be ready", 60)
            yield name
    finally:
        kubectl("delete", "node", name, "--ignore-not-found")


def _has_begun(kubectl: Kubectl, name: str, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise KubectlError(f"node {name} ended with code {process.returncode}")
    return name in _ready(kubectl.get("nodes")["items"])


def _ready(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["metadata"]["name"] for node in nodes if is_true(node, "Ready")]


def is_true(found: dict[str, Any], condition: str) -> bool:
    """Whether a condition of an object is True."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)
