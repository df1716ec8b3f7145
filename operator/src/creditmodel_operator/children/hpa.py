"""The HorizontalPodAutoscaler of the champion. A candidate and a former champion have none: they keep their size."""

from __future__ import annotations

from creditmodel_operator.children.common import Manifest, manifest, revision_labels
from creditmodel_operator.revision import Revision

__all__ = ["hpa"]


def hpa(revision: Revision) -> Manifest:
    """Scales the revision's Deployment between spec's bounds on CPU use."""
    serving = revision.serving
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision.name},
        "minReplicas": serving.replicas.min,
        "maxReplicas": serving.replicas.max,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": serving.target_cpu_utilization},
                },
            }
        ],
    }
    labels = revision_labels(revision.owner, revision.name)
    return manifest(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        revision.name,
        revision.owner,
        labels=labels,
        annotations={},
        spec=spec,
    )
