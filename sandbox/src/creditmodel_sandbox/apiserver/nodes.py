"""What the server asks of nodes on a client's behalf: logs and resource use."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web

from creditmodel_sandbox.apiserver.errors import ApiError, bad_request, not_found
from creditmodel_sandbox.apiserver.objects import Objects
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.storage import Key

__all__ = ["Nodes"]

JSON = dict[str, Any]
CONNECT_SECONDS = 5.0


class Nodes:
    """Reaches kubelets over plain HTTP on loopback."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session

    def _kubelet(self, name: str) -> str:
        """A node's address, as the node publishes it."""
        record = self._objects.store.get("nodes", ("", name))
        status = record.object().get("status", {}) if record else {}
        address = next((a["address"] for a in status.get("addresses", ()) if a["type"] == "InternalIP"), None)
        port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
        if not (address and port):
            raise ApiError(503, "ServiceUnavailable", f"node {name} publishes no kubelet endpoint")
        return f"http://{address}:{port}"

    async def logs(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        """Stream a container's log."""
        pod = self._objects.read(resource, key).object()
        container = _container(pod, key[1], request.query.get("container"))
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(f"pod {key[1]} does not have a host assigned")
        query = {name: value for name, value in request.query.items() if name != "container"}
        url = f"{self._kubelet(node)}/containerLogs/{key[0]}/{key[1]}/{container}"
        try:
            async with self._client().get(url, params=query) as answer:
                if answer.status >= 400:
                    raise bad_request((await answer.text()).strip())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                with suppress(ConnectionResetError):  # the client has gone, as after logs -f
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                return response
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, TimeoutError) as error:
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach node {node}: {error}") from error

    # Resource use

    async def metrics(self, resource: Resource, namespace: str, name: str) -> list[JSON]:
        """PodMetrics or NodeMetrics as they are now, from every node's summary."""
        nodes = [key[1] for key in self._objects.store.collection("nodes").records]
        summaries = [found for found in await asyncio.gather(*map(self._summary, nodes)) if found is not None]
        if resource.plural == "nodes":
            items = [_usage_item(resource, s["node"]["nodeName"], "", s["node"], None) for s in summaries]
        else:
            items = [
                _usage_item(
                    resource, pod["podRef"]["name"], pod["podRef"]["namespace"], pod, pod.get("containers") or []
                )
                for summary in summaries
                for pod in summary.get("pods") or ()
            ]
        items = [
            item
            for item in items
            if namespace in ("", item["metadata"].get("namespace")) and name in ("", item["metadata"]["name"])
        ]
        if name and not items:
            raise not_found(resource, f"{namespace}/{name}" if namespace else name)
        for item in items:
            key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
            record = self._objects.store.get(resource.plural, key)
            item["metadata"]["labels"] = record.labels if record else {}
        return items

    async def _summary(self, node: str) -> JSON | None:
        try:
            timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
            async with self._client().get(f"{self._kubelet(node)}/stats/summary", timeout=timeout) as answer:
                summary: JSON = await answer.json(content_type=None)
                return summary
        except (aiohttp.ClientError, TimeoutError, ApiError, ValueError):
            return None


def _container(pod: JSON, name: str, wanted: str | None) -> str:
    names = [c["name"] for field in ("initContainers", "containers") for c in pod["spec"].get(field) or ()]
    if wanted is None:
        if len(pod["spec"]["containers"]) > 1:
            shown = " ".join(container["name"] for container in pod["spec"]["containers"])
            raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{shown}]")
        return str(pod["spec"]["containers"][0]["name"])
    if wanted not in names:
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted


def _usage(stats: JSON) -> JSON:
    cpu = (stats.get("cpu") or {}).get("usageNanoCores") or 0
    memory = (stats.get("memory") or {}).get("workingSetBytes") or 0
    return {"cpu": f"{cpu}n", "memory": f"{memory // 1024}Ki"}


def _usage_item(resource: Resource, name: str, namespace: str, stats: JSON, containers: list[JSON] | None) -> JSON:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    source = containers[0] if containers else stats
    time = (source.get("cpu") or {}).get("time")
    item: JSON = {"metadata": metadata, "timestamp": time, "window": "15s"}
    item |= {"kind": resource.kind, "apiVersion": resource.api_version}
    if containers is None:
        return {**item, "usage": _usage(stats)}
    return {**item, "containers": [{"name": container["name"], "usage": _usage(container)} for container in containers]}
