"""One decision: from what was observed to what has to be done. Pure; it reads like the life of a model.

gates → rollout → drift → clean-up → status
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from creditmodel_operator import names
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.children.cronjob import drift_cronjob
from creditmodel_operator.cleanup import obsolete_jobs
from creditmodel_operator.compare import differs, marked
from creditmodel_operator.drift import Report as DriftReport
from creditmodel_operator.drift import watch
from creditmodel_operator.evaluate import Evaluation, evaluate, find_artifact
from creditmodel_operator.events import events
from creditmodel_operator.fleet import Fleet, fleet
from creditmodel_operator.gates import Champion, Subject
from creditmodel_operator.narrow import present
from creditmodel_operator.observed import Model, Observed
from creditmodel_operator.outcome import unheard
from creditmodel_operator.plan import Action, Apply, Claim, Create, Delete, Look, Plan, annotate
from creditmodel_operator.report import Findings, invalid, status
from creditmodel_operator.retraining import Retraining, obsolete_triggers, retrain
from creditmodel_operator.revision import Owner, Revision
from creditmodel_operator.rollout import Challenge, Rollout, roll

__all__ = ["decide", "parse_spec"]


def parse_spec(model: Model) -> CreditModelSpec | str:
    """The typed spec, or what is wrong with it. The API server has validated it, by the CRD that is installed."""
    try:
        return CreditModelSpec.model_validate(model.spec)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def decide(spec: CreditModelSpec | str, observed: Observed, now: datetime) -> Plan:
    """What has to be done for one CreditModel, and when to look again if nothing happens before."""
    model = observed.model
    if model.meta.deleting:
        return Plan()
    if isinstance(spec, str):
        return _plan(model, invalid(model, spec, now), (), None)
    owner = Owner(model.meta.name, model.meta.namespace, model.meta.uid)
    revisions = fleet(owner, observed)
    evaluation = _evaluate(spec, owner, revisions, observed, now)
    rollout = roll(revisions, _challenge(spec, owner, evaluation, observed), observed, now)
    drift = _watch(spec, rollout, observed, now)
    retraining = _retrain(spec, rollout, drift, observed, now)
    found = Findings(model, spec, revisions, evaluation, rollout, drift, retraining, now)
    actions = (*_looks(observed, now), *_records(owner, found, observed))
    if not spec.suspend:
        actions = (*_work(spec, found, observed), *actions)
    return _plan(model, status(found), actions, _look_again(found))


def _evaluate(spec: CreditModelSpec, owner: Owner, fleet: Fleet, observed: Observed, now: datetime) -> Evaluation:
    promoted = frozenset(live.revision.digest for live in fleet.promoted)
    champion = _champion(spec, fleet, observed)
    standing = sorted((a for a in observed.approvals if a.stands(now)), key=lambda a: (a.meta.created, a.meta.name))
    subject = Subject(
        spec,
        digest=spec.model.digest,
        champion=champion,
        promoted=promoted,
        name=owner.name,
        namespace=owner.namespace,
        public_keys=observed.public_keys or _public_keys(spec),
        approval_required=spec.gates.approval.required or observed.approval_required,
        approvals=tuple(standing),
        approved=_approved(fleet),
    )
    return evaluate(owner, subject, observed, accepted=fleet.accepted(spec.rollout.retry_token), now=now)


def _public_keys(spec: CreditModelSpec) -> str | None:
    signature = spec.model.signature
    return signature.public_key_secret_ref.name if signature else None


def _approved(fleet: Fleet) -> dict[str, str]:
    """The approval that each promoted model took over with, as its Deployment says."""
    return {live.revision.digest: live.notes[names.APPROVAL] for live in fleet.promoted if names.APPROVAL in live.notes}


def _champion(spec: CreditModelSpec, fleet: Fleet, observed: Observed) -> Champion | None:
    """The champion's figures, as far as a challenger has to be compared with them."""
    champion = fleet.champion
    if champion is None or spec.gates.quality is None:
        return None
    live = fleet.of(champion)
    if live is not None and live.evaluation is not None:
        return Champion(champion.digest, champion.name, live.evaluation)
    artifact = find_artifact(observed, champion.digest)
    return Champion(champion.digest, champion.name, artifact.evaluation if artifact else None)


def _challenge(spec: CreditModelSpec, owner: Owner, evaluation: Evaluation, observed: Observed) -> Challenge:
    digest, artifact = evaluation.digest, evaluation.artifact
    return Challenge(
        spec=spec,
        revision=Revision.of_spec(owner, spec, digest, observed.images) if digest else None,
        passed=evaluation.passed,
        evaluation=artifact.evaluation if artifact else None,
        memory=evaluation.found[0].job,
        approval=evaluation.approval,
    )


def _watch(spec: CreditModelSpec, rollout: Rollout, observed: Observed, now: datetime) -> DriftReport | None:
    if spec.drift is None or rollout.champion is None:
        return None
    return watch(spec.drift, spec.retraining, rollout.champion.digest, observed, now)


def _retrain(
    spec: CreditModelSpec, rollout: Rollout, drift: DriftReport | None, observed: Observed, now: datetime
) -> Retraining | None:
    if drift is None or rollout.champion is None:
        return None
    return retrain(spec, rollout.champion, drift, observed, now)


def _looks(observed: Observed, now: datetime) -> Iterator[Action]:
    for job in observed.jobs:
        if unheard(job, observed.pods_of(job.meta.name), now):
            yield Look(job.meta.name, job.meta.uid)


def _records(owner: Owner, found: Findings, observed: Observed) -> Iterator[Action]:
    """What Jobs have said is written on them, because their pods may be gone at the next pass."""
    said = [(job, {names.MEASUREMENT: text}) for job, text in found.evaluation.records]
    checks = found.drift.records if found.drift else ()
    trigger = found.retraining.records if found.retraining else ()
    for job, notes in (*said, *checks, *trigger):
        yield annotate(owner.namespace, job.meta.name, job.meta.uid, notes, names.RECORD_MANAGER)
    episode = found.drift.last_episode if found.drift else None
    for item in observed.cronjobs if episode else ():
        notes = {names.LAST_EPISODE: present(episode)}
        yield annotate(owner.namespace, item.meta.name, item.meta.uid, notes, names.RECORD_MANAGER, "CronJob")


def _work(spec: CreditModelSpec, found: Findings, observed: Observed) -> Iterator[Action]:
    """What serves comes first: a Job can wait, an applicant cannot."""
    yield from found.rollout.actions
    first = found.rollout.champion is None and not observed.services
    if found.evaluation.found[0].create is not None and first:
        yield Claim("Service", names.service(found.fleet.owner.name))  # before anything is measured in vain
    for gate in found.evaluation.found:
        if gate.create is not None:
            yield Create(gate.create)
    yield from _drift_job(spec, found.rollout, observed)
    if found.retraining is not None and found.retraining.create is not None:
        yield Create(found.retraining.create)
    yield from obsolete_triggers(found.retraining.episode.id if found.retraining else None, observed)
    yield from obsolete_jobs(found.fleet, found.evaluation, observed)


def _drift_job(spec: CreditModelSpec, rollout: Rollout, observed: Observed) -> Iterator[Action]:
    if spec.drift is None or rollout.champion is None:
        yield from (Delete("CronJob", item.meta.name, item.meta.uid) for item in observed.cronjobs)
        return
    wanted = marked(drift_cronjob(rollout.champion, spec.drift, observed.images.jobs, spec.jobs))
    live = observed.children.get(("CronJob", wanted["metadata"]["name"]))
    if live is None:
        yield Claim("CronJob", wanted["metadata"]["name"])
    if differs(wanted, live):
        yield Apply(wanted)


def _plan(model: Model, new: dict[str, Any], actions: tuple[Action, ...], look_again: datetime | None) -> Plan:
    old = model.status
    if old == new:
        return Plan(actions, None, (), look_again)
    return Plan(actions, new, tuple(events(model, new)), look_again)


def _look_again(found: Findings) -> datetime | None:
    times = [item.look_again for item in found.evaluation.found]
    times += [part.look_again for part in (found.rollout, found.drift, found.retraining) if part is not None]
    return min((at for at in times if at is not None), default=None)
