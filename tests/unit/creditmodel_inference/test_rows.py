"""Encoded rows against the contract: what the encoder makes is accepted, what it would never make is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.rows import RowCheck

Row = dict[str, Any]


def test_every_row_that_the_encoder_makes_is_accepted(contract: Contract, applicants: Callable[..., list[Row]]) -> None:
    encoder = Encoder(contract)
    rows = np.array([encoder.encode(row) for row in applicants(300, seed=9)])
    assert RowCheck(contract).violations(rows) == []
    assert RowCheck(contract).violations(rows.astype(np.float32).astype(np.float64)) == []


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("limit", -1.0, "range"), ("limit", np.inf, "range"), ("limit", np.nan, "missing"), ("age", 18.5, "type"),
     ("age", 121.0, "range"), ("balance.total", 3.2e38, "range"), ("balance.total", -np.inf, "range"),
     ("sex", 1.5, "category"), ("sex", np.nan, "missing"), ("home", 5.0, "category"), ("home", -1.0, "category")],
)  # fmt: skip
def test_a_value_that_the_contract_refuses_is_named_with_its_place(
    contract: Contract, applicants: Callable[..., list[Row]], name: str, value: float, kind: str
) -> None:
    encoder = Encoder(contract)
    rows = np.array([encoder.encode(row) for row in applicants(5)])
    column = encoder.columns.index(name)
    rows[3, column] = value
    (error,) = RowCheck(contract).violations(rows)
    assert (error.path, error.kind) == (f"/inputs/0/data/{3 * len(encoder.columns) + column}", kind)
    assert name in error.message


def test_the_first_violations_are_named_and_no_more(contract: Contract) -> None:
    assert len(RowCheck(contract).violations(np.full((1_000, len(contract.features)), np.inf))) == 50
