"""Calibration by band, and what quality to expect before outcomes are known. Pure functions of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincinv

from creditmodel_bundle.measurement import Calibration
from creditmodel_drift.outcomes import Outcomes

__all__ = ["BANDS", "LEVEL", "Band", "bands", "summary"]

BANDS = 10
LEVEL = 0.05
"""Probability of any false finding over all bands of a calibrated model."""


@dataclass(frozen=True, slots=True)
class Band:
    """Applicants of like probability of default, and what became of them.

    `lower` and `upper` bound the true default rate with 95 % (Jeffreys interval). `p_value` is how likely the true rate
    is at or below the mean probability, given the outcomes: near 0 the probabilities are too low, near 1 too high.
    """

    rows: int
    lowest: float
    highest: float
    mean_probability: float
    bad_rate: float
    lower: float
    upper: float
    p_value: float

    @property
    def finding(self) -> str:
        """ "too low", "too high" or "" for the probabilities of this band."""
        if self.p_value < LEVEL / 2 / BANDS:
            return "too low"
        return "too high" if self.p_value > 1 - LEVEL / 2 / BANDS else ""


def bands(outcomes: Outcomes) -> tuple[Band, ...]:
    """At most BANDS bands of about as many rows each; equal probabilities stay in one band.

    The test is the Jeffreys test of the ECB's instructions for validating PD models: with D defaults among N applicants
    the true rate is Beta(D + 1/2, N − D + 1/2).
    """
    found = outcomes.ordered()
    if not len(found.probability):
        return ()
    # The band of a probability is that of the last applicant who has it.
    last = np.cumsum(found.rows)
    at = np.ceil(last * BANDS / last[-1]).astype(np.int64)
    return tuple(_band(found.where(at == band)) for band in np.unique(at))


def summary(found: Sequence[Band]) -> Calibration | None:
    """The bands in a few numbers; None without any."""
    rows = sum(band.rows for band in found)
    if not rows:
        return None
    findings = [band.finding for band in found]
    return Calibration(
        mean_probability=sum(band.mean_probability * band.rows for band in found) / rows,
        bad_rate=sum(band.bad_rate * band.rows for band in found) / rows,
        bands=len(found),
        too_low=findings.count("too low"),
        too_high=findings.count("too high"),
    )


def _band(outcomes: Outcomes) -> Band:
    rows, bad = int(outcomes.rows.sum()), float(outcomes.bad.sum())
    probability = outcomes.probability
    mean = float((probability * outcomes.rows).sum() / rows)
    a, b = bad + 0.5, rows - bad + 0.5
    return Band(
        rows=rows,
        lowest=float(probability.min()),
        highest=float(probability.max()),
        mean_probability=mean,
        bad_rate=bad / rows,
        lower=float(betaincinv(a, b, 0.025)),
        upper=float(betaincinv(a, b, 0.975)),
        p_value=float(betainc(a, b, mean)),
    )
