from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.environment import Materials, Paths, Sources
from creditmodel_sandbox.node.launch import PodContext, user_of, working_directory


def context(pod: Any, directory: Path, warnings: list[str], **security: Any) -> PodContext:
    return PodContext(
        sources=Sources(pod(securityContext=security), Materials(), {}, {}),
        directory=directory,
        logs=directory,
        identity="n",
        volumes={},
        given={},
        session=None,
        warn=lambda reason, message, container: warnings.append(f"{reason} {container}: {message}"),
    )


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("as_root")
def test_a_user_that_can_reach_the_files_is_taken(pod: Any) -> None:
    told: list[str] = []
    place = Path("/usr/bin")
    container = {"name": "c", "securityContext": {"runAsGroup": 7}}
    assert user_of(context(pod, place, told, runAsUser=5), container, [place]) == (5, 7)
    assert user_of(context(pod, place, told, runAsUser=5), {"name": "c"}, [place]) == (5, 5)
    assert user_of(context(pod, place, told), {"name": "c"}, [place]) == (None, None)
    assert told == []


@pytest.mark.usefixtures("as_root")
def test_a_user_that_cannot_reach_the_files_is_ignored_and_that_is_said(pod: Any, tmp_path: Path) -> None:
    told: list[str] = []
    tmp_path.chmod(0o700)
    assert user_of(context(pod, tmp_path, told, runAsUser=5), {"name": "c"}, [tmp_path]) == (None, None)
    assert told[0].startswith("RunAsUserIgnored c: runAsUser 5 is ignored: that user cannot enter")


def test_only_root_changes_users(pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_of(context(pod, tmp_path, [], runAsUser=5), {"name": "c"}, [tmp_path]) == (None, None)


def test_the_working_directory_is_the_mounted_one_or_the_machines_or_one_of_its_own(tmp_path: Path) -> None:
    real, own = tmp_path / "real", tmp_path / "own"
    real.mkdir()
    own.mkdir()
    paths = Paths({"/data": real})
    assert working_directory({}, paths, own) == own
    assert working_directory({"workingDir": "/data"}, paths, own) == real
    assert working_directory({"workingDir": "/usr"}, paths, own) == Path("/usr")
    assert working_directory({"workingDir": "/no/such"}, paths, own) == own / "no/such"
    assert (own / "no/such").is_dir()
