"""The scheduler: where a pod goes, and why it goes nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from creditmodel_sandbox.client import Client, Kubeconfig, Obj
from creditmodel_sandbox.controllers import scheduler
from creditmodel_sandbox.controllers.objects import NODES, PODS, condition
from creditmodel_sandbox.controllers.runtime import Action, Create, Event, Replace


def a_node(
    world: Any, name: str = "node", *, ready: bool = True, labels: Any = None, pods: int = 10, **spec: Any
) -> Obj:
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": str(pods)}
    status = {"allocatable": allocatable, "conditions": [world.ready(ready)]}
    made: Obj = world.add(NODES, name, meta={"labels": labels or {}}, spec=spec, status=status)
    return made


def act(world: Any) -> Sequence[Action]:
    snapshot = scheduler.observe(world.cache, "pending")
    return scheduler.reconcile(snapshot, world.now) if snapshot else []


def bound(actions: Sequence[Action]) -> dict[str, str]:
    return {a.name: a.body["target"]["name"] for a in actions if isinstance(a, Create) and a.subresource == "binding"}


def reason(actions: Sequence[Action]) -> str:
    """The message of the one pod that could not be placed."""
    (replace,) = [action for action in actions if isinstance(action, Replace)]
    found = condition(replace.body, "PodScheduled")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert any(
        isinstance(a, Event) and a.reason == "FailedScheduling" and a.message == found["message"] for a in actions
    )
    return str(found["message"])


def test_a_pending_pod_is_bound_to_a_ready_node(world: Any) -> None:
    a_node(world)
    world.pod("a")
    actions = act(world)
    assert bound(actions) == {"a": "node"}
    messages = [(action.reason, action.message) for action in actions if isinstance(action, Event)]
    assert messages == [("Scheduled", "Successfully assigned ns/a to node")]


# Each case: a node, a pod, and the obstacle between them.
OBSTACLES: list[tuple[str, Obj, Obj, str]] = [
    ("a node that is not ready", {"ready": False}, {}, "1 node(s) were not ready"),
    ("a cordoned node", {"unschedulable": True}, {}, "1 node(s) were unschedulable"),
    ("a taint", {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, {}, "1 node(s) had untolerated taint(s)"),
    ("too little CPU", {}, {"requests": {"cpu": "2001m"}}, "1 Insufficient cpu"),
    ("too little memory", {}, {"requests": {"memory": "2Gi"}}, "1 Insufficient memory"),
    ("too many pods", {"pods": 0}, {}, "1 Too many pods"),
]


@pytest.mark.parametrize(("node", "pod", "message"), [c[1:] for c in OBSTACLES], ids=[c[0] for c in OBSTACLES])
def test_why_a_pod_is_not_placed(world: Any, node: Obj, pod: Obj, message: str) -> None:
    a_node(world, **node)
    world.pod("a", **pod)
    assert reason(act(world)) == f"0/1 nodes are available: {message}."


def test_without_any_node_it_says_so(world: Any) -> None:
    world.pod("a")
    assert reason(act(world)) == "no nodes available to schedule pods"


def test_the_same_reason_is_written_once(world: Any) -> None:
    world.pod("a")
    world.settle(act)
    assert act(world) == []


def test_a_node_selector_chooses_by_label(world: Any) -> None:
    a_node(world, "plain")
    a_node(world, "fast", labels={"disk": "ssd"})
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], "nodeSelector": {"disk": "ssd"}})
    assert bound(act(world)) == {"a": "fast"}


@pytest.mark.parametrize(
    ("toleration", "placed"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(world: Any, toleration: Obj, placed: bool) -> None:
    a_node(world, taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], "tolerations": [toleration]})
    assert bool(bound(act(world))) is placed


def test_the_taint_of_a_new_node_and_a_mere_preference_do_not_matter(world: Any) -> None:
    new = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    a_node(world, taints=[new, {"key": "gpu", "effect": "PreferNoSchedule"}])
    world.pod("a")
    assert bound(act(world)) == {"a": "node"}


def test_the_largest_init_container_counts_when_it_needs_more(world: Any) -> None:
    a_node(world)
    pod = world.pod("a")
    init = [{"name": "init", "resources": {"requests": {"cpu": "3"}}}]
    world.change(PODS, pod, spec={**pod["spec"], "initContainers": init})
    assert reason(act(world)) == "0/1 nodes are available: 1 Insufficient cpu."


def test_pods_placed_in_one_pass_share_the_room(world: Any) -> None:
    a_node(world)
    for name in ("a", "b", "c"):
        world.pod(name, requests={"cpu": "800m"})
    actions = act(world)
    assert bound(actions) == {"a": "node", "b": "node"}
    assert reason(actions) == "0/1 nodes are available: 1 Insufficient cpu."


def test_pods_spread_over_nodes(world: Any) -> None:
    a_node(world, "one")
    a_node(world, "two")
    world.pod("there", node="one", requests={"cpu": "1"})
    world.pod("a", requests={"cpu": "100m"})
    assert bound(act(world)) == {"a": "two"}


def test_a_finished_pod_takes_no_room(world: Any) -> None:
    a_node(world, pods=1)
    world.pod("done", node="node", phase="Succeeded")
    world.pod("a")
    assert bound(act(world)) == {"a": "node"}


@pytest.mark.parametrize(
    "spec", [{"schedulerName": "other"}, {"schedulingGates": [{"name": "wait"}]}, {"nodeName": "x"}]
)
def test_pods_that_are_not_its_business_are_left_alone(world: Any, spec: Obj) -> None:
    a_node(world)
    pod = world.pod("a")
    world.change(PODS, pod, spec={**pod["spec"], **spec})
    assert list(act(world)) == []


class SlowLease:
    """An API server with one Lease, whose first write reaches it and is answered only when `go` is set."""

    def __init__(self, holder: str = "") -> None:
        self.arrived, self.go, self.written = asyncio.Event(), asyncio.Event(), asyncio.Event()
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 60, "renewTime": datetime.now(UTC).isoformat()}
        self.lease: Obj | None = {"metadata": {"name": "kube-scheduler"}, "spec": spec} if holder else None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._read)
        app.router.add_route("*", "/{path:.*}", self._write)
        return app

    async def _read(self, _: web.Request) -> web.Response:
        return web.json_response(self.lease) if self.lease else web.json_response({"code": 404}, status=404)

    async def _write(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.arrived.set()
        await self.go.wait()
        self.lease = body
        self.written.set()
        return web.json_response(body)


def announced(server: BaseTestServer) -> asyncio.Task[None]:
    config = Kubeconfig(str(server.make_url("")).rstrip("/"), ssl=True)

    async def announce() -> None:
        async with Client(config, "test") as client:
            await scheduler.announce(client)

    return asyncio.create_task(announce())


async def test_stopped_while_the_first_renewal_is_under_way_it_still_gives_the_lease_back() -> None:
    api = SlowLease()
    async with TestServer(api.application(), host="127.0.0.1") as server:
        task = announced(server)
        await api.arrived.wait()
        task.cancel()
        # Later than anything that would not wait for the answer.
        asyncio.get_running_loop().call_later(0.2, api.go.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(api.written.wait(), 5)
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == ""


async def test_beside_another_scheduler_it_ends_and_leaves_the_lease_alone() -> None:
    api = SlowLease("somebody-else")
    async with TestServer(api.application(), host="127.0.0.1") as server:
        with pytest.raises(scheduler.AnotherScheduler, match="somebody-else"):
            await announced(server)
    assert not api.arrived.is_set()
