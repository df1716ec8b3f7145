"""Retraining: a challenger from the champion's reference and recent labelled applicants, judged beside the champion.

The hold-out is recent applicants only, by a hash of their request: neither model has learned from them. The reference
is what the champion learned from, so judging on it would flatter the champion. What a score means (features, cut-offs,
scale) is the champion's contract, which a retraining never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Evaluation, Incumbent
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import ContractViolation
from creditmodel_bundle.manifest import CONTRACT, PYTORCH, REFERENCE
from creditmodel_bundle.storage import Bundle
from creditmodel_training.bundling import Meaning, scores, write_bundle
from creditmodel_training.errors import DataError, NetworkError
from creditmodel_training.evaluation.baselines import baselines
from creditmodel_training.evaluation.metrics import discrimination
from creditmodel_training.evaluation.report import evaluate
from creditmodel_training.fit.fitting import fit
from creditmodel_training.fit.loop import Settings
from creditmodel_training.model import ScoringNetwork, load
from creditmodel_training.outcomes import KEY, Outcomes
from creditmodel_training.prepare import HOLDOUT, Prepared, prepare
from creditmodel_training.schema import FeatureSpec, Schema, SplitColumn

__all__ = ["Material", "Retrained", "gather", "retrain"]

TRAIN, VALIDATE, HOLD_OUT = "training", "validation", "hold-out"
RECENT = ((0.60, TRAIN), (0.75, VALIDATE), (1.0, HOLD_OUT))
"""Upper bounds of the parts of recent applicants, in the shares that training has."""
REFERENCE_PARTS = ((0.80, TRAIN), (1.0, VALIDATE))
_PART = "_part"


@dataclass(frozen=True, slots=True)
class Material:
    """What to learn from, and how many rows came from where; `left_out` broke the contract."""

    data: Prepared
    reference_rows: int
    labelled_rows: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Retrained:
    """The challenger's digest, and its evaluation with the champion's figures on the same rows."""

    digest: str
    evaluation: Evaluation


def gather(champion: Bundle, outcomes: Outcomes) -> Material:
    """Reference and recent applicants as one prepared table. Raises DataError when there is too little of either."""
    contract = Contract.read(champion.path(CONTRACT))
    names = [feature.name for feature in contract.features]
    reference = pq.read_table(champion.path(REFERENCE), columns=[*names, "_label"])
    kept = _acceptable(contract, outcomes.table)
    recent = _alike(kept.select([*names, "_label"]), reference.schema)
    requests = [f"{value}".encode() for value in kept[KEY[0]].to_pylist()]
    rows = [repr(sorted(row.items())).encode() for row in reference.to_pylist()]
    parts = [*_parts(rows, REFERENCE_PARTS), *_parts(requests, RECENT)]
    table = pa.concat_tables([reference, recent]).append_column(_PART, pa.array(parts, pa.string()))
    left_out = outcomes.table.num_rows - kept.num_rows
    return Material(_prepared(table, contract, kept.num_rows), reference.num_rows, kept.num_rows, left_out)


def _prepared(table: pa.Table, contract: Contract, labelled: int) -> Prepared:
    try:
        return prepare(table, _schema(contract))
    except DataError as e:
        raise DataError(f"{labelled} labelled applicants are too few to retrain on: {e}") from e


def retrain(material: Material, champion: Bundle, out: Path, version: str, settings: Settings) -> Retrained:
    """Train a challenger and write its bundle to a local directory. Raises TrainingError."""
    data, contract = material.data, Contract.read(champion.path(CONTRACT))
    incumbent = load(champion.path(PYTORCH))
    if not isinstance(incumbent, ScoringNetwork):
        raise NetworkError(
            f"the champion is {incumbent.architecture!r}, which only its own pipeline trains; this command makes "
            f"{ScoringNetwork.architecture!r}. Use spec.retraining.policy Signal"
        )
    network = fit(data, settings).network
    held = data.rows(HOLDOUT)
    x, y = data.x[held], data.y[held]
    evaluation = evaluate(x, y, scores(network, x)[1], baselines(data, settings.seed))
    before = discrimination(y, scores(incumbent, x)[1])
    figures = {"auc": before.auc, "ks": before.ks, "gini": before.gini, "brier": before.brier}
    judged = evaluation.model_copy(update={"champion": Incumbent(digest=champion.digest, **figures)})
    meaning = Meaning(champion.manifest.name, version, contract.cutoffs, contract.scale)
    return Retrained(write_bundle(out, data, network, judged, meaning), judged)


def _schema(contract: Contract) -> Schema:
    """The champion's features as they are, categories and codes included, so that both models read the same rows."""
    given = set(FeatureSpec.model_fields)
    features = [FeatureSpec.model_validate(feature.model_dump(include=given)) for feature in contract.features]
    split = SplitColumn(column=_PART, validation=[VALIDATE], holdout=[HOLD_OUT])
    return Schema(label="_label", positive=1, split=split, features=features)


def _acceptable(contract: Contract, table: pa.Table) -> pa.Table:
    """The rows that scoring would accept: a value outside the contract teaches nothing that could be asked for."""
    encoder = Encoder(contract)
    names = [feature.name for feature in contract.features]
    accepted = [_accepts(encoder, row) for row in table.select(names).to_pylist()]
    return table.filter(pa.array(accepted, pa.bool_()))


def _accepts(encoder: Encoder, row: dict[str, Any]) -> bool:
    try:
        encoder.encode(row)
    except ContractViolation:
        return False
    return True


def _alike(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns in the types that the reference has. Raises DataError for a column that does not fit."""
    columns = []
    for field in schema:
        column = table[field.name]
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as e:
            raise DataError(f"{field.name} is {column.type} in the log and {field.type} in the reference") from e
    return pa.table(columns, schema.names)


def _parts(keys: Sequence[bytes], bounds: Sequence[tuple[float, str]]) -> list[str]:
    """The part of each row by a hash of its key: the same row is in the same part at every retraining."""
    uniform = [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 for key in keys]
    return [next(part for bound, part in bounds if value < bound or bound == 1.0) for value in uniform]
