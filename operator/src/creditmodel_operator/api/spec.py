"""What a user asks for. Every description here is what `kubectl explain` prints.

Bounds keep the estimated cost of the CEL rules finite: a string has a maximum length, a list a maximum number of items.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from creditmodel_operator.api.base import Digest, Part, rule

__all__ = [
    "Approval",
    "Benchmark",
    "CreditModelSpec",
    "Current",
    "Drift",
    "Gates",
    "Jobs",
    "Labels",
    "Model",
    "Parity",
    "Quality",
    "Replicas",
    "Report",
    "Resources",
    "Retraining",
    "Rollout",
    "ScoringLog",
    "SecretRef",
    "Serving",
]

URI = "self.matches('^(file|https?|s3|gs)://.+')"
URI_MESSAGE = "must be a URI that begins with file://, http://, https://, s3:// or gs://"
CRON = "self.matches('^(@(hourly|daily|midnight|weekly|monthly)|[-0-9A-Za-z*/,?]+( +[-0-9A-Za-z*/,?]+){4})$')"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

Uri = Annotated[str, Field(max_length=1024, json_schema_extra={"x-kubernetes-validations": [rule(URI, URI_MESSAGE)]})]
Account = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                    "must name a ServiceAccount of the CreditModel's namespace: "
                    "lower-case letters, digits, '-' and '.'",
                )
            ]
        },
    ),
]
BatchSize = Annotated[int, Field(ge=1, le=65536)]


class SecretRef(Part):
    """A Secret in the CreditModel's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")


class Model(Part):
    """Which model to gate, roll and serve."""

    uri: Uri = Field(
        description="Directory that holds the bundle (manifest.json, model.onnx, model.pt, contract.json, …), "
        "for example s3://models/credit/2026-11-01. Jobs and serving pods fetch it, so it must be reachable from "
        "them.",
    )
    digest: Digest | None = Field(
        default=None,
        description="The model's identity: sha256: and the SHA-256 of the bundle's manifest.json, as "
        "creditmodel-bundle verify prints it. With it set, nothing else can be served from the URI. Without it the "
        "first artifact Job resolves it, and what the URI holds later is not looked at until uri or "
        "rollout.retryToken changes.",
    )
    credentials_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose keys become environment variables of the Jobs and the serving pods, for example "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Leave it out where pods have an identity of their own.",
    )


class Parity(Part):
    """How close the ONNX graph must be to the PyTorch model."""

    rtol: float = Field(
        default=1e-5,
        ge=0,
        le=1,
        description="Relative tolerance. An element breaches when |pytorch - onnx| is over atol + rtol·|pytorch|. "
        "A changed tolerance is judged again on the numbers at hand, without a new Job.",
    )
    atol: float = Field(default=1e-6, ge=0, le=1, description="Absolute tolerance; see rtol.")
    rows: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Reference rows that are compared, besides the edge rows (missing, extreme, unseen category). "
        "Changing it measures again.",
    )
    max_decision_flips: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="How many rows may get another decision at the cut-offs from the ONNX graph than from PyTorch.",
    )


class Benchmark(Part):
    """How much faster ONNX Runtime must be than PyTorch, on one thread of the cluster's own CPUs."""

    min_speedup: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Passed when the lower end of the speedup's 95 % interval reaches this at every batch size; "
        "failed when "
        "the upper end stays below it at any; anything between is inconclusive and is measured again a bounded "
        "number of times.",
    )
    max_p99_milliseconds: float | None = Field(
        default=None,
        ge=0,
        le=60_000,
        description="Limit on ONNX Runtime's 99th percentile per call, in milliseconds, at every batch size.",
    )
    batch_sizes: list[BatchSize] = Field(
        default=[1, 32],
        min_length=1,
        max_length=8,
        description="Rows per call that are measured. Changing it measures again.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    rounds: int = Field(
        default=30,
        ge=5,
        le=100_000,
        description="Interleaved rounds of measurement. More rounds give a narrower interval. Changing it measures "
        "again.",
    )


class Quality(Part):
    """What the model's hold-out figures must reach. They come from evaluation.json, whose bytes the digest covers."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.minAUC) || has(self.maxAUCDrop) || has(self.minKS) || has(self.maxKSDrop)",
                    "quality has no limit: set minAUC, maxAUCDrop, minKS or maxKSDrop, or remove quality",
                )
            ]
        }
    )

    min_auc: float | None = Field(
        default=None,
        alias="minAUC",
        ge=0,
        le=1,
        description="Lowest accepted area under the ROC curve on the hold-out.",
    )
    max_auc_drop: float | None = Field(
        default=None,
        alias="maxAUCDrop",
        ge=0,
        le=1,
        description="How far the AUC may lie below the champion's. Not applied to the first model, "
        "nor when spec goes back to a model that has been champion before.",
    )
    min_ks: float | None = Field(
        default=None,
        alias="minKS",
        ge=0,
        le=1,
        description="Lowest accepted Kolmogorov-Smirnov statistic on the hold-out.",
    )
    max_ks_drop: float | None = Field(
        default=None,
        alias="maxKSDrop",
        ge=0,
        le=1,
        description="How far the KS statistic may lie below the champion's.",
    )


class Approval(Part):
    """A person's decision, as a ModelApproval in the CreditModel's namespace."""

    required: bool = Field(
        default=False,
        description="True: once every other gate has passed, the model waits until a ModelApproval of its very digest "
        "stands. Who may create one is a matter of RBAC. The operator may be told to ask for it whatever is said here.",
    )


class Gates(Part):
    """What a model must pass before it takes a request.

    The artifact gate (every byte is what the manifest promises) comes first and has no setting.
    """

    parity: Parity = Field(default=Parity(), description="The ONNX graph is the same model as the PyTorch one.")
    benchmark: Benchmark = Field(default=Benchmark(), description="The ONNX graph is faster than the PyTorch model.")
    quality: Quality | None = Field(
        default=None, description="Figures on the hold-out, absolute and against the champion. Left out: not judged."
    )
    approval: Approval = Field(default=Approval(), description="A person has approved this very model.")


class Replicas(Part):
    """How many pods serve, between two bounds that the HorizontalPodAutoscaler keeps."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.min <= self.max", "replicas.min must not be over replicas.max: lower min or raise max")
            ]
        }
    )

    min: int = Field(default=2, ge=1, le=1000, description="Fewest pods. Two survive the loss of a node.")
    max: int = Field(default=6, ge=1, le=1000, description="Most pods.")


Amount = Annotated[
    int | str,
    Field(
        json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": QUANTITY},
    ),
]


class Resources(Part):
    """Compute resources of a serving container, as in any pod."""

    requests: dict[str, Amount] | None = Field(
        default=None,
        max_length=8,
        description="What the scheduler sets aside. The autoscaler measures CPU against requests.cpu.",
    )
    limits: dict[str, Amount] | None = Field(
        default=None, max_length=8, description="What the container may not exceed."
    )


class ScoringLog(Part):
    """Where serving pods write what they scored."""

    uri: Uri = Field(
        description="Directory for Parquet parts, laid out as date=YYYY-MM-DD/revision=<revision>/part-*.parquet."
    )
    sample_rate: float = Field(
        default=1.0, ge=0, le=1, description="Share of the requests that is logged. Quality needs all that get a label."
    )


class Serving(Part):
    """How the model is served."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the serving container. Left out: the image that the operator was started with.",
    )
    service_account_name: Account = Field(
        default="default",
        description="ServiceAccount of the serving pods, for what a cloud binds to it: reading bundles, writing the "
        "scoring log. Its token is not mounted. Changing it replaces the pods one by one.",
    )
    replicas: Replicas = Field(default=Replicas(), description="Bounds on the number of pods.")
    target_cpu_utilization: int = Field(
        default=70,
        alias="targetCPUUtilization",
        ge=10,
        le=95,
        description="Average CPU use, in percent of the request, that the autoscaler aims for.",
    )
    resources: Resources | None = Field(
        default=None,
        description="Left out: 250m CPU and 256Mi of memory requested, 1Gi of memory at most.",
    )
    scoring_log: ScoringLog | None = Field(
        default=None, description="Left out: nothing is logged, and drift needs data from elsewhere."
    )


class Jobs(Part):
    """How the Jobs run: those of the gates and those of the drift checks."""

    service_account_name: Account = Field(
        default="default",
        description="ServiceAccount of the Jobs' pods, for what a cloud binds to it: reading bundles, scores and "
        "outcomes, writing reports. Its token is not mounted. It is not what is measured: changing it runs no gate "
        "again.",
    )


class Rollout(Part):
    """How a gated model takes over."""

    progress_deadline_seconds: int = Field(
        default=600,
        ge=10,
        le=86_400,
        description="How long the candidate's pods may take to become ready. Past it the candidate is removed, the "
        "champion "
        "goes on serving, and the CreditModel is Stalled until spec changes.",
    )
    keep_previous_seconds: int = Field(
        default=3600,
        ge=0,
        le=2_592_000,
        description="How long the previous revision stays at its size after a switch, ready to take the requests "
        "back at once. "
        "Then it is scaled to zero.",
    )
    revision_history_limit: int = Field(
        default=3, ge=0, le=20, description="How many former champions keep their Deployment, at zero replicas."
    )
    retry_token: str | None = Field(
        default=None,
        max_length=64,
        description="Any new value runs the gates and the rollout again: the way to retry what has stalled for a "
        "reason "
        "outside the model.",
    )


class Current(Part):
    """The data that is compared with the reference."""

    uri: Uri = Field(description="Scoring log, or any Parquet or CSV file or directory.")
    window: str = Field(
        default="24h",
        max_length=16,
        description="How far back from the run the data reaches, as a number and m, h or d: 90m, 24h, 7d.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^[1-9][0-9]{0,5}[mhd]$')",
                    "window must be a whole number and m, h or d, for example 90m, 24h or 7d",
                )
            ]
        },
    )


class Report(Part):
    """Where the drift reports go."""

    uri: Uri | None = Field(
        default=None,
        description="Directory that gets <name>/<run>.html and <name>/<run>.json for every run. Left out: numbers "
        "only.",
    )


class Labels(Part):
    """Where the realised outcomes lie, and what they must show."""

    uri: Uri = Field(description="Table of outcomes: _request_id, _row, _label (1 is bad), _observed.")
    maturity_days: int = Field(
        default=365, ge=0, le=3650, description="Age of a score, in days, at which its outcome counts as known."
    )
    min_auc: float | None = Field(
        default=None,
        alias="minAUC",
        ge=0,
        le=1,
        description="QualityDegraded when the AUC on matured outcomes falls below this. Left out: reported, not "
        "judged.",
    )


class Drift(Part):
    """A check of live data against the training reference, run as a CronJob so that it goes on without the operator."""

    schedule: str = Field(
        default="0 5 * * *",
        max_length=100,
        description="When to check: five cron fields in the time zone of the cluster's controller, or @hourly, "
        "@daily, @weekly.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    CRON,
                    "schedule must be five cron fields (minute hour day month weekday), for example '0 5 * * *', or "
                    "@daily",
                )
            ]
        },
    )
    current: Current = Field(description="The data that is compared with the bundle's reference.")
    report: Report | None = Field(default=None, description="Where HTML and JSON reports go.")
    psi: float = Field(
        default=0.25,
        ge=0,
        le=100,
        description="Population stability index of one feature or of the score over which the data set has drifted. "
        "0.25 is the customary alarm. What sampling alone explains at the window's size is left out.",
    )
    max_drifted_share: float = Field(
        default=0.3,
        alias="maxDriftedShare",
        ge=0,
        le=1,
        description="Share of drifted features over which the data set has drifted, whatever the largest PSI is. A "
        "feature has drifted at a PSI over 0.1, the customary warning, or when its missing, unseen or out-of-range "
        "values rose.",
    )
    consecutive_breaches: int = Field(
        default=2,
        ge=1,
        le=10,
        description="Checks in a row that must find drift before RetrainingRequired is set; as many clean ones in a "
        "row clear it.",
    )
    labels: Labels | None = Field(
        default=None,
        description="Realised outcomes, for the quality of the model on live data. Left out: not looked at.",
    )


class Retraining(Part):
    """What happens when the model needs retraining."""

    policy: Literal["Signal"] = Field(
        default="Signal",
        description="Signal sets the condition RetrainingRequired, emits one Event for each episode, and leaves the "
        "rest to "
        "whoever watches.",
    )


class CreditModelSpec(Part):
    """The model to serve, the gates before it, and what watches it afterwards."""

    model: Model = Field(description="Which model to gate, roll and serve.")
    gates: Gates = Field(default=Gates(), description="What a model must pass before it takes a request.")
    serving: Serving = Field(default=Serving(), description="How the model is served.")
    jobs: Jobs = Field(default=Jobs(), description="How the Jobs of gates and drift checks run.")
    rollout: Rollout = Field(default=Rollout(), description="How a gated model takes over from the champion.")
    drift: Drift | None = Field(default=None, description="A scheduled check of the live data. Left out: not checked.")
    retraining: Retraining = Field(default=Retraining(), description="What happens when the model needs retraining.")
    suspend: bool = Field(
        default=False,
        description="True stops new work: no Job, no rollout, no clean-up. What serves goes on serving, and drift "
        "checks go on.",
    )
