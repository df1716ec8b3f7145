"""What Kubernetes documents of Deployments and ReplicaSets, as far as a model's rollout relies on it."""

from __future__ import annotations

from typing import Any

import pytest

REVISION = "deployment.kubernetes.io/revision"
PROGRESSED = ("True", "NewReplicaSetAvailable")


def deploy(cluster: Any, replicas: int = 2, image: str = "v1", **spec: Any) -> None:
    template = cluster.template(image=image, app="web")
    full = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    cluster.create("deployments", "web", full)


def set_image(cluster: Any, image: str, **spec: Any) -> None:
    main = [{"name": "main", "image": image}]
    cluster.patch("deployments", "web", {"spec": {"template": {"spec": {"containers": main}}, **spec}})


def image_of(obj: Any) -> str:
    spec = obj["spec"].get("template", obj)["spec"]
    return str(spec["containers"][0]["image"])


def replica_set(cluster: Any, image: str) -> Any:
    return next((rs for rs in cluster.all("replicasets") if image_of(rs) == image), None)


def rolled_out(cluster: Any) -> bool:
    """Whether `kubectl rollout status` would say so, while every pod is let run."""
    cluster.run_pods(app="web")
    web = cluster.get("deployments", "web")
    status, replicas = web.get("status") or {}, web["spec"]["replicas"]
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    return counts == {replicas} and status.get("observedGeneration") == web["metadata"]["generation"]


def test_a_deployment_makes_a_replica_set_named_after_its_template(cluster: Any) -> None:
    deploy(cluster)
    rs = cluster.until(lambda: replica_set(cluster, "v1"))
    label = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{label}"
    assert rs["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": label}
    assert rs["metadata"]["annotations"][REVISION] == "1"
    owner = rs["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "Deployment",
        "web",
        True,
        True,
    )
    pods = cluster.until(lambda: (found := cluster.all("pods", app="web")) and len(found) == 2 and found)
    assert {pod["metadata"]["labels"]["pod-template-hash"] for pod in pods} == {label}
    assert all(pod["metadata"]["name"].startswith(f"web-{label}-") for pod in pods)
    cluster.until(lambda: cluster.get("deployments", "web")["metadata"].get("annotations", {}).get(REVISION) == "1")
    cluster.until(lambda: cluster.event("ScalingReplicaSet", "web"))
    cluster.until(lambda: cluster.event("SuccessfulCreate", rs["metadata"]["name"]))


def test_a_deployment_is_available_and_progressed_once_its_pods_are_ready(cluster: Any) -> None:
    deploy(cluster)
    cluster.until(
        lambda: (
            cluster.condition(cluster.get("deployments", "web"), "Available") == ("False", "MinimumReplicasUnavailable")
        )
    )
    cluster.until(lambda: rolled_out(cluster))
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "Progressing") == PROGRESSED)
    web = cluster.get("deployments", "web")
    assert cluster.condition(web, "Available") == ("True", "MinimumReplicasAvailable")
    assert web["status"]["readyReplicas"] == 2
    assert "unavailableReplicas" not in web["status"]


@pytest.mark.parametrize(("surge", "unavailable", "most", "least"), [(1, 0, 4, 3), (0, 1, 3, 2)])
def test_a_rolling_update_keeps_its_bounds(cluster: Any, surge: int, unavailable: int, most: int, least: int) -> None:
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    deploy(cluster, 3, strategy=strategy)
    cluster.until(lambda: rolled_out(cluster))
    set_image(cluster, "v2")

    def step() -> bool:
        # What bounds the pods: they themselves come and go by two ReplicaSets, which do not wait for one another.
        assert sum(found["spec"]["replicas"] for found in cluster.all("replicasets", app="web")) <= most
        pods = [pod for pod in cluster.all("pods", app="web") if not pod["metadata"].get("deletionTimestamp")]
        assert sum(pod["status"]["phase"] == "Running" for pod in pods) >= least
        waiting = [pod for pod in pods if pod["status"]["phase"] == "Pending"]
        if waiting:
            cluster.set_pod(waiting[0]["metadata"]["name"], "Running", ready=True)
        return len(pods) == 3 and not waiting and {image_of(pod) for pod in pods} == {"v2"}

    cluster.until(step)
    assert replica_set(cluster, "v1")["spec"]["replicas"] == 0
    assert replica_set(cluster, "v2")["metadata"]["annotations"][REVISION] == "2"


def test_a_template_that_comes_back_uses_its_replica_set_again(cluster: Any) -> None:
    deploy(cluster, 1)
    cluster.until(lambda: rolled_out(cluster))
    first = replica_set(cluster, "v1")["metadata"]["uid"]
    for image in ("v2", "v1"):
        set_image(cluster, image)
        cluster.until(lambda: rolled_out(cluster))
    again = cluster.until(lambda: (rs := replica_set(cluster, "v1"))["metadata"]["annotations"][REVISION] == "3" and rs)
    assert again["metadata"]["uid"] == first
    assert len(cluster.all("replicasets")) == 2


def test_pods_that_do_not_become_ready_exceed_the_progress_deadline(cluster: Any) -> None:
    deploy(cluster, progressDeadlineSeconds=1)
    exceeded = ("False", "ProgressDeadlineExceeded")
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "Progressing") == exceeded)
    cluster.until(lambda: rolled_out(cluster))
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "Progressing") == PROGRESSED)


def test_recreate_waits_for_the_last_old_pod(cluster: Any) -> None:
    deploy(cluster, 1, strategy={"type": "Recreate"})
    cluster.until(lambda: rolled_out(cluster))
    (old,) = cluster.all("pods", app="web")
    cluster.patch("pods", old["metadata"]["name"], {"metadata": {"finalizers": ["conformance.test/hold"]}})
    set_image(cluster, "v2")
    cluster.until(lambda: cluster.get("pods", old["metadata"]["name"])["metadata"].get("deletionTimestamp"))
    assert [image_of(pod) for pod in cluster.all("pods", app="web")] == ["v1"]
    cluster.patch("pods", old["metadata"]["name"], {"metadata": {"finalizers": None}})
    cluster.until(lambda: [image_of(pod) for pod in cluster.all("pods", app="web")] == ["v2"])


def test_a_paused_deployment_does_not_roll(cluster: Any) -> None:
    deploy(cluster, 1)
    cluster.until(lambda: rolled_out(cluster))
    set_image(cluster, "v2", paused=True)
    paused = ("Unknown", "DeploymentPaused")
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "Progressing") == paused)
    assert replica_set(cluster, "v2") is None
    cluster.patch("deployments", "web", {"spec": {"paused": False}})
    cluster.until(lambda: rolled_out(cluster) and replica_set(cluster, "v2"))


def test_scaling_to_zero_leaves_no_pod_and_stays_available(cluster: Any) -> None:
    deploy(cluster)
    cluster.until(lambda: rolled_out(cluster))
    cluster.patch("deployments", "web", {"spec": {"replicas": 0}}, "scale")
    cluster.until(lambda: not cluster.all("pods", app="web"))
    cluster.until(lambda: "replicas" not in cluster.get("deployments", "web")["status"])
    assert cluster.condition(cluster.get("deployments", "web"), "Available")[0] == "True"


def test_old_replica_sets_are_kept_up_to_the_history_limit(cluster: Any) -> None:
    deploy(cluster, 1, revisionHistoryLimit=1)
    for image in ("v1", "v2", "v3"):
        set_image(cluster, image)
        cluster.until(lambda: rolled_out(cluster))
    cluster.until(lambda: {image_of(rs) for rs in cluster.all("replicasets")} == {"v2", "v3"})


def test_min_ready_seconds_delays_availability(cluster: Any) -> None:
    deploy(cluster, 1, minReadySeconds=2)

    def status() -> Any:
        cluster.run_pods(app="web")
        return cluster.get("deployments", "web").get("status") or {}

    cluster.until(lambda: status().get("readyReplicas") == 1)
    assert "availableReplicas" not in status()
    cluster.until(lambda: status().get("availableReplicas") == 1)


def test_a_pod_that_is_not_admitted_is_said_by_an_event_and_tried_again(cluster: Any) -> None:
    template = cluster.template(app="web")
    template["spec"]["serviceAccountName"] = "robot"
    cluster.create("deployments", "web", {"selector": {"matchLabels": {"app": "web"}}, "template": template})
    rs = cluster.until(lambda: replica_set(cluster, "v1"))
    event = cluster.until(lambda: cluster.event("FailedCreate", rs["metadata"]["name"]))
    assert event["type"] == "Warning"
    assert 'serviceaccount "robot" not found' in event["message"]
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts"
    cluster.api.post(path, {"metadata": {"name": "robot"}})
    cluster.until(lambda: cluster.all("pods", app="web"), seconds=90)


def test_refused_pods_are_the_condition_replica_failure_until_they_are_taken(cluster: Any) -> None:
    template = cluster.template(app="web")
    template["spec"]["serviceAccountName"] = "robot"
    cluster.create("deployments", "web", {"selector": {"matchLabels": {"app": "web"}}, "template": template})
    failed = ("True", "FailedCreate")
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "ReplicaFailure") == failed)
    rs = cluster.until(lambda: replica_set(cluster, "v1"))
    assert cluster.condition(rs, "ReplicaFailure") == failed
    cluster.api.post(f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts", {"metadata": {"name": "robot"}})
    taken = ("", "")
    cluster.until(lambda: cluster.condition(cluster.get("deployments", "web"), "ReplicaFailure") == taken, seconds=90)


def test_a_deleted_pod_is_replaced(cluster: Any) -> None:
    deploy(cluster, 1)
    (pod,) = cluster.until(lambda: cluster.all("pods", app="web"))
    cluster.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    cluster.until(lambda: [p for p in cluster.all("pods", app="web") if p["metadata"]["uid"] != pod["metadata"]["uid"]])


def test_scaling_down_removes_pods_that_are_not_ready_first(cluster: Any) -> None:
    deploy(cluster, 3)
    pods = cluster.until(lambda: (found := cluster.all("pods", app="web")) and len(found) == 3 and found)
    ready = pods[1]["metadata"]["name"]
    cluster.set_pod(ready, "Running", ready=True)
    cluster.until(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 1)
    cluster.patch("deployments", "web", {"spec": {"replicas": 1}})
    cluster.until(lambda: [pod["metadata"]["name"] for pod in cluster.all("pods", app="web")] == [ready])


def test_a_pod_whose_labels_no_longer_match_is_let_go_and_replaced(cluster: Any) -> None:
    deploy(cluster, 1)
    (pod,) = cluster.until(lambda: cluster.all("pods", app="web"))
    cluster.patch("pods", pod["metadata"]["name"], {"metadata": {"labels": {"app": "quarantine"}}})
    cluster.until(lambda: not cluster.get("pods", pod["metadata"]["name"])["metadata"].get("ownerReferences"))
    cluster.until(lambda: cluster.all("pods", app="web"))
