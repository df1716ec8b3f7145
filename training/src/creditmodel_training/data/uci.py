"""The UCI data set "default of credit card clients" as monthly snapshots.

Each of 30,000 clients has six statements, April to September 2005, and whether they defaulted in October. A snapshot is
what a lender knows of them at the end of one month: the limit, and the last three statements. Snapshots share one
schema, so an early one trains a model and a later one is, for that model, later data. See LICENCE-DATA.md for source
and licence and docs/design/data.md for the reasons.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from creditmodel_bundle.contract import Category, Reason
from creditmodel_training.schema import FeatureSpec, Schema

__all__ = ["NAME", "SCHEMA", "SNAPSHOTS", "raw_table", "snapshot"]

NAME = "uci-credit-default"
WINDOW = 3
MONTHS = ("2005-04", "2005-05", "2005-06", "2005-07", "2005-08", "2005-09")
SNAPSHOTS = MONTHS[WINDOW - 1 :]
"""The months at whose end three statements are known."""

_AGES = ("", "_1m", "_2m")
_AGO = ("", ", one month before", ", two months before")
_EDUCATION = {1: "graduate_school", 2: "university", 3: "high_school", 4: "other"}
RATIO_CAP = 2.0

Floats = npt.NDArray[np.float64]


def raw_table() -> pa.Table:
    """The shipped table: 30,000 rows with the columns and codes of the UCI repository."""
    return pq.read_table(Path(__file__).with_name("uci_credit_default.parquet"))


def snapshot(month: str) -> pa.Table:
    """One row per client as of the end of `month`: client_id, the features of SCHEMA, and the label `default`.

    Raises ValueError for a month that is not in SNAPSHOTS.
    """
    if month not in SNAPSHOTS:
        raise ValueError(f"{month!r} is no snapshot: there are {', '.join(SNAPSHOTS)}")
    raw = raw_table()
    newest = len(MONTHS) - MONTHS.index(month)
    numbers = _features(raw, newest)
    columns: dict[str, pa.Array] = {"client_id": raw["ID"], **numbers, "default": raw["default"]}
    return pa.table({name: columns[name] for name in ("client_id", *(f.name for f in SCHEMA.features), "default")})


def _features(raw: pa.Table, newest: int) -> dict[str, pa.Array]:
    """`newest` is the UCI number of the snapshot's own month: 1 is September, 6 is April."""
    limit = raw["LIMIT_BAL"].to_numpy().astype(np.float64)
    ages = range(newest, newest + WINDOW)
    status = [raw["PAY_0" if age == 1 else f"PAY_{age}"].to_numpy() for age in ages]
    bills = [raw[f"BILL_AMT{age}"].to_numpy().astype(np.float64) for age in ages]
    paid = [raw[f"PAY_AMT{age}"].to_numpy().astype(np.float64) for age in ages]
    columns = {"credit_limit": pa.array(limit), "education": _education(raw)}
    for suffix, one_status, bill, payment in zip(_AGES, status, bills, paid, strict=True):
        columns[f"pay_status{suffix}"] = pa.array(one_status.astype(np.int32))
        columns[f"utilisation{suffix}"] = pa.array(np.round(bill / limit, 6))
        columns[f"bill_amount{suffix}"] = pa.array(bill)
        columns[f"paid_amount{suffix}"] = pa.array(payment)
    columns["payment_ratio"] = _payment_ratio(bills, paid)
    columns["arrears_months"] = pa.array(sum((s >= 2).astype(np.int32) for s in status))
    return columns


def _education(raw: pa.Table) -> pa.Array:
    """The four documented levels; the source's codes 0, 5 and 6 (345 rows) have no meaning and are missing."""
    return pa.array([_EDUCATION.get(code) for code in raw["EDUCATION"].to_pylist()], pa.string())


def _payment_ratio(bills: list[Floats], paid: list[Floats]) -> pa.Array:
    """Share of the two previous statements that the two following payments covered, at most RATIO_CAP.

    Missing where there was nothing to pay.
    """
    due = bills[1] + bills[2]
    ratio = np.minimum((paid[0] + paid[1]) / np.where(due > 0, due, 1.0), RATIO_CAP)
    return pa.array(np.round(ratio, 6), mask=due <= 0)


def _specs() -> list[FeatureSpec]:
    return [
        FeatureSpec(
            name="credit_limit",
            dtype="number",
            unit="NT$",
            description="Credit limit of the card, the family's supplementary cards included",
            minimum=1000,
            maximum=10_000_000,
            monotonic="decreasing",
            reason=Reason(code="LIMIT", text="Credit limit is low"),
            example=140000,
        ),
        FeatureSpec(
            name="education",
            dtype="category",
            description="Highest education; missing where the source has a code without a meaning",
            categories=[
                Category(value=value, code=code, label=value.replace("_", " ").capitalize())
                for code, value in enumerate(_EDUCATION.values())
            ],
            missing="allowed",
            reason=Reason(code="EDUCATION", text="Education"),
            example="university",
        ),
        *(_pay_status(suffix, ago) for suffix, ago in zip(_AGES, _AGO, strict=True)),
        *(_utilisation(suffix, ago) for suffix, ago in zip(_AGES, _AGO, strict=True)),
        *(_bill(suffix, ago) for suffix, ago in zip(_AGES, _AGO, strict=True)),
        *(_paid(suffix, ago) for suffix, ago in zip(_AGES, _AGO, strict=True)),
        FeatureSpec(
            name="payment_ratio",
            dtype="number",
            description="The last two payments over the two statements before them, at most 2; "
            "missing where there was nothing to pay",
            minimum=0,
            maximum=RATIO_CAP,
            missing="allowed",
            monotonic="decreasing",
            reason=Reason(code="PAYMENT_RATIO", text="Small share of recent statements was paid"),
            example=0.1,
        ),
        FeatureSpec(
            name="arrears_months",
            dtype="integer",
            unit="months",
            description="How many of the last three statements were two months past due or more",
            minimum=0,
            maximum=WINDOW,
            monotonic="increasing",
            reason=Reason(code="ARREARS", text="Statements two months or more past due in the last three months"),
            example=0,
        ),
    ]


def _pay_status(suffix: str, ago: str) -> FeatureSpec:
    return FeatureSpec(
        name=f"pay_status{suffix}",
        dtype="integer",
        unit="months",
        description=f"Repayment status{ago}: -2 no use, -1 paid in full, 0 revolving, 1 to 9 months past due",
        minimum=-2,
        maximum=9,
        monotonic="increasing",
        reason=Reason(code=f"PAY_STATUS{suffix.upper()}", text=f"Payment past due{ago}"),
        example=0,
    )


def _utilisation(suffix: str, ago: str) -> FeatureSpec:
    return FeatureSpec(
        name=f"utilisation{suffix}",
        dtype="number",
        unit="of the limit",
        description=f"Statement balance over credit limit{ago}",
        minimum=-100,
        maximum=100,
        monotonic="increasing",
        reason=Reason(code=f"UTILISATION{suffix.upper()}", text=f"Credit line is highly used{ago}"),
        example=0.3,
    )


def _bill(suffix: str, ago: str) -> FeatureSpec:
    return FeatureSpec(
        name=f"bill_amount{suffix}",
        dtype="number",
        unit="NT$",
        description=f"Statement balance{ago}; negative is in the client's favour",
        minimum=-10_000_000,
        maximum=10_000_000,
        reason=Reason(code=f"BILL{suffix.upper()}", text=f"Level of the statement balance{ago}"),
        example=42000,
    )


def _paid(suffix: str, ago: str) -> FeatureSpec:
    return FeatureSpec(
        name=f"paid_amount{suffix}",
        dtype="number",
        unit="NT$",
        description=f"Amount paid in the month{ago}",
        minimum=0,
        maximum=10_000_000,
        monotonic="decreasing",
        reason=Reason(code=f"PAID{suffix.upper()}", text=f"Amount paid is low{ago}"),
        example=2000,
    )


SCHEMA = Schema(label="default", positive=1, key="client_id", features=_specs())
"""What a snapshot's columns mean. SEX, MARRIAGE and AGE are in the raw table and deliberately no features."""
