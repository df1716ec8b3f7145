from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.environment import ConfigError, Materials, Sources
from creditmodel_sandbox.node.volumes import data_of, mounts, prepare, references, refresh, token_requests

NODE = {"podIP": "127.1.0.1", "nodeName": "n"}
CONFIG = {"name": "c", "configMap": {"name": "cm"}}


def _prepare(pod: Any, directory: Path, *volumes: Any, **objects: Any) -> dict[str, Path]:
    return prepare(Sources(pod(volumes=list(volumes)), _materials(**objects), NODE, {"cpu": "2"}), directory)


def _materials(**objects: Any) -> Materials:
    return Materials(
        {("ConfigMap" if name.startswith("c") else "Secret", name): data for name, data in objects.items()}
    )


def test_a_config_map_becomes_files_behind_one_link(pod: Any, tmp_path: Path) -> None:
    place = _prepare(pod, tmp_path, CONFIG, cm={"a.txt": b"1", "b.bin": b"\xff"})["c"]
    assert {name: (place / name).read_bytes() for name in ("a.txt", "b.bin")} == {"a.txt": b"1", "b.bin": b"\xff"}
    assert (place / "a.txt").readlink() == Path("..data/a.txt")


def test_an_update_replaces_all_files_at_once_and_removes_what_is_gone(pod: Any, tmp_path: Path) -> None:
    place = _prepare(pod, tmp_path, CONFIG, cm={"a": b"1", "b": b"1"})["c"]
    before = (place / "..data").resolve()
    p = pod(volumes=[CONFIG])
    assert not refresh(Sources(p, _materials(cm={"a": b"1", "b": b"1"}), NODE, {}), tmp_path)
    assert refresh(Sources(p, _materials(cm={"a": b"2", "c": b"2"}), NODE, {}), tmp_path)
    assert sorted(path.name for path in place.iterdir() if not path.name.startswith("..")) == ["a", "c"]
    assert (place / "a").read_bytes() == b"2"
    assert not before.exists()


def test_items_choose_keys_paths_and_modes(pod: Any, tmp_path: Path) -> None:
    items = [{"key": "k", "path": "deep/er/file", "mode": 0o400}]
    secret = {"name": "s", "secret": {"secretName": "sec", "items": items, "defaultMode": 0o644}}
    place = _prepare(pod, tmp_path, secret, sec={"k": b"x", "other": b"y"})["s"]
    assert (place / "deep/er/file").read_bytes() == b"x"
    assert (place / "deep/er/file").stat().st_mode & 0o777 == 0o400
    assert not (place / "other").exists()


def test_projected_sources_share_a_directory(pod: Any, tmp_path: Path) -> None:
    sources = [
        {"configMap": {"name": "cm"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
    ]
    p = pod(labels={"a": "1"}, volumes=[{"name": "v", "projected": {"sources": sources}}])
    materials = Materials({("ConfigMap", "cm"): {"x": b"1"}}, {("", 600): b"secret"})
    place = prepare(Sources(p, materials, NODE, {}), tmp_path)["v"]
    assert [(place / name).read_text() for name in ("x", "labels", "token")] == ["1", 'a="1"', "secret"]
    assert token_requests(p) == {("", 600)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"name": "v", "configMap": {"name": "none"}}, 'configmap "none" not found'),
        (
            {"name": "v", "secret": {"secretName": "sec", "items": [{"key": "z", "path": "z"}]}},
            'secret "sec" has no key z',
        ),
        ({"name": "v", "secret": {"secretName": "sec", "items": [{"key": "k", "path": "../z"}]}}, "leaves the volume"),
        ({"name": "v", "persistentVolumeClaim": {"claimName": "x"}}, "persistentVolumeClaim is not supported"),
        ({"name": "v", "hostPath": {"path": "/does/not/exist", "type": "Directory"}}, "is not a directory"),
    ],
)
def test_what_cannot_be_mounted_is_named(pod: Any, tmp_path: Path, volume: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _prepare(pod, tmp_path, volume, sec={"k": b""})


def test_an_optional_object_that_is_not_there_is_an_empty_directory(pod: Any, tmp_path: Path) -> None:
    place = _prepare(pod, tmp_path, {"name": "v", "secret": {"secretName": "none", "optional": True}})["v"]
    assert [path.name for path in place.iterdir() if not path.name.startswith("..")] == []


def test_a_host_path_is_the_path_itself_and_may_be_made(pod: Any, tmp_path: Path) -> None:
    wanted = tmp_path / "new"
    assert (
        _prepare(pod, tmp_path, {"name": "v", "hostPath": {"path": str(wanted), "type": "DirectoryOrCreate"}})["v"]
        == wanted
    )
    assert wanted.is_dir()


def test_mounts_lead_to_volumes_and_below_them(tmp_path: Path) -> None:
    container = {
        "volumeMounts": [
            {"name": "v", "mountPath": "/data/"},
            {"name": "v", "mountPath": "/sub", "subPath": "a/b"},
            {"name": "v", "mountPath": "/expr", "subPathExpr": "$(NAME)"},
        ]
    }
    found = mounts(container, {"v": tmp_path}, {"NAME": "n"})
    assert found == {"/data": tmp_path, "/sub": tmp_path / "a/b", "/expr": tmp_path / "n"}
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"name": "none", "mountPath": "/x"}, 'no volume "none"'),
        ({"name": "v", "mountPath": "/x", "subPath": "../y"}, "leaves the volume"),
        ({"name": "v", "mountPath": "/"}, 'cannot mount at "/"'),
    ],
)
def test_a_mount_that_makes_no_sense_is_refused(tmp_path: Path, mount: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mounts({"volumeMounts": [mount]}, {"v": tmp_path}, {})


def test_every_object_that_a_pod_reads_is_found(pod: Any) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c1", "key": "k"}}}]
    p = pod(
        initContainers=[{"name": "i", "envFrom": [{"secretRef": {"name": "s1"}}]}],
        containers=[{"name": "m", "env": env}],
        volumes=[
            {"name": "v", "projected": {"sources": [{"secret": {"name": "s2"}}]}},
            {"name": "w", "secret": {"secretName": "s3"}},
        ],
    )
    assert references(p) == {("ConfigMap", "c1"), ("Secret", "s1"), ("Secret", "s2"), ("Secret", "s3")}


def test_data_is_decoded_by_kind() -> None:
    encoded = base64.b64encode(b"\xff").decode()
    assert data_of({"kind": "ConfigMap", "data": {"a": "é"}, "binaryData": {"b": encoded}}) == {
        "a": "é".encode(),
        "b": b"\xff",
    }
    assert data_of({"kind": "Secret", "data": {"a": encoded}}) == {"a": b"\xff"}
