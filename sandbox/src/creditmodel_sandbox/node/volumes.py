"""Volumes: what a pod mounts, as directories below the pod's own.

What a pod needs from the API is fetched beforehand; all this is synchronous. Files of ConfigMaps, Secrets,
the downward API and tokens are replaced all at once when they change: a new directory is written, then the symbolic
link `..data` is moved to it, as the kubelet does.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditmodel_sandbox.node import environment
from creditmodel_sandbox.node.environment import ConfigError, Sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["data_of", "mounts", "prepare", "references", "refresh", "token_requests"]

_PROJECTED = ("configMap", "secret", "downwardAPI", "projected")
Files = dict[str, tuple[bytes, int]]
"""Relative path to content and mode."""


def data_of(obj: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret."""
    encoded = dict(obj.get("binaryData") or {})
    plain = dict(obj.get("data") or {})
    if obj.get("kind") == "Secret":
        encoded, plain = plain, {}
    decoded = {key: base64.b64decode(value) for key, value in encoded.items()}
    return decoded | {key: value.encode() for key, value in plain.items()}


def references(pod: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Every ConfigMap and Secret that the pod reads, as (kind, name)."""
    spec = pod["spec"]
    found: set[tuple[str, str]] = set()
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            found |= set(_names(source, {"configMapRef": "ConfigMap", "secretRef": "Secret"}))
        for entry in container.get("env") or []:
            kinds = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
            found |= set(_names(entry.get("valueFrom") or {}, kinds))
    for volume in spec.get("volumes") or []:
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            found |= set(_names(source, {"configMap": "ConfigMap", "secret": "Secret"}))
    return found


def _names(source: Mapping[str, Any], kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, kind in kinds.items():
        if ref := source.get(key):
            yield kind, ref.get("name") or ref.get("secretName", "")


def token_requests(pod: Mapping[str, Any]) -> set[tuple[str, int]]:
    """The service account tokens that the pod mounts, as (audience, seconds)."""
    volumes = pod["spec"].get("volumes") or []
    sources = [source for volume in volumes for source in (volume.get("projected") or {}).get("sources") or []]
    return {_token_key(source["serviceAccountToken"]) for source in sources if source.get("serviceAccountToken")}


def _token_key(source: Mapping[str, Any]) -> tuple[str, int]:
    return source.get("audience", ""), int(source.get("expirationSeconds", 3600))


def prepare(sources: Sources, directory: Path) -> dict[str, Path]:
    """Make every volume of the pod, and return the real path of each. ConfigError says what cannot be mounted."""
    spec = sources.pod["spec"]
    paths = {}
    for volume in spec.get("volumes") or []:
        place = directory / volume["name"]
        if "hostPath" in volume:
            paths[volume["name"]] = _host_path(volume["name"], volume["hostPath"])
            continue
        if "emptyDir" in volume:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)
        elif any(kind in volume for kind in _PROJECTED):
            _replace(place, _files(volume, sources))
        else:
            kind = next((key for key in volume if key != "name"), "an empty source")
            raise ConfigError(
                f'volume "{volume["name"]}": {kind} is not supported by the sandbox\'s node; use emptyDir, hostPath, '
                f"configMap, secret, downwardAPI or projected"
            )
        paths[volume["name"]] = place
    return paths


def refresh(sources: Sources, directory: Path) -> bool:
    """Bring the projected volumes up to date, in place; say whether any changed."""
    volumes = [v for v in sources.pod["spec"].get("volumes") or [] if any(kind in v for kind in _PROJECTED)]
    changes = [_replace(directory / volume["name"], _files(volume, sources)) for volume in volumes]
    return any(changes)


def mounts(container: Mapping[str, Any], volumes: Mapping[str, Path], known: Mapping[str, str]) -> dict[str, Path]:
    """The container's mount paths and the real paths behind them."""
    found = {}
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            raise ConfigError(f'volumeMounts: there is no volume "{mount["name"]}"')
        below = environment.expand(mount.get("subPathExpr") or "", known) or mount.get("subPath") or ""
        if below.startswith("/") or ".." in below.split("/"):
            raise ConfigError(f'volumeMounts: the subPath "{below}" leaves the volume')
        place = volumes[mount["name"]] / below
        if below and not place.exists():
            place.mkdir(parents=True)
        path = mount["mountPath"].rstrip("/")
        if not path.startswith("/"):
            raise ConfigError(f'volumeMounts: the sandbox\'s node cannot mount at "{mount["mountPath"]}"')
        found[path] = place
    return found


def _host_path(name: str, source: Mapping[str, Any]) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    wanted = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}.get(kind)
    if wanted is not None and not wanted():
        raise ConfigError(f'volume "{name}": hostPath type check failed: {path} is not a {kind.lower()}')
    return path


def _files(volume: Mapping[str, Any], sources: Sources) -> Files:
    """What a projected volume holds now."""
    if projected := volume.get("projected"):
        parts, mode = projected.get("sources") or [], projected.get("defaultMode")
    else:
        parts, mode = [volume], next(volume[kind].get("defaultMode") for kind in _PROJECTED if kind in volume)
    files: Files = {}
    for part in parts:
        for path, (content, own_mode) in _part_files(part, sources).items():
            if path.startswith("/") or ".." in path.split("/"):
                raise ConfigError(f'volume "{volume["name"]}": the path "{path}" leaves the volume')
            files[path] = content, own_mode if own_mode is not None else (0o644 if mode is None else mode)
    return files


def _part_files(part: Mapping[str, Any], sources: Sources) -> dict[str, tuple[bytes, int | None]]:
    for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if ref := part.get(key):
            return _object_files(kind, ref, sources)
    if downward := part.get("downwardAPI"):
        items = downward.get("items") or []
        return {item["path"]: (_downward(item, sources).encode(), item.get("mode")) for item in items}
    if token := part.get("serviceAccountToken"):
        return {token["path"]: (sources.materials.tokens[_token_key(token)], None)}
    raise ConfigError(f"a projected volume of {', '.join(part)} is not supported by the sandbox's node")


def _object_files(kind: str, ref: Mapping[str, Any], sources: Sources) -> dict[str, tuple[bytes, int | None]]:
    name = ref.get("name") or ref.get("secretName", "")
    data = sources.data(kind, name)
    if data is None:
        if ref.get("optional"):
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    if "items" not in ref:
        return {key: (content, None) for key, content in data.items()}
    missing = [item["key"] for item in ref["items"] if item["key"] not in data]
    if missing and not ref.get("optional"):
        raise ConfigError(f'{kind.lower()} "{name}" has no key {missing[0]}')
    return {i["path"]: (data[i["key"]], i.get("mode")) for i in ref["items"] if i["key"] in data}


def _downward(item: Mapping[str, Any], sources: Sources) -> str:
    ref = item.get("fieldRef")
    return sources.field(ref["fieldPath"]) if ref else sources.resource(item["resourceFieldRef"])


def _replace(place: Path, files: Files) -> bool:
    """Make `place` show exactly `files`, all at once; say whether that changed anything."""
    place.mkdir(parents=True, exist_ok=True)
    link = place / "..data"
    if link.exists() and _current(link) == files:
        return False
    old = link.resolve() if link.exists() else None
    new = Path(tempfile.mkdtemp(prefix="..", dir=place))
    new.chmod(0o755)
    for path, (content, mode) in files.items():
        target = new / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    waiting = place / "..data_tmp"
    waiting.unlink(missing_ok=True)
    waiting.symlink_to(new.name)
    waiting.replace(link)
    _link_names(place, {path.split("/")[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _current(link: Path) -> Files:
    found = (path for path in sorted(link.resolve().rglob("*")) if path.is_file())
    return {str(p.relative_to(link.resolve())): (p.read_bytes(), p.stat().st_mode & 0o7777) for p in found}


def _link_names(place: Path, names: set[str]) -> None:
    for name in names:
        if not (place / name).is_symlink():
            (place / name).symlink_to(Path("..data") / name)
    for entry in place.iterdir():
        if entry.is_symlink() and entry.name not in names and entry.name != "..data":
            entry.unlink()
