"""The gates of one model: which have passed, which Job comes next, what has to be remembered.

Whether something "has run" is an observation: the Job's name says what it measures, and counts the attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from creditmodel_bundle.measurement import Artifact, Measurement
from creditmodel_operator import names, reasons
from creditmodel_operator.api.status import GateResult
from creditmodel_operator.children.common import Manifest
from creditmodel_operator.children.job import Work, gate_job
from creditmodel_operator.gates import GATES, Gate, Judgement, Subject, Verdict
from creditmodel_operator.narrow import present
from creditmodel_operator.observed import Images, Job, Observed
from creditmodel_operator.outcome import Errored, Measured, Running, outcome, record
from creditmodel_operator.revision import Owner

__all__ = ["ATTEMPTS", "Evaluation", "Found", "evaluate", "find_artifact"]

ATTEMPTS = 4
"""Jobs for one measurement, the first included."""
BACKOFF = timedelta(seconds=10)
"""Wait after the first error; three times as long after each further one."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where one gate stands."""

    gate: Gate
    judgement: Judgement
    final: bool
    """Nothing more will be tried: passed, failed, or every attempt is used up."""
    job: Job | None = None
    attempts: int = 0
    measured_at: datetime | None = None
    create: Manifest | None = None
    look_again: datetime | None = None
    measurement: Measurement | None = None

    @property
    def passed(self) -> bool:
        """A gate without limits lets everything through."""
        return self.judgement.verdict in (Verdict.PASSED, Verdict.NOT_CONFIGURED)

    def status(self) -> GateResult:
        """The gate as status shows it."""
        judgement = self.judgement
        job = self.job.meta.name if self.job else self.create["metadata"]["name"] if self.create else None
        return GateResult(
            name=self.gate.name,
            verdict=judgement.verdict.value,
            reason=judgement.reason,
            message=judgement.message,
            summary=judgement.summary,
            numbers=list(judgement.numbers),
            job=job,
            attempts=self.attempts or None,
            measured_at=None if self.measured_at is None else self.measured_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All gates of one model, in order."""

    found: tuple[Found, ...]
    records: tuple[tuple[Job, str], ...] = ()
    """Jobs whose measurement has to be written on them, and the text."""
    digest: str | None = None
    artifact: Artifact | None = None

    @property
    def passed(self) -> bool:
        """Every gate has passed."""
        return all(found.passed for found in self.found)

    @property
    def blocking(self) -> Found | None:
        """The first gate that has not passed."""
        return next((found for found in self.found if not found.passed), None)

    @property
    def approval(self) -> str | None:
        """The decision that lets the model take over, in words that outlive it."""
        decisions = [found.judgement.evidence for found in self.found if found.judgement.evidence is not None]
        return decisions[0].words if decisions and self.passed else None

    @property
    def evidence(self) -> frozenset[str]:
        """Names of the Jobs that the verdicts stand on."""
        return frozenset(found.job.meta.name for found in self.found if found.job is not None)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What judging one gate needs."""

    owner: Owner
    subject: Subject
    observed: Observed
    accepted: frozenset[str]
    now: datetime
    records: list[tuple[Job, str]] = field(default_factory=list)

    @property
    def images(self) -> Images:
        return self.observed.images


def find_artifact(observed: Observed, digest: str) -> Artifact | None:
    """A recorded artifact measurement of a model, whatever Job it came from."""
    for job in observed.jobs:
        if job.gate == "artifact":
            ended = outcome(job, observed.pods_of(job.meta.name), "artifact", digest, job.meta.created)
            if isinstance(ended, Measured) and isinstance(ended.measurement, Artifact):
                return ended.measurement
    return None


def evaluate(
    owner: Owner, subject: Subject, observed: Observed, *, accepted: frozenset[str], now: datetime
) -> Evaluation:
    """Judge every gate in order; a gate waits for the ones before it.

    `accepted` has the digests that have been champion under the present retryToken: any measurement of them counts.
    """
    done: list[Found] = []
    records: list[tuple[Job, str]] = []
    for gate in GATES:
        if not all(found.passed for found in done):
            done.append(_waiting(gate, done[-1] if done[-1].judgement.verdict is not Verdict.WAITING else None))
            continue
        bench = _Bench(owner, subject, observed, accepted, now, records)
        found = _with_job(gate, bench) if gate.command else _without_job(gate, subject)
        if isinstance(found.measurement, Artifact):
            subject = replace(subject, digest=found.measurement.digest, artifact=found.measurement)
        done.append(found)
    return Evaluation(tuple(done), tuple(records), subject.digest, subject.artifact)


def _waiting(gate: Gate, before: Found | None) -> Found:
    cause = f"waits for the {before.gate.name} gate" if before else "waits for the gates before it"
    return Found(gate, Judgement(Verdict.WAITING, reasons.NOT_EVALUATED, cause), final=False)


def _without_job(gate: Gate, subject: Subject) -> Found:
    judgement = gate.judge(subject, None)
    final = judgement.verdict is not Verdict.WAITING
    return Found(gate, judgement, final=final, look_again=judgement.look_again)


def _with_job(gate: Gate, bench: _Bench) -> Found:
    jobs = _attempts(gate, bench)
    if jobs:
        return _latest(gate, bench, jobs)
    return _earlier_evidence(gate, bench) or _start(gate, bench, attempt=1)


def _identity(gate: Gate, bench: _Bench) -> tuple[str, object]:
    """What is measured, as a fingerprint; and with the image and retryToken, as the Job's name has it.

    The name is of this very CreditModel: what a deleted one has left is no evidence, and not in the way.
    """
    measured = [gate.name, present(gate.measured)(bench.subject)]
    token = bench.subject.spec.rollout.retry_token
    return names.fingerprint(measured, 16), [measured, bench.images.jobs, token, bench.owner.uid]


def _attempts(gate: Gate, bench: _Bench) -> list[Job]:
    """The Jobs that measure exactly this, the latest attempt last."""
    _, measured = _identity(gate, bench)
    wanted = {names.gate_job(bench.owner.name, gate.name, measured, attempt) for attempt in range(1, ATTEMPTS + 1)}
    return sorted((job for job in bench.observed.jobs if job.meta.name in wanted), key=lambda job: job.attempt)


def _latest(gate: Gate, bench: _Bench, jobs: Sequence[Job]) -> Found:
    """The latest attempt decides; earlier ones have only been remembered."""
    for job in jobs[:-1]:
        _remember(gate, bench, job)
    job = jobs[-1]
    found = _judged(gate, bench, job)
    if found.final or found.judgement.verdict is Verdict.RUNNING:
        return _while_retrying(gate, bench, jobs, found)
    return _retry(gate, bench, found)


def _remember(gate: Gate, bench: _Bench, job: Job) -> Running | Measured | Errored:
    pods = bench.observed.pods_of(job.meta.name)
    ended = outcome(job, pods, gate.name, bench.subject.digest, bench.now)
    text = record(job, ended, pods, gate.name)
    if text is not None:
        bench.records.append((job, text))
    return ended


def _judged(gate: Gate, bench: _Bench, job: Job) -> Found:
    ended = _remember(gate, bench, job)
    found = Found(gate, Judgement(Verdict.RUNNING, "", ""), final=False, job=job, attempts=job.attempt)
    match ended:
        case Running():
            judgement = Judgement(Verdict.RUNNING, ended.reason, ended.message)
            return replace(found, judgement=judgement, look_again=ended.look_again)
        case Errored():
            final = ended.reason in reasons.REFUSED
            verdict = Verdict.FAILED if final else Verdict.ERROR
            judgement = Judgement(verdict, ended.reason, ended.message)
            return replace(found, judgement=judgement, final=final, measured_at=ended.at)
        case Measured():
            judgement = gate.judge(_resolved(bench.subject, ended.measurement), ended.measurement)
            final = judgement.verdict in (Verdict.PASSED, Verdict.FAILED)
            passed = ended.measurement if judgement.verdict is Verdict.PASSED else None
            return replace(found, judgement=judgement, final=final, measured_at=ended.at, measurement=passed)


def _resolved(subject: Subject, measurement: Measurement) -> Subject:
    return replace(subject, digest=subject.digest or measurement.digest)


def _while_retrying(gate: Gate, bench: _Bench, jobs: Sequence[Job], found: Found) -> Found:
    """While another attempt runs, the last error stays to be read: a condition that flips to and fro says nothing."""
    if found.final or len(jobs) < 2 or found.judgement.reason != reasons.RUNNING:
        return found
    before = _judged(gate, replace(bench, records=[]), jobs[-2]).judgement
    if before.verdict not in (Verdict.ERROR, Verdict.INCONCLUSIVE):
        return found
    note = f"{before.message}; attempt {found.attempts} of {ATTEMPTS} is running"
    return replace(found, judgement=replace(before, message=note))


def _retry(gate: Gate, bench: _Bench, found: Found) -> Found:
    """Another attempt after an error or an inconclusive measurement, or none when they are used up."""
    judgement = found.judgement
    if found.attempts >= ATTEMPTS:
        note = (
            f"{judgement.message}; {ATTEMPTS} attempts are used up: mend the cause and change spec.rollout.retryToken"
        )
        return replace(found, judgement=replace(judgement, message=note), final=True)
    wait = BACKOFF * 3 ** (found.attempts - 1) if judgement.verdict is Verdict.ERROR else timedelta()
    due = present(found.measured_at) + wait
    if bench.now < due:
        note = f"{judgement.message}; attempt {found.attempts + 1} of {ATTEMPTS} at {due:%H:%M:%S} UTC"
        return replace(found, judgement=replace(judgement, message=note), look_again=due)
    started = _start(gate, bench, attempt=found.attempts + 1)
    if started.create is None:
        return replace(found, judgement=started.judgement)
    note = f"{judgement.message}; attempt {started.attempts} of {ATTEMPTS} is running"
    return replace(started, judgement=replace(judgement, message=note))


def _earlier_evidence(gate: Gate, bench: _Bench) -> Found | None:
    """A measurement of the same thing by an earlier image or under an earlier retryToken, of a model that was accepted.

    An operator that is upgraded does not measure again what is serving, and a switch back is instant. Only a
    measurement that passes today's limits counts: what fails may be measured anew.
    """
    measures, _ = _identity(gate, bench)
    same = [job for job in bench.observed.jobs if job.gate == gate.name and _measures(job) == measures]
    for job in sorted(same, key=lambda job: job.meta.created, reverse=True):
        found = _judged(gate, bench, job)
        if found.measurement is not None and found.measurement.digest in bench.accepted:
            return found
    return None


def _measures(job: Job) -> str | None:
    return job.meta.annotations.get(names.MEASURES)


def _start(gate: Gate, bench: _Bench, attempt: int) -> Found:
    measures, measured = _identity(gate, bench)
    if bench.subject.spec.suspend:
        return Found(gate, Judgement(Verdict.WAITING, reasons.SUSPENDED, "spec.suspend is true"), final=False)
    name = names.gate_job(bench.owner.name, gate.name, measured, attempt)
    judgement = Judgement(Verdict.RUNNING, reasons.RUNNING, f"Job {name} is running")
    return Found(gate, judgement, final=False, attempts=attempt, create=_manifest(gate, bench, name, measures))


def _manifest(gate: Gate, bench: _Bench, name: str, measures: str) -> Manifest:
    secret = bench.subject.spec.model.credentials_secret_ref
    use = gate.resources
    work = Work(
        image=bench.images.jobs,
        command=present(gate.command)(bench.subject),
        secret=secret.name if secret else None,
        jobs=bench.subject.spec.jobs,
        resources={"requests": {"cpu": use.cpu, "memory": use.memory}, "limits": {"memory": use.memory_limit}},
        files=gate.secret(bench.subject),
    )
    digest = bench.subject.digest
    revision = names.revision(bench.owner.name, digest) if digest else None
    annotations = {names.MEASURES: measures, names.URI: bench.subject.spec.model.uri}
    annotations |= {names.DIGEST: digest} if digest else {}
    return gate_job(bench.owner, gate.name, name, work, revision=revision, annotations=annotations)
