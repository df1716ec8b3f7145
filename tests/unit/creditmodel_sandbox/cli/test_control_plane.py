"""`up --control-plane DIR`. The programs are stand-ins (see standin.py): a real kube-apiserver is on no registry."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from creditmodel_sandbox.instance import Instance, Record

STANDIN = Path(__file__).with_name("standin.py")
ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
POD = """
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greeter"}, "spec": {"restartPolicy": "Never", "containers": [
 {"name": "main", "image": "creditmodel-jobs:dev", "command": ["sh", "-c", "printf hello > /dev/termination-log"]}]}}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., Path]:
    """Makes a directory of programs; `lines` replaces what one of them does."""

    def make(*names: str, version: str = "v1.36.1", **lines: str) -> Path:
        directory = tmp_path / "programs"
        directory.mkdir(exist_ok=True)
        for name in names:
            own = lines.get(name.replace("-", "_"), f'exec {shlex.join([sys.executable, str(STANDIN)])} {name} "$@"')
            said = f'[ "$1" = --version ] && echo Kubernetes {version} && exit'
            (directory / name).write_text(f"#!/bin/sh\n{said}\n{own}\n")
            (directory / name).chmod(0o755)
        return directory

    return make


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs the command on one instance, which is stopped at the end."""

    def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "creditmodel_sandbox.cli", name, *arguments, "--state-dir", str(tmp_path / "i")]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    yield command
    if (tmp_path / "i" / "instance.json").exists():
        command("reset")


def kubectl(tmp_path: Path, *arguments: str, stdin: str = "") -> str:
    argv = [str(Path(sys.executable).with_name("kubectl")), "--kubeconfig", str(tmp_path / "i" / "kubeconfig")]
    env = {**os.environ, "KUBECACHEDIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*argv, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs_a_pod(tmp_path: Path) -> bool:
    kubectl(tmp_path, "create", "--validate=false", "-f", "-", stdin=POD)
    kubectl(tmp_path, "wait", "pod/greeter", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
    said = "jsonpath={.status.containerStatuses[0].state.terminated.message}"
    return kubectl(tmp_path, "get", "pod", "greeter", "-o", said) == "hello"


def test_a_control_plane_runs_pods_on_the_sandboxs_node_and_is_continued(
    run: Run, programs: Callable[..., Path], tmp_path: Path
) -> None:
    started = run("up", "--control-plane", str(programs(*ALL)))
    assert started.returncode == 0, started.stderr
    assert started.stdout == f"export KUBECONFIG={tmp_path / 'i' / 'kubeconfig'}\n"
    assert runs_a_pod(tmp_path)
    status = run("status")
    assert status.returncode == 0
    assert [line.split()[0] for line in status.stdout.splitlines() if "running" in line] == [*ALL, "node"]
    assert run("down").returncode == 0
    assert run("status").returncode == 1
    again = run("up")  # it remembers which programs
    assert again.returncode == 0, again.stderr
    assert "greeter" in kubectl(tmp_path, "get", "pods")
    assert run("reset").returncode == 0
    assert not (tmp_path / "i").exists()


@pytest.mark.full
def test_what_the_directory_lacks_the_sandbox_does_itself(
    run: Run, programs: Callable[..., Path], tmp_path: Path
) -> None:
    started = run("up", "--control-plane", str(programs("etcd", "kube-apiserver")))
    assert started.returncode == 0, started.stderr
    assert "there is no kube-controller-manager: the sandbox's controllers do its work" in started.stderr
    assert "there is no kube-scheduler: the node binds pods to itself" in started.stderr
    assert runs_a_pod(tmp_path)


def test_programs_that_will_not_do_are_named(run: Run, programs: Callable[..., Path]) -> None:
    directory = programs("etcd")
    assert f"{directory} has no kube-apiserver" in refusal(run, directory)
    programs("kube-apiserver").joinpath("kube-apiserver").chmod(0o644)
    assert f"{directory}/kube-apiserver is not an executable file" in refusal(run, directory)
    programs("kube-apiserver", version="v1.28.3")
    assert f"kube-apiserver in {directory} is v1.28: v1.35 or newer is needed" in refusal(run, directory)
    programs("kube-apiserver")
    programs("kube-scheduler", version="v1.35.0")
    assert f"kube-scheduler in {directory} is v1.35 beside kube-apiserver v1.36" in refusal(run, directory)
    programs("kube-scheduler", version="nothing")
    assert "kube-scheduler --version does not name a version of Kubernetes" in refusal(run, directory)
    directory.joinpath("kube-scheduler").write_text("no program")
    assert f"{directory}/kube-scheduler cannot be run" in refusal(run, directory)


def refusal(run: Run, directory: Path) -> str:
    """What `up` says on standard error when it refuses."""
    done = run("up", "--control-plane", str(directory))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_part_that_ends_early_is_quoted_and_nothing_is_left(
    run: Run, programs: Callable[..., Path], tmp_path: Path
) -> None:
    directory = programs(*ALL, kube_apiserver="echo 'Error: unknown flag: --nonsense' >&2; exit 1")
    said = refusal(run, directory)
    assert "kube-apiserver ended before the API server is ready: Error: unknown flag: --nonsense" in said
    assert run("status").returncode == 1
    assert "not running" in run("status").stdout


def test_an_instance_of_the_sandboxs_own_is_not_turned_into_another(
    run: Run, programs: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "i").mkdir()
    Instance("default", tmp_path / "i").write(Record(slot=0))
    assert "has the sandbox's own API server, whose state a real one cannot read" in refusal(run, programs(*ALL))


def test_the_stand_ins_refuse_a_flag_that_the_real_ones_do_not_have(programs: Callable[..., Path]) -> None:
    command = [str(programs(*ALL) / "kube-apiserver"), "--nonsense=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: unknown flag: --nonsense\n")
