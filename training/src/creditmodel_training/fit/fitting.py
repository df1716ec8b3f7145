"""From prepared data to a calibrated scoring network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from creditmodel_training.fit.additive import AdditiveNetwork, Pair
from creditmodel_training.fit.basis import FeatureBasis, build_basis
from creditmodel_training.fit.calibrate import centred, platt
from creditmodel_training.fit.interactions import select_pairs
from creditmodel_training.fit.loop import Rows, Settings, Stopped, losses, train
from creditmodel_training.model.network import ScoringNetwork, ScoringTensors, score
from creditmodel_training.prepare import TRAIN, VALIDATION, Prepared

__all__ = ["Fitted", "fit"]

MIN_MISSING = 30
"""With fewer training rows in which a feature is missing, missing counts as the feature's average effect."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The network, the pairs that interact, and where training stopped (shapes, then shapes with interactions)."""

    network: ScoringNetwork
    pairs: list[Pair]
    shapes: Stopped
    interactions: Stopped | None
    calibration: tuple[float, float]


def fit(data: Prepared, settings: Settings) -> Fitted:
    """Fit shapes, then interactions on top, and calibrate on the validation rows.

    Runs on one thread: sums are then taken in one order, and the same data and seed give the same bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fit(data, settings)
    finally:
        torch.set_num_threads(threads)


def _fit(data: Prepared, settings: Settings) -> Fitted:
    training, validation = _rows(data, TRAIN), _rows(data, VALIDATION)
    bases = build_basis(data.features, training.x)
    rate = float(training.y.mean())
    network = AdditiveNetwork(bases, [], float(np.log(rate / (1 - rate))))
    shapes = train(network, training, validation, settings, "shapes")
    network, interactions = _with_interactions(network, training, validation, settings)
    tensors = _settled(network, bases, training)
    slope, intercept = _calibration(tensors, training, validation)
    calibrated = _calibrated(tensors, slope, intercept)
    return Fitted(ScoringNetwork(calibrated).eval(), network.pairs, shapes, interactions, (slope, intercept))


def _rows(data: Prepared, part: int) -> Rows:
    rows = data.rows(part)
    return Rows(data.x[rows], data.y[rows])


def _with_interactions(
    shapes_only: AdditiveNetwork, training: Rows, validation: Rows, settings: Settings
) -> tuple[AdditiveNetwork, Stopped | None]:
    """The network with interactions where they lower the validation loss by more than chance, else the one without.

    More than chance is more than one standard error. Interactions are stopped at their best epoch, so that they nearly
    always lower it by something, and on a few hundred validation rows that something is noise.
    """
    pairs = _pairs(shapes_only, training, settings.interactions)
    if not pairs:
        return shapes_only, None
    network = AdditiveNetwork(shapes_only.bases, pairs, 0.0)
    learned = {name: value for name, value in shapes_only.state_dict().items() if name != "cells"}
    network.load_state_dict(learned, strict=False)
    stopped = train(network, training, validation, settings, "interactions")
    gains = losses(shapes_only, validation) - losses(network, validation)
    is_better = gains.mean() > gains.std() / np.sqrt(len(gains))
    return (network, stopped) if is_better else (shapes_only, None)


def _pairs(network: AdditiveNetwork, training: Rows, count: int) -> list[Pair]:
    if not count:
        return []
    with torch.inference_mode():
        log_odds, contributions = score(network.tensors(), torch.from_numpy(training.x))
    importance = contributions.std(0).numpy().astype(np.float64)
    return select_pairs(network.bases, training.x, training.y, log_odds.numpy().astype(np.float64), importance, count)


def _settled(network: AdditiveNetwork, bases: list[FeatureBasis], training: Rows) -> ScoringTensors:
    """The tensors without gradients; what training rows cannot teach is set to the feature's average effect.

    That is the effect of an unseen category, and of a missing value that was rarer than MIN_MISSING.
    """
    with torch.no_grad():
        for feature, basis in enumerate(bases):
            column = training.x[:, feature].astype(np.float64)
            known = column[~np.isnan(column)]
            at = network.slices[feature]
            rises = network.effective_rises()[at].numpy()
            average = float(np.mean(basis.coordinates(known) @ rises)) if len(known) else 0.0
            if len(column) - len(known) < MIN_MISSING:
                network.absent[feature] = average - float((basis.coordinates(np.array([basis.neutral])) @ rises)[0])
            if basis.codes is not None:
                network.rises[at] -= average  # no indicator at all, an unseen category, then means the average
    detached = network.tensors()
    return replace(detached, **{name: getattr(detached, name).detach() for name in ScoringTensors.__slots__})


def _calibration(tensors: ScoringTensors, training: Rows, validation: Rows) -> tuple[float, float]:
    learned, unseen = _log_odds(tensors, training.x), _log_odds(tensors, validation.x)
    slope, _ = platt(unseen, validation.y)
    together = slope * np.concatenate([learned, unseen])
    return slope, centred(together, np.concatenate([training.y, validation.y]))


def _calibrated(tensors: ScoringTensors, slope: float, intercept: float) -> ScoringTensors:
    """The tensors whose log-odds are slope·(log-odds) + intercept, contributions included."""
    return replace(
        tensors,
        weights=tensors.weights * slope,
        offset=tensors.offset * slope,
        absent=tensors.absent * slope,
        pair_weights=tensors.pair_weights * slope,
        pair_bias=tensors.pair_bias * slope,
        baseline=tensors.baseline * slope + intercept,
    )


def _log_odds(tensors: ScoringTensors, x: npt.NDArray[np.float32]) -> Array:
    with torch.inference_mode():
        return score(tensors, torch.from_numpy(x))[0].numpy().astype(np.float64)
