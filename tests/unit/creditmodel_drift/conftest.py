"""Applicants of a small model, its bundle, and a scoring log that a test fills part by part.

The same tests run on another engine: `make test-spark` names it in CREDITMODEL_DRIFT_ENGINE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.bins import freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Category, Contract, Cutoff, Feature, Reason
from creditmodel_bundle.manifest import CONTRACT, REFERENCE, REQUIRED, seal
from creditmodel_drift.duck import Duck, duck
from creditmodel_drift.engine import Engine

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
REGIONS = ("north", "south", "west")

Applicants = Callable[..., pa.Table]
Log = Callable[..., Path]


def applicants_table(
    rows: int,
    seed: int = 0,
    *,
    shift: float = 0.0,
    regions: tuple[float, float, float] = (0.5, 0.3, 0.2),
    missing: float = 0.1,
) -> pa.Table:
    """Raw values: two numbers, a zero-inflated amount, an integer, text and integer categories, and the score."""
    random = np.random.default_rng(seed)
    amount = np.exp(random.normal(size=rows)) * (random.random(rows) > 0.3)
    return pa.table(
        {
            "income": pa.array(random.normal(size=rows) * 1000, mask=random.random(rows) < missing),
            "limit": random.normal(shift, 1.0, rows) * 100,
            "amount": amount,
            "age": random.integers(21, 70, rows),
            "region": random.choice(REGIONS, rows, p=regions).astype(object),
            "education": random.integers(1, 5, rows),
            "_log_odds": random.normal(shift / 2, 1.0, rows),
        }
    )


def contract_for(reference: pa.Table) -> Contract:
    """The contract that training would have frozen on this reference."""
    reason = Reason(code="R1", text="A reason")
    kinds: dict[str, dict[str, Any]] = {
        "income": {"dtype": "number", "missing": "allowed"},
        "limit": {"dtype": "number", "minimum": -1e6, "maximum": 1e6},
        "amount": {"dtype": "number", "minimum": 0},
        "age": {"dtype": "integer", "minimum": 18, "maximum": 120},
        "region": {"dtype": "category", "categories": [Category(value=v, code=i) for i, v in enumerate(REGIONS)]},
        "education": {"dtype": "category", "categories": [Category(value=v, code=v) for v in range(1, 5)]},
    }
    features = [Feature(name=name, reason=reason, **kind) for name, kind in kinds.items()]
    tables: dict[str, Any] = {}
    for feature in features:
        values = reference[feature.name].to_pylist()
        if feature.dtype == "category":
            tables[feature.name] = freeze_categories(values, [c.value for c in feature.categories])
        else:
            tables[feature.name] = freeze_numbers(values, feature.minimum, feature.maximum)
    score = freeze_numbers(reference["_log_odds"].to_pylist())
    return Contract(
        name="small",
        version="1",
        features=features,
        baseline_log_odds=0.0,
        cutoffs=[Cutoff(decision="accept", min_probability=0)],
        bins=Bins(rows=reference.num_rows, features=tables, score=score),
    )


@pytest.fixture(scope="session")
def engine_name() -> str:
    """The engine that the tests are to run on."""
    return os.environ.get("CREDITMODEL_DRIFT_ENGINE", "duckdb")


@pytest.fixture
def local() -> Iterator[Duck]:
    """A DuckDB in this process."""
    with duck() as opened:
        yield opened


@pytest.fixture
def engine(engine_name: str, local: Duck) -> Engine:
    """An engine of one's own."""
    if engine_name == "duckdb":
        return local
    from creditmodel_drift.spark import Spark

    return Spark()


@pytest.fixture(scope="session")
def reference() -> pa.Table:
    return applicants_table(8_000, seed=100)


@pytest.fixture(scope="session")
def contract(reference: pa.Table) -> Contract:
    return contract_for(reference)


@pytest.fixture(scope="session")
def bundle(reference: pa.Table, contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sealed bundle and its digest; the model files are not looked at by the drift check."""
    directory = tmp_path_factory.mktemp("bundle")
    for name in REQUIRED:
        (directory / name).write_bytes(b"{}")
    (directory / CONTRACT).write_text(contract.model_dump_json())
    pq.write_table(reference, directory / REFERENCE)
    return directory, seal(directory, "small", "1")


@pytest.fixture
def applicants() -> Applicants:
    return applicants_table


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Writes a part of a scoring log as serving does; returns its path."""
    root = tmp_path / "log"

    def write(
        table: pa.Table,
        *,
        name: str = "part-0",
        time: datetime = NOON,
        day: str | None = None,
        revision: str = "small-1",
        requests: list[str] | None = None,
        errors: list[str | None] | None = None,
    ) -> Path:
        rows = table.num_rows
        columns = {n: table[n] for n in table.column_names}
        columns |= {
            "_request_id": pa.array(requests or [f"{name}-{i}" for i in range(rows)], pa.string()),
            "_row": pa.array([0] * rows, pa.int32()),
            "_time": pa.array([time + timedelta(seconds=i % 60) for i in range(rows)], pa.timestamp("us", "UTC")),
            "_revision": pa.array([revision] * rows, pa.string()),
            "_probability": 1 / (1 + np.exp(-table["_log_odds"].to_numpy())) if rows else pa.array([], pa.float64()),
            "_error": pa.array(errors or [None] * rows, pa.string()),
        }
        path = root / f"date={day or time.date().isoformat()}" / f"revision={revision}" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return write
