"""What a user asks for. Every description here is what `kubectl explain` prints.

Bounds keep the estimated cost of the CEL rules finite: a string has a maximum length, a list a maximum number of items.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from creditmodel_operator.api.base import Digest, Part, rule

__all__ = [
    "Approval",
    "Benchmark",
    "CreditModelSpec",
    "Current",
    "Drift",
    "EnvVar",
    "Gates",
    "Jobs",
    "Labels",
    "Model",
    "Output",
    "Parity",
    "Placement",
    "Quality",
    "Replicas",
    "Report",
    "Resources",
    "Retraining",
    "Rollout",
    "ScoringLog",
    "SecretKeyRef",
    "SecretRef",
    "Serving",
    "Signature",
    "Toleration",
    "TrainingJob",
    "Webhook",
]

URI = "self.matches('^(file|https?|s3|gs)://.+')"
URI_MESSAGE = "must be a URI that begins with file://, http://, https://, s3:// or gs://"
CRON = "self.matches('^(@(hourly|daily|midnight|weekly|monthly)|[-0-9A-Za-z*/,?]+( +[-0-9A-Za-z*/,?]+){4})$')"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

Uri = Annotated[str, Field(max_length=1024, json_schema_extra={"x-kubernetes-validations": [rule(URI, URI_MESSAGE)]})]
LabelValue = Annotated[str, Field(max_length=63)]
PriorityClass = Annotated[str, Field(min_length=1, max_length=253)]
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
Duration = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^[1-9][0-9]{0,5}[mhd]$')",
                    "must be a whole number and m, h or d, for example 90m, 24h or 7d",
                )
            ]
        },
    ),
]
Pause = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.matches('^[0-9]{1,6}[mhd]$')", "must be a whole number and m, h or d, for example 24h or 7d")
            ]
        },
    ),
]
Word = Annotated[str, Field(max_length=1024)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]


class SecretRef(Part):
    """A Secret in the CreditModel's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")


class SecretKeyRef(Part):
    """One key of a Secret in the CreditModel's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="The key.")


class Signature(Part):
    """Who must have signed the bundle, in the OpenSSF model-signing format (`creditmodel-bundle sign`)."""

    public_key_secret_ref: SecretRef = Field(
        description="Secret that holds PEM public keys, under any names; one of them must have signed. It is mounted "
        "into the artifact Job, and the operator never reads it. Naming another Secret verifies again; after a change "
        "within it, change rollout.retryToken.",
    )


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
    signature: Signature | None = Field(
        default=None,
        description="Who must have signed the bundle. Left out: a signature is not looked at, unless the operator was "
        "told to ask for one.",
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
    """What a model must pass before it takes a request, in this order: artifact, parity, benchmark, quality, approval.

    A gate waits for the ones before it. Jobs measure and the operator judges: a changed limit is judged again on the
    numbers at hand, a change of what is measured (rows, batchSizes, rounds, the model) measures again, and a new
    rollout.retryToken measures everything again. status.gates has every number beside its limit. The first gate,
    artifact, has no setting here: every byte of the bundle is what model.digest promises, and model.signature may ask
    who signed it.
    """

    parity: Parity = Field(
        default=Parity(),
        description="The ONNX graph is the same model as the PyTorch one: over reference rows and edge rows no output "
        "differs by more than the tolerances, and no decision at the cut-offs flips.",
    )
    benchmark: Benchmark = Field(
        default=Benchmark(),
        description="The ONNX graph is faster than the PyTorch model, on this cluster's own CPUs, at every batch size, "
        "with 95 % confidence.",
    )
    quality: Quality | None = Field(
        default=None,
        description="The figures on the hold-out (AUC, KS) reach their limits and do not fall too far below the "
        "champion's. Left out: not judged.",
    )
    approval: Approval = Field(
        default=Approval(),
        description="A person whom RBAC lets create ModelApprovals has approved this very digest. Not asked for by "
        "default.",
    )


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


class Toleration(Part):
    """A taint of nodes that the pods tolerate, as in any pod."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.key) || self.operator == 'Exists'",
                    "without key, operator must be Exists: it tolerates every taint",
                ),
                rule(
                    "self.operator != 'Exists' || !has(self.value)",
                    "operator Exists takes no value: remove value, or set operator to Equal",
                ),
                rule(
                    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "tolerationSeconds needs effect NoExecute: only that evicts pods",
                ),
            ]
        }
    )

    key: str | None = Field(default=None, min_length=1, max_length=317, description="Left out: every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How key and value are compared.")
    value: str | None = Field(default=None, max_length=63, description="The taint's value, where operator is Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Left out: every effect."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, description="How long a pod stays after a NoExecute taint came. Left out: for ever."
    )


class Placement(Part):
    """Where pods run, and who makes way for them."""

    node_selector: dict[str, LabelValue] | None = Field(
        default=None, max_length=16, description="Labels that a node must have for the pods to run on it."
    )
    tolerations: list[Toleration] | None = Field(
        default=None, max_length=16, description="Taints of nodes that the pods tolerate."
    )
    priority_class_name: PriorityClass | None = Field(
        default=None,
        description="PriorityClass of the pods, which must exist. Left out: the cluster's default.",
    )

    def pod(self) -> dict[str, Any]:
        """The part of a pod's spec that says so; empty where nothing is set."""
        return Placement.model_validate(self.model_dump()).wire()


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


class Serving(Placement):
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


class Jobs(Placement):
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
    window: Duration = Field(
        default="24h",
        description="How far back from the run the data reaches, as a number and m, h or d: 90m, 24h, 7d.",
    )


class Report(Part):
    """Where the drift reports go."""

    uri: Uri | None = Field(
        default=None,
        description="Directory that gets <name>/<run>.html and <name>/<run>.json for every run. Left out: numbers "
        "only.",
    )
    keep: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="How many of the newest checks keep their reports; older ones of the same model are removed. Left "
        "out: all stay.",
    )


class Labels(Part):
    """Where the realised outcomes lie, and what they must show."""

    uri: Uri = Field(description="Table of outcomes: _request_id, _row, _label (1 is bad), _observed.")
    maturity_days: int = Field(
        default=365, ge=0, le=3650, description="Age of a score, in days, at which its outcome counts as known."
    )
    window: Duration | None = Field(
        default=None,
        description="How far back before that the scores reach whose outcomes are judged, as a number and m, h or d: "
        "90d. Left out: all that have matured, so that decay shows late.",
    )
    min_auc: float | None = Field(
        default=None,
        alias="minAUC",
        ge=0,
        le=1,
        description="QualityDegraded when the AUC on matured outcomes falls below this. Left out: reported, not "
        "judged.",
    )
    min_rows: int = Field(
        default=500,
        ge=1,
        le=100_000_000,
        description="Matured outcomes below which the quality is not judged: chance moves the AUC of a few hundred "
        "rows by several hundredths.",
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


class EnvVar(Part):
    """An environment variable, given or from a Secret."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.value) != has(self.secretKeyRef)",
                    "an environment variable takes either value or secretKeyRef: give one of them",
                )
            ]
        }
    )

    name: str = Field(min_length=1, max_length=128, description="Name of the variable.")
    value: str | None = Field(default=None, max_length=1024, description="Its value.")
    secret_key_ref: SecretKeyRef | None = Field(default=None, description="The key of a Secret that has its value.")


class Output(Part):
    """Where new bundles go."""

    uri: Uri = Field(
        description="Directory in which every new bundle gets one of its own, <name>-<episode>. Nothing is ever "
        "written over. The Jobs must be able to write there, and serving pods to read.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^(file|s3|gs)://.+')",
                    "bundles are written there, so it must begin with file://, s3:// or gs://",
                )
            ]
        },
    )


class TrainingJob(Part):
    """The Job that trains a challenger: once for each episode, and tried again by its own back-off only."""

    output: Output = Field(description="Where the new bundle goes.")
    window: Duration | None = Field(
        default=None,
        description="How far back matured scores are learned from, as a number and m, h or d: 90d. Left out: all that "
        "drift.current holds.",
    )
    max_rows: int = Field(
        default=200_000,
        ge=200,
        le=10_000_000,
        description="Labelled applicants that are learned from at most, the newest first, besides the reference.",
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the training container. Left out: the Jobs' image that the operator was started with.",
    )
    command: list[Word] = Field(
        default=["creditmodel-train", "retrain"],
        min_length=1,
        max_length=16,
        description="What trains. It gets the options of creditmodel-train retrain (--bundle, --digest, --current, "
        "--labels, --maturity-days, --episode, --out, --measurement and so on) and leaves a measurement as it does.",
    )
    args: list[Word] = Field(
        default=[], max_length=32, description="Further options, for example --epochs and 40. They come last."
    )
    env: list[EnvVar] = Field(
        default=[],
        max_length=32,
        description="Further environment variables.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    env_from: list[SecretRef] = Field(
        default=[],
        max_length=8,
        description="Secrets whose keys all become environment variables, besides model.credentialsSecretRef.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    service_account_name: Account | None = Field(
        default=None,
        description="ServiceAccount of the training pod, for what a cloud binds to it. Its token is not mounted. Left "
        "out: that of the other Jobs.",
    )
    resources: Resources | None = Field(
        default=None, description="Left out: 1 CPU and 2Gi of memory requested, 8Gi of memory at most."
    )
    active_deadline_seconds: int = Field(
        default=21_600, ge=60, le=604_800, description="How long training may take, all its attempts together."
    )
    backoff_limit: int = Field(
        default=2,
        ge=0,
        le=10,
        description="How often a pod that was lost or could not reach a store is tried again. What another try cannot "
        "mend (exit code 2) is not tried again.",
    )


class Webhook(Part):
    """An HTTP POST that tells somebody else of the episode: sent by a Job, until it is accepted or refused for good."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.url.startsWith('https://') || self.insecure",
                    "url must begin with https://; for a receiver inside the cluster without TLS set insecure: true",
                ),
                rule(
                    "(self.format == 'Airflow') == has(self.dagId)",
                    "dagId names the DAG to run: give it with format Airflow, and only with it",
                ),
            ]
        }
    )

    url: str = Field(
        max_length=1024,
        description="Where to POST; with format Airflow the API server's address without a path, to which "
        "/api/v2/dags/<dagId>/dagRuns is added. Redirects are not followed.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.matches('^https?://[^/?#@]+([/?][^#]*)?$')", "url must be an http or https URL with a host")
            ]
        },
    )
    format: Literal["CloudEvents", "Airflow"] = Field(
        default="CloudEvents",
        description="CloudEvents posts a CloudEvents 1.0 event as structured JSON. Airflow starts a run of a DAG "
        "whose dag_run_id is the episode's id and whose conf is the event; a run that is there already is success.",
    )
    dag_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=250,
        description="With format Airflow: the DAG.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^[-A-Za-z0-9_.]+$')", "dagId has letters, digits, dashes, dots and underscores only"
                )
            ]
        },
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose key named key signs every request: HMAC-SHA256 in the header webhook-signature, as "
        "Standard Webhooks has it. Left out: not signed.",
    )
    auth_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with the key token, sent as a bearer token, or with format Airflow with username and "
        "password, for which a token is asked first. Left out: no Authorization header.",
    )
    insecure: bool = Field(default=False, description="True permits http://, where anyone on the way can read along.")
    timeout_seconds: int = Field(default=10, ge=1, le=300, description="How long the receiver may take to answer.")
    deadline_seconds: int = Field(
        default=3600,
        ge=30,
        le=86_400,
        description="How long delivery is tried, with growing pauses and those that Retry-After asks for.",
    )


class Retraining(Part):
    """What happens when the model needs retraining."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.policy == 'Job') == has(self.job)",
                    "policy Job needs retraining.job, and retraining.job needs policy: Job",
                ),
                rule(
                    "self.policy == 'Signal' || !has(self.webhook)",
                    "one episode has one trigger: remove retraining.webhook, or set policy: Signal",
                ),
            ]
        }
    )

    policy: Literal["Signal", "Job"] = Field(
        default="Signal",
        description="Signal sets the condition RetrainingRequired, emits one Event for each episode, calls the "
        "webhook where there is one, and leaves the rest to whoever listens. Job trains a challenger and offers it in "
        "status.retraining.candidate. Nothing ever writes spec.",
    )
    triggers: list[Literal["Drift", "Quality"]] = Field(
        default=["Drift", "Quality"],
        min_length=1,
        max_length=2,
        description="What counts towards retraining: Drift is a check that found drift, Quality one that found the "
        "realised quality below drift.labels.minAUC. Conditions report both in any case.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    cooldown: Pause = Field(
        default="7d",
        description="How long after the beginning of an episode the next one may begin at the earliest, whatever model "
        "serves by then, as a number and m, h or d. 0m: no such pause.",
    )
    job: TrainingJob | None = Field(default=None, description="With policy Job: what trains, and where to.")
    webhook: Webhook | None = Field(default=None, description="With policy Signal: whom to tell. Left out: nobody.")


class CreditModelSpec(Part):
    """The model to serve, the gates before it, and what watches it afterwards."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.retraining.job) || (has(self.drift) && has(self.drift.labels))",
                    "retraining.job learns from outcomes: set drift.labels, or retraining.policy: Signal",
                ),
                rule(
                    "'Drift' in self.retraining.triggers || (has(self.drift) && has(self.drift.labels) && "
                    "has(self.drift.labels.minAUC))",
                    "the trigger Quality alone never fires without a limit: set drift.labels.minAUC, or add Drift",
                ),
            ]
        }
    )

    model: Model = Field(description="Which model to gate, roll and serve.")
    gates: Gates = Field(default=Gates())
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
