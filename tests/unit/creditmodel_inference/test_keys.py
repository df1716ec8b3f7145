"""API keys: known, unknown, too often, and a file that changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from creditmodel_inference.errors import Forbidden, TooFast, Unauthorized
from creditmodel_inference.keys import Keys, KeysInvalid, is_guarded


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.write_text(f"# clients\n\nbranch {hashed('one')}\nweb {hashed('two').upper()} 2\n")
    return made


def test_a_key_is_known_by_either_header(path: Path) -> None:
    keys = Keys(path)
    assert keys.check({b"authorization": b"Bearer one"}) == "branch"
    assert keys.check({b"authorization": b"bearer  one"}) == "branch"
    assert keys.check({b"x-api-key": b"two"}) == "web"


@pytest.mark.parametrize(
    "headers", [{}, {b"authorization": b"Basic one"}, {b"authorization": b"Bearer "}, {b"x-api-key": b""}]
)
def test_no_key_is_401_with_a_challenge(path: Path, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Unauthorized) as caught:
        Keys(path).check(headers)
    assert caught.value.headers[0][0] == "www-authenticate"


@pytest.mark.parametrize("key", [b"three", b"One", b"one ", hashed("one").encode(), b"\xff"])
def test_another_key_is_403(path: Path, key: bytes) -> None:
    with pytest.raises(Forbidden):
        Keys(path).check({b"x-api-key": key})


def test_a_key_may_send_its_rate_and_a_burst_of_one_second(path: Path) -> None:
    keys = Keys(path)
    web = {b"x-api-key": b"two"}
    keys.check(web, now=1e9)
    keys.check(web, now=1e9)
    with pytest.raises(TooFast) as caught:
        keys.check(web, now=1e9)
    assert caught.value.headers == (("retry-after", "1"),)
    keys.check(web, now=1e9 + 0.5)
    with pytest.raises(TooFast):
        keys.check(web, now=1e9 + 0.6)
    keys.check({b"x-api-key": b"one"}, now=1e9)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(path: Path) -> None:
    keys = Keys(path)
    path.write_text(f"new {hashed('three')}\n")
    keys.refresh()
    assert keys.check({b"x-api-key": b"three"}) == "new"
    with pytest.raises(Forbidden):
        keys.check({b"x-api-key": b"one"})
    path.write_text("broken\n")
    keys.refresh()
    assert keys.check({b"x-api-key": b"three"}) == "new"
    path.unlink()
    keys.refresh()
    assert keys.check({b"x-api-key": b"three"}) == "new"
    path.write_text(f"last {hashed('four')}\n")
    keys.refresh()
    assert keys.check({b"x-api-key": b"four"}) == "last"


@pytest.mark.parametrize("line", ["name", "name 12", f"na/me {'0' * 64}", f"name {'0' * 64} 0", f"name {'g' * 64}"])
def test_a_line_of_another_form_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# a comment\n{line}\n")
    with pytest.raises(KeysInvalid, match="line 2"):
        Keys(path)


def test_probes_metrics_and_documentation_need_no_key() -> None:
    guarded = ["/v1/score", "/v1/model", "/v2", "/v2/models/m/infer"]
    free = ["/healthz/live", "/healthz/ready", "/metrics", "/docs", "/openapi.json", "/v2/health/ready"]
    assert [path for path in guarded + free if is_guarded(path)] == guarded
