"""Calibration: the slope and intercept that make log-odds agree with observed defaults.

The slope comes from rows that training has not seen, since training makes scores too extreme on its own rows. The
intercept comes from all development rows: it is one number, which training cannot overfit, and the default rate of a
few thousand validation rows is off by more than the model is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["centred", "platt"]

ITERATIONS = 50
MIN_SLOPE, MAX_SLOPE = 0.25, 4.0
"""A slope outside says that there is no signal, or too few rows, and must not turn or blow up the score."""

Array = npt.NDArray[np.float64]


def platt(log_odds: Array, y: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Maximum-likelihood (slope, intercept) by Newton's method, with one pseudo-row of ridge towards (1, 0).

    Source: Platt, Probabilistic outputs for support vector machines (1999).
    """
    design = np.stack([log_odds, np.ones_like(log_odds)], axis=1)
    at = np.array([1.0, 0.0])
    for _ in range(ITERATIONS):
        probability = 1 / (1 + np.exp(-design @ at))
        gradient = design.T @ (y - probability) - (at - [1.0, 0.0])
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        at = at + step
        if np.abs(step).max() < 1e-10:
            break
    if not MIN_SLOPE <= at[0] <= MAX_SLOPE:
        return 1.0, 0.0
    return float(at[0]), float(at[1])


def centred(log_odds: Array, y: npt.NDArray[np.int8]) -> float:
    """The intercept with which the mean probability equals the default rate. Needs both labels among `y`."""
    intercept = 0.0
    for _ in range(ITERATIONS):
        probability = 1 / (1 + np.exp(-(log_odds + intercept)))
        step = float((y - probability).sum() / (probability * (1 - probability)).sum())
        intercept += max(-1.0, min(1.0, step))
        if abs(step) < 1e-10:
            break
    return intercept
