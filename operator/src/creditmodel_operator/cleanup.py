"""Which Jobs are not needed any more.

Kept are the Jobs that verdicts stand on, and the newest ones of every revision that still has a Deployment. Of
candidates that came to nothing the last few stay to be looked at.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from creditmodel_operator import names
from creditmodel_operator.evaluate import Evaluation
from creditmodel_operator.fleet import Fleet
from creditmodel_operator.observed import Job, Observed
from creditmodel_operator.plan import Delete

__all__ = ["obsolete_jobs"]

KEPT_PER_GATE = 3
"""Jobs of one gate that a revision keeps."""
KEPT_SUPERSEDED = 6
"""Ended Jobs of candidates that came to nothing."""


def obsolete_jobs(fleet: Fleet, evaluation: Evaluation, observed: Observed) -> Iterator[Delete]:
    """Gate Jobs to delete. A running Job that nobody waits for is stopped at once."""
    current = _current(evaluation)
    kept = {live.revision.digest for live in fleet.live.values()} | ({evaluation.digest} - {None})
    spare = [job for job in observed.jobs if job.gate and job.meta.name not in current and not job.meta.deleting]
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    superseded: list[Job] = []
    for job in sorted(spare, key=lambda job: (job.meta.created, job.meta.name), reverse=True):
        digest = _digest(job)
        if job.finished is None:
            yield _delete(job)
        elif digest in kept:
            groups[job.gate, digest].append(job)
        else:
            superseded.append(job)
    for jobs in groups.values():  # what failed since does not push out what was measured: a switch back asks for it
        yield from (_delete(job) for job in sorted(jobs, key=_came_to_nothing)[KEPT_PER_GATE:])
    yield from (_delete(job) for job in superseded[KEPT_SUPERSEDED:])


def _current(evaluation: Evaluation) -> set[str]:
    """The Jobs that the present verdicts stand on, or wait for."""
    created = {found.create["metadata"]["name"] for found in evaluation.found if found.create is not None}
    return created | set(evaluation.evidence)


def _digest(job: Job) -> str:
    """The model that the Job is about: as it was asked for, or as the artifact gate resolved it."""
    return str(job.meta.annotations.get(names.DIGEST) or _said(job).get("digest") or "")


def _came_to_nothing(job: Job) -> bool:
    said = _said(job)
    return not said or "error" in said


def _said(job: Job) -> Mapping[str, Any]:
    """What the Job is on record with: a measurement, or how it failed. Empty where neither can be read."""
    try:
        said = json.loads(job.meta.annotations.get(names.MEASUREMENT, "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _delete(job: Job) -> Delete:
    return Delete("Job", job.meta.name, job.meta.uid)
