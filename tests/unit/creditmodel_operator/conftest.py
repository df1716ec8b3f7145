"""A world small enough to be decided in: objects, an API server's memory, Jobs and pods that do as they are told."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from creditmodel_operator import names
from creditmodel_operator.decide import decide, parse_spec
from creditmodel_operator.observed import Approval, Images, Observed, view
from creditmodel_operator.plan import Action, Apply, Claim, Create, Event, Look, Plan

JSON = dict[str, Any]
START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
MAX_PASSES = 40
LISTED = {
    "Job": "jobs",
    "Pod": "pods",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "autoscalers",
    "PodDisruptionBudget": "budgets",
    "Service": "services",
    "CronJob": "cronjobs",
    "ModelApproval": "approvals",
}


def digest_of(name: str) -> str:
    """The digest of the bundle `name` of this world."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def artifact(bundle: str, **over: Any) -> JSON:
    """What the artifact Job says of a sound bundle."""
    evaluation = {"auc": 0.77, "ks": 0.41, "gini": 0.54, "brier": 0.13, "rows": 6000, "holdout_sha256": "ab"}
    document = {"kind": "artifact", "name": "credit", "model_version": bundle, "files": 7, "bytes": 123456}
    evaluation |= over.pop("evaluation", {})
    return _common(bundle) | document | {"evaluation": evaluation} | over


def parity(bundle: str, **over: Any) -> JSON:
    """What the parity Job says of a faithful export."""
    numbers = {"rows": 4096, "edge_rows": 300, "max_abs_diff": 3e-7, "max_rel_diff": 1e-5}
    counts = {"decision_flips": 0, "reason_diffs": 0, "not_finite": 0}
    return _common(bundle) | {"kind": "parity", "envelope": [[0.0, 1e-7], [2.0, 3e-7]]} | numbers | counts | over


def benchmark(
    bundle: str, low: float = 3.5, high: float = 3.9, batches: tuple[int, ...] = (1, 32), **over: Any
) -> JSON:
    """What the benchmark Job says."""
    rows = [
        {
            "batch": batch,
            "pytorch_ms": {"median": 0.1, "p99": 0.2},
            "onnx_ms": {"median": 0.03, "p99": 0.05},
            "onnx_rows_per_s": 33333.0,
            "speedup": (low + high) / 2,
            "speedup_low": low,
            "speedup_high": high,
        }
        for batch in batches
    ]
    return _common(bundle) | {"kind": "benchmark", "rounds": 30, "threads": 1, "cpu": "some", "batches": rows} | over


def drift(bundle: str, psi: float = 0.05, share: float = 0.0, **over: Any) -> JSON:
    """What a drift check says."""
    verdict = "drift" if psi > 0.25 else "no_drift"
    numbers = {"rows": 5000, "reference_rows": 20000, "psi_max": psi, "psi_score": psi / 2, "drifted_share": share}
    return _common(bundle) | {"kind": "drift", "verdict": verdict, "reason": "because", **numbers} | over


def _common(bundle: str) -> JSON:
    return {"schema_version": 1, "digest": digest_of(bundle), "tool": "test 1"}


def failure(kind: str, reason: str, message: str = "no") -> JSON:
    return {"schema_version": 1, "kind": kind, "tool": "test 1", "error": {"reason": reason, "message": message}}


class Conflict(Exception):
    """The object is not as it was when the operator decided."""


@dataclass
class World:
    """One CreditModel and its children, kept as an API server keeps them; nothing happens unless a test says so."""

    name: str = "credit"
    now: datetime = START
    objects: dict[tuple[str, str], JSON] = field(default_factory=dict)
    applied: dict[tuple[str, str], dict[str, JSON]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    writes: int = 0
    looked: set[str] = field(default_factory=set)
    """uids of Jobs whose pods the operator has read."""
    images: Images = field(default_factory=Images)
    approval_required: bool = False
    """The operator was told to ask for approvals."""
    public_keys: str | None = None
    """The operator was told to ask for signatures."""
    watcher: Callable[[Action], None] | None = None
    """Called after every write of the operator."""
    reader: Callable[[JSON, JSON], None] | None = None
    """Called with the status before and after, when the operator has written it."""
    _count: int = 0

    # -- what people do

    def spec(self, bundle: str = "v1", **sections: Any) -> None:
        """Apply a CreditModel that names `bundle`, with sections merged over the defaults."""
        model = {"uri": f"file:///models/{bundle}", "digest": digest_of(bundle)} | sections.pop("model", {})
        spec = {"model": {k: v for k, v in model.items() if v is not None}, **sections}
        live = self.objects.get(("CreditModel", self.name))
        if live is None:
            live = self._new("CreditModel", self.name, {"spec": spec})
        elif live["spec"] != spec:
            live["spec"] = spec
            self._touch(live, spec=True)

    def decide_about(self, bundle: str, decision: str = "Approve", name: str | None = None, **over: Any) -> str:
        """Create a ModelApproval; its name."""
        spec = {"creditModelName": self.name, "digest": digest_of(bundle), "decision": decision, "reason": "report 7"}
        name = name or f"{decision}-{bundle}".lower()
        self._new("ModelApproval", name, {"spec": spec | over})
        return name

    def hand_edit(self, kind: str, name: str, change: Callable[[JSON], None]) -> None:
        """Change an object as kubectl edit would."""
        live = self.objects[kind, name]
        before = live.get("spec", {}).get("replicas")
        change(live)
        if live.get("spec", {}).get("replicas") != before:
            self._sized_by((kind, name), None)
        self._touch(live, spec=True)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and what it owns."""
        gone = self.objects.pop((kind, name))
        self.applied.pop((kind, name), None)
        uid = gone["metadata"]["uid"]
        for key, other in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences", ())):
                self.delete(*key)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # -- what the cluster does

    def jobs(self, gate: str | None = None, *, running: bool = False) -> list[JSON]:
        """Jobs by age; only those of one gate, or only those that have not ended."""
        found = [o for (kind, _), o in self.objects.items() if kind == "Job"]
        found = [o for o in found if gate is None or o["metadata"]["labels"].get(names.GATE) == gate]
        return [o for o in found if not running or "conditions" not in o.get("status", {})]

    def end_job(self, job: JSON, message: JSON | str | None, *, complete: bool = True, **pod: Any) -> None:
        """The Job ends, and its pod leaves `message` (None: there is no pod)."""
        at = stamp(self.now)
        condition = {"type": "Complete" if complete else "Failed", "status": "True", "lastTransitionTime": at}
        condition |= {"reason": pod.pop("job_reason", ""), "message": pod.pop("job_message", "")}
        job["status"] = {"conditions": [condition]} | ({"completionTime": at} if complete else {})
        self._touch(job)
        if message is not None:
            text = message if isinstance(message, str) else json.dumps(message)
            ended = {"exitCode": 0 if complete else 1, "reason": "Completed" if complete else "Error", "message": text}
            self.pod_of(job, terminated=ended | pod.pop("terminated", {}), **pod)

    def pod_of(self, job: JSON, **state: Any) -> JSON:
        """The Job's pod with the status given: terminated, waiting, unschedulable, reason."""
        template = job["spec"]["template"]["metadata"].get("labels", {})
        labels = template | {"batch.kubernetes.io/job-name": job["metadata"]["name"], names.INSTANCE: self.name}
        status: JSON = {"phase": "Pending", "reason": state.get("reason", "")}
        if "unschedulable" in state:
            refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            status["conditions"] = [refused | {"message": state["unschedulable"]}]
        container = {key: state[key] for key in ("terminated", "waiting") if key in state}
        status["containerStatuses"] = [{"state": container}]
        name = f"{job['metadata']['name']}-x"
        self.objects.pop(("Pod", name), None)
        owner = [{"uid": job["metadata"]["uid"], "controller": True}]
        return self._new("Pod", name, {"status": status}, labels=labels, owners=owner)

    def waiting_pod(self, revision: str, reason: str, message: str) -> None:
        """A serving pod that cannot start."""
        container = {"state": {"waiting": {"reason": reason, "message": message}}, "ready": False}
        status = {"phase": "Pending", "containerStatuses": [container]}
        labels = {names.REVISION: revision, names.INSTANCE: self.name}
        self._new("Pod", f"{revision}-0", {"status": status}, labels=labels)

    def run_jobs(self, **measured: JSON) -> None:
        """Every running gate Job ends with what is given for its gate, or as it does for a good model."""
        for job in self.jobs(running=True):
            gate = job["metadata"]["labels"].get(names.GATE)
            if gate:
                self.end_job(job, measured.get(gate) or self.good(job))

    def good(self, job: JSON) -> JSON:
        """What a Job measures of a good model."""
        meta = job["metadata"]
        bundle = meta["annotations"][names.URI].rsplit("/", 1)[1]
        makers: dict[str, Callable[[str], JSON]] = {"artifact": artifact, "parity": parity, "benchmark": benchmark}
        return makers[meta["labels"][names.GATE]](bundle)

    def settle(self, name: str, ready: int | None = None) -> None:
        """The Deployment's pods are there, all ready or `ready` of them."""
        live = self.objects["Deployment", name]
        total = live["spec"].get("replicas", 1)
        good = total if ready is None else min(ready, total)
        counts = {"replicas": total, "updatedReplicas": total, "readyReplicas": good, "availableReplicas": good}
        live["status"] = counts | {"observedGeneration": live["metadata"]["generation"]}
        self._touch(live)

    def check_drift(self, number: int, message: JSON, *, name: str | None = None) -> JSON:
        """A drift Job made from the CronJob ends with `message`."""
        cron = self.objects["CronJob", names.drift_cronjob(self.name)]
        template = cron["spec"]["jobTemplate"]
        owner = [{"uid": cron["metadata"]["uid"], "controller": True}]
        body = {"spec": copy.deepcopy(template["spec"])}
        job = self._new("Job", name or f"check-{number}", body, labels=template["metadata"]["labels"], owners=owner)
        job["metadata"]["annotations"] = dict(template["metadata"]["annotations"])
        self.end_job(job, message)
        self.wait(60)
        return job

    # -- what the operator does

    def observe(self) -> Observed:
        lists: dict[str, list[Any]] = {field_: [] for field_ in LISTED.values()}
        for (kind, _), body in self.objects.items():
            item = view(kind, body) if kind in LISTED else None  # it keeps nothing of the body that is changed later
            if item is not None and (not isinstance(item, Approval) or item.model == self.name):
                lists[LISTED[kind]].append(item)
        lists["jobs"] = [replace(job, looked=job.meta.uid in self.looked) for job in lists["jobs"]]
        model: Any = view("CreditModel", copy.deepcopy(self.objects["CreditModel", self.name]))
        found: dict[str, Any] = {key: tuple(value) for key, value in lists.items()}
        told: dict[str, Any] = {"approval_required": self.approval_required, "public_keys": self.public_keys}
        return Observed(model=model, images=self.images, **told, **found)

    def decide(self) -> Plan:
        """What the operator would do now."""
        observed = self.observe()
        return decide(parse_spec(observed.model), observed, self.now)

    def carry_out(self, plan: Plan, *, stop_after: int | None = None) -> None:
        """Do what a plan says; `stop_after` interrupts after so many writes."""
        steps: list[Callable[[], None]] = [lambda a=action: self._act(a) for action in plan.actions]  # type: ignore[misc]
        if plan.status is not None:
            steps.append(lambda: self._write_status(plan))
        for step in steps[:stop_after]:
            step()
            self.writes += 1

    def reconcile(self) -> int:
        """Pass after pass until nothing is left to do; the number of writes."""
        before = self.writes
        for _ in range(MAX_PASSES):
            plan = self.decide()
            if not plan.actions and plan.status is None:
                return self.writes - before
            self.carry_out(plan)
        raise AssertionError(f"no end of it: {self.decide()}")

    def promote(self, bundle: str = "v1", **sections: Any) -> str:
        """Bring a good model all the way to champion; its revision's name."""
        self.spec(bundle, **sections)
        self.reconcile()
        for _ in range(3):
            self.run_jobs()
            self.reconcile()
        name = self.revision(bundle)
        self.settle(name)
        self.reconcile()
        assert self.champion == name, self.status
        self.settle(name)
        self.reconcile()
        return name

    # -- what can be seen

    def revision(self, bundle: str) -> str:
        return names.revision(self.name, digest_of(bundle))

    @property
    def status(self) -> JSON:
        found: JSON = self.objects["CreditModel", self.name].get("status", {})
        return found

    @property
    def conditions(self) -> dict[str, str]:
        return {c["type"]: c["status"] for c in self.status["conditions"]}

    def condition(self, name: str) -> JSON:
        return next(c for c in self.status["conditions"] if c["type"] == name)

    @property
    def champion(self) -> str | None:
        """The revision that the Service selects."""
        found = self.objects.get(("Service", self.name))
        return found["spec"]["selector"].get(names.REVISION) if found else None

    def names_of(self, kind: str) -> set[str]:
        return {name for found, name in self.objects if found == kind}

    def replicas(self, name: str) -> int:
        return int(self.objects["Deployment", name]["spec"].get("replicas", 1))

    # -- the memory of an API server

    def _new(self, kind: str, name: str, body: JSON, **meta: Any) -> JSON:
        self._count += 1
        metadata = {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{self._count}",
            "creationTimestamp": stamp(self.now),
            "generation": 1,
            "resourceVersion": str(self._count),
            "labels": dict(meta.get("labels", {})),
            "annotations": {},
            "ownerReferences": list(meta.get("owners", [])),
        }
        self.objects[kind, name] = {"kind": kind, "metadata": metadata, **body}
        return self.objects[kind, name]

    def _touch(self, live: JSON, *, spec: bool = False) -> None:
        self._count += 1
        live["metadata"]["resourceVersion"] = str(self._count)
        live["metadata"]["generation"] += spec

    def _act(self, action: Action) -> None:
        if isinstance(action, Claim):
            assert (action.kind, action.name) not in self.objects, "claims what it can see"
        elif isinstance(action, Create):
            assert (action.kind, action.name) not in self.objects, "makes what it can see"
            self._apply(Apply(action.manifest))
        elif isinstance(action, Apply):
            self._apply(action)
        elif isinstance(action, Look):
            self.looked.add(action.uid)
        elif (action.kind, action.name) in self.objects:
            assert self.objects[action.kind, action.name]["metadata"]["uid"] == action.uid
            self.delete(action.kind, action.name)
        if self.watcher is not None:
            self.watcher(action)

    def _apply(self, action: Apply) -> None:
        key, wanted = (action.kind, action.name), copy.deepcopy(action.body)
        live = self.objects.get(key)
        if (version := wanted["metadata"].pop("resourceVersion", None)) is not None:
            assert live is not None
            if live["metadata"]["resourceVersion"] != version:
                raise Conflict(f"409: {key}")
        if live is None:
            live = self._new(*key, {"spec": {"replicas": 1} if action.kind == "Deployment" else {}})
        old, before = self.applied.setdefault(key, {}).get(action.manager, {}), copy.deepcopy(live)
        for part in ("spec", "metadata"):
            _drop(live.setdefault(part, {}), old.get(part, {}), wanted.get(part, {}))
            _merge(live[part], wanted.get(part, {}))
        self.applied[key][action.manager] = wanted
        if "replicas" in wanted.get("spec", {}):
            self._sized_by(key, action.manager)
        if live != before:
            self._touch(live, spec=live["spec"] != before["spec"])

    def _sized_by(self, key: tuple[str, str], manager: str | None) -> None:
        """Who has set `replicas` takes them over."""
        for other, document in self.applied.get(key, {}).items():
            if other != manager:
                document.get("spec", {}).pop("replicas", None)
        entry: JSON = {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        self.objects[key]["metadata"]["managedFields"] = [entry]

    def _write_status(self, plan: Plan) -> None:
        live = self.objects["CreditModel", self.name]
        before = live.get("status", {})
        live["status"] = json.loads(json.dumps(plan.status))
        self._touch(live)
        self.events.extend(plan.events)
        if self.reader is not None:
            self.reader(before, live["status"])


def _merge(live: JSON, wanted: JSON) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict):
            _merge(live.setdefault(key, {}), value)
        else:
            live[key] = value


def _drop(live: JSON, old: JSON, wanted: JSON) -> None:
    """Remove what was applied and is not any more."""
    for key, value in old.items():
        if key not in wanted:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(wanted[key], dict):
            _drop(live.get(key, {}), value, wanted[key])


@pytest.fixture
def world() -> World:
    return World()
