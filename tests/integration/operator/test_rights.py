"""Who may do what, on a server that enforces it: the operator with the shipped Role, an engineer, and model risk."""

from __future__ import annotations

import copy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.conftest import ApiServer

if TYPE_CHECKING:
    from tests.integration.operator.conftest import Ground, Operator

JSON = dict[str, Any]
ROOT = Path(__file__).parents[3]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
KUBECTL = str(Path(sys.executable).parent / "kubectl")

Identity = Callable[..., ApiServer]


@pytest.fixture(scope="session")
def roles(apiserver: ApiServer) -> list[str]:
    """The shipped ClusterRoles are there; their names."""
    shipped = subprocess.run(
        [KUBECTL, "kustomize", ROOT / "manifests" / "base"], capture_output=True, text=True, check=True, timeout=60
    )
    found = [item for item in yaml.safe_load_all(shipped.stdout) if item["kind"] == "ClusterRole"]
    for role in found:
        assert apiserver.apply(f"{RBAC}/clusterroles/{role['metadata']['name']}", role, "tests", True).code < 300
    return [role["metadata"]["name"] for role in found]


@pytest.fixture
def identity(apiserver: ApiServer, namespace: str, roles: list[str], tmp_path: Path) -> Identity:
    """Makes a ServiceAccount that holds ClusterRoles in the test's namespace; the server as it sees it."""

    def make(name: str, *held: str) -> ApiServer:
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        apiserver.post(accounts, {"metadata": {"name": name}})
        for role in held:
            assert role in roles
            binding = {
                "metadata": {"name": f"{name}-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
            apiserver.post(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = apiserver.post(f"{accounts}/{name}/token", request)["status"]["token"]
        config = copy.deepcopy(yaml.safe_load(apiserver.kubeconfig.read_text()))
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        file = tmp_path / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return ApiServer(file)

    return make


def test_the_shipped_role_is_enough_for_a_whole_life(ground: Ground, identity: Identity) -> None:
    operator = ground.start(kubeconfig=identity("operator", "creditmodel-operator").kubeconfig)
    options: JSON = {
        "rollout": {"keepPreviousSeconds": 0, "revisionHistoryLimit": 0},
        "gates": {"approval": {"required": True}},
        "drift": {"current": {"uri": "file:///log"}},
    }
    for bundle in ("v1", "v2"):
        ground.decide_about(bundle)
        ground.apply(bundle, **options)
        ground.ready(bundle)
    ground.server.patch(f"{ground.path('CreditModel')}/credit", {"spec": {"drift": None}})
    ground.until(lambda: len(ground.names("Deployment")) == 1, "the former champion removed", ground.step)
    ground.until(lambda: not ground.names("CronJob"), "the drift check removed", ground.step)
    ground.hears("Promoted", "ApprovalGranted")
    assert forbidden(operator) == []


def forbidden(operator: Operator) -> list[str]:
    """What the operator was refused: on its own client by the metric, on Kopf's by the log.

    Not by 403 in the log: that is a time's milliseconds now and then.
    """
    refused = int(operator.metric("creditmodel_operator_api_requests_total", code="403"))
    said = [line for line in operator.log.read_text().splitlines() if "orbidden" in line]
    return said + ["403"] * refused


def test_what_a_role_does_not_grant_shows_as_a_refusal(ground: Ground, identity: Identity) -> None:
    operator = ground.start(kubeconfig=identity("operator", "creditmodel-view").kubeconfig)
    ground.until(lambda: forbidden(operator), "a refusal")


def test_an_engineer_gets_no_model_served_that_model_risk_has_not_approved(
    ground: Ground, identity: Identity, tmp_path: Path
) -> None:
    operator = ground.start(
        "--require-approval",
        ground.namespace,
        kubeconfig=identity("operator", "creditmodel-operator").kubeconfig,
    )
    engineer = identity("engineer", "creditmodel-edit", "creditmodel-view")
    officer = identity("officer", "creditmodel-approver")
    ground.server, administrator = engineer, ground.server
    ground.apply("v1", gates={"approval": {"required": False}})
    ground.server = administrator
    ground.until(lambda: ground.status.get("phase") == "AwaitingApproval", "the last gate", ground.step)
    phases = "creditmodel_operator_phases"
    ground.until(lambda: operator.metric(phases, phase="AwaitingApproval") == 1, "a model that is counted as waiting")

    model = f"{ground.path('CreditModel')}/credit"
    approvals = ground.path("ModelApproval")
    waiting = officer.get(model)["status"]
    document = approval_in(waiting["conditions"][0]["message"])
    assert engineer.request("POST", approvals, document).code == 403
    assert engineer.request("PATCH", f"{model}/status", {"status": {}}, "application/merge-patch+json").code == 403
    assert officer.request("PATCH", model, {"spec": {"suspend": True}}, "application/merge-patch+json").code == 403
    assert [gate["verdict"] for gate in waiting["gates"]] == ["Passed", "Passed", "Passed", "NotConfigured", "Waiting"]

    run_as(officer, waiting["conditions"][0]["message"], tmp_path)
    ground.ready("v1")
    name = document["metadata"]["name"]
    assert engineer.request("DELETE", f"{approvals}/{name}").code == 403
    change = {"spec": {"decision": "Reject"}}
    assert officer.request("PATCH", f"{approvals}/{name}", change, "application/merge-patch+json").code == 403
    answer = ground.server.request("PATCH", f"{approvals}/{name}", change, "application/merge-patch+json")
    assert answer.code == 422
    assert "delete this ModelApproval and create another" in answer.body["message"]
    assert ground.conditions["ApprovalGranted"] == "True"

    ground.server = engineer
    ground.apply("v2")
    ground.server = administrator
    ground.until(lambda: ground.status.get("phase") == "AwaitingApproval", "a gate anew", ground.step)
    assert ground.status["active"]["revision"] == ground.selected == name


def approval_in(message: str) -> JSON:
    document: JSON = yaml.safe_load(message.split("<<< ")[1].strip("'"))
    return document


def run_as(who: ApiServer, message: str, home: Path) -> None:
    """Run the command that a message names, as a person would."""
    command = message[message.index("kubectl create") :].replace("kubectl", shlex.quote(KUBECTL), 1)
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        env={"KUBECONFIG": str(who.kubeconfig), "HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_deleted_approval_is_noticed_before_the_promotion_and_after_it(ground: Ground) -> None:
    ground.start()
    ground.decide_about("v1")
    ground.apply("v1", gates={"approval": {"required": True}})
    ground.ready("v1")
    ground.server.delete(f"{ground.path('ModelApproval')}/approve-v1")
    ground.until(lambda: "no longer stands" in ground.condition("ApprovalGranted")["message"], "the deletion noticed")
    assert ground.conditions["Ready"] == "True"
    ground.decide_about("v1", "Reject")
    ground.until(lambda: ground.conditions["ApprovalGranted"] == "False", "the rejection noticed")
    assert (ground.conditions["Available"], ground.status["phase"]) == ("True", "Rejected")
