"""The operator reads its own writes until the watch has caught up, and not for longer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from creditmodel_operator import names, store
from creditmodel_operator.observed import Images, view
from creditmodel_operator.store import Store

JSON = dict[str, Any]
KEY = ("ns", "credit")


def body(kind: str, name: str, version: int, uid: str | None = None, **fields: Any) -> JSON:
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-01T00:00:00Z",
        "labels": names.instance_labels("credit"),
        "ownerReferences": [{"uid": "uid-credit", "controller": True}],
    }
    return {"kind": kind, "metadata": meta, **fields}


@pytest.fixture
def seen() -> Store:
    """A store whose watch has told of the CreditModel and one Service."""
    found = Store(Images())
    found.indexes = {
        "CreditModel": {KEY: [view("CreditModel", body("CreditModel", "credit", 1))]},
        "Service": {KEY: [view("Service", body("Service", "credit", 5, "s", spec={"port": 1}))]},
    }
    return found


def told(seen: Store, *bodies: JSON) -> None:
    seen.indexes = dict(seen.indexes) | {"Service": {KEY: [view("Service", item) for item in bodies]}}


def specs(seen: Store) -> list[JSON]:
    observed = seen.observe(KEY)
    assert observed is not None
    return [item.spec for item in observed.services]


def test_a_write_is_seen_before_the_watch_tells_of_it(seen: Store) -> None:
    seen.wrote(KEY, body("Service", "credit", 6, "s", spec={"port": 2}))
    assert specs(seen) == [{"port": 2}]


def test_the_watch_is_believed_once_it_has_something_newer(seen: Store) -> None:
    seen.wrote(KEY, body("Service", "credit", 6, "s", spec={"port": 2}))
    told(seen, body("Service", "credit", 7, "s", spec={"port": 3}))
    assert specs(seen) == [{"port": 3}]


def test_a_deleted_object_is_not_seen_any_more(seen: Store) -> None:
    seen.deleted(KEY, "Service", "credit", "s")
    assert specs(seen) == []


def test_an_object_made_anew_after_a_deletion_is_seen(seen: Store) -> None:
    seen.deleted(KEY, "Service", "credit", "s")
    told(seen, body("Service", "credit", 9, "t", spec={"port": 4}))
    assert specs(seen) == [{"port": 4}]


def test_a_write_to_an_object_that_is_gone_does_not_keep_it(seen: Store) -> None:
    seen.wrote(KEY, body("Service", "credit", 6, "s", spec={"port": 2}))
    told(seen)
    seen.vanished(KEY, "Service", "credit", "s")
    assert specs(seen) == []


def test_a_write_that_the_watch_never_tells_is_believed_for_a_while_only(
    seen: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.wrote(KEY, body("Service", "other", 6, "x", spec={"port": 2}))
    assert len(specs(seen)) == 2
    later = time.monotonic() + store.PATIENCE_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert len(specs(seen)) == 1


def test_children_of_an_earlier_model_of_the_same_name_are_not_its_own(seen: Store) -> None:
    strange = body("Service", "credit", 8, "old")
    strange["metadata"]["ownerReferences"][0]["uid"] = "uid-before"
    told(seen, strange)
    assert specs(seen) == []


def test_there_is_nothing_to_observe_without_a_credit_model(seen: Store) -> None:
    assert seen.observe(("ns", "unknown")) is None
