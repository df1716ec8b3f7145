"""The node: connects what is watched in the API with the pods' workers, the Services' proxy and the binder."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from creditmodel_sandbox.client import Informer, Obj
from creditmodel_sandbox.node.binding import Binder
from creditmodel_sandbox.node.memory import Watchdog
from creditmodel_sandbox.node.pods import Host, PodWorker
from creditmodel_sandbox.node.proxy import Proxy
from creditmodel_sandbox.node.routes import LocalRanges, Network, RouteError
from creditmodel_sandbox.node.services import Address, backends, matches
from creditmodel_sandbox.node.stats import Census
from creditmodel_sandbox.objects import CONFIG_MAPS, PODS, SECRETS, SERVICES

__all__ = ["Node"]

Change = Callable[[Obj | None, Obj | None], None]
log = logging.getLogger(__name__)
STOP_SECONDS = 10.0
"""What a pod has at most when the node ends: a scoring server drains for 5 s, then writes its log's last part."""


class Node:
    """One node of a cluster, from the moment that it is registered."""

    def __init__(self, host: Host, bind_mode: str, census: Census, ranges: LocalRanges) -> None:
        client = host.client
        self.host, self.proxy, self._ranges = host, Proxy(), ranges
        self.workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pods = Informer(client, PODS, _guarded(self._pod_changed))
        self._services = Informer(client, SERVICES, _guarded(self._service_changed))
        objects = [
            Informer(client, kind, self._object_changed, transform=_only_identity) for kind in (CONFIG_MAPS, SECRETS)
        ]
        self._informers = [self._services, self._pods, *objects]
        self._binder = Binder(client, host.name, bind_mode, self._pods, host.events)
        self._watchdog = Watchdog(census, self.workers.values, host.limited)
        host.informer = self._pods

    async def run(self) -> None:
        """Work until cancelled. What an earlier node kept of pods that are gone is cleaned away first."""
        for informer in self._informers:
            self._hold(informer.run())
        await asyncio.gather(*(informer.synced.wait() for informer in self._informers))
        known = {pod["metadata"]["uid"] for pod in self._pods.store.values()}
        for directory in (self.host.directory / "pods").iterdir():
            if directory.name not in known:
                shutil.rmtree(directory, ignore_errors=True)
        log.info("node %s is ready", self.host.name)
        self._hold(self._binder.run())
        self._hold(self._watchdog.run())
        await self.proxy.run()

    async def stop(self) -> None:
        """End every process. The pods stay in the API as they are, for the next node of this name."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.shutdown(STOP_SECONDS) for worker in self.workers.values()))
        await self.host.events.stop()

    def _hold(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the node failed", exc_info=error)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        self._binder.look()
        self._route(old, new)  # before the worker ends a process, nothing new is sent to it
        if new is not None and new["spec"].get("nodeName") == self.host.name:
            self._worker_for(new).update(new)
        elif old is not None and (worker := self.workers.get(old["metadata"]["uid"])):
            worker.removed()

    def _worker_for(self, pod: Obj) -> PodWorker:
        uid = pod["metadata"]["uid"]
        if uid not in self.workers:
            worker = self.workers[uid] = PodWorker(self.host, pod)
            self._hold(self._work(worker))
        return self.workers[uid]

    async def _work(self, worker: PodWorker) -> None:
        await worker.run()
        self.workers.pop(worker.uid, None)

    def _route(self, old: Obj | None, new: Obj | None) -> None:
        """A pod changed: give the Services that select it, or did, their backends."""
        for service in self._services.store.values():
            if (new and matches(service, new)) or (old and matches(service, old)):
                self._balance(service)

    def _balance(self, service: Obj) -> None:
        """Forward what comes for a Service, unless all its pods are on other nodes: one of those forwards it, and may
        be a process of this machine too, which needs the address for itself.
        """
        pods = [pod for pod in self._pods.store.values() if matches(service, pod)]
        nodes = {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}
        ours = not nodes or self.host.name in nodes
        wanted = backends(service, pods if ours else ())
        for network in _networks(wanted):
            self._make_local(network) if ours else self._ranges.remove(network)
        self.proxy.set(wanted)

    def _service_changed(self, old: Obj | None, new: Obj | None) -> None:
        before, wanted = (backends(service, ()) if service else {} for service in (old, new))
        gone = before.keys() - wanted.keys()
        self.proxy.set({}, gone=gone)
        for network in _networks(gone) - _networks(wanted):
            self._ranges.remove(network)
        if new is not None:
            self._balance(new)

    def _make_local(self, network: Network) -> None:
        """One address, and not the Services' whole range: that may hold neighbours of this machine."""
        try:
            self._ranges.add(network)
        except RouteError as e:
            log.warning("a Service cannot be reached: %s", e)

    def _object_changed(self, old: Obj | None, new: Obj | None) -> None:
        obj = new or old
        if obj is not None:
            metadata = obj["metadata"]
            for worker in self.workers.values():
                worker.object_changed(obj["kind"], metadata["namespace"], metadata["name"])


def _networks(addresses: Iterable[Address]) -> set[Network]:
    return {Network(ip) for ip, _ in addresses}


def _guarded(change: Change) -> Change:
    """What one object does wrong must not end the watch of all."""

    def guarded(old: Obj | None, new: Obj | None) -> None:
        try:
            change(old, new)
        except Exception:
            log.exception("%s %s", *(((new or old) or {}).get(key) for key in ("kind", "metadata")))

    return guarded


def _only_identity(obj: Obj) -> Obj:
    """Contents are fetched when they are needed, and not kept."""
    kept = {key: obj["metadata"].get(key) for key in ("namespace", "name", "uid", "resourceVersion")}
    return {"kind": obj["kind"], "metadata": kept}
