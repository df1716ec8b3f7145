"""Applicants of a small model, its bundle, and a scoring log that a test fills part by part.

The same tests run on another engine: `make test-spark` names it in CREDITMODEL_DRIFT_ENGINE; and on files in an object
store: `make test-object-store` sets CREDITMODEL_DRIFT_STORE.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from creditmodel_bundle.bins import freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Category, Contract, Cutoff, Feature, Reason
from creditmodel_bundle.manifest import CONTRACT, REFERENCE, REQUIRED, seal
from creditmodel_drift.duck import Duck, duck
from creditmodel_drift.engine import Engine
from creditmodel_sandbox.instance import free_port

IN_STORE = "CREDITMODEL_DRIFT_STORE" in os.environ
collect_ignore = [] if IN_STORE else ["test_object_store.py"]

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


@dataclass(frozen=True)
class Store:
    """An S3 server and its one key."""

    endpoint: str
    key: str = "drift"
    secret: str = "drift-secret"
    bucket: str = "applicants"

    def filesystem(self) -> fs.S3FileSystem:
        """A client of it."""
        return fs.S3FileSystem(
            access_key=self.key, secret_key=self.secret, endpoint_override=self.endpoint, region="us-east-1",
            allow_bucket_creation=True, connect_timeout=5, request_timeout=20,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """What a process that uses it is told."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A SeaweedFS with one bucket."""
    directory = tmp_path_factory.mktemp("store")
    keys = {"accessKey": Store.key, "secretKey": Store.secret}
    identity = {"name": "drift", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    roles = [role + kind for role in ("master", "volume", "filer", "s3", "admin") for kind in (".port", ".port.grpc")]
    ports = dict(zip(roles, free_ports(len(roles)), strict=True))
    command = [str(Path(sys.executable).parent / "weed"), "mini", f"-dir={directory}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-s3.config={directory}/s3.json", *(f"-{role}={port}" for role, port in ports.items())]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    opened = Store(f"http://127.0.0.1:{ports['s3.port']}")
    try:
        await_bucket(opened, time.monotonic() + 120)
        yield opened
    finally:
        process.terminate()
        process.wait(30)


def free_ports(number: int) -> set[int]:
    """Ports that nobody listens on."""
    ports: set[int] = set()
    while len(ports) < number:
        ports.add(free_port())
    return ports


def await_bucket(store: Store, deadline: float) -> None:
    """Create the bucket as soon as the server takes it."""
    while True:
        try:
            store.filesystem().create_dir(store.bucket)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@pytest.fixture
def stored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Puts the files below a directory where the tests are to find them; returns the URI."""
    if not IN_STORE:
        return str
    store: Store = request.getfixturevalue("store")
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)

    def upload(root: Path) -> str:
        place = f"{store.bucket}/{secrets.token_hex(6)}"
        for path in (path for path in root.rglob("*") if path.is_file()):
            # Else Arrow compresses what is called .gz, once more.
            with store.filesystem().open_output_stream(f"{place}/{path.relative_to(root)}", compression=None) as out:
                out.write(path.read_bytes())
        return f"s3://{place}"

    return upload


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
