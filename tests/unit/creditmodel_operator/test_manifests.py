"""What is shipped to install the operator: valid, restricted, and with exactly the rights that the operator uses."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml

from creditmodel_operator import api, names
from creditmodel_operator.api import CreditModelSpec, ModelApprovalSpec, crd
from creditmodel_operator.api.schema import schema_of
from creditmodel_operator.cli import parser
from creditmodel_operator.client import KINDS
from creditmodel_operator.plan import Action, Apply, Claim, Create, Delete, Look
from creditmodel_operator.watching import WATCHED

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
ROOT = Path(__file__).parents[3]
BASE = ROOT / "manifests" / "base"


def built() -> list[JSON]:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", BASE], capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def named(kind: str, name: str) -> JSON:
    return next(item for item in built() if item["kind"] == kind and item["metadata"]["name"] == name)


def test_the_crd_among_the_manifests_is_not_stale() -> None:
    assert not crd.stale(ROOT / "manifests" / "crds"), "run: creditmodel-operator crd --write manifests/crds"


def test_everything_is_valid_by_the_published_schemas() -> None:
    for item in built():
        kubernetes_validate.validate(item, "1.36", strict=True)


def samples() -> dict[str, JSON]:
    """The specs of every CreditModel among the samples."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in SAMPLES.glob("creditmodel*.yaml")}
    return {name: document["spec"] for name, document in found.items()}


def test_the_sample_is_what_the_models_accept_with_every_default() -> None:
    sample = samples()["creditmodel"]
    assert paths(CreditModelSpec.model_validate(sample).wire()) == paths(sample)


def test_the_samples_show_every_field_and_nothing_else() -> None:
    assert len(samples()) == 3
    assert set().union(*map(paths, samples().values())) == schema_paths(schema_of(CreditModelSpec))


def test_the_sample_approval_is_for_the_sample_model_and_shows_every_field() -> None:
    samples = ROOT / "manifests" / "samples"
    approval = yaml.safe_load((samples / "model-approval.yaml").read_text())
    model = yaml.safe_load((samples / "creditmodel.yaml").read_text())
    parsed = ModelApprovalSpec.model_validate(approval["spec"])
    assert (parsed.credit_model_name, parsed.digest) == (model["metadata"]["name"], model["spec"]["model"]["digest"])
    assert approval["metadata"]["name"] == names.revision(parsed.credit_model_name, parsed.digest)
    assert paths(approval["spec"]) == schema_paths(schema_of(ModelApprovalSpec))


def test_the_accounts_of_a_model_namespace_are_the_ones_that_the_sample_names() -> None:
    text = (ROOT / "manifests" / "components" / "model-namespace" / "service-accounts.yaml").read_text()
    accounts = list(yaml.safe_load_all(text))
    spec = yaml.safe_load((ROOT / "manifests" / "samples" / "creditmodel.yaml").read_text())["spec"]
    named = {spec[part]["serviceAccountName"] for part in ("serving", "jobs")}
    assert {account["metadata"]["name"] for account in accounts} == named | {"creditmodel-training"}
    for account in accounts:
        kubernetes_validate.validate(account, "1.36", strict=True)


def paths(value: Any, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {prefix}
    return {found for key, child in value.items() for found in paths(child, f"{prefix}.{key}")} | ({prefix} - {""})


def schema_paths(node: JSON, prefix: str = "") -> set[str]:
    below = {
        found for key, child in node.get("properties", {}).items() for found in schema_paths(child, f"{prefix}.{key}")
    }
    if "additionalProperties" in node:
        keys = {"requests": ("cpu", "memory"), "limits": ("memory",), "nodeSelector": ("pool",)}
        below = {f"{prefix}.{key}" for key in keys[prefix.rpartition(".")[2]]}
    return below | ({prefix} - {""})


VERBS: dict[type[Action], set[str]] = {
    Apply: {"create", "patch"},
    Create: {"create", "get", "patch"},  # the last two where the name turns out to be in use
    Claim: {"get"},
    Delete: {"delete"},
    Look: {"list"},
}


def needed(world: World) -> dict[tuple[str, str], set[str]]:
    """The verbs that the operator uses by API group and resource: watches, and every write of a full life."""
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind in WATCHED:
        verbs[resource(kind)] |= {"list", "watch"}

    def wrote(action: Action) -> None:
        verbs[resource(action.kind)] |= VERBS[type(action)]

    world.watcher = wrote
    live(world)
    verbs["creditmodel.dev", "creditmodels/status"] |= {"patch"}
    verbs["creditmodel.dev", "creditmodels/finalizers"] |= {"update"}
    verbs["", "events"] |= {"create"}
    return verbs


def live(world: World) -> None:
    """Promotions, a rejection, a missed deadline, a history that overflows, and drift switched off."""
    options: JSON = {"rollout": {"keepPreviousSeconds": 1, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 60}}
    for bundle in ("v1", "v2"):
        world.promote(bundle, drift={"current": {"uri": "s3://log"}}, **options)
        world.wait(5)
        world.reconcile()
    world.spec("v3", **options)
    world.reconcile()
    world.spec("v4", **options)
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    world.wait(100)
    world.reconcile()


def resource(kind: str) -> tuple[str, str]:
    base, plural = KINDS[kind]
    group, _, _ = base.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
    return group, plural


def granted() -> dict[tuple[str, str], set[str]]:
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for rule in named("ClusterRole", "creditmodel-operator")["rules"]:
        for group in rule["apiGroups"]:
            for name in rule["resources"]:
                verbs[group, name] |= set(rule["verbs"])
    return verbs


def test_the_role_grants_what_the_operator_does_and_nothing_else(world: World) -> None:
    assert granted() == needed(world)


def test_every_rule_says_why() -> None:
    lines = (BASE / "cluster-role.yaml").read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups")]
    assert all(lines[number - 1].startswith("  # ") for number in rules)


def test_the_lease_role_is_for_the_lease_that_the_operator_holds() -> None:
    rules = named("Role", "creditmodel-operator-lease")["rules"]
    assert [rule.get("resourceNames") for rule in rules] == [None, [names.LEASE]]


def test_the_operator_s_pod_is_what_a_restricted_namespace_lets_in() -> None:
    pod = named("Deployment", "creditmodel-operator")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (
        named("Namespace", "creditmodel-system")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )


def test_the_operator_s_arguments_are_ones_that_it_has() -> None:
    container = named("Deployment", "creditmodel-operator")["spec"]["template"]["spec"]["containers"][0]
    parsed = parser().parse_args(container["args"])
    assert (parsed.all_namespaces, parsed.leader_elect) == (True, True)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--metrics-port={ports['metrics']}" in container["args"]


def test_users_who_edit_a_namespace_may_edit_its_models_but_not_their_status() -> None:
    rules = named("ClusterRole", "creditmodel-edit")["rules"]
    assert [rule["resources"] for rule in rules] == [[api.PLURAL]]


def test_only_approvers_may_create_approvals_and_no_role_gathers_that_right() -> None:
    may = {item["metadata"]["name"] for item in built() if item["kind"] == "ClusterRole" and creates_approvals(item)}
    assert may == {"creditmodel-approver"}
    assert not any("aggregate" in label for label in named("ClusterRole", "creditmodel-approver")["metadata"]["labels"])


def creates_approvals(role: JSON) -> bool:
    return any(
        api.APPROVAL_PLURAL in rule["resources"] and set(rule["verbs"]) & {"create", "patch", "update", "*"}
        for rule in role["rules"]
    )
