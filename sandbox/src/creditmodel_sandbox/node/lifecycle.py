"""What to do next with a pod's containers, and what its status says. Pure: `now` is an argument, nothing is touched.

A `Record` is what the node knows of one container; `decide` says which to start or to leave, `pod_status` describes
them. Where this follows the kubelet: the order of init containers and sidecars, the back-off of restarts, phases and
conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from creditmodel_sandbox.notation import format_time

__all__ = [
    "Decision", "Facts", "Record", "decide", "delay", "is_sidecar", "pod_status", "record_of", "rfc3339",
    "seconds_of", "terminal_phase",
]  # fmt: skip

Obj = Mapping[str, Any]


def rfc3339(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Record:
    """One container. `state` is waiting, running or terminated, in the API's own shape."""

    name: str
    state: dict[str, Any] = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    crashes: int = 0
    """Restarts since it last ran long enough for its back-off to be forgotten."""
    began: float = 0.0
    ended: float = 0.0
    retry_at: float = 0.0
    """When an image or a configuration that could not be had is looked for again."""
    failures: int = 0
    id: str = ""
    image_id: str = ""
    started: bool = False
    ready: bool = False

    @property
    def kind(self) -> str:
        return next(iter(self.state))

    @property
    def exit_code(self) -> int | None:
        """Of the run that ended last, None while there is none or it runs."""
        ended = self.state.get("terminated") or (self.last.get("terminated") if self.kind == "waiting" else None)
        return None if ended is None else int(ended["exitCode"])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def ran(self, now: float, code: int, reason: str, message: str, started_at: str) -> None:
        """The container ended."""
        ended = {"exitCode": code, "reason": reason, "startedAt": started_at, "finishedAt": rfc3339(now)}
        ended |= {"message": message} if message else {}
        ended |= {"containerID": self.id} if self.id else {}
        self.state, self.ended, self.ready, self.started = {"terminated": ended}, now, False, False

    def running(self, now: float, restart: int, container_id: str) -> None:
        """The container started."""
        self.state = {"running": {"startedAt": rfc3339(now)}}
        self.began, self.restarts, self.id = now, restart, container_id
        self.failures, self.retry_at, self.ready, self.started = 0, 0.0, False, False

    def wait(self, reason: str, message: str = "") -> None:
        """Between runs. What ended moves to `last`."""
        if "terminated" in self.state:
            self.last = self.state
        self.state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        self.ready = self.started = False


def record_of(status: Obj) -> Record:
    """A container's record from what the API shows of it."""
    state = {k: v for k, v in (status.get("state") or {}).items() if v is not None} or {
        "waiting": {"reason": "ContainerCreating"}
    }
    last, restarts = dict(status.get("lastState") or {}), int(status.get("restartCount") or 0)
    current = next(iter(state.values()))
    ended = (state.get("terminated") or last.get("terminated") or {}).get("finishedAt")
    began = current.get("startedAt") or (last.get("terminated") or {}).get("startedAt")
    return Record(
        status["name"], dict(state), last, restarts, restarts,
        began=seconds_of(began) if began else 0.0,
        ended=seconds_of(ended) if ended else 0.0,
        id=status.get("containerID") or "",
        image_id=status.get("imageID") or "",
    )  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """`start`: containers to start now. `back_off`: those that wait, and until when. `over`: nothing will run again."""

    start: tuple[str, ...] = ()
    back_off: Mapping[str, float] = field(default_factory=dict)
    over: bool = False

    @property
    def wake_at(self) -> float | None:
        return min(self.back_off.values(), default=None)


def is_sidecar(container: Obj) -> bool:
    return container.get("restartPolicy") == "Always"


def _restarts(container: Obj, policy: str, code: int, *, init: bool) -> bool:
    policy = container.get("restartPolicy") or ("OnFailure" if init and policy == "Always" else policy)
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def delay(record: Record, backoff: float) -> float:
    """Seconds between the last end and the next start: none before the first restart, then doubling up to 30-fold."""
    return float(min(backoff * 2 ** (record.crashes - 1), 30 * backoff)) if record.crashes else 0.0


def _next(container: Obj, record: Record, policy: str, backoff: float, *, init: bool) -> float | None:
    """When to start this container; None means never (it runs, or has run)."""
    if record.kind == "running":
        return None
    if record.exit_code is None:
        return record.retry_at
    if not _restarts(container, policy, record.exit_code, init=init):
        return None
    return max(record.ended + delay(record, backoff), record.retry_at)


def decide(spec: Obj, records: Mapping[str, Record], now: float, backoff: float = 10.0) -> Decision:
    """The next step of a pod that is to run. `backoff` is the first delay between restarts, in seconds."""
    policy = spec.get("restartPolicy") or "Always"
    due: dict[str, float] = {}
    for container in spec.get("initContainers") or []:
        record = records[container["name"]]
        when = _next(container, record, policy, backoff, init=True)
        if when is not None:
            due[record.name] = when
        if is_sidecar(container):
            if record.started or _all_ran_once(spec, records):
                continue
            return _decision(due, now)
        if record.kind == "terminated" and record.exit_code == 0:
            continue
        failed = record.kind == "terminated" and when is None
        return Decision(over=True) if failed else _decision(due, now)
    main = {c["name"]: _next(c, records[c["name"]], policy, backoff, init=False) for c in spec["containers"]}
    if all(when is None and records[name].kind != "running" for name, when in main.items()):
        return Decision(over=True)
    return _decision(due | {name: when for name, when in main.items() if when is not None}, now)


def _all_ran_once(spec: Obj, records: Mapping[str, Record]) -> bool:
    return all(records[c["name"]].began for c in spec["containers"])


def _decision(due: Mapping[str, float], now: float) -> Decision:
    start = tuple(name for name, when in due.items() if when <= now)
    return Decision(start, {name: when for name, when in due.items() if when > now})


def terminal_phase(spec: Obj, records: Mapping[str, Record]) -> str:
    """The phase of a pod in which nothing will run again."""
    regular = [c for c in spec.get("initContainers") or [] if not is_sidecar(c)]
    codes = [records[c["name"]].exit_code for c in [*regular, *spec["containers"]]]
    return "Succeeded" if all(code == 0 for code in codes) else "Failed"


# --- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the status says beside the containers."""

    host_ip: str
    pod_ip: str = ""
    start_time: str = ""
    over: bool = False
    reason: str = ""
    message: str = ""


def pod_status(
    pod: Obj, records: Mapping[str, Record], facts: Facts, known: Mapping[str, Obj], now: float
) -> dict[str, Any]:
    """The whole status that the node owns. `known` are the conditions so far, by type; those of other owners are left
    out of the result, because the patch merges by type."""
    spec, generation = pod["spec"], pod["metadata"].get("generation")
    phase = _phase(spec, records, facts)
    observed = {"observedGeneration": generation} if generation else {}
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": _conditions(pod, records, facts, known, phase, now),
        "containerStatuses": [_container_status(c, records[c["name"]], init=False) for c in spec["containers"]],
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "startTime": facts.start_time,
        **observed,
    }
    if inits := spec.get("initContainers"):
        status["initContainerStatuses"] = [_container_status(c, records[c["name"]], init=True) for c in inits]
    if facts.pod_ip:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    if facts.reason:
        status |= {"reason": facts.reason, "message": facts.message}
    return status


def _container_status(container: Obj, record: Record, *, init: bool) -> dict[str, Any]:
    finished = init and not is_sidecar(container)
    status: dict[str, Any] = {
        "name": record.name,
        "image": container["image"],
        "imageID": record.image_id,
        "state": record.state,
        "lastState": record.last,
        "ready": record.exit_code == 0 if finished else record.ready,
        "started": record.started,
        "restartCount": record.restarts,
    }
    return status | ({"containerID": record.id} if record.id else {})


def _phase(spec: Obj, records: Mapping[str, Record], facts: Facts) -> str:
    if facts.reason:  # ended by a deadline or an eviction
        return "Failed"
    if facts.over:
        return terminal_phase(spec, records)
    if not _initialized(spec, records):
        return "Pending"
    waiting = any(r.kind == "waiting" and not r.last for r in _main(spec, records))
    return "Pending" if waiting else "Running"


def _main(spec: Obj, records: Mapping[str, Record]) -> list[Record]:
    return [records[c["name"]] for c in spec["containers"]]


def _incomplete(spec: Obj, records: Mapping[str, Record]) -> list[str]:
    inits = [(c, records[c["name"]]) for c in spec.get("initContainers") or []]
    return [r.name for c, r in inits if not (r.started if is_sidecar(c) else r.exit_code == 0)]


def _initialized(spec: Obj, records: Mapping[str, Record]) -> bool:
    return not _incomplete(spec, records) or any(r.began for r in _main(spec, records))


def _conditions(
    pod: Obj, records: Mapping[str, Record], facts: Facts, old: Mapping[str, Obj], phase: str, now: float
) -> list[dict[str, Any]]:
    spec = pod["spec"]
    sidecars = [records[c["name"]] for c in spec.get("initContainers") or [] if is_sidecar(c)]
    unready = [r.name for r in [*sidecars, *_main(spec, records)] if not r.ready]
    missing = "containers with incomplete status: [{}]".format(" ".join(_incomplete(spec, records)))
    containers = _readiness(unready, phase)
    initialized = ("", "") if _initialized(spec, records) else ("ContainersNotInitialized", missing)
    rows = {
        "PodReadyToStartContainers": (bool(facts.pod_ip) and not facts.over, "", ""),
        "Initialized": (not initialized[0], *initialized),
        "Ready": (not containers[0], *containers),
        "ContainersReady": (not containers[0], *containers),
        "PodScheduled": (True, "", ""),
    }
    if phase == "Succeeded":
        rows["Initialized"] = (True, "PodCompleted", "")
    generation = pod["metadata"].get("generation")
    return [_condition(kind, *row, old.get(kind, {}), generation, now) for kind, row in rows.items()]


def _readiness(unready: Iterable[str], phase: str) -> tuple[str, str]:
    """Why the containers are not ready: reason and message, empty when they are."""
    if phase == "Succeeded":
        return "PodCompleted", ""
    if phase == "Failed":
        return "PodFailed", ""
    names = " ".join(unready)
    return ("ContainersNotReady", f"containers with unready status: [{names}]") if names else ("", "")


def _condition(
    kind: str, value: bool, reason: str, message: str, old: Obj, generation: int | None, now: float
) -> dict[str, Any]:
    status = str(value)
    flipped = old.get("status") != status
    # An empty reason is written as null, so that a merge removes the one that was there.
    return {
        "type": kind,
        "status": status,
        "reason": reason or None,
        "message": message or None,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(now) if flipped else old.get("lastTransitionTime", rfc3339(now)),
        **({"observedGeneration": generation} if generation else {}),
    }
