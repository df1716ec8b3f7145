from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.environment import (
    ConfigError,
    Materials,
    Paths,
    Sources,
    command,
    expand,
    quantity,
    variables,
)

PATHS = Paths({"/data": Path("/real/d"), "/data/deep": Path("/other"), "/dev/termination-log": Path("/real/msg")})
NODE = {"podIP": "127.1.0.1", "podIPs": "127.1.0.1", "hostIP": "127.0.0.1", "hostIPs": "127.0.0.1", "nodeName": "n"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", "/real/d"),
        ("/data/x.csv", "/real/d/x.csv"),
        ("/data/deep/x", "/other/x"),
        ("/data/deeper", "/real/d/deeper"),
        ("--out=/data/x", "--out=/real/d/x"),
        ("a,/data,/data/deep,b", "a,/real/d,/other,b"),
        ("file:///data/x", "file:///real/d/x"),
        ("file:///data/x file:///data/deep", "file:///real/d/x file:///other"),
        ("open('/data/x')", "open('/real/d/x')"),
        ("echo hi >/dev/termination-log", "echo hi >/real/msg"),
        ("/data-old/x", "/data-old/x"),
        ("/data.csv", "/data.csv"),
        ("/my/data", "/my/data"),
        ("s3://bucket/data/x", "s3://bucket/data/x"),
        ("http://host/data", "http://host/data"),
        ("profile://host/data", "profile://host/data"),
        ("../data", "../data"),
        ("data", "data"),
    ],
)
def test_a_mount_path_is_replaced_only_where_it_begins_a_path(text: str, expected: str) -> None:
    assert PATHS.substitute(text) == expected


def test_a_replacement_that_holds_a_mount_path_itself_is_not_replaced_again() -> None:
    paths = Paths({"/tmp": Path("/tmp/state/tmp"), "/tmp/state": Path("/x")})
    assert paths.substitute("/tmp/a") == "/tmp/state/tmp/a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "12"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A ${A} $", "$A ${A} $"),
        ("--host=$(A)", "--host=1"),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("100m", 0.1), ("2Gi", 2 * 2**30), ("1k", 1000), ("1e3", 1000), (2, 2), ("1.5Mi", 1.5 * 2**20)],
)
def test_quantities_are_numbers(text: str, expected: float) -> None:
    assert quantity(text) == pytest.approx(expected)


def test_a_wrong_quantity_is_named() -> None:
    with pytest.raises(ConfigError, match='"10 apples" is not a quantity'):
        quantity("10 apples")


def test_downward_fields(pod: Any) -> None:
    p = pod(labels={"a": "1", "b": '2"'}, serviceAccountName="sa")
    sources = Sources(p, Materials(), NODE, {})
    found = {
        path: sources.field(path)
        for path in ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['a']", "metadata.labels",
                     "metadata.annotations['none']", "spec.nodeName", "spec.serviceAccountName", "status.podIP",
                     "status.hostIP")
    }  # fmt: skip
    assert list(found.values()) == ["p", "ns", "uid-p", "1", 'a="1"\nb="2\\""', "", "n", "sa", "127.1.0.1", "127.0.0.1"]
    with pytest.raises(ConfigError, match=r"spec.hostname"):
        sources.field("spec.hostname")


def test_a_resource_is_rounded_up_to_its_divisor_and_a_missing_limit_is_the_nodes(pod: Any) -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}
    sources = Sources(pod(containers=[container]), Materials(), NODE, {"memory": "1Gi"})
    assert sources.resource({"resource": "limits.cpu"}, container) == "2"
    assert sources.resource({"resource": "limits.cpu", "divisor": "1m", "containerName": "c"}) == "1500"
    assert sources.resource({"resource": "requests.memory", "divisor": "1Mi"}, container) == "64"
    assert sources.resource({"resource": "limits.memory", "divisor": "1Mi"}, container) == "1024"


def _variables(pod: Any, container: Mapping[str, Any], **objects: Mapping[str, bytes]) -> dict[str, str]:
    materials = Materials(
        {("ConfigMap" if name.startswith("c") else "Secret", name): data for name, data in objects.items()}
    )
    return variables(container, Sources(pod(), materials, NODE, {"memory": "1Gi"}), {"PATH": "/bin"})


def test_variables_come_in_order_and_later_ones_may_use_earlier_ones(pod: Any) -> None:
    container = {
        "envFrom": [
            {"prefix": "P_", "configMapRef": {"name": "cm"}},
            {"secretRef": {"name": "none", "optional": True}},
        ],
        "env": [
            {"name": "A", "value": "a"},
            {"name": "B", "value": "$(A)-$(P_x)-$(LATER)"},
            {"name": "LATER", "value": ""},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "none", "optional": True}}},
            {"name": "PATH", "value": "/mine:$(PATH)"},
        ],
    }
    assert _variables(pod, container, cm={"x": b"1", "not a name": b"2"}, sec={"k": b"s"}) == {
        "PATH": "/mine:/bin", "P_x": "1", "A": "a", "B": "a-1-$(LATER)", "LATER": "", "IP": "127.1.0.1", "S": "s",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]},
            'configmap "none" not found',
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "x"}}}]},
            "couldn't find key x in Secret sec",
        ),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "none" not found'),
        ({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {}}}]}, "fileKeyRef is not supported"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "zero"}}}]}, "zero byte"),
    ],
)
def test_what_a_variable_needs_and_is_not_there_is_named(pod: Any, source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _variables(pod, source, sec={"k": b"", "zero": b"\0"})


def test_a_command_is_expanded_before_its_paths_are_replaced() -> None:
    container = {"name": "c", "command": ["run"], "args": ["--in=$(DIR)/x", "$$(DIR)"]}
    assert command(container, {"DIR": "/data"}, PATHS) == ["run", "--in=/real/d/x", "$(DIR)"]


def test_a_container_without_a_command_is_told_to_have_one() -> None:
    with pytest.raises(ConfigError, match=r"container c has no command.*write spec.containers\[\].command"):
        command({"name": "c", "image": "i", "args": ["x"]}, {}, PATHS)
