"""The Job of a gate. A Job is created once and never changed: another measurement is another Job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from creditmodel_operator import names
from creditmodel_operator.api.spec import Jobs
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

__all__ = ["DEADLINE_SECONDS", "FINAL", "SECRETS", "Work", "gate_job", "job_spec"]

DEADLINE_SECONDS = 900
FINAL = 2
"""The exit code after which another try cannot mend anything."""
GRACE_SECONDS = 2
"""SIGTERM does not end the first process of a container that has no handler for it, and work that nobody waits for any
more would take the processor from the next measurement until SIGKILL. There is nothing to save: what is written appears
whole or not at all."""
SECRETS = "/secrets"
"""Where a Job finds a mounted Secret, in a directory of the Secret's name: a message with the path names it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a measuring container runs."""

    image: str
    command: Sequence[str]
    secret: str | None
    jobs: Jobs
    """Whose pods they are, and where they run."""
    resources: Manifest
    env: tuple[Manifest, ...] = ()
    env_from: tuple[str, ...] = ()
    """Secrets whose keys all become variables, besides `secret`."""
    deadline_seconds: int = DEADLINE_SECONDS
    backoff_limit: int = 0
    final_codes: tuple[int, ...] = field(default=())
    """Exit codes that end the Job, where others are tried again and a pod that was moved on counts as no attempt."""
    files: str | None = None
    """A Secret that is mounted."""
    service_account: str | None = None
    """None: as `jobs` says."""


def gate_job(
    owner: Owner, gate: str, name: str, work: Work, *, revision: str | None, annotations: Mapping[str, str]
) -> Manifest:
    """The Job that measures one gate once."""
    more = {"gate": gate} | ({"revision": revision} if revision else {})
    labels = names.child_labels(owner.name, "gate", **more)
    return manifest("batch/v1", "Job", name, owner, labels=labels, annotations=annotations, spec=job_spec(work, labels))


def job_spec(work: Work, labels: Mapping[str, str]) -> Manifest:
    """One pod, and for a gate no retry of its own: the operator decides about another attempt."""
    # Without the revision: Deployment, Service and disruption budget find their pods by it. A Job's pod among them
    # would hold back the autoscaler, and forbid every eviction, for a budget cannot count what nothing scales.
    own = {name: value for name, value in labels.items() if name != names.REVISION}
    spec: Manifest = {
        "backoffLimit": work.backoff_limit,
        "activeDeadlineSeconds": work.deadline_seconds,
        "template": {"metadata": {"labels": own}, "spec": _pod(work)},
    }
    return spec | ({"podFailurePolicy": {"rules": _failure_rules(work)}} if work.final_codes else {})


def _failure_rules(work: Work) -> list[Manifest]:
    """What cannot be mended ends the Job; a pod that was moved on counts as no attempt."""
    codes = {"operator": "In", "values": list(work.final_codes)}
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    return [{"action": "FailJob", "onExitCodes": codes}, {"action": "Ignore", "onPodConditions": disrupted}]


def _pod(work: Work) -> Manifest:
    volume, mount, environment = scratch("8Gi")
    container = {
        "name": names.MEASURING_CONTAINER,
        "image": work.image,
        "command": [*work.command, "--measurement", TERMINATION_LOG],
        "env": [
            *environment,
            field_env("POD_NAME", "metadata.name"),
            {"name": "OMP_NUM_THREADS", "value": "1"},
            *work.env,
        ],
        **credentials(work.secret, *work.env_from),
        "resources": work.resources,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount],
    }
    secrets, mounts = _mounted(work.files)
    container["volumeMounts"] += mounts
    return pod_security(work.service_account or work.jobs.service_account_name) | {
        **work.jobs.pod(),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": [volume, *secrets],
    }


def _mounted(secret: str | None) -> tuple[list[Manifest], list[Manifest]]:
    """Volume and mount of a Secret. Where it is missing the directory is empty, and the Job says what it lacks."""
    if secret is None:
        return [], []
    volume = {"name": "files", "secret": {"secretName": secret, "optional": True}}
    return [volume], [{"name": "files", "mountPath": f"{SECRETS}/{secret}", "readOnly": True}]
