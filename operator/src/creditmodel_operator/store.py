"""What the watches have told, and what the operator itself has written since.

A watch lags behind the operator's own writes. Each answer to a write is kept here until the watch has caught up, so
that the next pass reads what the last one wrote.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Set
from typing import Any

from creditmodel_operator import api
from creditmodel_operator.observed import Anything, Approval, Child, Deployment, Images, Job, Model, Observed, Pod, view

__all__ = ["Index", "Key", "Store", "key_of"]

Key = tuple[str, str]
"""Namespace and name of a CreditModel."""

PATIENCE_SECONDS = 30.0
"""How long an own write is believed without the watch telling it: an answer that outlived its object must not stay."""

_Written = tuple[int, Anything | None, float]
"""Resource version, what was written (None: deleted), and until when that is believed."""

Index = Mapping[Any, Iterable[Anything]]
"""A Kopf index: views by the CreditModel that they belong to."""


def key_of(kind: str, item: Anything) -> Key:
    """The CreditModel that an object belongs to."""
    if isinstance(item, Approval):
        return item.meta.namespace, item.model
    return item.meta.namespace, item.meta.name if kind == api.KIND else item.meta.instance


class Store:
    """Snapshots of one CreditModel and its children."""

    def __init__(self, images: Images, approval_namespaces: Set[str] = frozenset()) -> None:
        self.images = images
        self.approval_namespaces = approval_namespaces
        self.indexes: dict[str, Index] = {}
        self._written: dict[Key, dict[tuple[str, str], _Written]] = {}

    def wrote(self, key: Key, body: Mapping[str, Any]) -> None:
        """Remember the answer to a write until the watch has it."""
        item = view(body["kind"], body)
        entry = (_version(item.meta.resource_version), item, time.monotonic() + PATIENCE_SECONDS)
        self._written.setdefault(key, {})[body["kind"], item.meta.name] = entry

    def deleted(self, key: Key, kind: str, name: str, uid: str) -> None:
        """Remember a deletion until the watch has it: the object with this uid is not shown any more."""
        for item in self._indexed(kind, key):
            if item.meta.name == name and item.meta.uid == uid:
                entry = (_version(item.meta.resource_version), None, time.monotonic() + PATIENCE_SECONDS)
                self._written.setdefault(key, {})[kind, name] = entry

    def vanished(self, key: Key, kind: str, name: str, uid: str) -> None:
        """The watch has told that an object is gone: what was written to it before does not count any more."""
        _, item, _ = self._written.get(key, {}).get((kind, name), (0, None, 0.0))
        if item is None or item.meta.uid == uid:
            self._written.get(key, {}).pop((kind, name), None)

    def forget(self, key: Key) -> None:
        """The CreditModel is gone."""
        self._written.pop(key, None)

    def keys(self) -> list[Key]:
        """Every CreditModel."""
        return [key for key in self.indexes.get(api.KIND, ()) if key is not None]

    def observe(self, key: Key) -> Observed | None:
        """The snapshot; None when there is no such CreditModel."""
        model = next((item for item in self._seen(api.KIND, key) if isinstance(item, Model)), None)
        if model is None:
            return None
        uid = model.meta.uid
        cronjobs = _owned(self._seen("CronJob", key), uid)
        owners = {uid, *(item.meta.uid for item in cronjobs)}
        return Observed(
            model=model,
            jobs=tuple(item for item in self._seen("Job", key) if isinstance(item, Job) and item.meta.owner in owners),
            pods=tuple(item for item in self._seen("Pod", key) if isinstance(item, Pod)),
            deployments=tuple(
                item for item in _owned(self._seen("Deployment", key), uid) if isinstance(item, Deployment)
            ),
            autoscalers=_owned(self._seen("HorizontalPodAutoscaler", key), uid),
            budgets=_owned(self._seen("PodDisruptionBudget", key), uid),
            services=_owned(self._seen("Service", key), uid),
            cronjobs=cronjobs,
            approvals=tuple(item for item in self._seen(api.APPROVAL_KIND, key) if isinstance(item, Approval)),
            images=self.images,
            approval_required=not self.approval_namespaces.isdisjoint({"*", key[0]}),
        )

    def _indexed(self, kind: str, key: Key) -> list[Anything]:
        index = self.indexes.get(kind)
        return list(index[key]) if index is not None and key in index else []

    def _seen(self, kind: str, key: Key) -> list[Anything]:
        """What the watch told, with newer own writes in its place."""
        found: dict[str, Anything] = {item.meta.name: item for item in self._indexed(kind, key)}
        written = self._written.get(key, {})
        for (kind_, name), (version, item, until) in list(written.items()):
            if kind_ != kind:
                continue
            told = _version(found[name].meta.resource_version) if name in found else -1
            caught_up = told > version or (told == version and item is not None) or (told < 0 and item is None)
            if caught_up or time.monotonic() > until:
                del written[kind_, name]
            elif item is None:
                del found[name]
            else:
                found[name] = item
        return list(found.values())


def _owned(items: Iterable[Anything], uid: str) -> tuple[Child, ...]:
    return tuple(item for item in items if isinstance(item, Child) and item.meta.owner == uid)


def _version(resource_version: str) -> int:
    """Resource versions are compared only to see which of two views of one object is the newer."""
    return int(resource_version) if resource_version.isdigit() else 0
