"""Alerts and dashboards: their queries parse and ask for metrics, labels and values that the code really exposes."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser as promql
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from checks.common import Outcome, ran
from creditmodel_inference.answers import Identity
from creditmodel_inference.errors import FieldError
from creditmodel_inference.meter import SCORE, Meter
from creditmodel_operator import metrics
from creditmodel_operator.client import ApiFailure
from creditmodel_operator.conditions import TYPES

__all__ = [
    "VARIABLES",
    "Exposed",
    "alerts",
    "dashboard_queries",
    "dashboards",
    "known",
    "operator_metrics",
    "rule_queries",
    "selectors",
    "serving_metrics",
    "unknown",
]

Exposed = Mapping[str, frozenset[str]]
"""Label names by sample name."""

MONITORING = Path("manifests/monitoring")
VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*", "$creditmodel": ".*"}
TARGET_LABELS = {"namespace", "pod", "creditmodel", "revision"}
"""What the scrape adds: the first two by itself, the others by the PodMonitor's relabelling."""
HISTOGRAM = {"le"}
VALUES = {
    "type": set(TYPES),
    "status": {"True", "False", "Unknown"},
    "route": {SCORE},
    "outcome": {"changed", "unchanged", "absent", "error"} | {c.__name__.lower() for c in ApiFailure.__subclasses__()},
}


def alerts(root: Path) -> Outcome:
    """Every rule's query, and what Prometheus itself says of rules and unit tests, where promtool is there."""
    found = [f"{MONITORING / 'rules.yaml'}: {error}" for error in _query_errors(rule_queries(root))]
    if shutil.which("promtool") is None:
        return Outcome(tuple(found), "promtool is not here (apt install prometheus): no check by Prometheus itself")
    return Outcome((*found, *ran([str(root / ".ci" / "check-rules")], root).findings))


def dashboards(root: Path) -> Outcome:
    """Every dashboard is JSON, and every query in it stands."""
    found: list[str] = []
    for path in sorted((root / MONITORING / "dashboards").glob("*.json")):
        try:
            queries = list(dashboard_queries(path))
        except (ValueError, KeyError, TypeError) as e:
            found.append(f"{path.relative_to(root)}: is no dashboard: {e!r}")
        else:
            found += [f"{path.relative_to(root)}: {error}" for error in _query_errors(queries)]
    return Outcome(tuple(found))


def _query_errors(queries: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Iterator[str]:
    for where, query in queries:
        try:
            missing = unknown(query, known())
        except ValueError as e:
            yield f"{where}: {e}"
        else:
            yield from (f"{where}: nothing exposes {name}" for name in missing)


def rule_queries(root: Path) -> Iterator[tuple[str, str]]:
    """Name and query of every rule."""
    document = yaml.safe_load((root / MONITORING / "rules.yaml").read_text())
    for group in document["spec"]["groups"]:
        yield from ((rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"])


def dashboard_queries(path: Path) -> Iterator[tuple[str, str]]:
    """Panel (or variable) and query of every query in a dashboard. Raises ValueError, KeyError, TypeError."""
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))
    for variable in dashboard["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", "")):
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"


def _parsed(query: str) -> Any:
    """The query's syntax tree, with Grafana's variables filled in. Raises ValueError."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return promql.parse(query)


def _nodes(tree: Any) -> Iterator[Any]:
    yield tree
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (child := getattr(tree, name, None)) is not None:
            yield from _nodes(child)
    for child in getattr(tree, "args", []):
        yield from _nodes(child)


def selectors(query: str) -> Iterator[promql.VectorSelector]:
    """Every selector of series in a query. Raises ValueError."""
    yield from (node for node in _nodes(_parsed(query)) if isinstance(node, promql.VectorSelector))


def _grouped_labels(query: str) -> set[str]:
    """Labels that aggregations and matches name."""
    found: set[str] = set()
    for node in _nodes(_parsed(query)):
        modifier = getattr(node, "modifier", None)
        found |= set(getattr(modifier, "labels", None) or [])
        found |= set(getattr(getattr(modifier, "matching", None), "labels", None) or [])
    return found


def unknown(query: str, exposed: Exposed) -> list[str]:
    """What a query asks for that is not exposed. Raises ValueError where it does not parse."""
    found: list[str] = []
    labels: set[str] = TARGET_LABELS | HISTOGRAM
    for selector in selectors(query):
        name = selector.name or "(no name)"
        if name not in exposed:
            found.append(name)
            continue
        labels |= exposed[name]
        for matcher in selector.matchers.matchers:
            if matcher.name not in exposed[name] | TARGET_LABELS:
                found.append(f"{name}{{{matcher.name}}}")
            elif matcher.name in VALUES:
                found += [v for v in matcher.value.split("|") if v not in VALUES[matcher.name]]
    return found + sorted(_grouped_labels(query) - labels)


def _exposed(text: str) -> Exposed:
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return {name: frozenset(labels) for name, labels in found.items()}


@cache
def serving_metrics() -> Exposed:
    """What a serving pod exposes once every counter has counted."""
    meter = Meter()
    contract: Any = SimpleNamespace(
        features=[SimpleNamespace(name="age")], cutoffs=[SimpleNamespace(decision="approve")]
    )
    meter.serve(contract, Identity("loans", "1", "loans-0123456789", "sha256:00"))
    meter.log = lambda: (0, 0, 0, 0)
    meter.refused([FieldError("/applicants/0/age", "is over 150", "range")])
    meter.request(SCORE, 200, 0.001)
    return _exposed(meter.exposition().decode())


@cache
def operator_metrics() -> Exposed:
    """What the operator exposes once every counter has counted."""
    metrics.PASSES.labels("changed")
    metrics.API_REQUESTS.labels("GET", "200")
    metrics.GATES.labels("parity", "Passed")
    models = metrics.Models()
    trigger = {"kind": "signal", "state": "Failed"}
    conditions = [{"type": kind, "status": "True"} for kind in TYPES]
    models.update("ns/name", {"conditions": conditions, "phase": "Ready", "retraining": {"trigger": trigger}})
    models.update("ns/name", {})
    return _exposed(generate_latest().decode())


@cache
def known() -> Exposed:
    """What serving pods and operator expose together."""
    both = dict(serving_metrics())
    for name, labels in operator_metrics().items():
        both[name] = both.get(name, frozenset()) | labels
    return both
