"""Every object that the operator looks at, as it was last told of it.

Watches, whole lists and the answers to the operator's own writes tell of the same objects, each in its own time. The
newest resource version wins, so that the next pass reads what the last one wrote, and a watch that lags does not undo
it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from creditmodel_operator import api
from creditmodel_operator.observed import Anything, Approval, Child, Deployment, Images, Job, Model, Observed, Pod, view

__all__ = ["NO_DEMANDS", "Demands", "Key", "Store", "key_of"]

Key = tuple[str, str]
"""Namespace and name of a CreditModel."""

MEMORY_SECONDS = 120.0
"""How long a deletion is remembered: longer than any answer or list that began before it is under way."""


def key_of(kind: str, item: Anything) -> Key:
    """The CreditModel that an object belongs to."""
    if isinstance(item, Approval):
        return item.meta.namespace, item.model
    return item.meta.namespace, item.meta.name if kind == api.KIND else item.meta.instance


@dataclass(frozen=True, slots=True)
class Demands:
    """What the operator was told to ask of every model, out of the reach of those who write its spec."""

    approval_namespaces: frozenset[str] = frozenset()
    """Where every model needs an approval; "*" is everywhere."""
    public_keys: str | None = None
    """The Secret, in each namespace, whose keys must have signed every model."""


NO_DEMANDS = Demands()


class Store:
    """Snapshots of one CreditModel and its children.

    The methods that take news return the keys of the CreditModels that have to be looked at because of them.
    """

    def __init__(self, images: Images, demands: Demands = NO_DEMANDS) -> None:
        self.images = images
        self.demands = demands
        self._items: dict[str, dict[str, Anything]] = defaultdict(dict)
        """Kind, then uid."""
        self._uids: dict[tuple[str, Key], set[str]] = defaultdict(set)
        self._gone: dict[str, tuple[float, float]] = {}
        """uid of what was deleted: the newest version that does not count any more, and until when to remember it."""
        self._looked: set[str] = set()
        """uids of Jobs."""

    def saw(self, kind: str, body: Mapping[str, Any]) -> Collection[Key]:
        """A watch, a list or the answer to a write has this object."""
        item = view(kind, body)
        uid, version = item.meta.uid, _version(item.meta.resource_version)
        before = self._items[kind].get(uid)
        if before is not None and _version(before.meta.resource_version) >= version > 0:
            return ()
        if version <= self._gone.get(uid, (-1.0, 0.0))[0]:
            return ()
        if isinstance(item, Job):
            item = replace(item, seen=before.seen if isinstance(before, Job) else datetime.now(UTC))
        keys = {key_of(kind, item)}
        if before is not None:
            keys.add(self._remove(kind, before))
        self._items[kind][uid] = item
        self._uids[kind, key_of(kind, item)].add(uid)
        return keys

    def vanished(self, kind: str, uid: str) -> Collection[Key]:
        """A watch has told that an object is gone: whatever else is told of it is older."""
        self._bury(uid, math.inf)
        item = self._items[kind].get(uid)
        return () if item is None else (self._remove(kind, item),)

    def deleted(self, kind: str, uid: str) -> None:
        """The operator has deleted an object. Only what is newer shows it again: that it still ends, for instance."""
        item = self._items[kind].get(uid)
        if item is not None:
            self._bury(uid, _version(item.meta.resource_version))
            self._remove(kind, item)

    def listed(self, kind: str, namespace: str | None, uids: Set[str], version: str) -> Collection[Key]:
        """A whole list (None: of every namespace) had these objects: older ones that it does not name are gone."""
        missing = [
            item
            for uid, item in self._items[kind].items()
            if uid not in uids
            and namespace in (None, item.meta.namespace)
            and _version(item.meta.resource_version) <= _version(version)
        ]
        return {self._remove(kind, item) for item in missing}

    def looked(self, job: str) -> None:
        """The pods of the Job with this uid were read from the API server, after its end was seen."""
        self._looked.add(job)

    def observe(self, key: Key) -> Observed | None:
        """The snapshot; None when there is no such CreditModel."""
        model = next((item for item in self._of(api.KIND, key) if isinstance(item, Model)), None)
        if model is None:
            return None
        uid = model.meta.uid
        cronjobs = _owned(self._of("CronJob", key), uid)
        owners = {uid, *(item.meta.uid for item in cronjobs)}
        return Observed(
            model=model,
            jobs=tuple(self._jobs(key, owners)),
            pods=tuple(item for item in self._of("Pod", key) if isinstance(item, Pod)),
            deployments=tuple(
                item for item in _owned(self._of("Deployment", key), uid) if isinstance(item, Deployment)
            ),
            autoscalers=_owned(self._of("HorizontalPodAutoscaler", key), uid),
            budgets=_owned(self._of("PodDisruptionBudget", key), uid),
            services=_owned(self._of("Service", key), uid),
            cronjobs=cronjobs,
            approvals=tuple(item for item in self._of(api.APPROVAL_KIND, key) if isinstance(item, Approval)),
            images=self.images,
            approval_required=not self.demands.approval_namespaces.isdisjoint({"*", key[0]}),
            public_keys=self.demands.public_keys,
        )

    def _jobs(self, key: Key, owners: Set[str]) -> Iterator[Job]:
        for item in self._of("Job", key):
            if isinstance(item, Job) and item.meta.owner in owners:
                yield replace(item, looked=True) if item.meta.uid in self._looked else item

    def _of(self, kind: str, key: Key) -> Iterable[Anything]:
        """A CreditModel's objects of a kind. Of two with one name the older is about to be told gone."""
        items = [self._items[kind][uid] for uid in self._uids.get((kind, key), ())]
        items.sort(key=lambda item: _version(item.meta.resource_version))
        return {item.meta.name: item for item in items}.values()

    def _remove(self, kind: str, item: Anything) -> Key:
        key = key_of(kind, item)
        self._looked.discard(item.meta.uid)
        del self._items[kind][item.meta.uid]
        uids = self._uids[kind, key]
        uids.discard(item.meta.uid)
        if not uids:
            del self._uids[kind, key]
        return key

    def _bury(self, uid: str, version: float) -> None:
        now = time.monotonic()
        while self._gone and (oldest := next(iter(self._gone))) and self._gone[oldest][1] < now:
            del self._gone[oldest]
        self._gone.pop(uid, None)
        self._gone[uid] = (version, now + MEMORY_SECONDS)


def _owned(items: Iterable[Anything], uid: str) -> tuple[Child, ...]:
    return tuple(item for item in items if isinstance(item, Child) and item.meta.owner == uid)


def _version(resource_version: str) -> int:
    """Resource versions are compared only to see which of two views of one object is the newer."""
    return int(resource_version) if resource_version.isdigit() else 0
