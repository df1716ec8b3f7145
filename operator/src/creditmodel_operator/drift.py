"""Drift and retraining: what the checks of the champion say, and whether an episode is open.

The CronJob runs without the operator, and the Jobs it leaves are the whole memory: results are read in the order of
their Jobs, judged by today's limits, and counted. Each ended Job has the count before it written on it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from creditmodel_bundle.measurement import Drift as Measurement
from creditmodel_operator import names
from creditmodel_operator.api.spec import Drift as Limits
from creditmodel_operator.narrow import expect
from creditmodel_operator.observed import Job, Observed
from creditmodel_operator.outcome import Errored, Measured, Running, outcome, record

__all__ = ["Check", "Finding", "Report", "Streak", "watch"]


class Finding(StrEnum):
    """What one check says, at the limits that spec has now."""

    DRIFT = "Drift"
    NO_DRIFT = "NoDrift"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Check:
    """One ended check."""

    job: Job
    finding: Finding
    message: str
    at: datetime
    reason: str = ""
    measurement: Measurement | None = None
    decayed: str | None = None
    """Why the realised quality is below its limit; None where it is not, or is not known."""

    @property
    def breach(self) -> bool | None:
        """Whether this counts towards retraining (True), away from it (False), or not at all (None)."""
        if self.decayed is not None or self.finding is Finding.DRIFT:
            return True
        return False if self.finding is Finding.NO_DRIFT else None


@dataclass(frozen=True, slots=True)
class Streak:
    """How many checks in a row said the same, and the episode that is open."""

    breaches: int = 0
    clean: int = 0
    first: str | None = None
    """uid of the Job with which the present row of breaches began."""
    episode: str | None = None
    """uid of the Job with which the open episode began."""
    first_name: str | None = None
    episode_name: str | None = None

    def after(self, check: Check, needed: int) -> Streak:
        """The count after one more check; an episode opens and closes after `needed` in a row."""
        if check.breach is None:
            return self
        if not check.breach:
            calm = replace(self, breaches=0, clean=self.clean + 1, first=None, first_name=None)
            return replace(calm, episode=None, episode_name=None) if calm.clean >= needed else calm
        first, name = (self.first, self.first_name) if self.breaches else (check.job.meta.uid, check.job.meta.name)
        row = replace(self, breaches=self.breaches + 1, clean=0, first=first, first_name=name)
        if row.episode is None and row.breaches >= needed:
            return replace(row, episode=first, episode_name=name)
        return row


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the checks of the champion say."""

    newest: Check | None = None
    """The newest ended check, whatever it says."""
    streak: Streak = Streak()
    records: tuple[tuple[Job, dict[str, str]], ...] = ()
    """Jobs on which something has to be written: annotations."""
    look_again: datetime | None = None


def watch(limits: Limits, digest: str, observed: Observed, now: datetime) -> Report:
    """What the checks of the model `digest` say. Checks of any other model are ignored."""
    jobs = sorted((job for job in observed.jobs if _of(job, digest)), key=lambda job: (job.meta.created, job.meta.name))
    streak = _written(jobs[0]) if jobs else Streak()
    newest: Check | None = None
    records: list[tuple[Job, dict[str, str]]] = []
    look_again: datetime | None = None
    for job in jobs:
        pods = observed.pods_of(job.meta.name)
        ended = outcome(job, pods, "drift", digest, now)
        if isinstance(ended, Running):
            look_again = min((at for at in (look_again, ended.look_again) if at), default=None)
            continue
        text = record(job, ended, pods, "drift")
        if text is not None:
            records.append((job, {names.MEASUREMENT: text, names.STREAK: _dump(streak)}))
        newest = _check(job, ended, limits)
        streak = streak.after(newest, limits.consecutive_breaches)
    return Report(newest, streak, tuple(records), look_again)


def _of(job: Job, digest: str) -> bool:
    labels, notes = job.meta.labels, job.meta.annotations
    return labels.get(names.COMPONENT) == "drift" and notes.get(names.DIGEST) == digest and not job.meta.deleting


def _check(job: Job, ended: Measured | Errored, limits: Limits) -> Check:
    if isinstance(ended, Errored):
        message = f"Job {job.meta.name} could not measure: {ended.message}"
        return Check(job, Finding.ERROR, message, ended.at, reason=ended.reason)
    found = expect(Measurement, ended.measurement)
    finding, message = _judge(found, limits)
    return Check(job, finding, message, ended.at, measurement=found, decayed=_decay(found, limits))


def _judge(found: Measurement, limits: Limits) -> tuple[Finding, str]:
    """Drift by either figure. The check has already left out of both what sampling alone explains."""
    share, largest = found.drifted_share, found.psi_max
    if found.verdict == "inconclusive" or share is None or largest is None:
        return Finding.INCONCLUSIVE, f"{found.rows:,} rows: {found.reason}"
    named = ", ".join(found.drifted_features[:5])
    numbers = (
        f"largest PSI {largest:.3f}, limit {limits.psi:g}; "
        f"drifted share {share:.2f}, limit {limits.max_drifted_share:g} ({found.rows:,} rows)"
    )
    if largest > limits.psi or share > limits.max_drifted_share:
        return Finding.DRIFT, f"{numbers}; {named}" if named else numbers
    return Finding.NO_DRIFT, numbers


def _decay(found: Measurement, limits: Limits) -> str | None:
    least = limits.labels.min_auc if limits.labels else None
    auc = found.quality.auc if found.quality else None
    if least is None or auc is None or found.quality is None:
        return None
    return f"AUC {auc:.4f} on {found.quality.rows:,} labelled rows, at least {least:g}" if auc < least else None


def _written(oldest: Job) -> Streak:
    """The count before the oldest Job that is left, as it was written when that Job ended."""
    try:
        document: dict[str, Any] = json.loads(oldest.meta.annotations[names.STREAK])
        return Streak(**document)
    except (KeyError, TypeError, ValueError):
        return Streak()


def _dump(streak: Streak) -> str:
    return json.dumps(asdict(streak), sort_keys=True, separators=(",", ":"))
