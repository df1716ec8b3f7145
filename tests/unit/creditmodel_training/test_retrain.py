"""creditmodel-train retrain: real clients, a real scoring log's columns, and everything that can lie in the way."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Evaluation
from creditmodel_bundle.measurement import Failure, Training, parse
from creditmodel_bundle.storage import Bundle, fetch
from creditmodel_bundle.text import TEXT
from creditmodel_training.cli.train import main
from creditmodel_training.data import uci
from creditmodel_training.outcomes import Outcomes
from creditmodel_training.prepare import HOLDOUT, TRAIN, VALIDATION, prepare
from creditmodel_training.retrain import gather

ROWS = 1600
NOW = datetime.now(UTC)
QUICK = ("--epochs", "4", "--interactions", "0")


@pytest.fixture(scope="module")
def scored() -> pa.Table:
    """Clients whom no model has learned from, as the scoring log has them, four to a request."""
    data = prepare(uci.snapshot("2005-09").slice(5000, ROWS), uci.SCHEMA)
    times = [NOW - timedelta(days=10) - timedelta(minutes=i) for i in range(ROWS)]
    columns = {
        "_request_id": pa.array([f"r{i // 4}" for i in range(ROWS)]),
        "_row": pa.array([i % 4 for i in range(ROWS)], pa.int32()),
        "_time": pa.array(times, pa.timestamp("us", "UTC")),
        "_error": pa.nulls(ROWS, pa.string()),
        "_truth": pa.array(data.y),
    }
    table = data.table
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


@pytest.fixture
def place(tmp_path: Path, scored: pa.Table) -> Path:
    """A directory with log/ and labels.parquet."""
    write_log(tmp_path, scored)
    write_labels(tmp_path, scored)
    return tmp_path


def write_log(place: Path, scored: pa.Table, name: str = "part-0") -> None:
    day = place / "log" / f"date={NOW - timedelta(days=10):%Y-%m-%d}" / "revision=credit-1"
    day.mkdir(parents=True, exist_ok=True)
    pq.write_table(scored.drop_columns(["_truth"]), day / f"{name}.parquet")


def write_labels(place: Path, scored: pa.Table, **changes: Any) -> None:
    labels = {
        "_request_id": scored["_request_id"],
        "_row": scored["_row"],
        "_label": scored["_truth"],
        "_observed": pa.array([NOW] * scored.num_rows, pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(labels | changes), place / "labels.parquet")


def retrain(place: Path, champion: Bundle, *more: str) -> int:
    fixed = ["--bundle", champion.directory.as_uri(), "--current", str(place / "log"), "--labels"]
    fixed += [str(place / "labels.parquet"), "--out", str(place / "out" / "next"), *QUICK]
    return main(["retrain", *fixed, "--measurement", str(place / "said"), *more])


def said(place: Path) -> Training:
    found = parse((place / "said").read_bytes())
    assert isinstance(found, Training), found
    return found


def refused(place: Path) -> Failure:
    found = parse((place / "said").read_bytes())
    assert isinstance(found, Failure), found
    return found


def test_a_challenger_of_reference_and_recent_clients_is_judged_beside_the_champion(
    place: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(place, bundle, "--digest", bundle.digest, "--episode", "77fc3e72aa344ba9") == 0
    found = said(place)
    made = fetch(found.uri, place / "made", found.candidate)
    assert (found.digest, found.episode, found.labelled_rows) == (bundle.digest, "77fc3e72aa344ba9", ROWS)
    assert made.manifest.version == "retrained-77fc3e72aa344ba9"
    assert 300 < found.holdout.rows < 500
    for figures in (found.champion, found.challenger):
        assert 0.6 < figures.auc < 0.9
    evaluation = Evaluation.read(made.path("evaluation.json"))
    assert evaluation.champion is not None
    assert evaluation.champion.digest == bundle.digest
    assert (evaluation.auc, evaluation.champion.auc) == (found.challenger.auc, found.champion.auc)
    before, after = (Contract.read(each.path("contract.json")) for each in (bundle, made))
    assert (after.features, after.cutoffs, after.scale) == (before.features, before.cutoffs, before.scale)
    assert pq.read_schema(made.path("reference.parquet")) == pq.read_schema(bundle.path("reference.parquet"))
    printed = capsys.readouterr().out
    assert "champion" in printed
    assert printed.splitlines()[-1].split() == ["digest", found.candidate]


def test_the_hold_out_is_of_recent_requests_that_are_held_out_whole(bundle: Bundle, scored: pa.Table) -> None:
    table = scored.append_column("_label", scored["_truth"].cast(pa.int64()))
    material = gather(bundle, Outcomes(table, ROWS))
    reference, recent = np.split(material.data.part, [material.reference_rows])
    assert set(reference) == {TRAIN, VALIDATION}, "the champion has learned from the reference"
    by_request = recent.reshape(-1, 4)
    assert (by_request == by_request[:, :1]).all()
    assert 0.2 < (recent == HOLDOUT).mean() < 0.3


def test_a_second_attempt_reports_what_the_first_has_finished_and_trains_nothing(
    place: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(place, bundle) == 0
    first = said(place)
    shutil.rmtree(place / "log")
    capsys.readouterr()
    assert retrain(place, bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out)["candidate"] == first.candidate
    assert said(place).candidate == first.candidate
    assert said(place).challenger == first.challenger


def test_another_bundle_at_the_place_is_never_written_over(place: Path, bundle: Bundle) -> None:
    shutil.copytree(bundle.directory, place / "out" / "next")
    before = {path.name: path.read_bytes() for path in (place / "out" / "next").iterdir()}
    assert retrain(place, bundle) == 2
    assert refused(place).error.reason == "Exists"
    assert {path.name: path.read_bytes() for path in (place / "out" / "next").iterdir()} == before


def test_an_unfinished_bundle_at_the_place_is_left_to_whoever_writes_it(place: Path, bundle: Bundle) -> None:
    (place / "out" / "next").mkdir(parents=True)
    (place / "out" / "next" / "model.onnx").write_text("half")
    assert retrain(place, bundle) == 2
    assert refused(place).error.reason == "Exists"
    assert [path.name for path in (place / "out" / "next").iterdir()] == ["model.onnx"]


def test_nothing_appears_under_the_name_when_training_fails(place: Path, bundle: Bundle, scored: pa.Table) -> None:
    write_labels(place, scored, _label=pa.array(np.zeros(ROWS, np.int8)))
    assert retrain(place, bundle) == 2
    assert refused(place).error.reason == "DataError"
    assert not (place / "out").exists()


@pytest.fixture
def few(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stops before training: what was gathered is in the message."""

    def stop(material: Any, *_: object) -> None:
        raise pytest.fail.Exception(f"{material.labelled_rows} labelled, {material.left_out} left out")

    monkeypatch.setattr("creditmodel_training.retrain.retrain", stop)
    return place


def gathered(place: Path, bundle: Bundle, *more: str) -> str:
    with pytest.raises(pytest.fail.Exception) as caught:
        retrain(place, bundle, *more)
    return str(caught.value)


def test_a_label_counts_as_it_was_last_observed_and_a_row_once(few: Path, bundle: Bundle, scored: pa.Table) -> None:
    write_log(few, scored, "part-again")
    twice = pa.concat_tables([scored, scored])
    observed = [NOW - timedelta(days=1)] * ROWS + [NOW] * ROWS
    labels = np.concatenate([1 - scored["_truth"].to_numpy(), scored["_truth"].to_numpy()])
    times = pa.array(observed, pa.timestamp("us", "UTC"))
    write_labels(few, twice, _label=pa.array(labels), _observed=times)
    assert gathered(few, bundle) == f"{ROWS} labelled, 0 left out"


def test_scores_that_are_not_mature_or_too_old_do_not_count(few: Path, bundle: Bundle) -> None:
    assert retrain(few, bundle, "--maturity-days", "30") == 2
    assert "no scored applicants" in refused(few).error.message
    assert gathered(few, bundle, "--window", "12d") == f"{ROWS} labelled, 0 left out"
    assert gathered(few, bundle, "--maturity-days", "9", "--window", "3d") == f"{ROWS} labelled, 0 left out"
    newest_day = int(gathered(few, bundle, "--window", "11d").split()[0])
    assert 1400 < newest_day <= 1440
    assert gathered(few, bundle, "--max-rows", "900").startswith("900 ")


def test_rows_that_scoring_would_refuse_teach_nothing(few: Path, bundle: Bundle, scored: pa.Table) -> None:
    index = scored.column_names.index("credit_limit")
    limits = scored["credit_limit"].to_pylist()
    broken = [-1e9 if i < 50 else value for i, value in enumerate(limits)]
    write_log(few, scored.set_column(index, "credit_limit", pa.array(broken, scored["credit_limit"].type)))
    assert gathered(few, bundle) == f"{ROWS - 50} labelled, 50 left out"


def test_rows_with_an_error_and_parts_that_are_no_table_are_left_out_and_named(
    few: Path, bundle: Bundle, scored: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = pa.array(["overload" if i < 100 else None for i in range(ROWS)], pa.string())
    write_log(few, scored.set_column(scored.column_names.index("_error"), "_error", errors))
    (few / "log" / "part-bad.parquet").write_bytes(b"PAR1 nothing")
    pq.write_table(pa.table({"x": [1]}), few / "log" / "part-foreign.parquet")
    (few / "log" / "part-cut.csv.gz").write_bytes(b"\x1f\x8b nothing")
    (few / "log" / ".partial.parquet").write_bytes(b"")
    gathered_text = gathered(few, bundle)
    assert gathered_text == f"{ROWS - 100} labelled, 0 left out"
    told = capsys.readouterr().err
    assert "part-bad.parquet was left out" in told
    assert "part-cut.csv.gz cannot be unpacked as gzip" in told


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".csv.gz", "\t"), (".csv.zst", ",")])
def test_text_serves_as_well(few: Path, bundle: Bundle, scored: pa.Table, suffix: str, delimiter: str) -> None:
    shutil.rmtree(few / "log")
    (few / "log").mkdir()
    with pa.output_stream(few / "log" / f"scores{suffix}", compression=TEXT[suffix]) as file:
        options = pyarrow.csv.WriteOptions(delimiter=delimiter)
        pyarrow.csv.write_csv(scored.drop_columns(["_truth"]), file, options)
    assert gathered(few, bundle) == f"{ROWS} labelled, 0 left out"


@pytest.mark.parametrize(
    ("break_it", "code", "reason", "message"),
    [
        ("no labels", 2, "DataError", "no .parquet, .csv, .csv.gz, .csv.zst file with labels"),
        ("labels without key", 2, "DataError", "labels need the column '_request_id'"),
        ("few labels", 2, "DataError", "labelled applicants are too few"),
        ("no bundle", 75, "Unreachable", "manifest.json"),
        ("other digest", 2, "DigestMismatch", "not sha256:0000"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_reason(
    place: Path, bundle: Bundle, scored: pa.Table, break_it: str, code: int, reason: str, message: str
) -> None:
    more: list[str] = []
    match break_it:
        case "no labels":
            (place / "labels.parquet").unlink()
            (place / "labels.parquet").mkdir()
        case "labels without key":
            pq.write_table(pa.table({"_row": [1], "_label": [1]}), place / "labels.parquet")
        case "few labels":
            write_labels(place, scored.slice(0, 30))
        case "no bundle":
            more = ["--bundle", (place / "nowhere").as_uri()]
        case _:
            more = ["--digest", "sha256:" + "0" * 64]
    answer = retrain(place, bundle, *more)
    found = refused(place)
    assert (found.error.reason, found.kind) == (reason, "training")
    assert answer == code
    assert message in found.error.message
