"""evaluation.json, and the same for a person at a terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from creditmodel_bundle.documents import Baseline, Evaluation, Holdout
from creditmodel_training.evaluation.baselines import LOGISTIC_REGRESSION
from creditmodel_training.evaluation.metrics import Labels, Numbers, calibration, discrimination

__all__ = ["comparison", "evaluate", "table", "trails_logistic_regression"]


def evaluate(
    x: npt.NDArray[np.float32],
    y: Labels,
    probability: Numbers,
    baselines: list[Baseline],
) -> Evaluation:
    """The evaluation of hold-out rows [N, F] with labels [N] and predicted probabilities of default [N]."""
    figures = discrimination(y, probability)
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes()).hexdigest()
    return Evaluation(
        holdout=Holdout(rows=len(y), bad_rate=float(y.mean()), sha256=digest),
        auc=figures.auc,
        ks=figures.ks,
        gini=figures.gini,
        brier=figures.brier,
        calibration=calibration(y, probability),
        baselines=baselines,
    )


def table(name: str, evaluation: Evaluation) -> Iterator[str]:
    """Lines: the model beside its baselines, then its calibration by band."""
    own = Baseline(name=name, auc=evaluation.auc, ks=evaluation.ks, gini=evaluation.gini, brier=evaluation.brier)
    models = [own, *evaluation.baselines]
    width = max(len(model.name) for model in models)
    yield f"{'hold-out':{width}}     AUC      KS    Gini   Brier"
    for model in models:
        yield f"{model.name:{width}}  {model.auc:6.4f}  {model.ks:6.4f}  {model.gini:6.4f}  {model.brier:6.4f}"
    yield ""
    yield f"{'band':>4}  {'rows':>6}  {'predicted':>9}  {'observed':>8}  95 % interval"
    for band in evaluation.calibration:
        inside = "" if band.lower <= band.mean_probability <= band.upper else "  outside"
        yield (
            f"{band.band:>4}  {band.rows:>6}  {band.mean_probability:>9.2%}  {band.bad_rate:>8.2%}"
            f"  {band.lower:.2%} to {band.upper:.2%}{inside}"
        )


def comparison(evaluation: Evaluation) -> str:
    """One sentence: by how much AUC the network beats or trails each baseline."""
    parts = [
        f"{_verb(evaluation.auc - b.auc)} {b.name} by {abs(evaluation.auc - b.auc):.4f}" for b in evaluation.baselines
    ]
    return f"By AUC the network {' and '.join(parts)}."


def trails_logistic_regression(evaluation: Evaluation) -> bool:
    """Whether the network is worse than the logistic regression, and so is not worth its complexity."""
    linear = {baseline.name: baseline.auc for baseline in evaluation.baselines}
    return evaluation.auc < linear.get(LOGISTIC_REGRESSION, 0.0)


def _verb(difference: float) -> str:
    return "beats" if difference >= 0 else "trails"
