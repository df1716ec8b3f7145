"""What a decision asks for, as data. Actions are carried out in order; the first that fails ends the pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from creditmodel_operator import names
from creditmodel_operator.children.common import Manifest

__all__ = ["Action", "Apply", "Claim", "Create", "Delete", "Event", "Look", "Plan", "annotate", "scale"]


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a manifest, whole or partial."""

    manifest: Manifest
    manager: str = names.FIELD_MANAGER
    size: int | None = None
    """`replicas` beside the manifest, where they are the manager's to give."""
    version: str | None = None
    """Only if this is still the object's resource version."""

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def body(self) -> Manifest:
        """What is sent."""
        meta = {"resourceVersion": self.version} if self.version is not None else {}
        spec = {"replicas": self.size} if self.size is not None else {}
        parts = {"metadata": meta, "spec": spec}
        return self.manifest | {key: self.manifest[key] | more for key, more in parts.items() if more}


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object that is not there. One of that name that belongs to a deleted namesake is not taken over."""

    manifest: Manifest

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one object, and only the one that was seen."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Make sure that a name is free, or the CreditModel's own: server-side apply would take over whatever has it.

    The watches show only what carries the operator's labels, so this has to be asked for.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Look:
    """Read a Job's pods from the API server: they, or their last words, should be there and are not."""

    name: str
    uid: str

    @property
    def kind(self) -> str:
        return "Job"


Action = Apply | Create | Delete | Claim | Look


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person would want to see in kubectl describe."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one decision."""

    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] | None = None
    """The whole status if it has to be written, else None."""
    events: tuple[Event, ...] = field(default=())
    """Emitted after status was written, so that a pass that is repeated does not repeat them."""
    look_again: datetime | None = None


def scale(namespace: str, deployment: str, replicas: int) -> Apply:
    """Give a Deployment a size under a manager of its own, so that the autoscaler can take the field over."""
    meta = {"name": deployment, "namespace": namespace}
    spec = {"replicas": replicas}
    return Apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}, names.SCALE_MANAGER)


def annotate(
    namespace: str, name: str, uid: str, annotations: Mapping[str, str], manager: str, kind: str = "Job"
) -> Apply:
    """Write on a Job or CronJob what has to outlive pods and Jobs. The uid keeps what is gone from being made anew."""
    meta = {"name": name, "namespace": namespace, "uid": uid, "annotations": dict(annotations)}
    return Apply({"apiVersion": "batch/v1", "kind": kind, "metadata": meta}, manager)
