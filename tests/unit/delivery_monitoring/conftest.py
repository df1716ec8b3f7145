"""What the tests of manifests/monitoring share: its documents, and the metrics that the code really exposes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from creditmodel_inference.answers import Identity
from creditmodel_inference.errors import FieldError
from creditmodel_inference.meter import SCORE, Meter
from creditmodel_operator import metrics
from creditmodel_operator.conditions import TYPES

MONITORING = Path(__file__).resolve().parents[3] / "manifests" / "monitoring"


def exposed(text: str) -> dict[str, set[str]]:
    """Label names by sample name, of an exposition."""
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


@pytest.fixture(scope="session")
def serving_metrics() -> Mapping[str, set[str]]:
    """What a serving pod exposes once every counter has counted."""
    meter = Meter()
    contract: Any = SimpleNamespace(
        features=[SimpleNamespace(name="age")], cutoffs=[SimpleNamespace(decision="approve")]
    )
    meter.serve(contract, Identity("loans", "1", "loans-0123456789", "sha256:00"))
    meter.log = lambda: (0, 0, 0, 0)
    meter.refused([FieldError("/applicants/0/age", "is over 150", "range")])
    meter.request(SCORE, 200, 0.001)
    return exposed(meter.exposition().decode())


@pytest.fixture(scope="session")
def operator_metrics() -> Mapping[str, set[str]]:
    """What the operator exposes once every counter has counted."""
    metrics.PASSES.labels("changed")
    metrics.API_REQUESTS.labels("GET", "200")
    metrics.GATES.labels("parity", "Passed")
    conditions = metrics.Conditions()
    conditions.update("ns/name", dict.fromkeys(TYPES, "True"))
    conditions.update("ns/name", {})
    return exposed(generate_latest().decode())


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    """Every alert."""
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]
