"""Each child as the API server gets it: valid by the published schemas, restricted, and complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest

from creditmodel_inference.cli import parse
from creditmodel_operator import names
from creditmodel_operator.api.spec import Serving
from creditmodel_operator.children.deployment import deployment
from creditmodel_operator.children.hpa import hpa
from creditmodel_operator.children.pdb import pdb
from creditmodel_operator.children.service import service
from creditmodel_operator.revision import Owner, Revision

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
DIGEST = "sha256:" + "0123456789abcdef" * 4


def revision(**serving: Any) -> Revision:
    return Revision(
        owner=Owner("credit", "risk", "uid-1"),
        digest=DIGEST,
        uri="s3://models/v1",
        image="creditmodel-serving:1",
        serving=Serving.model_validate(serving),
        credentials="store",
        deadline_seconds=300,
    )


@pytest.mark.parametrize("version", ["1.32", "1.36"])
def test_every_child_is_valid_by_the_published_schemas(world: World, version: str) -> None:
    world.promote("v1", drift={"current": {"uri": "s3://log"}}, serving={"scoringLog": {"uri": "s3://log"}})
    world.spec(
        "v2", model={"signature": {"publicKeySecretRef": {"name": "keys"}}}, drift={"current": {"uri": "s3://log"}}
    )
    world.reconcile()
    kinds = set()
    for managers in world.applied.values():
        manifest = managers[names.FIELD_MANAGER]
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.add(manifest["kind"])
    assert kinds == {"Job", "CronJob", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"}


def test_a_serving_pod_knows_what_to_serve_and_nothing_else() -> None:
    pod = deployment(revision(scoringLog={"uri": "s3://log", "sampleRate": 0.5}), {})["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["command"] == ["creditmodel-serve"]
    arguments = container["args"]
    expected = {
        "--bundle": "s3://models/v1",
        "--digest": DIGEST,
        "--revision": "credit-0123456789",
        "--host": "$(POD_IP)",
        "--port": "8080",
        "--drain-seconds": "5",
        "--scoring-log": "s3://log",
        "--scoring-log-sample-rate": "0.5",
        "--termination-log": "/dev/termination-log",
    }
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == expected
    assert {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in container["env"]
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_pods_run_as_the_accounts_that_spec_names_and_name_one_in_any_case(world: World) -> None:
    world.promote("v1", drift={"current": {"uri": "s3://log"}})
    assert accounts(world) == {"Job": {"default"}, "CronJob": {"default"}, "Deployment": {"default"}}
    drift: JSON = {"drift": {"current": {"uri": "s3://log"}}}
    named = {"serving": {"serviceAccountName": "scorer"}, "jobs": {"serviceAccountName": "judge"}}
    world.promote("v2", **drift, **named)
    found = accounts(world)
    assert (found["Job"], found["CronJob"]) == ({"default", "judge"}, {"judge"})
    assert found["Deployment"] == {"default", "scorer"}


def test_pods_are_placed_as_spec_says_and_nothing_is_measured_again_for_it(world: World) -> None:
    drift: JSON = {"drift": {"current": {"uri": "s3://log"}}}
    v1 = world.promote("v1", **drift)
    jobs = world.names_of("Job")
    taint = {"key": "pool", "operator": "Equal", "value": "scoring", "effect": "NoSchedule"}
    scoring: JSON = {"nodeSelector": {"pool": "scoring"}, "tolerations": [taint], "priorityClassName": "high"}
    batch: JSON = {"nodeSelector": {"pool": "batch"}, "priorityClassName": "low"}
    world.promote("v1", **drift, serving=scoring, jobs=batch)
    assert world.names_of("Job") == jobs
    world.spec("v2", **drift, serving=scoring, jobs=batch)
    world.reconcile()
    for (kind, name), wanted in {
        ("Deployment", v1): scoring,
        ("CronJob", names.drift_cronjob("credit")): batch,
        ("Job", (world.names_of("Job") - jobs).pop()): batch,
    }.items():
        spec = world.objects[kind, name]["spec"]
        pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
        assert {key: pod.get(key) for key in scoring} == {key: wanted.get(key) for key in scoring}
    world.promote("v1", **drift)
    assert "nodeSelector" not in world.objects["Deployment", v1]["spec"]["template"]["spec"]


def test_a_check_whose_pod_was_lost_is_made_again_and_one_that_could_not_measure_is_not(world: World) -> None:
    world.promote("v1", drift={"current": {"uri": "s3://log"}})
    job = world.objects["CronJob", names.drift_cronjob("credit")]["spec"]["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 1
    final, moved_on = job["podFailurePolicy"]["rules"]
    assert final == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}
    assert (moved_on["action"], moved_on["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


def test_what_selects_serving_pods_selects_no_pod_of_a_job(world: World) -> None:
    world.promote("v1", drift={"current": {"uri": "s3://log"}})
    selectors, pods = [], []
    for (kind, _), item in world.objects.items():
        spec = item.get("spec", {}).get("jobTemplate", item).get("spec", {})
        if "selector" in spec:
            selectors.append(spec["selector"].get("matchLabels", spec["selector"]))
        if kind in ("Job", "CronJob"):
            pods.append(spec["template"]["metadata"]["labels"])
    assert len(selectors) == 3
    assert len(pods) >= 4
    assert not [pod for selector in selectors for pod in pods if selector.items() <= pod.items()]


def accounts(world: World) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for (kind, _), item in world.objects.items():
        spec = item.get("spec", {}).get("jobTemplate", item).get("spec", {})
        if "template" in spec:
            pod = spec["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            found.setdefault(kind, set()).add(pod["serviceAccountName"])
    return found


def test_a_serving_pod_is_ready_by_its_golden_rows_and_leaves_without_dropping_a_request() -> None:
    spec = deployment(revision(), {})["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz/live"
    # A server that hangs makes nobody wait for all the time that one has which drains.
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] < pod["terminationGracePeriodSeconds"] / 2
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz/live"
    assert "lifecycle" not in container
    served = parse(container["args"])
    finishing = served.drain_seconds + served.limits.request_seconds + 1
    assert 0 < served.drain_seconds < finishing < pod["terminationGracePeriodSeconds"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["progressDeadlineSeconds"] == 300


def test_the_size_of_a_deployment_is_left_to_others() -> None:
    assert "replicas" not in deployment(revision(), {})["spec"]


def test_a_cpu_request_is_always_there_for_the_autoscaler_to_measure_against() -> None:
    container = deployment(revision(), {})["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"]["cpu"]
    given = deployment(revision(resources={"requests": {"cpu": 2}}), {})["spec"]["template"]["spec"]["containers"][0]
    assert given["resources"] == {"requests": {"cpu": 2}}


def test_marks_stand_beside_what_identifies_the_model() -> None:
    notes = deployment(revision(), {names.GATED: "t"})["metadata"]["annotations"]
    assert (notes[names.DIGEST], notes[names.URI], notes[names.GATED]) == (DIGEST, "s3://models/v1", "t")


def test_a_revision_is_made_again_from_what_is_written_on_it() -> None:
    first = revision(replicas={"min": 3, "max": 4}, resources={"limits": {"cpu": "2"}})
    notes = deployment(first, {})["metadata"]["annotations"]
    assert Revision.of_annotations(first.owner, notes) == first


@pytest.mark.parametrize("written", ["", "{}", "not json", '{"serving": 1}', '{"serving": {}, "stranger": 1}'])
def test_a_recipe_that_cannot_be_read_is_none(written: str) -> None:
    assert Revision.of_annotations(Owner("c", "n", "u"), {names.RECIPE: written}) is None


def test_the_autoscaler_keeps_spec_s_bounds() -> None:
    spec = hpa(revision(replicas={"min": 3, "max": 9}, targetCPUUtilization=55))["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    assert spec["scaleTargetRef"]["name"] == "credit-0123456789"


def test_the_budget_never_blocks_a_drain_for_good() -> None:
    assert pdb(revision())["spec"]["maxUnavailable"] == 1


def test_the_service_selects_one_revision_and_has_the_model_s_own_name() -> None:
    found = service(revision())
    assert found["metadata"]["name"] == "credit"
    assert found["spec"]["selector"] == {names.INSTANCE: "credit", names.REVISION: "credit-0123456789"}
    assert found["spec"]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]
