"""Score a scoring log again, and say what comes out differently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import ContractViolation
from creditmodel_inference.scorer import Scorer

__all__ = ["Difference", "replay"]

ROWS = 4_096
"""Rows that are scored at once."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row whose answer is not what the log says."""

    request_id: str
    row: int
    message: str


def replay(scorer: Scorer, table: Any, tolerance: float) -> Iterator[tuple[int, list[Difference]]]:
    """Score what `scorer`'s own model once scored in a part; rows scored and differences, some rows at a time.

    `tolerance` is absolute, on the probability. Above zero, a point more or less is rounding.
    """
    digest = scorer.identity.digest
    for batch in table.to_batches(ROWS):
        rows = [row for row in batch.to_pylist() if row["_error"] is None and row["_digest"] == digest]
        if rows:
            yield len(rows), list(_differences(scorer, rows, tolerance))


def _differences(scorer: Scorer, rows: list[dict[str, Any]], tolerance: float) -> Iterator[Difference]:
    encoder = Encoder(scorer.contract)
    encoded, kept = [], []
    for row in rows:
        try:
            encoded.append(encoder.encode({name: row.get(name) for name in encoder.columns}))
            kept.append(row)
        except ContractViolation as e:
            yield Difference(row["_request_id"], row["_row"], f"its inputs break the contract: {e}")
    if not kept:
        return
    columns = scorer.columns(scorer.blocks.run(np.array(encoded, np.float64)))
    contract = scorer.contract
    decisions = [cutoff.decision for cutoff in contract.cutoffs]
    codes = [feature.reason.code for feature in contract.features]
    for index, row in enumerate(kept):
        now = {
            "_probability": float(columns.probability[index]),
            "_points": int(columns.points[index]),
            "_decision": decisions[columns.decision[index]],
            "_reasons": [codes[i] for i in columns.reasons[index].tolist() if i >= 0],
        }
        allowed = {"_probability": tolerance, "_points": 1 if tolerance else 0}
        wrong = [
            f"{key[1:]} {row[key]!r}, now {value!r}"
            for key, value in now.items()
            if _differs(row[key], value, allowed.get(key))
        ]
        if wrong:
            yield Difference(row["_request_id"], row["_row"], "; ".join(wrong))


def _differs(logged: Any, now: Any, tolerance: float | None) -> bool:
    if tolerance is None or logged is None:
        return bool(logged != now)
    return not abs(logged - now) <= tolerance
