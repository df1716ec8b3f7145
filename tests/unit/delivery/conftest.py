"""The scripts that live beside the workflows and the Terraform code, and a kubectl that answers from a script."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ACTION = ROOT / ".github" / "actions" / "apply-creditmodel"

KUBECTL = """import json, pathlib, sys
state = pathlib.Path({state!r})
arguments = sys.argv[3:]
calls = state / "calls"
calls.write_text((calls.read_text() if calls.exists() else "") + json.dumps(arguments) + "\\n")
verb = "validate" if "--dry-run=server" in arguments else arguments[0]
number = len([line for line in calls.read_text().splitlines() if json.loads(line)[0] == arguments[0]])
answers = json.loads((state / "answers").read_text())[verb]
code, out, err = answers[min(number - 1, len(answers) - 1)] if verb == "get" else answers[0]
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@pytest.fixture(scope="session")
def action() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of the action as Python does when it runs: its siblings are in sys.path."""
    sys.path.insert(0, str(ACTION))
    yield importlib.import_module
    sys.path.remove(str(ACTION))


@dataclass
class Runner:
    """A run of the action: its inputs, a scripted kubectl, and what it wrote."""

    work: Path
    main: Callable[[dict[str, str]], int]
    answers: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)

    def answer(self, verb: str, *answers: object, code: int = 0, err: str = "") -> Runner:
        """What kubectl prints for a verb; several answers to `get` come one after another, the last for ever."""
        texts = [a if isinstance(a, str) else json.dumps(a) for a in answers or ("",)]
        self.answers[verb] = [(code, text, err) for text in texts]
        return self

    def run(self, **inputs: str) -> int:
        """The exit code."""
        (self.work / "answers").write_text(json.dumps(self.answers))
        manifest = self.work / "creditmodel.yaml"
        manifest.write_text("kind: CreditModel\n")
        defaults = {
            "INPUT_FILE": str(manifest),
            "INPUT_NAMESPACE": "lending",
            "INPUT_TIMEOUT_SECONDS": "10",
            "GITHUB_STEP_SUMMARY": str(self.work / "summary.md"),
            "GITHUB_OUTPUT": str(self.work / "output"),
        }
        return self.main(defaults | {f"INPUT_{key.upper()}": value for key, value in inputs.items()})

    @property
    def summary(self) -> str:
        return (self.work / "summary.md").read_text()

    @property
    def outputs(self) -> dict[str, str]:
        """Read as the runner reads them: key<<delimiter, lines, delimiter."""
        found, lines = {}, iter((self.work / "output").read_text().splitlines())
        for line in lines:
            key, delimiter = line.split("<<")
            value = []
            for text in lines:
                if text == delimiter:
                    break
                value.append(text)
            found[key] = "\n".join(value)
        return found

    @property
    def calls(self) -> list[list[str]]:
        calls = self.work / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[str], ModuleType]) -> Runner:
    script = action("apply_creditmodel")
    monkeypatch.setattr(script, "INTERVAL_SECONDS", 0.01)
    (tmp_path / "kubectl.py").write_text(KUBECTL.format(state=str(tmp_path)))
    kubectl = tmp_path / "kubectl"
    # Not Python's path after #!, where a space would end it.
    kubectl.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(tmp_path / "kubectl.py")])} "$@"\n')
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Runner(tmp_path, script.main)


@dataclass
class Resource:
    """A CreditModel as the cluster answers it, built sentence by sentence."""

    generation: int = 1
    uid: str = "0001"
    conditions: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    def says(
        self, kind: str, status: str, message: str = "", at: int | None = None, reason: str = "Because"
    ) -> Resource:
        observed = self.generation if at is None else at
        found = {
            "type": kind,
            "status": status,
            "message": message,
            "observedGeneration": observed,
            "reason": reason,
        }
        self.conditions.append(found)
        return self

    def serving(self, revision: str) -> Resource:
        self.status["active"] = {"revision": revision, "digest": "sha256:aa", "endpoint": "http://loans.lending.svc"}
        return self

    def gate(self, name: str, verdict: str, message: str, *numbers: dict[str, Any]) -> Resource:
        found = {"name": name, "verdict": verdict, "message": message, "numbers": list(numbers)}
        self.status.setdefault("gates", []).append(found)
        return self

    def build(self) -> dict[str, Any]:
        return {
            "apiVersion": "creditmodel.dev/v1alpha1",
            "kind": "CreditModel",
            "metadata": {"name": "loans", "uid": self.uid, "generation": self.generation},
            "status": {**self.status, "conditions": self.conditions},
        }


@pytest.fixture
def resource() -> type[Resource]:
    return Resource
