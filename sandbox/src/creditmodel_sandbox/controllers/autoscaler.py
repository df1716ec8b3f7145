"""HorizontalPodAutoscaler v2 of a Deployment on CPU: reads metrics every 15 s, moves the scale within its rules.

Without metrics nothing is ever scaled: ScalingActive turns False and says why.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from creditmodel_sandbox.client import ApiError, Client, ClientError, Obj, Resource, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Event, Replace, Wake
from creditmodel_sandbox.objects import (
    DEPLOYMENTS,
    HPAS,
    PODS,
    condition,
    condition_time,
    format_time,
    is_deleting,
    is_ready,
    matches,
    namespace_of,
    parse_time,
    phase,
    quantity,
    with_condition,
)

__all__ = ["Autoscaler", "Memory", "Metrics", "NoMetrics", "Snapshot", "measured", "reconcile"]

METRIC = "cpu resource utilization (percentage of request)"
PERIOD = timedelta(seconds=15)
TOLERANCE = 0.1
START_UP = timedelta(minutes=5)  # a pod's CPU before that may be its start
FIRST_READINESS = timedelta(seconds=30)
POD_METRICS = Resource("metrics.k8s.io/v1beta1", "pods", "PodMetrics")
WINDOW = timedelta(minutes=5)  # how long scaling down waits
FASTEST = timedelta(seconds=15)  # in which a count may double, or grow by four
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([\d.]+)(ms|h|m|s)")


class NoMetrics(Exception):
    """A utilisation cannot be computed; the message says why."""


@dataclass(frozen=True)
class Metrics:
    """What the pods used of CPU: {pod name: (amount, from when on it was measured)}, or why that is not known."""

    usage: Mapping[str, tuple[float, datetime]] = field(default_factory=dict)
    error: str = ""


@dataclass
class Memory:
    """What an autoscaler remembers between its passes: what was recommended, and how it scaled."""

    recommendations: list[tuple[datetime, int]] = field(default_factory=list)
    changes: list[tuple[datetime, int]] = field(default_factory=list)  # pods added or (negative) removed


@dataclass(frozen=True)
class Snapshot:
    """An autoscaler, its target's scale (or why there is none), the target's pods, and their metrics."""

    hpa: Obj
    scale: Obj | None
    scale_error: str = ""
    pods: tuple[Obj, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    memory: Memory = field(default_factory=Memory)


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """Scale if the metrics ask for it, and say so."""
    wake = Wake(now + PERIOD)
    if is_deleting(snapshot.hpa):
        return []
    run = _Pass(snapshot, now)
    return [*run.actions(), wake]


# --- how many --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proposal:
    """What the metric asks for."""

    replicas: int
    utilization: int  # percent of the requests
    average: float  # per pod


def propose(pods: Sequence[Obj], metrics: Metrics, target: int, current: int, now: datetime) -> Proposal:
    """Replicas that would bring the use of CPU to `target` percent of the requests. Raises NoMetrics.

    Pods that are not ready yet count as idle when scaling up, pods without metrics as idle when scaling up and as fully
    used when scaling down, so that what is unknown only ever dampens.
    """
    if metrics.error:
        raise NoMetrics(metrics.error)
    considered = [pod for pod in pods if not is_deleting(pod) and phase(pod) != "Failed"]
    requests = {pod["metadata"]["name"]: _request(pod) for pod in considered}
    missing = {n for n in requests if n not in metrics.usage}
    unready = {p["metadata"]["name"] for p in considered if _is_unready(p, metrics, now)}
    missing -= unready
    usage = {n: metrics.usage[n][0] for n in requests if n not in missing | unready}
    if not usage:
        raise NoMetrics("did not receive metrics for targeted pods (pods might be unready)")
    utilization = 100 * sum(usage.values()) / sum(requests[name] for name in usage)
    result = Proposal(current, int(round(utilization, 6)), sum(usage.values()) / len(usage))
    ratio = utilization / target
    if not missing and not (unready and ratio > 1):
        replicas = current if abs(1 - ratio) <= TOLERANCE else math.ceil(round(ratio * len(usage), 6))
        return Proposal(replicas, result.utilization, result.average)
    full = max(target, 100) / 100
    assumed = dict(usage) | {name: requests[name] * full if ratio < 1 else 0.0 for name in missing}
    assumed |= dict.fromkeys(unready, 0.0) if ratio > 1 else {}
    damped = 100 * sum(assumed.values()) / sum(requests[name] for name in assumed) / target
    if abs(1 - damped) <= TOLERANCE or (damped < 1) != (ratio < 1):
        return result
    replicas = math.ceil(round(damped * len(assumed), 6))
    if (replicas < current) != (damped < 1):
        return result
    return Proposal(replicas, result.utilization, result.average)


def _request(pod: Obj) -> float:
    total = 0.0
    for container in pod["spec"].get("containers") or []:
        amount = ((container.get("resources") or {}).get("requests") or {}).get("cpu")
        if amount is None:
            name = pod["metadata"]["name"]
            raise NoMetrics(f"missing request for cpu in container {container['name']} of Pod {name}")
        total += quantity(amount)
    return total


def _is_unready(pod: Obj, metrics: Metrics, now: datetime) -> bool:
    """Not running yet, or not known to be past its start."""
    if phase(pod) in ("", "Pending"):
        return True
    name = pod["metadata"]["name"]
    if name not in metrics.usage:
        return False
    started, ready = parse_time((pod.get("status") or {}).get("startTime")), condition(pod, "Ready")
    changed = condition_time(ready)
    if started is None or changed is None:
        return True
    if started + START_UP > now:
        return not is_ready(pod) or metrics.usage[name][1] < changed
    return not is_ready(pod) and started + FIRST_READINESS > changed


# --- within which rules ----------------------------------------------------------------------------------------------


def stabilize(wanted: int, current: int, memory: Memory, now: datetime) -> int:
    """`wanted`, or when scaling down the highest recommendation of the last five minutes."""
    recent = [replicas for when, replicas in memory.recommendations if when > now - WINDOW]
    return min(max(current, wanted), max([wanted, *recent]))


def limit(wanted: int, current: int, bounds: tuple[int, int], memory: Memory, now: datetime) -> tuple[int, str, str]:
    """(replicas, reason, message): `wanted` within `bounds` and no faster than allowed, and what bounded it."""
    least, most = bounds
    start = current - sum(change for when, change in memory.changes if when > now - FASTEST)
    allowed = max(current, 2 * start, start + 4)
    if allowed < min(wanted, most):
        return allowed, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
    if wanted > most:
        return most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
    if wanted < least:
        return least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
    return wanted, "DesiredWithinRange", "the desired count is within the acceptable range"


# --- one pass --------------------------------------------------------------------------------------------------------


class _Pass:
    """The working state of one pass."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot, self.hpa, self.now = snapshot, snapshot.hpa, now
        self.status: Obj = dict(self.hpa.get("status") or {})
        self.conditions: list[Obj] = list(self.status.get("conditions") or [])
        self.events: list[Event] = []
        self.bounds = self.hpa["spec"].get("minReplicas", 1), self.hpa["spec"]["maxReplicas"]
        self.metrics: list[Obj] = []

    def actions(self) -> list[Action]:
        scale = self.snapshot.scale
        if scale is None:
            message = f"the HPA controller was unable to get the target's current scale: {self.snapshot.scale_error}"
            self._condition("AbleToScale", "False", "FailedGetScale", message)
            self._warn("FailedGetScale", self.snapshot.scale_error)
            return self._write()
        current = int(scale["spec"].get("replicas", 0))
        self.status["currentReplicas"] = current
        self._condition(
            "AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale"
        )
        try:
            wanted, reason = self._desired(current)
        except NoMetrics as e:
            self._no_metrics(str(e))
            return self._write()
        self.status["desiredReplicas"] = wanted
        if self.metrics:
            self.status["currentMetrics"] = self.metrics
        if wanted == current:
            return self._write()
        message = f"the HPA controller was able to update the target scale to {wanted}"
        self._condition("AbleToScale", "True", "SucceededRescale", message)
        self.status["lastScaleTime"] = format_time(self.now)
        self.snapshot.memory.changes.append((self.now, wanted - current))
        self.events.append(Event(self.hpa, "SuccessfulRescale", f"New size: {wanted}; reason: {reason}"))
        # The scale comes first: should it be refused, nothing claims that it was done.
        rescaled = Replace(DEPLOYMENTS, scale | {"spec": {"replicas": wanted}}, "scale")
        return [rescaled, *self._write()]

    def _desired(self, current: int) -> tuple[int, str]:
        """(replicas, reason). Raises NoMetrics."""
        memory, (least, most) = self.snapshot.memory, self.bounds
        memory.recommendations = memory.recommendations or [(self.now, current)]
        if current == 0 and least != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition("ScalingActive", "False", "ScalingDisabled", message)
            return 0, ""
        if current > most:
            return most, "Current number of replicas above Spec.MaxReplicas"
        if current < least:
            return least, "Current number of replicas below Spec.MinReplicas"
        proposed = self._proposed(current)
        memory.recommendations = [r for r in memory.recommendations if r[0] > self.now - WINDOW]
        memory.changes = [change for change in memory.changes if change[0] > self.now - FASTEST]
        stable = stabilize(proposed, current, memory, self.now)
        memory.recommendations.append((self.now, proposed))
        self._say_stabilized(stable, proposed)
        wanted, reason, message = limit(stable, current, self.bounds, memory, self.now)
        within = reason == "DesiredWithinRange"
        self._condition("ScalingLimited", "False" if within else "True", reason, message)
        return wanted, f"{METRIC} above target" if wanted > current else "All metrics below target"

    def _say_stabilized(self, stable: int, proposed: int) -> None:
        if stable == proposed:
            new = ("ReadyForNewScale", "recommended size matches current size")
        else:
            message = "recent recommendations were higher than current one, applying the highest recent recommendation"
            new = ("ScaleDownStabilized", message)
        self._condition("AbleToScale", "True", *new)

    def _proposed(self, current: int) -> int:
        """What the one metric that the sandbox has asks for. Raises NoMetrics."""
        try:
            found = propose(self.snapshot.pods, self.snapshot.metrics, _target(self.hpa), current, self.now)
        except NoMetrics as e:
            raise NoMetrics(f"failed to get cpu utilization: {e}") from e
        value = {"averageValue": f"{math.ceil(found.average * 1000)}m", "averageUtilization": found.utilization}
        self.metrics.append({"type": "Resource", "resource": {"name": "cpu", "current": value}})
        message = f"the HPA was able to successfully calculate a replica count from {METRIC}"
        self._condition("ScalingActive", "True", "ValidMetricFound", message)
        return found.replicas

    def _no_metrics(self, error: str) -> None:
        message = f"the HPA was unable to compute the replica count: {error}"
        self._warn("FailedGetResourceMetric", error)
        self._condition("ScalingActive", "False", "FailedGetResourceMetric", message)

    def _warn(self, reason: str, message: str) -> None:
        """Every period would repeat it, so only a new message is an Event."""
        said = [c.get("message", "") for c in self.conditions]
        if not any(message in text for text in said):
            self.events.append(Event(self.hpa, reason, message, "Warning"))

    def _condition(self, kind: str, status: str, reason: str, message: str) -> None:
        new = {"type": kind, "status": status, "reason": reason, "message": message}
        self.conditions = with_condition(self.conditions, new, self.now)

    def _write(self) -> list[Action]:
        self.status["conditions"] = self.conditions
        self.status.setdefault("desiredReplicas", 0)
        if self.status == (self.hpa.get("status") or {}):
            return []
        return [Replace(HPAS, self.hpa | {"status": self.status}, "status"), *self.events]


def _target(hpa: Obj) -> int:
    """The percentage asked for. Raises NoMetrics for anything but one averageUtilization of cpu."""
    metrics = hpa["spec"].get("metrics") or [{}]
    resource = metrics[0].get("resource") or {}
    percent = (resource.get("target") or {}).get("averageUtilization")
    if len(metrics) > 1 or resource.get("name") != "cpu" or percent is None:
        raise NoMetrics("the sandbox scales on one metric, the averageUtilization of cpu")
    return int(percent)


# --- wiring ----------------------------------------------------------------------------------------------------------


class Autoscaler:
    """Takes the snapshots: the target's scale, and its pods' metrics from metrics.k8s.io."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._memory: defaultdict[str, Memory] = defaultdict(Memory)  # by uid
        self._reading = asyncio.Lock()
        self._read_at = -math.inf
        self._items: list[Obj] = []
        self._error = ""

    async def observe(self, cache: Cache, key: str) -> Snapshot | None:
        """The snapshot of the autoscaler `key`, None when it is gone."""
        hpa = cache.get(HPAS, key)
        if hpa is None:
            return None
        memory = self._memory[hpa["metadata"]["uid"]]
        reference = hpa["spec"]["scaleTargetRef"]
        if reference["kind"] != "Deployment":
            return Snapshot(hpa, None, f"the sandbox scales Deployments only, and this is a {reference['kind']}")
        obj = cache.get(DEPLOYMENTS, f"{namespace_of(hpa)}/{reference['name']}")
        if obj is None:
            return Snapshot(hpa, None, f"deployments.apps {reference['name']!r} not found")
        selector = obj["spec"]["selector"]
        pods = tuple(pod for pod in cache.all(PODS, namespace_of(hpa)) if matches(selector, pod))
        return Snapshot(hpa, _scale_of(obj), "", pods, await self._metrics(namespace_of(hpa)), memory)

    async def _metrics(self, namespace: str) -> Metrics:
        """One request for all autoscalers of a period."""
        async with self._reading:
            if time.monotonic() > self._read_at + 0.6 * PERIOD.total_seconds():
                self._items, self._error = await self._read()
                self._read_at = time.monotonic()
        items = [item for item in self._items if namespace_of(item) == namespace]
        return measured(items, self._error)

    async def _read(self) -> tuple[list[Obj], str]:
        try:
            answer = await self._client.list(POD_METRICS)
        except ClientError as e:
            reason = e.message if isinstance(e, ApiError) else str(e)
            return [], f"unable to fetch metrics from resource metrics API: {reason}"
        return answer.get("items") or [], ""

    @property
    def controller(self) -> Controller:
        """How the runtime runs it. The clock drives it: only a new spec makes it look before the period ends."""
        return Controller("horizontal-pod-autoscaler", {HPAS: lambda _, obj: [key_of(obj)]}, self.observe, reconcile)


def _scale_of(obj: Obj) -> Obj:
    """What the scale subresource would answer, at the version that was seen."""
    meta = {name: obj["metadata"].get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    spec = {"replicas": obj["spec"].get("replicas", 1)}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": spec}


def measured(items: Sequence[Obj], error: str = "") -> Metrics:
    """The metrics of some PodMetrics."""
    if error or not items:
        error = error or "no metrics returned from resource metrics API"
        return Metrics(error=f"unable to get metrics for resource cpu: {error}")
    usage: dict[str, tuple[float, datetime]] = {}
    for item in items:
        amounts: list[Any] = [container["usage"].get("cpu") for container in item.get("containers") or []]
        taken = parse_time(item.get("timestamp"))
        if taken and amounts and None not in amounts:
            usage[item["metadata"]["name"]] = (sum(map(quantity, amounts)), taken - _window(item.get("window") or ""))
    return Metrics(usage)


def _window(text: str) -> timedelta:
    """How long a measurement took, as metrics.k8s.io writes it: `15s`, `1m0.5s`."""
    return timedelta(seconds=sum(float(count) * _SECONDS[unit] for count, unit in _DURATION.findall(text)))
