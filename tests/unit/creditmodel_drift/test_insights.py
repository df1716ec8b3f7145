"""What the report shows beside the verdict: PSI over time, decisions, calibration, estimates; which reports stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta

from creditmodel_bundle.contract import Contract
from creditmodel_drift.baseline import Baseline, from_contract
from creditmodel_drift.calibration import bands
from creditmodel_drift.check import check
from creditmodel_drift.cli import main
from creditmodel_drift.decisions import decisions
from creditmodel_drift.duck import Duck
from creditmodel_drift.engine import Engine
from creditmodel_drift.keep import Mark, html_mark, prune
from creditmodel_drift.outcomes import Outcomes
from creditmodel_drift.parts import find, survey
from creditmodel_drift.quality import estimated, quality
from creditmodel_drift.reference import Reference
from creditmodel_drift.scan import open_scan
from creditmodel_drift.trend import trend
from creditmodel_drift.verdict import Settings
from creditmodel_drift.window import Period

Applicants = Callable[..., pa.Table]
Log = Callable[..., Path]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def baseline(contract: Contract) -> Baseline:
    cutoffs = (("accept", 0.0), ("review", 0.5), ("decline", 0.7))
    return replace(from_contract(contract), cutoffs=cutoffs)


def filled(log: Log, applicants: Applicants, days: int) -> str:
    """A log of days, each with more shift than the one before; today's is the last."""
    for day in range(days):
        shift = 0.2 * day
        part = log(applicants(600, seed=day, shift=shift), name=f"d{day}", time=NOON - timedelta(days=days - 1 - day))
    return str(part.parents[2])


def test_psi_over_time_has_a_point_for_each_span_of_the_windows_length(
    log: Log, applicants: Applicants, baseline: Baseline, engine: Engine
) -> None:
    uri = filled(log, applicants, 4)
    day = Period(NOON - timedelta(hours=12), NOON + timedelta(hours=12))
    checked = check(engine, baseline, uri, Settings(), day)
    points = trend(engine, baseline, uri, Settings(), checked)
    assert [point.end for point in points] == [day.end - timedelta(days=back) for back in (3, 2, 1, 0)]
    assert [point.verdict.rows for point in points] == [600] * 4
    assert points[-1].verdict.psi_max == checked.verdict.psi_max > points[0].verdict.psi_max
    assert [point.verdict.outcome for point in points] == ["no_drift", "no_drift", "no_drift", "drift"]


def test_psi_over_time_without_a_window_goes_by_the_datas_own_days(
    log: Log, applicants: Applicants, baseline: Baseline, engine: Engine
) -> None:
    uri = filled(log, applicants, 3)
    points = trend(engine, baseline, uri, Settings(), check(engine, baseline, uri, Settings()))
    assert [f"{point.start:%d %H}" for point in points] == ["18 00", "19 00", "20 00"]


def test_data_without_times_has_no_psi_over_time(
    applicants: Applicants, baseline: Baseline, engine: Engine, tmp_path: Path
) -> None:
    pq.write_table(applicants(600), tmp_path / "a.parquet")
    uri = str(tmp_path / "a.parquet")
    assert trend(engine, baseline, uri, Settings(), check(engine, baseline, uri, Settings())) == ()


def test_decisions_and_the_swap_set_are_those_that_the_probabilities_give(
    applicants: Applicants, baseline: Baseline, engine: Engine, local: Duck, tmp_path: Path
) -> None:
    before, now = applicants(4_000, seed=1), applicants(3_000, seed=2, shift=1.0)
    pq.write_table(before, tmp_path / "before.parquet")
    pq.write_table(now, tmp_path / "now.parquet")
    reference, current = (
        survey(uri, *find(uri), baseline, {})
        for uri in (str(tmp_path / "before.parquet"), str(tmp_path / "now.parquet"))
    )
    found = decisions(open_scan(engine, current, baseline), Reference(baseline, reference, local))
    p, q = (1 / (1 + np.exp(-table["_log_odds"].to_numpy())) for table in (before, now))
    assert [decision.name for decision in found] == ["accept", "review", "decline"]
    assert [d.reference_share for d in found] == pytest.approx(
        [np.mean(p < 0.5), np.mean((p >= 0.5) & (p < 0.7)), np.mean(p >= 0.7)]
    )
    assert sum(d.current_share for d in found) == pytest.approx(1)
    assert (found[0].swapped, found[0].same_share_at) == (None, None)
    assert found[2].swapped == pytest.approx(np.mean(q >= 0.7) - np.mean(p >= 0.7))
    assert found[2].same_share_at is not None
    assert np.mean(q >= found[2].same_share_at) == pytest.approx(np.mean(p >= 0.7), abs=0.01)


def each(probability: np.ndarray, label: np.ndarray) -> Outcomes:
    """Applicants by probability, as the join with labels gives them."""
    distinct, at = np.unique(probability, return_inverse=True)
    counts = (np.bincount(at, weights, len(distinct)).astype(float) for weights in (None, label))
    return Outcomes(distinct, *counts)


def test_bands_find_probabilities_that_are_too_low_and_too_high_and_clear_calibrated_ones() -> None:
    random = np.random.default_rng(3)
    true = random.beta(2, 6, 20_000)
    label = (random.random(20_000) < true).astype(float)
    assert {band.finding for band in bands(each(true, label))} == {""}
    assert {band.finding for band in bands(each(true / 2, label))} == {"too low"}
    assert {band.finding for band in bands(each(np.minimum(true * 2, 1), label))} == {"too high"}


def test_a_bands_figures_are_the_jeffreys_posteriors() -> None:
    probability, label = np.full(50, 0.1), np.array([1.0] * 3 + [0.0] * 47)
    (band,) = bands(each(probability, label))
    posterior = beta(3.5, 47.5)
    assert (band.rows, band.bad_rate) == (50, 0.06)
    assert (band.lower, band.upper) == pytest.approx((posterior.ppf(0.025), posterior.ppf(0.975)))
    assert band.p_value == pytest.approx(posterior.cdf(0.1))


def test_bands_hold_every_row_once_whatever_the_ties() -> None:
    random = np.random.default_rng(0)
    for probability in (random.random(997), np.round(random.random(997), 1), np.zeros(5), np.array([])):
        assert sum(band.rows for band in bands(each(probability, np.zeros(len(probability))))) == len(probability)


def test_quality_estimated_from_calibrated_probabilities_is_what_outcomes_then_show(
    log: Log, applicants: Applicants, baseline: Baseline, engine: Engine
) -> None:
    part = log(applicants(20_000, seed=4))
    checked = check(engine, baseline, str(part), Settings())
    assert checked.scan is not None
    found = estimated(checked.scan)
    probability = pq.read_table(part)["_probability"].to_numpy()
    label = (np.random.default_rng(1).random(20_000) < probability).astype(float)
    seen = quality(each(probability, label))
    assert found is not None
    assert found.rows == 20_000
    assert found.bad_rate == pytest.approx(label.mean(), abs=0.01)
    for name in ("auc", "ks", "gini", "brier"):
        assert getattr(found, name) == pytest.approx(getattr(seen, name), abs=0.02)


@pytest.fixture
def reported(
    bundle: tuple[Path, str], applicants: Applicants, log: Log, engine_name: str, tmp_path: Path
) -> tuple[str, dict[str, Any]]:
    """The page and the document of the last of three days, with the outcomes of all."""
    uri = filled(log, applicants, 3)
    table = pa.concat_tables(
        [pq.read_table(p).select(["_request_id", "_row", "_probability"]) for p in Path(uri).rglob("*.parquet")]
    )
    label = np.random.default_rng(0).random(table.num_rows) < table["_probability"].to_numpy()
    pq.write_table(table.append_column("_label", pa.array(label.astype(np.int8))), tmp_path / "labels.parquet")
    time = ["--window", "24h", "--until", (NOON + timedelta(hours=12)).isoformat(), "--revision", "small-1"]
    places = [tmp_path / "r.html", tmp_path / "r.json"]
    arguments = ["--bundle", str(bundle[0]), "--current", uri, *time, "--labels", str(tmp_path / "labels.parquet")]
    arguments += ["--sample-rows", "200", "--html", str(places[0]), "--json", str(places[1])]
    assert main([*arguments, "--engine", engine_name]) == 0
    return places[0].read_text(), json.loads(places[1].read_text())


def test_the_report_keeps_realised_and_estimated_quality_apart_and_shows_the_rest(
    reported: tuple[str, dict[str, Any]],
) -> None:
    page, document = reported
    for heading in ("PSI over time", "Decisions at the cut-offs", "Realised quality", "Estimated quality"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<polyline") == 6
    assert [point["rows"] for point in document["trend"]] == [600] * 3
    assert document["decisions"][0]["name"] == "accept"
    assert document["quality"]["realised"]["rows"] == 1_800
    assert document["quality"]["estimated"]["rows"] == 600
    assert sum(band["rows"] for band in document["quality"]["calibration"]) == 1_800


def test_the_measurement_has_realised_quality_with_calibration_and_estimated_quality_without_any_report(
    bundle: tuple[Path, str],
    applicants: Applicants,
    log: Log,
    engine_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = filled(log, applicants, 3)
    table = pa.concat_tables([pq.read_table(p) for p in sorted(Path(uri).rglob("*.parquet"))]).slice(0, 600)
    # Of all scores a third has its label by now, and six of seven went bad, whatever their probability.
    bad = pa.array(np.arange(600) % 7 != 0)
    labels = table.select(["_request_id", "_row"]).append_column("_label", bad.cast(pa.int8()))
    pq.write_table(labels, tmp_path / "labels.parquet")
    time = ["--window", "24h", "--until", (NOON + timedelta(hours=12)).isoformat()]
    arguments = ["--bundle", str(bundle[0]), "--current", uri, *time, "--labels", str(tmp_path / "labels.parquet")]
    assert main([*arguments, "--measurement", str(tmp_path / "m.json"), "--engine", engine_name]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    realised, estimated = found["quality"], found["estimated"]
    assert (realised["rows"], realised["matured"]) == (600, 1_800)
    calibration = realised["calibration"]
    assert calibration["bad_rate"] == pytest.approx(514 / 600)
    assert (calibration["bands"], calibration["too_low"], calibration["too_high"]) == (10, 7, 0)
    assert calibration["mean_probability"] == pytest.approx(np.mean(table["_probability"].to_numpy()))
    assert estimated["rows"] == 600
    assert 0.5 < estimated["bad_rate"] < 0.6
    said = capsys.readouterr().out
    assert "realised quality on the labels of 600 of 1,800 matured rows" in said
    assert "estimated quality, if the probabilities are right" in said


def report(directory: Path, name: str, hour: int, model: str = "small") -> None:
    """A report's two files as a check of that hour leaves them."""
    created = f"2026-11-20T{hour:02}:00:00.000000+00:00"
    (directory / f"{name}.html").write_text(f"<html><head>{html_mark(Mark(model, created, f'{name}.html'))}</head>")
    body = {"schema_version": 1, "report": {"model": model, "created": created, "file": f"{name}.json"}, "rows": [1]}
    (directory / f"{name}.json").write_text(json.dumps(body, indent=1))


def test_the_last_checks_reports_stay_and_only_what_was_written_here_goes(tmp_path: Path) -> None:
    for hour in range(5):
        report(tmp_path, f"run-{hour}", hour)
    report(tmp_path, "other", 0, model="large")
    shutil.copy(tmp_path / "run-0.html", tmp_path / "put-aside.html")
    (tmp_path / "notes.html").write_text("<html>mine</html>")
    (tmp_path / "data.json").write_text('{"report": 7}')
    (tmp_path / "run-0.txt").write_text("mine")
    removed = prune(str(tmp_path / "run-4.html"), "small", 2)
    assert sorted(Path(path).name for path in removed) == [
        f"run-{i}.{kind}" for i in range(3) for kind in ("html", "json")
    ]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *(f"{name}.{kind}" for name in ("run-3", "run-4", "other") for kind in ("html", "json")),
        "put-aside.html",
        "notes.html",
        "data.json",
        "run-0.txt",
    }


def test_the_command_keeps_as_many_reports_as_it_is_told(
    bundle: tuple[Path, str], applicants: Applicants, tmp_path: Path
) -> None:
    pq.write_table(applicants(40), tmp_path / "now.parquet")
    reports = tmp_path / "reports of <small>"
    for run in ("a", "b", "c d"):
        place = reports / f"{run}.html"
        arguments = ["--bundle", str(bundle[0]), "--current", str(tmp_path / "now.parquet"), "--keep-reports", "2"]
        assert main([*arguments, "--sample-rows", "1", "--html", place.as_uri()]) == 0
    assert {path.name for path in reports.iterdir()} == {"b.html", "c d.html"}
