"""Golden rows: applicants with the PyTorch network's answers, which every replica must reproduce before it is ready."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import torch

from creditmodel_bundle.contract import Contract, Feature
from creditmodel_bundle.documents import Golden, GoldenRow
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.reasons import DECIMALS, MAX_REASONS, top_reasons
from creditmodel_training.model.own import CreditNetwork

__all__ = ["ROWS", "golden"]

ROWS = 32
TRIES = 8
"""Applicants that an edge is tried on until its answer lies clear of every rounding boundary."""

MARGIN = 1e-4
"""How near to a rounding boundary (of points, a cut-off or a reason's rank) a row may lie: a runtime's last bit must
not decide whether a replica is ready."""

Row = Mapping[str, Any]


def golden(network: CreditNetwork, contract: Contract, applicants: Sequence[Row]) -> Golden:
    """ROWS rows: edges of the contract first (each category, missing, ends of each range), real applicants after.

    `applicants` are valid raw rows, at least one, spread over the scores.
    """
    encoder = Encoder(contract)

    def first(candidates: Iterable[Row]) -> Iterator[GoldenRow]:
        settled = (_answer(network, contract, encoder, row) for row in candidates)
        return islice((row for row in settled if row is not None), 1)

    edges = [
        first(_tries(change, applicants[number % len(applicants) :]))
        for number, change in enumerate(_changes(contract))
    ]
    rows = list(islice(chain(*edges, *(first([applicant]) for applicant in applicants)), ROWS))
    # Every candidate on a boundary is all but impossible; the row is then worth more than the margin.
    return Golden(rows=rows or [_row(contract, *_scored(network, encoder, applicants[0]), applicants[0])])


def _changes(contract: Contract) -> list[Row]:
    """Edges of the contract, as changes to an applicant: together first, then one by one, half of ROWS at most."""
    features = contract.features
    together: list[Row] = [
        {f.name: None for f in features if f.missing == "allowed"},
        {f.name: f.minimum for f in features if f.minimum is not None},
        {f.name: f.maximum for f in features if f.maximum is not None},
    ]
    single: list[Row] = [{f.name: value} for f in features for value in _edge_values(f)]
    single.sort(key=lambda change: _priority(features, change))
    return [change for change in together if change] + single[: ROWS // 2 - len(together)]


def _tries(change: Row, applicants: Sequence[Row]) -> Iterator[Row]:
    """The change on a few applicants, then all but one value of it."""
    yield from ({**applicant, **change} for applicant in applicants[:TRIES])
    if len(change) > 1:
        for left_out in change:
            yield {**applicants[0], **{name: value for name, value in change.items() if name != left_out}}


def _edge_values(feature: Feature) -> list[Any]:
    values: list[Any] = [category.value for category in feature.categories]
    if feature.missing == "allowed":
        values.append(None)
    values += [bound for bound in (feature.minimum, feature.maximum) if bound is not None]
    return values


def _priority(features: Sequence[Feature], change: Row) -> int:
    """Categories and missing values first, the ends of ranges after."""
    ((name, value),) = change.items()
    return 0 if value is None or any(f.name == name and f.categories for f in features) else 1


def _answer(network: CreditNetwork, contract: Contract, encoder: Encoder, row: Row) -> GoldenRow | None:
    probability, log_odds, contributions = _scored(network, encoder, row)
    if not _settled(contract, probability, log_odds, contributions):
        return None
    return _row(contract, probability, log_odds, contributions, row)


def _row(contract: Contract, probability: float, log_odds: float, contributions: list[float], row: Row) -> GoldenRow:
    return GoldenRow(
        features={feature.name: _plain(feature, row[feature.name]) for feature in contract.features},
        probability=probability,
        log_odds=log_odds,
        points=contract.scale.to_points(log_odds),
        decision=contract.cutoff(probability).decision,
        reasons=[contract.features[index].reason.code for index in top_reasons(contributions)],
    )


def _scored(network: CreditNetwork, encoder: Encoder, row: Row) -> tuple[float, float, list[float]]:
    x = torch.tensor(np.array([encoder.encode(row)], np.float32))
    with torch.inference_mode():
        log_odds, probability, contributions = network(x)
    return float(probability[0]), float(log_odds[0]), [float(value) for value in contributions[0]]


def _settled(contract: Contract, probability: float, log_odds: float, contributions: list[float]) -> bool:
    """Whether nothing that is rounded lies near its boundary."""
    scale = contract.scale
    points = scale.points - scale.pdo / math.log(2) * (log_odds + math.log(scale.odds))
    near_cutoff = any(abs(probability - cutoff.min_probability) < MARGIN for cutoff in contract.cutoffs[1:])
    near_half_point = abs(points - math.floor(points) - 0.5) < MARGIN
    return not near_cutoff and not near_half_point and _ranked(contributions)


def _ranked(contributions: list[float]) -> bool:
    """Whether the reasons keep their ranks when contributions change by far less than the step they are rounded to."""
    step = 10.0**-DECIMALS
    raising = sorted((value for value in contributions if value > step / 4), reverse=True)[: MAX_REASONS + 1]
    apart = all(high - low > 2 * step for high, low in pairwise(raising))
    return apart and all(value > 2 * step for value in raising)


def _plain(feature: Feature, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return int(value) if feature.dtype == "integer" else value
