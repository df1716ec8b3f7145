"""`creditmodel-sandbox up | down | status | logs | reset`, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs the command with a state directory of the test's own; whatever it leaves running is stopped."""
    own = tmp_path / "home" / ".kube" / "config"
    own.parent.mkdir(parents=True)
    own.write_text("the user's own")
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path),
        "HOME": str(tmp_path / "home"),
        "KUBECONFIG": str(own),
        "https_proxy": "http://127.0.0.1:9",  # of the user's network, which has nothing to do with a sandbox
        "no_proxy": "",
    }

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "creditmodel_sandbox.cli", *arguments],
            capture_output=True, text=True, timeout=90, env=environment, check=False,
        )  # fmt: skip

    yield command
    for record in tmp_path.glob("creditmodel-sandbox/*/instance.json"):
        command("down", "--name", record.parent.name)
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == [own]
    assert own.read_text() == "the user's own"


def read(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "creditmodel-sandbox" / name / "instance.json").read_text())


def processes(tmp_path: Path, name: str) -> dict[str, tuple[int, str]]:
    """The parts' process ids, each with its time of start: a number alone may soon belong to another process."""
    return {part: (p["pid"], p["started"]) for part, p in read(tmp_path, name)["processes"].items()}


def alive(process: tuple[int, str]) -> bool:
    try:
        state, *fields = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and fields[18] == process[1]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


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
    running = processes(tmp_path, "one")
    assert all(map(alive, running.values()))
    port = read(tmp_path, "one")["port"]
    assert run("down", "--name", "one").returncode == 0
    assert not any(map(alive, running.values()))
    assert run("status", "--name", "one").returncode == 1
    assert run("up", "--name", "one").returncode == 0
    assert read(tmp_path, "one")["port"] == port
    assert run("reset", "--name", "one").returncode == 0
    assert not kubeconfig.parent.exists()


def test_logs_are_readable_at_a_terminal_and_json_in_a_pipe(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "some" / "logs"
    directory.mkdir(parents=True)
    entry = {"time": "2026-01-01T10:00:00.000+00:00", "level": "INFO", "logger": "x", "message": "joined"}
    lines = [json.dumps(entry), "I0101 a line of somebody else's"]
    (directory / "node.log").write_text("\n".join(lines) + "\n")
    assert run("logs", "--state-dir", str(directory.parent)).stdout.splitlines() == lines
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "logs", "--state-dir", str(directory.parent)]
    for follow in ([], ["--follow"]):
        with subprocess.Popen([*command, *follow], stdout=terminal, env={**os.environ, "TZ": "UTC"}) as process:
            shown = b""
            while shown.count(b"\n") < 2:
                shown += os.read(ours, 4096)
            process.terminate()
        assert shown.decode().splitlines() == ["10:00:00 INFO    joined", lines[1]]
    os.close(ours)
    os.close(terminal)


def test_two_instances_have_their_own_addresses(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("up", "--name", name).returncode == 0
    one, two = read(tmp_path, "one"), read(tmp_path, "two")
    assert one["slot"] != two["slot"]
    assert one["port"] != two["port"]
    run("down", "--name", "one")
    assert run("status", "--name", "two").returncode == 0


def test_addresses_that_somebody_else_on_the_machine_uses_are_left_alone(run: Run, tmp_path: Path) -> None:
    assert run("up", "--name", "one").returncode == 0
    slot = read(tmp_path, "one")["slot"]
    assert run("down", "--name", "one").returncode == 0
    with socket.socket(socket.AF_UNIX) as somebody_else:
        somebody_else.bind(f"\0creditmodel-sandbox-127.{32 + slot}")
        again = run("up", "--name", "one")
        assert again.returncode == 2
        assert f"another instance uses the addresses 127.{32 + slot}.0.0/17" in again.stderr
        assert run("reset", "--name", "one").returncode == 0
        assert run("up", "--name", "one").returncode == 0
        assert read(tmp_path, "one")["slot"] != slot


def test_what_a_killed_node_left_running_is_ended(run: Run, tmp_path: Path) -> None:
    """A process of a container that has left its parent, as a daemon does, when the node is killed."""
    run("up", "--name", "one")
    identity = (tmp_path / "creditmodel-sandbox" / "one" / "node" / "id").read_text()
    mark = {"CREDITMODEL_SANDBOX_CONTAINER": f"{identity}/pod/container"}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, **mark}) as left:
        for pid, _ in processes(tmp_path, "one").values():
            os.kill(pid, signal.SIGKILL)
        assert run("down", "--name", "one").returncode == 0
        try:
            assert left.wait(60) == -signal.SIGKILL
        finally:
            left.kill()


def test_an_instance_that_died_is_cleaned_up_and_started_again(run: Run, tmp_path: Path) -> None:
    run("up", "--name", "one")
    before = processes(tmp_path, "one")
    os.kill(before["apiserver"][0], signal.SIGKILL)
    until(lambda: not alive(before["apiserver"]))
    status = run("status", "--name", "one")
    assert status.returncode == 1
    assert "apiserver    died" in status.stdout
    again = run("up", "--name", "one")
    assert again.returncode == 0
    assert "a previous run of 'one' ended without `down` (apiserver)" in again.stderr
    assert not any(map(alive, before.values()))


def test_a_part_that_somebody_stopped_is_shown_and_goes_on_with_up(run: Run, tmp_path: Path) -> None:
    run("up", "--name", "one")
    before = processes(tmp_path, "one")
    os.kill(before["controllers"][0], signal.SIGSTOP)
    status = run("status", "--name", "one")
    assert status.returncode == 1
    assert f"controllers  stopped by a signal (pid {before['controllers'][0]})" in status.stdout
    assert "already running" in run("up", "--name", "one").stdout
    assert run("status", "--name", "one").returncode == 0
    assert processes(tmp_path, "one") == before


def test_the_line_to_copy_is_one_for_a_shell_wherever_the_state_lies(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "a b" / "ü'x"
    printed = run("up", "--state-dir", str(directory)).stdout
    assert shlex.split(printed) == ["export", f"KUBECONFIG={directory / 'kubeconfig'}"]
    assert run("reset", "--state-dir", str(directory)).returncode == 0


def test_a_full_disk_is_named_and_down_ends_everything_all_the_same(run: Run, tmp_path: Path) -> None:
    run("up", "--name", "one")
    before = processes(tmp_path, "one")
    in_the_way = tmp_path / "creditmodel-sandbox" / "one" / "instance.json.part"
    in_the_way.mkdir()
    down = run("down", "--name", "one")
    in_the_way.rmdir()
    assert down.returncode == 2
    assert "instance.json cannot be written: " in down.stderr
    assert not any(map(alive, before.values()))


def of_this_test(tmp_path: Path) -> list[str]:
    """The command lines of living processes that name the test's directory."""
    files = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]  # noqa: PTH208
    lines = []
    for file in files:
        with contextlib.suppress(OSError):
            lines.append(file.read_text().replace("\0", " "))
    return [line for line in lines if str(tmp_path) in line]


def test_an_up_that_is_killed_leaves_nothing_that_down_does_not_end(run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "creditmodel_sandbox.cli", "up", "--name", "one"]
    with subprocess.Popen(command, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}) as up:
        until(lambda: bool(of_this_test(tmp_path)))  # the API server has begun, and may be written down or not
        up.kill()
    assert run("status", "--name", "one").returncode == 1
    assert run("down", "--name", "one").returncode == 0
    assert of_this_test(tmp_path) == []


def test_an_up_that_is_interrupted_stops_what_it_began(run: Run, tmp_path: Path) -> None:
    # A job in a shell's background, as these tests may be, has this signal switched off.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "creditmodel_sandbox.cli", "up", "--name", "one"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as up:
        until(lambda: bool(of_this_test(tmp_path)))
        up.send_signal(signal.SIGINT)
        assert up.stderr is not None
        assert "Traceback" not in up.stderr.read()
    assert up.returncode == 130
    assert of_this_test(tmp_path) == []


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
