"""The CronJob that checks the champion for drift, with or without the operator."""

from __future__ import annotations

from creditmodel_operator import names
from creditmodel_operator.api.spec import Drift, Jobs
from creditmodel_operator.children.common import Manifest, manifest
from creditmodel_operator.children.job import FINAL, Work, job_spec
from creditmodel_operator.revision import Revision

__all__ = ["drift_cronjob"]


def drift_cronjob(revision: Revision, drift: Drift, image: str, jobs: Jobs) -> Manifest:
    """Checks `revision` on schedule. A Job made from it by hand carries the same labels, and counts like any other."""
    owner = revision.owner
    labels = names.child_labels(owner.name, "drift", revision=revision.name)
    annotations = {names.DIGEST: revision.digest}
    work = Work(
        image=image,
        command=_command(revision, drift),
        secret=revision.credentials,
        jobs=jobs,
        resources={"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        # A check whose pod was lost is made again by the Job itself; one that could not measure waits for the next.
        backoff_limit=1,
        final_codes=(FINAL,),
    )
    kept = 2 * drift.consecutive_breaches + 1
    spec: Manifest = {
        "schedule": drift.schedule,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": kept,
        "failedJobsHistoryLimit": kept,
        "jobTemplate": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": job_spec(work, labels),
        },
    }
    name = names.drift_cronjob(owner.name)
    return manifest("batch/v1", "CronJob", name, owner, labels=labels, annotations=annotations, spec=spec)


def _command(revision: Revision, drift: Drift) -> list[str]:
    return [
        "creditmodel-drift",
        *("--bundle", revision.uri),
        *("--digest", revision.digest),
        *("--current", drift.current.uri),
        *("--window", drift.current.window),
        *("--revision", revision.name),
        *("--alarm-psi", repr(drift.psi)),
        *("--max-drifted-share", repr(drift.max_drifted_share)),
        *_labels(drift),
        *_reports(revision.owner.name, drift),
    ]


def _labels(drift: Drift) -> list[str]:
    if drift.labels is None:
        return []
    window = [] if drift.labels.window is None else ["--labels-window", drift.labels.window]
    return ["--labels", drift.labels.uri, "--maturity-days", str(drift.labels.maturity_days), *window]


def _reports(crm: str, drift: Drift) -> list[str]:
    """The pod's name makes every run's reports its own."""
    if drift.report is None or drift.report.uri is None:
        return []
    base = f"{drift.report.uri.rstrip('/')}/{crm}/$(POD_NAME)"
    kept = [] if drift.report.keep is None else ["--keep-reports", str(drift.report.keep)]
    return ["--html", f"{base}.html", "--json", f"{base}.json", *kept]
