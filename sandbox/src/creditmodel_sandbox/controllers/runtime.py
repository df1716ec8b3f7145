"""What runs the controllers: a cache kept by informers, a queue of keys, and the carrying out of actions.

A controller never waits for its own writes to come back: the answer of each write goes into the cache at once, so the
next pass sees it. A conflict, a refusal or a lost connection ends the pass, and the key is tried again after a pause
that grows.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, assert_never

from creditmodel_sandbox.client import ApiError, Client, ClientError, Informer, Obj, Resource, Unreachable, key_of
from creditmodel_sandbox.events import Recorder
from creditmodel_sandbox.objects import (
    CRDS,
    controller_of,
    namespace_of,
)

__all__ = [
    "Action",
    "Cache",
    "Controller",
    "Create",
    "Delete",
    "Event",
    "Patch",
    "Replace",
    "Runtime",
    "Wake",
]

log = logging.getLogger(__name__)

# --- actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """An Event about `obj`. It is recorded when the actions before it are done."""

    obj: Obj
    reason: str
    message: str
    type: str = "Normal"


@dataclass(frozen=True)
class Create:
    """Create `body`. "{name}" in the event becomes the name that it got; `refused` says what to do
    when the server refuses it, given its message.
    """

    resource: Resource
    body: Obj
    event: Event | None = None
    refused: Callable[[str], Sequence[Action]] = lambda _: ()


@dataclass(frozen=True)
class Replace:
    """Replace an object or its status; refused when the cache was behind."""

    resource: Resource
    body: Obj
    subresource: str = ""


@dataclass(frozen=True)
class Patch:
    """Merge-patch `obj`, only if it is still the version that was seen."""

    resource: Resource
    obj: Obj
    patch: Obj


@dataclass(frozen=True)
class Delete:
    """Delete exactly this object (its uid), if it is still there."""

    resource: Resource
    obj: Obj
    propagation: str = "Background"


@dataclass(frozen=True)
class Wake:
    """Look again at this time, if nothing happens before."""

    at: datetime


Action = Event | Create | Replace | Patch | Delete | Wake

# --- cache -----------------------------------------------------------------------------------------------------------


class Cache:
    """Every watched object, found by name, by namespace and by owner. Objects are shared: never change one."""

    def __init__(self) -> None:
        self._objects: defaultdict[tuple[Resource, str], dict[str, Obj]] = defaultdict(dict)
        self._dependents: defaultdict[str, dict[tuple[Resource, str], Obj]] = defaultdict(dict)

    def change(self, resource: Resource, old: Obj | None, new: Obj | None) -> None:
        """Take one change in: old None is an addition, new None a removal."""
        for obj in filter(None, (old,)):
            for index in self._indexes(resource, obj):
                index.pop(key_of(obj), None)
            for uid in _owner_uids(resource, obj):
                self._dependents[uid].pop((resource, key_of(obj)), None)
                if not self._dependents[uid]:
                    del self._dependents[uid]
        for obj in filter(None, (new,)):
            for index in self._indexes(resource, obj):
                index[key_of(obj)] = obj
            for uid in _owner_uids(resource, obj):
                self._dependents[uid][resource, key_of(obj)] = obj

    def _indexes(self, resource: Resource, obj: Obj) -> Iterator[dict[str, Obj]]:
        yield self._objects[resource, ""]
        if namespace := namespace_of(obj):
            yield self._objects[resource, namespace]

    def get(self, resource: Resource, key: str) -> Obj | None:
        """The object of that `namespace/name`."""
        return self._objects[resource, ""].get(key)

    def all(self, resource: Resource, namespace: str = "") -> Collection[Obj]:
        """The objects of one namespace, or all."""
        return self._objects[resource, namespace].values() if (resource, namespace) in self._objects else ()

    def dependents(self, uid: str) -> list[tuple[Resource, Obj]]:
        """Whatever names the uid among its owners."""
        found = self._dependents.get(uid) or {}
        return [(resource, obj) for (resource, _), obj in found.items()]

    def controlled(self, resource: Resource, owner: Obj) -> list[Obj]:
        """The objects of one kind whose controller is `owner`."""
        uid = owner["metadata"]["uid"]
        return [o for r, o in self.dependents(uid) if r == resource and controller_of(o).get("uid") == uid]

    def orphans(self, resource: Resource, namespace: str) -> list[Obj]:
        """The objects of one kind that have no controller."""
        return [obj for _, obj in self.dependents(_no_controller(resource, namespace))]


def _owner_uids(resource: Resource, obj: Obj) -> Iterator[str]:
    for reference in obj["metadata"].get("ownerReferences") or []:
        yield reference["uid"]
    if not controller_of(obj):
        yield _no_controller(resource, namespace_of(obj))


def _no_controller(resource: Resource, namespace: str) -> str:
    return f"none:{resource.plural}/{namespace}"


# --- controllers -----------------------------------------------------------------------------------------------------

Keys = Callable[[Cache, Obj], Iterable[str]]


class Observe(Protocol):
    """Takes the snapshot of one key: None when there is nothing to do."""

    def __call__(self, cache: Cache, key: str, /) -> Any: ...


@dataclass(frozen=True)
class Controller:
    """One controller.

    `watches` says which of its keys a changed object touches (asked for the old and for the new version);
    `watches_all`, for any kind. `observe` may be a coroutine function; what it returns goes to `reconcile`.
    """

    name: str
    watches: Mapping[Resource, Keys]
    observe: Observe
    reconcile: Callable[[Any, datetime], Sequence[Action]]
    watches_all: Callable[[Cache, Resource, Obj, bool], Iterable[str]] | None = field(default=None)


# --- queue -----------------------------------------------------------------------------------------------------------

Item = tuple[str, str]  # controller's name, key
SHORTEST_WAKE = 0.05  # seconds; a time that has passed must not become a hot loop


class Queue:
    """Keys to look at: each once, none by two workers at a time, with one timer and one failure count each."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Item, None] = OrderedDict()
        self._working: dict[Item, bool] = {}  # and whether it was added again meanwhile
        self._timers: dict[Item, asyncio.TimerHandle] = {}
        self._failures: dict[Item, int] = {}
        self._filled = asyncio.Event()

    def add(self, item: Item) -> None:
        """Look at the item soon."""
        if item in self._working:
            self._working[item] = True
        else:
            self._waiting[item] = None
            self._filled.set()

    async def get(self) -> Item:
        """The next item; `done` must follow."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        item, _ = self._waiting.popitem(last=False)
        self._working[item] = False
        return item

    def done(self, item: Item) -> None:
        """The worker has finished with the item."""
        if self._working.pop(item):
            self.add(item)

    def wake(self, item: Item, seconds: float | None) -> None:
        """Replace the item's timer; None takes it away."""
        if timer := self._timers.pop(item, None):
            timer.cancel()
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timers[item] = loop.call_later(max(seconds, SHORTEST_WAKE), self._due, item)

    def _due(self, item: Item) -> None:
        self._timers.pop(item, None)
        self.add(item)

    def succeeded(self, item: Item) -> None:
        """Forget earlier failures."""
        self._failures.pop(item, None)

    def failed(self, item: Item, longest: float) -> None:
        """Look again after a pause that doubles with each failure in a row, from 50 ms to `longest` seconds."""
        failures = self._failures[item] = self._failures.get(item, 0) + 1
        self.wake(item, min(0.05 * 2 ** min(failures - 1, 12), longest))


# --- runtime ---------------------------------------------------------------------------------------------------------


class Runtime:
    """Informers for every resource that the server has, and workers that reconcile what changes."""

    workers = 8

    def __init__(self, client: Client, controllers: Sequence[Controller]) -> None:
        self.cache = Cache()
        self._client = client
        self._controllers = {controller.name: controller for controller in controllers}
        self._full = {resource for controller in controllers for resource in controller.watches}
        self._queue = Queue()
        self._informers: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._recorder = Recorder(client)
        self._discover = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            await self._refresh()
            await self._synced()
            log.info("watching %d resources", len(self._informers))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_discovery())
                for _ in range(self.workers):
                    group.create_task(self._work())
        finally:
            for _, task in self._informers.values():
                task.cancel()
            await self._recorder.stop()

    async def _synced(self) -> None:
        """Controllers decide on complete lists only; an odd resource that cannot be listed holds up nobody for long."""
        waits = {r: asyncio.create_task(i.synced.wait()) for r, (i, _) in self._informers.items()}
        await asyncio.wait(waits.values(), timeout=30)
        await asyncio.gather(*(wait for resource, wait in waits.items() if resource in self._full))

    # Informers follow discovery.

    async def _follow_discovery(self) -> None:
        while True:
            await self._discover.wait()
            await asyncio.sleep(0.2)  # a burst of changed definitions is one look
            self._discover.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        pause = 0.1
        while True:
            try:
                found = set(await self._client.discover())
                break
            except ClientError as e:
                log.info("discovery: %s", e)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
        wanted = {r for r in found if {"list", "watch", "delete"} <= r.verbs and r.plural != "events"}
        for resource in wanted - self._informers.keys():
            self._start(resource)
        for resource in self._informers.keys() - found:
            informer, task = self._informers.pop(resource)
            task.cancel()
            for obj in list(informer.store.values()):
                informer.forget(obj)

    def _start(self, resource: Resource) -> None:
        informer = Informer(
            self._client,
            resource,
            lambda old, new: self._changed(resource, old, new),
            transform=_without_managed_fields if resource in self._full else _metadata_only,
        )
        self._informers[resource] = informer, asyncio.create_task(informer.run())

    def _changed(self, resource: Resource, old: Obj | None, new: Obj | None) -> None:
        self.cache.change(resource, old, new)
        if resource == CRDS:
            self._discover.set()
        for controller in self._controllers.values():
            for key in self._touched(controller, resource, old, new):
                self._queue.add((controller.name, key))

    def _touched(self, controller: Controller, resource: Resource, old: Obj | None, new: Obj | None) -> Iterator[str]:
        for obj in filter(None, (old, new)):
            if keys := controller.watches.get(resource):
                yield from keys(self.cache, obj)
            if controller.watches_all:
                yield from controller.watches_all(self.cache, resource, obj, new is None)

    # Workers.

    async def _work(self) -> None:
        while True:
            item = await self._queue.get()
            try:
                await self._pass(item)
            except Unreachable as e:
                log.info("%s %s: %s", *item, e)
                self._queue.failed(item, longest=5.0)
            except ApiError as e:
                self._refused(item, e)
            except Exception:  # one object that a controller cannot digest must not stop the others
                log.exception("%s %s", *item)
                self._queue.failed(item, longest=60.0)
            finally:
                self._queue.done(item)

    def _refused(self, item: Item, error: ApiError) -> None:
        if "NamespaceTerminating" in error.causes:
            self._queue.wake(item, None)
            return
        log.log(logging.DEBUG if error.code == 409 else logging.WARNING, "%s %s: %s", *item, error)
        self._queue.failed(item, longest=5.0 if error.code == 409 else 60.0)

    async def _pass(self, item: Item) -> None:
        controller, key = self._controllers[item[0]], item[1]
        snapshot = controller.observe(self.cache, key)
        if inspect.isawaitable(snapshot):
            snapshot = await snapshot
        actions = controller.reconcile(snapshot, datetime.now(UTC)) if snapshot is not None else []
        wakes = [action.at for action in actions if isinstance(action, Wake)]
        self._queue.wake(item, min(wakes).timestamp() - time.time() if wakes else None)
        for action in actions:
            await self._carry_out(controller.name, action)
        self._queue.succeeded(item)

    async def _carry_out(self, source: str, action: Action) -> None:
        match action:
            case Wake():
                pass
            case Event(obj, reason, message, kind):
                self._recorder.emit(source, obj, kind, reason, message)
            case Create():
                await self._create(source, action)
            case Replace(resource, body, subresource):
                self._written(resource, await self._client.replace(resource, body, subresource), subresource)
            case Patch(resource, obj, patch):
                await self._if_there(resource, obj, self._patch(resource, obj, patch))
            case Delete(resource, obj, propagation):
                await self._if_there(resource, obj, self._delete(resource, obj, propagation))
            case _:
                assert_never(action)

    async def _create(self, source: str, action: Create) -> None:
        event = action.event
        try:
            made = await self._client.create(action.resource, namespace_of(action.body), action.body)
        except ApiError as e:
            if e.code != 409 and "NamespaceTerminating" not in e.causes:
                if event:
                    message = f"Error creating: {e.message}"
                    self._recorder.emit(source, event.obj, "Warning", "FailedCreate", message)
                for consequence in action.refused(e.message):
                    await self._carry_out(source, consequence)
            raise
        self._written(action.resource, made)
        if event:
            message = event.message.replace("{name}", made["metadata"]["name"])
            self._recorder.emit(source, event.obj, event.type, event.reason, message)

    async def _patch(self, resource: Resource, obj: Obj, patch: Obj) -> None:
        meta = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
        patch = patch | {"metadata": {**patch.get("metadata", {}), **meta}}
        answer = await self._client.patch(resource, namespace_of(obj), obj["metadata"]["name"], patch)
        self._written(resource, answer)

    async def _delete(self, resource: Resource, obj: Obj, propagation: str) -> None:
        options = {"propagationPolicy": propagation, "preconditions": {"uid": obj["metadata"]["uid"]}}
        answer = await self._client.delete(resource, namespace_of(obj), obj["metadata"]["name"], options)
        if answer.get("kind") != resource.kind or not answer["metadata"].get("deletionTimestamp"):
            self._gone(resource, obj)
        elif self.cache.get(resource, key_of(obj)):
            self._written(resource, answer)

    async def _if_there(self, resource: Resource, obj: Obj, request: Awaitable[None]) -> None:
        """Something that is gone already is what was wanted."""
        try:
            await request
        except ApiError as e:
            if e.code != 404:
                raise
            self._gone(resource, obj)

    def _gone(self, resource: Resource, obj: Obj) -> None:
        if resource in self._informers:
            self._informers[resource][0].forget(obj)

    def _written(self, resource: Resource, answer: Obj, subresource: str = "") -> None:
        if subresource in ("", "status") and resource in self._informers:
            self._informers[resource][0].observe(answer)


def _without_managed_fields(obj: Obj) -> Obj:
    # An update without managedFields keeps those that the server has.
    return obj | {"metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}


def _metadata_only(obj: Obj) -> Obj:
    slim = _without_managed_fields(obj)
    return {"apiVersion": slim["apiVersion"], "kind": slim["kind"], "metadata": slim["metadata"]}
