"""Deployment → ReplicaSets: rolling update and recreate, proportional scaling, revisions, progress, clean-up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from creditmodel_sandbox.client import Obj, key_of
from creditmodel_sandbox.controllers.runtime import (
    Action,
    Cache,
    Controller,
    Create,
    Delete,
    Event,
    Patch,
    Replace,
    Wake,
)
from creditmodel_sandbox.objects import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    age_of,
    condition,
    controller_of,
    format_time,
    int_or_percent,
    is_deleting,
    matches,
    namespace_of,
    owner_reference,
    parse_time,
    phase,
    short_hash,
    without_zeros,
)

__all__ = ["CONTROLLER", "Snapshot", "observe", "reconcile"]

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"
# These belong to one side only and are not copied from the Deployment to its ReplicaSets.
OWN_ANNOTATIONS = {
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMUM,
    "deprecated.deployment.rollback.to",
}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A Deployment, its ReplicaSets, those it may adopt, and what else bears the name of the one it would create."""

    deployment: Obj
    replica_sets: tuple[Obj, ...]
    adoptable: tuple[Obj, ...] = ()
    name_taken: bool = False
    old_pods_running: bool = False


def observe(cache: Cache, key: str) -> Snapshot | None:
    """The snapshot of the Deployment `key`, None when it is gone."""
    deployment = cache.get(DEPLOYMENTS, key)
    if deployment is None:
        return None
    namespace, selector = namespace_of(deployment), deployment["spec"]["selector"]
    owned = tuple(cache.controlled(REPLICA_SETS, deployment))
    adoptable = tuple(o for o in cache.orphans(REPLICA_SETS, namespace) if matches(selector, o) and not is_deleting(o))
    wanted = cache.get(REPLICA_SETS, f"{namespace}/{_new_name(deployment)}")
    new = _find_new(deployment, owned)
    old_pods = (p for rs in owned if rs is not new for p in cache.controlled(PODS, rs))
    running = any(phase(pod) not in ("Succeeded", "Failed") for pod in old_pods)
    return Snapshot(deployment, owned, adoptable, wanted is not None, running)


def reconcile(snapshot: Snapshot, now: datetime) -> Sequence[Action]:
    """One step towards the spec."""
    deployment = snapshot.deployment
    if snapshot.adoptable and not is_deleting(deployment):
        return [_adopt(deployment, rs) for rs in snapshot.adoptable]
    state = _State.of(snapshot, now)
    if is_deleting(deployment):
        return list(state.status_actions())
    if not deployment["spec"].get("paused") and state.new is None and not _waits_for_recreate(snapshot):
        return list(_create_new(state, snapshot.name_taken))
    if annotated := list(_annotate(state)):
        return annotated  # their answers bring the next pass
    scaled = list(_scale(state, _sizes(state, snapshot.old_pods_running)))
    return [*(scaled or _clean_up(state)), *state.status_actions()]


def _adopt(deployment: Obj, rs: Obj) -> Patch:
    references = [*(rs["metadata"].get("ownerReferences") or []), owner_reference(deployment)]
    return Patch(REPLICA_SETS, rs, {"metadata": {"ownerReferences": references}})


def _waits_for_recreate(snapshot: Snapshot) -> bool:
    """Recreate makes the new ReplicaSet when no old pod is left."""
    busy = snapshot.old_pods_running or any(map(_size, snapshot.replica_sets))
    return _is_recreate(snapshot.deployment) and busy


def _is_recreate(deployment: Obj) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


# --- what is there ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    deployment: Obj
    new: Obj | None
    old: tuple[Obj, ...]  # oldest first
    now: datetime

    @classmethod
    def of(cls, snapshot: Snapshot, now: datetime) -> _State:
        new = _find_new(snapshot.deployment, snapshot.replica_sets)
        old = sorted((rs for rs in snapshot.replica_sets if rs is not new), key=_by_age)
        return cls(snapshot.deployment, new, tuple(old), now)

    @property
    def every(self) -> tuple[Obj, ...]:
        return (*self.old, self.new) if self.new else self.old

    @property
    def replicas(self) -> int:
        return _size(self.deployment)

    @property
    def rolling(self) -> bool:
        return not _is_recreate(self.deployment)

    def bounds(self) -> tuple[int, int]:
        """(maxSurge, maxUnavailable) in pods; never both zero."""
        if not self.rolling:
            return 0, 0
        parameters = (self.deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        surge = int_or_percent(parameters.get("maxSurge", "25%"), self.replicas, round_up=True)
        unavailable = int_or_percent(parameters.get("maxUnavailable", "25%"), self.replicas, round_up=False)
        return surge, min(1 if surge == unavailable == 0 else unavailable, self.replicas)

    @property
    def next_revision(self) -> int:
        return max(map(_revision, self.old), default=0) + 1

    def status_actions(self) -> Iterator[Action]:
        status, wakes = _status(self)
        if status != (self.deployment.get("status") or {}):
            yield Replace(DEPLOYMENTS, self.deployment | {"status": status}, "status")
        yield from wakes


def _size(obj: Obj) -> int:
    return int(obj["spec"].get("replicas", 1))


def _count(rs: Obj | None, field: str) -> int:
    return int(((rs or {}).get("status") or {}).get(field) or 0)


def _by_age(rs: Obj) -> tuple[datetime, str]:
    return age_of(rs), rs["metadata"]["name"]


def _revision(obj: Obj) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _plain_template(template: Obj) -> Obj:
    """The template without what the ReplicaSet adds to it."""
    meta = template.get("metadata") or {}
    labels = {name: value for name, value in (meta.get("labels") or {}).items() if name != HASH}
    kept = {name: value for name, value in meta.items() if name not in ("labels", "creationTimestamp") and value}
    return {**template, "metadata": {**kept, "labels": labels}}


def _find_new(deployment: Obj, replica_sets: Sequence[Obj]) -> Obj | None:
    """The oldest ReplicaSet with the Deployment's template."""
    wanted = _plain_template(deployment["spec"]["template"])
    same = (rs for rs in replica_sets if _plain_template(rs["spec"]["template"]) == wanted)
    return min(same, key=_by_age, default=None)


def _template_hash(deployment: Obj) -> str:
    template = json.dumps(_plain_template(deployment["spec"]["template"]), sort_keys=True)
    return short_hash(f"{template}{_count(deployment, 'collisionCount')}")


def _new_name(deployment: Obj) -> str:
    return f"{deployment['metadata']['name']}-{_template_hash(deployment)}"


# --- the new ReplicaSet ----------------------------------------------------------------------------------------------


def _create_new(state: _State, name_taken: bool) -> Iterator[Action]:
    deployment = state.deployment
    status = dict(deployment.get("status") or {})
    if name_taken:
        # Another template has the same hash, or the name belongs to someone else: try the next hash.
        status["collisionCount"] = _count(deployment, "collisionCount") + 1
        yield Replace(DEPLOYMENTS, deployment | {"status": status}, "status")
        return
    body = _new_replica_set(state)
    size = _new_size(state, 0)
    body["spec"]["replicas"] = size
    event = Event(deployment, "ScalingReplicaSet", f"Scaled up replica set {{name}} from 0 to {size}") if size else None
    yield Create(REPLICA_SETS, body, event)
    conditions = status.get("conditions") or []
    if _deadline(deployment) is not None:
        message = f'Created new replica set "{body["metadata"]["name"]}"'
        conditions = _set(conditions, _new_condition("Progressing", "True", "NewReplicaSetCreated", message), state.now)
        yield Replace(DEPLOYMENTS, deployment | {"status": status | {"conditions": conditions}}, "status")


def _new_replica_set(state: _State) -> Obj:
    deployment, spec = state.deployment, state.deployment["spec"]
    label = {HASH: _template_hash(deployment)}
    template = _plain_template(spec["template"])
    labels = {**template["metadata"]["labels"], **label}
    selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **label}}
    replica_set_spec = {
        "selector": selector,
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        "minReadySeconds": spec.get("minReadySeconds"),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": _new_name(deployment),
            "namespace": namespace_of(deployment),
            "labels": labels,
            "annotations": _annotations(state, {}) | _size_annotations(state),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {name: value for name, value in replica_set_spec.items() if value is not None},
    }


def _annotations(state: _State, present: dict[str, str]) -> dict[str, str]:
    """A new ReplicaSet's annotations: the Deployment's, its revision, and the revisions it had before a roll-back."""
    given = state.deployment["metadata"].get("annotations") or {}
    result = {**present, **{name: value for name, value in given.items() if name not in OWN_ANNOTATIONS}}
    before = present.get(REVISION, "")
    if int(before or 0) < state.next_revision:
        result[REVISION] = str(state.next_revision)
        if before:
            result[REVISION_HISTORY] = ",".join(filter(None, [present.get(REVISION_HISTORY), before]))
    return result


def _size_annotations(state: _State) -> dict[str, str]:
    return {DESIRED: str(state.replicas), MAXIMUM: str(state.replicas + state.bounds()[0])}


def _annotate(state: _State) -> Iterator[Action]:
    """Keep the revision on the new ReplicaSet and on the Deployment."""
    if state.new is None:
        return
    present = state.new["metadata"].get("annotations") or {}
    wanted = _annotations(state, present)
    patch: Obj = {"metadata": {"annotations": wanted}} if wanted != present else {}
    ready_seconds = state.deployment["spec"].get("minReadySeconds", 0)
    if ready_seconds != state.new["spec"].get("minReadySeconds", 0):
        patch["spec"] = {"minReadySeconds": ready_seconds}
    if patch:
        yield Patch(REPLICA_SETS, state.new, patch)
    revision = wanted.get(REVISION, "")
    if (state.deployment["metadata"].get("annotations") or {}).get(REVISION) != revision:
        yield Patch(DEPLOYMENTS, state.deployment, {"metadata": {"annotations": {REVISION: revision}}})


# --- sizes -----------------------------------------------------------------------------------------------------------

Sizes = dict[str, int]  # name of a ReplicaSet: wanted replicas


def _sizes(state: _State, old_pods_running: bool) -> Sizes:
    """The sizes that this step wants; ReplicaSets not named stay as they are."""
    paused = state.deployment["spec"].get("paused")
    active = [rs for rs in state.every if _size(rs)]
    rescaled = any((rs["metadata"].get("annotations") or {}).get(DESIRED, str(state.replicas)) != str(state.replicas)
                   for rs in active)  # fmt: skip
    if paused or rescaled:
        return _rescale(state, active)
    if not state.rolling:
        return _recreate(state, old_pods_running)
    return _roll(state)


def _rescale(state: _State, active: list[Obj]) -> Sizes:
    """spec.replicas changed, perhaps during a rollout or while paused: spread it without moving the rollout on."""
    if len(active) <= 1:
        latest = active[0] if active else state.new or max(state.old, key=_by_age, default=None)
        return {latest["metadata"]["name"]: state.replicas} if latest else {}
    new = state.new
    if new and _size(new) == state.replicas == _count(new, "availableReplicas"):
        return {rs["metadata"]["name"]: 0 for rs in state.old}
    return _in_proportion(state, active) if state.rolling else {}


def _in_proportion(state: _State, active: list[Obj]) -> Sizes:
    allowed = state.replicas + state.bounds()[0] if state.replicas else 0
    to_add = allowed - sum(map(_size, active))
    # Larger first; of two as large, a growing rollout prefers the newer and a shrinking one the older.
    active = sorted(sorted(active, key=_by_age, reverse=to_add > 0), key=_size, reverse=True)
    sizes, added = {}, 0
    for rs in active:
        share = _share(state, rs)
        share = min(max(share, 0), to_add - added) if to_add > 0 else max(min(share, 0), to_add - added)
        sizes[rs["metadata"]["name"]] = _size(rs) + share
        added += share
    first = active[0]["metadata"]["name"]
    sizes[first] = max(sizes[first] + to_add - added, 0)
    return sizes


def _share(state: _State, rs: Obj) -> int:
    """By how much the ReplicaSet would grow with the whole."""
    if not state.replicas:
        return -_size(rs)
    before = (rs["metadata"].get("annotations") or {}).get(MAXIMUM)
    total = int(before) if before and int(before) else _count(state.deployment, "replicas") or _size(rs)
    return int(_size(rs) * (state.replicas + state.bounds()[0]) / total + 0.5) - _size(rs)


def _recreate(state: _State, old_pods_running: bool) -> Sizes:
    sizes = {rs["metadata"]["name"]: 0 for rs in state.old}
    if state.new and not old_pods_running and not any(map(_size, state.old)):
        sizes[state.new["metadata"]["name"]] = state.replicas
    return sizes


def _new_size(state: _State, size: int) -> int:
    """The new ReplicaSet's size: as large as maxSurge lets it grow."""
    if not state.rolling or size >= state.replicas:
        return state.replicas
    room = state.replicas + state.bounds()[0] - sum(map(_size, state.every))
    return size + max(min(room, state.replicas - size), 0)


def _roll(state: _State) -> Sizes:
    """Grow the new ReplicaSet, or, when it cannot grow now, shrink the old ones as far as availability allows."""
    new = state.new
    if new is None:
        return {}
    size = _new_size(state, _size(new))
    return {new["metadata"]["name"]: size} if size != _size(new) else _shrink_old(state, new)


def _shrink_old(state: _State, new: Obj) -> Sizes:
    """What is broken goes first and costs no availability; then what is healthy, as far as maxUnavailable lets it."""
    least = state.replicas - state.bounds()[1]
    unavailable = _size(new) - _count(new, "availableReplicas")
    spare = sum(map(_size, state.every)) - least - unavailable
    sizes = {rs["metadata"]["name"]: _size(rs) for rs in state.old}
    broken = {rs["metadata"]["name"]: _size(rs) - _count(rs, "availableReplicas") for rs in state.old}
    for gone in (broken, sizes):
        for name in sizes:
            step = max(min(spare, gone[name]), 0)
            sizes[name] -= step
            spare -= step
    return sizes


def _scale(state: _State, sizes: Sizes) -> Iterator[Action]:
    for rs in state.every:
        name, size = rs["metadata"]["name"], _size(rs)
        wanted = sizes.get(name, size)
        present = rs["metadata"].get("annotations") or {}
        annotations = present | _size_annotations(state)
        if wanted == size and (annotations == present or not size):
            continue
        spec = rs["spec"] | {"replicas": wanted}
        yield Replace(REPLICA_SETS, rs | {"metadata": rs["metadata"] | {"annotations": annotations}, "spec": spec})
        if wanted != size:
            direction = "up" if wanted > size else "down"
            message = f"Scaled {direction} replica set {name} from {size} to {wanted}"
            yield Event(state.deployment, "ScalingReplicaSet", message)


def _clean_up(state: _State) -> Iterator[Action]:
    """Delete what revisionHistoryLimit does not keep, once the rollout is complete."""
    limit = state.deployment["spec"].get("revisionHistoryLimit", 10)
    if not (_is_complete(state, _counts(state)) or state.deployment["spec"].get("paused")):
        return
    old = sorted((rs for rs in state.old if not is_deleting(rs)), key=_revision)
    for rs in old[: max(len(old) - limit, 0)]:
        settled = _count(rs, "observedGeneration") >= rs["metadata"].get("generation", 0)
        if settled and not _size(rs) and not _count(rs, "replicas"):
            yield Delete(REPLICA_SETS, rs)


# --- status ----------------------------------------------------------------------------------------------------------


def _deadline(deployment: Obj) -> timedelta | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds == 2**31 - 1 else timedelta(seconds=seconds)


def _counts(state: _State) -> dict[str, int]:
    every = state.every
    available = sum(_count(rs, "availableReplicas") for rs in every)
    return {
        "replicas": sum(_count(rs, "replicas") for rs in every),
        "updatedReplicas": _count(state.new, "replicas"),
        "readyReplicas": sum(_count(rs, "readyReplicas") for rs in every),
        "availableReplicas": available,
        "unavailableReplicas": max(sum(map(_size, every)) - available, 0),
    }


def _is_complete(state: _State, counts: dict[str, int]) -> bool:
    return {counts[name] for name in ("replicas", "updatedReplicas", "availableReplicas")} == {state.replicas}


def _status(state: _State) -> tuple[Obj, list[Wake]]:
    deployment = state.deployment
    counts = _counts(state)
    conditions, wakes = _conditions(state, counts)
    status = without_zeros({
        "observedGeneration": deployment["metadata"].get("generation", 0),
        **counts,
        "collisionCount": _count(deployment, "collisionCount"),
        "conditions": conditions,
    })  # fmt: skip
    status["terminatingReplicas"] = sum(_count(rs, "terminatingReplicas") for rs in state.every)
    return status, wakes


def _conditions(state: _State, counts: dict[str, int]) -> tuple[list[Obj], list[Wake]]:
    conditions = list((state.deployment.get("status") or {}).get("conditions") or [])
    if counts["availableReplicas"] >= state.replicas - state.bounds()[1]:
        available = _new_condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
        )
    else:
        message = "Deployment does not have minimum availability."
        available = _new_condition("Available", "False", "MinimumReplicasUnavailable", message)
    conditions = _with_failure(state, _set(conditions, available, state.now))
    deadline = _deadline(state.deployment)
    if deadline is None:
        return [c for c in conditions if c["type"] != "Progressing"], []
    progress = condition(state.deployment, "Progressing")
    new = _progress(state, counts, progress, deadline)
    if new:
        again = new["reason"] == progress.get("reason") == "ReplicaSetUpdated"
        conditions = _set(conditions, new, state.now, renew=again)
        progress = next(c for c in conditions if c["type"] == "Progressing")
    return conditions, _deadline_wakes(state, progress, deadline)


def _with_failure(state: _State, conditions: list[Obj]) -> list[Obj]:
    """That pods are refused, as the newest ReplicaSet says of which it is true."""
    others = [c for c in conditions if c["type"] != "ReplicaFailure"]
    failures = (condition(rs, "ReplicaFailure") for rs in reversed(state.every))
    found = next(filter(None, failures), None)
    if found is None:
        return others
    return _set(conditions, {name: found[name] for name in ("type", "status", "reason", "message")}, state.now)


def _progress(state: _State, counts: dict[str, int], current: Obj, deadline: timedelta) -> Obj | None:
    """The Progressing condition to set, None to leave it."""
    reason = current.get("reason")
    if state.deployment["spec"].get("paused"):
        paused = _new_condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        return None if reason == "ProgressDeadlineExceeded" else paused
    if reason == "DeploymentPaused":
        return _new_condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
    if is_deleting(state.deployment):
        return None
    if counts["replicas"] == counts["updatedReplicas"] and reason == "NewReplicaSetAvailable":
        return None
    subject = f'ReplicaSet "{state.new["metadata"]["name"]}"' if state.new else f'Deployment "{_name(state)}"'
    if _is_complete(state, counts):
        message = f"{subject} has successfully progressed."
        return _new_condition("Progressing", "True", "NewReplicaSetAvailable", message)
    if _has_moved(state.deployment, counts):
        return _new_condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.")
    if _timed_out(current, deadline, state.now):
        message = f"{subject} has timed out progressing."
        return _new_condition("Progressing", "False", "ProgressDeadlineExceeded", message)
    if not current and state.new:
        message = f'Found new replica set "{state.new["metadata"]["name"]}"'
        return _new_condition("Progressing", "True", "FoundNewReplicaSet", message)
    return None


def _name(state: _State) -> str:
    return str(state.deployment["metadata"]["name"])


def _has_moved(deployment: Obj, counts: dict[str, int]) -> bool:
    before = {name: _count(deployment, name) for name in counts}
    return (
        counts["updatedReplicas"] > before["updatedReplicas"]
        or counts["replicas"] - counts["updatedReplicas"] < before["replicas"] - before["updatedReplicas"]
        or counts["readyReplicas"] > before["readyReplicas"]
        or counts["availableReplicas"] > before["availableReplicas"]
    )


def _timed_out(current: Obj, deadline: timedelta, now: datetime) -> bool:
    if not current or current["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused"):
        return False
    since = parse_time(current.get("lastUpdateTime"))
    return current["reason"] == "ProgressDeadlineExceeded" or (since is not None and since + deadline < now)


def _deadline_wakes(state: _State, progress: Obj, deadline: timedelta) -> list[Wake]:
    """Nothing but the clock announces a missed deadline."""
    since = parse_time(progress.get("lastUpdateTime"))
    quiet = ("NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused")
    if since is None or progress["reason"] in quiet or state.deployment["spec"].get("paused"):
        return []
    # Times are whole seconds, and the deadline is missed when it lies in the past.
    return [Wake(since + deadline + timedelta(seconds=1))]


def _new_condition(kind: str, status: str, reason: str, message: str) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _set(conditions: list[Obj], new: Obj, now: datetime, *, renew: bool = False) -> list[Obj]:
    """Put `new` in. The same status and reason change nothing, unless `renew` asks for a new lastUpdateTime."""
    old: dict[str, Any] = next((c for c in conditions if c["type"] == new["type"]), {})
    same = old.get("status") == new["status"]
    if same and old.get("reason") == new["reason"] and not renew:
        return conditions
    time = format_time(now)
    placed = new | {"lastUpdateTime": time, "lastTransitionTime": old.get("lastTransitionTime", time) if same else time}
    return [*(c for c in conditions if c["type"] != new["type"]), placed]


# --- wiring ----------------------------------------------------------------------------------------------------------


def _of_replica_set(cache: Cache, rs: Obj) -> Iterator[str]:
    owner = controller_of(rs)
    if owner.get("kind") == "Deployment":
        yield f"{namespace_of(rs)}/{owner['name']}"
    elif not owner:
        same_namespace = cache.all(DEPLOYMENTS, namespace_of(rs))
        yield from (key_of(d) for d in same_namespace if matches(d["spec"]["selector"], rs))


def _of_pod(cache: Cache, pod: Obj) -> Iterator[str]:
    """Only Recreate waits for pods; everything else shows in the ReplicaSets."""
    owner = controller_of(pod)
    rs = cache.get(REPLICA_SETS, f"{namespace_of(pod)}/{owner['name']}") if owner.get("kind") == "ReplicaSet" else None
    for key in _of_replica_set(cache, rs) if rs else ():
        deployment = cache.get(DEPLOYMENTS, key)
        if deployment and _is_recreate(deployment):
            yield key


CONTROLLER = Controller(
    "deployment-controller",
    {DEPLOYMENTS: lambda _, obj: [key_of(obj)], REPLICA_SETS: _of_replica_set, PODS: _of_pod},
    observe,
    reconcile,
)
