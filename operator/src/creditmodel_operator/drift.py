"""Drift and decay: what the checks of the champion say, and whether an episode is open.

The CronJob runs without the operator, and the Jobs it leaves are the whole memory: results are read in the order of
their Jobs, judged by today's limits, and counted. Each ended Job has the count before it written on it, and the CronJob
when the newest episode began, whichever champion it was about: the cooldown counts from there.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError

from creditmodel_bundle.measurement import Drift as Measurement
from creditmodel_operator import names, reasons
from creditmodel_operator.api.spec import Drift as Limits
from creditmodel_operator.api.spec import Retraining
from creditmodel_operator.narrow import expect
from creditmodel_operator.observed import Job, Observed, parse_time
from creditmodel_operator.outcome import Errored, Measured, Running, outcome, record

__all__ = ["Check", "Decay", "Finding", "Report", "Streak", "duration", "watch"]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Finding(StrEnum):
    """What one check says, at the limits that spec has now."""

    DRIFT = "Drift"
    NO_DRIFT = "NoDrift"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


def duration(text: str) -> timedelta:
    """A duration as spec has it: 90m, 24h, 7d."""
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


@dataclass(frozen=True, slots=True)
class Decay:
    """Whether the realised quality is below its limit; None where that cannot be said."""

    value: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Check:
    """One ended check."""

    job: Job
    finding: Finding
    message: str
    at: datetime
    reason: str = ""
    measurement: Measurement | None = None
    decay: Decay = Decay(None, reasons.NO_RESULT, "the newest check could not measure")

    def breach(self, triggers: Collection[str]) -> bool | None:
        """Whether this counts towards retraining (True), away from it (False), or not at all (None).

        Where drift is a trigger, a check that could not judge it counts only when the quality speaks against the model.
        """
        drift = {Finding.DRIFT: True, Finding.NO_DRIFT: False}.get(self.finding)
        if "Quality" in triggers and (self.decay.value or "Drift" not in triggers):
            return self.decay.value
        return drift


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
    last: str | None = None
    """uid of the Job with which the newest episode began, open or not, of this champion or another."""
    last_opened: str | None = None
    """When that episode opened."""

    def after(self, check: Check, rules: Rules) -> Streak:
        """The count after one more check; an episode opens and closes after `needed` in a row."""
        breach = check.breach(rules.triggers)
        if breach is None:
            return self
        if not breach:
            calm = replace(self, breaches=0, clean=self.clean + 1, first=None, first_name=None)
            return replace(calm, episode=None, episode_name=None) if calm.clean >= rules.needed else calm
        first, name = (self.first, self.first_name) if self.breaches else (check.job.meta.uid, check.job.meta.name)
        row = replace(self, breaches=self.breaches + 1, clean=0, first=first, first_name=name)
        if row.episode is None and row.breaches >= rules.needed and check.at >= row.until(rules.cooldown, check.at):
            return replace(row, episode=first, episode_name=name, last=first, last_opened=_opened(row, check.at))
        return row

    def until(self, cooldown: timedelta, now: datetime) -> datetime:
        """When the next episode may open: `now` where nothing stands in the way."""
        opened = parse_time(self.last_opened)
        return now if opened is None or self.last == self.first else max(now, opened + cooldown)


_STREAK = TypeAdapter(Streak)


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes an episode."""

    needed: int
    triggers: Collection[str]
    cooldown: timedelta


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the checks of the champion say."""

    newest: Check | None = None
    """The newest ended check, whatever it says."""
    streak: Streak = Streak()
    records: tuple[tuple[Job, dict[str, str]], ...] = ()
    """Jobs on which something has to be written: annotations."""
    look_again: datetime | None = None
    cooling_until: datetime | None = None
    """An episode would have opened but for the cooldown, which lasts until then."""
    last_episode: str | None = None
    """What has to be written on the CronJob of the newest episode; None when nothing has to be."""


def watch(limits: Limits, retraining: Retraining, digest: str, observed: Observed, now: datetime) -> Report:
    """What the checks of the model `digest` say. Checks of any other model are ignored."""
    rules = Rules(limits.consecutive_breaches, retraining.triggers, duration(retraining.cooldown))
    jobs = sorted((job for job in observed.jobs if _of(job, digest)), key=lambda job: (job.meta.created, job.meta.name))
    known = _last_episode(observed)
    streak = _newer(_written(jobs[0]) if jobs else Streak(), known)
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
        streak = streak.after(newest, rules)
    report = Report(newest, streak, tuple(records), look_again)
    if streak.episode is None and streak.breaches >= rules.needed and newest is not None:
        return replace(report, cooling_until=streak.until(rules.cooldown, newest.at))
    news = streak.episode is not None and streak.last != known.last
    return replace(report, last_episode=_dump_last(streak)) if news else report


def _of(job: Job, digest: str) -> bool:
    labels, notes = job.meta.labels, job.meta.annotations
    return labels.get(names.COMPONENT) == "drift" and notes.get(names.DIGEST) == digest and not job.meta.deleting


def _check(job: Job, ended: Measured | Errored, limits: Limits) -> Check:
    if isinstance(ended, Errored):
        message = f"Job {job.meta.name} could not measure: {ended.message}"
        return Check(job, Finding.ERROR, message, ended.at, reason=ended.reason)
    found = expect(Measurement, ended.measurement)
    finding, message = _judge(found, limits)
    return Check(job, finding, message, ended.at, measurement=found, decay=_decay(found, limits))


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


def _decay(found: Measurement, limits: Limits) -> Decay:
    """The realised quality against its limit. Too few outcomes to judge are not good ones."""
    labels, quality = limits.labels, found.quality
    if labels is None or labels.min_auc is None:
        return Decay(None, reasons.NOT_CONFIGURED, "spec.drift.labels.minAUC is not set")
    if quality is None or quality.auc is None:
        return Decay(None, reasons.NO_LABELS, "the newest check found no labelled rows of both kinds")
    text = f"AUC {quality.auc:.4f} on {quality.rows:,} labelled rows"
    if quality.rows < labels.min_rows:
        return Decay(None, reasons.INCONCLUSIVE, f"{text}, which are judged from {labels.min_rows:,} on")
    decayed = quality.auc < labels.min_auc
    return Decay(decayed, reasons.AT_LIMIT if decayed else reasons.NO_DRIFT, f"{text}, at least {labels.min_auc:g}")


def _last_episode(observed: Observed) -> Streak:
    """The newest episode as it was written on the CronJob; nothing where there was none."""
    for cronjob in observed.cronjobs:
        try:
            written: dict[str, str] = json.loads(cronjob.meta.annotations[names.LAST_EPISODE])
            found = Streak(last=written["first"], last_opened=written["opened"])
        except (KeyError, TypeError, ValueError):
            continue
        if parse_time(found.last_opened) is not None:
            return found
    return Streak()


def _newer(streak: Streak, known: Streak) -> Streak:
    """The count with the newer of both episodes."""
    if known.last_opened is None or (streak.last_opened or "") >= known.last_opened:
        return streak
    return replace(streak, last=known.last, last_opened=known.last_opened)


def _opened(row: Streak, at: datetime) -> str:
    """When the episode of this row opened: seen again, it keeps the time that was written first."""
    known = row.last_opened if row.last == row.first else None
    return known or at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _dump_last(streak: Streak) -> str:
    return json.dumps({"first": streak.last, "opened": streak.last_opened}, sort_keys=True, separators=(",", ":"))


def _written(oldest: Job) -> Streak:
    """The count before the oldest Job that is left, as it was written when that Job ended."""
    try:
        return _STREAK.validate_json(oldest.meta.annotations[names.STREAK])
    except (KeyError, ValidationError):
        return Streak()


def _dump(streak: Streak) -> str:
    return json.dumps(asdict(streak), sort_keys=True, separators=(",", ":"))
