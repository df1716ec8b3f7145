"""What a network's answers must be to one another before a bundle is made of it: reasons that are the score's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from creditmodel_bundle.contract import Feature
from creditmodel_training.errors import NetworkError
from creditmodel_training.model import CreditNetwork

__all__ = ["baseline_of", "check_directions"]

MAX_REST = 1e-4
"""By how much a score may differ from its explanation: a hundredth of a point at 20 points to double the odds."""

DIRECTION_ROWS, DIRECTION_VALUES = 64, 17
"""Applicants, and values of each monotonic feature, with which directions are tried."""

Floats = npt.NDArray[np.float32]


def baseline_of(network: CreditNetwork, x: npt.NDArray[np.float32]) -> float:
    """What contributions leave over of the log-odds, the same for all encoded rows [N, F].

    Raises NetworkError for a network whose answers do not explain one another: its reasons would not be the score's.
    """
    try:
        with torch.inference_mode():
            answers = network(torch.from_numpy(np.ascontiguousarray(x)))
            log_odds, probability, contributions = (answer.numpy().astype(np.float64) for answer in answers)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as e:
        raise NetworkError(f"the network fails on {list(x.shape)} encoded rows: {e}") from e
    shapes = [list(answer.shape) for answer in (log_odds, probability, contributions)]
    if shapes != [[len(x)], [len(x)], list(x.shape)]:
        raise NetworkError(f"the answers have the shapes {shapes}, not [B], [B] and [B, F]: for {list(x.shape)} rows")
    rest = log_odds - contributions.sum(axis=1)
    baseline = float(np.median(rest))
    if not np.abs(rest - baseline).max() <= MAX_REST:
        raise NetworkError(
            f"log_odds minus the sum of contributions is no constant: {rest.min():.6g} to {rest.max():.6g}; "
            "creditmodel_training.model.attributed makes contributions that add up, for any network"
        )
    if not np.abs(probability - 1 / (1 + np.exp(-log_odds))).max() <= MAX_REST:
        raise NetworkError("probability is not the sigmoid of log_odds")
    return baseline


def check_directions(network: CreditNetwork, features: Sequence[Feature], x: Floats) -> None:
    """Raise NetworkError where log-odds fall as a feature moves in the direction in which the contract says they rise.

    Tried on some of the encoded rows [N, F]: it can find a wrong direction, and cannot prove a right one.
    """
    some = x[np.linspace(0, len(x) - 1, min(DIRECTION_ROWS, len(x))).astype(np.intp)]
    for column, feature in enumerate(features):
        known = x[~np.isnan(x[:, column]), column]
        if feature.monotonic == "none" or not len(known):
            continue
        values = np.unique(np.quantile(known, np.linspace(0, 1, DIRECTION_VALUES), method="nearest"))
        rows = np.repeat(some, len(values), axis=0)
        rows[:, column] = np.tile(values, len(some))
        with torch.inference_mode():
            log_odds = network(torch.from_numpy(rows))[0].numpy().reshape(len(some), len(values))
        rises = np.diff(log_odds, axis=1) * (1 if feature.monotonic == "increasing" else -1)
        if rises.size and rises.min() < -MAX_REST:
            at = int(rises.min(axis=0).argmin())
            raise NetworkError(
                f"the schema says that the PD is {feature.monotonic} in {feature.name}, but between {values[at]:g} and "
                f"{values[at + 1]:g} log-odds move the other way, by {-rises.min():.3g}"
            )
