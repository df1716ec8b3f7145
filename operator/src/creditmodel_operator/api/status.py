"""What the operator reports.

Nothing here is ever read back to decide: a deleted status is written again from what is observed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from creditmodel_operator.api.base import Part

__all__ = [
    "ActiveRevision",
    "CalibrationStatus",
    "Candidate",
    "CandidateRevision",
    "Condition",
    "CreditModelStatus",
    "DriftStatus",
    "EstimatedQuality",
    "Evaluated",
    "Figures",
    "GateResult",
    "GateSummary",
    "HistoryEntry",
    "Number",
    "QualityStatus",
    "RetrainingStatus",
    "TrafficShare",
    "Trigger",
]

Tristate = Literal["True", "False", "Unknown"]
Verdict = Literal["Passed", "Failed", "Error", "Inconclusive", "Running", "Waiting", "NotConfigured"]


class Condition(Part):
    """One aspect of the state, after the conventions of Kubernetes' own conditions."""

    type: str = Field(max_length=316, description="Name of the condition.")
    status: Tristate = Field(description="True, False or Unknown.")
    observed_generation: int = Field(description="The generation of spec that this was found for.")
    last_transition_time: str = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    reason: str = Field(max_length=1024, description="Why, as one documented CamelCase word.")
    message: str = Field(max_length=32768, description="Why, as a sentence with the object, the number and the limit.")


class Number(Part):
    """One measured number beside its limit."""

    name: str = Field(description="What was measured.")
    value: float = Field(description="The measured value.")
    limit: float | None = Field(default=None, description="The limit from spec, where there is one.")


class GateResult(Part):
    """One gate's verdict on the model that spec names."""

    name: str = Field(description="artifact, parity, benchmark, quality or approval.")
    verdict: Verdict = Field(description="Passed, Failed, Error, Inconclusive, Running, Waiting or NotConfigured.")
    reason: str = Field(description="Why, as one documented CamelCase word.")
    message: str = Field(description="Why, as a sentence with the number and the limit.")
    summary: str | None = Field(default=None, description="The figure that kubectl get prints.")
    numbers: list[Number] = Field(default=[], description="What was measured, beside its limits.")
    job: str | None = Field(default=None, description="The Job that measured, or is measuring.")
    attempts: int | None = Field(default=None, description="How many Jobs were started for this measurement.")
    measured_at: str | None = Field(
        default=None, description="When the Job ended.", json_schema_extra={"format": "date-time"}
    )


class GateSummary(Part):
    """One gate's verdict in a word."""

    name: str = Field(description="artifact, parity, benchmark, quality or approval.")
    verdict: Verdict = Field(description="Passed, Failed, Error, Inconclusive, Running, Waiting or NotConfigured.")


class ActiveRevision(Part):
    """The champion: the revision that the Service selects."""

    revision: str = Field(description="Name of the revision, and of its Deployment.")
    uri: str = Field(description="Where its bundle was fetched from.")
    digest: str = Field(description="Its identity.")
    since: str | None = Field(default=None, description="When it took over.", json_schema_extra={"format": "date-time"})
    endpoint: str = Field(description="Base URL of the Service, from within the cluster.")


class TrafficShare(Part):
    """A revision that takes requests."""

    revision: str = Field(description="Name of the revision.")
    weight: int = Field(description="How many requests in a hundred.")


class CandidateRevision(Part):
    """The challenger: what spec names, while something else, or nothing, is serving."""

    revision: str | None = Field(default=None, description="Name of the revision, once the digest is known.")
    uri: str = Field(description="Where its bundle is fetched from.")
    digest: str | None = Field(default=None, description="Its identity, once known.")
    gates: list[GateSummary] = Field(default=[], description="How far it is, gate by gate.")


class ReplicaStatus(Part):
    """The champion's pods."""

    desired: int = Field(description="Pods that the Deployment asks for.")
    ready: int = Field(description="Pods that have reproduced the golden rows and take requests.")
    updated: int = Field(description="Pods with the newest pod template.")


class _Discrimination(Part):
    rows: int = Field(description="Rows that it was computed on.")
    auc: float | None = Field(default=None, description="Area under the ROC curve.")
    ks: float | None = Field(default=None, description="Kolmogorov-Smirnov statistic.")
    gini: float | None = Field(default=None, description="Gini coefficient, 2·AUC − 1.")
    brier: float | None = Field(default=None, description="Brier score.")


class EstimatedQuality(_Discrimination):
    """Quality by the probabilities alone."""

    bad_rate: float = Field(description="Share of bad ones to expect.")


class DriftStatus(Part):
    """The newest drift check of the champion."""

    last_check_time: str = Field(description="When the Job ended.", json_schema_extra={"format": "date-time"})
    job: str = Field(description="The Job.")
    verdict: Literal["Drift", "NoDrift", "Inconclusive", "Error"] = Field(
        description="Drift, NoDrift, Inconclusive (too few rows) or Error, at the limits that spec has now."
    )
    rows: int | None = Field(default=None, description="Rows of current data in the window.")
    psi_max: float | None = Field(default=None, description="Largest PSI over the features.")
    psi_score: float | None = Field(default=None, description="PSI of the score.")
    drifted_share: float | None = Field(default=None, description="Share of the features that drifted.")
    drifted_features: list[str] = Field(default=[], description="Features that drifted, worst first.")
    estimated_quality: EstimatedQuality | None = Field(
        default=None,
        description="The quality to expect of the window's applicants, whose outcomes are not known, if the model's "
        "probabilities are right. It cannot show that the model has become wrong, and nothing is decided by it; "
        "realised quality is status.quality.",
    )
    report: str | None = Field(default=None, description="URI of the HTML report.")


class CalibrationStatus(Part):
    """Probabilities of default beside what became of the applicants, over all and by band of probability."""

    mean_probability: float = Field(description="Mean probability of default that the model gave.")
    bad_rate: float = Field(description="Share that went bad.")
    bands: int = Field(description="Bands of probability, of about as many applicants each.")
    too_low: int = Field(description="Bands whose probabilities are too low (Jeffreys test, 5 % over all bands).")
    too_high: int = Field(description="Bands whose probabilities are too high, likewise.")


class QualityStatus(_Discrimination):
    """Realised quality on the matured, labelled rows of the newest drift check."""

    matured: int | None = Field(
        default=None,
        description="Scores old enough for their outcome to be known, with a label or without: far above rows where "
        "labels are late or missing.",
    )
    calibration: CalibrationStatus | None = Field(
        default=None, description="Whether the probabilities were right. The report has it band by band."
    )


class Figures(Part):
    """Discrimination on the hold-out."""

    auc: float = Field(description="Area under the ROC curve.")
    ks: float = Field(description="Kolmogorov-Smirnov statistic.")
    gini: float = Field(description="Gini coefficient, 2·AUC − 1.")
    brier: float = Field(description="Brier score.")


class Evaluated(Part):
    """Champion and challenger on the same recent applicants, from whom neither has learned."""

    rows: int = Field(description="Rows of the hold-out.")
    holdout_sha256: str = Field(alias="holdoutSHA256", description="Which rows they were.")
    champion: Figures = Field(description="The model that serves.")
    challenger: Figures = Field(description="The retrained model.")


class Candidate(Part):
    """A retrained model on offer."""

    uri: str = Field(description="Where its bundle lies: the new spec.model.uri.")
    digest: str = Field(description="Its identity: the new spec.model.digest.")
    episode: str = Field(description="The episode that it was trained for.")
    sign_first: str | None = Field(
        default=None,
        description="Command to be run before spec names it, where the private key is: nothing in the cluster can "
        "sign, and unsigned it would be refused. Left out where no signature is asked for.",
    )
    evaluation: Evaluated = Field(description="How good it is beside the champion.")


class Trigger(Part):
    """The one Job of an episode."""

    kind: Literal["training", "signal"] = Field(description="training trains a challenger, signal calls the webhook.")
    state: Literal["Waiting", "Running", "Succeeded", "Failed"] = Field(
        description="Waiting (suspended), Running, Succeeded or Failed."
    )
    reason: str = Field(description="Why, as one CamelCase word.")
    message: str = Field(description="Why, as a sentence.")
    job: str | None = Field(default=None, description="Name of the Job.")
    ended_at: str | None = Field(
        default=None, description="When the Job ended.", json_schema_extra={"format": "date-time"}
    )


class RetrainingStatus(Part):
    """The episode of drift or decay that asks for retraining."""

    episode: str = Field(description="Deterministic id of the episode: the key for whoever must act once only.")
    digest: str = Field(description="The model that needs retraining.")
    first_breach: str = Field(description="The drift Job with which the episode began.")
    since: str | None = Field(
        default=None, description="When the episode began.", json_schema_extra={"format": "date-time"}
    )
    trigger: Trigger | None = Field(
        default=None, description="The one Job that the episode started. Left out where the condition is the signal."
    )
    candidate: Candidate | None = Field(
        default=None, description="The model that the Job trained. Nothing puts it into spec but whoever owns spec."
    )


class HistoryEntry(Part):
    """A revision that was promoted and still has its Deployment."""

    revision: str = Field(description="Name of the revision.")
    uri: str = Field(description="Where its bundle was fetched from.")
    digest: str = Field(description="Its identity.")
    active_since: str = Field(description="When it last took over.", json_schema_extra={"format": "date-time"})
    approval: str | None = Field(
        default=None, description="The ModelApproval with which it took over: its name, who decided, and why."
    )
    state: Literal["Active", "Warm", "AtZero"] = Field(
        description="Active takes the requests, Warm could at once, AtZero has to be started first."
    )


class CreditModelStatus(Part):
    """What was found and done."""

    observed_generation: int | None = Field(
        default=None, description="The generation of spec that this status is about."
    )
    phase: str | None = Field(
        default=None, description="One word for people. Programs read the conditions; the operator never reads it."
    )
    conditions: list[Condition] = Field(
        default=[],
        description="All of them are always present. Ready: the model that spec names is gated, rolled and healthy. "
        "Available: a champion is serving.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    active: ActiveRevision | None = Field(default=None, description="The champion.")
    traffic: list[TrafficShare] = Field(
        default=[],
        description="Which revisions take the requests, the champion first. One revision takes all of them so far.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["revision"]},
    )
    candidate: CandidateRevision | None = Field(default=None, description="The challenger.")
    gates: list[GateResult] = Field(
        default=[],
        description="Numbers, limits and verdicts for the model that spec names.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    replicas: ReplicaStatus | None = Field(default=None, description="The champion's pods.")
    drift: DriftStatus | None = Field(default=None, description="The newest drift check of the champion.")
    quality: QualityStatus | None = Field(default=None, description="Realised quality, where labels are known.")
    retraining: RetrainingStatus | None = Field(default=None, description="The episode that asks for retraining.")
    history: list[HistoryEntry] = Field(default=[], description="Promoted revisions, newest first.")
