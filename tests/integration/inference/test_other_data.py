"""A data set of another shape, from the file to the replayed log: texts for categories, gaps, names of its own."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Row = dict[str, Any]
HOMES = ["owner", "rent", "with parents", ""]


def command(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name(name))
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    random = np.random.default_rng(11)
    made = []
    for _ in range(1_200):
        income, home = random.lognormal(7, 0.5), HOMES[int(random.integers(0, 4))]
        bad = random.random() < 1 / (1 + np.exp((income - 900) / 300)) + 0.2 * (home == "rent")
        gap = random.random() < 0.1
        made.append(
            {"Income": "" if gap else round(income, 2), "Housing": home, "Years": int(random.integers(0, 40)),
             "Status": "bad" if bad else "good"}
        )  # fmt: skip
    return made


@pytest.mark.full
def test_another_data_set_is_trained_served_logged_and_replayed(
    start: Callable[..., Any], rows: list[Row], tmp_path: Path
) -> None:
    table, made, log = tmp_path / "loans.csv", tmp_path / "bundle", tmp_path / "log"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    named = ["--name", "loans", "--version", "1", "--epochs", "2"]
    done = command(
        "creditmodel-train", "--data", table, "--label", "Status", "--positive", "bad", "--out", made, *named
    )
    assert done.returncode == 0, done.stderr
    server = start(made, "--scoring-log", log.as_uri(), "--drain-seconds", "0")
    server.wait_ready()
    properties = server.request("GET", "/openapi.json").json["components"]["schemas"]["Applicant"]["properties"]
    assert set(properties) == {"Income", "Housing", "Years"}
    assert properties["Housing"]["enum"] == ["owner", "rent", "with parents", None]
    applicants = [{name: None if row[name] == "" else row[name] for name in properties} for row in rows[:300]]
    together = server.score(*applicants).json["results"]
    assert [server.score(applicant).json["results"][0] for applicant in applicants[:20]] == together[:20]
    assert {reason["feature"] for result in together for reason in result["reasons"]} <= set(properties)
    assert server.score(applicants[0] | {"Housing": "castle"}).json["errors"][0]["kind"] == "category"
    assert server.stop() == 0
    assert command("creditmodel-log", "verify", log).returncode == 0
    replayed = command("creditmodel-log", "replay", log, "--bundle", made.as_uri(), "--tolerance", "0")
    assert (replayed.returncode, "0 differ" in replayed.stdout) == (0, True), replayed.stdout
