"""Whatever happens in whatever order: what must never happen does not, and it all comes to rest."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from creditmodel_operator import names
from creditmodel_operator.api.spec import Parity
from creditmodel_operator.observed import parse_time
from creditmodel_operator.plan import Action, Apply, Create, Delete, Look

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]

ROWS = Parity().rows
MEASURED = ("artifact", "parity", "benchmark")
GOOD = ("good1", "good2", "good3")
BAD = ("bad1", "bad2")
OUTCOMES = ("measured", "measured", "measured", "another model", "nonsense", "silent", "failed", "lost")
LEAST, MOST, ATTEMPTS, SUPERSEDED = 2, 6, 4, 6
PLACED: JSON = {"nodeSelector": {"pool": "scoring"}}
CHILDREN = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "Job", "Pod", "CronJob")


def make_world() -> World:
    """The world of conftest.py, which pytest has loaded as a plugin and not as a module."""
    module = next(m for name, m in sys.modules.items() if name.endswith("unit.creditmodel_operator.conftest"))
    world: World = module.World()
    return world


def conflict() -> type[Exception]:
    """What the world raises where an API server says 409."""
    found: type[Exception] = sys.modules[make_world().__class__.__module__].Conflict
    return found


EDITS: dict[str, Callable[[JSON], None]] = {
    "Deployment": lambda spec: spec["template"]["spec"]["containers"][0].update(image="edited:1"),
    "HorizontalPodAutoscaler": lambda spec: spec.update(maxReplicas=99),
    "PodDisruptionBudget": lambda spec: spec.update(maxUnavailable=9),
    "Service": lambda spec: spec["ports"][0].update(targetPort=1),
}
"""What a hand changes of a child."""


def _orphan(live: JSON) -> None:
    live["metadata"]["ownerReferences"] = [{"uid": "somebody", "controller": True}]


def remembers(action: Action) -> bool:
    """Whether a write only notes what was seen: what Jobs have said would be lost with their pods."""
    return isinstance(action, Look) or (isinstance(action, Apply) and action.manager == names.RECORD_MANAGER)


class Life(RuleBasedStateMachine):
    """Random spec edits, Job results, pods, deletions by hand, time, and a process that dies between two writes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = make_world()
        self.world.watcher = self.after_write
        self.served = False
        self.healthy: str | None = None
        self.last: str | None = None
        """The revision that the operator last made the Service select."""
        self.passed: set[tuple[str, str]] = set()
        """Revision and gate: what a Job has measured of a good model, at some time."""
        self.rows: set[tuple[str, int]] = set()
        """Revision and rows: what a parity Job has measured of a good model, at some time."""
        self.lenient: set[str] = set()
        """Revisions that have been tried at limits that a good model keeps."""
        self.approved: set[str] = set()
        """Models that somebody has approved at some time."""
        self.asked: dict[str, tuple[str, str, str]] = {}
        """Job to revision, gate and retryToken that it was made for."""
        self.answered: set[tuple[str, str, str]] = set()
        """The same, of those that have measured a good model."""
        self.tokens = 0
        self.promoted: set[str] = set()
        """Revisions that have taken over at some time."""
        self.left: dict[str, datetime] = {}
        """When former champions gave way, unless a hand was at work since."""
        self.size = 0
        """Pods that the champion should have, as far as whoever scales it says."""
        self.good: set[str] = set()
        """Revisions that spec has named at some time, and that are no bad ones."""
        self.made: set[str] = set()
        """uids of Deployments."""
        self.untouched = True
        """No hand has deleted a Job or a Deployment."""
        self.world.reader = self.after_status

    # -- what must never happen, checked after every single write

    def after_write(self, action: Action) -> None:
        champion = self.world.champion
        if isinstance(action, Create) and action.manifest["metadata"]["labels"].get(names.GATE):
            self.job_was_made(action)
        self.sizes_hold(champion, action)
        assert not self.suspended() or remembers(action), f"written while suspended: {action}"
        if champion is not None and not self.suspended():
            assert champion in self.good, f"{champion} takes requests, and is no good"
            missing = {gate for gate in MEASURED if (champion, gate) not in self.passed}
            assert not missing, f"{champion} takes requests, and nothing has ever measured {missing}"
            assert champion in self.lenient, f"{champion} takes requests, and never kept the limits"
            if self.world.approval_required:
                approved = {self.world.revision(name) for name in self.approved}
                assert champion in approved, f"{champion} takes requests without anybody having approved it"
        if isinstance(action, Apply) and action.kind == "Service" and champion != self.healthy:
            ready = self.is_healthy(champion) and self.is_newest(champion)
            assert self.was_down() or ready, f"the selector moved to {champion}, which is not ready"
        if isinstance(action, Apply) and action.kind == "Service":
            self.selector_was_written(champion)
        if self.healthy is not None:
            assert champion is not None, "the Service of a healthy champion is gone"
            assert self.is_healthy(champion), f"a write of the operator took {champion} down: {action}"
        self.healthy = champion if self.is_healthy(champion) else None
        self.served = self.served or self.healthy is not None

    def job_was_made(self, action: Create) -> None:
        """Gates come one after another, each with few attempts that are not made at once, and for what spec names."""
        meta = action.manifest["metadata"]
        bundle, gate = meta["annotations"][names.URI].rsplit("/", 1)[1], meta["labels"][names.GATE]
        assert bundle == self.named(), f"a Job for {bundle}, and spec names {self.named()}"
        revision, attempt = self.world.revision(bundle), int(action.name.rsplit("-", 1)[1])
        before = {other for other in MEASURED[: MEASURED.index(gate)] if (revision, other) not in self.passed}
        assert not before, f"{gate} is measured before {before}"
        assert gate != "benchmark" or (bundle not in BAD and not self.strict()), "measured after a gate that it fails"
        assert attempt <= ATTEMPTS, f"attempt {attempt}"
        earlier = self.world.objects.get(("Job", f"{action.name.rsplit('-', 1)[0]}-{attempt - 1}"))
        if earlier is not None and "status" in earlier:  # else it never started
            ended = parse_time(earlier["status"]["conditions"][0]["lastTransitionTime"])
            assert ended is not None
            assert self.world.now >= ended + timedelta(seconds=10 * 3 ** (attempt - 2)), "tried again at once"
        self.asked[action.name] = (revision, gate, self.token())

    def sizes_hold(self, champion: str | None, action: Action) -> None:
        """Nothing that the operator writes takes pods from the champion, from what is new, or from what is warm."""
        if isinstance(action, Apply) and action.kind == "Deployment":
            size = self.world.replicas(action.name)
            if action.name == champion:
                assert size >= self.size, f"{champion} had {self.size} pods, and has {size} after {action}"
            if (uid := self.world.objects["Deployment", action.name]["metadata"]["uid"]) not in self.made:
                self.made.add(uid)
                assert size >= LEAST, f"{action.name} is made with {size} pods"
        if action.kind == "Deployment" and action.name in self.left and action.name != champion:
            self.former_was_retired(action)
        self.size = self.pods_of(champion)

    def pods_of(self, revision: str | None) -> int:
        """How many pods it should have, 0 where it has no Deployment."""
        there = revision is not None and revision in self.world.names_of("Deployment")
        return self.world.replicas(revision or "") if there else 0

    def former_was_retired(self, action: Action) -> None:
        """The last champion stays as it was for as long as spec says."""
        at = self.left[action.name] + timedelta(seconds=self.rollout("keepPreviousSeconds", 3600))
        kept = self.rollout("revisionHistoryLimit", 3) and action.name == max(self.left, key=lambda n: self.left[n])
        cold = isinstance(action, Apply) and action.body.get("spec", {}).get("replicas") == 0
        assert not (kept and self.world.now < at and (cold or isinstance(action, Delete))), f"too soon: {action}"
        if isinstance(action, Delete):
            del self.left[action.name]

    def named(self) -> str:
        """The bundle that spec names."""
        uri: str = self.world.objects["CreditModel", "credit"]["spec"]["model"]["uri"]
        return uri.rsplit("/", 1)[1]

    def rollout(self, name: str, default: int) -> int:
        """A number of spec.rollout."""
        found: int = self.world.objects["CreditModel", "credit"]["spec"].get("rollout", {}).get(name, default)
        return found

    def token(self) -> str:
        found: str = self.world.objects["CreditModel", "credit"]["spec"].get("rollout", {}).get("retryToken", "")
        return found

    def after_status(self, old: JSON, new: JSON) -> None:
        """Status says what is so, in the words of kstatus, and a condition's time moves when its status does."""
        generation, champion = (
            self.world.objects["CreditModel", "credit"]["metadata"]["generation"],
            self.world.champion,
        )
        found = {c["type"]: c for c in new["conditions"]}
        assert {new["observedGeneration"], *(c["observedGeneration"] for c in found.values())} == {generation}
        said = [found[name]["status"] for name in ("Ready", "Reconciling", "Stalled")]
        assert said.count("True") <= 1, said
        for before in old.get("conditions", ()):
            same = before["status"] == found[before["type"]]["status"]
            assert not same or before["lastTransitionTime"] == found[before["type"]]["lastTransitionTime"], before
        if self.suspended():
            return
        assert new.get("active", {}).get("revision") == champion, "status names another champion"
        live = self.world.objects.get(("Deployment", champion or ""), {})
        pods = live.get("status", {}).get("availableReplicas", 0)
        assert (found["Available"]["status"] == "True") == bool(champion and pods), found["Available"]
        if found["Ready"]["status"] == "True":
            assert champion == self.world.revision(self.named())
            assert pods >= LEAST, f"Ready with {pods} pods"

    def selector_was_written(self, champion: str | None) -> None:
        """It leads to what spec names, or to where it led before, as long as that is there."""
        if champion is not None and champion != self.last:
            self.took_over(champion)
        spec = self.world.objects["CreditModel", "credit"]["spec"]
        named = self.world.revision(spec["model"]["uri"].rsplit("/", 1)[1])
        there = self.last in self.world.names_of("Deployment")
        assert champion in (named, self.last) or not there, f"the selector went from {self.last} to {champion}"
        self.last = champion

    def took_over(self, champion: str) -> None:
        """A new champion was measured under today's retryToken, and has as many pods as the one before."""
        if champion not in self.promoted and self.last in {None, *self.world.names_of("Deployment")}:
            token = self.token()
            missing = [gate for gate in MEASURED if (champion, gate, token) not in self.answered]
            assert not missing, f"{champion} takes over without {missing} under token {token!r}"
        if self.last is not None and self.healthy == self.last:
            least = min(self.world.replicas(self.last), MOST)
            assert self.world.replicas(champion) >= least, f"{champion} takes over with too few pods"
            self.left[self.last] = self.world.now
        self.left.pop(champion, None)
        self.promoted.add(champion)
        self.size = 0

    def was_down(self) -> bool:
        """A hand had taken the champion down before: putting it back makes nothing worse."""
        return self.healthy is None and self.served

    def is_healthy(self, revision: str | None) -> bool:
        live = self.world.objects.get(("Deployment", revision or ""))
        if live is None:
            return False
        return bool(live.get("status", {}).get("readyReplicas") and live["spec"].get("replicas", 1) > 0)

    def is_newest(self, revision: str | None) -> bool:
        """Whether its counts are about the template that it has now."""
        live = self.world.objects["Deployment", revision or ""]
        return bool(live["status"]["observedGeneration"] == live["metadata"]["generation"])

    def suspended(self) -> bool:
        return bool(self.world.objects["CreditModel", "credit"]["spec"].get("suspend"))

    def refresh(self) -> None:
        """The world has changed by itself or by hand: what is healthy now."""
        champion = self.world.champion
        self.healthy = champion if self.is_healthy(champion) else None
        self.served = self.served or self.healthy is not None
        self.size = self.pods_of(champion)

    # -- what happens

    @initialize(bundle=st.sampled_from(GOOD + BAD), guarded=st.booleans())
    def begin(self, bundle: str, guarded: bool) -> None:
        self.world.approval_required = guarded
        self.world.spec(bundle)
        self.lenient.add(self.world.revision(bundle))
        self.good |= set() if bundle in BAD else {self.world.revision(bundle)}
        self.somebody_decides(bundle, "Approve")
        self.a_good_while_passes(4, None)

    @rule(
        bundle=st.sampled_from(GOOD + BAD),
        token=st.sampled_from([None, "a", "b"]),
        limit=st.sampled_from([None, 1e-5, 1e-9]),
        rows=st.sampled_from([None, None, 99]),
        keep=st.sampled_from([0, 60]),
        history=st.sampled_from([0, 1, 1, 2]),
        resolve=st.booleans(),
        suspend=st.sampled_from([False, False, False, True]),
        checked=st.booleans(),
        image=st.sampled_from([None, None, "other", "placed"]),
    )
    def edit_spec(
        self,
        bundle: str,
        token: str | None,
        limit: float | None,
        rows: int | None,
        keep: int,
        history: int,
        resolve: bool,
        suspend: bool,
        checked: bool,
        image: str | None,
    ) -> None:
        limits: JSON = {} if limit is None else {"rtol": limit, "atol": limit}
        limits |= {} if rows is None else {"rows": rows}
        sections: JSON = {"gates": {"parity": limits}, "suspend": suspend, "model": {}}
        sections["rollout"] = {
            "keepPreviousSeconds": keep,
            "progressDeadlineSeconds": 120,
            "revisionHistoryLimit": history,
        }
        sections["rollout"] |= {"retryToken": token} if token else {}
        sections |= {"drift": {"current": {"uri": "file:///log"}}} if checked else {}
        sections |= {"serving": {"image": image} if image == "other" else PLACED} if image else {}
        sections["model"] |= {"digest": None} if resolve else {}
        self.world.spec(bundle, **sections)
        self.lenient |= set() if self.strict() else {self.world.revision(bundle)}
        self.good |= set() if bundle in BAD else {self.world.revision(bundle)}

    def strict(self) -> bool:
        """Whether spec has a limit that no model keeps."""
        limits = self.world.objects["CreditModel", "credit"]["spec"].get("gates", {}).get("parity", {})
        return bool(limits.get("atol") == 1e-9)

    @rule(bundle=st.sampled_from(GOOD + BAD), decision=st.sampled_from(["Approve", "Approve", "Reject", "withdraw"]))
    def somebody_decides(self, bundle: str, decision: str) -> None:
        standing = sorted(name for name in self.world.names_of("ModelApproval") if name.endswith(bundle))
        if decision == "withdraw" and standing:
            self.world.delete("ModelApproval", standing[0])
        elif decision != "withdraw" and f"{decision}-{bundle}".lower() not in standing:
            self.world.decide_about(bundle, decision)
            self.approved |= {bundle} if decision == "Approve" else set()

    @rule(outcome=st.sampled_from(OUTCOMES), which=st.integers(0, 5))
    def end_a_job(self, outcome: str, which: int) -> None:
        running = [job for job in self.world.jobs(running=True) if job["metadata"]["labels"].get(names.GATE)]
        if not running:
            return
        job = running[which % len(running)]
        match outcome:
            case "measured":
                self.world.end_job(job, self.measured(job))
            case "another model":
                self.world.end_job(job, self.world.good(job) | {"digest": "sha256:" + "e" * 64})
            case "nonsense":
                self.world.end_job(job, '{"kind": "parity", "half a docu')
            case "silent":
                self.world.end_job(job, "")
            case "failed":
                self.world.end_job(job, "", complete=False, terminated={"reason": "OOMKilled"})
            case _:
                self.world.end_job(job, None, complete=False, job_reason="DeadlineExceeded")

    def measured(self, job: JSON) -> JSON:
        found: JSON = self.world.good(job)
        bundle = job["metadata"]["annotations"][names.URI]
        if "bad" in bundle and found["kind"] == "parity":
            found |= {"envelope": [[1.0, 0.5]], "max_abs_diff": 0.5}
        revision = self.world.revision(bundle.rsplit("/", 1)[1])
        self.passed.add((revision, found["kind"]))
        self.answered |= {self.asked[job["metadata"]["name"]]} if job["metadata"]["name"] in self.asked else set()
        if found["kind"] == "parity":
            command = job["spec"]["template"]["spec"]["containers"][0]["command"]
            self.rows.add((revision, int(command[command.index("--rows") + 1])))
        return found

    @rule()
    def end_all_jobs_well(self) -> None:
        for job in self.world.jobs(running=True):
            if job["metadata"]["labels"].get(names.GATE):
                self.world.end_job(job, self.measured(job))

    @rule(which=st.integers(0, 5), ready=st.sampled_from([None, None, 0, 1]))
    def pods_change(self, which: int, ready: int | None) -> None:
        deployments = sorted(self.world.names_of("Deployment"))
        if deployments:
            self.world.settle(deployments[which % len(deployments)], ready)
            self.refresh()

    @rule(replicas=st.integers(2, 6))
    def the_autoscaler_acts(self, replicas: int) -> None:
        champion = self.world.champion or ""
        if ("HorizontalPodAutoscaler", champion) in self.world.objects and (
            "Deployment",
            champion,
        ) in self.world.objects:
            self.world.hand_edit("Deployment", champion, lambda live: live["spec"].update(replicas=replicas))
            self.refresh()

    @rule(replicas=st.integers(2, 6), image=st.sampled_from([None, "other", "placed"]))
    def the_autoscaler_acts_while_the_operator_decides(self, replicas: int, image: str | None) -> None:
        """Spec is edited, and between the decision and the write the champion is scaled."""
        if self.named() not in GOOD or self.world.champion != self.world.revision(self.named()):
            return
        self.edit_spec(self.named(), None, None, None, 60, 1, resolve=False, suspend=False, checked=True, image=image)
        self.refresh()
        plan = self.world.decide()
        self.the_autoscaler_acts(replicas)
        self.world.reader = None  # what it says is of before
        with contextlib.suppress(conflict()):
            self.world.carry_out(plan)
        self.world.reader = self.after_status

    @rule(kind=st.sampled_from(sorted(EDITS)), what=st.sampled_from(["spec", "owner"]))
    def a_hand_edits_a_child(self, kind: str, what: str) -> None:
        """It is put back."""
        self.the_operator_works()
        name = "credit" if kind == "Service" else self.world.champion or ""
        if (kind, name) not in self.world.objects or self.suspended():
            return
        before = json.dumps(self.world.objects[kind, name]["spec"], sort_keys=True)
        owners = list(self.world.objects[kind, name]["metadata"]["ownerReferences"])
        self.world.hand_edit(kind, name, lambda live: EDITS[kind](live["spec"]) if what == "spec" else _orphan(live))
        self.healthy = None  # other pods may come up meanwhile
        self.the_operator_works()
        live = self.world.objects[kind, name]
        assert json.dumps(live["spec"], sort_keys=True) == before, f"{kind} stays as a hand has left it"
        assert live["metadata"]["ownerReferences"] == owners, f"{kind} stays without its owner"

    @rule(kind=st.sampled_from(CHILDREN), which=st.integers(0, 5))
    def a_hand_deletes_a_child(self, kind: str, which: int) -> None:
        found = sorted(self.world.names_of(kind))
        if found:
            self.world.delete(kind, found[which % len(found)])
            self.left.clear()
            self.untouched = self.untouched and kind not in ("Job", "Pod", "Deployment", "Service")
            self.refresh()

    @rule()
    def a_hand_edits_the_selector(self) -> None:
        if "credit" in self.world.names_of("Service"):
            before = self.world.champion
            self.world.watcher = None
            self.world.hand_edit(
                "Service", "credit", lambda live: live["spec"]["selector"].update({names.REVISION: "x"})
            )
            self.world.carry_out(self.world.decide(), stop_after=1)
            self.world.watcher = self.after_write
            self.left.clear()
            assert self.world.champion != "x" or self.suspended(), f"not put back onto {before} by the first write"
            if (champion := self.world.champion) not in (None, "x"):  # what spec names may have become ready meanwhile
                self.promoted.add(champion)
            self.refresh()

    @rule()
    def status_is_lost(self) -> None:
        self.world.objects["CreditModel", "credit"].pop("status", None)

    @rule(seconds=st.sampled_from([1, 15, 70, 300]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(seconds=st.sampled_from([1, 9, 65, 130, 3600]))
    def the_operator_sleeps_until_it_has_something_to_do(self, seconds: int) -> None:
        """It looks again when it said that it would, and looking before is in vain."""
        self.the_operator_works()
        until = self.world.decide().look_again
        assert until is None or until > self.world.now, "a time that is over wakes the operator for ever"
        if until is not None and self.world.now + timedelta(seconds=seconds) >= until:
            self.world.now = until
            return
        self.world.wait(seconds)
        plan = self.world.decide()
        assert not plan.actions, f"there was something to do, and nothing would have woken the operator: {plan.actions}"
        assert plan.status is None, "there was something to say, and nothing would have woken the operator"

    @rule(writes=st.integers(0, 4))
    def the_operator_dies_between_two_writes(self, writes: int) -> None:
        self.refresh()
        self.world.carry_out(self.world.decide(), stop_after=writes)

    @rule()
    def the_operator_works(self) -> None:
        self.refresh()
        self.world.reconcile()
        if not self.suspended():
            self.children_are_as_they_should_be()
            self.jobs_are_those_that_somebody_waits_for()

    def children_are_as_they_should_be(self) -> None:
        """The champion has everything, former ones what they need, and a challenger is what spec names."""
        champion, spec = self.world.champion, self.world.objects["CreditModel", "credit"]["spec"]
        named, there = self.world.revision(self.named()), self.world.names_of("Deployment")
        assert self.world.names_of("HorizontalPodAutoscaler") == ({champion} if champion else set())
        assert (not champion) or {champion} <= there & self.world.names_of("PodDisruptionBudget")
        assert self.world.names_of("CronJob") == ({"credit-drift"} if champion and "drift" in spec else set())
        former = there - {champion, named}
        assert former <= self.promoted, f"{former - self.promoted}: superseded, and still there"
        assert len(former) <= self.rollout("revisionHistoryLimit", 3), "more former champions than are to be kept"
        for name in former & self.left.keys():
            last = max(self.left.values())  # the one that came after it may have come again since
            over = self.world.now > last + timedelta(seconds=self.rollout("keepPreviousSeconds", 3600))
            assert not over or self.world.replicas(name) == 0, f"{name} is kept warm for ever"
        if champion is not None:
            assert self.world.replicas(champion) >= LEAST
        if self.world.conditions["Ready"] == "True":
            pod = self.world.objects["Deployment", named]["spec"]["template"]["spec"]
            assert pod.get("nodeSelector") == spec.get("serving", {}).get("nodeSelector")

    def jobs_are_those_that_somebody_waits_for(self) -> None:
        """What runs is for what spec names; what was said is on the Job; what came to nothing does not pile up."""
        named, there = self.world.revision(self.named()), self.world.names_of("Deployment")
        mine = [job for job in self.world.jobs() if job["metadata"]["labels"].get(names.GATE)]
        spoken = {pod["metadata"]["ownerReferences"][0]["uid"] for pod in self.pods_that_said_something()}
        superseded = 0
        for job in mine:
            meta, ended = job["metadata"], "conditions" in job.get("status", {})
            revision = self.world.revision(meta["annotations"][names.URI].rsplit("/", 1)[1])
            assert ended or revision == named, f"{meta['name']} runs, and nobody waits for it"
            superseded += ended and revision not in there | {named}
            if revision == named and meta["uid"] in spoken and self.is_evidence(meta["name"]):
                assert names.MEASUREMENT in meta["annotations"], f"what {meta['name']} said would go with its pod"
        assert superseded <= SUPERSEDED
        evidence = {gate["job"] for gate in self.world.status["gates"] if "job" in gate}
        assert evidence <= {job["metadata"]["name"] for job in mine}, "a verdict stands on a Job that is not there"

    def is_evidence(self, job: str) -> bool:
        """Whether status gives it as what a final verdict stands on."""
        final = ("Passed", "Failed")
        return any(gate.get("job") == job and gate["verdict"] in final for gate in self.world.status["gates"])

    def pods_that_said_something(self) -> list[JSON]:
        pods = [o for (kind, _), o in self.world.objects.items() if kind == "Pod" and "status" in o]
        return [
            pod
            for pod in pods
            for container in pod["status"].get("containerStatuses", ())
            if container.get("state", {}).get("terminated", {}).get("message")
        ]

    @rule(rounds=st.integers(1, 5), pods=st.sampled_from([None, None, None, 0]))
    def a_good_while_passes(self, rounds: int, pods: int | None) -> None:
        for _ in range(rounds):
            self.the_operator_works()
            self.end_all_jobs_well()
            for name in self.world.names_of("Deployment"):
                self.world.settle(name, pods)
            self.world.wait(5)
        self.the_operator_works()

    @rule(bundle=st.sampled_from(GOOD), keep=st.sampled_from([0, 60]), history=st.sampled_from([0, 1, 2]))
    def another_model_takes_over(self, bundle: str, keep: int, history: int) -> None:
        self.somebody_decides(bundle, "Approve")
        self.edit_spec(bundle, None, None, None, keep, history, resolve=False, suspend=False, checked=True, image=None)
        self.a_good_while_passes(5, None)

    def new_token(self) -> str:
        """A retryToken that has not been used yet."""
        self.tokens += 1
        return f"t{self.tokens}"

    def fresh(self) -> str:
        """A good model that has not been seen yet, and that may take over."""
        bundle = f"fresh{len(self.good)}"
        self.somebody_decides(bundle, "Approve")
        return bundle

    @rule(half=st.integers(1, 4), bundle=st.sampled_from(GOOD))
    def a_model_is_superseded_on_its_way(self, half: int, bundle: str) -> None:
        """Gates and pods get as far as they get, and then spec names another."""
        self.asks(self.fresh())
        for _ in range(half):
            self.the_operator_works()
            self.end_all_jobs_well()
        self.the_operator_works()
        self.asks(bundle)
        self.the_operator_works()

    @rule()
    def settings_change_when_the_pods_are_ready(self) -> None:
        """Pods of the old settings are no reason to take over."""
        bundle = self.fresh()
        self.asks(bundle)
        self.a_good_while_passes(3, 0)
        name = self.world.revision(bundle)
        if name not in self.world.names_of("Deployment") or name == self.world.champion:
            return
        self.world.settle(name)
        self.edit_spec(bundle, None, None, None, 60, 1, resolve=False, suspend=False, checked=False, image="other")
        self.the_operator_works()
        assert self.world.champion != name, "pods of other settings than spec's have taken over"

    @rule(seconds=st.sampled_from([30, 59, 61]))
    def a_successor_takes_over_and_time_passes(self, seconds: int) -> None:
        """The one before has served for long: it is kept from now on, not from when it took over."""
        self.world.wait(600)
        bundle = next(name for name in GOOD if name != self.named())
        self.another_model_takes_over(bundle, 60, 1)
        self.the_operator_sleeps_until_it_has_something_to_do(seconds)
        self.the_operator_works()

    def asks(self, bundle: str, token: str | None = None, rows: int | None = None) -> None:
        """An edit of spec with nothing odd about it."""
        self.edit_spec(bundle, token, None, rows, 60, 1, resolve=False, suspend=False, checked=False, image=None)

    @rule(outcome=st.sampled_from(["failed", "silent", "nonsense", "another model"]), times=st.sampled_from([1, 2, 6]))
    def a_job_comes_to_nothing_again_and_again(self, outcome: str, times: int) -> None:
        """It is tried again in time, though not for ever; and then it all goes well."""
        self.asks("good1", self.new_token())
        for _ in range(times):
            self.the_operator_works()
            self.end_a_job(outcome, 0)
            self.the_operator_sleeps_until_it_has_something_to_do(130)
        self.a_good_while_passes(6, None)

    @rule(rounds=st.integers(1, 4))
    def the_token_changes_on_the_way(self, rounds: int) -> None:
        """What was measured under the one before counts only for what has served, and what failed may be tried."""
        bundle = self.fresh()
        self.asks(bundle, self.new_token())
        self.a_good_while_passes(rounds, 0)
        self.the_operator_sleeps_until_it_has_something_to_do(130)
        self.the_operator_works()
        self.asks(bundle, self.new_token())
        self.a_good_while_passes(5, None)
        assert self.world.approval_required or self.world.conditions["Stalled"] == "False", self.world.status

    @rule(rows=st.sampled_from([None, 99]))
    def more_is_asked_of_the_champion(self, rows: int | None) -> None:
        self.another_model_takes_over("good3", 60, 1)
        self.asks("good3", rows=rows)
        self.a_good_while_passes(1, None)

    @rule()
    def what_has_taken_over_is_approved_for_good(self) -> None:
        """Nobody has to keep the object of a decision."""
        self.another_model_takes_over("good2", 60, 1)
        before = self.world.conditions["Ready"]
        for name in [name for name in self.world.names_of("ModelApproval") if name == f"approve-{self.named()}"]:
            self.world.delete("ModelApproval", name)
        self.the_operator_works()
        assert self.suspended() or before != "True" or self.world.conditions["Ready"] == "True", (
            "approval was withdrawn"
        )

    @rule()
    def what_has_stalled_is_tried_again(self) -> None:
        """A new retryToken, and a limit that a good model keeps: there is something to wait for again."""
        self.the_operator_works()
        if self.suspended() or self.named() not in GOOD or self.world.conditions["Stalled"] != "True":
            return
        if f"reject-{self.named()}" in self.world.names_of("ModelApproval"):
            return
        self.edit_spec(
            self.named(), self.new_token(), None, None, 60, 1, resolve=False, suspend=False, checked=False, image=None
        )
        self.the_operator_works()
        assert self.world.conditions["Stalled"] == "False", "a new retryToken, and nothing is tried"

    @rule(token=st.sampled_from(["a", "b", "c"]))
    def spec_goes_back_to_a_former_champion(self, token: str) -> None:
        """It was measured, so nothing is measured again, whatever token it was tried under."""
        for name in ("good1", "good2") if self.untouched else ():
            self.another_model_takes_over(name, 60, 2)
        if (
            not self.untouched
            or self.world.champion != self.world.revision("good2")
            or not self.measured_as_now("good1")
        ):
            return
        before = len(self.asked)
        self.edit_spec("good1", token, None, None, 60, 1, resolve=False, suspend=False, checked=False, image=None)
        self.the_operator_works()
        assert len(self.asked) == before, "a model that has served is measured again"

    def measured_as_now(self, bundle: str) -> bool:
        """Whether it has served, and a parity Job has looked at as many rows as are asked for by default."""
        revision = self.world.revision(bundle)
        few = all([(r, g) for r, g, _ in self.asked.values()].count((revision, gate)) <= 3 for gate in MEASURED)
        return revision in self.left and (revision, ROWS) in self.rows and few  # only the newest Jobs are kept

    # -- what must always hold

    @invariant()
    def no_ungated_model_has_pods_that_are_selected(self) -> None:
        bad = {self.world.revision(name) for name in BAD}
        assert self.world.champion not in bad

    @invariant()
    def every_request_goes_somewhere_once_anything_serves(self) -> None:
        status = self.world.objects["CreditModel", "credit"].get("status", {})
        shares = [share["weight"] for share in status.get("traffic", ())]
        assert sum(shares) == (100 if "active" in status else 0)

    @invariant()
    def ready_is_said_of_what_was_measured_as_spec_has_it_now(self) -> None:
        live = self.world.objects["CreditModel", "credit"]
        status, spec = live.get("status", {}), live["spec"]
        current = status.get("observedGeneration") == live["metadata"]["generation"]
        if not current or self.world.conditions["Ready"] != "True":
            return
        revision = self.world.revision(spec["model"]["uri"].rsplit("/", 1)[1])
        assert self.world.champion in (revision, "x", None)  # a hand may have been at work meanwhile
        assert (revision, spec.get("gates", {}).get("parity", {}).get("rows", ROWS)) in self.rows

    @invariant()
    def jobs_are_bounded(self) -> None:
        assert len(self.world.jobs()) <= 60

    def teardown(self) -> None:
        """Left alone, with Jobs and pods that do their work, everything comes to rest and stays there."""
        if ("CreditModel", "credit") not in self.world.objects:
            return
        self.refresh()
        quiet = 0
        for _ in range(30):
            quiet = 0 if self.world.reconcile() or self.world.jobs(running=True) else quiet + 1
            if quiet > 1:
                break
            self.end_all_jobs_well()
            for name in self.world.names_of("Deployment"):
                self.world.settle(name)
            self.refresh()
            self.world.wait(200)
        self.the_operator_works()
        self.rests()
        self.nothing_is_done_for_what_is_being_deleted()

    def nothing_is_done_for_what_is_being_deleted(self) -> None:
        self.world.objects["CreditModel", "credit"]["metadata"]["deletionTimestamp"] = "2026-11-01T13:00:00Z"
        for kind, name in [key for key in self.world.objects if key[0] in ("Service", "Deployment")]:
            self.world.delete(kind, name)
        plan = self.world.decide()
        assert (plan.actions, plan.status) == ((), None), "the garbage collector is worked against"

    def rests(self) -> None:
        assert self.world.reconcile() == 0
        spec, found = self.world.objects["CreditModel", "credit"]["spec"], self.world.conditions
        bundle = spec["model"]["uri"].rsplit("/", 1)[1]
        self.world.wait(3600)
        assert self.world.reconcile() == 0, "time alone is no reason to write"
        if spec.get("suspend"):
            return
        standing = {name for name in self.world.names_of("ModelApproval") if name.endswith(bundle)}
        if self.world.approval_required and f"approve-{bundle}" not in standing and found["Ready"] != "True":
            assert self.world.status["phase"] in ("AwaitingApproval", "Rejected", "Failed")
            served = self.untouched and self.world.champion == self.world.revision(bundle) and not self.strict()
            assert not served or self.world.status["phase"] != "AwaitingApproval", "approved when it took over"
            return
        if self.world.approval_required and f"reject-{bundle}" in standing:
            assert (found["Ready"], found["Stalled"]) == ("False", "True")
            return
        former = self.world.champion == self.world.revision(bundle)
        if bundle in BAD or (self.strict() and not former):
            assert (found["Ready"], found["Stalled"]) == ("False", "True")
        elif found["Stalled"] == "True":
            assert self.world.condition("Stalled")["reason"] in ("GateError", "GateFailed", "ProgressDeadlineExceeded")
        else:
            assert found["Ready"] == "True", self.world.status
            assert self.world.champion == self.world.revision(bundle)


def lives(examples: int, steps: int) -> settings:
    slow = [HealthCheck.too_slow]
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=slow, database=None,
        derandomize=True,
    )  # fmt: skip


class TestLife(Life.TestCase):  # type: ignore[misc, valid-type]
    """A sample, in a few seconds."""

    settings = lives(30, 15)


@pytest.mark.full
class TestManyLongLives(Life.TestCase):  # type: ignore[misc, valid-type]
    """As many as a minute or two allow."""

    settings = lives(400, 40)
