"""The kubelet's HTTP server, as far as an API server and an autoscaler use it: logs, resource use, health."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from creditmodel_sandbox.node.launch import log_path
from creditmodel_sandbox.node.lifecycle import Record, rfc3339
from creditmodel_sandbox.node.logs import LogQuery, follow, read, stamp
from creditmodel_sandbox.node.pods import PodWorker
from creditmodel_sandbox.node.stats import Census, Usage, rate
from creditmodel_sandbox.notation import is_set

__all__ = ["KubeletApi", "self_signed"]


class BadQuery(Exception):
    """A log request that cannot be answered; the message goes to the user."""


def log_query(query: Mapping[str, str], now: float) -> LogQuery:
    """The options of PodLogOptions as they stand in the URL. BadQuery names the one that is wrong."""
    since = None
    if text := query.get("sinceTime"):
        try:
            since = stamp(int(datetime.fromisoformat(text).timestamp() * 1e9))
        except ValueError as e:
            raise BadQuery(f"sinceTime={text} is not an RFC 3339 time") from e
    elif (seconds := _number(query, "sinceSeconds")) is not None:
        since = stamp(int((now - seconds) * 1e9))
    return LogQuery(
        tail_lines=_number(query, "tailLines"),
        since=since,
        timestamps=is_set(query.get("timestamps")),
        limit_bytes=_number(query, "limitBytes"),
    )


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text):
        raise BadQuery(f"{name}={text} must be a whole number, 0 or more")
    return int(text)


class KubeletApi:
    """Serves logs of every pod whose directory is there, and what the running ones use."""

    def __init__(self, directory: Path, node: str, workers: Callable[[], Iterable[PodWorker]], census: Census) -> None:
        self._directory, self._node, self._workers, self._census = directory, node, workers, census
        self._samples: dict[str, tuple[float, Usage]] = {}
        self._rates: dict[str, int] = {}

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/stats/summary", self._summary)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _worker(self, namespace: str, name: str) -> PodWorker | None:
        found = (w for w in self._workers() if (w.namespace, w.name) == (namespace, name))
        return next(found, None)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        namespace, name, container = (request.match_info[key] for key in ("namespace", "pod", "container"))
        worker = self._worker(namespace, name)
        record = worker.records.get(container) if worker else None
        if worker is None or record is None:
            return web.Response(status=404, text=f"{namespace}/{name} has no container {container} on this node\n")
        try:
            query = log_query(request.query, time.time())
            path = self._log_file(worker, record, previous=is_set(request.query.get("previous")))
        except BadQuery as e:
            return web.Response(status=400, text=f"{e}\n")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        if is_set(request.query.get("follow")):
            await self._follow(response, path, query, worker, container)
        else:
            await response.write(b"".join(read(path, query)))
        await response.write_eof()
        return response

    async def _follow(
        self, response: web.StreamResponse, path: Path, query: LogQuery, worker: PodWorker, container: str
    ) -> None:
        run = worker.runs.get(container)
        async for text in follow(path, query, lambda: run is not None and worker.runs.get(container) is run):
            await response.write(text)

    def _log_file(self, worker: PodWorker, record: Record, *, previous: bool) -> Path:
        what = f'container "{record.name}" in pod "{worker.name}"'
        if not record.began:
            reason = record.state.get("waiting", {}).get("reason", "ContainerCreating")
            raise BadQuery(f"{what} is waiting to start: {reason}")
        if previous and record.restarts == 0:
            raise BadQuery(f"previous terminated {what} not found")
        return log_path(self._directory, worker.uid, record.name, record.restarts - previous)

    async def _summary(self, _request: web.Request) -> web.Response:
        now, usage = time.monotonic(), self._census.usage()
        self._samples = {mark: sample for mark, sample in self._samples.items() if mark in usage}
        pods = [self._pod_stats(worker, usage, now) for worker in self._workers() if worker.runs]
        body = {"node": {"nodeName": self._node, **_figures(_total(pods))}, "pods": pods}
        return web.json_response(body)

    def _pod_stats(self, worker: PodWorker, usage: Mapping[str, Usage], now: float) -> dict[str, Any]:
        containers = []
        for name, run in worker.runs.items():
            mark = run.process.mark
            used = usage.get(mark, Usage())
            since_start = (now - (time.time() - run.record.began), Usage())
            before = self._samples.get(mark, since_start)
            if now - before[0] >= 1.0 or mark not in self._rates:
                self._rates[mark] = rate(before, (now, used))
                self._samples[mark] = now, used
            figures = _figures((self._rates[mark], used.cpu, used.rss))
            containers.append({"name": name, "startTime": rfc3339(run.record.began), **figures})
        reference = {"name": worker.name, "namespace": worker.namespace, "uid": worker.uid}
        return {"podRef": reference, "containers": containers, **_figures(_total(containers))}


def _figures(values: tuple[int, int, int]) -> dict[str, Any]:
    nanocores, core_nanoseconds, memory = values
    when = rfc3339(time.time())
    return {
        "cpu": {"time": when, "usageNanoCores": nanocores, "usageCoreNanoSeconds": core_nanoseconds},
        "memory": {"time": when, "workingSetBytes": memory, "usageBytes": memory, "rssBytes": memory},
    }


def _total(parts: Iterable[Mapping[str, Any]]) -> tuple[int, int, int]:
    rows = [(p["cpu"]["usageNanoCores"], p["cpu"]["usageCoreNanoSeconds"], p["memory"]["rssBytes"]) for p in parts]
    return sum(r[0] for r in rows), sum(r[1] for r in rows), sum(r[2] for r in rows)


def self_signed(directory: Path, address: str) -> ssl.SSLContext:
    """A server context with a fresh certificate in `directory`. An API server trusts any unless told otherwise."""
    from creditmodel_sandbox.pki import Identity  # a fifth of the node's start, and a sandbox's node needs none

    path = directory / "kubelet.pem"
    Identity.make(f"{address}@creditmodel-sandbox", names=[address]).write(path, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context
