"""Nothing is decided about a namespace before everything in it has been listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from creditmodel_operator import names
from creditmodel_operator.client import Client, Refused
from creditmodel_operator.lists import Lists
from creditmodel_operator.observed import Images
from creditmodel_operator.store import Key, Store
from creditmodel_operator.watching import WATCHED

JSON = dict[str, Any]


def model(namespace: str) -> JSON:
    meta: JSON = {"name": "credit", "namespace": namespace, "uid": namespace, "resourceVersion": "7"}
    meta |= {"creationTimestamp": "2026-11-01T00:00:00Z", "labels": names.instance_labels("credit")}
    return {"metadata": meta, "spec": {}}


class Server:
    """Has one CreditModel in each namespace, and refuses the namespace `gone`."""

    async def list(self, kind: str, namespace: str | None, _selector: str) -> AsyncIterator[JSON]:
        if namespace == "gone":
            raise Refused("forbidden")
        items = [model(namespace or "a")] if kind == "CreditModel" else []
        yield {"items": items, "metadata": {"resourceVersion": "9"}}


async def listed(*namespaces: str, kinds: Iterable[str] = WATCHED) -> tuple[list[Key], Lists]:
    """The CreditModels that are worked on after these kinds were listed."""
    found: list[Key] = []
    lists = Lists(cast("Client", Server()), Store(Images()), found.extend, namespaces)
    first = namespaces[0] if namespaces else "a"
    lists.told([(first, "credit")])
    for kind in kinds:
        for namespace in namespaces or (None,):
            lists.again((kind, namespace))
    task = asyncio.create_task(lists.run())
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    lists.told([(first, "late")])
    return found, lists


async def test_news_is_held_back_until_every_kind_was_listed() -> None:
    found, lists = await listed(kinds=WATCHED[1:])
    assert (found, lists.complete) == ([], False)
    found, lists = await listed()
    assert (found, lists.complete) == ([("a", "credit"), ("a", "late")], True)


async def test_a_namespace_that_is_refused_holds_up_no_other() -> None:
    found, lists = await listed("a", "gone")
    assert (found, lists.complete) == ([("a", "credit"), ("a", "late")], True)
    lists.told([("gone", "credit")])
    assert found[2:] == []


async def test_a_replica_for_which_every_namespace_is_refused_is_not_ready() -> None:
    found, lists = await listed("gone")
    assert (found, lists.complete) == ([], False)
