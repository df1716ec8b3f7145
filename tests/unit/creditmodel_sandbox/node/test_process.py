from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.process import MARK, Process, StartError, identity_of, processes_of, sweep

NODE = uuid.uuid4().hex
ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    (tmp_path / "id").write_text(NODE)
    sweep(tmp_path)


def start(*argv: str, cwd: Path = Path("/"), name: str = "c", **more: Any) -> Process:
    with open(os.devnull, "wb") as null:  # noqa: PTH123
        return Process.start(
            argv, env=more.pop("env", ENV), cwd=cwd, mark=f"{NODE}/{name}", output=null.fileno(), **more
        )


async def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
async def test_the_exit_code_is_the_containers_or_128_and_the_signal(script: str, code: int) -> None:
    assert await start("sh", "-c", script).exited == code


async def test_nothing_but_the_given_environment_and_the_mark_gets_in(tmp_path: Path) -> None:
    process = start("sh", "-c", f"env > {tmp_path}/env", env={**ENV, "A": "1"}, cwd=tmp_path)
    await process.exited
    names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names == {"PATH", "A", "PWD", MARK} | (names & {"_", "SHLVL", "OLDPWD"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-command",), r'exec: "no-such-command": executable file not found in \$PATH'),
        (("/no/such/command",), 'exec: "/no/such/command": not found'),
        (("/",), "Permission denied"),
    ],
)
async def test_a_command_that_cannot_run_is_named(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(StartError, match=message):
        start(*argv)


async def test_what_a_container_leaves_behind_dies_with_it_even_in_a_session_of_its_own() -> None:
    process = start("sh", "-c", "setsid sleep 1000 & sleep 1000 & exit 3")
    assert await process.exited == 3
    await wait_for(lambda: not processes_of(process.mark))


async def test_sigterm_reaches_the_main_process_alone_and_sigkill_everything() -> None:
    process = start("sh", "-c", "trap 'exit 5' TERM; sleep 1000 & wait")
    await wait_for(lambda: len(processes_of(process.mark)) == 2)
    process.terminate()
    assert await process.exited == 5
    stubborn = start("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    await wait_for(lambda: len(processes_of(stubborn.mark)) == 2)
    stubborn.terminate()
    assert not stubborn.exited.done()
    stubborn.kill()
    assert await stubborn.exited == 137


async def test_a_sweep_ends_what_carries_the_nodes_mark_and_nothing_else(tmp_path: Path) -> None:
    ours = start("sleep", "1000")
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", env={**ENV, MARK: f"{uuid.uuid4().hex}/c"})
    try:
        assert sweep(tmp_path) == 0, "no identity, so nothing is ours"
        (tmp_path / "id").write_text(NODE)
        assert sweep(tmp_path) == 1
        assert await ours.exited == 137
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


def test_containers_die_with_a_node_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, pathlib, sys\n"
        "from creditmodel_sandbox.node.process import Process\n"
        "async def main():\n"
        f"    p = Process.start(['sleep', '1000'], env={ENV!r}, cwd=pathlib.Path('/'), mark='{NODE}/c', output=2)\n"
        "    print(p.pid, flush=True)\n"
        "    await p.exited\n"
        "asyncio.run(main())\n"
    )
    node = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    pid = int(node.stdout.readline())
    node.send_signal(signal.SIGKILL)
    node.wait()
    node.stdout.close()
    deadline = time.monotonic() + 60
    while pid in processes_of(f"{NODE}/c"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_identity_is_kept_and_one_that_a_full_disk_left_empty_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    made = identity_of(tmp_path)
    assert made
    assert identity_of(tmp_path) == made
