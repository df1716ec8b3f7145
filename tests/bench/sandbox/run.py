"""What the sandbox costs: `python run.py`, ends with one line of JSON.

start_s           from `up` to its return, that is until pods can run; the median of three starts
create_rps        ConfigMaps of 1 kB created a second, 8 requests at a time
patch_rps         merge patches of them a second, 8 at a time
list_1000_ms      one list of 1,000 of them, the median
watch_lag_p99_ms  from just before a write to its arrival at each of 10 watchers, at 100 writes a second
rss_mb            of the API server while it holds 1,000 objects and has served the above
idle_cpu_percent  of one core, for the sandbox's three processes together, with a Deployment of two pods that are probed
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from creditmodel_sandbox.client import Client, Resource, load_kubeconfig

JSON = dict[str, Any]
MAPS = Resource("v1", "configmaps", "ConfigMap")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
OBJECTS, AT_A_TIME, WATCHERS, WRITES, PAUSE_S = 1000, 8, 10, 300, 0.01
PAYLOAD = "x" * 1000


def sandbox(state: Path, *arguments: str) -> None:
    """One command of the instance that is measured."""
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", arguments[0], "--name", "bench", *arguments[1:]]
    done = subprocess.run(
        [*command, "--state-dir", str(state)], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def start(state: Path) -> float:
    """Seconds until an instance with new state is ready."""
    began = time.perf_counter()
    sandbox(state, "up")
    return time.perf_counter() - began


def processes(state: Path) -> dict[str, int]:
    """Process ids by part."""
    record = json.loads((state / "instance.json").read_text())
    return {part: entry["pid"] for part, entry in record["processes"].items()}


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_seconds(pids: list[int]) -> float:
    """CPU time that processes have used, user and system."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def rate(requests: list[Callable[[], Awaitable[Any]]]) -> float:
    """Requests a second with `AT_A_TIME` of them under way."""
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            await request()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return len(requests) / (time.perf_counter() - began)


def config_map(name: str) -> JSON:
    """1 kB of data under a name."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"payload": PAYLOAD}}


async def fill(client: Client) -> tuple[float, float]:
    """Creates and patches a second."""
    names = [f"map-{number:04}" for number in range(OBJECTS)]
    created = await rate([lambda n=name: client.create(MAPS, "default", config_map(n)) for name in names])  # type: ignore[misc]
    change = {"metadata": {"labels": {"changed": "yes"}}}
    patched = await rate([lambda n=name: client.patch(MAPS, "default", n, change) for name in names])  # type: ignore[misc]
    return created, patched


async def list_ms(client: Client) -> float:
    """Milliseconds for a whole list, decoded."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        answer = await client.list(MAPS, "default")
        times.append((time.perf_counter() - began) * 1e3)
        if len(answer["items"]) < OBJECTS:
            raise SystemExit(f"the list has {len(answer['items'])} objects, not {OBJECTS}")
    return statistics.median(times)


async def watch_lags_ms(client: Client) -> list[float]:
    """For each write and each watcher, milliseconds from just before the request to the event."""
    version = (await client.list(MAPS, "default", limit="1"))["metadata"]["resourceVersion"]
    written: dict[str, float] = {}
    lags: list[float] = []

    async def follow() -> None:
        seen = 0
        async for event in client.watch(MAPS, "default", resourceVersion=version):
            if event["type"] == "MODIFIED":
                lags.append((time.perf_counter() - written[event["object"]["data"]["beat"]]) * 1e3)
                seen += 1
            if seen == WRITES:
                return

    watchers = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
    for number in range(WRITES):
        await asyncio.sleep(PAUSE_S)
        written[str(number)] = time.perf_counter()
        await client.patch(MAPS, "default", f"map-{number:04}", {"data": {"beat": str(number)}})
    await asyncio.wait_for(asyncio.gather(*watchers), 30)
    return lags


async def run_pods(client: Client) -> None:
    """A Deployment whose two pods answer a probe each second, as a served model does."""
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    server = {"name": "server", "image": "creditmodel-jobs:dev", "env": [address], "readinessProbe": probe}
    server["command"] = ["python", "-m", "http.server", "8080", "--bind", "$(POD_IP)"]
    labels = {"app": "idle"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [server]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "idle"}, "spec": spec}
    await client.create(DEPLOYMENTS, "default", body)
    deadline = time.monotonic() + 60
    while (await client.get(DEPLOYMENTS, "default", "idle")).get("status", {}).get("readyReplicas") != 2:
        if time.monotonic() > deadline:
            raise SystemExit("the pods of the idle Deployment did not get ready within 60 s")
        await asyncio.sleep(0.1)


async def measure(state: Path, idle_seconds: float) -> JSON:
    """Everything but the start."""
    pids = processes(state)
    async with Client(load_kubeconfig(state / "kubeconfig"), "bench") as client:
        created, patched = await fill(client)
        listed, lags = await list_ms(client), await watch_lags_ms(client)
        memory = resident_mb(pids["apiserver"])
        await run_pods(client)
    await asyncio.sleep(5)  # what starting the pods still costs
    before, began = cpu_seconds([*pids.values()]), time.perf_counter()
    await asyncio.sleep(idle_seconds)
    idle = (cpu_seconds([*pids.values()]) - before) / (time.perf_counter() - began) * 100
    return {
        "create_rps": round(created),
        "patch_rps": round(patched),
        "list_1000_ms": round(listed, 1),
        "watch_lag_p99_ms": round(statistics.quantiles(lags, n=100)[98], 1),
        "rss_mb": round(memory),
        "idle_cpu_percent": round(idle, 2),
    }


def main() -> int:
    """Run the bench; 0 when everything was measured."""
    parser = argparse.ArgumentParser(description="What the sandbox costs: start, requests, watches, memory, idling.")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="how long idling is measured")
    arguments = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        states = [Path(temporary) / f"state{number}" for number in range(3)]
        starts = []
        try:
            for number, state in enumerate(states):
                starts.append(start(state))
                if number < len(states) - 1:
                    sandbox(state, "down")
            found = asyncio.run(measure(states[-1], arguments.idle_seconds))
        finally:
            for state in states:
                if (state / "instance.json").exists():
                    sandbox(state, "reset")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(json.dumps({"start_s": round(statistics.median(starts), 2), **found}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
