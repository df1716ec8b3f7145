"""A server that asks for API keys."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]


def line(name: str, key: str) -> str:
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


def test_a_server_with_keys_answers_only_to_them(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(line("a", "first"))
    server = start(
        bundle, "--api-keys-file", str(keys), "--scoring-log", (tmp_path / "log").as_uri(), "--drain-seconds", "0"
    )
    server.wait_ready()

    def status(count: int, **headers: str) -> int:
        body = json.dumps({"applicants": applicants(count)}).encode()
        answer = server.request("POST", "/v1/score", body, content_type="application/json", **headers)
        if answer.status != 200:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json["status"] == answer.status
        return int(answer.status)

    for count in (1, 300):  # the short way, and through ASGI
        assert status(count) == 401
        assert status(count, x_api_key="second") == 403
        assert status(count, authorization="Bearer first") == 200
    assert server.request("GET", "/v1/model").status == 401
    assert server.request("POST", "/v2/models/sample/infer", b"{}").headers["www-authenticate"].startswith("Bearer")
    for free in ("/healthz/ready", "/metrics", "/docs", "/v2/health/ready"):
        assert server.request("GET", free).status == 200
    operation = server.request("GET", "/openapi.json").json["paths"]["/v1/score"]["post"]
    assert operation["security"]
    assert {"401", "403", "429"} <= set(operation["responses"])
    keys.write_text(line("b", "second"))
    deadline = time.monotonic() + 60
    while status(1, x_api_key="second") != 200:
        assert time.monotonic() < deadline
    assert status(1, x_api_key="first") == 403
    assert server.stop() == 0


@pytest.mark.parametrize("content", [None, "broken"])
def test_a_keys_file_that_cannot_be_used_keeps_a_server_from_starting(
    bundle: Path, tmp_path: Path, content: str | None
) -> None:
    import subprocess
    import sys

    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    command = [str(Path(sys.executable).with_name("creditmodel-serve")), "--bundle", bundle.as_uri(), "--port", "0"]
    command += ["--api-keys-file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
