"""The DAGs parse, and their tasks run: on a sandbox, with a real training pod."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, EPISODE, Cluster

pytestmark = pytest.mark.usefixtures("airflow_db")


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


def test_both_dags_parse_with_the_tasks_in_their_order(dags: dict[str, Any]) -> None:
    assert set(dags) == {"creditmodel_watch", "creditmodel_retrain"}
    retrain = dags["creditmodel_retrain"]
    assert [task.task_id for task in retrain.topological_sort()] == ["retraining_required", "train", "propose"]
    assert retrain.schedule is None


def test_an_open_episode_is_trained_and_proposed_and_nothing_is_written_to_the_resource(
    synced: dict[str, Any], cluster: Cluster
) -> None:
    cluster.say("True")
    before = cluster.kubectl("get", "creditmodel", "small", "-o", "json")
    conf = {"namespace": "default", "name": "small", "episode": EPISODE, "options": "--epochs 2"}
    run = synced["creditmodel_retrain"].test(run_conf=conf)
    assert states(run) == {"retraining_required": "success", "train": "success", "propose": "success"}
    (place,) = Path(os.environ["CREDITMODEL_PROPOSALS"]).iterdir()
    assert place.name == f"default-small-{EPISODE}.json"
    proposed = json.loads(place.read_text())
    model = proposed["patch"]["spec"]["model"]
    assert model["uri"] == f"file://{os.environ['CREDITMODEL_BUNDLES']}/small-{EPISODE}"
    assert proposed["replaces"] == cluster.digest != model["digest"]
    for judged in ("champion", "challenger"):
        assert 0.5 < proposed["evaluation"][judged]["auc"] < 1
    assert cluster.kubectl("get", "creditmodel", "small", "-o", "json") == before
    patched = cluster.kubectl(
        "patch",
        "creditmodel",
        "small",
        "--type=merge",
        "--dry-run=server",
        "-o",
        "json",
        "-p",
        json.dumps(proposed["patch"]),
    )
    assert json.loads(patched)["spec"]["model"]["digest"] == model["digest"]
    verified = [str(BIN / "creditmodel-bundle"), "verify", model["uri"], "--digest", model["digest"]]
    subprocess.run(verified, check=True, timeout=60, capture_output=True)


def test_an_episode_that_is_over_trains_nothing(synced: dict[str, Any], cluster: Cluster) -> None:
    cluster.say("False")
    conf = {"namespace": "default", "name": "small", "episode": EPISODE}
    run = synced["creditmodel_retrain"].test(run_conf=conf)
    assert states(run) == {"retraining_required": "skipped", "train": "skipped", "propose": "skipped"}


def test_the_watch_asks_for_one_run_by_the_episodes_id(synced: dict[str, Any], cluster: Cluster) -> None:
    watch = synced["creditmodel_watch"].task_dict["open_episodes"].python_callable
    cluster.say("True")
    conf = {"namespace": "default", "name": "small", "episode": EPISODE}
    assert watch() == [{"trigger_run_id": EPISODE, "conf": conf}]
    cluster.say("False")
    assert watch() == []


def test_looking_twice_at_an_open_episode_starts_one_run_by_the_episodes_id(
    synced: dict[str, Any], cluster: Cluster
) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    cluster.say("True")
    found = [states(synced["creditmodel_watch"].test()) for _ in range(2)]
    assert [looked["retrain"] for looked in found] == ["success", "skipped"]
    with create_session() as session:
        runs = session.query(DagRun).filter(DagRun.dag_id == "creditmodel_retrain", DagRun.run_id == EPISODE).all()
        assert [run.conf for run in runs] == [{"namespace": "default", "name": "small", "episode": EPISODE}]


def test_a_pod_that_left_no_bundle_proposes_nothing() -> None:
    from airflow.sdk.exceptions import AirflowException

    from creditmodel import proposal

    error = {"kind": "training", "error": {"reason": "DataError", "message": "too few"}}
    for measurement in ({}, error):
        with pytest.raises(AirflowException, match="left no new bundle"):
            proposal({"namespace": "n", "name": "m", "episode": "e", "digest": "d", "why": ""}, measurement)


def test_a_model_without_outcomes_fails_with_what_is_missing() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from creditmodel import material_of

    with pytest.raises(AirflowFailException, match=r"small has no spec\.drift\.labels"):
        material_of({"metadata": {"name": "small"}, "spec": {"drift": {"current": {"uri": "s3://log"}}}})
