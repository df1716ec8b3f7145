"""Lists and watches: versions, selectors, bookmarks, pages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

JSON = dict[str, Any]


def secret(name: str, **labels: str) -> JSON:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}}


@pytest.fixture
def secrets(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


class Watch:
    """An open watch, read event by event."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def next(self) -> JSON:
        event: JSON = json.loads(self._response.readline())
        return event

    def names(self, count: int) -> list[tuple[str, str]]:
        events = [self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


Opener = Callable[..., Any]


@pytest.fixture
def watching(apiserver: Any) -> Opener:
    @contextmanager
    def watch(path: str, query: str = "", flag: str = "watch=true") -> Iterator[Watch]:
        connection = apiserver.connect()
        connection.request("GET", f"{path}?{flag}&timeoutSeconds=20{query}", headers=apiserver.headers)
        try:
            yield Watch(connection.getresponse())
        finally:
            connection.close()

    return watch


def test_a_watch_from_a_version_gives_every_later_event_in_order(
    apiserver: Any, secrets: str, watching: Opener
) -> None:
    version = apiserver.post(secrets, secret("a"))["metadata"]["resourceVersion"]
    apiserver.post(secrets, secret("b"))
    apiserver.patch(f"{secrets}/b", {"data": {"k": "dg=="}})
    apiserver.delete(f"{secrets}/a")
    with watching(secrets, f"&resourceVersion={version}") as watch:
        assert watch.names(3) == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]
        apiserver.post(secrets, secret("c"))
        assert watch.names(1) == [("ADDED", "c")]


def test_versions_of_events_only_grow(apiserver: Any, secrets: str, watching: Opener) -> None:
    version = apiserver.get(secrets)["metadata"]["resourceVersion"]
    for name in ("a", "b", "c"):
        apiserver.post(secrets, secret(name))
        apiserver.delete(f"{secrets}/{name}")
    with watching(secrets, f"&resourceVersion={version}") as watch:
        versions = [int(watch.next()["object"]["metadata"]["resourceVersion"]) for _ in range(6)]
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version_begins_with_what_is_there(apiserver: Any, secrets: str, watching: Opener) -> None:
    apiserver.post(secrets, secret("a"))
    apiserver.post(secrets, secret("b"))
    with watching(secrets) as watch:
        assert sorted(watch.names(2)) == [("ADDED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize("flag", ["watch=True", "watch=1", "watch", "watch="])
def test_a_flag_of_a_query_is_on_in_every_spelling_that_clients_have(
    apiserver: Any, secrets: str, watching: Opener, flag: str
) -> None:
    apiserver.post(secrets, secret("a"))
    with watching(secrets, flag=flag) as watch:
        assert ("ADDED", "a") in watch.names(1)


@pytest.mark.parametrize("flag", ["watch=False", "watch=0"])
def test_a_flag_of_a_query_is_off_for_no_and_zero(apiserver: Any, secrets: str, flag: str) -> None:
    assert apiserver.get(f"{secrets}?{flag}")["kind"] == "SecretList"


def test_an_object_that_enters_and_leaves_a_selection_is_added_and_deleted(
    apiserver: Any, secrets: str, watching: Opener
) -> None:
    version = apiserver.get(secrets)["metadata"]["resourceVersion"]
    apiserver.post(secrets, secret("a", colour="blue"))
    apiserver.patch(f"{secrets}/a", {"metadata": {"labels": {"colour": "red"}}})
    apiserver.patch(f"{secrets}/a", {"data": {"k": "dg=="}})
    apiserver.patch(f"{secrets}/a", {"metadata": {"labels": {"colour": "green"}}})
    with watching(secrets, f"&resourceVersion={version}&labelSelector=colour%3Dred") as watch:
        assert watch.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_of_one_name_sees_that_object_alone(apiserver: Any, secrets: str, watching: Opener) -> None:
    version = apiserver.get(secrets)["metadata"]["resourceVersion"]
    apiserver.post(secrets, secret("a"))
    apiserver.post(secrets, secret("b"))
    apiserver.delete(f"{secrets}/b")
    with watching(secrets, f"&resourceVersion={version}&fieldSelector=metadata.name%3Db") as watch:
        assert watch.names(2) == [("ADDED", "b"), ("DELETED", "b")]


def test_initial_events_end_with_a_marked_bookmark(apiserver: Any, secrets: str, watching: Opener) -> None:
    apiserver.post(secrets, secret("a", mine="yes"))
    query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watching(secrets, f"{query}&labelSelector=mine") as watch:
        assert watch.names(1) == [("ADDED", "a")]
        bookmark = watch.next()
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    assert bookmark["object"]["metadata"]["resourceVersion"]


def test_a_watch_ends_when_its_time_is_over(apiserver: Any, secrets: str) -> None:
    connection = apiserver.connect()
    began = time.monotonic()
    version = apiserver.get(secrets)["metadata"]["resourceVersion"]
    query = f"watch=true&timeoutSeconds=1&resourceVersion={version}&labelSelector=none"
    connection.request("GET", f"{secrets}?{query}", headers=apiserver.headers)
    assert connection.getresponse().read() == b""
    connection.close()
    assert time.monotonic() - began < 25


def test_pages_of_a_list_are_one_consistent_whole(apiserver: Any, secrets: str) -> None:
    for name in ("a", "b", "c", "d"):
        apiserver.post(secrets, secret(name, mine="yes"))
    first = apiserver.get(f"{secrets}?limit=2&labelSelector=mine")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    apiserver.delete(f"{secrets}/d")
    apiserver.post(secrets, secret("e", mine="yes"))
    token = first["metadata"]["continue"].replace("=", "%3D")
    second = apiserver.get(f"{secrets}?limit=10&labelSelector=mine&continue={token}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d"]
    assert not second["metadata"].get("continue")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_list_at_an_exact_version_is_as_it_was(apiserver: Any, secrets: str) -> None:
    version = apiserver.post(secrets, secret("a", mine="yes"))["metadata"]["resourceVersion"]
    apiserver.post(secrets, secret("b", mine="yes"))
    query = f"labelSelector=mine&resourceVersion={version}&resourceVersionMatch=Exact"
    assert [i["metadata"]["name"] for i in apiserver.get(f"{secrets}?{query}")["items"]] == ["a"]


def test_a_list_of_a_built_in_kind_names_its_kind_once(apiserver: Any, secrets: str) -> None:
    apiserver.post(secrets, secret("a", mine="yes"))
    found = apiserver.get(f"{secrets}?labelSelector=mine")
    assert (found["kind"], found["apiVersion"]) == ("SecretList", "v1")
    assert "kind" not in found["items"][0]


def test_a_table_has_a_row_for_each_object(apiserver: Any, secrets: str) -> None:
    apiserver.post(secrets, secret("a", mine="yes"))
    accept = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
    table = apiserver.request("GET", f"{secrets}?labelSelector=mine", headers=accept).body
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]][:2] == ["Name", "Type"]
    assert table["rows"][0]["cells"][0] == "a"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_metadata_alone_can_be_asked_for(apiserver: Any, secrets: str) -> None:
    apiserver.post(secrets, {**secret("a", mine="yes"), "data": {"k": "dg=="}})
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    found = apiserver.request("GET", f"{secrets}?labelSelector=mine", headers=accept).body
    assert found["kind"] == "PartialObjectMetadataList"
    assert found["items"][0]["metadata"]["name"] == "a"
    assert "data" not in found["items"][0]
