"""Every name, label and annotation that the operator writes. Nothing else formats one.

The longest name of a CreditModel is what leaves room for its children: a CronJob's name may have 52 characters
(Kubernetes appends 11 for the Jobs), a Deployment's, Service's and Job's 63, a label's value 63.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = [
    "ACTIVE_SINCE",
    "APPROVAL",
    "CANDIDATE_SINCE",
    "COMPONENT",
    "CONTAINERS",
    "DIGEST",
    "EPISODE",
    "EVALUATION",
    "FIELD_MANAGER",
    "GATE",
    "GATED",
    "INSTANCE",
    "JOB_NAME",
    "LAST_EPISODE",
    "LEASE",
    "MANAGED_BY",
    "MAX_NAME",
    "MEASUREMENT",
    "MEASURES",
    "MEASURING_CONTAINER",
    "RECIPE",
    "RECORD_MANAGER",
    "REVISION",
    "ROLLOUT_FAILURE",
    "ROLLOUT_MANAGER",
    "SCALE_MANAGER",
    "SERVING_CONTAINER",
    "STREAK",
    "URI",
    "child_labels",
    "drift_cronjob",
    "episode",
    "event",
    "fingerprint",
    "gate_job",
    "instance_labels",
    "revision",
    "service",
    "trigger_job",
]

MAX_NAME = 46

FIELD_MANAGER = "creditmodel-operator"
LEASE = "creditmodel-operator"
SCALE_MANAGER = "creditmodel-operator-scale"
RECORD_MANAGER = "creditmodel-operator-record"
ROLLOUT_MANAGER = "creditmodel-operator-rollout"

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
JOB_NAME = "batch.kubernetes.io/job-name"
"""Kubernetes' own label on a Job's pods."""
SERVING_CONTAINER = "serve"
MEASURING_CONTAINER = "measure"
CONTAINERS = frozenset({SERVING_CONTAINER, MEASURING_CONTAINER})
"""The operator's own containers: the ones whose state and last words count."""

REVISION = "creditmodel.dev/revision"
GATE = "creditmodel.dev/gate"

DIGEST = "creditmodel.dev/digest"
"""Annotation: the model that a child is about."""
URI = "creditmodel.dev/uri"
"""Annotation: where its bundle lies."""
RECIPE = "creditmodel.dev/recipe"
"""Annotation of a Deployment: everything that it was made from, so that it can be made again once spec has moved on."""
ACTIVE_SINCE = "creditmodel.dev/active-since"
"""Annotation of a Deployment: when it last became the champion. Only a gated revision ever gets it."""
CANDIDATE_SINCE = "creditmodel.dev/candidate-since"
"""Annotation of a Deployment: when it was started to become the champion; the deadline counts from here."""
GATED = "creditmodel.dev/gated"
"""Annotation of a Deployment: the retryToken under which its gates were last accepted."""
"""Annotation of a drift Job: the limit that it ran with. A feature's threshold above it is what sampling explains."""
EVALUATION = "creditmodel.dev/evaluation"
"""Annotation of a Deployment: the model's hold-out figures, which the next challenger is compared with."""
APPROVAL = "creditmodel.dev/approval"
"""Annotation of a Deployment: the decision with which it took over, which counts even when its object is gone."""
MEASURES = "creditmodel.dev/measures"
"""Annotation of a gate Job: fingerprint of what it measures, whatever image measures it and however often."""
MEASUREMENT = "creditmodel.dev/measurement"
"""Annotation of a Job: its measurement, kept when its pod is gone."""
EPISODE = "creditmodel.dev/episode"
"""Annotation of a training or signal Job: the episode that it is for."""
LAST_EPISODE = "creditmodel.dev/last-episode"
"""Annotation of the drift CronJob: the newest episode and when it began: the cooldown outlives Jobs and champions."""
STREAK = "creditmodel.dev/streak"
"""Annotation of a drift Job: the count of breaches before it, kept when the Jobs before it are gone."""
ROLLOUT_FAILURE = "creditmodel.dev/rollout-failure"
"""Annotation of an artifact Job: the rollout of this model that ran out of time, so that it is not started again."""


def fingerprint(value: Any, length: int = 10) -> str:
    """The first hex digits of the SHA-256 of a JSON value: the same value gives the same name everywhere."""
    document = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(document.encode()).hexdigest()[:length]


def service(crm: str) -> str:
    """The Service carries the CreditModel's own name."""
    return crm


def revision(crm: str, digest: str) -> str:
    """A revision, and its Deployment, HorizontalPodAutoscaler and PodDisruptionBudget."""
    return f"{crm}-{digest.removeprefix('sha256:')[:10]}"


def gate_job(crm: str, gate: str, measured: Any, attempt: int) -> str:
    """The Job that measures one thing for the n-th time. At most 63 characters: a long CreditModel name is cut."""
    tail = f"-{gate}-{fingerprint([crm, gate, measured])}-{attempt}"
    return crm[: 63 - len(tail)].rstrip("-") + tail


def drift_cronjob(crm: str) -> str:
    """The CronJob that checks for drift."""
    return f"{crm}-drift"


def episode(uid: str, digest: str, first_breach: str) -> str:
    """An episode of drift or decay: the same one gets the same id after every restart."""
    return fingerprint([uid, digest, first_breach], 16)


def trigger_job(crm: str, component: str, episode: str) -> str:
    """The one Job that an episode starts: training, or signal."""
    tail = f"-{component}-{episode}"
    return crm[: 63 - len(tail)].rstrip("-") + tail


def event(crm: str, subject: Any) -> str:
    """An Event; the same subject gives the same name, so that it is posted once."""
    return f"{crm}.{fingerprint(subject, 16)}"


def instance_labels(crm: str) -> dict[str, str]:
    """What every child of one CreditModel is found by."""
    return {NAME: "creditmodel", INSTANCE: crm, MANAGED_BY: FIELD_MANAGER}


def child_labels(crm: str, component: str, **more: str) -> dict[str, str]:
    """Labels of a child: `more` are revision and gate."""
    return instance_labels(crm) | {COMPONENT: component} | {f"creditmodel.dev/{key}": more[key] for key in sorted(more)}
