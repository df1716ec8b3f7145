"""What the tests of manifests/monitoring share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

MONITORING = Path(__file__).resolve().parents[3] / "manifests" / "monitoring"


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    """Every alert."""
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]
