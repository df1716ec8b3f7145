from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Evaluation, Golden
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.manifest import Manifest
from creditmodel_bundle.reasons import top_reasons
from creditmodel_bundle.storage import Bundle
from creditmodel_training import bundling
from creditmodel_training.bundling import check_target, default_cutoffs
from creditmodel_training.errors import OutputError
from creditmodel_training.prepare import HOLDOUT, TRAIN, VALIDATION, Prepared

Write = Callable[..., str]


@pytest.fixture(scope="module")
def contract(bundle: Bundle) -> Contract:
    return Contract.read(bundle.path("contract.json"))


@pytest.fixture(scope="module")
def served(bundle: Bundle) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle.path("model.onnx"), providers=["CPUExecutionProvider"])


def test_every_table_of_frozen_bins_counts_every_reference_row(contract: Contract, clients: Prepared) -> None:
    development = len(clients.rows(TRAIN)) + len(clients.rows(VALIDATION))
    assert contract.bins.rows == development
    for table in (*contract.bins.features.values(), contract.bins.score):
        assert sum(table.counts) == development
        assert table.counts[table.out_of_range] == 0
    ratio = contract.bins.features["payment_ratio"]
    assert ratio.counts[ratio.missing] > 0


def test_the_reference_sample_has_raw_values_labels_and_the_models_answers(
    bundle: Bundle, contract: Contract, clients: Prepared, served: onnxruntime.InferenceSession
) -> None:
    table = pq.read_table(bundle.path("reference.parquet"))
    system = ["_label", "_probability", "_log_odds", "_points", "_decision"]
    assert table.column_names == [*(feature.name for feature in contract.features), *system]
    assert set(table["education"].to_pylist()) == {"graduate_school", "university", "high_school", "other", None}
    encoder = Encoder(contract)
    x = np.array([encoder.encode_column(name, table[name].to_pylist()) for name in encoder.columns], np.float32).T
    log_odds, probability, _ = served.run(None, {"features": np.ascontiguousarray(x)})
    assert log_odds == pytest.approx(table["_log_odds"].to_numpy(), abs=1e-5)
    assert probability == pytest.approx(table["_probability"].to_numpy(), abs=1e-6)
    assert table["_label"].to_numpy().mean() == pytest.approx(clients.y[clients.part != HOLDOUT].mean())


def test_no_client_of_the_hold_out_is_in_the_reference_sample(bundle: Bundle, clients: Prepared) -> None:
    table = pq.read_table(bundle.path("reference.parquet"))
    columns = [feature.name for feature in clients.features]
    development = clients.table.filter(clients.part != HOLDOUT)
    assert Counter(map(str, table.select(columns).to_pylist())) == Counter(map(str, development.to_pylist()))


def test_a_replica_reproduces_every_golden_row(
    bundle: Bundle, contract: Contract, served: onnxruntime.InferenceSession
) -> None:
    golden = Golden.read(bundle.path("golden.json"))
    assert len(golden.rows) == 32
    encoder = Encoder(contract)
    for row in golden.rows:
        x = np.array([encoder.encode(row.features)], np.float32)
        log_odds, probability, contributions = (output[0] for output in served.run(None, {"features": x}))
        assert float(probability) == pytest.approx(row.probability, abs=golden.tolerance)
        assert contract.scale.to_points(float(log_odds)) == row.points
        assert contract.cutoff(float(probability)).decision == row.decision
        assert [contract.features[i].reason.code for i in top_reasons(contributions.tolist())] == row.reasons


def test_golden_rows_cover_the_edges_and_all_decisions(bundle: Bundle, contract: Contract) -> None:
    rows = Golden.read(bundle.path("golden.json")).rows
    covered: list[bool] = []
    for feature in contract.features:
        values = [row.features[feature.name] for row in rows]
        for category in feature.categories:
            assert category.value in values
        assert (None in values) == (feature.missing == "allowed")
        covered += [bound in values for bound in (feature.minimum, feature.maximum) if bound is not None]
    assert sum(covered) >= len(covered) - 2  # one value may make way for clear ranks at each end
    assert {row.decision for row in rows} == {cutoff.decision for cutoff in contract.cutoffs}
    assert len({row.points for row in rows}) > 16


def test_the_evaluation_is_of_the_hold_out(bundle: Bundle, clients: Prepared) -> None:
    evaluation = Evaluation.read(bundle.path("evaluation.json"))
    held = clients.rows(HOLDOUT)
    assert (evaluation.holdout.rows, evaluation.holdout.bad_rate) == (len(held), clients.y[held].mean())
    assert evaluation.gini == pytest.approx(2 * evaluation.auc - 1)
    assert 0.7 < evaluation.auc < 0.85


def test_the_bundle_is_readable_by_another_user(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    for path in (tmp_path / "bundle", *(tmp_path / "bundle").iterdir()):
        assert path.stat().st_mode & 0o044 == 0o044


def test_with_a_fixed_clock_the_same_model_has_the_same_digest(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1132704000")
    digests = {write(tmp_path / name) for name in ("first", "second")}
    assert len(digests) == 1
    assert Manifest.parse((tmp_path / "first" / "manifest.json").read_bytes()).created.year == 2005


def test_a_malformed_clock_is_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(OutputError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        write(tmp_path / "bundle")


def test_a_writer_that_dies_leaves_the_old_bundle_and_no_debris(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = write(tmp_path / "bundle")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundling, "export", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / "bundle", replace=True)
    with pytest.raises(OutputError):
        write(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    Manifest.parse((tmp_path / "bundle" / "manifest.json").read_bytes(), digest)


def test_a_directory_in_use_is_refused_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_target(tmp_path / "out", force=False)
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        check_target(tmp_path / "out", force=False)
    check_target(tmp_path / "out", force=True)
    with pytest.raises(OutputError, match="is a file"):
        check_target(tmp_path / "out" / "precious.txt", force=True)
    with pytest.raises(OutputError, match="cannot be made"):
        check_target(tmp_path / "out" / "precious.txt" / "deeper" / "bundle", force=False)


def test_of_two_trainings_into_one_directory_the_second_is_refused(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundling, "_fill", lambda directory, *_: (directory / "model.onnx").write_text("the second's"))
    check_target(tmp_path / "bundle", force=False)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.onnx").write_text("the first's")
    with pytest.raises(OutputError, match="was empty and is not any more"):
        write(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "model.onnx").read_text() == "the first's"


def test_writing_again_replaces_the_whole_bundle(write: Write, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "stale.txt").write_text("old")
    digest = write(tmp_path / "bundle", replace=True)
    assert not (tmp_path / "bundle" / "stale.txt").exists()
    Manifest.parse((tmp_path / "bundle" / "manifest.json").read_bytes(), digest)


@pytest.mark.parametrize("bad_rate", [0.004, 0.0213, 0.22, 0.5, 0.9])
def test_default_cutoffs_ascend_within_0_and_1_for_any_default_rate(bad_rate: float) -> None:
    bounds = [cutoff.min_probability for cutoff in default_cutoffs(bad_rate)]
    assert bounds[0] == 0
    assert 0 < bounds[1] < bounds[2] < 1
    assert bounds[1] == pytest.approx(bad_rate, rel=0.05)


def test_the_contract_names_no_feature_of_the_system(contract: Contract) -> None:
    assert not [feature.name for feature in contract.features if feature.name.startswith("_")]
    json.dumps(contract.model_dump(mode="json"), allow_nan=False)
