"""The one Job that an episode starts: training a challenger, or telling somebody who does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from creditmodel_operator import names
from creditmodel_operator.api.spec import CreditModelSpec, EnvVar, TrainingJob, Webhook
from creditmodel_operator.children.common import Manifest, manifest
from creditmodel_operator.children.job import FINAL, Work, job_spec
from creditmodel_operator.narrow import present
from creditmodel_operator.revision import Revision

__all__ = ["SIGNAL", "TRAINING", "signal_job", "training_job"]

TRAINING, SIGNAL = "training", "signal"
SLACK_SECONDS = 120
"""How much longer than delivery the signal Job may live: for its pod to start, and to say that it gave up."""


def training_job(spec: CreditModelSpec, champion: Revision, episode: str, image: str) -> Manifest:
    """Retrains `champion` on its reference and what has matured, into a directory of the episode's own."""
    job = present(spec.retraining.job)
    resources = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "8Gi"}}
    work = Work(
        image=job.image or image,
        command=_training_command(spec, job, champion, episode),
        secret=champion.credentials,
        jobs=spec.jobs,
        service_account=job.service_account_name,
        resources=job.resources.wire() if job.resources else resources,
        env=tuple(_variable(variable) for variable in job.env),
        env_from=tuple(secret.name for secret in job.env_from),
        deadline_seconds=job.active_deadline_seconds,
        backoff_limit=job.backoff_limit,
        final_codes=(FINAL,),
    )
    return _job(TRAINING, champion, episode, work)


def _training_command(spec: CreditModelSpec, job: TrainingJob, champion: Revision, episode: str) -> list[str]:
    drift = present(spec.drift)
    labels = present(drift.labels)
    return [
        *job.command,
        *("--bundle", champion.uri),
        *("--digest", champion.digest),
        *("--current", drift.current.uri),
        *("--labels", labels.uri),
        *("--maturity-days", str(labels.maturity_days)),
        *(("--window", job.window) if job.window else ()),
        *("--max-rows", str(job.max_rows)),
        *("--episode", episode),
        *("--out", f"{job.output.uri.rstrip('/')}/{champion.owner.name}-{episode}"),
        *job.args,
    ]


def signal_job(
    spec: CreditModelSpec, champion: Revision, episode: str, event: Mapping[str, Any], image: str
) -> Manifest:
    """Posts `event`. Its keys are the receiver's: they reach this pod and no other, and never the operator."""
    webhook = present(spec.retraining.webhook)
    work = Work(
        image=image,
        command=_signal_command(webhook),
        secret=None,
        jobs=spec.jobs,
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        env=(_event(event), *_keys(webhook)),
        deadline_seconds=webhook.deadline_seconds + SLACK_SECONDS,
        backoff_limit=2,
        final_codes=(FINAL,),
    )
    return _job(SIGNAL, champion, episode, work)


def _signal_command(webhook: Webhook) -> list[str]:
    return [
        *("creditmodel-train", "signal"),
        *("--url", webhook.url),
        *("--format", webhook.format),
        *(("--dag-id", webhook.dag_id) if webhook.dag_id else ()),
        *("--timeout", str(webhook.timeout_seconds)),
        *("--deadline", str(webhook.deadline_seconds)),
    ]


def _event(event: Mapping[str, Any]) -> Manifest:
    """The event as a variable. A dollar sign is written as JSON's escape, or Kubernetes would expand it."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True).replace("$", "\\u0024")
    return {"name": "CREDITMODEL_EVENT", "value": text}


def _keys(webhook: Webhook) -> list[Manifest]:
    found = []
    if webhook.secret_ref is not None:
        found.append(_from_secret("CREDITMODEL_SIGNAL_KEY", webhook.secret_ref.name, "key"))
    if webhook.auth_secret_ref is not None:
        for key in ("token", "username", "password"):
            reference = _from_secret(f"CREDITMODEL_SIGNAL_{key.upper()}", webhook.auth_secret_ref.name, key)
            reference["valueFrom"]["secretKeyRef"]["optional"] = True
            found.append(reference)
    return found


def _variable(variable: EnvVar) -> Manifest:
    if variable.secret_key_ref is not None:
        return _from_secret(variable.name, variable.secret_key_ref.name, variable.secret_key_ref.key)
    return {"name": variable.name, "value": variable.value or ""}


def _from_secret(variable: str, secret: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _job(component: str, champion: Revision, episode: str, work: Work) -> Manifest:
    owner = champion.owner
    labels = names.child_labels(owner.name, component, revision=champion.name)
    annotations = {names.DIGEST: champion.digest, names.EPISODE: episode}
    name = names.trigger_job(owner.name, component, episode)
    return manifest("batch/v1", "Job", name, owner, labels=labels, annotations=annotations, spec=job_spec(work, labels))
