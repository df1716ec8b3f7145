from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from creditmodel_sandbox.node.kubelet_api import BadQuery, log_query, self_signed
from creditmodel_sandbox.node.logs import LogQuery
from creditmodel_sandbox.node.register import node_object


def test_log_options_are_read_as_the_api_server_sends_them() -> None:
    query = {"tailLines": "5", "timestamps": "True", "limitBytes": "100", "sinceSeconds": "10", "follow": "true"}
    assert log_query(query, 100.0) == LogQuery(5, "1970-01-01T00:01:30.000000000Z", timestamps=True, limit_bytes=100)
    assert log_query({"sinceTime": "2026-01-02T03:04:05Z"}, 0).since == "2026-01-02T03:04:05.000000000Z"
    assert log_query({}, 0) == LogQuery()


@pytest.mark.parametrize("query", [{"tailLines": "-1"}, {"limitBytes": "x"}, {"sinceTime": "yesterday"}])
def test_a_wrong_log_option_is_named(query: dict[str, str]) -> None:
    with pytest.raises(BadQuery, match=next(iter(query))):
        log_query(query, 0)


def test_a_certificate_is_made_for_servers_that_ask_over_tls(tmp_path: Path) -> None:
    assert isinstance(self_signed(tmp_path, "127.0.0.1"), ssl.SSLContext)
    assert (tmp_path / "kubelet.pem").stat().st_mode & 0o077 == 0


def test_a_node_says_when_it_is_not_ready() -> None:
    conditions = node_object("n", "127.0.0.1", 1, 0.0, ready=False)["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions}["Ready"] == "False"
