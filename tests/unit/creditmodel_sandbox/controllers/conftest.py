"""A world in memory, which carries out the controllers' actions the way an API server would. Its clock stands still."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj, Resource, key_of
from creditmodel_sandbox.controllers.runtime import Action, Cache, Create, Delete, Event, Patch, Replace, Wake
from creditmodel_sandbox.objects import PODS, REPLICA_SETS, format_time, owner_reference

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class World:
    """Objects, the time, and what happened."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.now = START
        self.events: list[tuple[str, str]] = []
        self.wakes: list[datetime] = []
        self.refusals: dict[Resource, str] = {}
        self.writes = 0
        self._numbers = itertools.count(1)

    # Objects.

    def add(self, resource: Resource, name: str, *, owner: Obj | None = None, meta: Any = None, **content: Any) -> Obj:
        """A new object; `content` are its fields beside metadata."""
        metadata: Obj = {"name": name, **({"namespace": "ns"} if resource.namespaced else {}), **(meta or {})}
        if owner:
            metadata["ownerReferences"] = [owner_reference(owner)]
        return self._store(resource, {"metadata": metadata, **content})

    def _store(self, resource: Resource, obj: Obj) -> Obj:
        number = next(self._numbers)
        meta = {"uid": f"uid-{number}", "creationTimestamp": format_time(self.now), "generation": 1, **obj["metadata"]}
        meta["resourceVersion"] = str(number)
        made = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(obj), "metadata": meta}
        self.cache.change(resource, self.cache.get(resource, key_of(made)), made)
        return made

    def get(self, resource: Resource, name: str) -> Obj:
        """The object as it is now."""
        found = self.cache.get(resource, f"ns/{name}" if resource.namespaced else name)
        assert found is not None, f"no {resource.kind} {name}"
        return found

    def all(self, resource: Resource) -> list[Obj]:
        """Every object of a kind, in order of creation."""
        return sorted(self.cache.all(resource), key=lambda obj: int(obj["metadata"]["uid"].partition("-")[2]))

    def change(self, resource: Resource, obj: Obj, **content: Any) -> Obj:
        """Replace fields of an object; a changed spec is a new generation."""
        current = self.cache.get(resource, key_of(obj))
        assert current is not None
        new = {**current, **content}
        if "spec" in content and content["spec"] != current["spec"]:
            generation = current["metadata"].get("generation", 0) + 1
            new["metadata"] = {**new["metadata"], "generation": generation}
        return self._store(resource, new)

    def delete(self, resource: Resource, obj: Obj, *, grace: bool = False) -> None:
        """Delete an object: at once, or, with finalizers or a grace period, at first only marked."""
        current = self.cache.get(resource, key_of(obj))
        assert current is not None
        if grace or current["metadata"].get("finalizers"):
            stamp = {"deletionTimestamp": format_time(self.now), "deletionGracePeriodSeconds": 0}
            self._store(resource, {**current, "metadata": {**current["metadata"], **stamp}})
        else:
            self.cache.change(resource, current, None)

    # Pods.

    def pod(self, name: str, *, owner: Obj | None = None, ready: bool = False, **options: Any) -> Obj:
        """A pod; options are phase, node, labels, requests and anything else for metadata."""
        spec: Obj = {"containers": [{"name": "main", "resources": {"requests": options.pop("requests", {})}}]}
        if node := options.pop("node", ""):
            spec["nodeName"] = node
        phase = options.pop("phase", "Running" if ready else "Pending")
        status = {"phase": phase, "conditions": [self.ready(ready)], **options.pop("status", {})}
        return self.add(PODS, name, owner=owner, meta=options, spec=spec, status=status)

    def ready(self, ready: bool = True) -> Obj:
        """A Ready condition of now."""
        return {"type": "Ready", "status": str(ready), "lastTransitionTime": format_time(self.now)}

    def set_phase(self, pod: Obj, phase: str, **status: Any) -> Obj:
        """Let a pod reach a phase; Running is ready."""
        return self.change(PODS, pod, status={"phase": phase, "conditions": [self.ready(phase == "Running")], **status})

    # Time and actions.

    def pass_time(self, **time: float) -> None:
        """Move the clock."""
        self.now += timedelta(**time)

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what a controller decided."""
        for action in actions:
            match action:
                case Wake(at):
                    self.wakes.append(at)
                case Event():
                    self.events.append((action.reason, action.message))
                case Create(resource) if resource in self.refusals:
                    self.carry_out(action.refused(self.refusals[resource]))
                    return
                case _:
                    self.writes += 1
                    self._write(action)

    def _write(self, action: Create | Replace | Patch | Delete) -> None:
        match action:
            case Create(resource, body, event):
                body = copy.deepcopy(body)
                prefix = body["metadata"].pop("generateName", "")
                body["metadata"].setdefault("name", f"{prefix}{next(self._numbers)}")
                made = self._store(resource, body)
                if event:
                    self.events.append((event.reason, event.message.replace("{name}", made["metadata"]["name"])))
            case Replace(resource, body, "status"):
                self._check_version(resource, body)
                self.change(resource, body, status=body["status"])
            case Replace(resource, body):
                self._check_version(resource, body)
                self.change(resource, body, **{name: value for name, value in body.items() if name != "status"})
            case Patch(resource, obj, patch):
                self._check_version(resource, obj)
                self._patch(resource, obj, patch)
            case Delete(resource, obj):
                self.delete(resource, obj)

    def _check_version(self, resource: Resource, obj: Obj) -> None:
        current = self.cache.get(resource, key_of(obj))
        assert current is not None
        versions = [o["metadata"]["resourceVersion"] for o in (current, obj)]
        assert versions[0] == versions[1], f"conflict on {key_of(obj)}: one pass wrote it twice"

    def _patch(self, resource: Resource, obj: Obj, patch: Obj) -> None:
        current = self.cache.get(resource, key_of(obj))
        assert current is not None
        merged: Obj = _merge(current, patch)
        if merged["metadata"].get("deletionTimestamp") and not merged["metadata"].get("finalizers"):
            self.cache.change(resource, current, None)
        elif merged != current:
            self.change(resource, obj, **{name: merged[name] for name in ("metadata", "spec") if name in merged})

    def settle(self, *steps: Callable[[World], Sequence[Action]], limit: int = 200) -> None:
        """Let controllers act until none has anything left to write. The last look leaves its wakes in `wakes`."""
        for _ in range(limit):
            before = self.writes
            self.wakes = []
            for step in steps:
                self.carry_out(step(self))
            if self.writes == before:
                return
        raise AssertionError("the controllers never come to rest")


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


@pytest.fixture
def world() -> World:
    """An empty world."""
    return World()


@pytest.fixture
def replica_sets_act() -> Callable[[World], Sequence[Action]]:
    """One look of the ReplicaSet controller at every ReplicaSet."""
    from creditmodel_sandbox.controllers import replicaset

    def step(world: World) -> Sequence[Action]:
        snapshots = [replicaset.observe(world.cache, key_of(rs)) for rs in world.all(REPLICA_SETS)]
        return [action for s in snapshots if s for action in replicaset.reconcile(s, world.now)]

    return step
