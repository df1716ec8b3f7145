"""The API server's command on a state that something has damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from creditmodel_sandbox.apiserver.credentials import Credentials
from creditmodel_sandbox.apiserver.main import main


def test_a_damaged_database_is_named_with_what_makes_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "objects.db").write_bytes(b"\x17" * 5000)
    assert main(["--state-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'objects.db'} cannot be used (file is not a database): it is damaged, and `reset`" in said


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    assert len(Credentials.open(tmp_path).token) > 20
