"""What the operator costs beside a bare Kopf handler: `python run.py`, ends with one line of JSON.

A burst of CreditModels goes through gates and rollout on an API server of the sandbox, where a stub ends Jobs and
readies Deployments at once; then they rest; then the operator is killed and started again. Then, on an API server of
its own, a bare Kopf handler creates the very same children for as many CreditModels, with the same stub at work. The
operator has the first core; the API server, the stub and the load share the second, so that both are held up by the
same things.

floor_ms_per_write     the burst's time per child that a bare handler creates (floor.py's `create`)
least_ms_per_write     the same of the least that can be had of Kopf, which leaves no trace on the object (`event`)
ms_per_write           the burst's time per write of the operator, status, records and events included
ratio_floor            the one over the other
ratio_floor_per_child  the operator's burst over the bare handler's: the same children, so time per child;
                       ratio_least_per_child is that over the least
cpu_ratio_per_child    the same of the CPU time of the API server, the stub and the load, which hold up both bursts:
                       it hardly depends on what else the machine does
cpu_ms_per_write       CPU time of the operator's process per write; floor_cpu_ms_per_write is the bare handler's
apply_to_first_job_*   from the apply's answer to the first Job, to its watcher; apply_to_ready_* to Ready=True
requests_per_object    requests of the operator in the burst, watches aside, per CreditModel
rss_mb_1000            resident memory of the operator, the peak (the name tells the default number of objects)
restart_s_1000         from starting it again to every object looked at and an empty queue
idle_*_per_min         requests and writes at rest, counted by a proxy between it and the API server, watches included
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from creditmodel_sandbox.client import Client, Informer, Resource, load_kubeconfig

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
sys.path += [str(ROOT), str(ROOT / "tests" / "integration" / "operator" / "support")]
from tests.conftest import ApiServer  # noqa: E402

from faulty import is_write, proxied  # noqa: E402 - of the integration tests

JSON = dict[str, Any]
NAMESPACE = "bench"
MODELS = Resource("creditmodel.dev/v1alpha1", "creditmodels", "CreditModel")
CHILDREN = (
    Resource("batch/v1", "jobs", "Job"),
    Resource("apps/v1", "deployments", "Deployment"),
    Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("v1", "services", "Service"),
)
TELLING = [resource for resource in CHILDREN if resource.kind in ("Job", "Deployment")]
"""The children that something becomes of. The rest is not watched: its watchers would share the API server's core."""
AT_A_TIME, DEADLINE = 4, 900.0
OPERATOR_CORE, OTHERS_CORE = 0, 1


@dataclass
class Process:
    """A process on one core, with its log."""

    process: subprocess.Popen[bytes]
    log: Path
    core: int

    def url(self) -> str:
        """Where the operator says that its metrics are."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and "url" in (entry := json.loads(line)):
                    return str(entry["url"])
            time.sleep(0.02)
        raise SystemExit(f"the operator did not start:\n{self.log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        """CPU time used so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """The most memory that was resident at a time."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


RUNNING: list[Process] = []


def others_cpu_s() -> float:
    """CPU time so far of what is not the operator: the API server, the stub, and the load, which is this process."""
    return time.process_time() + sum(running.cpu_s() for running in RUNNING if running.core == OTHERS_CORE)


@contextmanager
def started(work: Path, name: str, core: int, command: list[str], **environment: str) -> Iterator[Process]:
    """A process on `core`, ended afterwards."""
    log = work / f"{name}-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["/usr/bin/env", "taskset", "-c", str(core), *command],
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
        )
    running = Process(process, log, core)
    RUNNING.append(running)
    try:
        yield running
    finally:
        RUNNING.remove(running)
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def api_server(work: Path, name: str) -> Iterator[Path]:
    """An API server without controllers and node; the path of its kubeconfig."""
    state = work / name
    kubeconfig = state / "kubeconfig"
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "apiserver", "--state-dir", str(state)]
    with started(work, name, OTHERS_CORE, [*command, "--watch-history", "200000"]):
        wait(kubeconfig.exists, "the API server's kubeconfig", 30)
        yield kubeconfig


def wait(wanted: Callable[[], bool], what: str, seconds: float) -> None:
    """Until `wanted`, or the end of the bench."""
    end = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


async def install(client: Client) -> None:
    """The CRD and the namespace."""
    for file in (ROOT / "crds").glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        await client.create(Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "", False), "", definition)
    await client.create(Resource("v1", "namespaces", "Namespace", False), "", {"metadata": {"name": NAMESPACE}})
    account = {"metadata": {"name": "default"}}  # no controller is there to make it, and no pod may be without
    await client.create(Resource("v1", "serviceaccounts", "ServiceAccount"), NAMESPACE, account)


def name_of(number: int) -> str:
    return f"model-{number:05}"


async def apply_all(client: Client, count: int) -> dict[str, float]:
    """Create `count` CreditModels; for each, when the answer was there."""
    applied: dict[str, float] = {}
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            name = name_of(number)
            model = {"uri": f"file:///models/{name}", "digest": f"sha256:{number:064x}"}
            body = {"apiVersion": MODELS.api_version, "kind": MODELS.kind, "metadata": {"name": name}}
            await client.create(MODELS, NAMESPACE, body | {"spec": {"model": model}})
            applied[name] = time.perf_counter()

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return applied


@dataclass
class Watcher:
    """Sees children come and CreditModels get ready."""

    first_job: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    """Jobs that ended and Deployments whose pods are ready."""
    last: float = 0.0

    def saw(self, _: JSON | None, new: JSON | None) -> None:
        """One change of one object."""
        if new is None:
            return
        now, kind = time.perf_counter(), new["kind"]
        if kind == MODELS.kind:
            if _condition(new, "Ready"):
                self.ready.setdefault(new["metadata"]["name"], now)
            return
        if kind == "Job":
            self.first_job.setdefault(new["metadata"]["ownerReferences"][0]["name"], now)
        if _is_settled(new) and (key := f"{kind}/{new['metadata']['name']}") not in self.settled:
            self.settled.add(key)
            self.last = now


def _condition(obj: JSON, wanted: str) -> bool:
    conditions = obj.get("status", {}).get("conditions", ())
    return any(c["type"] == wanted and c["status"] == "True" for c in conditions)


def _is_settled(child: JSON) -> bool:
    if child["kind"] == "Job":
        return _condition(child, "Complete")
    return bool(child.get("status", {}).get("readyReplicas"))


@contextmanager
def watching(client: Client, watcher: Watcher, tasks: asyncio.TaskGroup) -> Iterator[None]:
    """Feed the watcher from watches."""
    running = [
        tasks.create_task(Informer(client, resource, watcher.saw, namespace=NAMESPACE).run())
        for resource in (*TELLING, MODELS)
    ]
    try:
        yield
    finally:
        for task in running:
            task.cancel()


async def until(wanted: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for a condition within the deadline."""
    end = time.monotonic() + DEADLINE
    while not wanted():
        for running in RUNNING:
            if running.process.poll() is not None:
                raise SystemExit(f"{running.log.stem} has ended:\n{running.log.read_text()[-2000:]}")
        if time.monotonic() > end:
            raise SystemExit(f"not within {DEADLINE:.0f} s: {what()}")
        await asyncio.sleep(0.05)


async def scrape(url: str) -> Callable[..., float]:
    """The operator's metrics: a function that sums the samples of a name whose line has a text."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()

    def total(name: str, *having: str) -> float:
        mine = [line for line in lines if re.match(rf"{name}[{{ ]", line) and all(text in line for text in having)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    return total


def writes(total: Callable[..., float]) -> float:
    """Requests that change something."""
    return sum(
        total("creditmodel_operator_api_requests_total", f'verb="{verb}"') for verb in ("PATCH", "POST", "DELETE")
    )


def operator_command() -> list[str]:
    command = Path(sys.executable).parent / "creditmodel-operator"
    return [str(command), "run", "--namespace", NAMESPACE]


async def settled(url: str) -> tuple[Callable[..., float], float]:
    """The metrics and the number of writes, once there was no write for two seconds."""
    made, total = -1.0, await scrape(url)
    while made != writes(total):
        made = writes(total)
        await asyncio.sleep(2)
        total = await scrape(url)
    return total, made


@dataclass(frozen=True)
class Spent:
    """What a burst took."""

    seconds: float
    others_cpu_s: float
    """CPU time of what is not the operator."""


async def burst(client: Client, operator: Process, count: int) -> tuple[JSON, Spent]:
    """From the first apply to the last Ready; the figures, and what it took."""
    watcher = Watcher()
    url = operator.url()
    async with asyncio.TaskGroup() as tasks:
        with watching(client, watcher, tasks):
            cpu, others, began = operator.cpu_s(), others_cpu_s(), time.perf_counter()
            applied = await apply_all(client, count)
            await until(lambda: len(watcher.ready) == count, lambda: f"{len(watcher.ready)} of {count} are Ready")
            spent = Spent(max(watcher.ready.values()) - began, others_cpu_s() - others)
    total, made = await settled(url)
    first = [(watcher.first_job[name] - at) for name, at in applied.items()]
    ready = [(watcher.ready[name] - at) for name, at in applied.items()]
    return {
        "ms_per_write": spent.seconds / made * 1e3,
        "cpu_ms_per_write": (operator.cpu_s() - cpu) / made * 1e3,
        "writes_per_object": made / count,
        "apply_to_first_job_p50_s": statistics.median(first),
        "apply_to_first_job_p99_s": percentile(first, 99),
        "apply_to_ready_p50_s": statistics.median(ready),
        "apply_to_ready_p99_s": percentile(ready, 99),
        "requests_per_object": total("creditmodel_operator_api_requests_total") / count,
    }, spent


def percentile(values: list[float], percent: int) -> float:
    """A percentile of at least two values."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0]


async def template(client: Client) -> list[JSON]:
    """The first CreditModel's children as one would create them, @NAME@ and @UID@ in place of what is its own."""
    name = name_of(0)
    uid = (await client.get(MODELS, NAMESPACE, name))["metadata"]["uid"]
    found = []
    for resource in CHILDREN:
        listed = await client.list(resource, NAMESPACE, labelSelector=f"app.kubernetes.io/instance={name}")
        for item in listed["items"]:
            meta = {
                k: v for k, v in item["metadata"].items() if k in ("name", "labels", "annotations", "ownerReferences")
            }
            spec = {k: v for k, v in item["spec"].items() if k not in ("clusterIP", "clusterIPs")}
            for made in (
                "controller-uid",
                "batch.kubernetes.io/controller-uid",
                "job-name",
                "batch.kubernetes.io/job-name",
            ):
                spec.get("template", {}).get("metadata", {}).get("labels", {}).pop(made, None)
            if resource.kind == "Job":
                spec.pop("selector", None)
            found.append({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec})
    return json.loads(json.dumps(found).replace(uid, "@UID@").replace(name, "@NAME@"))  # type: ignore[no-any-return]


async def restart(work: Path, environment: JSON, count: int, idle_s: float) -> JSON:
    """A new operator on what is there: until it has looked at everything, and then at rest behind a counting proxy."""
    with proxied(ApiServer(Path(environment["KUBECONFIG"]))) as proxy:
        kubeconfig = proxy.kubeconfig(work / "proxied")
        began = time.perf_counter()
        with started(work, "restarted", OPERATOR_CORE, operator_command(), KUBECONFIG=str(kubeconfig)) as operator:
            url = await asyncio.to_thread(operator.url)
            passes = 0.0
            while passes < count:
                if time.perf_counter() - began > DEADLINE:
                    raise SystemExit(f"after a restart {passes:.0f} passes over {count} objects, no more")
                await asyncio.sleep(0.05)
                total = await scrape(url)
                passes = (
                    0.0 if total("creditmodel_operator_queue_depth") else total("creditmodel_operator_passes_total")
                )
            seconds = time.perf_counter() - began
            await asyncio.sleep(5)  # what starting still costs
            cpu, rested = operator.cpu_s(), time.monotonic()
            await asyncio.sleep(idle_s)
            minutes = (time.monotonic() - rested) / 60
            return {
                "restart_s_1000": seconds,
                "restart_writes": len(proxy.since(0, is_write)),
                "restart_rss_mb": operator.peak_mb(),
                "idle_requests_per_min": len(proxy.since(rested)) / minutes,
                "idle_watches_per_min": len(proxy.since(rested, lambda request: request.watches)) / minutes,
                "idle_writes_per_min": len(proxy.since(rested, is_write)) / minutes,
                "idle_cpu_percent": (operator.cpu_s() - cpu) / minutes / 60 * 100,
            }


async def ours(work: Path, count: int, idle_s: float) -> tuple[JSON, Spent, list[JSON]]:
    """The operator: burst, restart, rest. The figures, what the burst took, and one CreditModel's children."""
    with api_server(work, "ours") as kubeconfig:
        environment = {"KUBECONFIG": str(kubeconfig)}
        async with Client(load_kubeconfig(kubeconfig), "bench") as client:
            await install(client)
            stub = started(work, "stub", OTHERS_CORE, [sys.executable, str(HERE / "stub.py"), str(kubeconfig)])
            operator = started(work, "operator", OPERATOR_CORE, operator_command(), **environment)
            with stub, operator as running:
                await asyncio.to_thread(running.url)
                found, spent = await burst(client, running, count)
                memory = running.peak_mb()
            children = await template(client)
            found |= {"rss_mb_1000": memory} | await restart(work, environment, count, idle_s)
    return found, spent, children


async def floor(work: Path, count: int, children: list[JSON], handler: str) -> tuple[Spent, float]:
    """The bare handler on the same children: what the burst took, and CPU seconds of its process."""
    file = work / "children.json"
    file.write_text(json.dumps(children))
    telling = sum(child["kind"] in ("Job", "Deployment") for child in children)
    watcher, wanted = Watcher(), count * telling
    with api_server(work, f"floor-{handler}") as kubeconfig:
        environment = {"KUBECONFIG": str(kubeconfig), "FLOOR_CHILDREN": str(file), "FLOOR_NAMESPACE": NAMESPACE}
        environment |= {"FLOOR_HANDLER": handler}
        async with Client(load_kubeconfig(kubeconfig), "bench") as client, asyncio.TaskGroup() as tasks:
            await install(client)
            stub = started(work, "stub", OTHERS_CORE, [sys.executable, str(HERE / "stub.py"), str(kubeconfig)])
            bare = started(work, "bare", OPERATOR_CORE, [sys.executable, str(HERE / "floor.py")], **environment)
            with stub, bare as running, watching(client, watcher, tasks):
                await warm(client, watcher, telling)
                watcher.settled.clear()
                cpu, others, began = running.cpu_s(), others_cpu_s(), time.perf_counter()
                await apply_all(client, count)
                await until(
                    lambda: len(watcher.settled) == wanted, lambda: f"{len(watcher.settled)} of {wanted} are settled"
                )
                return Spent(watcher.last - began, others_cpu_s() - others), running.cpu_s() - cpu


async def warm(client: Client, watcher: Watcher, children: int) -> None:
    """One CreditModel before the clock starts, to know that the handler is up."""
    body = {"apiVersion": MODELS.api_version, "kind": MODELS.kind, "metadata": {"name": "warm"}}
    await client.create(MODELS, NAMESPACE, body | {"spec": {"model": {"uri": "file:///models/warm"}}})
    await until(lambda: len(watcher.settled) == children, lambda: "the bare handler has created nothing")


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


async def measure(arguments: argparse.Namespace) -> JSON:
    """Both, side by side."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        found, spent, children = await ours(work, arguments.objects, arguments.idle_seconds)
        bare, floor_cpu_s = await floor(work, arguments.objects, children, "create")
        least, _ = await floor(work, arguments.objects, children, "event")
    created = arguments.objects * len(children)
    found["floor_ms_per_write"] = bare.seconds / created * 1e3
    found["least_ms_per_write"] = least.seconds / created * 1e3
    found["floor_cpu_ms_per_write"] = floor_cpu_s / created * 1e3
    found["ratio_floor"] = found["ms_per_write"] / found["floor_ms_per_write"]
    found["ratio_floor_per_child"] = spent.seconds / bare.seconds
    found["ratio_least_per_child"] = spent.seconds / least.seconds
    found["cpu_ratio_per_child"] = spent.others_cpu_s / bare.others_cpu_s
    found["children_per_object"] = len(children)
    return {name: rounded(value) for name, value in found.items()}


def main() -> int:
    """Run the bench; 0 when everything was measured."""
    parser = argparse.ArgumentParser(description="What the operator costs beside a bare Kopf handler.")
    parser.add_argument("--objects", type=int, default=1000, help="CreditModels")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="how long idling is measured")
    arguments = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    found = asyncio.run(measure(arguments))
    print(f"load average at the end: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for name, value in sorted(found.items()):
        print(f"{name:28}{value:>12g}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
