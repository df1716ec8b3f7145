"""Reading a kubeconfig, and what errors become."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from creditmodel_sandbox.client import (
    ApiError,
    Client,
    Kubeconfig,
    KubeconfigError,
    Resource,
    Unreachable,
    load_kubeconfig,
)

PODS = Resource("v1", "pods", "Pod")


def a_kubeconfig(path: Path, **changes: Any) -> Path:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        **changes,
    }
    file = path / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def test_the_current_context_is_read(tmp_path: Path) -> None:
    config = load_kubeconfig(a_kubeconfig(tmp_path))
    assert (config.server, config.authorization()) == ("http://127.0.0.1:1", "Bearer secret")


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    config = load_kubeconfig(a_kubeconfig(tmp_path, users=[{"name": "u", "user": {"tokenFile": "token"}}]))
    assert config.authorization() == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert config.authorization() == "Bearer two"


def test_certificates_of_a_test_authority_are_not_held_to_the_letter(tmp_path: Path) -> None:
    config = load_kubeconfig(
        a_kubeconfig(tmp_path, clusters=[{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}])
    )
    assert isinstance(config.ssl, ssl.SSLContext)
    assert not config.ssl.verify_flags & ssl.VERIFY_X509_STRICT
    assert config.ssl.verify_mode is ssl.CERT_REQUIRED


# Each case: what is wrong, and the words that say so.
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"current-context": "there"}, "no entry named 'there' under contexts"),
    ({"clusters": []}, "no entry named 'c' under clusters"),
    ({"users": [{"name": "u", "user": {"exec": {}}}]}, "user 'u' uses exec"),
    (
        {"clusters": [{"name": "c", "cluster": {"server": "https://h", "tls-server-name": "x"}}]},
        "cluster 'c' uses tls-server-name",
    ),
    (
        {"clusters": [{"name": "c", "cluster": {"server": "https://h", "certificate-authority": "missing.crt"}}]},
        "certificate-authority of .* cannot be read",
    ),
    (
        {"clusters": [{"name": "c", "cluster": {"server": "https://h", "certificate-authority-data": "!"}}]},
        "certificate-authority of .* cannot be read",
    ),
    (
        {"clusters": [{"name": "c", "cluster": {
            "server": "https://h", "certificate-authority-data": base64.b64encode(b"no PEM").decode()}}]},
        "certificates of .* cannot be used",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        load_kubeconfig(a_kubeconfig(tmp_path, **changes))


@pytest.mark.parametrize(("text", "message"), [("a: [", "is not YAML"), ("just text", "is not a mapping")])
def test_a_file_that_is_no_kubeconfig_says_so(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(KubeconfigError, match=message):
        load_kubeconfig(file)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="missing"):
        load_kubeconfig(tmp_path / "missing")


async def test_no_answer_is_unreachable() -> None:
    async with Client(Kubeconfig("http://127.0.0.1:1", ssl=True), "test") as client:
        with pytest.raises(Unreachable, match="GET /api/v1/namespaces/ns/pods/a"):
            await client.get(PODS, "ns", "a")


async def test_an_error_status_keeps_its_reason_and_causes() -> None:
    async def refuse(_: web.Request) -> web.Response:
        details = {"causes": [{"reason": "NamespaceTerminating"}]}
        status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no", "details": details}
        return web.json_response(status, status=403)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app, host="127.0.0.1") as server:
        config = Kubeconfig(str(server.make_url("")).rstrip("/"), ssl=True)
        async with Client(config, "test") as client:
            with pytest.raises(ApiError, match="403 Forbidden: no") as caught:
                await client.create(PODS, "ns", {"metadata": {"name": "a"}})
    assert caught.value.causes == ("NamespaceTerminating",)
