"""The operator's signal starts a run at a real Airflow API server, once for an episode."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, DIGEST, ROOT

EPISODE = "fedcba9876543210"
DATA = {"namespace": "default", "name": "small", "episode": EPISODE, "digest": DIGEST, "evidence": {"psi_max": 0.4}}
EVENT = {"specversion": "1.0", "id": EPISODE, "type": "dev.creditmodel.retraining.required", "data": DATA}
PASSWORD = secrets.token_hex(8)


@pytest.fixture(scope="module")
def api_server(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API server on the tests' own database, with the user admin."""
    work = tmp_path_factory.mktemp("api-server")
    (work / "passwords.json").write_text(json.dumps({"admin": PASSWORD}))
    environment = os.environ | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(work / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(ROOT / ".venv" / "airflow" / "bin" / "airflow"), "api-server", "--apps", "core", "--workers", "1"]
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        try:
            _until_it_answers(url, server, work / "log")
            yield url
        finally:
            server.terminate()
            server.wait(30)


def _until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/api/v2/version", timeout=5):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def signal(url: str, work: Path, **keys: str) -> tuple[int, dict[str, Any]]:
    """What the operator's Job runs; its exit code and measurement."""
    environment = os.environ | {f"CREDITMODEL_SIGNAL_{name.upper()}": value for name, value in keys.items()}
    command = [str(BIN / "creditmodel-train"), "signal", "--url", url, "--format", "Airflow", "--deadline", "60"]
    command += ["--dag-id", "creditmodel_retrain", "--measurement", str(work / "said")]
    environment["CREDITMODEL_EVENT"] = json.dumps(EVENT)
    done = subprocess.run(command, env=environment, check=False, timeout=90, capture_output=True)
    return done.returncode, json.loads((work / "said").read_text())


def test_a_signal_that_is_sent_twice_starts_one_run_with_the_evidence(
    synced: dict[str, Any], api_server: str, tmp_path: Path
) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    answers = [signal(api_server, tmp_path, username="admin", password=PASSWORD) for _ in range(2)]
    assert [(code, said["status"], said["attempts"]) for code, said in answers] == [(0, 200, 1), (0, 409, 1)]
    with create_session() as session:
        (run,) = session.query(DagRun).filter(DagRun.dag_id == "creditmodel_retrain", DagRun.run_id == EPISODE).all()
        assert run.conf == {"namespace": "default", "name": "small", "episode": EPISODE, "event": EVENT}


def test_a_wrong_password_and_an_unknown_dag_are_final(synced: dict[str, Any], api_server: str, tmp_path: Path) -> None:
    wrong = {"username": "admin", "password": PASSWORD[::-1]}
    code, said = signal(api_server, tmp_path, **wrong)
    assert (code, said["error"]["reason"]) == (2, "Rejected")
    assert "HTTP 401" in said["error"]["message"]
    code, said = signal(api_server, tmp_path, token=PASSWORD)
    assert (code, said["error"]["reason"]) == (2, "Rejected")
