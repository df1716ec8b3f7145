"""A whole rollout, the state that it must end in, and what must be true each time the Service's selector moves."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.operator.conftest import Ground

    from faulty import Request

JSON = dict[str, Any]

__all__ = ["SECTIONS", "Witness", "difference", "final_state", "over", "revision_of", "tell"]

SECTIONS: JSON = {
    "serving": {"replicas": {"min": 2, "max": 4}},
    "rollout": {"keepPreviousSeconds": 0, "revisionHistoryLimit": 1},
    "drift": {"current": {"uri": "file:///log"}},
}
STATE = ("CreditModel", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "CronJob", "Job")
_VARIABLE = [
    (re.compile(r'("creditmodel.dev/applied": )"[0-9a-f]{16}"'), r'\1"<fingerprint>"'),  # of a manifest with a uid
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\b127\.\d+\.\d+\.\d+\b"), "<address>"),
]


def tell(ground: Ground, meanwhile: Callable[[], None], bundles: tuple[str, ...] = ("v1", "v2")) -> None:
    """Each bundle in turn is applied, gated and promoted, and the one before it retired."""
    for bundle in bundles:
        ground.apply(bundle, **SECTIONS)
        ground.until(lambda b=bundle: over(ground, b), f"{bundle} Ready", meanwhile)  # type: ignore[misc]


def over(ground: Ground, bundle: str) -> bool:
    """Ready, everyone else at zero, and the status says so."""
    if not ground.is_ready(bundle):
        return False
    status = ground.status
    active = status["active"]["revision"]
    scaled = {item["metadata"]["name"]: item["spec"]["replicas"] for item in ground.objects("Deployment")}
    states = {entry["revision"]: entry["state"] for entry in status["history"]}
    return all(name == active or (size == 0 and states[name] == "AtZero") for name, size in scaled.items())


def revision_of(bundle: str) -> str:
    """The revision of the stub's bundle."""
    return f"credit-{hashlib.sha256(bundle.encode()).hexdigest()[:10]}"


def final_state(ground: Ground) -> JSON:
    """Everything that a rollout leaves, without what differs between two runs of the same story."""
    found = {f"{kind}/{o['metadata']['name']}": _essence(kind, o) for kind in STATE for o in ground.objects(kind)}
    text = json.dumps(found, sort_keys=True).replace(ground.namespace, "<namespace>")
    for job in ground.objects("Job"):
        text = text.replace(job["metadata"]["name"], _job(job["metadata"]))
    for pattern, name in _VARIABLE:
        text = pattern.sub(name, text)
    state: JSON = json.loads(text)
    return state


def _job(meta: JSON) -> str:
    """A gate Job by what it measures and which attempt it is: its name has the uid of the CreditModel in it."""
    gate, measures = meta["labels"]["creditmodel.dev/gate"], meta["annotations"]["creditmodel.dev/measures"]
    return f"<{gate} {measures} {meta['name'].rsplit('-', 1)[1]}>"


def difference(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Where two states differ, a line each."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [line for key in keys for line in difference(found.get(key), wanted.get(key), f"{where}/{key}")]
    return [] if found == wanted else [f"{where}: {found!r} instead of {wanted!r}"]


def _essence(kind: str, item: JSON) -> JSON:
    meta = item["metadata"]
    managers = sorted({entry["manager"] for entry in meta.get("managedFields", ())})
    kept = {key: meta[key] for key in ("labels", "annotations", "ownerReferences", "finalizers") if key in meta}
    status = item.get("status") if kind == "CreditModel" else None
    return {"metadata": kept, "managers": managers, "spec": item["spec"], "status": status}


class Witness:
    """Looks at each move of the selector, and counts the Jobs of each gate that there ever were."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.jobs: dict[str, set[str]] = {}
        self.moves: list[str] = []
        self.wrong: list[str] = []

    def wrote(self, request: Request) -> None:
        """A write has taken effect."""
        if request.kind == "services":
            self._selector_moved()
        elif request.kind == "jobs":
            for job in self.ground.objects("Job"):
                self.jobs.setdefault(job["metadata"]["name"], set()).add(job["metadata"]["uid"])

    def _selector_moved(self) -> None:
        ground, revision = self.ground, self.ground.selected
        if revision is None or [revision] == self.moves[-1:]:
            return
        self.moves.append(revision)
        deployment = ground.server.get(f"{ground.path('Deployment')}/{revision}")
        wanted, ready = deployment["spec"]["replicas"], deployment.get("status", {}).get("readyReplicas", 0)
        if ready < wanted or not ready:
            self.wrong.append(f"the selector moved to {revision} with {ready} of {wanted} pods ready")
        gates = {
            job["metadata"]["labels"]["creditmodel.dev/gate"] for job in ground.objects("Job") if _of(job, revision)
        }
        if gates != {"artifact", "parity", "benchmark"}:
            self.wrong.append(f"the selector moved to {revision} when only {sorted(gates)} had passed")

    def verdict(self) -> str:
        """What was seen; an empty list of wrongs is asserted by the caller."""
        twice = [name for name, uids in self.jobs.items() if len(uids) > 1]
        assert not twice, f"made twice: {twice}"
        assert not self.wrong, self.wrong
        return f"{len(self.jobs)} Jobs, {len(self.moves)} moves of the selector"


def _of(job: JSON, revision: str) -> bool:
    """Whether the Job measured this revision and is complete. The stub completes what passes, and only that."""
    ended = {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
    digest = job["metadata"]["annotations"].get("creditmodel.dev/digest", "")
    return "Complete" in ended and revision.endswith(digest[7:17]) and bool(digest)
