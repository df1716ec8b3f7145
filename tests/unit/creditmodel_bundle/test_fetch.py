"""Fetching a bundle: only the right bytes ever get a name, and every failure says what it is."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from creditmodel_bundle import storage
from creditmodel_bundle.errors import (
    BundleCorrupt,
    BundleInvalid,
    BundleNotStored,
    BundleUnreachable,
    DigestMismatch,
)
from creditmodel_bundle.manifest import REQUIRED
from creditmodel_bundle.storage import fetch, write_bytes, write_file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("form", ["uri", "path", "trailing slash", "localhost"])
def test_a_sound_bundle_arrives_whole(sealed: Any, target: Path, form: str) -> None:
    uri = {
        "uri": sealed.directory.as_uri(),
        "path": str(sealed.directory),
        "trailing slash": sealed.directory.as_uri() + "/",
        "localhost": f"file://localhost{sealed.directory}",
    }[form]
    bundle = fetch(uri, target, sealed.digest)
    assert (bundle.digest, bundle.manifest.name, bundle.uri) == (sealed.digest, "toy", uri)
    assert names(target) == sorted([*REQUIRED, "manifest.json"])
    for name in names(target):
        assert bundle.path(name).read_bytes() == (sealed.directory / name).read_bytes()


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_bit_in_any_file_is_refused_by_the_files_name(
    sealed: Any, target: Path, name: str, place: str
) -> None:
    path = sealed.directory / name
    content = bytearray(path.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[place]] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=rf"{name} has SHA-256 .*the manifest says"):
        fetch(str(sealed.directory), target)
    assert names(target) == []


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_refused_by_its_name(sealed: Any, target: Path, name: str) -> None:
    (sealed.directory / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"{name}, which the manifest names, is missing"):
        fetch(str(sealed.directory), target)
    assert names(target) == []


def test_a_file_with_a_byte_too_many_is_refused(sealed: Any, target: Path) -> None:
    with (sealed.directory / "model.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleCorrupt, match=r"model\.pt has more than the 500000 bytes"):
        fetch(str(sealed.directory), target)


def test_a_file_cut_short_is_refused(sealed: Any, target: Path) -> None:
    path = sealed.directory / "model.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleCorrupt, match=r"model\.pt has 499999 bytes, the manifest says 500000"):
        fetch(str(sealed.directory), target)


def test_a_file_that_the_manifest_does_not_name_is_left_behind(sealed: Any, target: Path) -> None:
    (sealed.directory / "sitecustomize.py").write_text("raise SystemExit")
    fetch(str(sealed.directory), target)
    assert "sitecustomize.py" not in names(target)


def test_an_additional_file_that_the_manifest_names_comes_along(sealed: Any, target: Path) -> None:
    from creditmodel_bundle.manifest import seal

    (sealed.directory / "notes.md").write_bytes(b"signed")
    digest = seal(sealed.directory, "toy", "1")
    assert fetch(str(sealed.directory), target, digest).path("notes.md").read_bytes() == b"signed"


def test_another_digest_is_refused_before_any_file_is_read(sealed: Any, web: Any, target: Path) -> None:
    wanted = "sha256:" + "a" * 64
    with pytest.raises(DigestMismatch, match=f"the bundle's digest is {sealed.digest}, not {wanted}"):
        fetch(web.url, target, wanted)
    assert [path for _, path, _ in web.seen] == ["/manifest.json"]
    assert not target.exists()


@pytest.mark.parametrize(
    "digest", ["", "abc", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:" + "a" * 65]
)
def test_a_digest_that_is_none_is_refused_before_anything_is_asked(web: Any, target: Path, digest: str) -> None:
    with pytest.raises(BundleInvalid, match="is no digest: it takes the form sha256:"):
        fetch(web.url, target, digest)
    assert web.seen == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "a/b",
        "..",
        ".",
        "",
        ".hidden",
        "manifest.json",
        "a\\b",
        "a\nb",
        "a\x00b",
        "x" * 129,
        "~r",
    ],
)
def test_a_manifest_cannot_name_a_file_outside_the_bundle(sealed: Any, tmp_path: Path, target: Path, name: str) -> None:
    entries = [*sealed.entries(), {"path": name, "sha256": "0" * 64, "size": 1}]
    digest = sealed.change(files=entries)
    before = names(tmp_path)
    with pytest.raises(BundleInvalid, match="no plain file name"):
        fetch(str(sealed.directory), target, digest)
    assert names(tmp_path) == before


def test_a_link_in_the_target_is_replaced_and_not_followed(sealed: Any, tmp_path: Path, target: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target.mkdir()
    (target / "model.onnx").symlink_to(victim)
    bundle = fetch(str(sealed.directory), target)
    assert victim.read_text() == "precious"
    assert not bundle.path("model.onnx").is_symlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"name": ""}, "name"),
        ({"created": "yesterday"}, "created"),
        ({"files": []}, "without contract.json, evaluation.json"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_breaks_its_schema_is_refused_by_the_field(
    sealed: Any, target: Path, change: dict[str, object], message: str
) -> None:
    sealed.change(**change)
    with pytest.raises(BundleInvalid, match=rf"manifest\.json: .*{message}"):
        fetch(str(sealed.directory), target)


@pytest.mark.parametrize("size", [-1, 1 << 33, 10**30, 1.5, "many"])
def test_a_size_that_cannot_be_is_refused(sealed: Any, target: Path, size: object) -> None:
    entries = sealed.entries()
    entries[0]["size"] = size
    sealed.change(files=entries)
    with pytest.raises(BundleInvalid, match=r"manifest\.json: .*size"):
        fetch(str(sealed.directory), target)


def test_a_file_listed_twice_is_refused(sealed: Any, target: Path) -> None:
    sealed.change(files=[*sealed.entries(), sealed.entries()[0]])
    with pytest.raises(BundleInvalid, match="a file stands twice"):
        fetch(str(sealed.directory), target)


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_manifest_is_refused(sealed: Any, target: Path, keep: int) -> None:
    path = sealed.directory / "manifest.json"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        fetch(str(sealed.directory), target)


def test_a_manifest_that_is_far_too_large_is_not_read_to_its_end(sealed: Any, target: Path) -> None:
    with (sealed.directory / "manifest.json").open("ab") as file:
        file.write(b" " * (1 << 20))
    with pytest.raises(BundleInvalid, match="over 1048576 bytes"):
        fetch(str(sealed.directory), target)


def test_a_directory_without_a_manifest_is_no_bundle(sealed: Any, target: Path) -> None:
    (sealed.directory / "manifest.json").unlink()
    with pytest.raises(BundleUnreachable, match=r"has no manifest\.json: no bundle is there, or it is not finished"):
        fetch(str(sealed.directory), target)


def test_a_file_is_no_bundle(sealed: Any, target: Path) -> None:
    with pytest.raises(BundleInvalid, match="no directory"):
        fetch(str(sealed.directory / "model.pt"), target)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/x", "begins with file://, https://, http://, s3:// or gs://"),
        ("file://otherhost/x", "names the host 'otherhost'"),
        ("http://host/x?token=1", "query or a fragment"),
        ("file:///a#b", "query or a fragment"),
        ("s3:///key", "names no host or bucket"),
        ("http:///x", "names no host or bucket"),
    ],
)
def test_a_uri_that_cannot_be_is_refused_with_what_is_wrong(target: Path, uri: str, message: str) -> None:
    with pytest.raises(BundleInvalid, match=message):
        fetch(uri, target)


# HTTP


def test_a_bundle_comes_over_http_with_one_plain_request_a_file(sealed: Any, web: Any, target: Path) -> None:
    bundle = fetch(f"{web.url}/models/toy/", target, sealed.digest)
    assert bundle.path("model.onnx").read_bytes() == (sealed.directory / "model.onnx").read_bytes()
    assert {method for method, _, _ in web.seen} == {"GET"}
    assert sorted(path for _, path, _ in web.seen) == sorted(
        f"/models/toy/{name}" for name in [*REQUIRED, "manifest.json"]
    )


def dies(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Promises all, sends half, hangs up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def ends_early(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Names no length, sends half, hangs up: nothing in HTTP tells that from a whole answer."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def breaks_a_chunk(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"100000\r\n" + body[:1000])
    handler.close_connection = True


def once(behaviour: Any, then: Any) -> Any:
    """Misbehaves at the first request only."""
    used: list[int] = []

    def behave(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        used.append(1)
        (behaviour if len(used) == 1 else then)(handler, body)

    return behave


BREAKS = pytest.mark.parametrize("behaviour", [dies, ends_early, breaks_a_chunk], ids=lambda b: b.__name__)


@BREAKS
def test_a_transfer_that_breaks_off_is_tried_again(
    sealed: Any, web: Any, target: Path, behaviour: Any, respond: Callable[..., None]
) -> None:
    web.behave["/model.onnx"] = once(behaviour, respond)
    assert fetch(web.url, target, sealed.digest).digest == sealed.digest
    assert web.count("/model.onnx") == 2


@BREAKS
def test_a_transfer_that_always_breaks_off_ends_after_three_attempts(web: Any, target: Path, behaviour: Any) -> None:
    web.behave["/model.onnx"] = behaviour
    expected = BundleCorrupt if behaviour is ends_early else BundleUnreachable
    with pytest.raises(expected):
        fetch(web.url, target)
    assert web.count("/model.onnx") == 3
    assert names(target) == []


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_that_is_ill_for_a_moment_is_asked_again(
    sealed: Any, web: Any, target: Path, status: int, respond: Callable[..., None]
) -> None:
    web.behave["/manifest.json"] = once(lambda handler, _: respond(handler, b"", status), respond)
    assert fetch(web.url, target).digest == sealed.digest


@pytest.mark.parametrize(
    ("status", "message"), [(401, "access denied"), (403, "access denied"), (404, "no bundle is there")]
)
def test_an_answer_that_stays_the_same_is_not_asked_for_twice(
    web: Any, target: Path, status: int, message: str, respond: Callable[..., None]
) -> None:
    web.behave["/manifest.json"] = lambda handler, _: respond(handler, b"", status)
    with pytest.raises(BundleUnreachable, match=message):
        fetch(web.url, target)
    assert web.count("/manifest.json") == 1


def test_a_server_that_stays_silent_is_given_up(web: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "TIMEOUT_SECONDS", 0.1)
    web.behave["/manifest.json"] = lambda *_: web.stop.wait(20)
    with pytest.raises(BundleUnreachable, match=r"timed out \(tried 3 times\)"):
        fetch(web.url, target)


@pytest.mark.parametrize("path", ["/manifest.json", "/model.onnx"])
def test_a_server_that_sends_drop_by_drop_is_given_up(
    web: Any, target: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(storage, "FILE_SECONDS", 0.2)

    def drips(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body:
            handler.wfile.write(bytes([byte]))
            if web.stop.wait(0.01):
                return

    web.behave[path] = drips
    with pytest.raises(BundleUnreachable, match=r"longer than 0\.2 s \(tried 3 times\)"):
        fetch(web.url, target)
    assert names(target) == []


def test_a_server_that_never_stops_sending_is_cut_off(web: Any, target: Path) -> None:
    def floods(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while not web.stop.is_set():
            handler.wfile.write(b"x" * 65536)

    web.behave["/model.pt"] = floods
    with pytest.raises(BundleCorrupt, match="more than the 500000 bytes"):
        fetch(web.url, target)
    web.behave["/manifest.json"] = floods
    with pytest.raises(BundleInvalid, match="over 1048576 bytes"):
        fetch(web.url, target)


def test_redirects_are_followed_without_the_password(
    sealed: Any, web: Any, target: Path, respond: Callable[..., None]
) -> None:
    for name in [*REQUIRED, "manifest.json"]:
        moved = f"{web.url.replace('127.0.0.1', 'localhost')}/there/{name}"
        web.behave[f"/here/{name}"] = lambda handler, _, moved=moved: respond(handler, b"", 302, Location=moved)
    fetch(f"{web.url.replace('//', '//user:s%40cret@')}/here", target, sealed.digest)
    sent = {path: headers.get("Authorization") for _, path, headers in web.seen}
    assert sent["/here/manifest.json"] == "Basic dXNlcjpzQGNyZXQ="
    assert sent["/there/manifest.json"] is None


def test_redirects_that_lead_nowhere_come_to_an_end(web: Any, target: Path, respond: Callable[..., None]) -> None:
    web.behave["/manifest.json"] = lambda handler, _: respond(handler, b"", 302, Location="/manifest.json")
    with pytest.raises(BundleUnreachable, match="redirect") as refused:
        fetch(web.url, target)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_another_kind_of_address_is_not_followed(
    web: Any, target: Path, location: str, respond: Callable[..., None]
) -> None:
    web.behave["/manifest.json"] = lambda handler, _: respond(handler, b"", 302, Location=location)
    with pytest.raises(BundleUnreachable):
        fetch(web.url, target)


def test_a_server_that_speaks_no_http_is_unreachable(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def nonsense() -> None:
            for _ in range(3):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-hello\r\n")

        thread = threading.Thread(target=nonsense, daemon=True)
        thread.start()
        with pytest.raises(BundleUnreachable, match="makes no sense"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/x", target)
        thread.join(10)


def test_nobody_listening_is_unreachable(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(BundleUnreachable, match=r"refused \(tried 3 times\)"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/x", target)


def test_a_password_in_a_uri_never_reaches_a_message(web: Any, target: Path, respond: Callable[..., None]) -> None:
    web.behave["/manifest.json"] = lambda handler, _: respond(handler, b"", 500)
    with pytest.raises(BundleUnreachable) as failed:
        fetch(web.url.replace("//", "//user:hunter2@"), target)
    assert "hunter2" not in str(failed.value)
    assert "…@127.0.0.1" in str(failed.value)


# The local disk


def test_a_bundle_that_does_not_fit_is_refused_before_it_is_copied(
    sealed: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(BundleNotStored, match=r"it takes 2\d{6} bytes, and 1000 are free"):
        fetch(str(sealed.directory), target)


def test_a_disk_that_fills_up_on_the_way_is_blamed_and_not_the_source(sealed: Any, target: Path) -> None:
    """A process may be told that files end at a size, which fails like a full disk, in the middle of a write."""
    code = (
        "import sys; from pathlib import Path; from creditmodel_bundle.storage import fetch\n"
        "from creditmodel_bundle.errors import BundleError\n"
        "try: fetch(sys.argv[1], Path(sys.argv[2]))\n"
        "except BundleError as e: print(e.reason, e)\n"
    )
    limit = 1_200_000
    done = subprocess.run(
        [sys.executable, "-c", code, str(sealed.directory), str(target)],
        capture_output=True, text=True, timeout=60, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.stdout.startswith("NotStored model.onnx cannot be stored"), done.stderr
    assert names(target) == []


def test_a_target_that_cannot_be_a_directory_is_named(sealed: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleNotStored, match="cannot be stored in"):
        fetch(str(sealed.directory), tmp_path / "file" / "target")


def test_processes_that_fetch_into_one_directory_at_once_all_find_whole_files(sealed: Any, target: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from creditmodel_bundle.storage import fetch\n"
        "for _ in range(8):\n"
        "    bundle = fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3])\n"
        "    for entry in bundle.manifest.files:\n"
        "        assert len(bundle.path(entry.path).read_bytes()) == entry.size, entry.path\n"
    )
    command = [sys.executable, "-c", code, str(sealed.directory), str(target), sealed.digest]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert names(target) == sorted([*REQUIRED, "manifest.json"])


# Writing


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    large = bytes(range(251)) * 10_000  # written in pieces
    for content in (large, memoryview(large[1:]), b"one", b"two"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert names(path.parent) == ["file"]


def test_what_is_no_file_of_its_own_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """`--measurement /dev/stdout`, given as root, must not put a file in the place of the machine's device."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "aim")
    write_file(link, b"said")
    assert (link.is_symlink(), (tmp_path / "aim").read_bytes()) == (True, b"said")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"said")
    assert (pipe.is_fifo(), os.read(reader, 10)) == (True, b"said")
    os.close(reader)


def test_a_file_beside_which_nothing_can_be_created_is_written_in_place(tmp_path: Path) -> None:
    """A termination message is such a file; so is an open file, seen through its descriptor."""
    with (tmp_path / "message").open("w+b") as file:
        file.write(b"something much longer than what follows")
        file.flush()
        write_file(Path(f"/proc/self/fd/{file.fileno()}"), b"said")
        file.seek(0)
        assert file.read() == b"said"


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import sys; from pathlib import Path; from creditmodel_bundle.storage import write_file\n"
        "try: write_file(Path(sys.argv[1]), b'x' * 5000)\n"
        "except OSError as e: print(e.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_object_is_written_to_a_local_uri(tmp_path: Path) -> None:
    write_bytes((tmp_path / "a" / "b.json").as_uri(), json.dumps({}).encode())
    assert (tmp_path / "a" / "b.json").read_bytes() == b"{}"


def test_a_web_server_cannot_be_written_to() -> None:
    with pytest.raises(BundleInvalid, match="cannot be written to: give a file://, s3:// or gs:// URI"):
        write_bytes("http://host/x.html", b"")
