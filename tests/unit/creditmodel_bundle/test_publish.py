"""A bundle appears under a URI whole and once, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from creditmodel_bundle import storage
from creditmodel_bundle.errors import BundleCorrupt, BundleExists, BundleInvalid, BundleNotStored, BundleUnreachable
from creditmodel_bundle.storage import fetch, publish


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_published_bundle_is_the_one_that_was_made(sealed: Any, tmp_path: Path) -> None:
    uri = (tmp_path / "models" / "credit-e1").as_uri()
    assert publish(sealed.directory, uri).digest == sealed.digest
    assert fetch(uri, tmp_path / "again").digest == sealed.digest
    assert contents(tmp_path / "models" / "credit-e1") == contents(sealed.directory)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["credit-e1"]


def test_what_lies_there_stays(sealed: Any, tmp_path: Path) -> None:
    target = tmp_path / "there"
    shutil.copytree(sealed.directory, target)
    before = contents(target)
    with pytest.raises(BundleExists, match="holds a bundle already"):
        publish(sealed.directory, target.as_uri())
    (target / "manifest.json").unlink()
    with pytest.raises(BundleExists, match="is not empty"):
        publish(sealed.directory, target.as_uri())
    assert contents(target) == {name: raw for name, raw in before.items() if name != "manifest.json"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_copy_fails_of_is_said_in_one_sentence(sealed: Any, tmp_path: Path) -> None:
    (sealed.directory / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleNotStored, match=r"cannot be written: \[Errno 2\] No such file or directory: '[^']*'$"):
        publish(sealed.directory, (tmp_path / "there").as_uri())


def test_a_copy_that_breaks_off_leaves_nothing(sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("creditmodel_bundle.storage.shutil.copytree", full)
    with pytest.raises(BundleNotStored, match="No space left"):
        publish(sealed.directory, (tmp_path / "models" / "credit-e1").as_uri())
    assert list((tmp_path / "models").iterdir()) == []


class Store:
    """An object store that has no rename: files appear one by one."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.written, self.fail_at = root, [], ""
        monkeypatch.setattr(storage, "local_path", lambda _uri: None)
        monkeypatch.setattr(storage, "write_bytes", self.write)

    written: list[str]

    def write(self, uri: str, content: bytes) -> None:
        name = uri.rsplit("/", 1)[1]
        if name == self.fail_at:
            raise BundleUnreachable(f"{uri}: connection reset")
        self.written.append(name)
        self.root.mkdir(exist_ok=True)
        (self.root / name).write_bytes(content)


def test_in_a_store_the_manifest_goes_last_and_nothing_that_was_cut_off_is_a_bundle(
    sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bucket"
    store = Store(root, monkeypatch)
    store.fail_at = "reference.parquet"
    with pytest.raises(BundleUnreachable):
        publish(sealed.directory, root.as_uri())
    assert not (root / "manifest.json").exists()
    store.fail_at = ""
    assert publish(sealed.directory, root.as_uri()).digest == sealed.digest
    assert store.written[-1] == "manifest.json"


def test_what_another_writer_mixed_in_is_noticed_before_anything_is_reported(
    sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bucket"
    store = Store(root, monkeypatch)
    write = store.write

    def mixed(uri: str, content: bytes) -> None:
        write(uri, content)
        if uri.endswith("manifest.json"):
            write(uri.replace("manifest.json", "model.onnx"), b"of another training")

    monkeypatch.setattr(storage, "write_bytes", mixed)
    with pytest.raises(BundleCorrupt, match=r"model\.onnx"):
        publish(sealed.directory, root.as_uri())


def test_a_place_that_cannot_be_written_to_is_named(sealed: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((BundleInvalid, BundleNotStored, BundleExists)):
        publish(sealed.directory, (tmp_path / "file" / "credit-e1").as_uri())
