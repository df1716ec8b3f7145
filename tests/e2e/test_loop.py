"""The life of one CreditModel, in order: each test begins where the one before it ended."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from conftest import Bundles
from harness import models
from harness.cluster import TIMEOUT, Cluster, endpoint
from harness.kubectl import Kubectl, until
from harness.load import load, score

NAME = "credit-default"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def spec(ours: Cluster) -> dict[str, Any]:
    """What every version of the resource has besides its model."""
    work = ours.work / "live"
    return {
        "serving": {
            "replicas": {"min": 2, "max": 3},
            # A node of two cores also has room for a Job that asks for a whole one, however far load has scaled out.
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "scoringLog": {"uri": models.uri(work / "scores")},
            **ours.placement,
        },
        "jobs": ours.placement,
        "rollout": {"progressDeadlineSeconds": 120},
        "drift": {
            "schedule": "0 5 * * *",
            "current": {"uri": models.uri(work / "scores"), "window": "24h"},
            "consecutiveBreaches": 2,
            "report": {"uri": models.uri(work / "reports")},
        },
    }


@pytest.fixture(scope="module")
def address(kubectl: Kubectl, ours: Cluster) -> Iterator[str]:
    with endpoint(kubectl, NAME, ours.work / "forward.log") as url:
        yield url


def apply(kubectl: Kubectl, bundle: Path, spec: dict[str, Any]) -> None:
    kubectl.apply(models.credit_model(NAME, bundle, **spec))


def wait(kubectl: Kubectl, condition: str) -> dict[str, Any]:
    """Wait for a condition at the present generation; returns the status."""
    kubectl.wait(f"creditmodel/{NAME}", condition, TIMEOUT)
    return status(kubectl)


def status(kubectl: Kubectl) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("creditmodel", NAME)["status"]
    return found


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in found["conditions"]}


def message(found: dict[str, Any], condition: str) -> str:
    return next(str(c["message"]) for c in found["conditions"] if c["type"] == condition)


def told(kubectl: Kubectl, reason: str) -> list[dict[str, Any]]:
    """The Events of a reason."""
    return [event for event in kubectl.get("events")["items"] if event["reason"] == reason]


def test_the_first_model_is_gated_and_then_served(kubectl: Kubectl, bundles: Bundles, spec: dict[str, Any]) -> None:
    apply(kubectl, bundles.v1, spec)
    found = wait(kubectl, "Ready")
    passed = conditions(found)
    for gate in ("ArtifactVerified", "ParityPassed", "BenchmarkPassed", "Available"):
        assert passed[gate] == "True", gate
    assert passed["Stalled"] == "False"
    assert found["active"]["digest"] == models.digest(bundles.v1)
    finished = {job["metadata"]["labels"].get("creditmodel.dev/gate") for job in kubectl.get("jobs")["items"]}
    assert finished >= {"artifact", "parity", "benchmark"}
    assert all(found["observedGeneration"] == c["observedGeneration"] for c in found["conditions"])


def test_an_answer_names_the_model_the_decision_and_the_reasons(
    address: str, bundles: Bundles, applicants: list[dict[str, object]]
) -> None:
    answer = score(address, applicants[:3])
    assert answer["model"]["digest"] == models.digest(bundles.v1)
    assert len(answer["results"]) == 3
    for result in answer["results"]:
        assert 0 < result["probability"] < 1
        assert result["decision"] == result["cutoff"]["decision"]
        assert all(reason["contribution"] > 0 for reason in result["reasons"])


def test_input_outside_the_contract_gets_422_naming_field_and_allowed_values(
    address: str, applicants: list[dict[str, object]]
) -> None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
    body = json.dumps({"applicants": [{**applicants[0], "education": "castle"}]})
    connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert response.status == 422
    assert problem["errors"][0]["path"] == "/applicants/0/education"
    assert problem["errors"][0]["allowed"]


def test_the_printed_columns_tell_the_state(kubectl: Kubectl) -> None:
    header, row = kubectl("get", "crm", NAME).splitlines()
    assert header.split()[:3] == ["NAME", "PHASE", "READY"]
    assert row.split()[2] == "True"


def test_a_damaged_challenger_never_takes_a_request(
    kubectl: Kubectl, address: str, bundles: Bundles, spec: dict[str, Any], applicants: list[dict[str, object]]
) -> None:
    with load(address, applicants) as seen:
        apply(kubectl, bundles.damaged, spec)
        found = wait(kubectl, "Stalled")
    after = conditions(found)
    assert (after["ParityPassed"], after["Ready"], after["Available"]) == ("False", "False", "True")
    assert "limit" in message(found, "Ready") or "atol" in message(found, "Ready")
    assert seen.failures == []
    assert set(seen.answered) == {models.digest(bundles.v1)}
    deployed = {d["metadata"]["annotations"]["creditmodel.dev/digest"] for d in kubectl.get("deployments")["items"]}
    assert deployed == {models.digest(bundles.v1)}


def test_a_corrupt_bundle_is_refused_and_the_champion_stays(
    kubectl: Kubectl, bundles: Bundles, spec: dict[str, Any]
) -> None:
    apply(kubectl, bundles.corrupt, spec)
    found = wait(kubectl, "Stalled")
    after = conditions(found)
    assert (after["ArtifactVerified"], after["Available"]) == ("False", "True")
    assert "model.onnx" in message(found, "ArtifactVerified")


def test_setting_spec_back_is_ready_at_once_without_another_job(
    kubectl: Kubectl, bundles: Bundles, spec: dict[str, Any]
) -> None:
    before = {job["metadata"]["uid"] for job in kubectl.get("jobs")["items"]}
    apply(kubectl, bundles.v1, spec)
    kubectl.wait(f"creditmodel/{NAME}", "Ready", TIMEOUT)
    assert {job["metadata"]["uid"] for job in kubectl.get("jobs")["items"]} <= before


def test_a_challenger_that_nobody_trusted_has_signed_is_refused(
    kubectl: Kubectl, bundles: Bundles, signing_key: Path, spec: dict[str, Any]
) -> None:
    public = f"--from-file=public.pem={signing_key.with_name('public.pem')}"
    kubectl("create", "secret", "generic", "model-signing", public)
    kubectl.apply(signed(bundles.v3, spec))
    found = wait(kubectl, "Stalled")
    after = conditions(found)
    assert (after["ArtifactVerified"], after["Available"]) == ("False", "True")
    assert next(c["reason"] for c in found["conditions"] if c["type"] == "ArtifactVerified") == "Unsigned"


def signed(bundle: Path, spec: dict[str, Any], **rollout: str) -> dict[str, Any]:
    """A CreditModel that asks for a signature."""
    resource = models.credit_model(NAME, bundle, **{**spec, "rollout": {**spec["rollout"], **rollout}})
    resource["spec"]["model"]["signature"] = {"publicKeySecretRef": {"name": "model-signing"}}
    return resource


def test_a_good_challenger_takes_over_without_a_failed_request(
    kubectl: Kubectl,
    address: str,
    bundles: Bundles,
    signing_key: Path,
    spec: dict[str, Any],
    applicants: list[dict[str, object]],
) -> None:
    challenger = models.digest(bundles.v3)
    models.sign(bundles.v3, signing_key)
    with load(address, applicants) as seen:
        kubectl.apply(signed(bundles.v3, spec, retryToken="signed"))
        found = wait(kubectl, "Ready")
        assert "signed by key" in message(found, "ArtifactVerified")
        until(lambda: seen.answered[challenger] > 200, "answers by the challenger", TIMEOUT)
    assert seen.failures == []
    assert set(seen.answered) == {models.digest(bundles.v1), challenger}
    assert status(kubectl)["active"]["digest"] == challenger


def test_a_deleted_child_is_put_back(kubectl: Kubectl) -> None:
    revision = status(kubectl)["active"]["revision"]
    uid = kubectl.get("hpa", revision)["metadata"]["uid"]
    kubectl("delete", "hpa", revision)

    def is_back() -> bool:
        names = {hpa["metadata"]["name"]: hpa["metadata"]["uid"] for hpa in kubectl.get("hpa")["items"]}
        return bool(names.get(revision, uid) != uid)

    until(is_back, "the HPA to be put back", TIMEOUT)


def test_real_drift_sets_the_retraining_condition(
    kubectl: Kubectl, bundles: Bundles, ours: Cluster, spec: dict[str, Any]
) -> None:
    with endpoint(kubectl, NAME, ours.work / "forward.log") as address:
        later, labels = models.labelled("uci-credit-default@2005-09", ours.work / "september.json")
        keys = []
        for start in range(0, len(later), 25):  # a quarter of the requests is held out below: many, so near a quarter
            answer = score(address, later[start : start + 25])
            assert answer["model"]["digest"] == models.digest(bundles.v3)
            keys += [(answer["request_id"], row) for row in range(len(answer["results"]))]
    models.write_outcomes(models.uri(ours.work / "live" / "outcomes"), keys, labels)
    log = spec["serving"]["scoringLog"]["uri"]
    until(lambda: models.is_logged(log, answer["request_id"]), "the scoring log to hold the last of them", TIMEOUT)
    for number in range(2):
        assert conditions(status(kubectl))["RetrainingRequired"] != "True"
        kubectl("create", "job", f"--from=cronjob/{NAME}-drift", f"drift-now-{number}")
        kubectl.wait(f"job/drift-now-{number}", "Complete", TIMEOUT)
    found = wait(kubectl, "RetrainingRequired")
    assert conditions(found)["DriftDetected"] == "True"
    assert "pay_status" in found["drift"]["driftedFeatures"]
    assert found["drift"]["report"]
    events = until(lambda: told(kubectl, "RetrainingRequired"), "the Event, which follows the status", TIMEOUT)
    assert len(events) == 1
    assert events[0].get("count", 1) <= 1


def test_a_job_retrains_on_what_became_of_the_applicants_and_offers_the_new_model(
    kubectl: Kubectl, bundles: Bundles, ours: Cluster, spec: dict[str, Any]
) -> None:
    episode = status(kubectl)["retraining"]["episode"]
    spec["drift"]["labels"] = {"uri": models.uri(ours.work / "live" / "outcomes"), "maturityDays": 0}
    output = models.uri(ours.work / "live" / "retrained")
    options = ["--epochs", "60", "--interactions", "0"]
    retraining = {"policy": "Job", "job": {"output": {"uri": output}, "args": options}}
    apply(kubectl, bundles.v3, {**spec, "retraining": retraining})
    until(lambda: status(kubectl)["retraining"].get("candidate"), "a candidate", TIMEOUT)
    found = status(kubectl)["retraining"]
    assert (found["episode"], found["trigger"]["state"]) == (episode, "Succeeded")
    assert found["candidate"]["uri"] == f"{output}/{NAME}-{episode}"
    judged = found["candidate"]["evaluation"]
    assert judged["rows"] > 1000
    assert judged["challenger"]["auc"] > judged["champion"]["auc"] - 0.02 > 0.7
    assert kubectl.get("creditmodel", NAME)["spec"]["model"]["digest"] == models.digest(bundles.v3)
    jobs = kubectl.get("jobs", "--selector", "app.kubernetes.io/component=training")["items"]
    assert [job["metadata"]["name"] for job in jobs] == [f"{NAME}-training-{episode}"]


def test_the_offered_change_of_spec_puts_the_new_model_through_every_gate(
    kubectl: Kubectl, bundles: Bundles, spec: dict[str, Any]
) -> None:
    candidate = status(kubectl)["retraining"]["candidate"]["digest"]
    limits = {**spec, "gates": {"quality": {"minAUC": 0.6, "maxAUCDrop": 0.02}}}
    apply(kubectl, bundles.v3, {**limits, "retraining": kubectl.get("creditmodel", NAME)["spec"]["retraining"]})
    events = told(kubectl, "RetrainingCandidate")
    assert len(events) == 1
    _, _, command = events[0]["message"].partition("put it forward: kubectl ")
    kubectl(*shlex.split(command))
    until(lambda: status(kubectl)["active"]["digest"] == candidate, "the retrained model to serve", TIMEOUT)
    found = wait(kubectl, "Ready")
    assert conditions(found)["QualityPassed"] == "True"
    judged = [event["message"] for event in told(kubectl, "QualityPassed")]
    assert any("on the same hold-out" in text for text in judged), judged
    assert conditions(found)["RetrainingRequired"] == "False"
    assert "retraining" not in found


RECEIVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        names = ("webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type")
        print("\\x1f".join([*(self.headers[name] for name in names), body]), flush=True)
        self.send_response(202)
        self.end_headers()
http.server.HTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""


@pytest.fixture
def receiver(kubectl: Kubectl, ours: Cluster) -> str:
    """The URL of a pod that prints every request that it is sent."""
    container = {
        "name": "receiver",
        "image": os.environ.get("CREDITMODEL_JOBS_IMAGE", "creditmodel-jobs:dev"),
        "command": ["python3", "-c", RECEIVER, "$(POD_IP)"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    }
    # No token: a cluster whose controller manager knows no certificate of its root has none to mount beside it.
    spec = {"automountServiceAccountToken": False, "containers": [container], **ours.placement}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "receiver"}, "spec": spec}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"key": "s3cret"}}
    kubectl.apply(secret, pod)
    kubectl.wait("pod/receiver", "Ready", TIMEOUT)
    return f"http://{kubectl.get('pod', 'receiver')['status']['podIP']}:8080/"


def test_decay_of_quality_is_told_to_a_webhook_once_and_signed(
    kubectl: Kubectl, bundles: Bundles, ours: Cluster, spec: dict[str, Any], receiver: str
) -> None:
    model = kubectl.get("creditmodel", NAME)["spec"]["model"]
    place = models.uri(ours.work / "live" / "outcomes")
    labels = {"uri": place, "maturityDays": 0, "window": "1d", "minAUC": 0.99}
    with endpoint(kubectl, NAME, ours.work / "forward.log") as address:
        applicants, outcomes = models.labelled("uci-credit-default@2005-09", ours.work / "again.json")
        answer = score(address, applicants[:800])
        keys = [(answer["request_id"], row) for row in range(800)]
    models.write_outcomes(place, keys, outcomes[:800])
    until(lambda: models.is_logged(spec["serving"]["scoringLog"]["uri"], answer["request_id"]), "the log", TIMEOUT)
    webhook = {"url": receiver, "insecure": True, "secretRef": {"name": "hook"}}
    retraining = {"triggers": ["Quality"], "cooldown": "0m", "webhook": webhook}
    resource = models.credit_model(NAME, bundles.v3, **spec | {"drift": spec["drift"] | {"labels": labels}})
    resource["spec"] |= {"model": model, "retraining": retraining}
    kubectl.apply(resource)
    for number in range(2):
        kubectl("create", "job", f"--from=cronjob/{NAME}-drift", f"quality-{number}")
        kubectl.wait(f"job/quality-{number}", "Complete", TIMEOUT)
    found = wait(kubectl, "RetrainingRequired")
    assert conditions(found)["QualityDegraded"] == "True"
    assert found["quality"]["rows"] <= found["quality"]["matured"]
    assert found["quality"]["calibration"]["bands"] == 10
    assert found["drift"]["estimatedQuality"]["rows"] == found["drift"]["rows"]
    until(lambda: status(kubectl)["retraining"]["trigger"]["state"] == "Succeeded", "the delivery", TIMEOUT)
    posts = [line.split("\x1f") for line in kubectl("logs", "receiver").splitlines() if "\x1f" in line]
    ((name, stamp, signature, kind, body),) = posts
    event = json.loads(body)
    assert event["id"] == name == found["retraining"]["episode"]
    assert event["data"]["digest"] == model["digest"]
    assert event["data"]["evidence"]["quality"]["auc"] < 0.99
    assert kind.startswith("application/cloudevents+json")
    expected = hmac.new(b"s3cret", f"{name}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    assert signature == f"v1,{base64.b64encode(expected).decode()}"


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"model": {"uri": "models/credit"}}, "must be a URI"),
        ({"model": {"uri": "s3://models/credit", "digest": "latest"}}, "digest must be sha256:"),
        ({"serving": {"replicas": {"min": 3, "max": 2}}}, "min"),
        ({"drift": {"schedule": "tomorrow", "current": {"uri": "s3://logs"}}}, "schedule must be"),
        ({"gates": {"parity": {"rtol": -1}}}, "rtol"),
        ({"retraining": {"policy": "Job"}}, "policy Job needs retraining.job"),
        ({"retraining": {"webhook": {"url": "http://hook/"}}}, "insecure: true"),
    ],
)
def test_a_malformed_credit_model_is_refused_with_a_sentence(
    kubectl: Kubectl, bundles: Bundles, section: dict[str, Any], sentence: str
) -> None:
    resource = models.credit_model("malformed", bundles.v1, **section)
    with pytest.raises(Exception, match=sentence):
        kubectl.apply(resource)


def test_deleting_the_resource_removes_everything(kubectl: Kubectl) -> None:
    kubectl("delete", "creditmodel", NAME, "--timeout=60s")
    until(lambda: not models.children(kubectl, NAME), "everything that the CreditModel owned to go", TIMEOUT)
