"""`creditmodel-sandbox up | down | status | logs | reset`, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs the command with a state directory of the test's own; whatever it leaves running is stopped."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "creditmodel_sandbox.cli", *arguments],
            capture_output=True, text=True, timeout=90, env=environment, check=False,
        )  # fmt: skip

    yield command
    for record in tmp_path.glob("creditmodel-sandbox/*/instance.json"):
        command("down", "--name", record.parent.name)


def read(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "creditmodel-sandbox" / name / "instance.json").read_text())


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_an_instance_starts_says_how_it_does_and_stops(run: Run, tmp_path: Path) -> None:
    started = run("up", "--name", "one")
    assert started.returncode == 0, started.stderr
    kubeconfig = tmp_path / "creditmodel-sandbox" / "one" / "kubeconfig"
    assert started.stdout == f"export KUBECONFIG={kubeconfig}\n"
    assert kubeconfig.stat().st_mode & 0o077 == 0
    status = run("status", "--name", "one")
    assert status.returncode == 0
    assert status.stdout.count("running (pid") == 3
    assert "already running" in run("up", "--name", "one").stdout
    assert "apiserver   | https://127.0.0.1:" in run("logs", "--name", "one").stdout
    processes = [process["pid"] for process in read(tmp_path, "one")["processes"].values()]
    port = read(tmp_path, "one")["port"]
    assert run("down", "--name", "one").returncode == 0
    assert not any(alive(pid) for pid in processes)
    assert run("status", "--name", "one").returncode == 1
    assert run("up", "--name", "one").returncode == 0
    assert read(tmp_path, "one")["port"] == port
    assert run("reset", "--name", "one").returncode == 0
    assert not kubeconfig.parent.exists()


def test_two_instances_have_their_own_addresses(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("up", "--name", name).returncode == 0
    one, two = read(tmp_path, "one"), read(tmp_path, "two")
    assert one["slot"] != two["slot"]
    assert one["port"] != two["port"]
    run("down", "--name", "one")
    assert run("status", "--name", "two").returncode == 0


def test_an_instance_that_died_is_cleaned_up_and_started_again(run: Run, tmp_path: Path) -> None:
    run("up", "--name", "one")
    before = {part: process["pid"] for part, process in read(tmp_path, "one")["processes"].items()}
    os.kill(before["apiserver"], signal.SIGKILL)
    status = run("status", "--name", "one")
    assert status.returncode == 1
    assert "apiserver    died" in status.stdout
    again = run("up", "--name", "one")
    assert again.returncode == 0
    assert "a previous run of 'one' ended without `down` (apiserver)" in again.stderr
    assert not any(alive(pid) for pid in before.values())


def test_a_taken_port_is_said_and_nothing_is_left_running(run: Run, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        failed = run("up", "--name", "one", "--port", str(listener.getsockname()[1]))
    assert failed.returncode == 2
    assert "choose another with --port" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert read(tmp_path, "one")["processes"] == {}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("down", "--name", "nobody"), "there is no instance 'nobody'"),
        (("reset", "--name", "nobody"), "there is no instance 'nobody'"),
        (("logs", "--name", "nobody"), "has no logs yet"),
        (("up", "--name", "../x"), "is not a name"),
        (("fly",), "invalid choice: 'fly'"),
    ],
)
def test_bad_input_is_said_clearly(run: Run, arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_reset_deletes_nothing_that_is_not_a_sandbox(run: Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    done = run("reset", "--state-dir", str(precious))
    assert done.returncode == 2
    assert (precious / "file").exists()
