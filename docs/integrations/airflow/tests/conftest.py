"""Airflow with a database of its own, and a sandbox with a CreditModel that asks for retraining."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
BIN = ROOT / ".venv" / "bin"
HERE = Path(__file__).parents[1]
HOME = tempfile.TemporaryDirectory(prefix="creditmodel-airflow-")
EPISODE = "0123456789abcdef"
DIGEST = "sha256:" + "a" * 64

# Airflow reads its configuration when it is imported.
os.environ |= {
    "AIRFLOW_HOME": HOME.name,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "CREDITMODEL_BUNDLES": f"{HOME.name}/bundles",
    "CREDITMODEL_PROPOSALS": f"{HOME.name}/proposals",
    "CREDITMODEL_POLL_SECONDS": "1",
}


def pytest_unconfigure() -> None:
    HOME.cleanup()


@pytest.fixture(scope="session")
def airflow_db() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def dags(airflow_db: None) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(HERE / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture(scope="session")
def synced(dags: dict[str, Any]) -> dict[str, Any]:
    """The DAGs as a scheduler would know them."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="creditmodel-tests"))
    sync_bag_to_db(DagBag(str(HERE / "dags")), "creditmodel-tests", None)
    return dags


@dataclass(frozen=True)
class Cluster:
    """A sandbox and its client."""

    kubeconfig: Path
    work: Path
    """Has champion/, a bundle, and scores/ and outcomes/, what it scored and what became of that."""

    @property
    def digest(self) -> str:
        """The champion's."""
        return "sha256:" + hashlib.sha256((self.work / "champion" / "manifest.json").read_bytes()).hexdigest()

    def kubectl(self, *arguments: str, document: Any = None) -> str:
        given = None if document is None else json.dumps(document)
        command = [str(BIN / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60).stdout

    def say(self, required: str) -> None:
        """Write the status that the operator would write."""
        condition = {
            "type": "RetrainingRequired",
            "status": required,
            "reason": "ConsecutiveBreaches",
            "message": "2 checks in a row breached",
            "lastTransitionTime": "2026-11-23T00:00:00Z",
            "observedGeneration": 1,
        }
        retraining = {"episode": EPISODE, "digest": self.digest, "firstBreach": "small-drift-1"}
        champion = {"revision": "small-0", "uri": (self.work / "champion").as_uri(), "digest": self.digest}
        status = {
            "conditions": [condition],
            "active": champion | {"endpoint": "http://small.default.svc"},
            "retraining": retraining if required == "True" else None,
        }
        patch = json.dumps({"status": status})
        self.kubectl("patch", "creditmodel", "small", "--subresource=status", "--type=merge", "-p", patch)


SCORED = """
import datetime, sys, pyarrow as pa, pyarrow.parquet as pq
table = pq.read_table("applicants.parquet")
keys = {"_request_id": [f"r{i}" for i in range(table.num_rows)], "_row": [0] * table.num_rows}
pq.write_table(pa.table(keys | {"_label": table["_label"]}), "outcomes/part-0.parquet")
time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
scores = table.drop_columns(["_label"]).append_column("_time", pa.array([time] * table.num_rows))
for name, values in keys.items():
    scores = scores.append_column(name, pa.array(values))
pq.write_table(scores, "scores/part-0.parquet")
"""


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion, applicants it scored, and what became of them."""
    place = tmp_path_factory.mktemp("work")
    (place / "scores").mkdir()
    (place / "outcomes").mkdir()
    data = "uci-credit-default@2005-06"
    train = [str(BIN / "creditmodel-train"), "--data", data, "--out", "champion", "--name", "small", "--version", "1"]
    export = [str(BIN / "creditmodel-data"), "export", data, "--labels", "--rows", "1500", "--out"]
    for command in (
        [*train, "--epochs", "3", "--interactions", "0"],
        [*export, "applicants.parquet"],
        [str(BIN / "python"), "-c", SCORED],
    ):
        subprocess.run(command, cwd=place, check=True, timeout=240, capture_output=True)
    return place


@pytest.fixture(scope="session")
def cluster(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    state = tmp_path_factory.mktemp("sandbox")
    identity = ["--name", "airflow-test", "--state-dir", str(state)]
    sandbox = str(BIN / "creditmodel-sandbox")
    subprocess.run([sandbox, "up", *identity], check=True, timeout=120, capture_output=True)
    try:
        found = Cluster(state / "kubeconfig", work)
        found.kubectl("apply", "-f", str(ROOT / "crds"))
        model = {"uri": (work / "champion").as_uri(), "digest": found.digest}
        labels = {"uri": (work / "outcomes").as_uri(), "maturityDays": 0}
        drift = {"current": {"uri": (work / "scores").as_uri()}, "labels": labels}
        found.kubectl(
            "apply",
            "-f",
            "-",
            document={
                "apiVersion": "creditmodel.dev/v1alpha1",
                "kind": "CreditModel",
                "metadata": {"name": "small", "namespace": "default"},
                "spec": {"model": model, "drift": drift},
            },
        )
        extra = {"kube_config_path": str(found.kubeconfig), "in_cluster": False}
        os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps({"conn_type": "kubernetes", "extra": extra})
        yield found
    finally:
        subprocess.run([sandbox, "down", *identity], check=False, timeout=60, capture_output=True)
