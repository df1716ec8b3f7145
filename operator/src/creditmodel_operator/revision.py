"""A revision: one model as it is served, with everything that its Deployment is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from creditmodel_operator import names
from creditmodel_operator.api.base import Part
from creditmodel_operator.api.spec import CreditModelSpec, Serving
from creditmodel_operator.observed import Images

__all__ = ["Owner", "Revision"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The CreditModel that children belong to."""

    name: str
    namespace: str
    uid: str


class _Recipe(Part):
    """A recipe as it is written. What a newer release has added is ignored, so that an older one can take over."""

    digest: str
    uri: str
    image: str
    serving: Serving
    credentials: str | None = None
    deadline_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Revision:
    """What a digest is served with. The name depends on the digest alone."""

    owner: Owner
    digest: str
    uri: str
    image: str
    serving: Serving
    credentials: str | None = None
    deadline_seconds: int = 600

    @property
    def name(self) -> str:
        """Name of the revision and its Deployment."""
        return names.revision(self.owner.name, self.digest)

    @classmethod
    def of_spec(cls, owner: Owner, spec: CreditModelSpec, digest: str, images: Images) -> Self:
        """The revision that spec asks for."""
        secret = spec.model.credentials_secret_ref
        return cls(
            owner=owner,
            digest=digest,
            uri=spec.model.uri,
            image=spec.serving.image or images.serving,
            serving=spec.serving,
            credentials=secret.name if secret else None,
            deadline_seconds=spec.rollout.progress_deadline_seconds,
        )

    @classmethod
    def of_annotations(cls, owner: Owner, annotations: Mapping[str, str]) -> Self | None:
        """The revision that a child was made for, from what was written on it; None if that cannot be read."""
        try:
            recipe = _Recipe.model_validate_json(annotations[names.RECIPE])
        except (KeyError, ValidationError):
            return None
        return cls(owner, **{name: getattr(recipe, name) for name in _Recipe.model_fields})

    def recipe(self) -> str:
        """Everything that the Deployment is made from, as an annotation that `of_annotations` reads."""
        document: dict[str, Any] = {
            "digest": self.digest,
            "uri": self.uri,
            "image": self.image,
            "serving": self.serving.wire(),
            "credentials": self.credentials,
            "deadline_seconds": self.deadline_seconds,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))
