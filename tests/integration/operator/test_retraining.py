"""One episode, one training Job: on a real API server, with an operator that is killed again and again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.integration.operator.conftest import Ground

JSON = dict[str, Any]
SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
LABELS: JSON = {"uri": "file:///outcomes", "maturityDays": 30}
SPEC: JSON = {
    "drift": {"current": {"uri": "file:///log"}, "labels": LABELS},
    "retraining": {"policy": "Job", "job": {"output": {"uri": "file:///retrained"}}},
}
DIGEST, NEXT = ("sha256:" + hashlib.sha256(name.encode()).hexdigest() for name in ("v1", "v2"))
COMMON: JSON = {"schema_version": 1, "tool": "stub 1", "digest": DIGEST}
FIGURES: JSON = {"auc": 0.77, "ks": 0.41, "gini": 0.54, "brier": 0.13}
BREACH: JSON = COMMON | {
    "kind": "drift",
    "rows": 5000,
    "reference_rows": 20000,
    "verdict": "drift",
    "reason": "it moved",
    "psi_max": 0.4,
    "drifted_share": 0.1,
}
TRAINED: JSON = COMMON | {
    "kind": "training",
    "uri": "file:///retrained/next",
    "candidate": NEXT,
    "holdout": {"rows": 400, "bad_rate": 0.2, "sha256": "ab"},
    "champion": FIGURES,
    "challenger": FIGURES | {"auc": 0.78},
}


def check(ground: Ground, number: int) -> None:
    """What kubectl create job --from=cronjob does, and then the stub."""
    cron = ground.server.get(f"{ground.path('CronJob')}/credit-drift")
    template, meta = cron["spec"]["jobTemplate"], cron["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": meta["name"], "uid": meta["uid"], "controller": True}
    metadata = {**template["metadata"], "name": f"check-{number}", "ownerReferences": [owner]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}
    ground.server.post(ground.path("Job"), job)
    ground.end_job(ground.server.get(f"{ground.path('Job')}/check-{number}"), BREACH)


def retraining(ground: Ground) -> JSON:
    """What status says of the episode; empty while it says nothing."""
    found: JSON = ground.status.get("retraining", {})
    return found


def training(ground: Ground) -> list[JSON]:
    component = "app.kubernetes.io/component"
    return [job for job in ground.objects("Job") if job["metadata"]["labels"].get(component) == "training"]


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("creditmodel*.yaml")), ids=lambda path: path.stem)
def test_an_api_server_takes_the_sample(ground: Ground, sample: Path) -> None:
    document = yaml.safe_load(sample.read_text())
    answer = ground.server.apply(f"{ground.path('CreditModel')}/credit-default", document, "user", True)
    assert answer.code < 300, answer.body


@pytest.mark.parametrize(
    ("retraining", "sentence"),
    [
        ({"policy": "Job"}, "policy Job needs retraining.job"),
        ({"policy": "Job", "job": {"output": {"uri": "s3://models"}}}, "set drift.labels"),
        ({"triggers": ["Quality"]}, "set drift.labels.minAUC"),
        ({"webhook": {"url": "http://hook.ns.svc/"}}, "insecure: true"),
        ({"webhook": {"url": "https://airflow", "format": "Airflow"}}, "dagId names the DAG"),
        ({"cooldown": "soon"}, "whole number and m, h or d"),
    ],
)
def test_an_api_server_refuses_what_could_never_work(ground: Ground, retraining: JSON, sentence: str) -> None:
    spec = {"model": {"uri": "s3://models/v1"}, "drift": {"current": {"uri": "s3://log"}}, "retraining": retraining}
    document = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "CreditModel", "metadata": {"name": "credit"}}
    answer = ground.server.apply(f"{ground.path('CreditModel')}/credit", document | {"spec": spec}, "user", True)
    assert answer.code == 422
    assert sentence in answer.body["message"]


def test_an_operator_killed_at_every_turn_of_an_episode_trains_once_and_offers_the_model(ground: Ground) -> None:
    ground.start()
    ground.apply("v1", **SPEC)
    ground.ready("v1")
    check(ground, 1)
    ground.until(lambda: ground.conditions["DriftDetected"] == "True", "the first check read")
    ground.start.running[-1].kill()
    check(ground, 2)
    ground.start()
    ground.until(lambda: training(ground), "a training Job")
    ground.start.running[-1].kill()
    (job,) = training(ground)
    ground.start()
    ground.until(lambda: retraining(ground).get("trigger"), "the Job told")
    ground.start.running[-1].kill()
    ground.end_job(job, TRAINED)
    ground.start()
    ground.until(lambda: retraining(ground).get("candidate"), "an offer")
    found = retraining(ground)
    assert found["candidate"]["digest"] == NEXT
    assert [j["metadata"]["uid"] for j in training(ground)] == [job["metadata"]["uid"]]
    assert job["metadata"]["name"] == f"credit-training-{found['episode']}"
    assert ground.model["spec"]["model"]["digest"] == DIGEST
    ground.hears("RetrainingCandidate")
    offers = [event["message"] for event in ground.objects("Event") if event["reason"] == "RetrainingCandidate"]
    assert len(offers) == 1
    assert f'"digest":"{NEXT}"' in offers[0]
    cron = ground.server.get(f"{ground.path('CronJob')}/credit-drift")
    assert found["since"] in cron["metadata"]["annotations"]["creditmodel.dev/last-episode"]
    before = ground.snapshot()
    check(ground, 3)
    ground.until(lambda: ground.status["drift"]["job"] == "check-3", "the third check read")
    changed = {name for name, version in ground.snapshot().items() if before.get(name) != version}
    assert changed == {"CreditModel/credit", "Job/check-3"}
