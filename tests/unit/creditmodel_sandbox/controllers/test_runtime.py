"""The queue and the cache of the controllers, and the runtime against an API server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from creditmodel_sandbox.client import Client, Kubeconfig, Obj
from creditmodel_sandbox.controllers.runtime import Action, Cache, Controller, Event, Patch, Queue, Runtime, Wake
from creditmodel_sandbox.objects import PODS


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.01)


# --- queue and cache -------------------------------------------------------------------------------------------------


async def test_a_key_added_twice_is_looked_at_once() -> None:
    queue = Queue()
    queue.add(("c", "a"))
    queue.add(("c", "a"))
    queue.add(("c", "b"))
    assert [await queue.get(), await queue.get()] == [("c", "a"), ("c", "b")]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.02)


async def test_a_key_added_during_its_own_pass_comes_again_after_it() -> None:
    queue = Queue()
    queue.add(("c", "a"))
    item = await queue.get()
    queue.add(item)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.02)
    queue.done(item)
    assert await asyncio.wait_for(queue.get(), 60) == item


async def test_a_timer_is_replaced_by_the_next_one_and_taken_away_by_none() -> None:
    queue = Queue()
    item = ("c", "a")
    queue.wake(item, 3600)
    queue.wake(item, 0.05)
    assert await asyncio.wait_for(queue.get(), 60) == item
    queue.done(item)
    queue.wake(item, 0.05)
    queue.wake(item, None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.1)


async def test_failures_in_a_row_wait_longer_each_time() -> None:
    queue, item, pauses = Queue(), ("c", "a"), []
    for _ in range(4):
        started = time.monotonic()
        queue.failed(item, longest=0.2)
        assert await asyncio.wait_for(queue.get(), 60) == item
        queue.done(item)
        pauses.append(time.monotonic() - started)
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2), strict=True))


def test_the_cache_finds_objects_by_owner_and_without_one(world: Any) -> None:
    cache: Cache = world.cache
    owner = world.pod("owner")
    owned = world.pod("owned", owner=owner)
    assert cache.controlled(PODS, owner) == [owned]
    assert cache.orphans(PODS, "ns") == [owner]
    freed = {**owned, "metadata": {**owned["metadata"], "ownerReferences": []}}
    cache.change(PODS, owned, freed)
    assert cache.controlled(PODS, owner) == []
    assert cache.orphans(PODS, "ns") == [owner, freed]
    cache.change(PODS, freed, None)
    assert list(cache.all(PODS, "ns")) == [owner]


# --- a server that misbehaves ----------------------------------------------------------------------------------------


class FakeServer:
    """One resource, pods, with a script of faults. Counts requests by method."""

    def __init__(self) -> None:
        self.version = 10
        self.pods: dict[str, Obj] = {}
        self.watchers: list[asyncio.Queue[Obj | None]] = []
        self.requests: Counter[str] = Counter()
        self.faults: list[tuple[int, Obj]] = []
        self.events: list[Obj] = []

    def put(self, name: str, **content: Any) -> Obj:
        """Create or change a pod."""
        self.version += 1
        old = self.pods.get(name, {"metadata": {"uid": f"uid-{self.version}"}})
        meta = {**old["metadata"], "name": name, "namespace": "ns", "resourceVersion": str(self.version)}
        pod = {"apiVersion": "v1", "kind": "Pod", **old, **content, "metadata": {**meta, **content.get("metadata", {})}}
        kind = "MODIFIED" if name in self.pods else "ADDED"
        self.pods[name] = pod
        self.send({"type": kind, "object": pod})
        return pod

    def send(self, event: Obj | None) -> None:
        """To every open watch; None ends them."""
        for watcher in self.watchers:
            watcher.put_nowait(event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1":
            verbs = ["list", "watch", "delete"]
            resources = [{"name": "pods", "kind": "Pod", "namespaced": True, "verbs": verbs}]
            return web.json_response({"groupVersion": "v1", "resources": resources})
        if request.path == "/apis":
            return web.json_response({"groups": []})
        if request.method == "GET":
            return await (self._watch(request) if "watch" in request.query else self._list())
        return await self._write(request)

    async def _list(self) -> web.Response:
        self.requests["LIST"] += 1
        meta = {"resourceVersion": str(self.version)}
        return web.json_response({"metadata": meta, "items": list(self.pods.values())})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.requests["WATCH"] += 1
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[Obj | None] = asyncio.Queue()
        self.watchers.append(queue)
        while event := await queue.get():
            await response.write(json.dumps(event).encode() + b"\n")
        self.watchers.remove(queue)
        return response

    async def _write(self, request: web.Request) -> web.Response:
        self.requests[request.method] += 1
        if self.faults:
            code, status = self.faults.pop(0)
            return web.json_response({"kind": "Status", "code": code, **status}, status=code)
        body = await request.json()
        if request.method == "POST":
            self.events.append(body)
            return web.json_response(body, status=201)
        meta = {name: value for name, value in body["metadata"].items() if name not in ("uid", "resourceVersion")}
        return web.json_response(self.put(request.path.rpartition("/")[2], metadata=meta))


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """The fake server, listening."""
    fake = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(app, host="127.0.0.1") as listening:
        fake.url = str(listening.make_url("")).rstrip("/")  # type: ignore[attr-defined]
        yield fake
        fake.send(None)


def labels_of(pod: Obj) -> Obj:
    found: Obj = pod["metadata"].get("labels") or {}
    return found


def labeller(passes: list[str], wanted: str = "yes") -> Controller:
    """A controller that puts a label on every pod."""

    def reconcile(pod: Obj, now: Any) -> list[Action]:
        passes.append(pod["metadata"]["name"])
        if labels_of(pod).get("seen") == wanted:
            return []
        return [Patch(PODS, pod, {"metadata": {"labels": {"seen": wanted}}}), Event(pod, "Labelled", "seen"), Wake(now)]

    def keys(_: Cache, pod: Obj) -> Iterator[str]:
        yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"

    return Controller("labeller", {PODS: keys}, lambda cache, key: cache.get(PODS, key), reconcile)


Running = Callable[[Controller], Awaitable[Runtime]]


@pytest.fixture
async def run(server: FakeServer) -> AsyncIterator[Running]:
    """Starts a runtime with one controller."""
    async with contextlib.AsyncExitStack() as stack:
        tasks = []

        async def start(controller: Controller) -> Runtime:
            config = Kubeconfig(server.url, ssl=True)  # type: ignore[attr-defined]
            client = await stack.enter_async_context(Client(config, "test", "test"))
            runtime = Runtime(client, [controller])
            tasks.append(asyncio.create_task(runtime.run()))
            return runtime

        yield start
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_there_and_what_comes_is_reconciled(server: FakeServer, run: Running) -> None:
    server.put("first")
    await run(labeller([]))
    await until(lambda: labels_of(server.pods["first"]) == {"seen": "yes"})
    await until(lambda: bool(server.watchers))
    server.put("second")
    await until(lambda: labels_of(server.pods["second"]) == {"seen": "yes"})
    await until(lambda: len(server.events) == 2)
    assert server.events[0]["involvedObject"]["name"] == "first"
    assert (server.events[0]["reason"], server.events[0]["source"]) == ("Labelled", {"component": "labeller"})


async def test_an_own_write_is_seen_without_waiting_for_the_watch(server: FakeServer, run: Running) -> None:
    server.put("pod")
    passes: list[str] = []
    runtime = await run(labeller(passes))
    server.send = lambda _event: None  # type: ignore[assignment,method-assign]  # the watch stays silent
    await until(lambda: passes == ["pod", "pod"])
    assert server.requests["PATCH"] == 1
    assert labels_of(runtime.cache.get(PODS, "ns/pod") or {"metadata": {}}) == {"seen": "yes"}


async def test_conflicts_are_tried_again_with_pauses_and_not_in_a_hot_loop(server: FakeServer, run: Running) -> None:
    server.put("pod")
    server.faults = [(409, {"reason": "Conflict"})] * 3
    started = time.monotonic()
    await run(labeller([]))
    await until(lambda: labels_of(server.pods["pod"]) == {"seen": "yes"})
    assert time.monotonic() - started > 0.3
    assert server.requests["PATCH"] == 4


async def test_what_is_gone_is_no_error(server: FakeServer, run: Running) -> None:
    server.put("pod")
    server.faults = [(404, {"reason": "NotFound"})]
    passes: list[str] = []
    runtime = await run(labeller(passes))
    await until(lambda: server.requests["PATCH"] == 1 and runtime.cache.get(PODS, "ns/pod") is None)
    assert passes == ["pod"]


async def test_a_refusal_in_a_terminating_namespace_is_not_tried_again(server: FakeServer, run: Running) -> None:
    server.put("pod")
    details = {"causes": [{"reason": "NamespaceTerminating"}]}
    server.faults = [(403, {"reason": "Forbidden", "details": details})] * 10
    await run(labeller([]))
    await until(lambda: server.requests["PATCH"] == 1)
    await asyncio.sleep(0.3)
    assert server.requests["PATCH"] == 1


async def test_a_controller_that_raises_stops_no_other_object(
    server: FakeServer, run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server.put("poison")
    server.put("good")
    controller = labeller([])

    def reconcile(pod: Obj, now: Any) -> Any:
        return controller.reconcile(pod, now) if pod["metadata"]["name"] == "good" else pod["no such field"]

    await run(Controller("labeller", controller.watches, controller.observe, reconcile))
    await until(lambda: labels_of(server.pods["good"]) == {"seen": "yes"})
    assert "KeyError" in caplog.text


async def test_a_watch_that_breaks_is_taken_up_without_a_new_list(server: FakeServer, run: Running) -> None:
    await run(labeller([]))
    await until(lambda: bool(server.watchers))
    server.send(None)
    await until(lambda: server.requests["WATCH"] == 2 and bool(server.watchers))
    server.put("pod")
    await until(lambda: labels_of(server.pods["pod"]) == {"seen": "yes"})
    assert server.requests["LIST"] == 1


async def test_a_compacted_version_is_listed_anew_and_deletions_are_noticed(server: FakeServer, run: Running) -> None:
    server.put("pod", metadata={"labels": {"seen": "yes"}})
    runtime = await run(labeller([]))
    await until(lambda: bool(server.watchers))
    del server.pods["pod"]
    server.version += 1
    server.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
    await until(lambda: runtime.cache.get(PODS, "ns/pod") is None)
    assert server.requests["LIST"] == 2


async def test_a_wake_brings_the_next_pass(server: FakeServer, run: Running) -> None:
    server.put("pod")
    passes: list[float] = []

    def reconcile(_pod: Obj, now: Any) -> list[Action]:
        passes.append(time.monotonic())
        return [Wake(now + timedelta(seconds=0.1))] if len(passes) < 3 else []

    await run(Controller("waker", labeller([]).watches, lambda cache, key: cache.get(PODS, key), reconcile))
    await until(lambda: len(passes) == 3)
    assert passes[2] - passes[0] > 0.18
