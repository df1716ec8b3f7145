"""Current data as it really arrives: late, copied, empty, corrupt, foreign, of other revisions and other schemas."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_drift.baseline import Baseline, from_contract
from creditmodel_drift.check import Checked, check
from creditmodel_drift.duck import Duck
from creditmodel_drift.engine import Engine
from creditmodel_drift.errors import BadInput, NoUsableData
from creditmodel_drift.measure import notes
from creditmodel_drift.parts import Part, readable
from creditmodel_drift.verdict import Settings
from creditmodel_drift.window import Period, period

Applicants = Callable[..., pa.Table]
Log = Callable[..., Path]

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = Period(NOON - timedelta(hours=12), NOON + timedelta(hours=12))


@pytest.fixture(scope="session")
def baseline(contract: Contract) -> Baseline:
    return from_contract(contract)


@pytest.fixture
def look(engine: Engine, baseline: Baseline) -> Any:
    def run(uri: Path | str, period: Period | None = None, revision: str | None = None) -> Checked:
        return check(engine, baseline, str(uri), Settings(), period, revision)

    return run


def root(part: Path) -> Path:
    return part.parents[2]


def test_a_window_like_the_reference_has_no_drift(log: Log, applicants: Applicants, look: Any) -> None:
    checked = look(root(log(applicants(2_000, seed=1))), DAY)
    assert checked.verdict.outcome == "no_drift"
    assert checked.verdict.rows == 2_000
    assert checked.verdict.score is not None


def test_a_shifted_feature_and_a_shifted_score_are_drift_by_name(log: Log, applicants: Applicants, look: Any) -> None:
    verdict = look(root(log(applicants(2_000, seed=1, shift=1.0))), DAY).verdict
    assert verdict.outcome == "drift"
    assert [feature.column.name for feature in verdict.drifted] == ["limit"]
    assert verdict.score.drifted


def test_rows_are_taken_by_their_own_time_wherever_a_late_part_was_filed(
    log: Log, applicants: Applicants, look: Any
) -> None:
    log(applicants(500, seed=1), name="a")
    log(applicants(300, seed=2), name="late", day="2026-11-21")
    log(applicants(200, seed=3), name="old", time=NOON - timedelta(hours=13))
    part = log(applicants(100, seed=4), name="next", time=NOON + timedelta(hours=12))
    checked = look(root(part), DAY)
    assert checked.verdict.rows == 800
    assert checked.counts.census.outside_window == 300


def test_rows_of_a_clock_that_runs_ahead_are_remarked_on(log: Log, applicants: Applicants, look: Any) -> None:
    log(applicants(500, seed=1), name="right", time=NOON - timedelta(minutes=1))
    part = log(applicants(300, seed=2), name="ahead", time=NOON + timedelta(hours=3))
    checked = look(root(part), period(timedelta(hours=24), None, NOON))
    assert (checked.verdict.rows, checked.counts.census.future) == (500, 300)
    remark = "300 rows dated after this check (does the clock of what scores run ahead?)"
    assert remark in notes(checked)
    earlier = look(root(part), period(timedelta(hours=24), NOON - timedelta(hours=1), NOON + timedelta(hours=4)))
    assert not any("dated after" in note for note in notes(earlier))


def test_partitions_that_cannot_hold_the_window_are_not_even_opened(
    log: Log, applicants: Applicants, look: Any
) -> None:
    log(applicants(500, seed=1))
    log(applicants(5), name="b", time=NOON - timedelta(days=9)).write_bytes(b"broken")
    part = log(applicants(5), name="c", revision="small-2")
    part.write_bytes(b"broken")
    checked = look(root(part), DAY, "small-1")
    assert checked.verdict.rows == 500
    assert checked.survey.corrupt == {}


def test_rows_of_another_revision_in_one_file_are_left_out(applicants: Applicants, look: Any, tmp_path: Path) -> None:
    table = applicants(1_000, seed=1)
    mixed = table.append_column("_revision", pa.array(["r1", "r2", None, "r1"] * 250))
    pq.write_table(mixed, tmp_path / "log.parquet")
    checked = look(tmp_path / "log.parquet", revision="r1")
    assert checked.verdict.rows == 500
    assert checked.counts.census.other_revision == 500


def test_a_row_written_twice_counts_once_and_rows_of_one_request_are_all_kept(
    log: Log, applicants: Applicants, look: Any
) -> None:
    table = applicants(600, seed=1)
    requests = [f"r{i}" for i in range(600)]
    log(table, name="a", requests=requests)
    part = log(table, name="b", requests=requests, time=NOON + timedelta(minutes=5))
    log(applicants(400, seed=2), name="c")
    checked = look(root(part), DAY)
    assert checked.verdict.rows == 1_000
    assert checked.counts.census.duplicates == 600
    assert sum(checked.counts.bins["age"]) == 1_000


def test_refused_rows_are_counted_by_error_and_left_out_of_the_features(
    log: Log, applicants: Applicants, look: Any
) -> None:
    errors = ["age: is 7, outside 18 to 120"] * 30 + [None] * 970
    checked = look(root(log(applicants(1_000, seed=1), errors=errors)), DAY)
    assert checked.verdict.rows == 970
    assert checked.counts.census.refused == 30
    assert checked.counts.census.refusals == (("age: is 7, outside 18 to 120", 30),)


def test_no_part_and_no_row_in_the_window_are_inconclusive(log: Log, applicants: Applicants, look: Any) -> None:
    part = log(applicants(500, seed=1), time=NOON - timedelta(days=3))
    nothing = look(root(part), DAY)
    assert (nothing.verdict.outcome, nothing.verdict.rows) == ("inconclusive", 0)
    edge = look(root(log(applicants(500), name="b", time=NOON - timedelta(hours=13))), DAY)
    assert (edge.verdict.outcome, edge.verdict.reason) == ("inconclusive", "no rows in the window")


def test_an_empty_part_is_no_corrupt_part(log: Log, applicants: Applicants, look: Any) -> None:
    log(applicants(0), name="empty")
    checked = look(root(log(applicants(500, seed=1), name="full")), DAY)
    assert (checked.verdict.rows, checked.survey.empty, checked.survey.corrupt) == (500, 1, {})


def test_nothing_but_empty_parts_is_inconclusive(log: Log, applicants: Applicants, look: Any) -> None:
    assert look(root(log(applicants(0))), DAY).verdict.outcome == "inconclusive"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "no bytes", "broken page"])
def test_a_corrupt_part_is_named_and_the_others_still_count(
    damage: str, log: Log, applicants: Applicants, look: Any
) -> None:
    log(applicants(800, seed=1), name="good")
    bad = log(applicants(800, seed=2), name="bad")
    whole = bad.read_bytes()
    middle = whole[:4] + b"\xff" * 60 + whole[64:]
    bad.write_bytes({"garbage": b"x" * 99, "truncated": whole[:-50], "no bytes": b"", "broken page": middle}[damage])
    checked = look(root(bad), DAY)
    assert checked.verdict.rows == 800
    assert list(checked.survey.corrupt) == ["date=2026-11-20/revision=small-1/bad.parquet"]


def test_nothing_but_corrupt_parts_could_not_be_measured(log: Log, applicants: Applicants, look: Any) -> None:
    part = log(applicants(10))
    part.write_bytes(b"garbage")
    with pytest.raises(NoUsableData, match=r"none of 1 parts can be used; .*part-0\.parquet"):
        look(root(part), DAY)


def test_a_table_of_something_else_is_foreign(log: Log, applicants: Applicants, look: Any) -> None:
    part = log(applicants(800, seed=1))
    pq.write_table(pa.table({"age": [1], "other": [2]}), part.with_name("foreign.parquet"))
    checked = look(root(part), DAY)
    assert checked.verdict.rows == 800
    assert "half of the 6 features" in checked.survey.foreign["date=2026-11-20/revision=small-1/foreign.parquet"]


def test_a_part_with_another_type_than_the_others_is_foreign(log: Log, applicants: Applicants, look: Any) -> None:
    log(applicants(800, seed=1), name="a")
    table = applicants(100, seed=2)
    text = table.set_column(table.column_names.index("age"), "age", table["age"].cast(pa.string()))
    checked = look(root(log(text, name="odd")), DAY)
    assert checked.verdict.rows == 800
    assert "stores age as another type" in checked.survey.foreign["date=2026-11-20/revision=small-1/odd.parquet"]


def test_a_type_changed_in_every_part_is_drift_of_that_feature(log: Log, applicants: Applicants, look: Any) -> None:
    table = applicants(800, seed=2)
    text = table.set_column(table.column_names.index("age"), "age", table["age"].cast(pa.string()))
    verdict = look(root(log(text)), DAY).verdict
    assert verdict.outcome == "drift"
    assert "is stored as string" in verdict.drifted[0].causes[0]


def test_a_column_that_disappeared_is_drift_of_that_feature_even_in_few_rows(
    log: Log, applicants: Applicants, look: Any
) -> None:
    verdict = look(root(log(applicants(20, seed=2).drop_columns(["region"]))), DAY).verdict
    assert verdict.outcome == "drift"
    assert verdict.drifted[0].column.name == "region"
    assert verdict.drifted[0].causes[0] == "the column is missing"


def test_a_column_missing_in_some_parts_shows_in_its_missing_rate(log: Log, applicants: Applicants, look: Any) -> None:
    log(applicants(600, seed=1), name="a")
    checked = look(root(log(applicants(400, seed=2).drop_columns(["age"]), name="b")), DAY)
    age = next(f for f in checked.verdict.features if f.column.name == "age")
    assert age.missing_rate == pytest.approx(0.4)
    assert age.drifted


def test_a_column_of_nothing_but_nulls_is_all_missing(log: Log, applicants: Applicants, look: Any) -> None:
    table = applicants(600, seed=1)
    nulls = table.set_column(table.column_names.index("region"), "region", pa.nulls(600))
    region = look(root(log(nulls)), DAY).verdict.features[0]
    assert (region.column.name, region.missing_rate) == ("region", 1.0)


def test_new_columns_are_reported_and_no_drift(log: Log, applicants: Applicants, look: Any) -> None:
    checked = look(root(log(applicants(900, seed=1).append_column("shoe_size", pa.array([1] * 900)))), DAY)
    assert checked.survey.extra == ("shoe_size",)
    assert checked.verdict.outcome == "no_drift"


def test_a_csv_and_a_parquet_file_of_the_same_rows_give_the_same_verdict(
    applicants: Applicants, look: Any, tmp_path: Path
) -> None:
    table = applicants(1_500, seed=4, shift=0.5)
    pq.write_table(table, tmp_path / "a.parquet")
    pv.write_csv(table, tmp_path / "a.csv")
    parquet, text = look(tmp_path / "a.parquet"), look(tmp_path / "a.csv")
    assert parquet.counts.bins == text.counts.bins
    assert text.survey.wrong_types == {}


def test_a_glob_takes_the_files_that_match(applicants: Applicants, look: Any, tmp_path: Path) -> None:
    for seed, name in enumerate(("jan", "feb", "other")):
        pq.write_table(applicants(300, seed=seed), tmp_path / f"{name}.parquet")
    assert look(tmp_path / "[jf]*.parquet").verdict.rows == 600


def test_files_that_are_still_being_written_are_not_read(log: Log, applicants: Applicants, look: Any) -> None:
    part = log(applicants(500, seed=1))
    part.with_name(".part-1.parquet").write_bytes(b"half")
    part.with_name("_part-2.parquet").write_bytes(b"half")
    checked = look(root(part), DAY)
    assert (checked.verdict.rows, checked.survey.corrupt) == (500, {})


def test_a_window_on_data_without_times_is_refused_with_the_remedy(
    applicants: Applicants, look: Any, tmp_path: Path
) -> None:
    pq.write_table(applicants(300), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"needs the column _time.*leave --window"):
        look(tmp_path / "a.parquet", DAY)


def test_a_file_that_does_not_exist_is_named(look: Any, tmp_path: Path) -> None:
    with pytest.raises(NoUsableData, match=r"nowhere\.parquet cannot be listed: there is no such file"):
        look(tmp_path / "nowhere.parquet")


def test_a_log_that_nothing_was_written_to_yet_is_inconclusive_by_name(look: Any, tmp_path: Path) -> None:
    verdict = look(tmp_path / "log", DAY).verdict
    assert verdict.outcome == "inconclusive"
    assert f"no rows at {tmp_path / 'log'}" in verdict.reason


def test_one_outlier_of_1e8_does_not_hide_a_shift(log: Log, applicants: Applicants, look: Any) -> None:
    table = applicants(2_000, seed=1, shift=0.6)
    limit = table["limit"].to_numpy().copy()
    limit[0] = 1e8
    spiked = table.set_column(table.column_names.index("limit"), "limit", pa.array(limit))
    calm, outlier = (look(root(log(t, name="p")), DAY).verdict.features[0] for t in (table, spiked))
    assert outlier.column.name == "limit"
    assert outlier.drifted
    assert outlier.psi == pytest.approx(calm.psi, rel=0.02)


def test_an_object_store_gives_the_same_counts_as_the_local_reader(
    log: Log, applicants: Applicants, baseline: Baseline, local: Duck
) -> None:
    """The Arrow path that object stores take, on a local file system."""
    from dataclasses import replace

    from creditmodel_drift.parts import find, survey
    from creditmodel_drift.scan import open_scan

    log(applicants(500, seed=1), name="a")
    log(applicants(400, seed=2).drop_columns(["age"]), name="b")
    place = str(root(log(applicants(400, seed=2), name="c", errors=["e"] * 9 + [None] * 391)))
    found = survey(place, *find(place), baseline, {})
    files = open_scan(local, found, baseline, DAY).counts()
    remote = open_scan(local, replace(found, local=False), baseline, DAY).counts()
    assert remote == files
    assert remote.rows == 1291


class Endless(io.RawIOBase):
    """A text file whose last line has no end."""

    def __init__(self, first: bytes) -> None:
        self.first, self.given = first, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[:] = self.first[self.given :][: len(buffer)].ljust(len(buffer), b"x")
        self.given += len(buffer)
        assert self.given < 16 << 20, "it is read on and on"
        return len(buffer)


class Store:
    """Has one file."""

    def __init__(self, first: bytes) -> None:
        self.first = first

    def size(self, _: str) -> int:
        return 1 << 40

    def open(self, _path: str, _mode: str) -> Endless:
        return Endless(self.first)


def test_of_a_text_file_whose_lines_have_no_end_only_the_beginning_is_looked_at() -> None:
    (part,) = readable(Store(b"a,b\n"), [Part("log/rows.csv")])
    assert part.schema is not None
    assert part.schema.names == ["a", "b"]
    with pytest.raises(NoUsableData, match=r"rows.csv has a first line of over 1,048,576 bytes"):
        readable(Store(b""), [Part("log/rows.csv")])
