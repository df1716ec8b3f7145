"""What the README shows is what the repository has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()


def test_the_commented_credit_model_is_the_sample() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    sample = (ROOT / "manifests" / "samples" / "creditmodel.yaml").read_text()
    assert sample.endswith(shown.group(1))
    assert shown.group(1).startswith("apiVersion")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", README, re.MULTILINE))))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("folder", sorted(set(re.findall(r"`([a-z]+)/`", README))))
def test_every_folder_on_the_map_exists(folder: str) -> None:
    assert any((parent / folder).is_dir() for parent in (ROOT, ROOT / "tests"))
