"""What counts as a difference between what was asked for and what is there."""

from __future__ import annotations

from typing import Any

import pytest

from creditmodel_operator.compare import ADMITTED, admitted, contains, holds, marked
from creditmodel_operator.observed import Child, view


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, id="the server added a field"),
        pytest.param({"cpu": "1"}, {"cpu": "1000m"}, id="the server shortened a quantity"),
        pytest.param({"cpu": "1"}, {"cpu": 1}, id="a number came back as text"),
        pytest.param({"m": "1Gi"}, {"m": "1024Mi"}, id="binary units"),
        pytest.param(
            [{"name": "x", "v": 1}, {"name": "side", "v": 9}], [{"name": "x", "v": 1}], id="a container was added"
        ),
        pytest.param([{"name": "b"}, {"name": "a"}], [{"name": "a"}, {"name": "b"}], id="named items in another order"),
        pytest.param([1, 2], [1, 2], id="equal lists"),
        pytest.param({"x": None}, {}, id="nothing wanted"),
        pytest.param({}, {"limits": {}, "args": []}, id="the server dropped what is empty"),
        pytest.param({"cpu": "1m"}, {"cpu": "0.0001"}, id="the server rounded up to a thousandth"),
        pytest.param({"m": "10737419m"}, {"m": "0.00001Gi"}, id="a fraction of a binary unit"),
        pytest.param({"cpu": "100u"}, {"cpu": "1m"}, id="a small unit is rounded up alike"),
    ],
)
def test_it_is_the_same_when(live: Any, wanted: Any) -> None:
    assert contains(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 1}, {"a": 2}, id="a value was changed"),
        pytest.param({}, {"a": 1}, id="a field was removed"),
        pytest.param([{"name": "x", "v": 2}], [{"name": "x", "v": 1}], id="a named item was changed"),
        pytest.param([1, 2, 3], [1, 2], id="a plain list grew"),
        pytest.param({"cpu": "2"}, {"cpu": "1000m"}, id="another quantity"),
        pytest.param({"a": True}, {"a": 1.5}, id="another type"),
        pytest.param(None, {"a": {"b": 1}}, id="nothing is there"),
        pytest.param("text", ["t"], id="text is no list"),
    ],
)
def test_it_differs_when(live: Any, wanted: Any) -> None:
    assert not contains(live, wanted)


def test_the_mark_changes_with_anything_in_the_manifest() -> None:
    def mark(spec: dict[str, Any]) -> str:
        manifest = {"kind": "X", "metadata": {"name": "x", "annotations": {}}, "spec": spec}
        return str(marked(manifest)["metadata"]["annotations"])

    assert mark({"a": 1}) == mark({"a": 1})
    assert mark({"a": 1}) != mark({"a": 1, "b": None})


ASKED: dict[str, Any] = {"image": "a", "items": [{"name": "x", "v": 1}], "plain": [1]}


def child(spec: dict[str, Any], admitted_as: str | None = None) -> Child:
    notes = {} if admitted_as is None else {ADMITTED: admitted_as}
    metadata = {"name": "x", "uid": "u", "creationTimestamp": "2026-11-01T12:00:00Z", "annotations": notes}
    found = view("Thing", {"metadata": metadata, "spec": spec})
    assert isinstance(found, Child)
    return found


def test_what_admission_made_of_a_manifest_is_as_good_until_somebody_edits_it() -> None:
    made = {"image": "mirror/a", "items": [{"name": "side"}, {"name": "x", "v": 1, "w": 2}], "plain": [1, 2]}
    mark = admitted(ASKED, made)
    assert not holds(child(made), ASKED)
    assert holds(child(made, mark), ASKED)
    assert holds(child({**made, "replicas": 7}, mark), ASKED), "what others own has no part in it"
    assert not holds(child({**made, "image": "evil"}, mark), ASKED)
    assert not holds(child({**made, "plain": [1]}, mark), ASKED)
    assert not holds(child({**made, "items": [{"name": "x", "v": 3}]}, mark), ASKED)
    assert not holds(child(made, mark), {**ASKED, "image": "b"}), "another manifest has to be asked for"
