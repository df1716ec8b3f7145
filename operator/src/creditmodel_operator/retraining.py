"""Retraining: what an open episode starts, and what became of it.

An episode starts one Job and no more: it trains (policy Job) or tells somebody who does (policy Signal with a webhook).
The Job's name has the episode's id, so whether it was started is an observation. It retries by itself, within its
back-off; the operator starts no second one. Whoever deletes it asks for another.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from creditmodel_bundle.measurement import Measurement, Training
from creditmodel_bundle.measurement import Signal as Answer
from creditmodel_operator import names, reasons
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.api.status import Candidate, Evaluated, Figures, RetrainingStatus, Trigger
from creditmodel_operator.children.common import Manifest
from creditmodel_operator.children.retraining import SIGNAL, TRAINING, signal_job, training_job
from creditmodel_operator.drift import Report
from creditmodel_operator.narrow import expect, present
from creditmodel_operator.observed import Job, Model, Observed
from creditmodel_operator.outcome import Errored, Measured, Outcome, Running, outcome, record
from creditmodel_operator.plan import Delete, Event
from creditmodel_operator.revision import Revision

__all__ = ["Episode", "Retraining", "events", "obsolete_triggers", "retrain"]

KEPT = 3
"""Ended training and signal Jobs of earlier episodes that stay to be looked at."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An open episode of drift or decay."""

    id: str
    champion: Revision
    first_breach: str
    opened: str | None


@dataclass(frozen=True, slots=True)
class Retraining:
    """What the open episode has come to."""

    episode: Episode
    trigger: Trigger | None = None
    """None where the condition is the whole signal."""
    create: Manifest | None = None
    records: tuple[tuple[Job, dict[str, str]], ...] = ()
    look_again: datetime | None = None
    candidate: Candidate | None = None

    def status(self) -> RetrainingStatus:
        """The episode as status shows it."""
        return RetrainingStatus(
            episode=self.episode.id,
            digest=self.episode.champion.digest,
            first_breach=self.episode.first_breach,
            since=self.episode.opened,
            trigger=self.trigger,
            candidate=self.candidate,
        )


def retrain(
    spec: CreditModelSpec, champion: Revision, drift: Report, observed: Observed, now: datetime
) -> Retraining | None:
    """What has to be done about the open episode of the champion, and what was; None where none is open."""
    first = drift.streak.episode
    if first is None:
        return None
    name = names.episode(champion.owner.uid, champion.digest, first)
    opened = drift.streak.last_opened if drift.streak.last == first else None
    episode = Episode(name, champion, drift.streak.episode_name or first, opened)
    wanted = _trigger(spec, episode, drift, observed)
    if wanted is None:
        return Retraining(episode)
    kind = wanted["metadata"]["labels"][names.COMPONENT]
    job = next((job for job in observed.jobs if job.meta.name == wanted["metadata"]["name"]), None)
    if job is not None:
        return _offered(_followed(episode, kind, job, observed, now), spec, observed)
    if spec.suspend:
        trigger = Trigger(kind=kind, state="Waiting", reason=reasons.SUSPENDED, message="spec.suspend is true")
        return Retraining(episode, trigger)
    return Retraining(episode, _running(kind, wanted["metadata"]["name"]), create=wanted)


def _trigger(spec: CreditModelSpec, episode: Episode, drift: Report, observed: Observed) -> Manifest | None:
    """The Job that this episode is to start, as spec has it now."""
    chosen = spec.retraining
    if chosen.policy == "Job":
        return training_job(spec, episode.champion, episode.id, observed.images.jobs)
    if chosen.webhook is not None:
        return signal_job(spec, episode.champion, episode.id, _event(episode, drift), observed.images.jobs)
    return None


def _event(episode: Episode, drift: Report) -> dict[str, object]:
    """A CloudEvents 1.0 event in its JSON format. The Job keeps it as it was; its id stays."""
    owner = episode.champion.owner
    newest = present(drift.newest)
    seen = newest.measurement
    evidence = {
        "check": newest.job.meta.name,
        "drift": newest.message,
        "psi_max": seen.psi_max if seen else None,
        "drifted_share": seen.drifted_share if seen else None,
        "drifted_features": seen.drifted_features[:20] if seen else [],
        "quality": seen.quality.model_dump() if seen and seen.quality else None,
        "decay": newest.decay.message if newest.decay.value else None,
        "report": seen.report.html if seen else None,
    }
    data = {
        "namespace": owner.namespace,
        "name": owner.name,
        "episode": episode.id,
        "revision": episode.champion.name,
        "digest": episode.champion.digest,
        "uri": episode.champion.uri,
        "first_breach": episode.first_breach,
        "evidence": evidence,
    }
    return {
        "specversion": "1.0",
        "id": episode.id,
        "source": f"/apis/creditmodel.dev/namespaces/{owner.namespace}/creditmodels/{owner.name}",
        "type": "dev.creditmodel.retraining.required",
        "subject": f"{owner.namespace}/{owner.name}",
        "datacontenttype": "application/json",
        **({"time": episode.opened} if episode.opened else {}),
        "data": data,
    }


def _followed(episode: Episode, kind: str, job: Job, observed: Observed, now: datetime) -> Retraining:
    """What became of the Job. Until it has ended it is running, whatever became of its pods: they are tried again."""
    pods = observed.pods_of(job.meta.name)
    ended = outcome(job, pods, kind, episode.champion.digest, now)
    text = record(job, ended, pods, kind)
    records = ((job, {names.MEASUREMENT: text}),) if text is not None else ()
    found = Retraining(episode, _told(kind, job, ended), records=records)
    if isinstance(ended, Running):
        return replace(found, look_again=ended.look_again)
    if isinstance(ended, Measured) and isinstance(ended.measurement, Training):
        return replace(found, candidate=_candidate(episode, ended.measurement))
    return found


def _told(kind: str, job: Job, ended: Outcome) -> Trigger:
    name = job.meta.name
    if job.finished is None or isinstance(ended, Running):
        trouble = "" if isinstance(ended, Measured) or ended.reason == reasons.RUNNING else f": {ended.message}"
        reason = reasons.RUNNING if isinstance(ended, Measured) else ended.reason
        return _running(kind, name).model_copy(update={"reason": reason, "message": f"Job {name} is running{trouble}"})
    at = ended.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(ended, Errored):
        text = f"Job {name} failed: {ended.message}; nothing more is tried, delete the Job to start it again"
        return Trigger(kind=kind, state="Failed", reason=ended.reason, message=text, job=name, ended_at=at)
    text = _success(name, ended.measurement)
    return Trigger(kind=kind, state="Succeeded", reason=reasons.PASSED, message=text, job=name, ended_at=at)


def _running(kind: str, name: str) -> Trigger:
    return Trigger(kind=kind, state="Running", reason=reasons.RUNNING, message=f"Job {name} is running", job=name)


def _success(name: str, said: Measurement) -> str:
    if isinstance(said, Training):
        beside = f"AUC {said.challenger.auc:.4f}, the champion's {said.champion.auc:.4f}"
        return f"Job {name} trained {said.candidate}: {beside} on the same {said.holdout.rows:,} recent rows"
    answer = expect(Answer, said)
    return f"Job {name} delivered the event at attempt {answer.attempts}: HTTP {answer.status}"


def _candidate(episode: Episode, said: Training) -> Candidate:
    evaluation = Evaluated(
        rows=said.holdout.rows,
        holdout_sha256=said.holdout.sha256,
        champion=Figures.model_validate(said.champion.model_dump()),
        challenger=Figures.model_validate(said.challenger.model_dump()),
    )
    return Candidate(uri=said.uri, digest=said.candidate, episode=episode.id, evaluation=evaluation)


def _offered(found: Retraining, spec: CreditModelSpec, observed: Observed) -> Retraining:
    """With the command that signs the candidate, where an unsigned one would be refused."""
    offer = found.candidate
    if offer is None or not (observed.public_keys or spec.model.signature):
        return found
    command = f"creditmodel-bundle sign {shlex.quote(offer.uri)} --key model-signing.pem"
    return replace(found, candidate=offer.model_copy(update={"sign_first": command}))


def events(old: Mapping[str, Any], new: Mapping[str, Any], model: Model) -> Iterator[Event]:
    """What happened between two `status.retraining` that a person would want to hear of."""
    before, after = old.get("trigger") or {}, new.get("trigger") or {}
    state = after.get("state")
    if (before.get("job"), before.get("state")) != (after.get("job"), state):
        if state == "Running":
            yield Event("RetrainingStarted", after["message"])
        if state == "Failed":
            yield Event("RetrainingFailed", after["message"], warning=True)
        if state == "Succeeded" and after["kind"] == SIGNAL:
            yield Event("RetrainingSignalled", after["message"])
    offered = new.get("candidate")
    if offered and offered["digest"] != (old.get("candidate") or {}).get("digest"):
        yield Event("RetrainingCandidate", _offer(offered, model))


def _offer(candidate: Mapping[str, Any], model: Model) -> str:
    """The exact change of spec, for whoever owns it."""
    patch = json.dumps({"spec": {"model": {key: candidate[key] for key in ("uri", "digest")}}}, separators=(",", ":"))
    figures, command = candidate["evaluation"], candidate.get("signFirst")
    sign = f"It has to be signed first, where the private key is: {command} . " if command else ""
    return (
        f"AUC {figures['challenger']['auc']:.4f}, champion {figures['champion']['auc']:.4f} on the same "
        f"{figures['rows']:,} rows. {sign}To put it forward: "
        f"kubectl patch creditmodel {model.meta.name} -n {model.meta.namespace} --type merge -p '{patch}'"
    )


def obsolete_triggers(current: str | None, observed: Observed) -> tuple[Delete, ...]:
    """Jobs of other episodes than the current one: those that run are stopped, of those that ended the last stay."""
    jobs = [job for job in observed.jobs if job.meta.labels.get(names.COMPONENT) in (TRAINING, SIGNAL)]
    others = [job for job in jobs if job.meta.annotations.get(names.EPISODE) != current and not job.meta.deleting]
    ended = sorted((job for job in others if job.finished), key=lambda job: (job.meta.created, job.meta.name))
    gone = [job for job in others if not job.finished] + ended[: max(0, len(ended) - KEPT)]
    return tuple(Delete("Job", job.meta.name, job.meta.uid) for job in gone)
