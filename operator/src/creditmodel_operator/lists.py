"""Whole lists: one each time that Kopf lists, at start and whenever it has lost the thread of its watch.

Kopf's own would tell of what it finds, not of what it does not find any more, nor when it is complete, and would keep
all of it at once; so it is made empty (connection.py), and the operator's begins after it. What happens from then on is
told by Kopf's watch.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from creditmodel_operator.client import ApiFailure, Client
from creditmodel_operator.queue import Queue
from creditmodel_operator.store import Key, Store
from creditmodel_operator.watching import WATCHED, Changed, Collection, selector

__all__ = ["Lists"]

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class Lists:
    """Takes lists one after another and tells the store.

    Nothing is decided about a namespace before everything in it has been listed: a child that is not known yet would be
    made anew. A namespace that is refused, because it is gone or its RoleBinding is, holds up no other.
    """

    def __init__(self, client: Client, store: Store, changed: Changed, namespaces: Sequence[str]) -> None:
        self.client, self.store, self.changed = client, store, changed
        self._missing: dict[str | None, set[str]] = {namespace: set(WATCHED) for namespace in namespaces or (None,)}
        """Kinds that have not been listed, by namespace (None: every one)."""
        self._held: dict[str | None, set[Key]] = defaultdict(set)
        """CreditModels of which there was news, in what has not been listed whole."""
        self._due: Queue[Collection] = Queue()

    @property
    def complete(self) -> bool:
        """Whether there is a namespace of which everything has been listed."""
        return not all(self._missing.values())

    def told(self, keys: Iterable[Key]) -> None:
        """There is news of these CreditModels."""
        for key in keys:
            scope = key[0] if key[0] in self._missing else None
            if self._missing[scope]:
                self._held[scope].add(key)
            else:
                self.changed((key,))

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
                self.told(self.store.saw(kind, body))
            version = page["metadata"]["resourceVersion"]
        self.told(self.store.listed(kind, namespace, uids, version))
        self._missing[namespace].discard(kind)
        if not self._missing[namespace]:
            self.changed(self._held.pop(namespace, ()))
