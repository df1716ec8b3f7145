"""Kubernetes quantities: `500m`, `1.5Gi`, `2e3`."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["QuantityError", "parse_quantity"]

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i|)")


class QuantityError(ValueError):
    """A text that is not a quantity."""


def parse_quantity(text: str) -> Decimal:
    """The amount in the base unit.

    Raises QuantityError.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise QuantityError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    number, suffix = found.groups()
    if suffix and suffix[0] in "eE" and len(suffix) > 1 and suffix[1] != "i":
        return Decimal(number + suffix)
    return Decimal(number) * _SUFFIXES[suffix]
