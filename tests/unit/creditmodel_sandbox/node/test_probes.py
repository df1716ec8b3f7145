from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from creditmodel_sandbox.node.probes import Outcome, Place, Prober, Threshold, attempt, port_number
from creditmodel_sandbox.node.process import processes_of

LONG = 60.0
"""Seconds that an answer may take, on a machine that may be busy."""
CONTAINER = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}


async def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Place(
            container=CONTAINER,
            ip="127.0.0.1",
            mark=f"{uuid.uuid4().hex}/c",
            env={"PATH": os.environ["PATH"], "A": "1"},
            cwd=tmp_path,
            translate=lambda words: [word.replace("/mounted", str(tmp_path)) for word in words],
            session=session,
        )


@pytest_asyncio.fixture
async def server() -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.sleep(2 * LONG)
        if request.path == "/headers":
            ok = request.headers.get("X-Probe") == "yes" and request.headers["User-Agent"].startswith("kube-probe/")
            return web.Response(status=200 if ok else 400)
        return web.Response(status=int(request.path.strip("/") or 200), text="said")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "ok"),
    [("/200", True), ("", True), ("302", True), ("/399", True), ("/400", False), ("/503", False)],
)
async def test_an_http_probe_takes_200_to_399_for_success(place: Place, server: int, path: str, ok: bool) -> None:
    outcome = await attempt({"httpGet": {"path": path, "port": server}}, place, LONG)
    assert outcome.ok is ok, outcome


async def test_an_http_probe_does_not_wait_for_ever(place: Place, server: int) -> None:
    outcome = await attempt({"httpGet": {"path": "/slow", "port": server}}, place, 0.5)
    assert not outcome.ok


async def test_an_http_probe_sends_its_headers(place: Place, server: int) -> None:
    action = {"path": "/headers", "port": str(server), "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}
    assert (await attempt({"httpGet": action}, place, LONG)).ok


async def test_a_failure_says_what_was_answered(place: Place, server: int) -> None:
    outcome = await attempt({"httpGet": {"path": "/503", "port": server}}, place, LONG)
    assert outcome == Outcome(ok=False, message="HTTP probe failed with statuscode: 503 said")


async def test_a_tcp_probe_needs_a_listener(place: Place, server: int) -> None:
    assert (await attempt({"tcpSocket": {"port": server}}, place, LONG)).ok
    assert not (await attempt({"tcpSocket": {"port": "http"}}, place, LONG)).ok


@pytest.mark.parametrize(
    ("script", "ok", "message"),
    [("test $A = 1", True, "exit code 0"), ("echo why; exit 2", False, "why"), ("exit 3", False, "exit code 3")],
)
async def test_an_exec_probe_runs_in_the_containers_environment(
    place: Place, script: str, ok: bool, message: str
) -> None:
    assert await attempt({"exec": {"command": ["sh", "-c", script]}}, place, LONG) == Outcome(ok, message)


async def test_an_exec_probe_sees_mounted_paths(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (await attempt({"exec": {"command": ["test", "-e", "/mounted/file"]}}, place, LONG)).ok


async def test_an_exec_probe_that_takes_too_long_is_ended(place: Place) -> None:
    outcome = await attempt({"exec": {"command": ["sleep", "1000"]}}, place, 0.2)
    assert outcome == Outcome(ok=False, message="no answer within 0.2s")
    await wait_for(lambda: not processes_of(place.mark))


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ({"grpc": {"port": 1}}, "grpc is not supported"),
        ({"httpGet": {"port": "none"}}, 'no port named "none"'),
        ({"exec": {"command": ["no-such-command"]}}, "no-such-command"),
    ],
)
async def test_a_probe_that_cannot_be_made_is_a_failure_that_says_why(place: Place, handler: Any, message: str) -> None:
    outcome = await attempt(handler, place, LONG)
    assert not outcome.ok
    assert message in outcome.message


def test_a_port_is_a_number_or_a_name() -> None:
    assert [port_number(CONTAINER, port) for port in (1, "2", "http")] == [1, 2, 8080]


@pytest.mark.parametrize(
    ("success", "failure", "outcomes", "verdicts"),
    [
        (1, 3, "--- ", [None, None, False]),
        (1, 3, "--+---", [None, None, True, True, True, False]),
        (2, 1, "+-++", [None, False, False, True]),
        (1, 1, "+-+", [True, False, True]),
    ],
)
def test_a_verdict_needs_so_many_outcomes_in_a_row(
    success: int, failure: int, outcomes: str, verdicts: list[Any]
) -> None:
    threshold = Threshold(success, failure, None)
    assert [threshold.add(sign == "+") for sign in outcomes.strip()] == verdicts


class Told:
    def __init__(self) -> None:
        self.all: list[tuple[str, bool, bool]] = []

    def probed(self, kind: str, outcome: Outcome, *, passed: bool) -> None:
        self.all.append((kind, outcome.ok, passed))


async def test_without_probes_a_container_is_started_and_ready_at_once(place: Place) -> None:
    told = Told()
    prober = Prober(place, told)
    await wait_for(lambda: len(told.all) == 2)
    assert told.all == [("startup", True, True), ("readiness", True, True)]
    prober.stop()


async def test_failures_are_told_one_by_one_and_a_verdict_when_it_changes(place: Place, tmp_path: Path) -> None:
    probe = {
        "exec": {"command": ["test", "-e", "/mounted/up"]},
        "periodSeconds": 0.1,
        "failureThreshold": 2,
        "timeoutSeconds": 5,
    }
    told = Told()
    object.__setattr__(place, "container", {**CONTAINER, "livenessProbe": probe})
    prober = Prober(place, told)
    await wait_for(lambda: len(told.all) >= 4)
    assert told.all[2:4] == [("liveness", False, True), ("liveness", False, False)]
    (tmp_path / "up").touch()
    await wait_for(lambda: told.all[-1] == ("liveness", True, True))
    prober.stop()
