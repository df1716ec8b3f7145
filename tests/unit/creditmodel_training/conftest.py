"""One small model, trained once on real clients, that the tests of training look at from all sides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from creditmodel_bundle.contract import ScoreScale
from creditmodel_bundle.storage import Bundle, fetch
from creditmodel_training.bundling import Meaning, default_cutoffs, scores, write_bundle
from creditmodel_training.data import uci
from creditmodel_training.evaluation.report import evaluate
from creditmodel_training.fit.fitting import Fitted, fit
from creditmodel_training.fit.loop import Settings
from creditmodel_training.prepare import HOLDOUT, Prepared, prepare

QUICK = Settings(epochs=8, batch=128, learning_rate=0.01, interactions=5)


@pytest.fixture(scope="session")
def clients() -> Prepared:
    """6,000 clients as of September 2005."""
    return prepare(uci.snapshot("2005-09").slice(0, 6000), uci.SCHEMA)


@pytest.fixture(scope="session")
def fitted(clients: Prepared) -> Fitted:
    """A network for them, with interactions."""
    return fit(clients, QUICK)


@pytest.fixture(scope="session")
def bundle(write: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle, fetched and verified."""
    directory = tmp_path_factory.mktemp("trained")
    digest = write(directory / "bundle")
    return fetch(str(directory / "bundle"), directory / "fetched", digest)


@pytest.fixture(scope="session")
def write(clients: Prepared, fitted: Fitted) -> Callable[..., str]:
    """Write the network's bundle to a directory and return its digest."""
    held = clients.rows(HOLDOUT)
    evaluation = evaluate(clients.x[held], clients.y[held], scores(fitted.network, clients.x[held])[1], [])
    meaning = Meaning("clients", "1.0.0", default_cutoffs(float(clients.y.mean())), ScoreScale())
    return lambda out, **options: write_bundle(out, clients, fitted.network, evaluation, meaning, **options)
