"""Whatever happens in whatever order: what must never happen does not, and it all comes to rest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from creditmodel_operator import names
from creditmodel_operator.api.spec import Parity
from creditmodel_operator.plan import Action, Apply, Look

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]

ROWS = Parity().rows
MEASURED = ("artifact", "parity", "benchmark")
GOOD = ("good1", "good2", "good3")
BAD = ("bad1", "bad2")
OUTCOMES = ("measured", "measured", "measured", "nonsense", "silent", "failed", "lost")
CHILDREN = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "Job", "Pod", "CronJob")


def make_world() -> World:
    """The world of conftest.py, which pytest has loaded as a plugin and not as a module."""
    import sys

    module = next(m for name, m in sys.modules.items() if name.endswith("unit.creditmodel_operator.conftest"))
    world: World = module.World()
    return world


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

    # -- what must never happen, checked after every single write

    def after_write(self, action: Action) -> None:
        champion = self.world.champion
        assert not self.suspended() or remembers(action), f"written while suspended: {action}"
        if champion is not None and not self.suspended():
            good = {self.world.revision(name) for name in GOOD}
            assert champion in good, f"{champion} takes requests, and is no good"
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

    def selector_was_written(self, champion: str | None) -> None:
        """It leads to what spec names, or to where it led before, as long as that is there."""
        spec = self.world.objects["CreditModel", "credit"]["spec"]
        named = self.world.revision(spec["model"]["uri"].rsplit("/", 1)[1])
        there = self.last in self.world.names_of("Deployment")
        assert champion in (named, self.last) or not there, f"the selector went from {self.last} to {champion}"
        self.last = champion

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

    # -- what happens

    @initialize(bundle=st.sampled_from(GOOD + BAD), guarded=st.booleans())
    def begin(self, bundle: str, guarded: bool) -> None:
        self.world.approval_required = guarded
        self.world.spec(bundle)
        self.lenient.add(self.world.revision(bundle))
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
        image=st.sampled_from([None, None, "other"]),
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
        sections |= {"serving": {"image": image}} if image else {}
        sections["model"] |= {"digest": None} if resolve else {}
        self.world.spec(bundle, **sections)
        self.lenient |= set() if self.strict() else {self.world.revision(bundle)}

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

    @rule(kind=st.sampled_from(CHILDREN), which=st.integers(0, 5))
    def a_hand_deletes_a_child(self, kind: str, which: int) -> None:
        found = sorted(self.world.names_of(kind))
        if found:
            self.world.delete(kind, found[which % len(found)])
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
            assert self.world.champion != "x" or self.suspended(), f"not put back onto {before} by the first write"
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
        assert not plan.actions, "there was something to do, and nothing would have woken the operator"
        assert plan.status is None, "there was something to say, and nothing would have woken the operator"

    @rule(writes=st.integers(0, 4))
    def the_operator_dies_between_two_writes(self, writes: int) -> None:
        self.refresh()
        self.world.carry_out(self.world.decide(), stop_after=writes)

    @rule()
    def the_operator_works(self) -> None:
        self.refresh()
        self.world.reconcile()

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
        self.edit_spec(bundle, None, None, None, keep, history, resolve=False, suspend=False, checked=True, image=None)
        self.a_good_while_passes(5, None)

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
        for _ in range(30):
            self.world.reconcile()
            self.end_all_jobs_well()
            for name in self.world.names_of("Deployment"):
                self.world.settle(name)
            self.refresh()
            self.world.wait(200)
        self.world.reconcile()
        self.rests()

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


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    derandomize=True,
)
