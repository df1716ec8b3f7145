"""The models that the network is compared with: logistic regression and gradient-boosted trees, on the same split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from creditmodel_bundle.contract import Feature
from creditmodel_bundle.documents import Baseline
from creditmodel_training.evaluation.metrics import discrimination
from creditmodel_training.prepare import HOLDOUT, Prepared

__all__ = ["GRADIENT_BOOSTING", "LOGISTIC_REGRESSION", "baselines"]

LOGISTIC_REGRESSION = "logistic regression"
GRADIENT_BOOSTING = "gradient boosting"
MAX_TREE_CATEGORIES = 255

Matrix = npt.NDArray[np.float64]


def baselines(data: Prepared, seed: int) -> list[Baseline]:
    """Both baselines, fitted on training and validation rows and judged on the hold-out."""
    x = data.x.astype(np.float64)
    known = np.flatnonzero(data.part != HOLDOUT)
    held = data.rows(HOLDOUT)
    models = {LOGISTIC_REGRESSION: _logistic(data.features, x[known]), GRADIENT_BOOSTING: _trees(data.features, seed)}
    # One thread: on a shared machine the trees' threads spend their time waiting for each other.
    with threadpool_limits(limits=1):
        return [_judged(name, model, x, data.y, known, held) for name, model in models.items()]


def _judged(
    name: str,
    model: Any,
    x: Matrix,
    y: npt.NDArray[np.int8],
    known: npt.NDArray[np.intp],
    held: npt.NDArray[np.intp],
) -> Baseline:
    probability = model.fit(x[known], y[known]).predict_proba(x[held])[:, 1]
    figures = discrimination(y[held], probability)
    return Baseline(name=name, auc=figures.auc, ks=figures.ks, gini=figures.gini, brier=figures.brier)


def _logistic(features: Sequence[Feature], x: Matrix) -> Any:
    """Standardised numbers with missing flags, one-hot categories. Columns without a value are left out."""
    usable = [i for i in range(len(features)) if not np.isnan(x[:, i]).all()]
    numbers = [i for i in usable if features[i].dtype != "category"]
    categories = [i for i in usable if features[i].dtype == "category"]
    number_steps = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    category_steps = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("numbers", number_steps, numbers), ("categories", category_steps, categories)])
    return make_pipeline(columns, LogisticRegression(max_iter=2000))


def _trees(features: Sequence[Feature], seed: int) -> Any:
    categories = [
        i for i, f in enumerate(features) if f.dtype == "category" and len(f.categories) <= MAX_TREE_CATEGORIES
    ]
    return HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.06,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        categorical_features=categories or None,
        random_state=seed,
    )
