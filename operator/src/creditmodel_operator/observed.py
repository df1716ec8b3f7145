"""One frozen snapshot of everything that a decision is made from.

The views hold what decisions need and nothing else, so that a thousand CreditModels fit in little memory. They are made
from API objects at the watch, once per change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from creditmodel_operator import names

__all__ = [
    "Approval",
    "Child",
    "Deployment",
    "Finished",
    "Images",
    "Job",
    "Meta",
    "Model",
    "Observed",
    "Pod",
    "Terminated",
    "parse_time",
    "view",
]

Raw = Mapping[str, Any]


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time; None for what is none.

    Kubernetes writes times in one way, but an annotation can hold anything, and a `date-time` of a custom resource more
    than Python takes: in lower case, or with an offset of a day.
    """
    try:
        found = datetime.fromisoformat(text.upper()) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


@dataclass(frozen=True, slots=True)
class Meta:
    """The part of metadata that decisions look at."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    created: datetime
    generation: int
    deleting: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: str | None
    """uid of the controlling owner, or of the first one where none controls: a Job that kubectl made from a CronJob."""

    @property
    def instance(self) -> str:
        """Name of the CreditModel that the labels say this belongs to."""
        return self.labels.get(names.INSTANCE, "")


@dataclass(frozen=True, slots=True)
class Model:
    """A CreditModel as it is stored."""

    meta: Meta
    spec: Mapping[str, Any]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Child:
    """Any child: its metadata, and its spec as compact JSON for comparing."""

    kind: str
    meta: Meta
    packed_spec: bytes

    @property
    def spec(self) -> dict[str, Any]:
        """The spec as the API server has it."""
        spec: dict[str, Any] = json.loads(self.packed_spec)
        return spec


@dataclass(frozen=True, slots=True)
class Deployment(Child):
    """A revision's Deployment with its counts."""

    observed_generation: int
    desired: int
    total: int
    updated: int
    ready: int
    available: int
    trouble: str | None = None
    """Why pods cannot be made: a quota or a policy, for instance."""
    sized: bool = False
    """Its size is still the operator's to give: no autoscaler and no person has changed it since it was made."""
    overdue: bool = False
    """Its pods have made no progress for as long as the rollout may take."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a Job ended."""

    complete: bool
    reason: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A gate's or drift check's Job."""

    meta: Meta
    finished: Finished | None
    looked: bool = False
    """Its pods were read from the API server after its end was seen, not only watched."""
    seen: datetime | None = None
    """When this process first saw it, by its own clock."""

    @property
    def since(self) -> datetime:
        """From when on its pod is waited for: not from its creation where this clock is ahead of the server's."""
        return max(self.meta.created, self.seen or self.meta.created)

    @property
    def gate(self) -> str:
        """Which gate it measures; empty for a drift check."""
        return self.meta.labels.get(names.GATE, "")

    @property
    def attempt(self) -> int:
        """Which attempt at the same measurement this is, counted from 1."""
        tail = self.meta.name.rsplit("-", 1)[-1]
        return int(tail) if tail.isdigit() else 1


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A Job's or revision's pod."""

    meta: Meta
    job: str | None
    phase: str
    reason: str
    waiting: tuple[str, str] | None
    """Reason and message of a container that waits to start."""
    unschedulable: str | None
    """Why no node takes the pod."""
    terminated: Terminated | None
    last_terminated: Terminated | None
    ready: bool


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's decision about one model."""

    meta: Meta
    model: str
    """Name of the CreditModel."""
    digest: str
    approves: bool
    """False: rejects."""
    reason: str
    approver: str | None
    expires: datetime | None

    @property
    def words(self) -> str:
        """Everything that has to outlive the object."""
        return f"{self.meta.name} of {self.meta.created:%Y-%m-%d %H:%M} UTC, {self.who}: {self.reason}"

    @property
    def who(self) -> str:
        """Who decided, as far as the object says."""
        return f"by {self.approver}" if self.approver else "by whom the audit log names"

    def stands(self, now: datetime) -> bool:
        """Whether it counts: a rejection does until it is deleted."""
        return not self.meta.deleting and (not self.approves or self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Images:
    """The images that the operator was started with."""

    serving: str = "creditmodel-serving:dev"
    jobs: str = "creditmodel-jobs:dev"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one pass decides from."""

    model: Model
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    autoscalers: tuple[Child, ...] = ()
    budgets: tuple[Child, ...] = ()
    services: tuple[Child, ...] = ()
    cronjobs: tuple[Child, ...] = ()
    approvals: tuple[Approval, ...] = ()
    images: Images = field(default_factory=Images)
    approval_required: bool = False
    """The operator was told that models of this namespace need an approval, whatever their spec says."""
    public_keys: str | None = None
    """The Secret whose keys must have signed every model, whatever its spec says; None: as spec says."""

    @property
    def children(self) -> dict[tuple[str, str], Child]:
        """Every child that is compared with what it should be, by kind and name."""
        groups = (self.deployments, self.autoscalers, self.budgets, self.services, self.cronjobs)
        return {(child.kind, child.meta.name): child for group in groups for child in group}

    def pods_of(self, job: str) -> tuple[Pod, ...]:
        """A Job's pods, the newest last."""
        return tuple(sorted((pod for pod in self.pods if pod.job == job), key=lambda pod: pod.meta.created))


Anything = Model | Child | Job | Pod | Approval

_ENDED = datetime.min.replace(tzinfo=UTC)
"""When an approval whose end cannot be read has ended: it must not count for longer than was meant."""


def view(kind: str, body: Raw) -> Anything:
    """The view of an API object of `kind`."""
    match kind:
        case "CreditModel":
            return Model(_meta(body), body.get("spec", {}), body.get("status", {}))
        case "Job":
            return _job(body)
        case "Pod":
            return _pod(body)
        case "ModelApproval":
            return _approval(body)
        case "Deployment":
            return _deployment(body)
        case _:
            return Child(kind, _meta(body), _packed(body))


def _meta(body: Raw) -> Meta:
    meta = body["metadata"]
    owners = sorted(meta.get("ownerReferences") or (), key=lambda owner: not owner.get("controller"))
    return Meta(
        name=meta["name"],
        namespace=meta.get("namespace", ""),
        uid=meta["uid"],
        resource_version=meta.get("resourceVersion", ""),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        owner=owners[0]["uid"] if owners else None,
    )


def _packed(body: Raw) -> bytes:
    return json.dumps(body.get("spec", {}), separators=(",", ":")).encode()


def _deployment(body: Raw) -> Deployment:
    spec, status = body.get("spec", {}), body.get("status") or {}
    conditions = status.get("conditions") or ()
    failing = (c for c in conditions if (c["type"], c["status"]) == ("ReplicaFailure", "True"))
    return Deployment(
        kind="Deployment",
        meta=_meta(body),
        packed_spec=_packed(body),
        observed_generation=status.get("observedGeneration", 0),
        desired=spec.get("replicas", 1),
        total=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        trouble=next((c.get("message") for c in failing), None),
        sized=any(_gives_size(entry) for entry in body["metadata"].get("managedFields") or ()),
        overdue=any((c["type"], c.get("reason")) == ("Progressing", "ProgressDeadlineExceeded") for c in conditions),
    )


def _gives_size(entry: Raw) -> bool:
    """Whether an entry of managedFields says that the operator's manifests have `replicas`."""
    who = entry.get("manager"), entry.get("operation")
    return who == (names.FIELD_MANAGER, "Apply") and "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})


def _job(body: Raw) -> Job:
    status = body.get("status") or {}
    ended = [c for c in status.get("conditions") or () if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    if not ended:
        return Job(_meta(body), None)
    condition = ended[0]
    at = parse_time(status.get("completionTime") or condition.get("lastTransitionTime"))
    finished = Finished(
        complete=condition["type"] == "Complete",
        reason=condition.get("reason") or "",
        message=condition.get("message") or "",
        at=at or _meta(body).created,
    )
    return Job(_meta(body), finished)


def _pod(body: Raw) -> Pod:
    status = body.get("status") or {}
    meta = _meta(body)
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    container = _own_container(status.get("containerStatuses") or ())
    scheduled = conditions.get("PodScheduled", {})
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return Pod(
        meta=meta,
        job=meta.labels.get(names.JOB_NAME) or meta.labels.get("job-name"),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        waiting=_waiting(container.get("state") or {}),
        unschedulable=(scheduled.get("message") or "no node fits") if refused else None,
        terminated=_terminated(container.get("state") or {}),
        last_terminated=_terminated(container.get("lastState") or {}),
        ready=conditions.get("Ready", {}).get("status") == "True",
    )


def _own_container(containers: Sequence[Raw]) -> Raw:
    """The status of the operator's own container: they are listed by name, and a mesh may have added another."""
    own = (container for container in containers if container.get("name") in names.CONTAINERS)
    return next(own, containers[0] if containers else {})


def _approval(body: Raw) -> Approval:
    spec = body.get("spec") or {}
    expires = parse_time(spec.get("expires"))
    return Approval(
        meta=_meta(body),
        model=spec.get("creditModelName", ""),
        digest=spec.get("digest", ""),
        approves=spec.get("decision") == "Approve",
        reason=spec.get("reason", ""),
        approver=spec.get("approver"),
        expires=_ENDED if expires is None and spec.get("expires") is not None else expires,
    )


def _waiting(state: Raw) -> tuple[str, str] | None:
    waiting = state.get("waiting")
    return None if waiting is None else (waiting.get("reason") or "", waiting.get("message") or "")


def _terminated(state: Raw) -> Terminated | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Terminated(ended.get("exitCode", 0), ended.get("reason") or "", ended.get("message") or "")
