"""A small bundle, and a model loaded from it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_inference.scorer import Scorer, load

Row = dict[str, Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def sample() -> dict[str, Any]:
    """What the module that writes the sample bundle defines."""
    return runpy.run_path(str(ROOT / "tests/bench/serving/sample_bundle.py"))


@pytest.fixture(scope="session")
def bundle(sample: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample bundle's directory."""
    directory = tmp_path_factory.mktemp("bundle")
    sample["write"](directory)
    return directory


@pytest.fixture(scope="session")
def applicants(sample: dict[str, Any]) -> Callable[..., list[Row]]:
    """Makes applicants that the contract accepts."""
    made: Callable[..., list[Row]] = sample["applicants"]
    return made


@pytest.fixture(scope="session")
def contract(sample: dict[str, Any]) -> Contract:
    """The sample bundle's contract."""
    made: Contract = sample["contract"]()
    return made


@pytest.fixture(scope="session")
def scorer(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """The sample model, loaded as the server loads it."""
    return load(bundle.as_uri(), None, "sample-r1", tmp_path_factory.mktemp("fetched"))
