"""Write a bundle: every file, then the manifest, then one rename. A crash on the way leaves nothing under its name."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from creditmodel_bundle.bins import BinTable, freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Contract, Cutoff, Feature, ScoreScale
from creditmodel_bundle.documents import Evaluation
from creditmodel_bundle.manifest import CONTRACT, EVALUATION, GOLDEN, ONNX, PYTORCH, REFERENCE, seal
from creditmodel_training.errors import OutputError
from creditmodel_training.explained import baseline_of, check_directions
from creditmodel_training.export import export
from creditmodel_training.golden import golden
from creditmodel_training.model import CreditNetwork, save
from creditmodel_training.prepare import HOLDOUT, Prepared

__all__ = ["Meaning", "check_target", "default_cutoffs", "write_bundle"]

REFERENCE_ROWS = 20_000
GOLDEN_POOL = 208
POOL_STRIDE = 16


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the user says a score means: the model's name and version, its cut-offs and its scale."""

    name: str
    version: str
    cutoffs: list[Cutoff]
    scale: ScoreScale


def default_cutoffs(bad_rate: float) -> list[Cutoff]:
    """Approve below the default rate of the development sample, review up to twice that, decline from there."""
    review = float(f"{bad_rate:.2g}")
    decline = min(2 * review, (1 + review) / 2)
    named = (("approve", 0.0), ("review", review), ("decline", decline))
    return [Cutoff(decision=decision, min_probability=bound) for decision, bound in named]


def check_target(out: Path, force: bool) -> None:
    """Raise OutputError when a bundle cannot be written at `out`, before hours are spent on training one."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; --out names the bundle's directory")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise OutputError(f"{out} is not empty; give another --out, or --force to replace it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"{out.parent} cannot be made: {e.strerror}") from e
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"{out.parent} is not writable")


def write_bundle(
    out: Path,
    data: Prepared,
    network: CreditNetwork,
    evaluation: Evaluation,
    meaning: Meaning,
    *,
    replace: bool = False,
) -> str:
    """Write the whole bundle and return its digest. What is at `out` stays, unless it is to be replaced.

    Raises OutputError, NetworkError.
    """
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as e:
        raise OutputError(f"{out.parent}: {e.strerror}") from e
    try:
        digest = _fill(partial, data, network, evaluation, meaning)
        partial.chmod(0o755)
        _put(partial, out, replace=replace)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputError(f"{out} was empty and is not any more; what is there stays, give another --out") from e
        raise OutputError(f"{out} cannot be written: {e.strerror or e}") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def _fill(directory: Path, data: Prepared, network: CreditNetwork, evaluation: Evaluation, meaning: Meaning) -> str:
    reference = _reference_rows(data)
    baseline = baseline_of(network, data.x[reference])
    check_directions(network, data.features, data.x[reference])
    log_odds, probability = scores(network, data.x[reference])
    contract = _contract(data, baseline, meaning, reference, log_odds)
    document = contract.model_dump_json(indent=1).encode() + b"\n"
    (directory / CONTRACT).write_bytes(document)
    (directory / EVALUATION).write_text(evaluation.model_dump_json(indent=1, exclude_none=True) + "\n")
    applicants = _spread(data, network)
    (directory / GOLDEN).write_text(golden(network, contract, applicants).model_dump_json(indent=1) + "\n")
    table = reference_table(data, contract, reference, log_odds, probability)
    pq.write_table(table, directory / REFERENCE, compression="zstd")
    save(network, directory / PYTORCH)
    identity = {"name": meaning.name, "version": meaning.version}
    export(network, directory / ONNX, identity | {"contract_sha256": hashlib.sha256(document).hexdigest()})
    return seal(directory, meaning.name, meaning.version, _created())


def _put(partial: Path, out: Path, *, replace: bool) -> None:
    """Put a finished directory in its place; an old one that is to be replaced steps aside first, and is removed."""
    if not (replace and out.exists()):
        partial.replace(out)
        return
    aside = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    out.replace(aside)
    partial.replace(out)
    shutil.rmtree(aside, ignore_errors=True)


def _created() -> datetime:
    """Now, or SOURCE_DATE_EPOCH, with which the same training gives the same digest."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC)
    if not epoch.isascii() or not epoch.isdigit():
        raise OutputError(f"SOURCE_DATE_EPOCH is {epoch!r}; it must be seconds since 1970")
    return datetime.fromtimestamp(int(epoch), UTC)


def _reference_rows(data: Prepared) -> npt.NDArray[np.intp]:
    """The development rows (never the hold-out), evenly thinned to REFERENCE_ROWS."""
    rows = np.flatnonzero(data.part != HOLDOUT)
    if len(rows) <= REFERENCE_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, REFERENCE_ROWS).round().astype(np.intp)]


def _contract(
    data: Prepared,
    baseline: float,
    meaning: Meaning,
    reference: npt.NDArray[np.intp],
    log_odds: npt.NDArray[np.float64],
) -> Contract:
    tables = {f.name: _bins(f, data.x[reference, index]) for index, f in enumerate(data.features)}
    bins = Bins(rows=len(reference), features=tables, score=freeze_numbers(log_odds.tolist()))
    return Contract(
        name=meaning.name,
        version=meaning.version,
        features=data.features,
        baseline_log_odds=baseline,
        cutoffs=meaning.cutoffs,
        scale=meaning.scale,
        bins=bins,
    )


def _bins(feature: Feature, column: npt.NDArray[np.float32]) -> BinTable:
    if feature.dtype != "category":
        return freeze_numbers(column.astype(np.float64).tolist(), feature.minimum, feature.maximum)
    values = {float(category.code): category.value for category in feature.categories}
    raw = [None if np.isnan(code) else values[float(code)] for code in column]
    return freeze_categories(raw, [category.value for category in feature.categories])


def scores(
    network: CreditNetwork, x: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log-odds and probability of default [N] of encoded rows [N, F]."""
    with torch.inference_mode():
        log_odds, probability, _ = network(torch.from_numpy(np.ascontiguousarray(x)))
    return log_odds.numpy().astype(np.float64), probability.numpy().astype(np.float64)


def reference_table(
    data: Prepared,
    contract: Contract,
    rows: npt.NDArray[np.intp],
    log_odds: npt.NDArray[np.float64],
    probability: npt.NDArray[np.float64],
) -> pa.Table:
    """Raw values and the system's columns of some rows."""
    points = [contract.scale.to_points(value) for value in log_odds]
    decisions = [contract.cutoff(value).decision for value in probability]
    return (
        data.table.take(pa.array(rows))
        .append_column("_label", pa.array(data.y[rows], pa.int8()))
        .append_column("_probability", pa.array(probability, pa.float64()))
        .append_column("_log_odds", pa.array(log_odds, pa.float64()))
        .append_column("_points", pa.array(points, pa.int32()))
        .append_column("_decision", pa.array(decisions, pa.string()))
    )


def _spread(data: Prepared, network: CreditNetwork) -> Sequence[dict[str, Any]]:
    """Real hold-out applicants, evenly spread over their scores: from the safest to the riskiest."""
    held = data.rows(HOLDOUT)
    order = held[np.argsort(scores(network, data.x[held])[0], kind="stable")]
    chosen = order[np.linspace(0, len(order) - 1, min(GOLDEN_POOL, len(order))).round().astype(np.intp)]
    # A wide stride through the pool first, so that its first rows already span all scores.
    interleaved = np.concatenate([chosen[start::POOL_STRIDE] for start in range(POOL_STRIDE)])
    rows: list[dict[str, Any]] = data.table.take(pa.array(interleaved)).to_pylist()
    return rows
