"""Whole lists: one each time that Kopf lists, at start and whenever it has lost the thread of its watch.

Kopf tells of what it finds, not of what it does not find any more, nor when a list is complete. A list that begins
after Kopf's own tells both, whatever Kopf's watch goes on to tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from creditmodel_operator.client import ApiFailure, Client
from creditmodel_operator.queue import Queue
from creditmodel_operator.store import Store
from creditmodel_operator.watching import WATCHED, Changed, Collection, selector

__all__ = ["Lists"]

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class Lists:
    """Takes lists one after another and tells the store; `complete` is set once there was one of everything."""

    def __init__(self, client: Client, store: Store, changed: Changed, namespaces: Sequence[str]) -> None:
        self.client, self.store, self.changed = client, store, changed
        self.complete = asyncio.Event()
        self._missing: set[Collection] = {(kind, namespace) for kind in WATCHED for namespace in namespaces or (None,)}
        self._due: Queue[Collection] = Queue()

    def again(self, collection: Collection) -> None:
        """Kopf has listed this: list it too."""
        self._due.add(collection)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            collection = await self._due.get()
            try:
                await self._take(*collection)
            except ApiFailure as e:
                logger.warning("%s; again in %.0f s", e, RETRY_SECONDS)
                self._due.later(collection, max(RETRY_SECONDS, e.retry_after or 0))
            finally:
                self._due.done(collection)

    async def _take(self, kind: str, namespace: str | None) -> None:
        uids, version = set[str](), ""
        async for page in self.client.list(kind, namespace, selector(kind)):
            for body in page["items"]:
                uids.add(body["metadata"]["uid"])
                self.changed(self.store.saw(kind, body))
            version = page["metadata"]["resourceVersion"]
        self.changed(self.store.listed(kind, namespace, uids, version))
        self._missing.discard((kind, namespace))
        if not self._missing:
            self.complete.set()
