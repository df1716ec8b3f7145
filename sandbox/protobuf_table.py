"""Read Kubernetes' protobuf field numbers again: python sandbox/protobuf_table.py KUBECTL > …/protobuf_fields.json.

kubectl carries them as struct tags in its Go type information, the published numbers of exactly its own release. Works
on 64-bit little-endian ELF binaries that are not position-independent, as kubectl is built for Linux.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

POINTER, SLICE, MAP, STRUCT = 22, 23, 21, 25
BASIC = {1: "bool", 2: "int", 4: "int", 5: "int", 6: "int", 8: "int", 9: "int", 10: "int", 11: "int", 14: "double"}
BASIC |= {24: "string"}
META = "k8s.io/apimachinery/pkg/apis/meta/v1"
SERVED = {
    "core/v1": "Namespace Pod Service ConfigMap Secret ServiceAccount Event Node PersistentVolumeClaim Binding",
    "apps/v1": "Deployment ReplicaSet",
    "batch/v1": "Job CronJob",
    "autoscaling/v1": "Scale HorizontalPodAutoscaler",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "policy/v1": "PodDisruptionBudget Eviction",
    "discovery/v1": "EndpointSlice",
    "events/v1": "Event",
    "coordination/v1": "Lease",
    "rbac/v1": "Role ClusterRole RoleBinding ClusterRoleBinding",
    "networking/v1": "ServiceCIDR",
    "authentication/v1": "TokenRequest SelfSubjectReview TokenReview",
    "authorization/v1": "SelfSubjectAccessReview SelfSubjectRulesReview",
}

Fields = dict[int, list[str]]


class Binary:
    """The type information of a Go binary: offsets are those of internal/abi's Type, StructType and Name."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        sections = self._sections()
        self.base, self.offset = sections[".rodata"][:2]
        links = sections[".typelink"]
        self.links = struct.unpack_from(f"<{links[2] // 4}i", self.data, links[1])

    def _sections(self) -> dict[str, tuple[int, int, int]]:
        """Address, file offset and size by name."""
        (table,) = struct.unpack_from("<Q", self.data, 0x28)
        size, count, names = struct.unpack_from("<HHH", self.data, 0x3A)
        rows = [struct.unpack_from("<IIQQQQ", self.data, table + i * size) for i in range(count)]
        start = rows[names][4]
        return {self.data[start + r[0] : self.data.index(0, start + r[0])].decode(): (r[3], r[4], r[5]) for r in rows}

    def read(self, address: int, form: str) -> int:
        """One number at an address."""
        return int(struct.unpack_from(f"<{form}", self.data, address - self.base + self.offset)[0])

    def kind(self, type_: int) -> int:
        """reflect.Kind of a type."""
        return self.read(type_ + 23, "B") & 31

    def name(self, address: int) -> tuple[str, str]:
        """A Name and its tag."""
        at = address - self.base + self.offset
        flags = self.data[at]
        text, at = self._string(at + 1)
        return text, self._string(at)[0] if flags & 2 else ""

    def _string(self, at: int) -> tuple[str, int]:
        size = shift = 0
        while True:
            byte = self.data[at]
            size, at, shift = size | (byte & 127) << shift, at + 1, shift + 7
            if not byte & 128:
                return self.data[at : at + size].decode(), at + size

    def full_name(self, type_: int) -> str:
        """Package path and name of a named type; empty for another."""
        if not self.read(type_ + 20, "B") & 1:
            return ""
        package = self.read(type_ + {STRUCT: 80, POINTER: 56, SLICE: 56}.get(self.kind(type_), 48), "i")
        name = self.name(self.base + self.read(type_ + 40, "i"))[0]
        return f"{self.name(self.base + package)[0] if package else ''}.{name.split('.')[-1]}"

    def structs(self) -> dict[str, int]:
        """Kubernetes' API structs, by full name."""
        found = {}
        for link in self.links:
            if self.kind(self.base + link) == POINTER:
                element = self.read(self.base + link + 48, "Q")
                if self.kind(element) == STRUCT and self.full_name(element).startswith("k8s.io/api"):
                    found[self.full_name(element)] = element
        return found


def fields_of(binary: Binary, type_: int) -> tuple[Fields, list[int]]:
    """A struct's fields with a protobuf number, and the structs that they refer to."""
    fields: Fields = {}
    referred: list[int] = []
    start, count = binary.read(type_ + 56, "Q"), binary.read(type_ + 64, "Q")
    for row in range(start, start + 24 * count, 24):
        go_name, tag = binary.name(binary.read(row, "Q"))
        number = re.search(r'protobuf:"\w+,(\d+),', tag)
        if number:
            tagged = re.search(r'json:"([^"]*)"', tag)
            name, *options = (tagged.group(1) if tagged else go_name).split(",")
            kind, pointer = kind_of(binary, binary.read(row + 8, "Q"), referred)
            presence = "optional" if pointer else "omitempty" if {"omitempty", "omitzero"} & set(options) else "always"
            fields[int(number.group(1))] = [name, kind, presence]
    return fields, referred


def kind_of(binary: Binary, type_: int, referred: list[int]) -> tuple[str, bool]:
    """How the table writes a Go type, and whether it is a pointer."""
    kind = binary.kind(type_)
    if kind == POINTER:
        return kind_of(binary, binary.read(type_ + 48, "Q"), referred)[0], True
    if kind == SLICE:
        element = binary.read(type_ + 48, "Q")
        return ("bytes" if binary.kind(element) == 8 else f"list {kind_of(binary, element, referred)[0]}"), False
    if kind == MAP:
        return f"map {kind_of(binary, binary.read(type_ + 56, 'Q'), referred)[0]}", False
    if kind == STRUCT:
        referred.append(type_)
        return short(binary.full_name(type_)), False
    return BASIC.get(kind, "string"), False


def short(name: str) -> str:
    """k8s.io/api/apps/v1.Deployment as apps/v1.Deployment."""
    return re.sub(r"^k8s\.io/(api/|apimachinery/pkg/(apis/)?)", "", name)


def tables(binary: Binary) -> dict[str, Any]:
    """Every served kind and what it is made of."""
    structs = binary.structs()
    names = [f"k8s.io/api/{group}.{kind}" for group, kinds in SERVED.items() for kind in kinds.split()]
    waiting = [structs[name] for name in [*names, f"{META}.DeleteOptions"]]
    found: dict[str, Any] = {}
    while waiting:
        type_ = waiting.pop()
        name = short(binary.full_name(type_))
        if name not in found:
            found[name], referred = fields_of(binary, type_)
            waiting += referred
    return {name: fields for name, fields in sorted(found.items()) if fields}


if __name__ == "__main__":
    rows = tables(Binary(Path(sys.argv[1]))).items()
    body = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'), sort_keys=True)}" for k, v in rows)
    print(f"{{\n{body}\n}}")
