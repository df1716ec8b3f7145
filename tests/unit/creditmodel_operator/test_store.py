"""The newest version of an object is what counts, whoever told of it, and what is gone stays gone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from creditmodel_operator import names, store
from creditmodel_operator.observed import Images
from creditmodel_operator.outcome import unheard
from creditmodel_operator.store import Store

JSON = dict[str, Any]
KEY, OTHER = ("ns", "credit"), ("ns", "other")


def body(version: int, uid: str = "s", *, crm: str = "credit", namespace: str = "ns", **spec: Any) -> JSON:
    """A Service named as the CreditModel is, or the CreditModel itself."""
    meta = {
        "name": crm,
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-01T00:00:00Z",
        "labels": names.instance_labels(crm),
        "ownerReferences": [{"uid": f"uid-{crm}", "controller": True}],
    }
    return {"metadata": meta, "spec": spec}


@pytest.fixture
def seen() -> Store:
    """A store that was told of the CreditModel and one Service."""
    found = Store(Images())
    assert list(found.saw("CreditModel", body(1, "uid-credit"))) == [KEY]
    assert list(found.saw("Service", body(5, port=1))) == [KEY]
    return found


def specs(seen: Store) -> list[JSON]:
    observed = seen.observe(KEY)
    assert observed is not None
    return [item.spec for item in observed.services]


def test_what_belongs_to_a_deleted_namesake_is_not_looked_at(seen: Store) -> None:
    for number, kind in enumerate(("Job", "Service", "Deployment", "CronJob")):
        left = body(1 + number, f"left-{kind}")
        left["metadata"]["ownerReferences"] = [{"uid": "uid-of-the-namesake", "controller": True}]
        seen.saw(kind, left)
    observed = seen.observe(KEY)
    assert observed is not None
    assert (observed.jobs, observed.deployments, observed.cronjobs) == ((), (), ())
    assert [item.meta.uid for item in observed.services] == ["s"]


def test_a_newer_version_takes_the_place_of_an_older_one(seen: Store) -> None:
    assert list(seen.saw("Service", body(6, port=2))) == [KEY]
    assert specs(seen) == [{"port": 2}]


@pytest.mark.parametrize("version", [4, 5])
def test_a_watch_that_lags_undoes_nothing_and_is_no_news(seen: Store, version: int) -> None:
    assert not seen.saw("Service", body(version, port=9))
    assert specs(seen) == [{"port": 1}]


def test_a_deleted_object_is_not_seen_any_more_nor_by_a_watch_that_lags(seen: Store) -> None:
    seen.deleted("Service", "s")
    assert specs(seen) == []
    assert not seen.saw("Service", body(5, port=1))
    assert specs(seen) == []


def test_an_object_that_still_ends_after_its_deletion_is_seen(seen: Store) -> None:
    seen.deleted("Service", "s")
    assert list(seen.saw("Service", body(7, port=1))) == [KEY]
    assert list(seen.vanished("Service", "s")) == [KEY]
    assert specs(seen) == []


def test_an_object_made_anew_after_a_deletion_is_seen(seen: Store) -> None:
    seen.deleted("Service", "s")
    assert list(seen.saw("Service", body(9, "t", port=4))) == [KEY]
    assert specs(seen) == [{"port": 4}]


def test_an_object_made_anew_is_seen_before_the_watch_tells_that_its_predecessor_is_gone(seen: Store) -> None:
    seen.saw("Service", body(9, "t", port=4))
    assert specs(seen) == [{"port": 4}]
    seen.vanished("Service", "s")
    assert specs(seen) == [{"port": 4}]


def test_an_answer_that_comes_after_its_object_has_gone_does_not_bring_it_back(seen: Store) -> None:
    seen.vanished("Service", "s")
    assert not seen.saw("Service", body(6, port=2))
    assert specs(seen) == []


def test_a_deletion_is_remembered_for_a_while_only(seen: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.vanished("Service", "s")
    later = time.monotonic() + store.MEMORY_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    seen.vanished("Service", "another")
    assert list(seen._gone) == ["another"]


def test_what_a_whole_list_does_not_name_is_gone(seen: Store) -> None:
    assert list(seen.listed("Service", "ns", {"t"}, "8")) == [KEY]
    assert specs(seen) == []


def test_what_is_newer_than_a_list_or_elsewhere_is_not_gone(seen: Store) -> None:
    seen.saw("Service", body(9, port=2))
    assert not seen.listed("Service", None, set(), "8")
    assert not seen.listed("Service", "elsewhere", set(), "12")
    assert specs(seen) == [{"port": 2}]


def test_a_child_that_changes_hands_is_news_for_both(seen: Store) -> None:
    seen.saw("CreditModel", body(2, "uid-other", crm="other"))
    assert set(seen.saw("Service", body(6, crm="other"))) == {KEY, OTHER}
    assert specs(seen) == []


def test_children_of_an_earlier_model_of_the_same_name_are_not_its_own(seen: Store) -> None:
    strange = body(8, "t")
    strange["metadata"]["ownerReferences"][0]["uid"] = "uid-before"
    seen.vanished("Service", "s")
    seen.saw("Service", strange)
    assert specs(seen) == []


def test_there_is_nothing_to_observe_without_a_credit_model(seen: Store) -> None:
    assert seen.observe(("ns", "unknown")) is None
    seen.vanished("CreditModel", "uid-credit")
    assert seen.observe(KEY) is None


def test_a_new_job_has_its_time_to_start_although_the_api_server_s_clock_is_an_hour_behind(seen: Store) -> None:
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    job = body(6, "j")
    job["metadata"] |= {"creationTimestamp": hour_ago}
    job["metadata"]["ownerReferences"][0]["uid"] = "uid-credit"
    for version in ("6", "7"):
        job["metadata"]["resourceVersion"] = version
        seen.saw("Job", job)
        observed = seen.observe(KEY)
        assert observed is not None
        (found,) = observed.jobs
        soon, late = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (100, 121))
        assert not unheard(found, (), soon)
        assert unheard(found, (), late)
