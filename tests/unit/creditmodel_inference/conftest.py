"""A small bundle, and a model loaded from it."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
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


@pytest.fixture
def fuzzed() -> Callable[..., str]:
    """A function: run a script beside this file with a library in C and a count; what it prints. Its failure fails."""

    def run(script: str, library: str, count: int, **environment: str) -> str:
        command = [sys.executable, str(Path(__file__).with_name(script)), library, str(count)]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def sanitized(tmp_path: Path) -> Callable[[str], tuple[str, dict[str, str]]]:
    """A function: a file of inference/native built with sanitizers, and the environment in which Python can load it."""

    def gcc(*arguments: str) -> str:
        command = [shutil.which("gcc") or "gcc", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def build(name: str) -> tuple[str, dict[str, str]]:
        source, library = ROOT / "inference/native" / name, str(tmp_path / "sanitized.so")
        checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
        gcc("-std=c11", *checks, "-shared", "-fPIC", str(source), "-o", library, "-lm")
        preloaded = gcc("-print-file-name=libasan.so").strip()
        # Python's own memory, with the tables in it, is fenced where each block comes from malloc.
        return library, {"LD_PRELOAD": preloaded, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}

    return build
