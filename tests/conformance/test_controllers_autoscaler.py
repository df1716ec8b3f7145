"""What Kubernetes documents of the HorizontalPodAutoscaler where no metrics can be read."""

from __future__ import annotations

from typing import Any

import pytest


def deploy(cluster: Any, replicas: int) -> None:
    """A Deployment of pods that nothing runs."""
    template = cluster.template(app="web")
    template["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    selector = {"matchLabels": {"app": "web"}}
    cluster.create("deployments", "web", {"replicas": replicas, "selector": selector, "template": template})


def autoscale(cluster: Any, least: int, most: int) -> None:
    """An autoscaler for the Deployment."""
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    cluster.create("horizontalpodautoscalers", "web", spec)


def hpa(cluster: Any) -> Any:
    return cluster.get("horizontalpodautoscalers", "web")


def replicas(cluster: Any) -> int:
    return int(cluster.get("deployments", "web")["spec"]["replicas"])


def test_without_metrics_scaling_is_not_active_and_nothing_is_scaled(cluster: Any) -> None:
    deploy(cluster, 2)
    autoscale(cluster, 1, 5)
    missing = ("False", "FailedGetResourceMetric")
    cluster.until(lambda: cluster.condition(hpa(cluster), "ScalingActive") == missing)
    assert cluster.condition(hpa(cluster), "AbleToScale") == ("True", "SucceededGetScale")
    assert hpa(cluster)["status"]["currentReplicas"] == 2
    assert replicas(cluster) == 2
    cluster.until(lambda: cluster.event("FailedGetResourceMetric", "web"))


@pytest.mark.parametrize(("start", "end"), [(5, 3), (1, 2)])
def test_a_count_outside_the_bounds_is_brought_to_them(cluster: Any, start: int, end: int) -> None:
    deploy(cluster, start)
    autoscale(cluster, 2, 3)
    cluster.until(lambda: replicas(cluster) == end)
    cluster.until(lambda: cluster.event("SuccessfulRescale", "web"))


def test_a_deployment_at_zero_is_left_there(cluster: Any) -> None:
    deploy(cluster, 0)
    autoscale(cluster, 1, 3)
    disabled = ("False", "ScalingDisabled")
    cluster.until(lambda: cluster.condition(hpa(cluster), "ScalingActive") == disabled)
    assert replicas(cluster) == 0


def test_a_target_that_is_not_there_is_said(cluster: Any) -> None:
    autoscale(cluster, 1, 3)
    cluster.until(lambda: cluster.condition(hpa(cluster), "AbleToScale") == ("False", "FailedGetScale"))
