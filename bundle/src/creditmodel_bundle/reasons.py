"""Which features are named as the reasons for a score.

One rule, used by the server and by the parity check, so that both name the same reasons for the same contributions.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DECIMALS", "MAX_REASONS", "top_reasons"]

MAX_REASONS = 4
"""US practice names at most four principal reasons (Regulation B, official interpretation of 12 CFR 1002.9(b)(2))."""

DECIMALS = 4
"""Contributions are compared at this many decimals of log-odds, so that rounding in a runtime does not reorder them."""


def top_reasons(contributions: Sequence[float], limit: int = MAX_REASONS) -> list[int]:
    """Indices of the features that raised the probability of default most, largest first.

    `contributions` are log-odds against the baseline, in the contract's order. Ties go to the earlier feature.
    A feature that did not raise the probability is no reason.
    """
    rounded = [round(float(contribution), DECIMALS) for contribution in contributions]
    raising = [index for index, value in enumerate(rounded) if value > 0]
    raising.sort(key=lambda index: (-rounded[index], index))
    return raising[:limit]
