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


def _root() -> Node:
    schema: Node = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}[]")


def _rules() -> list[tuple[str, Node, Node]]:
    return [(path, node, rule) for path, node in _nodes(_root()) for rule in node.get("x-kubernetes-validations", [])]


def _node(path: str) -> Node:
    return next(node for where, node in _nodes(_root()) if where == path)


def test_the_committed_crd_is_what_the_models_generate() -> None:
    assert not crd.stale(ROOT / "crds"), "run: creditmodel-operator crd --write crds"


def test_check_fails_on_a_stale_file_and_says_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crd", "--write", str(tmp_path)]) == 0
    assert main(["crd", "--check", str(tmp_path)]) == 0
    with (tmp_path / crd.FILE_NAME).open("a") as file:
        file.write("# edited\n")
    assert main(["crd", "--check", str(tmp_path)]) == 1
    assert "crd --write" in capsys.readouterr().err


def test_the_written_file_reads_back_as_the_same_document() -> None:
    assert yaml.safe_load(crd.render()) == crd.crd()


@pytest.mark.parametrize(("path", "node"), [pytest.param(p, n, id=p or "root") for p, n in _nodes(_root())])
def test_every_field_is_structural(path: str, node: Node) -> None:
    assert "type" in node or node.get("x-kubernetes-int-or-string")
    assert not {"$ref", "$defs", "allOf", "oneOf", "title", "const", "exclusiveMinimum"} & node.keys()


@pytest.mark.parametrize(
    ("path", "node"), [pytest.param(p, n, id=p) for p, n in _nodes(_root()) if p and "[]" not in p and p != ".metadata"]
)
def test_every_field_is_documented_in_a_sentence(path: str, node: Node) -> None:
    assert node["description"].endswith(".")


def test_every_rule_compiles_with_what_any_kubernetes_has() -> None:
    env = cel.NewEnv(variables={"self": cel.Type.DYN})
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
    (".spec.drift.schedule", "*/5 * * * *", "every day"),
    (".spec.drift.schedule", "@daily", "* * * *"),
    (".spec.drift.current.window", "24h", "24"),
    (".spec.drift.current.window", "7d", "0d"),
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
    columns = crd.crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    assert narrow == ["Phase", "Ready", "Active", "Candidate", "Parity", "Speedup", "Drift", "Retrain", "Age"]
