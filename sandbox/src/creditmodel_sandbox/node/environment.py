"""What a container's process sees: environment, command and paths.

Pure: what comes from the API (ConfigMaps, Secrets) is passed in. A process has no mount namespace here, so a mount path
in command, args and environment values is replaced by the directory that stands for it (see `Paths`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

from creditmodel_sandbox.notation import QuantityError, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ConfigError", "Materials", "Paths", "Sources", "command", "expand", "quantity", "variables"]

_REFERENCE = re.compile(r"\$(\$|\([^()$]*\))")
_FIELD_KEY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class ConfigError(Exception):
    """The container cannot be set up as the pod asks; shown as CreateContainerConfigError."""


@dataclass(frozen=True)
class Materials:
    """ConfigMaps and Secrets of the pod's namespace by (kind, name), and tokens by (audience, seconds)."""

    objects: Mapping[tuple[str, str], Mapping[str, bytes]] = dataclass_field(default_factory=dict)
    tokens: Mapping[tuple[str, int], bytes] = dataclass_field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """Where the values of one pod come from. `fields` has podIP, podIPs, hostIP, hostIPs and nodeName; `allocatable`
    is what the node has.
    """

    pod: Mapping[str, Any]
    materials: Materials
    fields: Mapping[str, str]
    allocatable: Mapping[str, str]

    def data(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        """Keys and contents of a ConfigMap or Secret in the pod's namespace; None when there is no such object."""
        return self.materials.objects.get((kind, name))

    def field(self, path: str) -> str:
        """A downward API field."""
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        if match := _FIELD_KEY.fullmatch(path):
            return str((metadata.get(match[1]) or {}).get(match[2], ""))
        match path:
            case "metadata.name" | "metadata.namespace" | "metadata.uid":
                return str(metadata[path.removeprefix("metadata.")])
            case "metadata.labels" | "metadata.annotations":
                entries = metadata.get(path.removeprefix("metadata.")) or {}
                return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(entries.items()))
            case "spec.serviceAccountName":
                return str(spec.get("serviceAccountName", "default"))
            case "spec.nodeName" | "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs":
                return self.fields[path.rpartition(".")[2]]
            case _:
                raise ConfigError(f"fieldRef {path} is not a field of the downward API")

    def resource(self, ref: Mapping[str, Any], container: Mapping[str, Any] | None = None) -> str:
        """A resourceFieldRef (of `container` unless it names one), rounded up to its divisor; a missing limit is what
        the node has.
        """
        named = (c for c in self.pod["spec"]["containers"] if c["name"] == ref.get("containerName"))
        where, _, name = str(ref["resource"]).partition(".")
        given = (next(named, container) or {}).get("resources") or {}
        amount = (given.get(where) or {}).get(name)
        if amount is None and where == "limits":
            amount = self.allocatable.get(name, "0")
        divisor = quantity(ref.get("divisor") or "1") or 1.0
        return str(math.ceil(round(quantity(amount or "0") / divisor, 6)))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Paths:
    """Which real directory or file stands for which path of the container."""

    mounts: Mapping[str, Path]

    def substitute(self, text: str) -> str:
        """Replace a mounted path wherever it begins a path, longest first, whole components only.

        A path begins at the start, or after anything that cannot be part of a path: `--flag=/data`, `a,/data`, `file:///data`.
        """
        if not self.mounts:
            return text
        longest_first = sorted(self.mounts, key=len, reverse=True)
        names = "|".join(re.escape(mount) for mount in longest_first)
        found = re.compile(rf"(?:(?<=\bfile://)|(?<![\w.\-/~+%@$}}]))(?:{names})(?![\w.\-~+%@])")
        return found.sub(lambda m: str(self.mounts[m[0]]), text)


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value, `$$` becomes `$`; an unknown name stays as it is written."""

    def value(match: re.Match[str]) -> str:
        inner = match[1]
        return "$" if inner == "$" else known.get(inner[1:-1], match[0])

    return _REFERENCE.sub(value, text)


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number; ConfigError when it is none."""
    try:
        return float(parse_quantity(text))
    except QuantityError as e:
        raise ConfigError(f'"{text}" is not a quantity') from e


def variables(container: Mapping[str, Any], sources: Sources, given: Mapping[str, str]) -> dict[str, str]:
    """The container's variables in order, before mount paths are replaced. `given` is the runtime's own."""
    known = dict(given)
    for source in container.get("envFrom") or []:
        known.update(_from_object(source, sources))
    for entry in container.get("env") or []:
        if "valueFrom" not in entry:
            known[entry["name"]] = expand(entry.get("value") or "", known)
            continue
        value = _from_reference(container, entry["valueFrom"], sources)
        if value is not None:
            known[entry["name"]] = value
    return known


def _from_object(source: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if ref := source.get(key):
            data = sources.data(kind, ref["name"])
            if data is None and not ref.get("optional"):
                raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
            named = {source.get("prefix", "") + name: value for name, value in (data or {}).items()}
            return {name: _text(value, kind, name) for name, value in named.items() if _VARIABLE.fullmatch(name)}
    return {}


def _from_reference(container: Mapping[str, Any], source: Mapping[str, Any], sources: Sources) -> str | None:
    if ref := source.get("fieldRef"):
        return sources.field(ref["fieldPath"])
    if ref := source.get("resourceFieldRef"):
        return sources.resource(ref, container)
    for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if ref := source.get(key):
            return _from_key(kind, ref, sources)
    raise ConfigError(f"valueFrom {', '.join(source)} is not supported by the sandbox's node")


def _from_key(kind: str, ref: Mapping[str, Any], sources: Sources) -> str | None:
    data = sources.data(kind, ref["name"])
    if data is not None and ref["key"] in data:
        return _text(data[ref["key"]], kind, ref["key"])
    if ref.get("optional"):
        return None
    if data is None:
        raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
    raise ConfigError(f"couldn't find key {ref['key']} in {kind} {ref['name']}")


def _text(value: bytes, kind: str, key: str) -> str:
    if b"\0" in value:
        raise ConfigError(f"key {key} of a {kind} has a zero byte and cannot be a variable")
    return value.decode(errors="surrogateescape")


def command(container: Mapping[str, Any], known: Mapping[str, str], paths: Paths) -> list[str]:
    """Command and arguments, expanded, with mount paths replaced. ConfigError without a command: images have none
    here.
    """
    if not container.get("command"):
        raise ConfigError(
            f"container {container['name']} has no command: an image of the sandbox's node is a name and brings no "
            f"default; write spec.containers[].command, as in [creditmodel-serve]"
        )
    words = [*container["command"], *(container.get("args") or [])]
    return [paths.substitute(expand(word, known)) for word in words]
