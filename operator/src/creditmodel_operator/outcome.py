"""What became of a Job: still running, measured, or an error. Pure, and the same for gates and drift checks.

Whatever is missing, malformed or of another model is an error, and an error never passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from creditmodel_bundle.errors import MeasurementError
from creditmodel_bundle.measurement import Failure, Measurement, dump, parse
from creditmodel_operator import names, reasons
from creditmodel_operator.observed import Finished, Job, Pod

__all__ = ["START_PATIENCE", "Errored", "Measured", "Outcome", "Running", "outcome", "record", "unheard"]

START_PATIENCE = timedelta(seconds=120)
"""How long a pod may fail to start (image, node), or to be made (quota), before the attempt is given up."""
POD_PATIENCE = timedelta(seconds=5)
"""How long after a Job's end its pod's last words may still be on their way: Jobs and Pods are watched apart. After it
they are asked for, since a watch may lag for minutes, and only what the API server does not have is missing."""

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Running:
    """Not ended, or its last words are not known yet."""

    reason: str
    message: str
    look_again: datetime | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Ended with a measurement of the right kind and model."""

    measurement: Measurement
    at: datetime


@dataclass(frozen=True, slots=True)
class Errored:
    """Ended, or will never start, without a measurement."""

    reason: str
    message: str
    at: datetime
    digest: str | None = None


Outcome = Running | Measured | Errored


def outcome(job: Job, pods: tuple[Pod, ...], kind: str, digest: str | None, now: datetime) -> Outcome:
    """What became of `job`, which was to measure `kind` of the model `digest` (None: not known yet)."""
    recorded = job.meta.annotations.get(names.MEASUREMENT)
    if job.finished is None:
        return _unfinished(job, pods, now)
    if recorded is not None:
        return _heard(recorded, kind, digest, job.finished)
    words, patience = _last_words(pods), job.finished.at + POD_PATIENCE
    if words is None and not job.looked:
        return Running(reasons.RUNNING, f"Job {job.meta.name} ended", patience if now < patience else None)
    heard = _heard(words, kind, digest, job.finished) if words else None
    if heard is None or (not job.finished.complete and _nonsense(heard)):
        return _silent(job, pods, job.finished)
    return heard


def unheard(job: Job, pods: tuple[Pod, ...], now: datetime) -> bool:
    """Whether the Job's pods have to be read from the API server, before its silence is believed."""
    if job.looked or names.MEASUREMENT in job.meta.annotations:
        return False
    if job.finished is None:
        return not pods and now >= job.since + START_PATIENCE
    return _last_words(pods) is None and now >= job.finished.at + POD_PATIENCE


def _nonsense(found: Outcome) -> bool:
    """A container that was killed may leave half a document: how it was killed says more."""
    return isinstance(found, Errored) and found.reason == reasons.MALFORMED_MEASUREMENT


def record(job: Job, found: Outcome, pods: tuple[Pod, ...], kind: str) -> str | None:
    """What has to be written on the Job so that its outcome outlives its pod; None when nothing has to be."""
    if job.finished is None or names.MEASUREMENT in job.meta.annotations or isinstance(found, Running):
        return None
    if isinstance(found, Measured):
        return _last_words(pods)
    error = {"reason": found.reason, "message": found.message}
    failure = {"kind": kind, "digest": found.digest, "tool": names.FIELD_MANAGER, "error": error}
    return dump(Failure.model_validate(failure)).decode()


def _last_words(pods: tuple[Pod, ...]) -> str | None:
    """The termination message; None while no pod is known to have ended."""
    ended = [pod.terminated for pod in pods if pod.terminated is not None]
    return ended[-1].message if ended else None


def _unfinished(job: Job, pods: tuple[Pod, ...], now: datetime) -> Outcome:
    name, until = job.meta.name, job.since + START_PATIENCE
    running = Running(reasons.RUNNING, f"Job {name} is running")
    if not pods:
        if now < until:
            return replace(running, look_again=until)
        text = f"Job {name}: no pod was made; kubectl describe job {name} says why: a quota or a policy, for instance"
        return Errored(reasons.NOT_STARTED, text, until) if job.looked else running
    trouble = _trouble(pods[-1])
    if trouble is None:
        return running
    reason, message = trouble
    message = f"Job {name}: {message}"
    return Running(reason, message, until) if now < until else Errored(reason, message, until)


def _trouble(pod: Pod) -> tuple[str, str] | None:
    """Why a pod does not start."""
    if pod.unschedulable is not None:
        return reasons.UNSCHEDULABLE, pod.unschedulable
    if pod.waiting is None:
        return None
    waiting, message = pod.waiting
    text = f"{waiting}: {message}" if message else waiting
    if waiting in _IMAGE:
        return reasons.IMAGE_PULL_FAILED, text
    return (reasons.NOT_STARTED, text) if waiting in _CONFIG else None


def _heard(words: str, kind: str, digest: str | None, finished: Finished) -> Measured | Errored:
    try:
        said = parse(words)
    except MeasurementError as e:
        return Errored(reasons.MALFORMED_MEASUREMENT, str(e), finished.at)
    if isinstance(said, Failure):
        return Errored(said.error.reason, said.error.message, finished.at, said.digest)
    if not finished.complete:
        return Errored(reasons.WORKLOAD_FAILED, f"measured, and then failed: {finished.message}", finished.at)
    if said.kind != kind:
        return Errored(reasons.MALFORMED_MEASUREMENT, f"a measurement of {said.kind}, not of {kind}", finished.at)
    if said.digest is None or digest not in (None, said.digest):
        return Errored(reasons.WRONG_MODEL, f"measured {said.digest}, asked for {digest}", finished.at)
    return Measured(said, finished.at)


def _silent(job: Job, pods: tuple[Pod, ...], finished: Finished) -> Errored:
    name, pod = job.meta.name, pods[-1] if pods else None
    ended = pod.terminated if pod else None
    if finished.complete:
        return Errored(reasons.NO_MEASUREMENT, f"Job {name} completed and left no measurement", finished.at)
    if finished.reason == reasons.DEADLINE_EXCEEDED:
        return Errored(reasons.DEADLINE_EXCEEDED, f"Job {name}: {finished.message}", finished.at)
    if pod is not None and pod.reason == reasons.EVICTED:
        return Errored(reasons.EVICTED, f"Job {name}: its pod was evicted", finished.at)
    if ended is not None and ended.reason == reasons.OOM_KILLED:
        return Errored(reasons.OOM_KILLED, f"Job {name}: its container ran out of memory", finished.at)
    code = f"its container exited with code {ended.exit_code}" if ended else finished.message
    return Errored(reasons.WORKLOAD_FAILED, f"Job {name} failed: {code}", finished.at)
