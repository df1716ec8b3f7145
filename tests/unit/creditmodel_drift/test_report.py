"""The page opens offline and reads without knowing PSI; the document has every figure; Evidently breaks neither."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.bins import NumberBins
from creditmodel_drift import evidently_report as module
from creditmodel_drift.baseline import Baseline, Column, from_contract
from creditmodel_drift.cli import main
from creditmodel_drift.evidently_report import evidently_report
from creditmodel_drift.page import plain_words
from creditmodel_drift.scan import Census, Counts
from creditmodel_drift.verdict import Settings, judge

Applicants = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def made(bundle: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The page and the document of a window that drifted."""
    directory = tmp_path_factory.mktemp("reports")
    table = pq.read_table(bundle[0] / "reference.parquet").slice(0, 1_500)
    moved = table.set_column(table.column_names.index("limit"), "limit", pa.array(table["limit"].to_numpy() + 80))
    hostile = pa.array(np.where(np.arange(1_500) < 40, "</script><script>alert(1)</script>", "north").tolist())
    moved = moved.set_column(table.column_names.index("region"), "region", hostile)
    pq.write_table(moved, directory / "current.parquet")
    arguments = ["--bundle", str(bundle[0]), "--current", str(directory / "current.parquet"), "--sample-rows", "500"]
    reports = directory / "not" / "yet" / "there"
    assert main([*arguments, "--html", str(reports / "r.html"), "--json", (reports / "r.json").as_uri()]) == 0
    return (reports / "r.html").read_text(), json.loads((reports / "r.json").read_text())


def outside_frame(page: str) -> str:
    return re.sub(r'srcdoc="[^"]*"', "", page)


def test_the_page_says_what_moved_in_plain_words(made: tuple[str, dict[str, Any]]) -> None:
    page = unescape(outside_frame(made[0]))
    assert "Drift: today's applicants differ from those the model was built on" in page
    assert re.search(
        r"limit: the share of applicants above [\d.]+ and up to 1e\+06 rose from 10\.0% to \d\d\.\d%", page
    )
    assert "How to read this" in page


@pytest.mark.parametrize(
    ("reference", "current", "sentence"),
    [
        ([40, 20, 20, 20, 0, 0], [10, 30, 30, 30, 0, 0], "x: the share of applicants at 0 fell from 40.0% to 10.0%."),
        ([30, 10, 30, 30, 0, 0], [20, 40, 20, 20, 0, 0], "from -5 up to 2, other than 0, rose from 10.0% to 40.0%."),
        ([30, 30, 10, 30, 0, 0], [20, 20, 40, 20, 0, 0], "applicants above 2 and up to 7 rose from 10.0% to 40.0%."),
        ([30, 30, 30, 10, 0, 0], [20, 20, 20, 40, 0, 0], "applicants above 7 rose from 10.0% to 40.0%."),
        ([30, 30, 20, 10, 10, 0], [15, 15, 20, 10, 40, 0], "applicants out of range rose from 10.0% to 40.0%."),
        ([30, 30, 20, 10, 0, 10], [15, 15, 20, 10, 0, 40], "applicants missing rose from 10.0% to 40.0%."),
    ],
)
def test_a_shift_is_said_about_the_bin_that_moved_most(reference: list[int], current: list[int], sentence: str) -> None:
    table = NumberBins(points=[0.0], edges=[2.0, 7.0], minimum=-5, counts=[100 * count for count in reference])
    column = Column("x", "number", table)
    baseline = Baseline("b", sum(table.counts), (column,), None)
    rows = 100 * sum(current)
    counts = Counts(rows, {"x": [100 * count for count in current]}, Census(rows))
    assert plain_words(judge(baseline, counts, {}, Settings()).features[0]).endswith(sentence)


def test_the_page_loads_nothing_from_anywhere(made: tuple[str, dict[str, Any]]) -> None:
    own = outside_frame(made[0])
    assert not re.search(r"https?://|src=|@import|url\(", own)
    assert "default-src 'none'" in own
    frame = unescape(re.findall(r'srcdoc="([^"]*)"', made[0])[0])
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=[\"']?(https?:)?//", frame)


def test_the_frame_of_evidently_is_sandboxed_and_closed(made: tuple[str, dict[str, Any]]) -> None:
    assert made[0].count("<iframe") == 1
    assert "sandbox='allow-scripts'" in made[0]
    assert "</script><script>alert(1)" not in outside_frame(made[0])


def test_the_document_has_the_verdict_the_bins_and_evidently(made: tuple[str, dict[str, Any]]) -> None:
    document = made[1]
    assert document["verdict"] == "drift"
    limit = next(feature for feature in document["features"] if feature["name"] == "limit")
    assert limit["drifted"] is True
    assert sum(cell["current"] for cell in limit["bins"]) == 1_500
    assert sum(cell["reference"] for cell in limit["bins"]) == 8_000
    assert document["evidently"]["rows"] == {"reference": 500, "current": 500}
    assert document["evidently"]["report"]["metrics"]


def test_the_same_seed_gives_evidently_the_same_sample(
    bundle: tuple[Path, str], tmp_path: Path, made: tuple[str, dict[str, Any]]
) -> None:
    pq.write_table(pq.read_table(bundle[0] / "reference.parquet").slice(0, 2_000), tmp_path / "now.parquet")

    def values(seed: int) -> list[Any]:
        place = tmp_path / f"{seed}.json"
        current = str(tmp_path / "now.parquet")
        options = ["--sample-rows", "300", "--seed", str(seed), "--json", str(place)]
        assert main(["--bundle", str(bundle[0]), "--current", current, *options]) == 0
        return [metric["value"] for metric in json.loads(place.read_text())["evidently"]["report"]["metrics"]]

    assert values(1) == values(1) != values(2)


def test_columns_without_values_are_left_out_and_named(reference: pa.Table, contract: Any) -> None:
    columns = from_contract(contract).columns
    current = reference.drop_columns(["age"])
    nulls = current.set_column(current.column_names.index("region"), "region", pa.nulls(current.num_rows, pa.string()))
    found = evidently_report(reference.slice(0, 300), nulls.slice(0, 300), columns)
    assert found.left_out == {"region": "has no value in the current data", "age": "is not in the current data"}
    assert found.document is not None


def test_of_many_columns_evidently_gets_the_score_and_those_that_drifted_most(
    bundle: tuple[Path, str], applicants: Applicants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def run(before: pa.Table, now: pa.Table, columns: list[Column]) -> tuple[str, dict[str, Any]]:
        given.extend(column.name for column in columns)
        return "<html></html>", {}

    monkeypatch.setattr(module, "MAX_COLUMNS", 2)
    monkeypatch.setattr(module, "_run", run)
    pq.write_table(applicants(400, shift=1.0), tmp_path / "now.parquet")
    place = tmp_path / "r.json"
    assert main(["--bundle", str(bundle[0]), "--current", str(tmp_path / "now.parquet"), "--json", str(place)]) == 0
    assert given == ["_log_odds", "limit"]
    left = json.loads(place.read_text())["evidently"]["left_out"]
    assert left["age"] == "is not among the 2 columns that drifted most"


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows_give_a_reason_or_a_report_and_no_error(rows: int, reference: pa.Table, contract: Any) -> None:
    found = evidently_report(reference.slice(0, 300), reference.slice(0, rows), from_contract(contract).columns)
    assert (found.html is None) == (found.problem is not None)


def test_no_usable_column_is_a_reason_and_no_error() -> None:
    nothing = pa.table({"x": pa.nulls(5, pa.float64())})
    column: Any = Column("x", "number", None)  # type: ignore[arg-type]  # Evidently's side never looks at bins
    assert evidently_report(nothing, nothing, [column]).problem == "there are no values to compare"


def test_a_check_without_reports_does_not_import_evidently(bundle: tuple[Path, str]) -> None:
    code = (
        "import sys; from creditmodel_drift.cli import main; "
        f"assert main(['--bundle', {str(bundle[0])!r}, '--current', {str(bundle[0] / 'reference.parquet')!r}]) == 0; "
        "assert not {'evidently', 'pandas', 'scipy.stats'} & set(sys.modules), 'slow to start'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
