"""What a Job measured: a small JSON document, written as the container's termination message.

Jobs measure and the operator judges, so a measurement carries numbers and never a verdict on a limit. A document that
cannot be parsed raises MeasurementError: it is an error of the run and never a pass.

Operator and jobs image are updated one after the other. A field that a reader does not know is passed over, so within
one `schema_version` fields are only added, and none that bears on a judgement; what does raises the version, which a
reader that does not know it refuses.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from creditmodel_bundle._model import Document
from creditmodel_bundle.documents import Holdout, Incumbent
from creditmodel_bundle.errors import MeasurementError

__all__ = [
    "MAX_BYTES",
    "Artifact",
    "Batch",
    "Benchmark",
    "Calibration",
    "Drift",
    "DriftFeature",
    "Estimate",
    "EvaluationSummary",
    "Failure",
    "FailureDetail",
    "Figures",
    "Measurement",
    "Parity",
    "Quality",
    "Reports",
    "Signal",
    "Timing",
    "Training",
    "Window",
    "dump",
    "parse",
]

MAX_BYTES = 4096
"""Kubernetes cuts a termination message at this many bytes."""

SCHEMA_VERSION = 1

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Kind = Literal["artifact", "parity", "benchmark", "drift", "training", "signal"]


class _Common(Document):
    schema_version: Literal[1] = 1
    tool: str


class EvaluationSummary(Document):
    """Discrimination on the hold-out, as evaluation.json has it. `champion`: of whom a retrained model came from.

    `bad_rate` is unknown to measurements of older jobs images; it says how sure the figures are, and judges nothing.
    """

    auc: float
    ks: float
    gini: float
    brier: float
    rows: int
    holdout_sha256: str
    champion: Incumbent | None = None
    bad_rate: float | None = None


class Artifact(_Common):
    """The bundle was fetched whole and every byte is what the manifest promises."""

    kind: Literal["artifact"] = "artifact"
    digest: Digest
    name: str
    model_version: str
    files: int
    bytes: int
    evaluation: EvaluationSummary
    signed_by: str | None = None
    """Fingerprint of the trusted key that signed it; None where no signature was asked for."""


class Parity(_Common):
    """How far the ONNX graph is from the PyTorch model.

    `envelope` holds the points (|pytorch|, |pytorch − onnx|) on the upper-left convex hull over every row and output,
    in ascending order. max(d − rtol·p) over all elements is attained on it, so any tolerance can be judged later.
    """

    kind: Literal["parity"] = "parity"
    digest: Digest
    rows: int = Field(ge=0)
    edge_rows: int = Field(ge=0)
    max_abs_diff: float = Field(ge=0)
    max_rel_diff: float = Field(ge=0)
    envelope: list[tuple[float, float]] = Field(min_length=1, max_length=32)
    decision_flips: int = Field(ge=0)
    reason_diffs: int = Field(ge=0)
    not_finite: int = Field(ge=0)

    def excess(self, rtol: float, atol: float) -> float:
        """By how much the worst element exceeds atol + rtol·|pytorch|; above 0 is a breach.

        Computed exactly, so that rounding neither hides a breach nor makes one.
        """
        slope = Fraction(rtol)
        worst = max(Fraction(difference) - slope * Fraction(reference) for reference, difference in self.envelope)
        return float(worst - Fraction(atol))


class Timing(Document):
    """Milliseconds per call."""

    median: float = Field(gt=0)
    p99: float = Field(gt=0)


class Batch(Document):
    """One batch size. `speedup` is PyTorch's time over ONNX Runtime's, with its 95 % bootstrap interval."""

    batch: int = Field(ge=1)
    pytorch_ms: Timing
    onnx_ms: Timing
    onnx_rows_per_s: float = Field(gt=0)
    speedup: float = Field(gt=0)
    speedup_low: float = Field(gt=0)
    speedup_high: float = Field(gt=0)


class Benchmark(_Common):
    """PyTorch against ONNX Runtime on this CPU, interleaved."""

    kind: Literal["benchmark"] = "benchmark"
    digest: Digest
    rounds: int = Field(ge=1)
    threads: int = Field(ge=1)
    cpu: str
    batches: list[Batch] = Field(min_length=1, max_length=8)


class Window(Document):
    """RFC 3339 times; null where the data has no times."""

    start: str | None = None
    end: str | None = None


class DriftFeature(Document):
    """One feature against its frozen bins. `threshold` is what PSI had to exceed at this window size."""

    name: str
    psi: float
    threshold: float
    missing_rate: float
    unseen_rate: float


class _Discrimination(Document):
    rows: int
    auc: float | None = None
    ks: float | None = None
    gini: float | None = None
    brier: float | None = None


class Calibration(Document):
    """Probabilities of matured scores beside what became of them, over all and by band of probability.

    `too_low` and `too_high` are bands whose default rate the Jeffreys test puts above, or below, their probabilities,
    at 5 % over all bands.
    """

    mean_probability: float = Field(ge=0, le=1)
    bad_rate: float = Field(ge=0, le=1)
    bands: int = Field(ge=1)
    too_low: int = Field(ge=0)
    too_high: int = Field(ge=0)


class Quality(_Discrimination):
    """Realised quality on matured labels; a figure is null where it is not defined.

    `matured` counts the scores that are old enough, those without a label too: labels that come late are missing here.
    """

    matured: int | None = Field(default=None, ge=0)
    calibration: Calibration | None = None


class Estimate(_Discrimination):
    """The quality to expect of the window's applicants if the probabilities are right, before outcomes are known.

    `bad_rate` is the share of bad ones to expect. It cannot show that the model has become wrong.
    """

    bad_rate: float = Field(ge=0, le=1)


class Reports(Document):
    """Where the reports lie."""

    html: str | None = None
    json_: str | None = Field(default=None, alias="json")


class Drift(_Common):
    """Current data against the contract's frozen bins."""

    kind: Literal["drift"] = "drift"
    digest: Digest | None = None
    window: Window = Window()
    rows: int = Field(ge=0)
    reference_rows: int = Field(ge=0)
    verdict: Literal["drift", "no_drift", "inconclusive"]
    reason: str
    psi_max: float | None = None
    psi_score: float | None = None
    drifted_share: float | None = Field(default=None, ge=0, le=1)
    drifted_features: list[str] = []
    features: list[DriftFeature] = []
    quality: Quality | None = None
    estimated: Estimate | None = None
    report: Reports = Reports()


class Figures(Document):
    """Discrimination on one hold-out."""

    auc: float
    ks: float
    gini: float
    brier: float


class Training(_Common):
    """A model retrained from the champion `digest`: where it lies, and both on the same hold-out.

    The hold-out is of recent labelled applicants, from whom neither model has learned.
    """

    kind: Literal["training"] = "training"
    digest: Digest
    episode: str | None = None
    uri: str
    candidate: Digest
    reference_rows: int | None = Field(default=None, ge=0)
    """None, like the next two, when an earlier attempt had finished the bundle."""
    labelled_rows: int | None = Field(default=None, ge=0)
    left_out: int | None = Field(default=None, ge=0)
    holdout: Holdout
    champion: Figures
    challenger: Figures


class Signal(_Common):
    """A receiver took over the retraining of the model `digest`: how it answered, and at which attempt."""

    kind: Literal["signal"] = "signal"
    digest: Digest
    episode: str
    status: int = Field(ge=100, le=599)
    attempts: int = Field(ge=1)


class FailureDetail(Document):
    """Why a Job could not measure; `reason` is CamelCase."""

    reason: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")
    message: str


class Failure(_Common):
    """A Job that could not measure, and why."""

    kind: Kind
    digest: Digest | None = None
    error: FailureDetail


Measurement = Artifact | Parity | Benchmark | Drift | Training | Signal
_MEASUREMENT: TypeAdapter[Measurement] = TypeAdapter(Annotated[Measurement, Field(discriminator="kind")])


def parse(text: str | bytes) -> Measurement | Failure:
    """The measurement in a termination message. Raises MeasurementError."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise MeasurementError(f"the measurement has {len(raw)} bytes, over the {MAX_BYTES} that a message may have")
    if not raw.strip():
        raise MeasurementError("the Job left no measurement")
    try:
        document = from_json(raw)
        _known_version(document)
        if isinstance(document, dict) and "error" in document:
            return Failure.model_validate_json(raw, extra="ignore")
        return _MEASUREMENT.validate_json(raw, extra="ignore")
    except ValueError as e:
        if not isinstance(e, ValidationError):
            raise MeasurementError(f"the measurement is not JSON: {e}") from e
        first = e.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise MeasurementError(f"the measurement is malformed at {where}: {first['msg']}") from e


def _known_version(document: object) -> None:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise MeasurementError(
            f"the measurement has schema_version {version}, of a newer jobs image; {SCHEMA_VERSION} is known here: "
            "update the operator first"
        )


def dump(measurement: Measurement | Failure) -> bytes:
    """Compact JSON. A failure's message is cut to fit MAX_BYTES; a longer measurement raises MeasurementError."""
    raw = _compact(measurement)
    if isinstance(measurement, Failure):
        length = len(measurement.error.message)
        while len(raw) > MAX_BYTES and length:
            # Halved, as what a character takes in JSON is between one byte and twelve.
            length //= 2
            detail = measurement.error.model_copy(update={"message": measurement.error.message[:length] + "…"})
            raw = _compact(measurement.model_copy(update={"error": detail}))
    if len(raw) > MAX_BYTES:
        raise MeasurementError(f"the measurement has {len(raw)} bytes, over the {MAX_BYTES} that a message may have")
    return raw


def _compact(measurement: Measurement | Failure) -> bytes:
    return measurement.model_dump_json(by_alias=True, exclude_none=isinstance(measurement, Failure)).encode()
