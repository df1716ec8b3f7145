"""The Deployment of one revision.

`replicas` is not here: it is given with the first apply (rollout.py) and then the autoscaler's.
"""

from __future__ import annotations

from collections.abc import Mapping

from creditmodel_operator import names
from creditmodel_operator.children.common import (
    CONTAINER_SECURITY,
    TERMINATION_LOG,
    Manifest,
    credentials,
    field_env,
    manifest,
    pod_security,
    revision_labels,
    scratch,
)
from creditmodel_operator.revision import Revision

__all__ = ["PORT", "deployment"]

PORT = 8080
DRAIN_SECONDS = 5
"""How long a pod goes on taking requests after it is told to stop: endpoints are updated meanwhile.

It is the server's own drain and no preStop hook: a hook holds the signal back, and only a server that knows that it
stops can tell kept-alive clients to connect elsewhere."""
FINISH_SECONDS = 40
"""How long what is under way may take after that: 11 s for requests, the rest for the scoring log's last parts."""

HUNG_SECONDS = DRAIN_SECONDS + 10
"""How long a server that no longer answers may take to end: it hangs, and rarely hears that it should."""

RESOURCES: Manifest = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def deployment(revision: Revision, marks: Mapping[str, str]) -> Manifest:
    """The Deployment; `marks` are annotations that say where in its life the revision is."""
    labels = revision_labels(revision.owner, revision.name)
    annotations = {names.DIGEST: revision.digest, names.URI: revision.uri, names.RECIPE: revision.recipe(), **marks}
    selector = {names.INSTANCE: revision.owner.name, names.REVISION: revision.name}
    spec: Manifest = {
        "progressDeadlineSeconds": revision.deadline_seconds,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {
            "metadata": {"labels": labels, "annotations": {names.DIGEST: revision.digest}},
            "spec": _pod(revision, selector),
        },
    }
    return manifest(
        "apps/v1", "Deployment", revision.name, revision.owner, labels=labels, annotations=annotations, spec=spec
    )


def _pod(revision: Revision, selector: Manifest) -> Manifest:
    volume, _, _ = scratch("2Gi")
    return pod_security(revision.serving.service_account_name) | {
        "terminationGracePeriodSeconds": DRAIN_SECONDS + FINISH_SECONDS,
        **revision.serving.pod(),
        "containers": [_container(revision)],
        "volumes": [volume],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
    }


def _container(revision: Revision) -> Manifest:
    _, mount, environment = scratch("2Gi")
    resources = revision.serving.resources
    return {
        "name": names.SERVING_CONTAINER,
        "image": revision.image,
        "command": ["creditmodel-serve"],
        "args": _arguments(revision),
        "env": [
            *environment,
            field_env("POD_IP", "status.podIP"),
            field_env("POD_NAME", "metadata.name"),
            {"name": "OMP_NUM_THREADS", "value": "1"},
        ],
        **credentials(revision.credentials),
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe("/healthz/live", period=1, failures=300),
        "readinessProbe": _probe("/healthz/ready", period=2, failures=2),
        "livenessProbe": _probe("/healthz/live", period=10, failures=3)
        | {"terminationGracePeriodSeconds": HUNG_SECONDS},
        "resources": resources.wire() if resources else RESOURCES,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount],
    }


def _arguments(revision: Revision) -> list[str]:
    log = revision.serving.scoring_log
    return [
        *("--bundle", revision.uri),
        *("--digest", revision.digest),
        *("--revision", revision.name),
        *("--host", "$(POD_IP)"),
        *("--port", str(PORT)),
        *("--drain-seconds", str(DRAIN_SECONDS)),
        *("--termination-log", TERMINATION_LOG),
        *(("--scoring-log", log.uri, "--scoring-log-sample-rate", f"{log.sample_rate:g}") if log else ()),
    ]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
