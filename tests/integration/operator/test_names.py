"""An object of somebody else's that has a child's name is never touched, and the CreditModel says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.operator.conftest import Ground

JSON = dict[str, Any]
REVISION = "credit-3bfc269594"  # of the bundle v1
POD: JSON = {"metadata": {"labels": {"app": "mine"}}, "spec": {"containers": [{"name": "c", "image": "mine:1"}]}}
THEIRS: dict[str, tuple[str, str, JSON]] = {
    "Service": ("v1", "credit", {"selector": {"app": "mine"}, "ports": [{"port": 80, "targetPort": 9999}]}),
    "Deployment": ("apps/v1", REVISION, {"selector": {"matchLabels": {"app": "mine"}}, "template": POD}),
    "HorizontalPodAutoscaler": (
        "autoscaling/v2",
        REVISION,
        {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mine"}, "maxReplicas": 9},
    ),
    "PodDisruptionBudget": ("policy/v1", REVISION, {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "mine"}}}),
    "CronJob": (
        "batch/v1",
        "credit-drift",
        {
            "schedule": "@daily",
            "jobTemplate": {"spec": {"template": {"spec": {**POD["spec"], "restartPolicy": "Never"}}}},
        },
    ),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_what_is_somebody_else_s_is_left_alone_until_it_goes(ground: Ground, kind: str) -> None:
    version, name, spec = THEIRS[kind]
    path = f"{ground.path(kind)}/{name}"
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    theirs = ground.server.post(ground.path(kind), document)
    ground.start()
    ground.apply("v1", drift={"current": {"uri": "file:///log"}})
    ground.until(lambda: ground.conditions.get("Stalled") == "True", "Stalled", ground.step)
    stalled = ground.condition("Stalled")
    assert stalled["reason"] == "NameTaken"
    assert f"{kind} {ground.namespace}/{name}" in stalled["message"]
    assert "delete or rename it" in stalled["message"]
    assert ground.conditions["Ready"] == "False"
    serves = kind in ("HorizontalPodAutoscaler", "CronJob")  # they come after the Service
    assert ground.conditions["Available"] == str(serves)
    assert [share["revision"] for share in ground.status.get("traffic", [])] == [REVISION] * serves
    assert ground.status.get("active", {}).get("revision") == (REVISION if serves else None)
    ground.hears("NameTaken")
    now = ground.server.get(path)
    assert now["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"] or kind == "Deployment"
    assert (now["spec"], now["metadata"].get("ownerReferences")) == (theirs["spec"], None)

    ground.server.delete(path)
    ground.ready("v1")
    assert ground.hears("Promoted").count("Promoted") == 1
    owners = ground.server.get(path)["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["CreditModel"]


def test_a_service_that_is_somebody_else_s_is_noticed_before_anything_is_measured(ground: Ground) -> None:
    version, name, spec = THEIRS["Service"]
    document = {"apiVersion": version, "kind": "Service", "metadata": {"name": name}, "spec": spec}
    ground.server.post(ground.path("Service"), document)
    ground.start()
    ground.apply("v1")
    ground.until(lambda: ground.conditions.get("Stalled") == "True", "Stalled")
    assert ground.objects("Job") == []


def test_what_a_deleted_model_was_made_to_leave_behind_serves_on_and_is_taken_over(ground: Ground) -> None:
    ground.start()
    ground.apply("v1")
    ground.ready("v1")
    kinds = ("Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget")
    before = {(kind, o["metadata"]["name"]): o["metadata"]["uid"] for kind in kinds for o in ground.objects(kind)}
    ground.server.delete(f"{ground.path('CreditModel')}/credit")
    measured = ground.names("Job")
    for kind, name in [
        *before,
        *(("Job", job) for job in measured),
    ]:  # as the garbage collector does with --cascade=orphan
        ground.server.patch(f"{ground.path(kind)}/{name}", {"metadata": {"ownerReferences": None}})
    ground.apply("v1")
    ground.ready("v1")
    after = {(kind, o["metadata"]["name"]): o for kind in kinds for o in ground.objects(kind)}
    assert {key: o["metadata"]["uid"] for key, o in after.items()} == before
    uid = ground.model["metadata"]["uid"]
    assert {owner["uid"] for o in after.values() for owner in o["metadata"]["ownerReferences"]} == {uid}
    assert len(ground.names("Job") - measured) == len(measured)
