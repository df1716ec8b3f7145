"""Which revisions exist, and which one is the champion: observations, read from the Service and the Deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from creditmodel_bundle.measurement import EvaluationSummary
from creditmodel_operator import names
from creditmodel_operator.observed import Deployment, Observed, parse_time
from creditmodel_operator.revision import Owner, Revision

__all__ = ["Fleet", "Live", "fleet"]


@dataclass(frozen=True, slots=True)
class Live:
    """A revision that has a Deployment."""

    deployment: Deployment
    revision: Revision
    notes: Mapping[str, str]
    """Annotations of the Deployment. What was written there and cannot be read is not among them."""

    @property
    def name(self) -> str:
        """Name of the revision and its Deployment."""
        return self.deployment.meta.name

    @property
    def active_since(self) -> datetime | None:
        """When it was last promoted; None: never."""
        return parse_time(self.notes.get(names.ACTIVE_SINCE))

    @property
    def candidate_since(self) -> datetime | None:
        """When it was started to become the champion."""
        return parse_time(self.notes.get(names.CANDIDATE_SINCE))

    @property
    def evaluation(self) -> EvaluationSummary | None:
        """The model's hold-out figures, if it was promoted with any."""
        return _evaluation(self.notes.get(names.EVALUATION))

    def complete(self, replicas: int) -> bool:
        """Every pod is of the newest template, and there are at least `replicas` of them, all available."""
        seen = self.deployment
        return (
            seen.observed_generation >= seen.meta.generation
            and seen.desired >= replicas
            and seen.total == seen.updated == seen.desired
            and seen.ready >= seen.desired
            and seen.available >= seen.desired
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every revision, and the champion."""

    owner: Owner
    live: Mapping[str, Live]
    champion: Revision | None

    def of(self, revision: Revision | None) -> Live | None:
        """The revision's Deployment, where there is one."""
        return None if revision is None else self.live.get(revision.name)

    @property
    def promoted(self) -> list[Live]:
        """Revisions that are or were champion, the newest first."""
        found = [(live.active_since, live) for live in self.live.values() if live.active_since is not None]
        return [live for _, live in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def accepted(self, token: str | None) -> frozenset[str]:
        """Digests whose gates count as passed under this retryToken, whatever token they were measured under.

        The champion's does if it was accepted under this very token. A former champion's always does: going back to it
        must be instant.
        """
        name = self.champion.name if self.champion else None
        accepted = (live for live in self.promoted if live.name != name or live.notes.get(names.GATED) == (token or ""))
        return frozenset(live.revision.digest for live in accepted)


def fleet(owner: Owner, observed: Observed) -> Fleet:
    """The revisions that exist. The champion is what the Service selects, as long as the operator wrote the selector.

    A selector that was edited by hand, or a Service that was deleted, falls back to the revision promoted last, and
    where the Deployments are gone too, to what the operator last wrote on the Service.
    """
    found = (_live(owner, item) for item in observed.deployments)
    live = {item.name: item for item in found if item is not None}
    without = Fleet(owner, live, None)
    champion = _written(owner, observed)
    edited = champion is None or _selector(observed) != champion.name
    if edited and without.promoted:
        champion = without.promoted[0].revision
    if champion is not None and champion.name in live:
        champion = live[champion.name].revision
    return Fleet(owner, live, champion)


def _live(owner: Owner, item: Deployment) -> Live | None:
    notes = item.meta.annotations
    revision = Revision.of_annotations(owner, notes)
    if revision is None or revision.name != item.meta.name or item.meta.deleting:
        return None
    return Live(item, revision, {key: text for key, text in notes.items() if _readable(key, text)})


def _readable(key: str, text: str) -> bool:
    """Whether an annotation is as the operator writes it: an edit by hand or another release may have changed it."""
    reader = _READERS.get(key)
    return reader is None or reader(text) is not None


def _evaluation(text: str | None) -> EvaluationSummary | None:
    try:
        return None if text is None else EvaluationSummary.model_validate_json(text)
    except ValidationError:
        return None


_READERS: Mapping[str, Callable[[str], object]] = {
    names.ACTIVE_SINCE: parse_time,
    names.CANDIDATE_SINCE: parse_time,
    names.EVALUATION: _evaluation,
}


def _written(owner: Owner, observed: Observed) -> Revision | None:
    """What the Service was last made to select: its annotation and its selector are written at once."""
    found = (Revision.of_annotations(owner, service.meta.annotations) for service in observed.services)
    return next((revision for revision in found if revision is not None), None)


def _selector(observed: Observed) -> str | None:
    """What the Service selects."""
    return next((service.spec.get("selector", {}).get(names.REVISION) for service in observed.services), None)
