"""The operator as a process on a real API: what the small world of the unit tests cannot show."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.integration.operator.conftest import Ground, Operator, Starter

JSON = dict[str, Any]
DRIFT = {"drift": {"current": {"uri": "file:///log"}}}


def revision(ground: Ground, role: str = "active") -> str:
    return str(ground.status[role]["revision"])


def test_a_model_is_gated_rolled_and_ready_without_a_trace_on_the_object_itself(ground: Ground) -> None:
    operator = ground.start()
    ground.apply("v1", **DRIFT)
    ground.ready("v1")
    assert ground.selected == revision(ground)
    assert ground.names("Deployment") == ground.names("HorizontalPodAutoscaler") == {revision(ground)}
    assert ground.names("CronJob") == {"credit-drift"}
    assert len(ground.objects("Job")) == 3
    meta = ground.model["metadata"]
    assert "finalizers" not in meta
    assert "annotations" not in meta
    assert {entry["manager"] for entry in meta["managedFields"]} == {"user", "creditmodel-operator"}
    assert operator.metric("creditmodel_operator_gate_verdicts_total", verdict="Passed") == 3
    assert operator.metric("creditmodel_operator_conditions", type="Ready", status="True") == 1


def test_a_rejected_challenger_leaves_the_champion_selected(ground: Ground) -> None:
    ground.start()
    ground.apply("v1")
    ground.ready("v1")
    champion = ground.selected
    ground.apply("v2")
    bad = {"parity": ground.measured("parity", "v2", envelope=[[1.0, 0.2]], max_abs_diff=0.2)}
    ground.until(lambda: ground.conditions["Stalled"] == "True", "Stalled", lambda: ground.step(**bad))
    found = ground.conditions
    assert (found["Ready"], found["ParityPassed"], found["Available"]) == ("False", "False", "True")
    assert "0.2" in ground.condition("Ready")["message"]
    assert ground.selected == champion
    assert ground.names("Deployment") == {champion}
    ground.hears("Promoted", "ParityFailed", "GateFailed")


def test_a_settled_model_is_never_written_to(ground: Ground) -> None:
    operator = ground.start()
    ground.apply("v1", **DRIFT)
    ground.ready("v1")
    settled(operator, ground)
    before, requests = ground.snapshot(), operator.metric("creditmodel_operator_api_requests_total")
    for number in range(5):
        passes = operator.metric("creditmodel_operator_passes_total")
        path = f"{ground.path('Deployment')}/{revision(ground)}"
        ground.server.patch(path, {"metadata": {"annotations": {"somebody/else": str(number)}}})
        another_pass(operator, ground, passes)
    assert operator.metric("creditmodel_operator_api_requests_total") == requests
    after = ground.snapshot()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {f"Deployment/{revision(ground)}"}


def another_pass(operator: Operator, ground: Ground, since: float) -> None:
    ground.until(lambda: operator.metric("creditmodel_operator_passes_total") > since, "another pass")


def settled(operator: Operator, ground: Ground) -> None:
    """Wait until the operator has had its last word."""

    def quiet() -> bool:
        ground.step()
        before = ground.snapshot()
        passes = operator.metric("creditmodel_operator_passes_total")
        ground.server.patch(
            f"{ground.path('CreditModel')}/credit", {"metadata": {"labels": {"poke": str(int(passes))}}}
        )
        another_pass(operator, ground, passes)
        after = ground.snapshot()
        return all(before[key] == after.get(key) for key in before if not key.startswith("CreditModel"))

    ground.until(quiet, "rest")


def test_deleted_children_come_back(ground: Ground) -> None:
    ground.start()
    ground.apply("v1")
    ground.ready("v1")
    champion = revision(ground)
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "Deployment"):
        path = f"{ground.path(kind)}/{'credit' if kind == 'Service' else champion}"
        uid = ground.server.get(path)["metadata"]["uid"]
        ground.server.delete(path)
        ground.until(lambda p=path, u=uid: is_another(ground, p, u), f"a new {kind}", ground.step)  # type: ignore[misc]
    ground.ready("v1")
    assert ground.selected == champion


def is_another(ground: Ground, path: str, uid: str) -> bool:
    answer = ground.server.request("GET", path)
    return answer.code == 200 and bool(answer.body["metadata"]["uid"] != uid)


def test_an_edit_by_hand_is_undone_and_the_autoscaler_s_replicas_stay(ground: Ground) -> None:
    ground.start()
    ground.apply("v1", serving={"replicas": {"min": 2, "max": 5}})
    ground.ready("v1")
    path = f"{ground.path('Deployment')}/{revision(ground)}"
    scale = {"spec": {"replicas": 4}}
    ground.server.patch(path, scale)
    ground.server.patch(path, {"spec": {"progressDeadlineSeconds": 7}})
    ground.until(lambda: ground.server.get(path)["spec"]["progressDeadlineSeconds"] == 600, "the edit undone")
    ground.ready("v1")
    assert ground.server.get(path)["spec"]["replicas"] == 4


def test_deleting_works_while_no_operator_runs(ground: Ground) -> None:
    operator = ground.start()
    ground.apply("v1")
    ground.ready("v1")
    assert operator.kill(signal.SIGTERM) == 0
    ground.server.delete(f"{ground.path('CreditModel')}/credit")
    assert ground.server.request("GET", f"{ground.path('CreditModel')}/credit").code == 404


def test_waiting_for_ready_is_true_to_the_generation_that_was_applied(
    ground: Ground, kubectl: Callable[..., str]
) -> None:
    wait = ("wait", "creditmodel/credit", "--for=condition=Ready", "-n", ground.namespace)
    ground.apply("v1")
    assert ground.status == {"observedGeneration": -1}
    assert "timed out" in kubectl(*wait, "--timeout=1s", fails=True)
    operator = ground.start()
    ground.ready("v1")
    kubectl(*wait, "--timeout=20s")
    operator.kill()
    ground.apply("v2")
    assert ground.conditions["Ready"] == "True"
    assert "timed out" in kubectl(*wait, "--timeout=1s", fails=True)
    ground.start()
    ground.ready("v2")
    kubectl(*wait, "--timeout=20s")


def test_setting_spec_back_takes_no_job_and_one_move_of_the_selector(ground: Ground) -> None:
    ground.start()
    ground.apply("v1")
    ground.ready("v1")
    first = ground.selected
    ground.apply("v2")
    ground.ready("v2")
    jobs = ground.names("Job")
    ground.apply("v1")
    ground.ready("v1")
    assert ground.selected == first
    assert ground.names("Job") == jobs


def test_an_operator_minds_its_own_namespaces(ground: Ground, start_operator: Starter, namespace: str) -> None:
    operator = start_operator(scope=("--namespace", "another"))
    ground.apply("v1")
    own = start_operator()
    ground.until(lambda: ground.names("Job"), "a Job")
    ground.until(lambda: own.metric("creditmodel_operator_passes_total") > 0, "a pass that is counted")
    assert operator.metric("creditmodel_operator_passes_total") == 0


def test_probes_and_metrics_answer(ground: Ground) -> None:
    operator = ground.start()
    assert operator.get("/healthz/live") == 200
    ground.until(lambda: operator.get("/healthz/ready") == 200, "readiness")
    assert operator.metric("creditmodel_operator_build_info") == 1
    assert operator.metric("creditmodel_operator_leader") == 1


def test_two_operators_and_one_lease_make_one_leader_and_a_successor(ground: Ground) -> None:
    election = ("--leader-elect", "--lease-namespace", ground.namespace)
    first = ground.start(*election, "--identity", "first")
    ground.until(lambda: first.metric("creditmodel_operator_leader") == 1, "a leader")
    second = ground.start(*election, "--identity", "second")
    ground.apply("v1")
    ground.ready("v1")
    assert second.metric("creditmodel_operator_passes_total") == 0
    ground.until(lambda: second.get("/healthz/ready") == 200, "a replica that is ready without leading")
    assert first.kill(signal.SIGTERM) == 0
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{ground.namespace}/leases"
    (lease,) = ground.server.get(leases)["items"]
    assert lease["spec"].get("holderIdentity") != "first", "the Lease, which lasts 15 s, was not given up"
    ground.until(lambda: second.metric("creditmodel_operator_leader") == 1, "a successor")
    ground.apply("v2")
    ground.ready("v2")


def test_the_log_is_json_with_the_object_s_key(ground: Ground) -> None:
    operator = ground.start()
    ground.apply("v1")
    ground.until(lambda: ground.names("Job"), "a Job")
    operator.kill(signal.SIGTERM)
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert f"{ground.namespace}/credit" in {line.get("key") for line in lines}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"model": {"uri": "models/credit"}}, "must be a URI that begins with"),
        ({"model": {"uri": "s3://m", "digest": "latest"}}, "digest must be sha256:"),
        ({"model": {"uri": "s3://m"}, "serving": {"replicas": {"min": 3, "max": 2}}}, "lower min or raise max"),
        ({"model": {"uri": "s3://m"}, "gates": {"quality": {}}}, "set minAUC"),
        ({"model": {"uri": "s3://m"}, "drift": {"current": {"uri": "s3://l", "window": "soon"}}}, "for example 90m"),
        (
            {"model": {"uri": "s3://m"}, "drift": {"current": {"uri": "s3://l"}, "schedule": "daily"}},
            "five cron fields",
        ),
        ({}, "model"),
    ],
)
def test_a_bad_object_is_refused_with_a_sentence_that_mends_it(ground: Ground, spec: JSON, sentence: str) -> None:
    document = {
        "apiVersion": "creditmodel.dev/v1alpha1",
        "kind": "CreditModel",
        "metadata": {"name": "bad"},
        "spec": spec,
    }
    answer = ground.server.request("POST", ground.path("CreditModel"), document)
    assert answer.code == 422
    assert sentence in answer.body["message"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("c" * 47, "at most 46 characters"), ("2nd", "begin with a lower-case letter"), ("a.b", "'-' only")],
)
def test_a_name_that_children_cannot_carry_is_refused(ground: Ground, name: str, sentence: str) -> None:
    document = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "CreditModel", "metadata": {"name": name}}
    answer = ground.server.request(
        "POST", ground.path("CreditModel"), document | {"spec": {"model": {"uri": "s3://m"}}}
    )
    assert answer.code == 422
    assert sentence in answer.body["message"]


def test_an_operator_without_a_cluster_says_what_is_missing(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "creditmodel-operator"), "run"]
    environment = {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none"), "PATH": "/usr/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_operator_waits_for_the_crd_alive_and_not_ready(
    start_apiserver: Callable[..., ApiServer], start_operator: Starter
) -> None:
    operator = start_operator(kubeconfig=start_apiserver().kubeconfig)
    while "apply crds/" not in operator.log.read_text():
        assert not operator.ended, operator.log.read_text()
        time.sleep(0.05)
    assert operator.get("/healthz/live") == 200
    assert operator.get("/healthz/ready") == 503
    assert operator.kill(signal.SIGTERM) == 0


def test_kubectl_explains_the_gates_in_sentences(crd: None, kubectl: Callable[..., str]) -> None:
    explained = kubectl("explain", "creditmodel.spec.gates", "--recursive=false")
    for field in ("parity", "benchmark", "quality", "approval"):
        assert re.search(rf"^  {field}\s+<Object>", explained, re.MULTILINE), explained
    words = " ".join(explained.split())
    assert "in this order: artifact, parity, benchmark, quality, approval." in words
    assert "a changed limit is judged again on the numbers at hand" in words
    assert "no decision at the cut-offs flips" in words
    assert "RBAC" in kubectl("explain", "modelapproval")
    for path, word in (("benchmark.minSpeedup", "95 % interval"), ("approval.required", "ModelApproval")):
        assert word in " ".join(kubectl("explain", f"creditmodel.spec.gates.{path}").split())
