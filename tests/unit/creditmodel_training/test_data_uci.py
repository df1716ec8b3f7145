from __future__ import annotations

import io
import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.bins import freeze_numbers
from creditmodel_bundle.encoder import Encoder
from creditmodel_training.cli.data import main
from creditmodel_training.data import named, names, open_source, rebuild, uci
from creditmodel_training.errors import DataError
from creditmodel_training.prepare import HOLDOUT, draft_contract, prepare
from creditmodel_training.schema import features_of


def test_the_shipped_table_is_the_one_that_uci_describes() -> None:
    raw = uci.raw_table()
    assert raw.num_rows == 30_000
    assert sum(raw["default"].to_pylist()) == 6_636
    first = raw.slice(0, 1).to_pylist()[0]
    assert [first[name] for name in ("LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE")] == [20000, 2, 2, 1, 24]
    assert [first[name] for name in ("PAY_0", "PAY_6", "BILL_AMT1", "PAY_AMT2", "default")] == [2, -2, 3913, 689, 1]


def test_the_data_carry_their_licence_and_source() -> None:
    notice = Path(uci.__file__).with_name("LICENCE-DATA.md").read_text()
    assert "CC BY 4.0" in notice
    assert rebuild.CSV_SHA256 in notice


def test_a_snapshot_looks_back_from_its_own_month_and_never_ahead() -> None:
    raw, june = uci.raw_table(), uci.snapshot("2005-06")
    for feature, column in {"pay_status": "PAY_4", "pay_status_2m": "PAY_6", "bill_amount": "BILL_AMT4"}.items():
        assert june[feature].to_pylist() == raw[column].to_pylist()


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(uci.SNAPSHOTS)))
def test_what_was_current_is_one_month_old_in_the_next_snapshot(earlier: str, later: str) -> None:
    before, after = uci.snapshot(earlier), uci.snapshot(later)
    assert before.schema == after.schema
    for feature in ("pay_status", "utilisation", "bill_amount", "paid_amount"):
        assert after[f"{feature}_1m"].to_pylist() == before[feature].to_pylist()


def test_the_payment_ratio_is_missing_exactly_where_nothing_was_due() -> None:
    september = uci.snapshot("2005-09").to_pylist()
    due = [row["bill_amount_1m"] + row["bill_amount_2m"] for row in september]
    assert [row["payment_ratio"] is None for row in september] == [amount <= 0 for amount in due]
    assert max(row["payment_ratio"] or 0 for row in september) == uci.RATIO_CAP


def test_protected_characteristics_are_no_features() -> None:
    assert not {"sex", "marriage", "age"} & {feature.name.lower() for feature in uci.SCHEMA.features}


def test_a_client_is_in_the_same_part_in_every_snapshot() -> None:
    parts = [prepare(uci.snapshot(month), uci.SCHEMA).part.tolist() for month in uci.SNAPSHOTS]
    assert all(part == parts[0] for part in parts)


def test_a_later_snapshot_has_drifted_from_the_first_and_other_clients_of_the_first_have_not() -> None:
    june, september = uci.snapshot("2005-06"), uci.snapshot("2005-09")
    held = pa.array(prepare(june, uci.SCHEMA).rows(HOLDOUT))
    reference = prepare(june, uci.SCHEMA).part != HOLDOUT
    learned = june.filter(pa.array(reference))
    assert psi(learned, september.take(held), "pay_status") > 0.25
    assert psi(learned, september.take(held), "paid_amount") > 0.1
    assert all(psi(learned, june.take(held), f) < 0.01 for f in ("pay_status", "paid_amount", "utilisation"))


def psi(reference: pa.Table, current: pa.Table, feature: str) -> float:
    """Population stability index on the reference's frozen bins, with half a row added to each."""
    table = freeze_numbers(reference[feature].to_pylist())
    counts = np.zeros(len(table.counts))
    for value in current[feature].to_pylist():
        counts[table.index(value)] += 1
    expected = (np.array(table.counts) + 0.5) / (sum(table.counts) + 0.5 * len(counts))
    actual = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return float(((actual - expected) * np.log(actual / expected)).sum())


def test_undoing_the_one_hot_columns_of_the_source_gives_the_shipped_table() -> None:
    raw = uci.raw_table()
    columns = {name: raw[name] for name in raw.column_names if name not in ("EDUCATION", "MARRIAGE", "SEX", "default")}
    columns["SEX"] = pa.array(raw["SEX"].to_numpy() - 1)
    columns[rebuild.LABEL] = raw["default"]
    for name, size in (("EDUCATION", 7), ("MARRIAGE", 4)):
        for code in range(size):
            columns[f"{name}_{code}"] = pa.array((raw[name].to_numpy() == code).astype(np.int64))
    assert rebuild._undo(pa.table(columns)) == raw


def test_rebuilding_refuses_a_wheel_with_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(rebuild.MEMBER, "ID,LIMIT_BAL\n1,2\n")
    assert rebuild.main([str(wheel), "--out", str(tmp_path / "out.parquet")]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="uci-credit-default@2005-06"):
        named("uci")
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        open_source("nosuch")


def test_a_name_without_a_month_is_the_newest_snapshot() -> None:
    assert named("uci-credit-default").name == names()[-1] == "uci-credit-default@2005-09"


def test_data_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_export_writes_the_clients_that_no_model_learned_from(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"applicants{suffix}"
    assert main(["export", "uci-credit-default@2005-09", "--out", str(out), "--labels", "--rows", "500"]) == 0
    table = pq.read_table(out) if suffix == ".parquet" else pyarrow.csv.read_csv(io.BytesIO(out.read_bytes()))
    assert table.num_rows == 500
    assert table.column_names == [*(f.name for f in uci.SCHEMA.features), "_label"]


def test_an_exported_json_file_is_a_body_that_scoring_accepts(tmp_path: Path) -> None:
    out = tmp_path / "applicants.json"
    assert main(["export", "uci-credit-default@2005-09", "--out", str(out), "--part", "all", "--rows", "3000"]) == 0
    encoder = Encoder(draft_contract(features_of(uci.SCHEMA, uci.snapshot("2005-09")), "any", "1"))
    applicants = json.loads(out.read_text())["applicants"]
    assert len(applicants) == 3000
    for applicant in applicants:
        encoder.encode(applicant)


def test_export_refuses_a_format_that_it_does_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "uci-credit-default", "--out", str(tmp_path / "applicants.xlsx")]) == 2
    assert ".parquet" in capsys.readouterr().err
