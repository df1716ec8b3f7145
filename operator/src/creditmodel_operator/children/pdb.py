"""The PodDisruptionBudget of a revision that takes requests, or is about to."""

from __future__ import annotations

from creditmodel_operator import names
from creditmodel_operator.children.common import Manifest, manifest, revision_labels
from creditmodel_operator.revision import Revision

__all__ = ["pdb"]


def pdb(revision: Revision) -> Manifest:
    """One pod at a time. A budget on what must stay would block every drain of a node where one replica is enough."""
    labels = revision_labels(revision.owner, revision.name)
    selector = {names.INSTANCE: revision.owner.name, names.REVISION: revision.name}
    return manifest(
        "policy/v1",
        "PodDisruptionBudget",
        revision.name,
        revision.owner,
        labels=labels,
        annotations={},
        spec={"maxUnavailable": 1, "selector": {"matchLabels": selector}},
    )
