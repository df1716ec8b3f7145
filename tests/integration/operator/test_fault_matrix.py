"""The API server fails in every way, in the middle of a rollout: nothing is lost, and nothing is hammered."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from faulty import DROPPED, ENDED, EXPIRED, Answer, Broken, Delay, Fault, Garbled, Proxy, Request, proxied
from story import Witness

if TYPE_CHECKING:
    from tests.conftest import ApiServer, Row
    from tests.integration.operator.conftest import Ground, Operator

JSON = dict[str, Any]
Grounds = Callable[..., AbstractContextManager["Ground"]]
TABLE = "API-fault matrix"
RECOVERY_SECONDS = 30.0
"""From the end of a fault to Ready, on a machine that may be busy: what is left of a rollout takes one or two of them,
and a wait that has grown for a minute 4 to 6. Retries that nobody bounded would take minutes."""
Choice = Callable[[Request], bool]


def everything(_: Request) -> bool:
    return True


def writes(request: Request) -> bool:
    return request.writes


def watches(request: Request) -> bool:
    return request.watches


def to(chosen: Choice, fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault if chosen(request) else None


def no_fault(_: Request) -> Fault | None:
    return None


@dataclass(frozen=True)
class Case:
    """A fault, and how many requests are fair while it lasts."""

    rule: Callable[[Request], Fault | None] = no_fault
    wrote: Callable[[Request], Fault | None] = no_fault
    closes: bool = False
    """Open watches are closed when it begins."""
    counted: Choice = everything
    at_once: int = 90
    """Ten watches, the first attempts, which come quickly, and a second try on another connection."""
    per_second: float = 4.0
    in_sample: bool = True

    def fair(self, seconds: float) -> float:
        return self.at_once + self.per_second * seconds


WRITES: JSON = {"counted": writes, "at_once": 12, "per_second": 1.0}
CASES = {
    "409 on every write": Case(to(writes, Answer(409)), **WRITES),
    "429 with Retry-After on every write": Case(
        to(writes, Answer(429, {"Retry-After": "1"})), **WRITES, in_sample=False
    ),
    # as often as the server asks for: each of ten watches once a second
    "429 with Retry-After on everything": Case(
        to(everything, Answer(429, {"Retry-After": "1"})), closes=True, per_second=11
    ),
    "500 on every write": Case(to(writes, Answer(500)), **WRITES, in_sample=False),
    "500 on everything": Case(to(everything, Answer(500)), closes=True),
    "503 on everything": Case(to(everything, Answer(503)), closes=True, in_sample=False),
    "401 on everything": Case(to(everything, Answer(401)), closes=True),
    "403 on everything": Case(to(everything, Answer(403)), closes=True, in_sample=False),
    "no answer to a write, which was not done": Case(to(writes, DROPPED), **WRITES, in_sample=False),
    "no answer to a write, which was done": Case(wrote=to(writes, DROPPED), **{**WRITES, "at_once": 30}),
    "slow answers": Case(to(lambda request: not request.watches, Delay(0.4)), **WRITES),
    "an outage": Case(to(everything, DROPPED), closes=True),
    "watches that end at once": Case(to(watches, ENDED), closes=True),
    "watches that break at once": Case(to(watches, DROPPED), closes=True, in_sample=False),
    # each of ten watches is begun anew with a list: Kopf's, which is empty, and the operator's own
    "watches that tell of an internal error": Case(to(watches, Broken(500)), closes=True, at_once=150, per_second=10),
    "watches that tell of a refused token": Case(
        to(watches, Broken(401)), closes=True, at_once=150, per_second=10, in_sample=False
    ),
    "watches that are told to come later": Case(to(watches, Broken(429)), closes=True, in_sample=False),
    "watches that tell half an event": Case(
        to(watches, Garbled('{"type": "ADDED", "obj\n')), closes=True, at_once=150, per_second=10, in_sample=False
    ),
    "watches that a gateway answers": Case(
        to(watches, Garbled("<html>be right back</html>\n")), closes=True, at_once=150, per_second=10, in_sample=False
    ),
}
SAMPLE = [name for name, case in CASES.items() if case.in_sample]


@dataclass
class World:
    """A ground with an operator behind a proxy, and one model after another."""

    ground: Ground
    proxy: Proxy
    witness: Witness
    bundles: Iterator[str] = field(default_factory=lambda: (f"v{n}" for n in itertools.count(1)))

    def operator(self, *arguments: str) -> Operator:
        """The one that runs, or a new one."""
        running = self.ground.start.running
        if not running or running[-1].ended:
            kubeconfig = self.proxy.kubeconfig(self.ground.start.directory / "proxied")
            return self.ground.start(*arguments, kubeconfig=kubeconfig)
        return running[-1]

    def begin(self) -> str:
        """A new model, in the middle of its gates."""
        bundle = next(self.bundles)
        self.proxy.wrote = self.note
        self.ground.apply(bundle)
        self.ground.until(lambda: self.jobs(bundle), "the first Job")
        return bundle

    def note(self, request: Request) -> Fault | None:
        self.witness.wrote(request)
        return None

    def jobs(self, bundle: str) -> list[str]:
        found = self.ground.objects("Job")
        own = [job for job in found if job["metadata"]["annotations"]["creditmodel.dev/uri"].endswith("/" + bundle)]
        return [job["metadata"]["labels"]["creditmodel.dev/gate"] for job in own]

    def hurt(self, case: Case, seconds: float) -> list[Request]:
        """The fault begins, lasts, and ends; the cluster goes on meanwhile. The requests that it saw, a fair number."""
        begun = time.monotonic()
        self.proxy.rule = case.rule
        self.proxy.wrote = lambda request: self.note(request) or case.wrote(request)
        if case.closes:
            self.proxy.close_watches()
        try:
            while time.monotonic() < begun + seconds:
                self.ground.step()
                time.sleep(0.1)
        finally:
            self.proxy.heal()
            self.proxy.wrote = self.note
        lasted, seen = time.monotonic() - begun, self.proxy.since(begun, case.counted)
        assert len(seen) <= case.fair(lasted), [f"{request.at:.2f} {request}" for request in seen]
        return seen

    def recovers(self, bundle: str) -> str:
        """The rollout comes to its end as if nothing had been."""
        healed, operator = time.monotonic(), self.ground.start.running[-1]
        self.ground.until(lambda: operator.ended or self.ground.is_ready(bundle), "Ready", self.ground.step)
        assert not operator.ended, operator.log.read_text()[-3000:]
        took = time.monotonic() - healed
        assert took < RECOVERY_SECONDS, f"{took:.1f} s from the end of the fault to Ready"
        assert sorted(self.jobs(bundle)) == ["artifact", "benchmark", "parity"]
        self.witness.verdict()
        return f"Ready {took:.1f} s after, each gate measured once"


@pytest.fixture(scope="module")
def world(grounds: Grounds) -> Iterator[World]:
    with grounds() as ground, proxied(ground.server) as proxy:
        yield World(ground, proxy, Witness(ground))


def endures(world: World, line: Row, case: Case, seconds: float) -> None:
    world.operator()
    bundle = world.begin()
    seen = world.hurt(case, seconds)
    line.done = f"{seconds:g} s, {len(seen)} requests"
    line.verdict = world.recovers(bundle)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_rollout_goes_on_after(world: World, row: Callable[..., Row], name: str) -> None:
    endures(world, row(TABLE, name), CASES[name], 3)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_rollout_goes_on_after_a_minute_of(world: World, row: Callable[..., Row], name: str) -> None:
    endures(world, row(TABLE, f"a minute of {name}"), CASES[name], 60)


REFUSALS = {
    "a quota forbids Jobs": ("jobs", Answer(403, message="exceeded quota: few-jobs, limited: count/jobs.batch=0")),
    "a webhook refuses Deployments": ("deployments", Answer(400, message='admission webhook "policy" denied it: no')),
    "a webhook that Deployments need does not answer": (
        "deployments",
        Answer(500, message='Internal error occurred: failed calling webhook "policy": context deadline exceeded'),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_told_on_the_object_and_outlived(world: World, row: Callable[..., Row], name: str) -> None:
    line, ground, (kind, answer) = row(TABLE, name), world.ground, REFUSALS[name]
    world.operator()
    champion, bundle = ground.selected, next(world.bundles)
    world.proxy.wrote = world.note
    world.proxy.rule = to(lambda request: request.writes and request.kind == kind, answer)
    ground.apply(bundle)
    ground.until(lambda: answer.message in ground.why, "the refusal in status", ground.step)
    seen = world.hurt(Case(world.proxy.rule, counted=writes, at_once=5, per_second=1.0), 3)
    line.done = f"3 s more, {len(seen)} writes"
    assert ground.selected == champion
    line.verdict = f"told in status, {world.recovers(bundle)}"


def mirrored(request: Request, body: bytes) -> bytes:
    """What webhooks do to Deployments: images come from a mirror, a sidecar, a label and an annotation are added."""
    document = json.loads(body) if request.writes and request.kind == "deployments" else {}
    template = document.get("spec", {}).get("template")
    if template is None:
        return body
    pod = template["spec"]
    for container in pod["containers"]:
        container["image"] = f"mirror.example/{container['image']}"
    pod["containers"].append({"name": "sidecar", "image": "proxy:1"})
    pod["tolerations"] = [{"key": "scoring", "operator": "Exists"}]
    document["metadata"]["labels"]["team"] = "risk"
    document["metadata"]["annotations"]["webhook.example/seen"] = "yes"
    return json.dumps(document).encode()


def test_what_admission_changes_is_not_asked_for_again_and_again(world: World, row: Callable[..., Row]) -> None:
    line, ground = row(TABLE, "admission that changes Deployments"), world.ground
    world.operator()
    world.proxy.admit = mirrored
    begun = time.monotonic()
    bundle = world.begin()
    ground.ready(bundle)
    applied = world.proxy.since(begun, of_deployments)
    world.ground.start.running[-1].kill()
    again = time.monotonic()
    operator = world.operator()
    at_rest = partial(operator.metric, "creditmodel_operator_passes_total", outcome="unchanged")
    ground.until(at_rest, "a pass with nothing to do", ground.touch)
    late = [request for request in world.proxy.since(again, of_deployments) if request.method != "DELETE"]
    world.proxy.heal()
    line.done = f"{len(applied)} writes of Deployments, {len(late)} after a restart"
    assert not late, [str(request) for request in late]
    pod = ground.server.get(f"{ground.path('Deployment')}/{ground.selected}")["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["serve", "sidecar"]
    assert pod["containers"][0]["image"].startswith("mirror.example/")
    assert len(applied) <= 12, [str(request) for request in applied]
    line.verdict = "Ready with what admission made of it"


def of_deployments(request: Request) -> bool:
    return request.writes and request.kind == "deployments"


def first_watches(fault: Fault) -> Callable[[Request], Fault | None]:
    """The next watch of each kind gets the fault, and no other."""
    met: set[str] = set()

    def rule(request: Request) -> Fault | None:
        if not request.watches or request.kind in met:
            return None
        met.add(request.kind)
        return fault

    return rule


def test_what_was_deleted_while_a_watch_had_expired_is_missed(world: World, row: Callable[..., Row]) -> None:
    line, ground = row(TABLE, "410 Gone, and objects deleted in the gap"), world.ground
    operator = world.operator()
    bundle = world.begin()
    ground.ready(bundle)
    other = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "CreditModel", "metadata": {"name": "other"}}
    other |= {"spec": {"model": {"uri": "file:///models/other"}, "suspend": True}}
    ground.server.apply(f"{ground.path('CreditModel')}/other", other, "user")
    models = ("creditmodel_operator_conditions", {"type": "Ready"})
    ground.until(lambda: operator.metric(models[0], **models[1]) == 2, "a pass over the other CreditModel")

    world.proxy.rule = to(watches, DROPPED)
    world.proxy.close_watches()
    gone = deleted_behind_its_back(ground)
    ground.server.delete(f"{ground.path('CreditModel')}/other")
    begun = time.monotonic()
    world.proxy.rule = first_watches(EXPIRED)
    ground.until(
        lambda: all(ground.server.request("GET", path).code == 200 for path in gone), "everything put back", ground.step
    )
    ground.until(lambda: operator.metric(models[0], **models[1]) == 1, "the other CreditModel forgotten")
    ground.ready(bundle)
    took = time.monotonic() - begun
    assert not operator.ended
    line.done = f"deleted meanwhile: {len(gone)} children, 1 CreditModel"
    line.verdict = f"put back and Ready {took:.1f} s after, the CreditModel forgotten"
    assert took < RECOVERY_SECONDS


def deleted_behind_its_back(ground: Ground) -> set[str]:
    """One child of each kind that a champion has; their paths."""
    champion = ground.selected
    paths = {
        f"{ground.path(kind)}/{champion}" for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Deployment")
    }
    paths.add(f"{ground.path('Service')}/credit")
    for path in paths:
        ground.server.delete(path)
    return paths


def test_a_watch_that_has_fallen_silent_is_opened_anew(grounds: Grounds, row: Callable[..., Row]) -> None:
    line, patience = row(TABLE, "watches that are silent and never closed"), 2.0
    with grounds() as ground, proxied(ground.server) as proxy:
        world = World(ground, proxy, Witness(ground))
        world.operator("--watch-patience", str(patience))
        bundle = world.begin()
        proxy.muted = True
        seen = world.hurt(Case(per_second=9 / patience), 3)
        line.done = f"3 s, {len(seen)} requests, patience {patience:g} s"
        line.verdict = world.recovers(bundle)


def test_an_api_server_that_is_restarted_is_found_again(
    start_apiserver: Callable[..., ApiServer], with_crd: Callable[[ApiServer], None], grounds: Grounds,
    row: Callable[..., Row],
) -> None:  # fmt: skip
    line, server = row(TABLE, "an API server that is killed and started again"), start_apiserver()
    with_crd(server)
    with grounds(server) as ground, proxied(server) as proxy:
        world = World(ground, proxy, Witness(ground))
        world.operator()
        bundle = world.begin()
        down = time.monotonic()
        server.process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]
        server.process.wait(30)  # type: ignore[attr-defined]
        server.__dict__.update(start_apiserver(state=server.kubeconfig.parent).__dict__)  # it has another port
        line.done = f"down for {time.monotonic() - down:.1f} s"
        line.verdict = world.recovers(bundle)


PAGE = Garbled("<html>be right back</html>", "text/html")
UNSERVED: dict[str, tuple[Choice, Fault]] = {
    "what is watched is not served": (lambda request: request.watches or request.lists, Answer(404)),
    "a gateway answers lists with its own page": (lambda request: request.lists, PAGE),
    "a gateway answers everything with its own page": (everything, PAGE),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_the_operator_waits_while(world: World, row: Callable[..., Row], name: str) -> None:
    """Watches are begun anew first, so that each is listed too."""
    line, (chosen, answer) = row(TABLE, name), UNSERVED[name]
    operator = world.operator()
    bundle = world.begin()
    expired, met = first_watches(EXPIRED), to(chosen, answer)
    case = Case(lambda request: met(request) or expired(request), closes=True, at_once=150, per_second=10)
    seen = world.hurt(case, 3)
    line.done = f"3 s, {len(seen)} requests"
    line.verdict = world.recovers(bundle)
    assert "no answer to go on from" in operator.log.read_text()
