"""CronJob → Jobs: one Job per scheduled time under a name made of that time, so that none is ever started twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Create, Delete, Event, Replace, Wake
from creditmodel_sandbox.cron import Schedule, ScheduleError, time_zone
from creditmodel_sandbox.events import reference_to
from creditmodel_sandbox.objects import (
    CRON_JOBS,
    JOBS,
    age_of,
    condition,
    controller_of,
    format_time,
    is_deleting,
    namespace_of,
    owner_reference,
    parse_time,
)

__all__ = ["CONTROLLER", "SCHEDULED", "Snapshot", "observe", "reconcile"]

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY = 100


@dataclass(frozen=True)
class Snapshot:
    """A CronJob and the Jobs that it controls."""

    cron_job: Obj
    jobs: tuple[Obj, ...]


def observe(cache: Cache, key: str) -> Snapshot | None:
    """The snapshot of the CronJob `key`, None when it is gone."""
    cron_job = cache.get(CRON_JOBS, key)
    return Snapshot(cron_job, tuple(cache.controlled(JOBS, cron_job))) if cron_job else None


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Note what ended, start what is due, delete what is beyond the history limits."""
    run = _Pass(snapshot, now)
    run.note_jobs()
    started = [] if is_deleting(snapshot.cron_job) else list(run.start())
    return [*run.write(), *run.clean_up(), *started]


def outcome(job: Obj) -> str:
    """Complete, Failed, or "" while it runs."""
    return next((c for c in ("Complete", "Failed") if condition(job, c).get("status") == "True"), "")


class _Pass:
    """The working state of one pass."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.cron_job, self.jobs, self.now = snapshot.cron_job, snapshot.jobs, now
        self.spec: Obj = self.cron_job["spec"]
        self.status: Obj = dict(self.cron_job.get("status") or {})
        self.active: list[Obj] = list(self.status.get("active") or [])
        self.events: list[Event] = []

    def _event(self, reason: str, message: str, kind: str = "Normal") -> None:
        self.events.append(Event(self.cron_job, reason, message, kind))

    # What became of the Jobs.

    def note_jobs(self) -> None:
        """Take finished and missing Jobs off the active list; remember the latest success."""
        by_uid = {job["metadata"]["uid"]: job for job in self.jobs}
        for reference in list(self.active):
            job = by_uid.get(reference["uid"])
            if job is None:
                self._event("MissingJob", f"Active job went missing: {reference['name']}")
            elif ended := outcome(job):
                self._event("SawCompletedJob", f"Saw completed job: {reference['name']}, condition: {ended}")
            else:
                continue
            self.active.remove(reference)
        ends = [job["status"]["completionTime"] for job in self.jobs if outcome(job) == "Complete"]
        if latest := max([self.status.get("lastSuccessfulTime") or "", *ends]):
            self.status["lastSuccessfulTime"] = latest

    # What is due.

    def start(self) -> Iterator[Action]:
        """The Job of the latest scheduled time that has none, and when to look again."""
        try:
            schedule = Schedule.parse(self.spec["schedule"], time_zone(self.spec.get("timeZone")))
        except ScheduleError as e:
            reason = "UnknownTimeZone" if "time zone" in str(e) else "UnparseableSchedule"
            yield Event(self.cron_job, reason, f"invalid schedule {self.spec['schedule']!r}: {e}", "Warning")
            return
        if self.spec.get("suspend"):
            return
        due = self._due(schedule)
        if due:
            yield from self._start(due)
        if following := schedule.next(self.now):
            yield Wake(following)

    def _due(self, schedule: Schedule) -> datetime | None:
        since = parse_time(self.status.get("lastScheduleTime")) or age_of(self.cron_job)
        deadline = self.spec.get("startingDeadlineSeconds")
        if deadline is not None:
            since = max(since, self.now - timedelta(seconds=deadline))
        latest = schedule.latest(self.now)
        if latest is None or latest <= since:
            return None
        if _missed(schedule, since, self.now) > MANY:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._event("TooManyMissedTimes", message, "Warning")
        return latest

    def _start(self, due: datetime) -> Iterator[Action]:
        name = f"{self.cron_job['metadata']['name']}-{int(due.timestamp()) // 60}"
        started = next((job for job in self.jobs if job["metadata"]["name"] == name), None)
        if started:
            # Made by an earlier pass, which may have died before it could write so down.
            self.status["lastScheduleTime"] = format_time(due)
            if not outcome(started):
                self.active.append(reference_to(started))
            return
        policy = self.spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and self.active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._event("JobAlreadyActive", message)
            return
        if policy == "Replace":
            running = {reference["uid"] for reference in self.active}
            for job in self.jobs:
                if job["metadata"]["uid"] in running and not is_deleting(job):
                    yield from self._delete(job)
        yield Create(JOBS, self._job(name, due), Event(self.cron_job, "SuccessfulCreate", "Created job {name}"))

    def _job(self, name: str, due: datetime) -> Obj:
        template = self.spec["jobTemplate"]
        meta = template.get("metadata") or {}
        zone = time_zone(self.spec.get("timeZone"))
        stamp = format_time(due) if zone is UTC else due.astimezone(zone).isoformat(timespec="seconds")
        metadata = {
            "name": name,
            "namespace": namespace_of(self.cron_job),
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [owner_reference(self.cron_job)],
        }
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}

    # What to write down and what to throw away.

    def write(self) -> Iterator[Action]:
        """The status, when it changed, and the Events."""
        status = {name: value for name, value in self.status.items() if name != "active"}
        status |= {"active": self.active} if self.active else {}
        if status != (self.cron_job.get("status") or {}):
            yield Replace(CRON_JOBS, self.cron_job | {"status": status}, "status")
        yield from self.events

    def clean_up(self) -> Iterator[Action]:
        """Keep the newest finished Jobs, as many of each outcome as the limits say."""
        limits = {"Complete": ("successfulJobsHistoryLimit", 3), "Failed": ("failedJobsHistoryLimit", 1)}
        for ended, (field, default) in limits.items():
            finished = sorted((job for job in self.jobs if outcome(job) == ended and not is_deleting(job)), key=age_of)
            limit = self.spec.get(field, default)
            for job in finished[: max(len(finished) - limit, 0)]:
                yield from self._delete(job)

    def _delete(self, job: Obj) -> Iterator[Action]:
        yield Delete(JOBS, job)
        yield Event(self.cron_job, "SuccessfulDelete", f"Deleted job {job['metadata']['name']}")


def _missed(schedule: Schedule, since: datetime, now: datetime) -> int:
    """How many times passed, counted no further than one beyond MANY."""
    count, time = 0, schedule.next(since)
    while time is not None and time <= now and count <= MANY:
        count, time = count + 1, schedule.next(time)
    return count


def _of_job(_: Cache, job: Obj) -> Iterator[str]:
    owner = controller_of(job)
    if owner.get("kind") == "CronJob":
        yield f"{namespace_of(job)}/{owner['name']}"


CONTROLLER = Controller(
    "cronjob-controller", {CRON_JOBS: lambda _, obj: [key_of(obj)], JOBS: _of_job}, observe, reconcile
)
