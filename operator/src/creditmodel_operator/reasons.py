"""Every reason that a condition can carry. A reason is part of the interface: scripts compare it.

A reason that a Job itself gives (`Unreachable`, `Corrupt`, `Invalid`, …) is passed on as it is.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "APPLY_REFUSED",
    "AT_LIMIT",
    "AWAITING_APPROVAL",
    "BENCHMARK_INCONCLUSIVE",
    "BREACHES",
    "CLEAN",
    "COOLDOWN",
    "DEADLINE_EXCEEDED",
    "DECAY",
    "DEGRADED",
    "DRIFT",
    "EVICTED",
    "GATE_ERROR",
    "GATE_FAILED",
    "GATING",
    "IMAGE_PULL_FAILED",
    "INCONCLUSIVE",
    "INVALID_SPEC",
    "LIMIT_EXCEEDED",
    "MALFORMED_MEASUREMENT",
    "NAME_TAKEN",
    "NOT_CONFIGURED",
    "NOT_EVALUATED",
    "NOT_STARTED",
    "NO_CHAMPION",
    "NO_DRIFT",
    "NO_LABELS",
    "NO_MEASUREMENT",
    "NO_RESULT",
    "NO_TRIGGER",
    "OOM_KILLED",
    "PASSED",
    "PROGRESSING",
    "PROGRESS_DEADLINE_EXCEEDED",
    "REFUSED",
    "REJECTED",
    "ROLLING_OUT",
    "RUNNING",
    "SERVING",
    "SETTLED",
    "SUSPENDED",
    "UNAVAILABLE",
    "UNSCHEDULABLE",
    "WORKLOAD_FAILED",
    "WRONG_MODEL",
]

# Ready, Available, Reconciling, Stalled
SERVING: Final = "Serving"
"""What spec names (Ready) or a champion (Available) takes requests."""
SETTLED: Final = "Settled"
"""Nothing is left to do."""
PROGRESSING: Final = "Progressing"
"""Nothing stands in the way."""
GATING: Final = "Gating"
"""A gate is being measured."""
AWAITING_APPROVAL: Final = "AwaitingApproval"
"""Every other gate has passed, and no ModelApproval of this digest stands."""
GATE_FAILED: Final = "GateFailed"
"""A gate measured a number over its limit, or a person rejected the model."""
GATE_ERROR: Final = "GateError"
"""A gate could not be measured, and the attempts are used up."""
BENCHMARK_INCONCLUSIVE: Final = "BenchmarkInconclusive"
"""The speedup's interval contains the limit after every attempt."""
ROLLING_OUT: Final = "RollingOut"
"""Pods are starting or being replaced."""
PROGRESS_DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
"""The candidate's pods did not become ready in time; the candidate was removed."""
DEGRADED: Final = "Degraded"
"""The champion has fewer ready pods than spec.serving.replicas.min."""
UNAVAILABLE: Final = "Unavailable"
"""The champion has no ready pod."""
NO_CHAMPION: Final = "NoChampion"
"""No model has passed its gates yet."""
SUSPENDED: Final = "Suspended"
"""spec.suspend is true."""
APPLY_REFUSED: Final = "ApplyRefused"
"""The API server refuses an object that has to be written: a quota, a policy, or a value that it does not take."""
NAME_TAKEN: Final = "NameTaken"
"""An object that has to be written has the name of one that is somebody else's, which is left alone."""
INVALID_SPEC: Final = "InvalidSpec"
"""The operator cannot read spec: CRD and operator are of different versions."""

# Gates
PASSED: Final = "Passed"
"""Measured, and within every limit."""
LIMIT_EXCEEDED: Final = "LimitExceeded"
"""Measured, and over a limit."""
INCONCLUSIVE: Final = "Inconclusive"
"""Measured, and the limit lies within the uncertainty; or too few rows."""
RUNNING: Final = "Running"
"""A Job is measuring."""
NOT_EVALUATED: Final = "NotEvaluated"
"""An earlier gate has not passed."""
NOT_CONFIGURED: Final = "NotConfigured"
"""spec sets no limit."""

REJECTED: Final = "Rejected"
"""A ModelApproval rejects this digest."""

# Jobs that could not measure
NO_MEASUREMENT: Final = "NoMeasurement"
"""The Job completed and left no measurement."""
MALFORMED_MEASUREMENT: Final = "MalformedMeasurement"
"""The Job left something that is not a measurement of this gate."""
WRONG_MODEL: Final = "WrongModel"
"""The Job measured another model than the one that was asked for."""
WORKLOAD_FAILED: Final = "JobFailed"
"""The Job's container ended with an error and said nothing more."""
OOM_KILLED: Final = "OOMKilled"
"""The Job's container ran out of memory."""
EVICTED: Final = "Evicted"
"""The Job's pod was evicted."""
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
"""The Job ran longer than it may."""
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
"""The Job's image cannot be pulled."""
UNSCHEDULABLE: Final = "Unschedulable"
"""No node takes the Job's pod."""
NOT_STARTED: Final = "NotStarted"
"""The Job's container cannot be started."""
REFUSED: Final = frozenset(
    {"Corrupt", "DigestMismatch", "Invalid", "Unsigned", "SignatureUntrusted", "SignatureMismatch"}
)
"""What a Job says of a bundle that no further attempt can mend."""

# Drift, quality, retraining
DRIFT: Final = "LimitsExceeded"
"""The newest check found drift."""
NO_DRIFT: Final = "WithinLimits"
"""The newest check found every number within its limit."""
NO_RESULT: Final = "NoResult"
"""No check of this champion has ended yet."""
NO_LABELS: Final = "NoLabels"
"""The newest check found no labelled rows."""
AT_LIMIT: Final = "BelowLimit"
"""A quality figure is below its limit."""
BREACHES: Final = "ConsecutiveBreaches"
"""As many checks in a row as spec asks for found drift."""
DECAY: Final = "QualityDecay"
"""As many checks in a row as spec asks for found the quality below its limit."""
CLEAN: Final = "Clean"
"""No episode is open."""
COOLDOWN: Final = "Cooldown"
"""An episode would begin, and the last one began less than spec.retraining.cooldown ago."""
NO_TRIGGER: Final = "NoTrigger"
"""Nothing watches the model: spec.drift is not set."""
