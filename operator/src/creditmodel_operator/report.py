"""What was found, as status says it: conditions, phase, and the numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from creditmodel_operator import names, reasons
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.api.status import (
    ActiveRevision,
    CandidateRevision,
    CreditModelStatus,
    DriftStatus,
    EstimatedQuality,
    GateSummary,
    HistoryEntry,
    QualityStatus,
    ReplicaStatus,
    TrafficShare,
)
from creditmodel_operator.conditions import TYPES, Aspect, dated, truth
from creditmodel_operator.drift import Finding
from creditmodel_operator.drift import Report as DriftReport
from creditmodel_operator.evaluate import Evaluation, Found
from creditmodel_operator.fleet import Fleet, Live
from creditmodel_operator.gates import GATES, Verdict
from creditmodel_operator.narrow import present
from creditmodel_operator.observed import Model
from creditmodel_operator.retraining import Retraining
from creditmodel_operator.revision import Revision
from creditmodel_operator.rollout import Rollout, Stage

__all__ = ["Findings", "invalid", "refused", "status"]

State = Literal["Active", "Warm", "AtZero"]
"""Of a revision in the history."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that one pass found out."""

    model: Model
    spec: CreditModelSpec
    fleet: Fleet
    evaluation: Evaluation
    rollout: Rollout
    drift: DriftReport | None
    """None where nothing is checked."""
    retraining: Retraining | None
    """None while no episode is open."""
    now: datetime

    @property
    def champion(self) -> Live | None:
        """The champion's Deployment."""
        return self.fleet.of(self.rollout.champion)

    @property
    def available(self) -> int:
        """Pods of the champion that take requests."""
        return self.champion.deployment.available if self.champion else 0

    @property
    def healthy(self) -> bool:
        """The champion has the pods that it should have at least, all of the newest template."""
        live, least = self.champion, self.spec.serving.replicas.min
        if live is None or not self.rollout.settled:
            return False
        seen = live.deployment
        newest = seen.observed_generation >= seen.meta.generation and seen.updated == seen.total
        return newest and seen.available >= least

    @property
    def overdue(self) -> bool:
        """The champion is not brought to what spec asks for: its Deployment does not expect it any more."""
        live = self.champion
        if live is None or self.rollout.stage is not Stage.CHAMPION or self.healthy or not self.rollout.settled:
            return False
        return live.deployment.overdue and live.deployment.observed_generation >= live.deployment.meta.generation

    @property
    def stalled(self) -> Found | Stage | None:
        """What keeps the rollout from going on without a change from outside."""
        blocking = self.evaluation.blocking
        if blocking is not None:
            return blocking if blocking.final else None
        return Stage.TIMED_OUT if self.rollout.stage is Stage.TIMED_OUT else None


def status(found: Findings) -> dict[str, Any]:
    """The whole status, with the transition times of what did not change."""
    generation = found.model.meta.generation
    old = found.model.status.get("conditions") or ()
    document = CreditModelStatus(
        observed_generation=generation,
        phase=_phase(found),
        active=_active(found),
        traffic=[TrafficShare(revision=s.revision.name, weight=s.weight) for s in found.rollout.traffic],
        candidate=_candidate(found),
        gates=[item.status() for item in found.evaluation.found],
        replicas=_replicas(found),
        drift=_drift(found),
        quality=_quality(found),
        retraining=found.retraining.status() if found.retraining else None,
        history=_history(found),
    ).wire()
    return document | {"conditions": dated(_aspects(found), old, generation, found.now)}


def invalid(model: Model, problem: str, now: datetime) -> dict[str, Any]:
    """The status of an object whose spec cannot be read."""
    text = f"spec cannot be read, update the CRD and the operator together: {problem}"
    aspects = {name: Aspect(name, "Unknown", reasons.INVALID_SPEC, text) for name in TYPES}
    aspects["Ready"] = Aspect("Ready", "False", reasons.INVALID_SPEC, text)
    aspects["Stalled"] = Aspect("Stalled", "True", reasons.INVALID_SPEC, text)
    aspects["Reconciling"] = Aspect("Reconciling", "False", reasons.INVALID_SPEC, text)
    generation = model.meta.generation
    conditions = dated(aspects.values(), model.status.get("conditions") or (), generation, now)
    kept = {key: value for key, value in model.status.items() if key not in ("conditions", "phase")}
    return kept | {"observedGeneration": generation, "phase": "Failed", "conditions": conditions}


# -- conditions


def _aspects(found: Findings) -> Iterator[Aspect]:
    yield _ready(found)
    yield _reconciling(found)
    yield _stalled(found)
    yield from (_gate(item) for item in found.evaluation.found)
    yield _available(found)
    yield from _watching(found)


def _ready(found: Findings) -> Aspect:
    if found.rollout.stage is Stage.CHAMPION and found.evaluation.passed and found.healthy:
        return Aspect("Ready", "True", reasons.SERVING, f"{_champion_name(found)} is gated, rolled and serving")
    reason, text = _why_not(found)
    return Aspect("Ready", "False", reason, text)


def _why_not(found: Findings) -> tuple[str, str]:
    """Why what spec names is not served, the most lasting cause first."""
    stalled, blocking = _stall(found), found.evaluation.blocking
    if stalled is not None:
        return stalled
    if found.spec.suspend and found.rollout.stage is not Stage.CHAMPION:
        return reasons.SUSPENDED, "spec.suspend is true: no gate and no rollout is started"
    if blocking is not None and blocking.judgement.reason == reasons.AWAITING_APPROVAL:
        return reasons.AWAITING_APPROVAL, blocking.judgement.message
    if blocking is not None:
        return reasons.GATING, f"{blocking.gate.name}: {blocking.judgement.message}"
    if found.rollout.stage is Stage.STARTING:
        return reasons.ROLLING_OUT, found.rollout.message
    if found.champion is None or not found.rollout.settled:
        return reasons.ROLLING_OUT, f"{_champion_name(found)} is being brought to what spec asks for"
    enough = found.available >= found.spec.serving.replicas.min
    return reasons.ROLLING_OUT if enough else reasons.DEGRADED, f"{_pods(found)}{found.rollout.trouble}"


def _stall(found: Findings) -> tuple[str, str] | None:
    stalled = found.stalled
    if isinstance(stalled, Found):
        reason = {
            Verdict.FAILED: reasons.GATE_FAILED,
            Verdict.INCONCLUSIVE: reasons.BENCHMARK_INCONCLUSIVE,
        }.get(stalled.judgement.verdict, reasons.GATE_ERROR)
        return reason, f"{stalled.gate.name}: {stalled.judgement.message}"
    if stalled is Stage.TIMED_OUT:
        return reasons.PROGRESS_DEADLINE_EXCEEDED, found.rollout.message
    if found.overdue:
        return (
            reasons.PROGRESS_DEADLINE_EXCEEDED,
            f"{_pods(found)}; no progress within the deadline{found.rollout.trouble}",
        )
    return None


def _pods(found: Findings) -> str:
    """How far the champion's pods are."""
    seen, least = present(found.champion).deployment, found.spec.serving.replicas.min
    if seen.available >= least:
        return f"{_champion_name(found)}: {seen.updated} of {seen.total} pods are of the newest template"
    return f"{_champion_name(found)}: {seen.available} pods available, at least {least}"


def _champion_name(found: Findings) -> str:
    return found.rollout.champion.name if found.rollout.champion else "the champion"


def _reconciling(found: Findings) -> Aspect:
    ready = _ready(found)
    if ready.status == "True":
        return Aspect("Reconciling", "False", reasons.SETTLED, "nothing is left to do")
    if _stall(found) is not None:
        return Aspect("Reconciling", "False", ready.reason, "nothing more is tried; see Stalled")
    if ready.reason in (reasons.SUSPENDED, reasons.AWAITING_APPROVAL):
        return Aspect("Reconciling", "False", ready.reason, ready.message)
    return Aspect("Reconciling", "True", ready.reason, ready.message)


def _stalled(found: Findings) -> Aspect:
    stalled = _stall(found)
    if stalled is None:
        return Aspect("Stalled", "False", reasons.PROGRESSING, "nothing stands in the way")
    return Aspect("Stalled", "True", *stalled)


def _gate(found: Found) -> Aspect:
    judgement = found.judgement
    value = {Verdict.PASSED: True, Verdict.FAILED: False, Verdict.ERROR: False}.get(judgement.verdict)
    if judgement.verdict is Verdict.INCONCLUSIVE and found.final:
        value = False
    return Aspect(found.gate.condition, truth(value), judgement.reason, judgement.message)


def _available(found: Findings) -> Aspect:
    if found.rollout.champion is None:
        return Aspect("Available", "False", reasons.NO_CHAMPION, "no model has passed its gates yet")
    if found.available == 0:
        text = f"{_champion_name(found)} has no ready pod{found.rollout.trouble}"
        return Aspect("Available", "False", reasons.UNAVAILABLE, text)
    return Aspect("Available", "True", reasons.SERVING, f"{_champion_name(found)} is serving")


def _watching(found: Findings) -> Iterator[Aspect]:
    if found.spec.drift is None:
        yield Aspect("DriftDetected", "Unknown", reasons.NOT_CONFIGURED, "spec.drift is not set")
        yield Aspect("QualityDegraded", "Unknown", reasons.NOT_CONFIGURED, "spec.drift is not set")
        yield Aspect("RetrainingRequired", "Unknown", reasons.NO_TRIGGER, "nothing watches the model: set spec.drift")
        return
    yield _drift_detected(found.drift)
    yield _quality_degraded(found)
    yield _retraining_required(found)


def _drift_detected(drift: DriftReport | None) -> Aspect:
    newest = drift.newest if drift else None
    if newest is None:
        return Aspect("DriftDetected", "Unknown", reasons.NO_RESULT, "no check of this champion has ended yet")
    reason = {
        Finding.DRIFT: reasons.DRIFT,
        Finding.NO_DRIFT: reasons.NO_DRIFT,
        Finding.INCONCLUSIVE: reasons.INCONCLUSIVE,
        Finding.ERROR: newest.reason,
    }[newest.finding]
    value = {Finding.DRIFT: True, Finding.NO_DRIFT: False}.get(newest.finding)
    return Aspect("DriftDetected", truth(value), reason, newest.message)


def _quality_degraded(found: Findings) -> Aspect:
    limits = found.spec.drift.labels if found.spec.drift else None
    if limits is None or limits.min_auc is None:
        return Aspect("QualityDegraded", "Unknown", reasons.NOT_CONFIGURED, "spec.drift.labels.minAUC is not set")
    newest = found.drift.newest if found.drift else None
    if newest is None:
        return Aspect("QualityDegraded", "Unknown", reasons.NO_RESULT, "no check of this champion has ended yet")
    return Aspect("QualityDegraded", truth(newest.decay.value), newest.decay.reason, newest.decay.message)


def _retraining_required(found: Findings) -> Aspect:
    needed = present(found.spec.drift).consecutive_breaches
    if found.retraining is None or found.drift is None:
        return _no_episode(found.drift, needed)
    newest, episode = found.drift.newest, found.retraining.episode
    decayed = newest is not None and newest.decay.value and "Quality" in found.spec.retraining.triggers
    text = f"{needed} checks in a row breached, the first of them {episode.first_breach}; episode {episode.id}"
    trigger = found.retraining.trigger
    told = f"{text}; {trigger.message}" if trigger else text
    return Aspect("RetrainingRequired", "True", reasons.DECAY if decayed else reasons.BREACHES, told)


def _no_episode(drift: DriftReport | None, needed: int) -> Aspect:
    counted = drift.streak.breaches if drift else 0
    text = f"{counted} breaches in a row, {needed} are needed"
    if drift is not None and drift.cooling_until is not None:
        began, until = drift.streak.last_opened, _seconds(drift.cooling_until)
        text = f"{text}; the last episode began at {began}, and the cooldown lasts until {until}"
        return Aspect("RetrainingRequired", "False", reasons.COOLDOWN, text)
    return Aspect("RetrainingRequired", "False", reasons.CLEAN, text)


# -- the rest of status


def _phase(found: Findings) -> str:
    ready = _ready(found)
    if found.spec.suspend:
        return "Suspended"
    if ready.status == "True":
        return "Ready"
    match ready.reason:
        case reasons.GATE_FAILED | reasons.BENCHMARK_INCONCLUSIVE:
            return "Rejected"
        case reasons.GATE_ERROR | reasons.PROGRESS_DEADLINE_EXCEEDED:
            return "Failed"
        case reasons.GATING:
            blocking = found.evaluation.blocking
            return "Verifying" if blocking is not None and blocking.gate is GATES[0] else "Gating"
        case _:
            return ready.reason


def _active(found: Findings) -> ActiveRevision | None:
    champion, owner = found.rollout.champion, found.fleet.owner
    if champion is None:
        return None
    return ActiveRevision(
        revision=champion.name,
        uri=champion.uri,
        digest=champion.digest,
        since=_seconds(found.rollout.since),
        endpoint=f"http://{names.service(owner.name)}.{owner.namespace}.svc",
    )


def _candidate(found: Findings) -> CandidateRevision | None:
    if found.rollout.stage is Stage.CHAMPION:
        return None
    digest = found.evaluation.digest
    return CandidateRevision(
        revision=names.revision(found.fleet.owner.name, digest) if digest else None,
        uri=found.spec.model.uri,
        digest=digest,
        gates=[
            GateSummary(name=item.gate.name, verdict=item.judgement.verdict.value) for item in found.evaluation.found
        ],
    )


def _replicas(found: Findings) -> ReplicaStatus | None:
    if found.champion is None:
        return None
    seen = found.champion.deployment
    return ReplicaStatus(desired=seen.desired, ready=seen.ready, updated=seen.updated)


def _drift(found: Findings) -> DriftStatus | None:
    newest = found.drift.newest if found.drift else None
    if newest is None:
        return None
    seen = newest.measurement
    base = DriftStatus(
        last_check_time=present(_seconds(newest.at)), job=newest.job.meta.name, verdict=newest.finding.value
    )
    if seen is None:
        return base
    update = {
        "rows": seen.rows,
        "psi_max": seen.psi_max,
        "psi_score": seen.psi_score,
        "drifted_share": seen.drifted_share,
        "drifted_features": seen.drifted_features[:20],
        "estimated_quality": seen.estimated and EstimatedQuality.model_validate(seen.estimated.model_dump()),
        "report": seen.report.html,
    }
    return base.model_copy(update=update)


def _quality(found: Findings) -> QualityStatus | None:
    newest = found.drift.newest if found.drift else None
    quality = newest.measurement.quality if newest and newest.measurement else None
    return None if quality is None else QualityStatus.model_validate(quality.model_dump())


def _history(found: Findings) -> list[HistoryEntry]:
    """The champion, also one that takes over in this very pass, and the former ones, the newest first."""
    champion = found.rollout.champion
    entries = []
    if champion is not None and found.rollout.since is not None:
        given = found.evaluation.approval if found.rollout.stage is Stage.CHAMPION else None
        entries.append(_entry(champion, found.rollout.since, "Active", given or _approval(found.champion)))
    former = (live for live in found.fleet.promoted if champion is None or live.name != champion.name)
    entries += [_entry(live.revision, live.active_since, _state(live), _approval(live)) for live in former]
    return entries


def _entry(revision: Revision, since: datetime | None, state: State, approval: str | None) -> HistoryEntry:
    return HistoryEntry(
        revision=revision.name,
        uri=revision.uri,
        digest=revision.digest,
        active_since=present(_seconds(since)),
        approval=approval,
        state=state,
    )


def _state(former: Live) -> State:
    return "Warm" if former.deployment.desired > 0 else "AtZero"


def _approval(live: Live | None) -> str | None:
    return live.notes.get(names.APPROVAL) if live else None


def _seconds(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


_OF_TRAFFIC = ("active", "candidate", "history", "replicas", "traffic")


def refused(
    model: Model, planned: Mapping[str, Any], problem: str, now: datetime, *, moved: bool = True, taken: bool = False
) -> dict[str, Any]:
    """The status when what has to be written is refused: what was found, without what was not done.

    `moved`: the Service is as planned, so that requests go where the plan says. `taken`: a name is somebody else's,
    which only a person can mend.
    """
    old = model.status.get("conditions") or ()
    conditions = {c["type"]: c for c in planned.get("conditions") or ()}
    conditions |= {c["type"]: c for c in old if c["type"] == "Available" and not moved}
    dates = dated(_refused(conditions.values(), problem, taken=taken), old, model.meta.generation, now)
    found = dict(planned)
    if not moved:
        found = {key: value for key, value in planned.items() if key not in _OF_TRAFFIC}
        found |= {key: model.status[key] for key in _OF_TRAFFIC if key in model.status}
    return found | {"observedGeneration": model.meta.generation, "phase": "Degraded", "conditions": dates}


def _refused(conditions: Iterable[Mapping[str, Any]], problem: str, *, taken: bool) -> Iterator[Aspect]:
    reason = reasons.NAME_TAKEN if taken else reasons.APPLY_REFUSED
    yield from (Aspect(name, "Unknown", reason, problem) for name in TYPES)
    yield from (Aspect(c["type"], c["status"], c["reason"], c["message"]) for c in conditions)
    yield Aspect("Ready", "False", reason, problem)
    yield Aspect("Reconciling", truth(not taken), reason, problem)
    if taken:
        yield Aspect("Stalled", "True", reason, problem)
