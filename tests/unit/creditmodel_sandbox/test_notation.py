"""Kubernetes' small notations."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from creditmodel_sandbox.notation import (
    QuantityError,
    SelectorError,
    format_selector,
    format_time,
    matches,
    parse_quantity,
    parse_selector,
)

LABELS = {"app": "x", "tier": "web", "example.com/in": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("app=x", True),
        ("app == x, tier != db", True),
        ("tier in (db, web)", True),
        ("tier notin (db,web)", False),
        ("none notin (a)", True),
        ("none in (a)", False),
        ("none!=a", True),
        ("app", True),
        ("!app", False),
        ("!none,app", True),
        ("example.com/in=", True),
        ("app=", False),
    ],
)
def test_a_selectors_text_selects_labels(text: str, selected: bool) -> None:
    assert matches(parse_selector(text), LABELS) is selected


@pytest.mark.parametrize("text", ["a b", "=x", "a in b", "!a=b", "a in (b", "a>1 2"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError, match="unable to parse requirement"):
        parse_selector(text)


def test_a_missing_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert not matches(None, LABELS)
    assert matches({}, LABELS)


def test_a_selector_object_is_written_as_text() -> None:
    expressions = [{"key": "b", "operator": "In", "values": ["2", "1"]}, {"key": "c", "operator": "DoesNotExist"}]
    assert format_selector({"matchLabels": {"a": "x"}, "matchExpressions": expressions}) == "a=x,b in (1,2),!c"


@pytest.mark.parametrize(
    ("text", "amount"),
    [("500m", "0.5"), ("1Gi", str(2**30)), ("2e3", "2000"), ("1.5k", "1500"), ("-3", "-3"), ("1E", "1e18"), (3, "3")],
)
def test_quantities_are_read(text: str | int, amount: str) -> None:
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1x", "0x10", "1Ei2"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


def test_times_are_whole_seconds_of_utc() -> None:
    assert format_time(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
