"""The overlays render, are valid, keep to Pod Security "restricted", and select what they are meant for."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from creditmodel_operator import names

ROOT = Path(__file__).resolve().parents[3]
BUILT_IN = ("v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1")


def rendered(name: str) -> list[dict[str, Any]]:
    """The objects of an overlay."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(ROOT / "manifests" / "overlays" / name)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module", params=["dev", "prod"])
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Each overlay's objects."""
    return rendered(request.param)


@pytest.fixture(scope="module")
def prod() -> list[dict[str, Any]]:
    """The production overlay's objects."""
    return rendered("prod")


def one(objects: list[dict[str, Any]], kind: str, name: str = "creditmodel-operator") -> dict[str, Any]:
    """The object of a kind and name."""
    (found,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name))
    return found


def test_every_built_in_object_is_valid(overlay: list[dict[str, Any]]) -> None:
    for document in overlay:
        if document["apiVersion"] in BUILT_IN:
            validate(document, "1.35", strict=True)


def test_the_operator_keeps_to_the_restricted_pod_security_standard(overlay: list[dict[str, Any]]) -> None:
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) - {"name"} <= {"emptyDir", "configMap", "secret", "projected"} for volume in pod["volumes"])
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_production_runs_two_replicas_of_which_the_lease_lets_one_act(prod: list[dict[str, Any]]) -> None:
    spec = one(prod, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert "--leader-elect" in spec["template"]["spec"]["containers"][0]["args"]


def test_production_names_each_image_once_and_none_by_its_development_tag(prod: list[dict[str, Any]]) -> None:
    (container,) = one(prod, "Deployment")["spec"]["template"]["spec"]["containers"]
    images = one(prod, "ConfigMap", "creditmodel-images")
    assert set(images["data"]) == {"CREDITMODEL_SERVING_IMAGE", "CREDITMODEL_JOBS_IMAGE"}
    assert container["envFrom"] == [{"configMapRef": {"name": images["metadata"]["name"]}}]
    assert not set(images["data"]) & {variable["name"] for variable in container["env"]}
    assert all(not image.endswith(":dev") for image in (container["image"], *images["data"].values()))


def test_the_budget_and_the_network_policy_select_the_operator_and_its_port(prod: list[dict[str, Any]]) -> None:
    template = one(prod, "Deployment")["spec"]["template"]
    policy = one(prod, "NetworkPolicy")["spec"]
    for selector in (one(prod, "PodDisruptionBudget")["spec"]["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports


def test_what_is_not_allowed_is_denied_in_the_operators_namespace(prod: list[dict[str, Any]]) -> None:
    policy = one(prod, "NetworkPolicy", "default-deny")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policy["metadata"]["namespace"] == one(prod, "Deployment")["metadata"]["namespace"]


@pytest.fixture(scope="module")
def models() -> list[dict[str, Any]]:
    """A namespace of CreditModels."""
    return rendered("models")


def selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a NetworkPolicy is for pods with these labels."""
    wanted: dict[str, str] = policy["spec"]["podSelector"].get("matchLabels", {})
    return wanted.items() <= labels.items()


def labelled(component: str) -> dict[str, str]:
    """The labels of a pod that the operator makes."""
    return names.child_labels("loans", component, revision="loans-0123456789")


def test_everything_of_a_model_namespace_lies_in_it_and_is_valid(models: list[dict[str, Any]]) -> None:
    (namespace,) = (document for document in models if document["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    rest = [document for document in models if document is not namespace]
    assert {document["metadata"]["namespace"] for document in rest} == {namespace["metadata"]["name"]}


def test_a_model_namespace_denies_and_then_lets_requests_in_to_serving_pods_only(models: list[dict[str, Any]]) -> None:
    policies = [document for document in models if document["kind"] == "NetworkPolicy"]
    assert one(models, "NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    admitting = [policy for policy in policies if policy["spec"].get("ingress")]
    assert [selects(p, labelled("serving")) for p in admitting] == [True]
    assert not any(selects(p, labelled(c)) for p in admitting for c in ("gate", "drift", "training"))
    (rule,) = admitting[0]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert all(peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]), (
        "an empty selector is every namespace"
    )


@pytest.mark.parametrize("component", ["serving", "gate", "drift", "training"])
def test_pods_of_the_operator_reach_names_and_tls_and_never_the_nodes_metadata(
    component: str, models: list[dict[str, Any]]
) -> None:
    policies = [document for document in models if document["kind"] == "NetworkPolicy"]
    rules = [rule for p in policies if selects(p, labelled(component)) for rule in p["spec"].get("egress", [])]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {53, 80, 443}
    metadata = ip_address("169.254.169.254")
    for rule in rules:
        blocks = [peer["ipBlock"] for peer in rule.get("to", [])]
        reached = [b for b in blocks if metadata in ip_network(b["cidr"]) and not excepted(b, metadata)]
        assert not reached
        assert blocks or {port["port"] for port in rule["ports"]} == {53}


def excepted(block: dict[str, Any], address: IPv4Address | IPv6Address) -> bool:
    return any(address in ip_network(other) for other in block.get("except", []))


def test_the_pipeline_may_do_what_its_action_does_and_neither_delete_nor_approve(models: list[dict[str, Any]]) -> None:
    role, binding = one(models, "Role", "creditmodel-deployer"), one(models, "RoleBinding", "creditmodel-deployers")
    assert role["rules"] == [
        {
            "apiGroups": ["creditmodel.dev"],
            "resources": ["creditmodels"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        }
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] in (ROOT / "terraform" / "modules" / "cluster" / "main.tf").read_text()
