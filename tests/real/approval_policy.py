"""The admission policy for approvals, put in force and run by `make conformance-crd` on Kubernetes' own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

JSON = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "manifests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
USERS = {"officer": ["creditmodel-approver"], "author": ["creditmodel-edit"]}
USERS["both"] = [role for roles in USERS.values() for role in roles]


@pytest.fixture(scope="module")
def apiserver(given_cluster: Any) -> Any:
    """The cluster of KUBECONFIG, with the resource and the roles of manifests/base."""
    (crd,) = yaml.safe_load_all((MANIFESTS / "crds/creditmodel.dev_modelapprovals.yaml").read_text())
    name = crd["metadata"]["name"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    assert given_cluster.apply(path, crd, "test", force=True).code in (200, 201)
    for role in yaml.safe_load_all((MANIFESTS / "base/user-roles.yaml").read_text()):
        assert given_cluster.apply(f"{RBAC}/clusterroles/{role['metadata']['name']}", role, "test", True).code < 300
    return given_cluster


def token(cluster: Any, namespace: str, user: str) -> str:
    """The token of a service account that has its roles in the namespace."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    cluster.post(accounts, {"metadata": {"name": user}})
    for role in USERS[user]:
        body = {"metadata": {"name": f"{user}-{role}"}, "subjects": [{"kind": "ServiceAccount", "name": user}]}
        body["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        cluster.post(f"{RBAC}/namespaces/{namespace}/rolebindings", body)
    found: str = cluster.post(f"{accounts}/{user}/token", {"spec": {}})["status"]["token"]
    return found


@pytest.mark.parametrize(
    ("user", "approver", "refused"),
    [
        pytest.param("officer", "officer", None, id="an officer in their own name"),
        pytest.param("officer", "somebody", "must be the user who creates", id="an officer in another's name"),
        pytest.param("officer", None, "must be the user who creates", id="an officer without a name"),
        pytest.param("both", "both", "may not approve them there", id="who may change CreditModels"),
        pytest.param("author", "author", "cannot create resource", id="who may not approve"),
    ],
)
def test_an_approval_is_let_in_only_from_who_it_names_and_never_from_an_author(
    apiserver: Any, namespace: str, user: str, approver: str | None, refused: str | None
) -> None:
    spec = {"creditModelName": "m", "digest": f"sha256:{'0' * 64}", "decision": "Approve", "reason": "test"}
    if approver:
        spec["approver"] = f"system:serviceaccount:{namespace}:{approver}"
    body = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "ModelApproval", "metadata": {"name": "a"}, "spec": spec}
    path = f"/apis/creditmodel.dev/v1alpha1/namespaces/{namespace}/modelapprovals"
    headers = {"Authorization": f"Bearer {token(apiserver, namespace, user)}"}
    answer = apiserver.request("POST", path, body, headers=headers)
    assert (answer.code, answer.body.get("reason")) == ((403, "Forbidden") if refused else (201, None)), answer.body
    assert (refused or "") in str(answer.body.get("message"))
