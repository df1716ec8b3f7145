"""The Service of a CreditModel. Its selector is the one place that says which revision is the champion."""

from __future__ import annotations

from creditmodel_operator import names
from creditmodel_operator.children.common import Manifest, manifest
from creditmodel_operator.revision import Revision

__all__ = ["PORT", "service"]

PORT = 80


def service(revision: Revision) -> Manifest:
    """Sends every request to one revision's pods."""
    owner = revision.owner
    return manifest(
        "v1",
        "Service",
        names.service(owner.name),
        owner,
        labels=names.child_labels(owner.name, "serving"),
        annotations={names.DIGEST: revision.digest, names.RECIPE: revision.recipe()},
        spec={
            "type": "ClusterIP",
            "selector": {names.INSTANCE: owner.name, names.REVISION: revision.name},
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}],
        },
    )
