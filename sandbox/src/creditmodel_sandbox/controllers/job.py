"""Job → Pods: each finished pod is counted once, whatever happens in between; retries with back-off; time to live.

Counting survives a crash at any point because it goes in three writes: the pod's uid into
status.uncountedTerminatedPods, the tracking finalizer off the pod, the uid out again with its counter raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import (
    Action,
    Cache,
    Controller,
    Create,
    Delete,
    Event,
    Patch,
    Replace,
    Wake,
)
from creditmodel_sandbox.objects import (
    JOBS,
    PODS,
    age_of,
    condition,
    condition_time,
    controller_of,
    format_time,
    is_active,
    is_deleting,
    is_ready,
    namespace_of,
    parse_time,
    phase,
    pod_from_template,
    with_condition,
)

__all__ = ["FINALIZER", "JobController", "Snapshot", "reconcile"]

FINALIZER = "batch.kubernetes.io/job-tracking"
FIRST_BACKOFF, LONGEST_BACKOFF = timedelta(seconds=10), timedelta(minutes=10)


@dataclass(frozen=True)
class Snapshot:
    """A Job (None when it is gone), its pods, and when pods failed since the last success."""

    job: Obj | None
    pods: tuple[Obj, ...]
    failures: tuple[datetime, ...] = ()


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """One step of the Job."""
    job = snapshot.job
    if job is None:
        return [_untrack(pod) for pod in snapshot.pods if _is_tracked(pod)]
    if _is_true(job, "Complete") or _is_true(job, "Failed"):
        return [*(_untrack(pod) for pod in snapshot.pods if _is_tracked(pod)), *_time_to_live(job, now)]
    if job["spec"].get("managedBy") not in (None, "kubernetes.io/job-controller"):
        return []
    if job["spec"].get("completionMode") == "Indexed":
        return [Event(job, "Unsupported", "the sandbox runs no Indexed Jobs", "Warning")]
    return list(_Pass(snapshot, job, now).actions())


def _is_true(obj: Obj, kind: str) -> bool:
    return condition(obj, kind).get("status") == "True"


def _is_tracked(pod: Obj) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or [])


def _untrack(pod: Obj) -> Patch:
    others = [name for name in pod["metadata"]["finalizers"] if name != FINALIZER]
    return Patch(PODS, pod, {"metadata": {"finalizers": others}})


def _time_to_live(job: Obj, now: datetime) -> Iterator[Action]:
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    finished = condition_time(condition(job, "Complete") or condition(job, "Failed"))
    if seconds is None or finished is None or is_deleting(job):
        return
    expires = finished + timedelta(seconds=seconds)
    yield Delete(JOBS, job, "Foreground") if expires <= now else Wake(expires)


class _Pass:
    """The working state of one pass: what is counted so far, and what follows from it."""

    def __init__(self, snapshot: Snapshot, job: Obj, now: datetime) -> None:
        self.snapshot, self.job, self.now = snapshot, job, now
        self.spec: Obj = job["spec"]
        self.status: Obj = dict(job.get("status") or {})
        lists = self.status.get("uncountedTerminatedPods") or {}
        self.uncounted = {name: list(lists.get(name) or []) for name in ("succeeded", "failed")}
        self.suspended = bool(self.spec.get("suspend"))
        self.active = [pod for pod in snapshot.pods if is_active(pod)]
        self.events: list[Event] = []
        self.wakes: list[Wake] = []

    # The order of a pass.

    def actions(self) -> Iterator[Action]:
        self._start()
        self._count_released()
        verdict = self._verdict()
        changes = list(_delete(self.job, self.active) if verdict else self._manage())
        verdict = verdict or self._success()
        if verdict:
            self._condition(verdict)
        pods_done = self._count_finished(final=verdict is not None)
        self._numbers()
        if verdict and not pods_done and not self.active and not self.status["terminating"]:
            self._finish(verdict)
        yield from changes
        yield from self._write()
        # Their uids are written down by now, so the pods may go.
        yield from map(_untrack, pods_done)

    def _start(self) -> None:
        resumed = _is_true(self.job, "Suspended")
        if not self.suspended and (resumed or not self.status.get("startTime")):
            self.status["startTime"] = format_time(self.now)

    def _count_released(self) -> None:
        """Counters rise for the pods whose finalizer is off: from now on nothing but the counter knows of them."""
        tracked = {pod["metadata"]["uid"] for pod in self.snapshot.pods if _is_tracked(pod)}
        for name, uids in self.uncounted.items():
            released = [uid for uid in uids if uid not in tracked]
            self.status[name] = self.status.get(name, 0) + len(released)
            self.uncounted[name] = [uid for uid in uids if uid in tracked]

    # Who succeeded, who failed.

    def _newly(self, outcome: str) -> list[Obj]:
        """Tracked pods with that outcome which no list and no counter has yet."""
        listed = {uid for uids in self.uncounted.values() for uid in uids}
        fresh = [p for p in self.snapshot.pods if _is_tracked(p) and p["metadata"]["uid"] not in listed]
        if outcome == "succeeded":
            return [pod for pod in fresh if phase(pod) == "Succeeded"]
        return [pod for pod in fresh if self._has_failed(pod)]

    def _has_failed(self, pod: Obj) -> bool:
        if phase(pod) == "Failed":
            return True
        if self._replaces_only_failed():
            return is_deleting(pod) and phase(pod) == "Pending" and not pod["spec"].get("nodeName")
        return is_deleting(pod) and phase(pod) != "Succeeded"

    def _replaces_only_failed(self) -> bool:
        default = "Failed" if self.spec.get("podFailurePolicy") else "TerminatingOrFailed"
        return bool(self.spec.get("podReplacementPolicy", default) == "Failed")

    def _total(self, outcome: str) -> int:
        fresh = self._newly(outcome)
        if outcome == "failed":
            fresh = [pod for pod in fresh if _policy(self.job, pod)[0] != "Ignore"]
        return int(self.status.get(outcome, 0)) + len(self.uncounted[outcome]) + len(fresh)

    # Verdicts. Each is the terminal condition, without its times.

    def _verdict(self) -> Obj | None:
        """Why the Job is to end, None while it may go on."""
        for interim, final in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
            if _is_true(self.job, interim):
                found = condition(self.job, interim)
                return {"type": final, "status": "True", "reason": found["reason"], "message": found["message"]}
        for pod in self._newly("failed"):
            action, message = _policy(self.job, pod)
            if action == "FailJob":
                return _failed("PodFailurePolicy", message)
        limit = self.spec.get("backoffLimit", 6)
        if self._total("failed") > limit or self._restarted_too_often(limit):
            return _failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        return self._deadline()

    def _restarted_too_often(self, limit: int) -> bool:
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(map(_restarts, self.active))
        return restarts > 0 if limit == 0 else restarts >= limit

    def _deadline(self) -> Obj | None:
        seconds, started = self.spec.get("activeDeadlineSeconds"), parse_time(self.status.get("startTime"))
        if seconds is None or started is None or self.suspended:
            return None
        due = started + timedelta(seconds=seconds)
        if due <= self.now:
            return _failed("DeadlineExceeded", "Job was active longer than specified deadline")
        self.wakes.append(Wake(due))
        return None

    def _success(self) -> Obj | None:
        completions, succeeded = self.spec.get("completions"), self._total("succeeded")
        if self.active or (succeeded == 0 if completions is None else succeeded < completions):
            return None
        message = "Reached expected number of succeeded pods"
        return {"type": "Complete", "status": "True", "reason": "CompletionsReached", "message": message}

    # What to do with pods.

    def _manage(self) -> Iterator[Action]:
        if is_deleting(self.job):
            return
        self._show_suspension()
        surplus = len(self.active) - self._wanted()
        if surplus > 0:
            # Pods that are not wanted any more have not failed: off with the finalizer, so that none is counted.
            doomed = sorted(self.active, key=_removal_rank)[:surplus]
            yield from map(_untrack, filter(_is_tracked, doomed))
            yield from _delete(self.job, doomed)
            return
        missing = -surplus
        if self._replaces_only_failed():
            missing -= sum(is_deleting(pod) and not self._has_failed(pod) for pod in self.snapshot.pods)
        if missing <= 0:
            return
        due = _backoff_ends(self.snapshot.failures)
        if due and due > self.now:
            self.wakes.append(Wake(due))
            return
        for _ in range(missing):
            event = Event(self.job, "SuccessfulCreate", "Created pod: {name}")
            yield Create(PODS, new_pod(self.job), event)

    def _wanted(self) -> int:
        if self.suspended:
            return 0
        parallelism, completions = self.spec.get("parallelism", 1), self.spec.get("completions")
        succeeded = self._total("succeeded")
        if completions is None:
            return len(self.active) if succeeded else int(parallelism)
        return max(min(int(completions) - succeeded, int(parallelism)), 0)

    def _show_suspension(self) -> None:
        current = condition(self.job, "Suspended").get("status")
        if self.suspended and current != "True":
            new, event = ("True", "JobSuspended", "Job suspended"), "Suspended"
        elif not self.suspended and current == "True":
            new, event = ("False", "JobResumed", "Job resumed"), "Resumed"
        else:
            return
        self._condition(dict(zip(("type", "status", "reason", "message"), ("Suspended", *new), strict=True)))
        self.events.append(Event(self.job, event, new[2]))

    # What to write down.

    def _condition(self, new: Obj) -> None:
        """Set the condition; a verdict shows as its interim condition first."""
        interim = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}.get(new["type"], new["type"])
        self._set({**new, "type": interim})

    def _set(self, new: Obj) -> None:
        old = condition({"status": self.status}, new["type"])
        if {name: old.get(name) for name in new} != new:
            stamped = {**new, "lastProbeTime": format_time(self.now)}
            self.status["conditions"] = with_condition(self.status.get("conditions") or [], stamped, self.now)

    def _count_finished(self, *, final: bool) -> list[Obj]:
        """Write down the pods that finished. When the Job ends, those that are stopped count as failed."""
        succeeded, failed = self._newly("succeeded"), self._newly("failed")
        if final:
            others = [pod for pod in self.snapshot.pods if _is_tracked(pod) and is_deleting(pod)]
            failed += [pod for pod in others if pod not in succeeded and pod not in failed]
        listed = {uid for uids in self.uncounted.values() for uid in uids}
        self.uncounted["succeeded"] += [pod["metadata"]["uid"] for pod in succeeded]
        counted = [p for p in failed if p["metadata"]["uid"] not in listed and _policy(self.job, p)[0] != "Ignore"]
        self.uncounted["failed"] += [pod["metadata"]["uid"] for pod in counted]
        waiting = [p for p in self.snapshot.pods if _is_tracked(p) and p["metadata"]["uid"] in listed]
        return [*succeeded, *(p for p in failed if p["metadata"]["uid"] not in listed), *waiting]

    def _numbers(self) -> None:
        running_down = (p for p in self.snapshot.pods if is_deleting(p) and phase(p) not in ("Succeeded", "Failed"))
        self.status |= {
            "active": len(self.active),
            "ready": sum(map(is_ready, self.active)),
            "terminating": sum(1 for _ in running_down),
            "uncountedTerminatedPods": {name: uids for name, uids in self.uncounted.items() if uids},
        }

    def _finish(self, verdict: Obj) -> None:
        self._set(verdict)
        if verdict["type"] == "Complete":
            self.status["completionTime"] = format_time(self.now)
            self.events.append(Event(self.job, "Completed", "Job completed"))
        else:
            self.events.append(Event(self.job, verdict["reason"], verdict["message"], "Warning"))

    def _write(self) -> Iterator[Action]:
        for name in ("active", "succeeded", "failed"):
            if not self.status.get(name):
                self.status.pop(name, None)
        if self.status != (self.job.get("status") or {}):
            yield Replace(JOBS, self.job | {"status": self.status}, "status")
            yield from self.events
        yield from self.wakes


def _delete(job: Obj, pods: Sequence[Obj]) -> Iterator[Action]:
    for pod in pods:
        yield Delete(PODS, pod)
        yield Event(job, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")


def _policy(job: Obj, pod: Obj) -> tuple[str, str]:
    """(action, message) of the first rule of podFailurePolicy that matches; Count without one."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or []
    for index, rule in enumerate(rules if phase(pod) == "Failed" else []):
        if reason := _exit_code_match(rule, pod) or _condition_match(rule, pod):
            return rule["action"], f"{reason} matching {rule['action']} rule at index {index}"
    return "Count", ""


def _failed(reason: str, message: str) -> Obj:
    return {"type": "Failed", "status": "True", "reason": reason, "message": message}


def _containers(pod: Obj) -> Iterator[Obj]:
    status = pod.get("status") or {}
    yield from status.get("containerStatuses") or []
    yield from status.get("initContainerStatuses") or []


def _restarts(pod: Obj) -> int:
    return sum(container.get("restartCount", 0) for container in _containers(pod))


def _exit_code_match(rule: Obj, pod: Obj) -> str:
    wanted = rule.get("onExitCodes") or {}
    for container in _containers(pod) if wanted else ():
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
        if code == 0 or wanted.get("containerName") not in (None, container["name"]):
            continue
        if (code in wanted["values"]) == (wanted["operator"] == "In"):
            return f"Container {container['name']} for pod {key_of(pod)} failed with exit code {code}"
    return ""


def _condition_match(rule: Obj, pod: Obj) -> str:
    for wanted in rule.get("onPodConditions") or []:
        if condition(pod, wanted["type"]).get("status") == wanted.get("status", "True"):
            return f"Pod {key_of(pod)} has condition {wanted['type']}"
    return ""


def _removal_rank(pod: Obj) -> tuple[Any, ...]:
    rank = {"Pending": 0, "Unknown": 1}.get(phase(pod) or "Pending", 2)
    return bool(pod["spec"].get("nodeName")), rank, is_ready(pod), -age_of(pod).timestamp()


def _backoff_ends(failures: Sequence[datetime]) -> datetime | None:
    """Each failure in a row doubles the pause before the next pod: 10 s, 20 s, … 10 min."""
    if not failures:
        return None
    pause: timedelta = FIRST_BACKOFF * 2 ** min(len(failures) - 1, 10)
    return max(failures) + min(pause, LONGEST_BACKOFF)


def new_pod(job: Obj) -> Obj:
    """A pod of the Job, tracked, with the labels by which its selector and people find it."""
    pod = pod_from_template(job["spec"]["template"], job, finalizers=[FINALIZER])
    meta = job["metadata"]
    labels = {"batch.kubernetes.io/job-name": meta["name"], "batch.kubernetes.io/controller-uid": meta["uid"]}
    labels |= {"job-name": meta["name"], "controller-uid": meta["uid"]}
    pod["metadata"]["labels"] = {**labels, **pod["metadata"].get("labels", {})}
    return pod


# --- wiring ----------------------------------------------------------------------------------------------------------


class JobController:
    """Remembers when pods failed, because a failed pod may be deleted before its back-off ends."""

    def __init__(self) -> None:
        self._failures: dict[str, dict[str, datetime]] = {}  # uid of the Job: uid of the pod: when

    def observe(self, cache: Cache, key: str) -> Snapshot:
        """The snapshot of the Job `key`, with whatever pods still name it as their owner."""
        job = cache.get(JOBS, key)
        namespace, _, name = key.rpartition("/")
        if job is None:
            left = (p for p in cache.all(PODS, namespace) if _is_of_job(p, name) and _is_tracked(p))
            return Snapshot(None, tuple(left))
        pods = tuple(cache.controlled(PODS, job))
        return Snapshot(job, pods, self._remember(job, pods))

    def _remember(self, job: Obj, pods: Sequence[Obj]) -> tuple[datetime, ...]:
        uid = job["metadata"]["uid"]
        if condition(job, "Complete") or condition(job, "Failed"):
            self._failures.pop(uid, None)
            return ()
        known = self._failures.setdefault(uid, {})
        for pod in pods:
            if _policy(job, pod)[0] != "Ignore" and (phase(pod) == "Failed" or _is_being_replaced(pod)):
                known.setdefault(pod["metadata"]["uid"], _finish_time(pod))
        succeeded = max((_finish_time(pod) for pod in pods if phase(pod) == "Succeeded"), default=None)
        return tuple(time for time in known.values() if succeeded is None or time > succeeded)

    @property
    def controller(self) -> Controller:
        """How the runtime runs it."""
        return Controller(
            "job-controller", {JOBS: lambda _, obj: [key_of(obj)], PODS: _of_pod}, self.observe, reconcile
        )


def _is_being_replaced(pod: Obj) -> bool:
    return is_deleting(pod) and _is_tracked(pod) and phase(pod) != "Succeeded"


def _is_of_job(pod: Obj, name: str) -> bool:
    owner = controller_of(pod)
    return owner.get("kind") == "Job" and owner["name"] == name


def _finish_time(pod: Obj) -> datetime:
    """When its last container ended, or its deletion was asked for."""
    ends = ((container.get("state") or {}).get("terminated") or {} for container in _containers(pod))
    times = [parse_time(end["finishedAt"]) for end in ends if end.get("finishedAt")]
    if known := [time for time in times if time]:
        return max(known)
    deleted = parse_time(pod["metadata"].get("deletionTimestamp"))
    if deleted:
        return deleted - timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    return condition_time(condition(pod, "Ready")) or age_of(pod)


def _of_pod(_: Cache, pod: Obj) -> Iterator[str]:
    owner = controller_of(pod)
    if owner.get("kind") == "Job":
        yield f"{namespace_of(pod)}/{owner['name']}"
