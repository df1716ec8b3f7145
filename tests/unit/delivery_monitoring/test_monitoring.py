"""Alerts and dashboards ask for what the code exposes, and find the pods that the operator makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from checks.prometheus import dashboard_queries, known, rule_queries, selectors, unknown
from creditmodel_operator import names

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "manifests" / "monitoring"

DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
QUERIES = [*rule_queries(ROOT), *((f"{p.stem}: {where}", q) for p in DASHBOARDS for where, q in dashboard_queries(p))]
RUNBOOKS = ROOT / "docs" / "runbooks"


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_asks_for_metrics_labels_and_values_that_exist(where: str, query: str) -> None:
    assert unknown(query, known()) == []


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("sum(rate(creditmodel_request_total[5m]))", "creditmodel_request_total"),
        ('creditmodel_requests_total{status="500"}', "creditmodel_requests_total{status}"),
        ('max_over_time(sum(creditmodel_operator_conditions{type="Reddy"})[1d:1m])', "Reddy"),
        ("sum by (model) (creditmodel_in_flight)", "model"),
        ("up and on (node) creditmodel_operator_leader", "node"),
    ],
)
def test_a_query_for_something_else_is_found_out(query: str, what: str) -> None:
    assert what in unknown(query, known())


def test_every_metric_of_the_code_is_shown_or_alerted_on() -> None:
    asked = {selector.name for _, query in QUERIES for selector in selectors(query)}
    families = {name.removesuffix(end) for name in asked if name for end in ("_bucket", "_sum", "_count", "")}
    exposed = {name for name in known() if name.startswith("creditmodel_")}
    unasked = {n for n in exposed if not any(n.removesuffix(e) in families for e in ("_bucket", "_sum", "_count", ""))}
    assert {name for name in unasked if not name.endswith("_created")} == set()


def test_each_alert_has_a_runbook_and_each_runbook_an_alert(rules: list[dict[str, Any]]) -> None:
    pages = {f"docs/runbooks/{page.name}" for page in RUNBOOKS.glob("*.md")} - {"docs/runbooks/README.md"}
    assert {rule["annotations"]["runbook_url"] for rule in rules} == pages
    for rule in rules:
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.stem == rule["alert"]
        for part in ("**Impact.**", "**Look.**", "**Mend.**", "**Clears**"):
            assert part in page.read_text(), f"{page.name} lacks {part}"


def test_each_alert_waits_has_a_severity_and_a_unit_test(rules: list[dict[str, Any]]) -> None:
    tests = yaml.safe_load((MONITORING / "tests" / "rules.yaml").read_text())["tests"]
    firing = {c["alertname"] for test in tests for c in test["alert_rule_test"] if c["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == firing
    assert all(rule["for"] and rule["labels"]["severity"] in {"info", "warning", "critical"} for rule in rules)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_panels_of_a_dashboard_have_ids_of_their_own_and_do_not_overlap(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells
        taken |= cells


def rendered(folder: str) -> list[dict[str, Any]]:
    """The objects of a kustomization."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(ROOT / "manifests" / folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only object of its kind."""
    (found,) = (document for document in objects if document["kind"] == kind)
    return found


def test_the_pod_monitor_finds_the_pods_of_a_revision_by_their_labels_and_port() -> None:
    from creditmodel_operator.children.common import revision_labels
    from creditmodel_operator.revision import Owner

    spec = one(rendered("monitoring"), "PodMonitor")["spec"]
    labels = revision_labels(Owner(namespace="ns", name="loans", uid="u"), "loans-0123456789")
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert spec["podMetricsEndpoints"][0]["port"] == "http"
    relabelled = {label["sourceLabels"][0] for label in spec["podMetricsEndpoints"][0]["relabelings"]}
    escaped = {f"__meta_kubernetes_pod_label_{name.translate(str.maketrans('./-', '___'))}" for name in labels}
    assert relabelled <= escaped
    assert names.INSTANCE in labels


def test_the_service_monitor_finds_the_service_and_the_service_the_operator() -> None:
    monitoring, base = rendered("monitoring"), rendered("base")
    service, monitor = one(monitoring, "Service"), one(monitoring, "ServiceMonitor")
    template = one(base, "Deployment")["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert ports[service["spec"]["ports"][0]["targetPort"]] == service["spec"]["ports"][0]["port"]
    assert service["metadata"]["namespace"] == one(base, "Deployment")["metadata"]["namespace"]


def test_the_built_in_kinds_of_monitoring_are_valid() -> None:
    for document in rendered("monitoring"):
        if document["apiVersion"] == "v1":
            validate(document, "1.35", strict=True)
