"""The Job of a gate. A Job is created once and never changed: another measurement is another Job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from creditmodel_operator import names
from creditmodel_operator.children.common import (
    CONTAINER_SECURITY,
    TERMINATION_LOG,
    Manifest,
    credentials,
    field_env,
    manifest,
    pod_security,
    scratch,
)
from creditmodel_operator.revision import Owner

__all__ = ["DEADLINE_SECONDS", "Work", "gate_job", "job_spec"]

DEADLINE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Work:
    """What a measuring container runs."""

    image: str
    command: Sequence[str]
    secret: str | None
    service_account: str
    cpu: str
    memory: str
    memory_limit: str


def gate_job(
    owner: Owner, gate: str, name: str, work: Work, *, revision: str | None, annotations: Mapping[str, str]
) -> Manifest:
    """The Job that measures one gate once."""
    more = {"gate": gate} | ({"revision": revision} if revision else {})
    labels = names.child_labels(owner.name, "gate", **more)
    return manifest("batch/v1", "Job", name, owner, labels=labels, annotations=annotations, spec=job_spec(work, labels))


def job_spec(work: Work, labels: Mapping[str, str]) -> Manifest:
    """One pod, no retry of its own: an attempt that failed stays to be seen, and the operator decides about another."""
    return {
        "backoffLimit": 0,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "template": {"metadata": {"labels": dict(labels)}, "spec": _pod(work)},
    }


def _pod(work: Work) -> Manifest:
    volume, mount, environment = scratch("8Gi")
    container = {
        "name": "measure",
        "image": work.image,
        "command": [*work.command, "--measurement", TERMINATION_LOG],
        "env": [
            *environment,
            field_env("POD_NAME", "metadata.name"),
            {"name": "OMP_NUM_THREADS", "value": "1"},
        ],
        **credentials(work.secret),
        "resources": {"requests": {"cpu": work.cpu, "memory": work.memory}, "limits": {"memory": work.memory_limit}},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount],
    }
    security = pod_security(work.service_account)
    return security | {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
