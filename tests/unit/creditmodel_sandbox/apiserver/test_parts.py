"""The small parts that need no server: paths, ages, schedules, patches, sets of fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from creditmodel_sandbox.apiserver import patch, ssa
from creditmodel_sandbox.apiserver.cel import CelRule
from creditmodel_sandbox.apiserver.cel_types import check_rules
from creditmodel_sandbox.apiserver.crd import custom_node
from creditmodel_sandbox.apiserver.errors import ApiError
from creditmodel_sandbox.apiserver.jsonpath import JsonPathError, compile_path
from creditmodel_sandbox.apiserver.rules import check_kind
from creditmodel_sandbox.apiserver.schema import MISSING, Node, ask_rules, fill
from creditmodel_sandbox.apiserver.tables import human_age


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".none", []),
        (".list[0].n", ["x"]),
        (".list[-1].n", ["y"]),
        (".list[*].n", ["x", "y"]),
        ('.list[?(@.n=="y")].v', [2]),
        (".list[?(@.n!='y')].v", [1]),
        (".labels['a.b/c']", ["z"]),
        (r".labels.a\.b/c", ["z"]),
    ],
)
def test_paths_find_values(path: str, found: list[Any]) -> None:
    obj = {"a": {"b": 1}, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "labels": {"a.b/c": "z"}}
    assert compile_path(path)(obj) == found


def test_a_path_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(JsonPathError, match="cannot read"):
        compile_path(".a[?(@.b)]")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (3600, "60m"),
        (11700, "3h15m"),
        (172800, "2d"),
        (10**7, "115d"),
    ],
)
def test_ages_are_shown_as_kubectl_shows_them(seconds: int, shown: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert human_age((now - timedelta(seconds=seconds)).isoformat(), now) == shown


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("* * * *", "expected 5 fields"),
        ("61 * * * *", "'61' is not within 0-59"),
        ("a * * * *", "cannot read 'a'"),
        ("*/5 1-3 * jan,feb mon", ""),
        ("@daily", ""),
    ],
)
def test_schedules_are_judged(schedule: str, text: str) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    spec = {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    errors = check_kind("cronjobs.batch", {"metadata": {"name": "c"}, "spec": spec}, None)
    assert text in "".join(map(str, errors))
    assert bool(errors) == bool(text)


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/list/-", "value": 3}], {"list": [1, 2, 3], "a/b": 1}),
        ([{"op": "add", "path": "/list/0", "value": 0}], {"list": [0, 1, 2], "a/b": 1}),
        ([{"op": "remove", "path": "/a~1b"}], {"list": [1, 2]}),
        ([{"op": "move", "from": "/a~1b", "path": "/c"}], {"list": [1, 2], "c": 1}),
        (
            [{"op": "copy", "from": "/list", "path": "/d"}, {"op": "remove", "path": "/d/0"}],
            {"list": [1, 2], "a/b": 1, "d": [2]},
        ),
        ([{"op": "replace", "path": "", "value": {"x": 1}}], {"x": 1}),
    ],
)
def test_json_patches_change_documents(operations: list[Any], result: Any) -> None:
    assert patch.json_patch({"list": [1, 2], "a/b": 1}, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
    ],
)
def test_a_json_patch_that_cannot_be_done_is_invalid(operation: Any) -> None:
    with pytest.raises(ApiError) as caught:
        patch.json_patch({}, [operation])
    assert caught.value.code == 422


def test_fields_are_read_and_written_as_they_are_published() -> None:
    item = 'k:{"name":"x"}'
    tree: dict[str, Any] = {"f:a": {item: {".": {}, "f:v": {}}, "f:b": {}}, "f:d": {}}
    fields = {("f:a", item), ("f:a", item, "f:v"), ("f:a", "f:b"), ("f:d",)}
    assert ssa.read_fields(tree) == fields
    assert ssa.write_fields(fields) == tree
    assert [ssa.show_path(path) for path in sorted(fields)] == [".a.b", '.a[name="x"]', '.a[name="x"].v', ".d"]


@pytest.mark.parametrize(
    "rule",
    [
        "quantity('1Ki').compareTo(quantity('1024')) == 0 && quantity('1').isGreaterThan(quantity('999m'))",
        "url('https://a.example/b?c=d').getQuery()['c'] == ['d']",
    ],
)
def test_rules_know_the_functions_of_kubernetes(rule: str) -> None:
    assert CelRule({"rule": rule}).check(Node({}), 1, MISSING, "x") == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"rule": "self.a == 1"}, []),
        ({"rule": "!has(self.b)"}, ["x"]),
        ({"rule": "self == self && size(self) == 3"}, []),
        ({"rule": "self.a == oldSelf.a", "messageExpression": "oldSelf.c__dash__d"}, ["was"]),
        ({"rule": "self.a == 2", "messageExpression": "self.b + self.c__dash__d"}, ["yes is"]),
        ({"rule": "oldSelf.hasValue() && self.a > oldSelf.value().a", "optionalOldSelf": True}, []),
    ],
)
def test_rules_are_given_whatever_they_read(source: dict[str, Any], found: list[str]) -> None:
    node = custom_node({"properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c-d": {"type": "string"}}})
    new, old = {"a": 1, "b": "yes ", "c-d": "is"}, {"a": 0, "c-d": "was"}
    errors = CelRule({"message": "x", **source}).check(node, new, old, "y")
    assert [error.text.rpartition(": ")[2] for error in errors] == found


def test_a_rule_that_looks_back_is_asked_of_what_did_not_change_however_deep() -> None:
    rules = [{"rule": "self != oldSelf", "message": "looks back"}, {"rule": "self > 1", "message": "does not"}]
    count = {"type": "integer", "x-kubernetes-validations": rules}
    node = custom_node({"properties": {"spec": {"type": "object", "properties": {"count": count}}}})
    obj = {"spec": {"count": 1}}
    assert [error.text for error in ask_rules(node, obj, obj, "")] == ["Invalid value: 1: looks back"]


def test_defaults_are_filled_in_below_what_has_none_itself() -> None:
    inner = {"type": "object", "properties": {"count": {"type": "integer", "default": 3}}}
    node = custom_node({"properties": {"spec": {"type": "object", "additionalProperties": inner}}})
    obj: dict[str, Any] = {"spec": {"a": {}, "b": {"count": 1}}}
    fill(node, obj)
    assert obj == {"spec": {"a": {"count": 3}, "b": {"count": 1}}}


def test_rules_are_checked_against_the_types_of_a_schema() -> None:
    properties = {
        "when": {"type": "string", "format": "date-time"},
        "names": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "object", "additionalProperties": {"type": "integer"}},
        "nodeSelector": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "namespace": {"type": "string"},
    }
    good = [
        "self.when > timestamp('2026-01-01T00:00:00Z')",
        "self.names.all(name, name.size() < 9)",
        "self.sizes.all(key, self.sizes[key] > 0)",
        "self.nodeSelector.all(key, self.nodeSelector[key] != '')",
        "self.free.anything == 1",
        "self.__namespace__ == 'x' && has(self.names)",
    ]
    bad = [
        "self.when > 3",
        "self.names.all(name, name > 1)",
        "self.sizes.exists(k, self.sizes[k] == 'x')",
        "self.other == 1",
    ]
    rules = [{"rule": rule} for rule in good + bad]
    found = check_rules({"type": "object", "properties": properties, "x-kubernetes-validations": rules})
    assert found[: len(good)] == [""] * len(good)
    assert all(found[len(good) :])
