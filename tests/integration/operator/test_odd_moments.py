"""What people and administrators do at the wrong moment: the operator neither spins nor loses its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from faulty import DROPPED, Answer, Fault, Proxy, Request, is_write, proxied
from story import revision_of

if TYPE_CHECKING:
    from tests.conftest import ApiServer, Row
    from tests.integration.operator.conftest import Ground, Operator

JSON = dict[str, Any]
Grounds = Callable[..., AbstractContextManager["Ground"]]
TABLE = "odd moments"
HOLD = "tests.example/hold"
CHILDREN = ("Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Job")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass
class Kubelet:
    """Keeps an operator running behind a proxy, as its Deployment would."""

    ground: Ground
    proxy: Proxy
    arguments: tuple[str, ...] = ()
    ends: int = 0

    def operator(self) -> Operator:
        """The one that runs, or a new one."""
        running = self.ground.start.running
        if running and not running[-1].ended:
            return running[-1]
        self.ends += bool(running)
        kubeconfig = self.proxy.kubeconfig(self.ground.start.directory / "proxied")
        return self.ground.start(*self.arguments, kubeconfig=kubeconfig)

    def work(self) -> None:
        """The cluster and the kubelet go on."""
        self.ground.step()
        self.operator()


@contextmanager
def kept(ground: Ground) -> Iterator[Kubelet]:
    with proxied(ground.server) as proxy:
        found = Kubelet(ground, proxy)
        found.operator()
        yield found


def requests_for(proxy: Proxy, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> list[Request]:
    """What is asked for in the next seconds."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        meanwhile()
        time.sleep(0.1)
    return proxy.since(begun)


@pytest.mark.parametrize("serving", [pytest.param(False, marks=pytest.mark.full), True])
def test_a_namesake_waits_until_the_children_of_the_deleted_model_are_gone(
    grounds: Grounds, row: Callable[..., Row], serving: bool
) -> None:
    """The names of Jobs have the uid in them, so they stand in nobody's way."""
    left = "everything" if serving else "a Job"
    line = row(TABLE, f"made anew under the same name, {left} of the old one still going")
    with grounds() as ground, kept(ground) as kubelet:
        ground.apply("v1")
        ground.until(lambda: ground.is_ready("v1") if serving else ground.names("Job"), "its children", ground.step)
        old = held(ground)
        ground.server.delete(f"{ground.path('CreditModel')}/credit")
        for path in old:
            ground.server.delete(path)
        begun = time.monotonic()
        ground.apply("v1")
        ground.until(lambda: "is about to go" in ground.why if serving else ground.why, "what it waits for")
        requests_for(kubelet.proxy, 3)
        seen, uid = kubelet.proxy.since(begun), ground.model["metadata"]["uid"]
        for path, was in old.items():
            found = ground.server.get(path)
            assert found["metadata"]["uid"] == was["metadata"]["uid"], "it is not gone yet"
            assert uid not in {owner["uid"] for owner in found["metadata"]["ownerReferences"]}, f"{path} was taken over"
        assert ("is about to go" in ground.why) == serving, ground.why
        assert ground.conditions["Ready"] == "False"
        for path in old:
            ground.server.patch(path, {"metadata": {"finalizers": None}})
        begun = time.monotonic()
        ground.until(lambda: ground.is_ready("v1"), "Ready", kubelet.work)
        took = time.monotonic() - begun
        owners = {o["metadata"]["ownerReferences"][0]["uid"] for kind in CHILDREN for o in ground.objects(kind)}
        assert owners == {uid}
        line.done, line.verdict = f"3 s, {len(seen)} requests", f"Ready {took:.1f} s after they were gone"
        assert len(seen) <= 40, [str(request) for request in seen]


def held(ground: Ground) -> dict[str, JSON]:
    """Every child, kept from going by a finalizer; by path."""
    found = {f"{ground.path(kind)}/{o['metadata']['name']}": o for kind in CHILDREN for o in ground.objects(kind)}
    for path in found:
        ground.server.patch(path, {"metadata": {"finalizers": [HOLD]}})
    return found


@pytest.mark.full
@pytest.mark.parametrize("number", [1, 5, 9, 13])
def test_a_namespace_that_goes_in_the_middle_of_a_rollout_is_let_go(
    start_apiserver: Callable[..., ApiServer], with_crd: Callable[[ApiServer], None], grounds: Grounds,
    row: Callable[..., Row], number: int,
) -> None:  # fmt: skip
    line, server = row(TABLE, f"a namespace is deleted at write {number}"), start_apiserver()
    with_crd(server)
    with grounds(server) as ground, kept(ground) as kubelet:
        at = at_write(kubelet.proxy, number, lambda: server.delete(f"/api/v1/namespaces/{ground.namespace}"))
        ground.apply("v1")
        ground.until(lambda: at.done, "the deletion", lambda: step(ground))
        refused = requests_for(kubelet.proxy, 3)
        for kind in ("CreditModel", *CHILDREN, "Pod", "Event"):
            server.delete(ground.path(kind))
        operator = kubelet.operator()
        ground.until(
            lambda: operator.metric("creditmodel_operator_conditions", type="Ready") == 0, "the model forgotten"
        )
        quiet = [request for request in requests_for(kubelet.proxy, 3) if not request.watches]
        line.done = f"{len(refused)} requests while it was going, {len(quiet)} after"
        assert not operator.ended, operator.log.read_text()[-3000:]
        assert len(refused) <= 25, [str(request) for request in refused]
        assert not quiet, [str(request) for request in quiet]
        line.verdict = "forgotten, and the operator goes on"


@dataclass
class Moment:
    """Something that happens at a write."""

    done: bool = False


def at_write(proxy: Proxy, number: int, happens: Callable[[], object]) -> Moment:
    """Let something happen right after the n-th write from now on."""
    moment, count = Moment(), 0

    def wrote(_: Request) -> Fault | None:
        nonlocal count
        count += 1
        if count == number:
            happens()
            moment.done = True
        return None

    proxy.wrote = wrote
    return moment


@pytest.mark.full
def test_a_crd_that_is_removed_and_put_back_is_waited_for(
    start_apiserver: Callable[..., ApiServer], with_crd: Callable[[ApiServer], None], grounds: Grounds,
    row: Callable[..., Row],
) -> None:  # fmt: skip
    line, server = row(TABLE, "the CRD is removed and put back"), start_apiserver()
    with_crd(server)
    with grounds(server) as ground, kept(ground) as kubelet:
        ground.apply("v1")
        ground.until(lambda: ground.names("Job"), "a Job")
        server.delete(f"{CRDS}/creditmodels.creditmodel.dev")
        kubelet.proxy.close_watches()
        seen = requests_for(kubelet.proxy, 8, kubelet.operator)
        with_crd(server)
        begun = time.monotonic()
        models = partial(kubelet.operator().metric, "creditmodel_operator_conditions", type="Ready")
        ground.until(lambda: not models(), "the CreditModel forgotten")
        for kind in CHILDREN:  # the garbage collector's part: it asks for owners once their kind is served again
            server.delete(ground.path(kind))
        ground.apply("v1")
        ground.until(lambda: ground.is_ready("v1"), "Ready", kubelet.work)
        line.done = f"8 s, {len(seen)} requests, {kubelet.ends} ends of the operator"
        line.verdict = f"Ready {time.monotonic() - begun:.1f} s after it was back"
        assert kubelet.ends <= 2
        assert len(seen) <= 250, [str(request) for request in seen]


@pytest.mark.full
def test_a_namespace_whose_permissions_are_taken_away_holds_up_no_other(
    grounds: Grounds, row: Callable[..., Row]
) -> None:
    line = row(TABLE, "permissions for one of two namespaces taken away and given back")
    with grounds() as here, grounds() as there, kept(here) as kubelet:
        here.start.running[-1].kill()
        kubelet.arguments = ("--namespace", there.namespace)
        kubelet.operator()
        for ground in (here, there):
            ground.apply("v1")
            ground.ready("v1")

        def forbidden(request: Request) -> Fault | None:
            return Answer(403, message="as told") if f"/namespaces/{there.namespace}/" in request.path else None

        kubelet.proxy.rule = forbidden
        kubelet.proxy.close_watches()
        there.apply("v2")
        here.apply("v2")
        here.ready("v2")
        seen = requests_for(kubelet.proxy, 8, here.step)
        assert there.selected == revision_of("v1")
        kubelet.proxy.heal()
        begun = time.monotonic()
        there.until(lambda: there.is_ready("v2"), "Ready", there.step)
        took = time.monotonic() - begun
        line.done = f"8 s, {len(seen)} requests"
        line.verdict = f"the other went on; Ready {took:.1f} s after they were given back"
        assert kubelet.ends == 1, "the operator has ended"
        assert len(seen) <= 60, [str(request) for request in seen]
        assert took < 20


@pytest.mark.full
@pytest.mark.parametrize("number", range(2, 21, 3))
def test_an_api_server_that_dies_at_a_write_is_found_again(
    start_apiserver: Callable[..., ApiServer], with_crd: Callable[[ApiServer], None], grounds: Grounds,
    row: Callable[..., Row], number: int,
) -> None:  # fmt: skip
    line, server = row(TABLE, f"the API server is killed after write {number}, and started again"), start_apiserver()
    with_crd(server)
    with grounds(server) as ground, kept(ground) as kubelet:
        process = server.process  # type: ignore[attr-defined]
        at = at_write(kubelet.proxy, number, process.kill)
        ground.apply("v1")
        ground.until(lambda: at.done, "the end of the API server", lambda: step(ground))
        kubelet.proxy.rule = lambda _: DROPPED
        process.wait(30)
        server.__dict__.update(start_apiserver(state=server.kubeconfig.parent).__dict__)  # it has another port
        kubelet.proxy.heal()
        begun = time.monotonic()
        ground.until(lambda: ground.is_ready("v1"), "Ready", kubelet.work)
        took = time.monotonic() - begun
        line.done, line.verdict = f"{len(kubelet.proxy.since(0, is_write))} writes", f"Ready {took:.1f} s after"
        assert kubelet.ends == 0
        assert len(ground.objects("Job")) == 3


def step(ground: Ground) -> None:
    """What the cluster does, as long as there is one and it takes anything."""
    try:
        ground.step()
    except (OSError, AssertionError):
        return
