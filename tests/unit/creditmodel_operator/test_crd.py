"""The CRD is what the models say, structural, bounded, documented, and its rules mend what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel

from creditmodel_operator.api import CreditModelSpec, crd
from creditmodel_operator.cli import main

ROOT = Path(__file__).parents[3]
Node = dict[str, Any]


CRDS = {document["spec"]["names"]["kind"]: document for document in crd.crds()}


def _root(kind: str = "CreditModel") -> Node:
    schema: Node = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _cases() -> list[Any]:
    """Every node of every schema."""
    return [pytest.param(path, node, id=f"{kind}{path}") for kind in CRDS for path, node in _nodes(_root(kind))]


def _nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}[]")


def _rules() -> list[tuple[str, Node, Node]]:
    nodes = [found for kind in CRDS for found in _nodes(_root(kind))]
    return [(path, node, rule) for path, node in nodes for rule in node.get("x-kubernetes-validations", [])]


def _node(path: str, kind: str = "CreditModel") -> Node:
    return next(node for where, node in _nodes(_root(kind)) if where == path)


def test_the_committed_crd_is_what_the_models_generate() -> None:
    assert not crd.stale(ROOT / "crds"), "run: creditmodel-operator crd --write crds"


def test_check_fails_on_a_stale_file_and_says_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crd", "--write", str(tmp_path)]) == 0
    assert main(["crd", "--check", str(tmp_path)]) == 0
    with (tmp_path / "creditmodel.dev_creditmodels.yaml").open("a") as file:
        file.write("# edited\n")
    (tmp_path / "creditmodel.dev_modelapprovals.yaml").unlink()
    assert main(["crd", "--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "crd --write" in said
    assert ("creditmodels.yaml" in said, "modelapprovals.yaml" in said) == (True, True)


def test_the_written_file_reads_back_as_the_same_document() -> None:
    assert list(yaml.safe_load_all(crd.render())) == crd.crds()


@pytest.mark.parametrize(("path", "node"), _cases())
def test_every_field_is_structural(path: str, node: Node) -> None:
    assert "type" in node or node.get("x-kubernetes-int-or-string")
    assert not {"$ref", "$defs", "allOf", "oneOf", "title", "const", "exclusiveMinimum"} & node.keys()


@pytest.mark.parametrize(("path", "node"), [case for case in _cases() if "[]" not in str(case.values[0])])
def test_every_field_is_documented_in_a_sentence(path: str, node: Node) -> None:
    assert path == ".metadata" or node["description"].endswith(".")


def test_every_rule_compiles_with_what_any_kubernetes_has() -> None:
    env = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
    for _, _, rule in _rules():
        env.compile(rule["rule"])


@pytest.mark.parametrize(("path", "node", "rule"), [pytest.param(*case, id=case[0] or "root") for case in _rules()])
def test_every_rule_has_a_bounded_cost(path: str, node: Node, rule: Node) -> None:
    assert len(rule["rule"]) < 200
    if node.get("type") == "string":
        assert node["maxLength"] <= 1024
    for macro in ("all(", "exists(", "map(", "filter("):
        assert macro not in rule["rule"]


NAME = ({"metadata": {"name": "credit"}}, {"metadata": {"name": "2credit"}})
WEBHOOK = {"url": "https://hooks", "format": "CloudEvents", "insecure": False}
TRIGGERS = {"triggers": ["Drift", "Quality"]}
RULE_CASES = [
    ("", *NAME),
    ("", {"metadata": {"name": "c" * 46}}, {"metadata": {"name": "c" * 47}}),
    ("", {"metadata": {"name": "credit-2"}}, {"metadata": {"name": "credit.eu"}}),
    (".spec.model.uri", "file:///models/v1", "file:///"[:7]),
    (".spec.model.uri", "s3://models/v1", "/models/v1"),
    (".spec.model.uri", "https://models/v1", "ftp://models/v1"),
    (".spec.model.digest", "sha256:" + "0a" * 32, "sha256:" + "0A" * 32),
    (".spec.model.digest", "sha256:" + "0a" * 32, "0a" * 32),
    (".spec.gates.quality", {"minAUC": 0.7}, {}),
    (".spec.gates.quality", {"maxKSDrop": 0.1}, {}),
    (".spec.serving.replicas", {"min": 2, "max": 2}, {"min": 3, "max": 2}),
    (".spec.serving.serviceAccountName", "creditmodel-serving", "Creditmodel Serving"),
    (".spec.jobs.serviceAccountName", "creditmodel.jobs", "-jobs"),
    (".spec.serving.tolerations[]", {"key": "a", "operator": "Equal"}, {"operator": "Equal"}),
    (".spec.serving.tolerations[]", {"operator": "Exists"}, {"operator": "Exists", "value": "a"}),
    (
        ".spec.jobs.tolerations[]",
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        {"operator": "Exists", "tolerationSeconds": 5},
    ),
    (".spec.drift.schedule", "*/5 * * * *", "every day"),
    (".spec.drift.schedule", "@daily", "* * * *"),
    (".spec.drift.current.window", "24h", "24"),
    (".spec.drift.current.window", "7d", "0d"),
    (".spec.drift.labels.window", "90d", "0d"),
    (".spec.retraining.cooldown", "0m", "7"),
    (".spec.retraining", {"policy": "Signal"}, {"policy": "Job"}),
    (".spec.retraining", {"policy": "Job", "job": {}}, {"policy": "Signal", "job": {}}),
    (".spec.retraining", {"policy": "Signal", "webhook": {}}, {"policy": "Job", "job": {}, "webhook": {}}),
    (".spec.retraining.job.output.uri", "s3://models", "https://models"),
    (".spec.retraining.job.window", "90d", "0d"),
    (".spec.retraining.job.serviceAccountName", "trainer", "The Trainer"),
    (".spec.retraining.job.env[]", {"name": "A", "value": "1"}, {"name": "A"}),
    (".spec.retraining.job.env[]", {"name": "A", "secretKeyRef": {}}, {"name": "A", "value": "", "secretKeyRef": {}}),
    (".spec.retraining.webhook.url", "https://hooks.example.com/a?b=c", "ftp://hooks"),
    (".spec.retraining.webhook.url", "http://hook.ns.svc:8080", "https://user@hooks"),
    (".spec.retraining.webhook.dagId", "retrain_credit.v2", "../variables"),
    (".spec.retraining.webhook", WEBHOOK, WEBHOOK | {"url": "http://hooks"}),
    (".spec.retraining.webhook", WEBHOOK | {"url": "http://hooks", "insecure": True}, WEBHOOK | {"format": "Airflow"}),
    (".spec.retraining.webhook", WEBHOOK | {"format": "Airflow", "dagId": "a"}, WEBHOOK | {"dagId": "a"}),
    (".spec", {"retraining": TRIGGERS}, {"retraining": TRIGGERS | {"job": {}}}),
    (
        ".spec",
        {"retraining": TRIGGERS | {"job": {}}, "drift": {"labels": {}}},
        {"retraining": {"triggers": ["Quality"]}},
    ),
    (
        ".spec",
        {"retraining": {"triggers": ["Quality"]}, "drift": {"labels": {"minAUC": 0.7}}},
        {"retraining": {"triggers": ["Quality"]}, "drift": {"labels": {}}},
    ),
]


@pytest.mark.parametrize(("path", "good", "bad"), RULE_CASES)
def test_rules_accept_the_good_and_refuse_the_bad_with_a_sentence(path: str, good: object, bad: object) -> None:
    env = cel.NewEnv(variables={"self": cel.Type.DYN})
    rules = _node(path)["x-kubernetes-validations"]

    def verdicts(value: object) -> list[bool]:
        return [env.compile(rule["rule"]).eval(data={"self": value}).value() for rule in rules]

    assert all(verdicts(good))
    assert not all(verdicts(bad))
    assert all(len(rule["message"].split()) > 5 for rule in rules)


def test_a_decision_is_refused_any_change_with_a_sentence() -> None:
    (rule,) = _node(".spec", "ModelApproval")["x-kubernetes-validations"]
    program = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}).compile(rule["rule"])
    before = {"decision": "Reject", "reason": "unstable", "digest": "sha256:00"}
    for after, allowed in (
        (dict(before), True),
        ({**before, "approver": "me"}, False),
        ({**before, "digest": ""}, False),
    ):
        assert program.eval(data={"self": after, "oldSelf": before}).value() is allowed
    assert "delete this ModelApproval and create another" in rule["message"]


def test_the_defaults_of_the_schema_are_those_of_the_models() -> None:
    def defaulted(node: Node, value: Any) -> Any:
        for name, child in node.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = child["default"]
            if isinstance(value.get(name), dict):
                defaulted(child, value[name])
        return value

    given = {
        "model": {"uri": "file:///m"},
        "gates": {"parity": {"rtol": 0.5}},
        "drift": {"current": {"uri": "file:///d"}},
    }
    parsed = CreditModelSpec.model_validate(given)
    assert CreditModelSpec.model_validate(defaulted(_node(".spec"), given)) == parsed


def test_printer_columns_are_the_ones_that_a_person_looks_for() -> None:
    assert _narrow("ModelApproval") == ["Model", "Decision", "Approver", "Digest", "Expires", "Age"]
    assert _narrow("CreditModel") == [
        "Phase",
        "Ready",
        "Active",
        "Candidate",
        "Parity",
        "Speedup",
        "Drift",
        "Retrain",
        "Age",
    ]


def _narrow(kind: str) -> list[str]:
    columns = CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    return [column["name"] for column in columns if not column.get("priority")]
