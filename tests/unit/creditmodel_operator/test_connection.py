"""What becomes of a watch: the store hears of events, whole; Kopf sees where it is, and when it has to list again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from creditmodel_operator.connection import Events

EVENT = json.dumps({"type": "ADDED", "object": {"metadata": {"uid": "a", "resourceVersion": "5"}}})
OTHER = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}})


def error(code: int) -> str:
    return json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "as told"}})


class Content:
    """What comes over the network, in chunks that know nothing of lines."""

    def __init__(self, text: str, size: int) -> None:
        self.chunks = [text[start : start + size].encode() for start in range(0, len(text), size)]

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


def seen(text: str, size: int, *, anew: bool = False) -> tuple[list[Any], list[Any]]:
    """What is heard of a watch, and what Kopf sees of it."""
    heard: list[Any] = []

    async def read() -> bytes:
        events = Events(Content(text, size), "/api/v1/pods", heard.append, anew=anew)  # type: ignore[arg-type]
        return b"".join([data async for data in events.iter_chunked(1024)])

    return heard, [json.loads(line) for line in asyncio.run(read()).splitlines()]


ANEW = "410"
"""Kopf is told to list again."""
CASES: dict[str, tuple[list[str], list[str]]] = {
    "events": ([EVENT, OTHER, EVENT], [EVENT, OTHER, EVENT]),
    "an empty line between events": ([EVENT, "", EVENT], [EVENT, EVENT]),
    "too old at once": ([error(410)], [ANEW]),
    "too old later": ([EVENT, error(410)], [EVENT, ANEW]),
    "an internal error after an event": ([EVENT, error(500), EVENT], [EVENT]),
    "an internal error at once": ([error(500), EVENT], [ANEW]),
    "a refused token at once": ([error(401)], [ANEW]),
    "too many requests at once": ([error(429)], []),
    "an error without a code": ([EVENT, '{"type": "ERROR", "object": {}}'], [EVENT]),
    "half an event": ([EVENT, EVENT[:20], EVENT], [EVENT]),
    "a gateway's page": (["<html>be right back</html>"], [ANEW]),
    "JSON that is no event": (['{"message": "be right back"}'], [ANEW]),
    "an event of nothing": ([EVENT, '{"type": "ADDED", "object": null}'], [EVENT]),
    "an event without metadata": ([EVENT, '{"type": "ADDED", "object": {}}', EVENT], [EVENT]),
}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("name", CASES)
def test_of_a_watch_is_heard_and_seen(name: str, size: int) -> None:
    told, wanted = CASES[name]
    heard, kopf = seen("\n".join(told) + "\n", size)
    assert heard == [json.loads(line) for line in wanted if line == EVENT]
    errors = [event["object"]["code"] for event in kopf if event["type"] == "ERROR"]
    assert errors == [410 for line in wanted if line is ANEW]
    places = [event["object"]["metadata"]["resourceVersion"] for event in kopf if event["type"] == "BOOKMARK"]
    last = [json.loads(line)["object"]["metadata"]["resourceVersion"] for line in wanted if line is not ANEW]
    assert places[-1:] == last[-1:]


def test_kopf_sees_one_bookmark_of_the_events_that_come_together() -> None:
    heard, kopf = seen(f"{EVENT}\n{OTHER}\n{EVENT}\n", 4096)
    assert len(heard) == 2
    assert kopf == [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}]


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    heard, kopf = seen(EVENT + "\n" + EVENT[:30], 4096)
    assert (heard, len(kopf)) == ([json.loads(EVENT)], 1)


def test_a_watch_of_what_was_not_served_is_begun_anew() -> None:
    heard, kopf = seen(EVENT + "\n", 4096, anew=True)
    assert (heard, [event["object"]["code"] for event in kopf]) == ([], [410])
