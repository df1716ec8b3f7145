"""Rules that every workflow keeps, and the scripts that workflows run."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).resolve().parents[3] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PLAN = GITHUB / "scripts" / "terraform-plan.sh"
REPORT = GITHUB / "scripts" / "drift_report.py"


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_workflow_is_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "deploy", "drift-report", "images", "infrastructure"]


def test_actions_are_pinned_by_commit_with_their_version_beside(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for action in used:
        assert action.startswith("./") or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_one_action_has_one_commit_in_all_workflows() -> None:
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: ([^.\s]\S+@\S+)", path.read_text())}
    assert len({pin.split("@")[0] for pin in pins}) == len(pins)


def test_nothing_is_permitted_that_a_job_does_not_ask_for(workflow: Path) -> None:
    assert load(workflow)["permissions"] == {}
    for name, job in load(workflow)["jobs"].items():
        assert set(job["permissions"]) <= {"contents", "id-token"}, name
        assert job["permissions"]["contents"] == "read"


def test_every_job_ends_and_runs_do_not_pile_up(workflow: Path) -> None:
    assert load(workflow)["concurrency"]["group"]
    assert all(0 < job["timeout-minutes"] <= 60 for job in load(workflow)["jobs"].values())


def test_no_expression_is_pasted_into_a_script(workflow: Path) -> None:
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_no_checkout_leaves_its_token_behind(workflow: Path) -> None:
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_production_waits_for_staging_and_for_its_environment() -> None:
    production = load(GITHUB / "workflows" / "deploy.yml")["jobs"]["production"]
    assert (production["needs"], production["environment"]) == ("staging", "production")
    # A step that waits for an approval has not failed, and is no reason to go on.
    assert production["if"] == "needs.staging.outputs.outcome == 'ready'"


def test_an_identity_is_given_to_jobs_of_an_environment_or_to_plans_of_our_own_branches(workflow: Path) -> None:
    for name, job in load(workflow)["jobs"].items():
        if "id-token" in job["permissions"]:
            assert "environment" in job or "head.repo.full_name == github.repository" in job["if"], name


@pytest.mark.parametrize(
    ("staging", "production", "code"), [("sha256:aa", "sha256:aa", 0), ("sha256:aa", "sha256:bb", 1)]
)
def test_production_must_serve_the_bundle_that_staging_serves(staging: str, production: str, code: int) -> None:
    (step,) = (s for s in steps(GITHUB / "workflows" / "deploy.yml") if s.get("name", "").startswith("The model of"))
    environment = {"PATH": os.environ["PATH"], "STAGING": staging, "PRODUCTION": production}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert ("set spec.model.digest" in done.stdout) is bool(code)


class TestTerraformPlan:
    def run(self, tmp_path: Path, **given: str) -> subprocess.CompletedProcess[str]:
        terraform = tmp_path / "terraform"
        terraform.write_text('#!/bin/sh\necho "$@" >> "$RUNNER_TEMP/calls"\necho "1 to add"\n')
        terraform.chmod(terraform.stat().st_mode | stat.S_IXUSR)
        environment = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            **given,
        }
        command = [str(PLAN), "-lock=false"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def test_the_plan_of_the_named_environment_is_shown(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, ENVIRONMENT="dev", BACKEND='bucket = "b"', VARIABLES='region = "eu-central-1"')
        assert done.returncode == 0, done.stderr
        calls = (tmp_path / "calls").read_text()
        assert f"plan -lock=false -var-file={tmp_path}/dev.tfvars -out={tmp_path}/tfplan" in calls
        assert (tmp_path / "dev.tfvars").read_text() == 'region = "eu-central-1"\n'
        assert "## Plan of dev" in (tmp_path / "summary.md").read_text()

    def test_a_provider_that_no_lock_file_pins_is_warned_of(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, ENVIRONMENT="prod", BACKEND='bucket = "b"', VARIABLES='region = "eu-central-1"')
        locked = (PLAN.parents[2] / "terraform" / "environments" / "prod" / ".terraform.lock.hcl").exists()
        assert ("::warning::" in done.stdout) is not locked
        assert ("-lockfile=readonly" in (tmp_path / "calls").read_text()) is locked

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            ({"ENVIRONMENT": "../x", "BACKEND": "b", "VARIABLES": "v"}, "it must be dev or prod"),
            ({"ENVIRONMENT": "dev", "VARIABLES": "v"}, "BACKEND is empty"),
            ({"ENVIRONMENT": "dev", "BACKEND": "b"}, "VARIABLES is empty"),
        ],
    )
    def test_what_is_missing_is_named_and_terraform_is_not_run(
        self, tmp_path: Path, given: dict[str, str], sentence: str
    ) -> None:
        done = self.run(tmp_path, **given)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert not (tmp_path / "calls").exists()


class TestDriftReport:
    def run(self, tmp_path: Path, answer: str, code: int = 0) -> tuple[int, str, list[dict[str, Any]]]:
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(f'#!/bin/sh\ncat "{tmp_path}/answer"\nexit {code}\n')
        kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "answer").write_text(answer)
        out, summary = tmp_path / "drift.json", tmp_path / "summary.md"
        environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(summary)}
        command = [sys.executable, str(REPORT), str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
        found = json.loads(out.read_text()) if out.exists() else []
        return done.returncode, summary.read_text() if summary.exists() else "", found

    def model(self, name: str, retraining: str, message: str = "") -> dict[str, Any]:
        status = {
            "active": {"revision": f"{name}-aa"},
            "drift": {"psiMax": 0.2318},
            "conditions": [{"type": "RetrainingRequired", "status": retraining, "message": message}],
        }
        return {"metadata": {"name": name, "namespace": "lending"}, "status": status}

    def test_models_that_need_retraining_come_first_with_their_reason(self, tmp_path: Path) -> None:
        items = [self.model("cards", "False"), self.model("loans", "True", "drift in 2 | checks")]
        code, summary, found = self.run(tmp_path, json.dumps({"items": items}))
        assert code == 0
        assert [row["name"] for row in found] == ["loans", "cards"]
        line = "| lending/loans | loans-aa | 0.232 | Unknown | Unknown | True: drift in 2 \\| checks |"
        assert line in summary
        assert summary.index("lending/loans") < summary.index("lending/cards")

    def test_a_model_without_a_status_is_listed_as_serving_nothing(self, tmp_path: Path) -> None:
        items = [{"metadata": {"name": "new", "namespace": "lending"}}]
        code, summary, _ = self.run(tmp_path, json.dumps({"items": items}))
        assert code == 0
        assert "| lending/new | nothing |  | Unknown | Unknown | Unknown |" in summary

    def test_a_cluster_that_cannot_be_read_is_no_empty_report(self, tmp_path: Path) -> None:
        code, summary, found = self.run(tmp_path, "", code=1)
        assert (code, summary, found) == (2, "", [])
