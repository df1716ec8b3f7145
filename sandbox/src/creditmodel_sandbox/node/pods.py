"""One pod's life on this node: carries out what `lifecycle.decide` says, and reports.

A worker is one task. It wakes on a change of the pod, an exit, a probe's verdict or a due time, does one step, and
reports the status that results. What it knows is on disk after every step, so a new node process goes on where this one
ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from creditmodel_sandbox.client import ApiError, Client, ClientError, Informer, Obj
from creditmodel_sandbox.node import lifecycle, volumes
from creditmodel_sandbox.node.environment import ConfigError, Materials, Sources
from creditmodel_sandbox.node.images import ImageError, Images
from creditmodel_sandbox.node.launch import PodContext, Run, began, launch, log_path
from creditmodel_sandbox.node.lifecycle import Facts, Record, rfc3339, seconds_of
from creditmodel_sandbox.node.materials import Fetcher
from creditmodel_sandbox.node.probes import Outcome, Prober
from creditmodel_sandbox.node.process import StartError
from creditmodel_sandbox.node.statuses import RecordFile, StatusWriter
from creditmodel_sandbox.objects import PODS

if TYPE_CHECKING:
    import aiohttp

    from creditmodel_sandbox.events import Recorder
    from creditmodel_sandbox.node.addresses import AddressPool

__all__ = ["Host", "PodWorker"]

DEFAULT_GRACE, REMOVED_GRACE, DRAIN_SECONDS = 30, 1.0, 2.0
MOUNT_PAUSE, LONGEST_MOUNT_PAUSE, API_PAUSE, TROUBLE_PAUSE = 0.5, 120.0, 1.0, 5.0
log = logging.getLogger(__name__)


@dataclass
class Host:
    """What every pod of the node shares."""

    client: Client
    name: str
    address: str
    directory: Path
    identity: str
    images: Images
    pool: AddressPool
    events: Recorder
    session: aiohttp.ClientSession
    api: dict[str, str]
    """KUBERNETES_SERVICE_HOST and …_PORT."""
    allocatable: dict[str, str]
    limited: asyncio.Event
    """Set when a container with a memory limit starts."""
    backoff: float = 10.0
    informer: Informer | None = None


class _Later(Exception):
    """The volumes are not there yet; when to try again."""

    def __init__(self, when: float) -> None:
        super().__init__()
        self.when = when


class PodWorker:
    """Runs one pod until it is gone from the API."""

    def __init__(self, host: Host, pod: Obj) -> None:
        self.host, self.pod = host, pod
        metadata, spec = pod["metadata"], pod["spec"]
        self.uid, self.namespace, self.name = str(metadata["uid"]), str(metadata["namespace"]), str(metadata["name"])
        self.directory = host.directory / "pods" / self.uid
        self.directory.mkdir(parents=True, exist_ok=True)
        self.runs: dict[str, Run] = {}
        self._specs: dict[str, Obj] = {c["name"]: c for c in [*(spec.get("initContainers") or []), *spec["containers"]]}
        self._removed = False
        self._wake = asyncio.Event()
        self._volumes: dict[str, Path] | None = None
        self._mount_at, self._mount_pause = 0.0, MOUNT_PAUSE
        self._stale = False
        self._fetcher, self._materials = Fetcher(host.client), Materials()
        self._conditions: dict[str, Obj] = {}
        self._answered: str | None = None
        self._writer = StatusWriter(host.client, pod, self._written)
        self._file = RecordFile(self.directory)
        self.records, address = self._file.recover(pod, self._specs)
        status = pod.get("status") or {}
        over = status.get("phase") in {"Failed", "Succeeded"}
        self._facts = Facts(host.address, start_time=status.get("startTime") or rfc3339(time.time()), over=over)
        self._told_before = over
        """An earlier node has said the last word on this pod."""
        self._address = ""
        if address and not over:
            with contextlib.suppress(OverflowError):  # then it waits for one when a container starts
                self._take_address(address)

    # --- told from outside -------------------------------------------------------------------------------------------

    def update(self, pod: Obj) -> None:
        """The pod is as given now."""
        self.pod = pod
        self._wake.set()

    def removed(self) -> None:
        """The pod is gone from the API: what runs is stopped, and the worker ends."""
        self._removed = True
        self._wake.set()

    def object_changed(self, kind: str, namespace: str, name: str) -> None:
        """A ConfigMap or Secret changed, which this pod may read."""
        if namespace == self.namespace and (kind, name) in volumes.references(self.pod):
            self._stale, self._mount_at = True, 0.0
            for record in self.records.values():
                record.retry_at = 0.0
            self._wake.set()

    def out_of_memory(self, mark: str) -> None:
        """A container used more than its limit."""
        for run in self.runs.values():
            if run.process.mark == mark:
                run.killed_for = "OOMKilled"
                run.process.kill()

    async def shutdown(self, longest: float) -> None:
        """End the processes because the node ends, in `longest` seconds; the pod stays in the API as it is."""
        runs, grace = list(self.runs.values()), min(self._grace(), longest)
        for run in runs:
            if run.prober:
                run.prober.stop()
            run.process.terminate()
        for seconds in (grace, 1.0):
            if runs:
                await asyncio.wait([asyncio.shield(run.process.exited) for run in runs], timeout=seconds)
            for run in runs:
                run.process.kill()
        self._save()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the pod is gone, then remove what it left on disk."""
        writer = asyncio.create_task(self._writer.run())
        try:
            while not (self._removed and not self.runs):
                self._wake.clear()
                await self._sleep_until(await self._pass())
        finally:
            writer.cancel()
            self._release_address()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _pass(self) -> float | None:
        """One step and its report. What goes wrong in it is one pod's trouble, and is tried again."""
        try:
            due = await self._step()
            self._report()
            self._save()
            await self._finalize()
        except Exception:
            log.exception("pod %s/%s", self.namespace, self.name)
            return time.time() + TROUBLE_PAUSE
        return due

    async def _sleep_until(self, due: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - time.time())):
                await self._wake.wait()

    async def _step(self) -> float | None:
        """Do what is due now; when to look again."""
        now = time.time()
        self._kill_overdue(now)
        grace = self._grace_if_ending(now)
        if grace is None and not self._facts.over:
            decision = lifecycle.decide(self.pod["spec"], self.records, now, self.host.backoff)
            if not decision.over:
                return await self._carry_on(decision, now)
            grace = self._grace()  # for sidecars
        if not self._facts.over:
            self._stop_all(grace or 0.0, now)
            if not self.runs:
                self._clear_away()
        return self._next_kill()

    async def _carry_on(self, decision: lifecycle.Decision, now: float) -> float | None:
        for name in decision.start:
            await self._start(name)
            self._wake.set()
        for name, until in decision.back_off.items():
            self._show_back_off(self.records[name], until - now)
        await self._refresh_volumes(now)
        dues = (decision.wake_at, self._deadline(), self._next_kill(), self._fetcher.tokens_due)
        return min((due for due in dues if due is not None), default=None)

    def _kill_overdue(self, now: float) -> None:
        for run in self.runs.values():
            if run.kill_at is not None and run.kill_at <= now:
                run.process.kill()
                run.kill_at = now + 1.0

    def _next_kill(self) -> float | None:
        return min((run.kill_at for run in self.runs.values() if run.kill_at is not None), default=None)

    def _deadline(self) -> float | None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        return None if seconds is None else seconds_of(self._facts.start_time) + float(seconds)

    def _grace(self) -> float:
        grace = self.pod["spec"].get("terminationGracePeriodSeconds")
        return float(DEFAULT_GRACE if grace is None else grace)

    def _grace_if_ending(self, now: float) -> float | None:
        """How long the containers have, if the pod is to end; None when it is to run."""
        metadata, status = self.pod["metadata"], self.pod.get("status") or {}
        if self._removed:
            return min(REMOVED_GRACE, self._grace())
        if metadata.get("deletionTimestamp"):
            return float(metadata.get("deletionGracePeriodSeconds") or 0)
        if self._facts.over:
            return None
        deadline = self._deadline()
        if deadline is not None and deadline <= now:
            self._end("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        elif status.get("phase") in {"Failed", "Succeeded"}:  # somebody else ended it, as an eviction does
            self._end(status.get("reason") or "Terminated", status.get("message") or "ended through the API")
        return self._grace() if self._facts.reason else None

    def _end(self, reason: str, message: str) -> None:
        if not self._facts.reason:
            self._facts = replace(self._facts, reason=reason, message=message)
            self._event("Warning", reason, message)

    def _clear_away(self) -> None:
        """Nothing runs, and nothing will: the address and the volumes are free, the logs stay."""
        for record in self.records.values():
            if record.kind == "waiting" and record.last:
                record.state, record.last = record.last, {}
        self._facts = replace(self._facts, over=True)
        self._release_address()
        self._volumes = None
        for part in ("volumes", "containers"):
            shutil.rmtree(self.directory / part, ignore_errors=True)

    async def _finalize(self) -> None:
        """The last word on a deleted pod: when its final status is written, the object may go."""
        metadata = self.pod["metadata"]
        waits = bool(metadata.get("deletionTimestamp")) and metadata.get("deletionGracePeriodSeconds") != 0
        if not (waits and self._facts.over and self._writer.settled) or self._removed:
            return
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        try:
            await self.host.client.delete(PODS, self.namespace, self.name, options)
        except ClientError as e:
            if not (isinstance(e, ApiError) and e.code in {404, 409}):
                log.warning("deleting pod %s: %s", self.name, e)
                asyncio.get_running_loop().call_later(API_PAUSE, self._wake.set)

    # --- starting ----------------------------------------------------------------------------------------------------

    async def _start(self, name: str) -> None:
        """Start a container, or note why it cannot be started and when to try again."""
        container, record, now = self._specs[name], self.records[name], time.time()
        try:
            await self._mount(now)
            image = self.host.images.pull(container["image"], container.get("imagePullPolicy", ""))
            record.image_id = image.id
            restart = record.restarts + 1 if record.began else 0
            run = launch(self._context(), container, record, restart, image.bin_dir)
        except _Later as e:
            record.retry_at = e.when
        except ImageError as e:
            self._cannot_pull(container, record, e, now)
        except ConfigError as e:
            reason = "CreateContainerConfigError" if container.get("command") else "CreateContainerError"
            self._cannot_start(record, reason, str(e), now)
        except StartError as e:
            record.began = record.began or now
            record.ran(now, 128, "StartError", str(e), rfc3339(now))
            self._event("Warning", "Failed", f"Error: {e}", name)
        except ClientError as e:
            record.retry_at = now + API_PAUSE
            log.warning("pod %s: %s", self.name, e)
        else:
            self._started(run, restart)

    def _cannot_pull(self, container: Obj, record: Record, error: ImageError, now: float) -> None:
        again = record.failures > 0 and error.reason == "ErrImagePull"
        message = f'Back-off pulling image "{container["image"]}": {error}' if again else str(error)
        self._cannot_start(record, "ImagePullBackOff" if again else error.reason, message, now)

    def _cannot_start(self, record: Record, reason: str, message: str, now: float) -> None:
        record.wait(reason, message)
        record.retry_at = now + min(self.host.backoff * 2**record.failures, 30 * self.host.backoff)
        record.failures += 1
        self._event("Warning", "Failed", f"Error: {reason}: {message}", record.name)

    def _take_address(self, wanted: str = "") -> None:
        if not self.pod["spec"].get("hostNetwork"):
            self._address = self.host.pool.take(wanted)
        self._facts = replace(self._facts, pod_ip=self._address or self.host.address)

    def _release_address(self) -> None:
        if self._address:
            self.host.pool.release(self._address)
            self._address = ""  # somebody else's from now on

    async def _mount(self, now: float) -> None:
        """Make the pod's volumes, once, from what the API has now."""
        if now < self._mount_at:
            raise _Later(self._mount_at)
        try:
            if not self._facts.pod_ip:
                self._take_address()
            self._materials = await self._fetcher.fetch(self.pod)
            if self._volumes is None:
                self._volumes = volumes.prepare(self._sources(), self.directory / "volumes")
        except (ConfigError, OSError, OverflowError) as e:
            self._mount_at, self._mount_pause = now + self._mount_pause, min(self._mount_pause * 2, LONGEST_MOUNT_PAUSE)
            self._event("Warning", "FailedMount" if self._facts.pod_ip else "FailedCreatePodSandBox", str(e))
            for record in self.records.values():
                if record.kind == "waiting" and not record.began:
                    record.wait(record.state["waiting"]["reason"], str(e))
            raise _Later(self._mount_at) from e

    async def _refresh_volumes(self, now: float) -> None:
        """Bring files up to date after a change of a ConfigMap or Secret, or before a token ends."""
        due = self._fetcher.tokens_due
        if self._volumes is None or not (self._stale or (due is not None and due <= now)):
            return
        self._stale = False
        try:
            self._materials = await self._fetcher.fetch(self.pod)
            volumes.refresh(self._sources(), self.directory / "volumes")
        except (ConfigError, OSError, ClientError) as e:
            self._event("Warning", "FailedMount", f"a volume could not be brought up to date: {e}")

    def _sources(self) -> Sources:
        ip, host = self._facts.pod_ip, self.host.address
        fields = {"podIP": ip, "podIPs": ip, "hostIP": host, "hostIPs": host, "nodeName": self.host.name}
        return Sources(self.pod, self._materials, fields, self.host.allocatable)

    def _context(self) -> PodContext:
        host = self.host
        return PodContext(
            sources=self._sources(),
            directory=self.directory,
            logs=host.directory,
            identity=host.identity,
            volumes=self._volumes or {},
            given={"HOSTNAME": self.pod["spec"].get("hostname") or self.name, **host.api},
            session=host.session,
        )

    def _started(self, run: Run, restart: int) -> None:
        began(run, restart)
        name = run.record.name
        self.runs[name] = run
        if run.memory_limit:
            self.host.limited.set()
        self._save()
        old = log_path(self.host.directory, self.uid, name, restart - 2)
        for path in (old, old.with_name(old.name + ".1")):
            path.unlink(missing_ok=True)
        self._event("Normal", "Started", "Container started", name)
        run.hold(self._watch_exit(run))
        run.prober = Prober(run.place, _Verdicts(self, run))

    # --- ending ------------------------------------------------------------------------------------------------------

    def _stop_all(self, grace: float, now: float) -> None:
        """Ask what runs to end; sidecars after the containers that they serve."""
        sidecars = {name for name in self.runs if lifecycle.is_sidecar(self._specs[name])}
        first = self.runs.keys() - sidecars or sidecars
        for name in first:
            self.stop(self.runs[name], grace, f"Stopping container {name}", now)

    def stop(self, run: Run, grace: float, why: str, now: float | None = None) -> None:
        """Ask a container to end; it is killed after `grace` seconds. A shorter grace later is honoured."""
        kill_at = (time.time() if now is None else now) + grace
        if run.kill_at is not None:
            run.kill_at = min(kill_at, run.kill_at)
            return
        run.kill_at = kill_at
        if run.prober:
            run.prober.stop_liveness()
        self._event("Normal", "Killing", why, run.record.name)
        run.process.terminate()
        self._wake.set()

    async def _watch_exit(self, run: Run) -> None:
        code = await run.process.exited
        await asyncio.wait([run.pump.done], timeout=DRAIN_SECONDS)
        run.pump.finish()
        if run.prober:
            run.prober.stop()
        record, now = run.record, time.time()
        if now - record.began >= 60 * self.host.backoff:
            record.crashes = 0
        reason = run.killed_for or ("Completed" if code == 0 else "Error")
        message = run.last_words(code, len(self._specs))
        record.ran(now, code, reason, message, record.state["running"]["startedAt"])
        self.runs.pop(record.name, None)
        self._wake.set()
        self._save()

    def _show_back_off(self, record: Record, seconds: float) -> None:
        if record.kind != "terminated" or seconds <= 0:
            return
        delay = lifecycle.delay(record, self.host.backoff)
        where = f"{self.name}_{self.namespace}({self.uid})"
        record.wait("CrashLoopBackOff", f"back-off {delay:g}s restarting failed container={record.name} pod={where}")
        self._event("Warning", "BackOff", f"Back-off restarting failed container {record.name}", record.name)

    def probed(self, run: Run, kind: str, outcome: Outcome, *, passed: bool) -> None:
        """What a probe of a container found."""
        record = run.record
        if not outcome.ok:
            self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {outcome.message}", record.name)
        if kind == "readiness":
            record.ready = passed
        elif kind == "startup" and passed and outcome.ok:
            record.started = True
        elif not passed:
            grace = run.place.container[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            why = f"Container {record.name} failed {kind} probe, will be restarted"
            self.stop(run, self._grace() if grace is None else float(grace), why)
        self._wake.set()

    # --- reporting ---------------------------------------------------------------------------------------------------

    def _event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        inits = {c["name"] for c in self.pod["spec"].get("initContainers") or []}
        part = "initContainers" if container in inits else "containers"
        path = f"spec.{part}{{{container}}}" if container else ""
        self.host.events.emit("kubelet", self.pod, kind, reason, message, path)

    def _report(self) -> None:
        """Hand the status to its writer. Our own last conditions count, and others' as the API has them."""
        if self._told_before:
            return
        known = {c["type"]: c for c in (self.pod.get("status") or {}).get("conditions") or []} | self._conditions
        status = lifecycle.pod_status(self.pod, self.records, self._facts, known, time.time())
        self._conditions = {c["type"]: c for c in status["conditions"]}
        self._writer.put(status, again=self._is_contradicted())

    def _is_contradicted(self) -> bool:
        """Whether the API shows another readiness than was written, as the control plane says of a node that it
        thinks lost. Each version of the pod is answered once.
        """
        version = self.pod["metadata"].get("resourceVersion")
        if not self._writer.settled or version == self._answered:
            return False
        shown = {c["type"]: c["status"] for c in (self.pod.get("status") or {}).get("conditions") or []}
        contradicted = any(shown.get(kind) != self._conditions[kind]["status"] for kind in ("Ready", "ContainersReady"))
        self._answered = version if contradicted else self._answered
        return contradicted

    def _written(self, answer: Obj) -> None:
        if answer and self.host.informer is not None and not self._removed:
            self.host.informer.observe(answer)
        self._wake.set()

    def _save(self) -> None:
        self._file.save(self.records.values(), self._facts.pod_ip)


class _Verdicts:
    """Carries what the probes of one run find to its pod's worker."""

    def __init__(self, worker: PodWorker, run: Run) -> None:
        self._worker, self._run = worker, run

    def probed(self, kind: str, outcome: Outcome, *, passed: bool) -> None:
        self._worker.probed(self._run, kind, outcome, passed=passed)
