from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.storage import fetch
from creditmodel_training.cli.train import main
from creditmodel_training.prepare import prepare
from creditmodel_training.schema import infer

ROWS = 1500


def mixed(**changes: Any) -> pa.Table:
    """What real tables are like: words, gaps, a constant, a point mass, a huge range, text, an identifier."""
    random = np.random.default_rng(0)
    income = random.lognormal(7, 1, ROWS)
    home = random.choice(["own", "rent", "other"], ROWS)
    defaults = random.choice([0.0, 1e12], ROWS, p=[0.9, 0.1]) * random.random(ROWS)
    risk = 1.0 - 0.4 * np.log(income / 1000) + (home == "rent") + (defaults > 0)
    bad = random.random(ROWS) < 1 / (1 + np.exp(-risk + 1.5))
    columns = {
        "status": np.where(bad, "bad", "good").tolist(),
        "income": [None if random.random() < 0.1 else value for value in income.tolist()],
        "home": [None if random.random() < 0.05 else value for value in home.tolist()],
        "defaults": defaults.tolist(),
        "branch": [7] * ROWS,
        "months": random.integers(1, 60, ROWS).tolist(),
        "note": [f"note {i}" for i in range(ROWS)],
        "id": list(range(ROWS)),
        **changes,
    }
    return pa.table(columns)


def train(directory: Path, table: pa.Table, *more: str) -> int:
    """Train on a CSV of this table; the bundle is in `directory`/out."""
    pyarrow.csv.write_csv(table, directory / "data.csv")
    fixed = ["--data", str(directory / "data.csv"), "--out", str(directory / "out"), "--name", "mixed"]
    return main([*fixed, "--version", "1", "--epochs", "4", "--interactions", "2", *more])


INFER = ("--label", "status", "--positive", "bad")


def test_any_csv_with_a_label_becomes_a_bundle_with_an_inferred_schema_for_review(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, mixed(), *INFER) == 0
    captured = capsys.readouterr()
    assert "left out: note (text of 1500 different values)" in captured.err
    assert "left out: id (a whole number of its own in every row, as identifiers are)" in captured.err
    assert "branch has one value in every row" in captured.err
    lines = captured.out.splitlines()
    bundle = fetch(str(tmp_path / "out"), tmp_path / "fetched", lines[-1].split()[-1])
    assert lines[-2].split()[-1] == str(tmp_path / "out")
    contract = Contract.read(bundle.path("contract.json"))
    assert {feature.name: feature.dtype for feature in contract.features} == {
        "income": "number",
        "home": "category",
        "defaults": "number",
        "branch": "integer",
        "months": "integer",
    }
    schema = json.loads((tmp_path / "out.schema.json").read_text())
    assert [feature["name"] for feature in schema["features"]] == [feature.name for feature in contract.features]


def test_the_inferred_schema_can_be_edited_and_given_back(tmp_path: Path) -> None:
    assert train(tmp_path, mixed(), *INFER) == 0
    path = tmp_path / "out.schema.json"
    schema = json.loads(path.read_text())
    schema["features"] = [feature for feature in schema["features"] if feature["name"] in ("income", "home")]
    schema["features"][0]["monotonic"] = "decreasing"
    path.write_text(json.dumps(schema))
    assert train(tmp_path, mixed(), "--schema", str(path), "--force") == 0
    contract = Contract.read(tmp_path / "out" / "contract.json")
    assert [(f.name, f.monotonic) for f in contract.features] == [("income", "decreasing"), ("home", "none")]


def test_json_prints_one_document_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--json", "--cutoffs", "yes=0,no=0.3", "--points", "500", "--odds", "20", "--pdo", "40")
    assert train(tmp_path, mixed(), *INFER, *options) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["digest"].startswith("sha256:")
    assert [baseline["name"] for baseline in summary["evaluation"]["baselines"]] == [
        "logistic regression",
        "gradient boosting",
    ]
    contract = Contract.read(tmp_path / "out" / "contract.json")
    assert [(c.decision, c.min_probability) for c in contract.cutoffs] == [("yes", 0), ("no", 0.3)]
    assert (contract.scale.points, contract.scale.odds, contract.scale.pdo) == (500, 20, 40)


def test_a_time_column_splits_where_the_schema_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = mixed(year=[2020 + i % 5 for i in range(ROWS)])
    schema = tmp_path / "schema.toml"
    schema.write_text(
        'label = "status"\npositive = "bad"\n[split]\ncolumn = "year"\nvalidation = [2023]\nholdout = [2024]\n'
        '[[features]]\nname = "income"\ndtype = "number"\n'
    )
    assert train(tmp_path, table, "--schema", str(schema)) == 0
    assert "900 training, 300 validation, 300 hold-out (by year)" in capsys.readouterr().out


def test_a_network_without_signal_still_is_a_bundle_and_says_that_it_is_no_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(3)
    table = pa.table({"status": random.choice(["bad", "good"], ROWS).tolist(), "x": random.normal(size=ROWS)})
    assert train(tmp_path, table, *INFER) == 0
    output = capsys.readouterr().out
    assert "By AUC the network" in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": ["bad"] * ROWS}, "every row has the label 'status' = 'bad'"),
        ({"status": ["good"] * ROWS}, "no row has the label 'status' = 'bad'"),
        ({"status": ["bad", "good", "odd"] * (ROWS // 3)}, "has 3 values"),
        ({"status": ["bad"] * 9 + ["good"] * (ROWS - 9)}, "the rarer label has 9 rows"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    changes: dict[str, list[str]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, mixed(**changes), *INFER) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_risk_officer_should_ask_about_is_warned_of() -> None:
    table = mixed(status=["bad", "bad", "good"] * (ROWS // 3), recovered=[1.0, 2.0, None] * (ROWS // 3))
    warnings = prepare(table, infer(table, "status", "bad", None).schema).warnings
    assert warnings[0] == "66.7% are bad payers: is 'status' = 'bad' really a bad one?"
    assert [w.split(":")[0] for w in warnings[1:]] == [
        "branch has one value in every row, so it cannot influence the score",
        "recovered alone tells almost every bad payer",
    ]


def test_too_few_rows_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, mixed().slice(0, 150), *INFER) == 2
    assert "150 labelled rows; at least 200" in capsys.readouterr().err


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels: list[str | None] = ["bad", "good", "good", None] * (ROWS // 4)
    assert train(tmp_path, mixed(status=labels), *INFER) == 0
    assert f"{ROWS // 4} rows have no label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("feature", "column", "message"),
    [
        ('dtype = "number"', [None] * ROWS, "x has no value in any row"),
        ('dtype = "number"', ["12", "twelve"] * (ROWS // 2), "x has 'twelve' where a number belongs (750 rows)"),
        ('dtype = "number"', [1.0, float("inf")] * (ROWS // 2), "x has inf (750 rows), over the 3e+38"),
        ('dtype = "number"\ncolumn = "nosuch"', [1.5] * ROWS, "no column 'nosuch' (the feature)"),
        ('dtype = "integer"', [1.5] * ROWS, "x has 1.5; use dtype number"),
        ('dtype = "number"\nmaximum = 10', [5.0, 11.0] * (ROWS // 2), "x has 11, outside its range -inf to 10"),
        ('dtype = "number"\nmissing = "forbidden"', [5.0, None] * (ROWS // 2), "x is missing in 750 rows"),
        ('dtype = "category"\ncategories = ["a"]', ["a", "b"] * (ROWS // 2), "x has 'b', not among its categories 'a'"),
        ('dtype = "category"', [None] * ROWS, "its categories must be in the schema"),
    ],
)
def test_a_column_that_contradicts_its_schema_is_named_with_the_value(
    feature: str, column: list[Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.toml"
    schema.write_text(
        f'label = "status"\npositive = "bad"\n[[features]]\nname = "income"\ndtype = "number"\n'
        f'[[features]]\nname = "x"\n{feature}\n'
    )
    assert train(tmp_path, mixed(x=column), "--schema", str(schema)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "needs --schema FILE, or --label COLUMN"),
        (("--label", "months"), "'months' has 59 values, such as"),
        (("--label", "nosuch"), "no column 'nosuch' (the label)"),
        (("--label", "status"), "say which one is a bad payer"),
        ((*INFER, "--key", "nosuch"), "no column 'nosuch' (the key)"),
        (("--schema", "nosuch.toml"), "nosuch.toml cannot be read"),
    ],
)
def test_what_is_wrong_with_the_command_is_said_in_a_sentence(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, mixed(), *options) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_directory_in_use_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    assert main(["--data", "nosuch.csv", "--out", str(tmp_path / "out"), "--name", "a", "--version", "1"]) == 2
    assert "not empty; give another --out, or --force" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ("--name", "No Spaces"),
        ("--seed", "-1"),
        ("--cutoffs", "approve=0.2"),
        ("--cutoffs", "approve=0,decline=2"),
        ("--cutoffs", "approve"),
        ("--pdo", "0"),
        ("--odds", "nan"),
        ("--points", "inf"),
        ("--points", "1e12"),
        ("--pdo", "1e8"),
    ],
)
def test_a_malformed_option_is_a_usage_error(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    required = ["--data", "uci-credit-default", "--out", str(tmp_path / "out"), "--name", "a", "--version", "1"]
    with pytest.raises(SystemExit) as stopped:
        main([*required, *option])
    assert stopped.value.code == 2
    assert option[1] in capsys.readouterr().err
