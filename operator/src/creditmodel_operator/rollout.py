"""What the challenger needs to take over, and what happens to the other revisions.

The Service's selector moves in one write, and only onto a revision that passed every gate and whose pods are all ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from creditmodel_bundle.measurement import EvaluationSummary
from creditmodel_operator import names
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.children.common import Manifest
from creditmodel_operator.children.deployment import deployment
from creditmodel_operator.children.hpa import hpa
from creditmodel_operator.children.pdb import pdb
from creditmodel_operator.children.service import service
from creditmodel_operator.compare import contains, differs, holds, marked
from creditmodel_operator.fleet import Fleet, Live
from creditmodel_operator.narrow import present
from creditmodel_operator.observed import Child, Deployment, Job, Observed, Pod
from creditmodel_operator.plan import Action, Apply, Claim, Delete, annotate, scale
from creditmodel_operator.revision import Revision

__all__ = ["Challenge", "Rollout", "Share", "Stage", "roll", "timestamp"]

_STARTS = frozenset({"ContainerCreating", "PodInitializing"})
"""What every container waits for at first: no trouble, unless it lasts."""
_CARRIED = (names.ACTIVE_SINCE, names.GATED, names.EVALUATION, names.APPROVAL)


class Stage(StrEnum):
    """How far the model that spec names has come."""

    BLOCKED = "Blocked"
    """Its gates have not passed."""
    STARTING = "Starting"
    """Its pods are coming up."""
    TIMED_OUT = "TimedOut"
    """Its pods did not come up in time."""
    CHAMPION = "Champion"
    """It takes the requests."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The model that spec names."""

    spec: CreditModelSpec
    revision: Revision | None
    """None until its digest is known."""
    passed: bool
    """Every gate has passed."""
    evaluation: EvaluationSummary | None
    memory: Job | None
    """Its artifact Job, which remembers a rollout that ran out of time."""
    approval: str | None = None
    """The decision that lets it take over, where one is asked for."""

    @property
    def token(self) -> str:
        """The retryToken, as an annotation has it."""
        return self.spec.rollout.retry_token or ""

    @property
    def key(self) -> str:
        """What a rollout was tried with: other serving settings or another token are another try."""
        return names.fingerprint([self.revision.recipe() if self.revision else None, self.token], 16)


@dataclass(frozen=True, slots=True)
class Share:
    """A revision that takes requests, and how many in a hundred."""

    revision: Revision
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the rollout asks for, and how far it is."""

    stage: Stage
    traffic: tuple[Share, ...]
    """Who takes the requests once the actions are carried out, the champion first. A Service selects one revision;
    a canary would be a second entry, for whatever routes by weight."""
    since: datetime | None = None
    """When it took over."""
    message: str = ""
    actions: tuple[Action, ...] = ()
    look_again: datetime | None = None
    settled: bool = False
    """The champion runs on the newest template and nothing is being replaced."""
    trouble: str = ""
    """What keeps a pod of the champion from being ready, with a separator before it."""

    @property
    def champion(self) -> Revision | None:
        """The revision that most requests go to; None while nothing serves."""
        return self.traffic[0].revision if self.traffic else None


def timestamp(at: datetime) -> str:
    """A time with microseconds: two promotions within a second keep their order."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def roll(fleet: Fleet, challenge: Challenge, observed: Observed, now: datetime) -> Rollout:
    """Where the rollout stands and what it asks for now."""
    pass_ = _Pass(fleet, challenge, observed, now)
    wanted = challenge.revision
    if challenge.spec.suspend:
        return pass_.suspended(wanted)
    if wanted is not None and fleet.champion is not None and fleet.champion.name == wanted.name:
        return pass_.as_champion(wanted)
    if wanted is None or not challenge.passed:
        return pass_.blocked()
    failure = pass_.failure()
    return pass_.timed_out(failure) if failure is not None else pass_.starting(wanted)


@dataclass(frozen=True, slots=True)
class _Pass:
    fleet: Fleet
    challenge: Challenge
    observed: Observed
    now: datetime

    def suspended(self, wanted: Revision | None) -> Rollout:
        """Nothing is touched, and nothing is claimed that would need a write."""
        champion = self.fleet.champion
        same = wanted is not None and champion is not None and champion.name == wanted.name
        live = self.fleet.of(champion)
        rollout = self._rollout(Stage.CHAMPION if same else Stage.BLOCKED, champion, ())
        return replace(rollout, since=live.active_since if live else None)

    def as_champion(self, wanted: Revision) -> Rollout:
        """Spec names the champion: keep it as spec wants it. A URI that has not passed the gates is not used yet."""
        uri = present(self.fleet.champion).uri
        revision = wanted if self.challenge.passed else replace(wanted, uri=uri)
        actions = (*self._keep(revision, self._champion_marks(revision)), *self._others(revision))
        return self._rollout(Stage.CHAMPION, revision, actions)

    def blocked(self) -> Rollout:
        """The gates have not passed: only the champion, if there is one, is looked after."""
        return self._rollout(Stage.BLOCKED, self.fleet.champion, self._without_challenger())

    def timed_out(self, message: str) -> Rollout:
        """This very rollout was tried and ran out of time: the champion stays."""
        return self._rollout(Stage.TIMED_OUT, self.fleet.champion, self._without_challenger(), message)

    def starting(self, wanted: Revision) -> Rollout:
        """Bring the challenger up beside the champion, and move the selector once all its pods are ready."""
        live = self.fleet.of(wanted)
        size, since = self._size(), self._candidate_since(live)
        manifest = deployment(wanted, {**self._carried(live), names.CANDIDATE_SINCE: timestamp(since)})
        deadline = since + timedelta(seconds=self.challenge.spec.rollout.progress_deadline_seconds)
        if live is not None and live.complete(size) and not self._pending(manifest):
            return self._promote(wanted)
        if self.now >= deadline and live is not None:
            return self._give_up(wanted, live, size)
        actions = (
            *self._kept_champion(),
            *self._ensure(manifest, pdb(wanted), size=size),
            *self._grow(wanted, size),
            *self._others(self.fleet.champion, wanted),
        )
        ready = live.deployment.ready if live else 0
        message = f"{wanted.name}: {ready} of {size} pods ready{self._why(wanted)}"
        rollout = self._rollout(Stage.STARTING, self.fleet.champion, actions, message)
        return replace(rollout, look_again=_earliest(rollout.look_again, deadline))

    def failure(self) -> str | None:
        """Why this very rollout was given up, if it was."""
        memory = self.challenge.memory
        written = memory.meta.annotations.get(names.ROLLOUT_FAILURE) if memory else None
        try:
            document = json.loads(written) if written else {}
            return str(document["message"]) if document.get("key") == self.challenge.key else None
        except (ValueError, KeyError, AttributeError):
            return None

    # -- steps

    def _promote(self, wanted: Revision) -> Rollout:
        """One write moves every request. What follows only records it, and is repeated if it is interrupted."""
        actions = self._keep(wanted, self._champion_marks(wanted, promoted=True))
        return replace(self._rollout(Stage.CHAMPION, wanted, actions), since=self.now)

    def _give_up(self, wanted: Revision, live: Live, size: int) -> Rollout:
        """Remember first, remove after: an interruption between the two removes it at the next pass."""
        seconds = self.challenge.spec.rollout.progress_deadline_seconds
        ready = live.deployment.ready
        message = f"{wanted.name}: {ready} of {size} pods ready after {seconds} s{self._why(wanted, late=True)}"
        memory = present(self.challenge.memory)
        note = json.dumps({"key": self.challenge.key, "message": message}, sort_keys=True)
        remember = annotate(
            memory.meta.namespace,
            memory.meta.name,
            memory.meta.uid,
            {names.ROLLOUT_FAILURE: note},
            names.ROLLOUT_MANAGER,
        )
        return self._rollout(Stage.TIMED_OUT, self.fleet.champion, (remember, *self._without_challenger()), message)

    def _without_challenger(self) -> tuple[Action, ...]:
        return (*self._kept_champion(), *self._others(self.fleet.champion))

    def _kept_champion(self) -> Iterator[Action]:
        """The champion as it was made: settings for the challenger are not tried out on it."""
        champion = self.fleet.champion
        if champion is not None:
            yield from self._keep(champion, self._champion_marks(champion))

    def _keep(self, revision: Revision, marks: Mapping[str, str]) -> Iterator[Action]:
        live = self.fleet.of(revision)
        least = revision.serving.replicas.min
        yield from self._ensure(service(revision), deployment(revision, marks), size=least)
        if live is not None and live.deployment.desired == 0:
            yield scale(self.fleet.owner.namespace, revision.name, least)
        yield from self._ensure(hpa(revision), pdb(revision))

    def _grow(self, revision: Revision, size: int) -> Iterator[Action]:
        live = self.fleet.of(revision)
        if live is not None and live.deployment.desired < size:
            yield scale(self.fleet.owner.namespace, revision.name, size)

    def _others(self, *kept: Revision | None) -> Iterator[Action]:
        """Everyone but the champion and the challenger: warm for a while, then at zero, then gone."""
        stay = {revision.name for revision in kept if revision is not None}
        champion = kept[0].name if kept and kept[0] else None
        yield from self._superfluous("HorizontalPodAutoscaler", keep={champion} if champion else set())
        former = [live for live in self.fleet.promoted if live.name not in stay]
        limit = self.challenge.spec.rollout.revision_history_limit
        warm = {live.name for live in former[:limit] if self.now < self._warm_until(live)}
        yield from self._superfluous("PodDisruptionBudget", keep=stay | warm)
        for live in former[:limit]:
            yield from self._retire(live, warm=live.name in warm)
        gone = [*former[limit:], *(live for live in self.fleet.live.values() if live.active_since is None)]
        yield from (_delete(live) for live in gone if live.name not in stay)

    def _retire(self, live: Live, *, warm: bool) -> Iterator[Action]:
        yield from self._ensure(deployment(live.revision, self._carried(live)))
        if warm:
            yield from self._ensure(pdb(live.revision))
        if not warm and live.deployment.desired > 0:
            yield scale(self.fleet.owner.namespace, live.name, 0)

    def _superfluous(self, kind: str, keep: Iterable[str]) -> Iterator[Action]:
        kept = set(keep)
        for (found, name), child in self.observed.children.items():
            if found == kind and name not in kept and not child.meta.deleting:
                yield Delete(kind, name, child.meta.uid)

    # -- facts

    def _warm_until(self, live: Live) -> datetime:
        """Warmth counts from when the next champion took over."""
        since = present(live.active_since)
        later = [other.active_since for other in self.fleet.promoted if other.active_since is not None]
        left = min((at for at in later if at > since), default=self.now)
        return left + timedelta(seconds=self.challenge.spec.rollout.keep_previous_seconds)

    def _size(self) -> int:
        """As many pods as the champion has now, within spec's bounds."""
        bounds, champion = self.challenge.spec.serving.replicas, self.fleet.of(self.fleet.champion)
        return max(bounds.min, min(bounds.max, champion.deployment.desired)) if champion else bounds.min

    def _candidate_since(self, live: Live | None) -> datetime:
        """Never later than now: a clock that was ahead once does not put the deadline off."""
        return min(live.candidate_since or self.now, self.now) if live is not None else self.now

    def _promotion_time(self) -> datetime:
        """Now, or right after the last promotion if another replica's clock is ahead: the order holds."""
        before = [live.active_since for live in self.fleet.promoted if live.active_since is not None]
        return max([self.now, *(at + timedelta(microseconds=1) for at in before)])

    def _carried(self, live: Live | None) -> dict[str, str]:
        return {key: live.notes[key] for key in _CARRIED if key in live.notes} if live else {}

    def _champion_marks(self, revision: Revision, *, promoted: bool = False) -> dict[str, str]:
        """What the champion's Deployment says of it, so that it can be recognised whatever else is deleted."""
        marks = self._carried(self.fleet.of(revision))
        if promoted or names.ACTIVE_SINCE not in marks:
            marks[names.ACTIVE_SINCE] = timestamp(self._promotion_time())
        challenge = self.challenge
        if challenge.passed and challenge.revision is not None and challenge.revision.name == revision.name:
            marks[names.GATED] = challenge.token
            if challenge.approval is not None:
                marks[names.APPROVAL] = challenge.approval
            if challenge.evaluation is not None:
                marks[names.EVALUATION] = challenge.evaluation.model_dump_json()
        return marks

    def _why(self, wanted: Revision, *, late: bool = False) -> str:
        """What its own pods complain of, or why it has none. `late`: also that they have only begun to start."""
        own = (pod for pod in self.observed.pods if pod.meta.labels.get(names.REVISION) == wanted.name)
        live = self.fleet.of(wanted)
        unmade = live.deployment.trouble if live else None
        found = next((why for pod in own if not pod.ready and (why := _trouble(pod, late=late))), unmade)
        return f"; {found}" if found else ""

    # -- helpers

    def _pending(self, manifest: Manifest) -> bool:
        return any(True for _ in self._ensure(manifest))

    def _ensure(self, *manifests: Manifest, size: int = 1) -> Iterator[Action]:
        """Apply what is not as it should be; nothing where all is well. `size` is that of a new Deployment."""
        for manifest in manifests:
            wanted = marked(manifest)
            live = self.observed.children.get((manifest["kind"], manifest["metadata"]["name"]))
            if live is None:
                yield Claim(manifest["kind"], manifest["metadata"]["name"])
            if differs(wanted, live):
                yield self._sized(wanted, live, size)

    def _sized(self, wanted: Manifest, live: Child | None, size: int) -> Apply:
        """A Deployment is made with its size, which stays as it is until somebody else has changed it.

        To leave out what was applied would set it to 1. Whoever changes it takes the field over; where an autoscaler
        may do so at this very moment, the write counts only if it has not.
        """
        if live is None and wanted["kind"] == "Deployment":
            return Apply(wanted, size=size)
        if not isinstance(live, Deployment) or not live.sized:
            return Apply(wanted)
        scaled = ("HorizontalPodAutoscaler", live.meta.name) in self.observed.children
        return Apply(wanted, size=live.desired, version=live.meta.resource_version if scaled else None)

    def _rollout(
        self, stage: Stage, champion: Revision | None, actions: Iterable[Action], message: str = ""
    ) -> Rollout:
        done = tuple(actions)
        live = self.fleet.of(champion)
        settled = live is not None and not any(_replaces_pods(action, live) for action in done)
        since = live.active_since if live and live.active_since else self.now if champion else None
        traffic = (Share(champion),) if champion is not None else ()
        trouble = self._why(champion) if champion is not None else ""
        return Rollout(stage, traffic, since, message, done, self._look_again(champion), settled, trouble)

    def _look_again(self, champion: Revision | None) -> datetime | None:
        """When the next former champion goes cold; one that is at zero already still has its disruption budget."""
        former = (live for live in self.fleet.promoted if champion is None or live.name != champion.name)
        times = (self._warm_until(live) for live in former)
        return min((at for at in times if at > self.now), default=None)


def _replaces_pods(action: Action, live: Live) -> bool:
    """Whether the action changes what the Deployment's pods are made from."""
    if not isinstance(action, Apply) or (action.kind, action.name) != ("Deployment", live.name):
        return False
    spec = action.manifest["spec"]
    template = spec.get("template")
    if template is None or contains(live.deployment.spec.get("template"), template):
        return False
    return not holds(live.deployment, spec)


def _delete(live: Live) -> Delete:
    return Delete("Deployment", live.name, live.deployment.meta.uid)


def _trouble(pod: Pod, *, late: bool) -> str | None:
    """What keeps a pod from being ready, in its own words."""
    ended = pod.terminated or pod.last_terminated
    if ended is not None:
        return f"pod {pod.meta.name} ended with code {ended.exit_code}: {ended.message.strip() or ended.reason}"
    if pod.waiting is not None and (late or pod.waiting[0] not in _STARTS):
        return f"pod {pod.meta.name} waits: {': '.join(part for part in pod.waiting if part)}"
    return f"pod {pod.meta.name}: {pod.unschedulable}" if pod.unschedulable else None


def _earliest(*times: datetime | None) -> datetime | None:
    return min((at for at in times if at is not None), default=None)
