"""Validate, diff and apply one CreditModel, wait for its verdict, and write the job summary.

Reads its inputs from the environment (action.yml sets it), talks to the cluster through kubectl alone, and needs
nothing but Python's standard library. Exit codes: 0 ready (or valid, with INPUT_MODE=diff; or waiting for an approval,
which no pipeline can sit out: a warning and the output `outcome` say so), 1 rejected or not settled, 2 bad input.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge import Judgement, Outcome, judge
from report import summary

__all__ = ["BadInput", "Inputs", "Kubectl", "KubectlError", "main"]

MANAGER = "apply-creditmodel"
INTERVAL_SECONDS = 2.0
CALL_SECONDS = 60
EXIT_CODES = {Outcome.READY: 0, Outcome.VALIDATED: 0, Outcome.WAITING: 0, Outcome.INVALID: 2}


class BadInput(Exception):
    """The action's inputs, or the file that they name, cannot be used. The message says how to mend it."""


class KubectlError(Exception):
    """kubectl failed; the message is what it said."""


@dataclass(frozen=True)
class Inputs:
    """The action's inputs, checked."""

    file: Path
    namespace: str
    mode: str
    timeout: int
    force: bool

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Inputs:
        """From INPUT_* variables. Raises BadInput."""
        file = Path(environment.get("INPUT_FILE", ""))
        if not file.is_file():
            raise BadInput(f"file: {str(file)!r} is not a file; name the manifest of one CreditModel")
        namespace = environment.get("INPUT_NAMESPACE", "")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
            raise BadInput(f"namespace: {namespace!r} is not a name that Kubernetes takes (lower case, digits, dashes)")
        mode = environment.get("INPUT_MODE", "apply")
        if mode not in ("apply", "diff"):
            raise BadInput(f"mode: {mode!r} is neither apply nor diff")
        seconds = environment.get("INPUT_TIMEOUT_SECONDS", "900")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 21_600:
            raise BadInput(f"timeout-seconds: {seconds!r} is not a whole number of seconds from 1 to 21600")
        force = environment.get("INPUT_FORCE_CONFLICTS", "false")
        if force not in ("true", "false"):
            raise BadInput(f"force-conflicts: {force!r} is neither true nor false")
        return cls(file, namespace, mode, int(seconds), force == "true")


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace of the cluster that the environment's kubeconfig names."""

    program: str
    namespace: str

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Standard output. Raises KubectlError for an exit code that is not accepted."""
        command = [self.program, "--namespace", self.namespace, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl {arguments[0]} took longer than {CALL_SECONDS} s") from None
        if done.returncode not in accept:
            raise KubectlError(done.stderr.strip() or f"kubectl {arguments[0]} exited with {done.returncode}")
        return done.stdout

    def get(self, name: str) -> dict[str, Any] | None:
        """The CreditModel, or None when there is none. Raises KubectlError."""
        found = self.run("get", "creditmodels.creditmodel.dev", name, "--ignore-not-found", "-o", "json")
        resource: dict[str, Any] | None = json.loads(found) if found.strip() else None
        return resource


def main(environment: Mapping[str, str]) -> int:
    """Run the action; the return value is the exit code."""
    name, diff = "", ""
    resource: dict[str, Any] | None = None
    # What the file and the cluster say is printed below; a line that looks like a workflow command must not be one.
    token = uuid.uuid4().hex
    print(f"::stop-commands::{token}", flush=True)
    try:
        inputs = Inputs.read(environment)
        kubectl = Kubectl(_kubectl(), inputs.namespace)
        apply = ["--server-side", f"--field-manager={MANAGER}", "-f", str(inputs.file)]
        apply += ["--force-conflicts"] if inputs.force else []
        name = validate(kubectl, apply)
        # Exit code 1 of kubectl diff means that there is a difference.
        diff = kubectl.run("diff", *apply, accept=(0, 1))
        print(diff or "No difference from what the cluster has.", flush=True)
        if inputs.mode == "diff":
            judgement = Judgement(Outcome.VALIDATED, "The API server accepts it. Nothing was applied.")
        else:
            applied = json.loads(kubectl.run("apply", *apply, "-o", "json"))
            judgement, resource = wait(kubectl, applied, inputs.timeout)
    except (BadInput, KubectlError) as e:
        judgement = Judgement(Outcome.INVALID, str(e))
    print(f"::{token}::", flush=True)
    tell(environment, name or Path(environment.get("INPUT_FILE", "")).name, judgement, diff, resource)
    return EXIT_CODES.get(judgement.outcome, 1)


def _kubectl() -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise BadInput("kubectl is not in PATH; install it in a step before this one")
    return program


def validate(kubectl: Kubectl, apply: list[str]) -> str:
    """Let the API server judge the file (schema and CEL rules) without storing it; returns the CreditModel's name."""
    found = json.loads(kubectl.run("apply", "--dry-run=server", *apply, "-o", "json"))
    objects = found["items"] if found.get("kind") == "List" else [found]
    kinds = [f"{o.get('apiVersion')} {o.get('kind')}" for o in objects]
    if len(objects) != 1 or not kinds[0].startswith("creditmodel.dev/") or objects[0]["kind"] != "CreditModel":
        raise BadInput(f"the file holds {', '.join(kinds) or 'nothing'}; it must hold exactly one CreditModel")
    name: str = objects[0]["metadata"]["name"]
    return name


def wait(kubectl: Kubectl, applied: dict[str, Any], timeout: int) -> tuple[Judgement, dict[str, Any]]:
    """Poll until the spec that was applied is Ready or Stalled, waits for an approval, or time is up.

    Also returns the object as last seen.
    """
    name, uid = applied["metadata"]["name"], applied["metadata"]["uid"]
    resource, said = applied, ""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = kubectl.get(name)
        except KubectlError as e:
            # An API server that restarts is no verdict on the model.
            judgement = Judgement(Outcome.PENDING, f"cannot ask the cluster: {e}")
        else:
            if found is None or found["metadata"]["uid"] != uid:
                return Judgement(Outcome.DELETED, "someone deleted it; apply it again"), resource
            resource = found
            judgement = judge(resource, applied["metadata"]["generation"])
        if judgement.outcome is not Outcome.PENDING:
            return judgement, resource
        if judgement.message != said:
            said = judgement.message
            print(said, flush=True)
        if time.monotonic() >= deadline:
            return Judgement(Outcome.TIMEOUT, f"neither Ready nor Stalled after {timeout} s; last: {said}"), resource
        time.sleep(INTERVAL_SECONDS)


def tell(
    environment: Mapping[str, str], name: str, judgement: Judgement, diff: str, resource: dict[str, Any] | None
) -> None:
    """Write the job summary, the outputs and an annotation."""
    _append(environment.get("GITHUB_STEP_SUMMARY"), summary(name, judgement, diff, resource))
    active = (resource or {}).get("status", {}).get("active") or {}
    outputs = {"outcome": judgement.outcome.value, "name": name, "message": judgement.message}
    outputs |= {key: str(active.get(key, "")) for key in ("revision", "digest", "endpoint")}
    _append(environment.get("GITHUB_OUTPUT"), "".join(_output(key, value) for key, value in outputs.items()))
    text = f"{name}: {judgement.message}"
    print(f"::{_level(judgement.outcome)} title=CreditModel {judgement.outcome.value}::{_command(text)}", flush=True)


def _level(outcome: Outcome) -> str:
    if outcome is Outcome.WAITING:
        return "warning"
    return "error" if EXIT_CODES.get(outcome, 1) else "notice"


def _append(path: str | None, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _output(key: str, value: str) -> str:
    """One output. A delimiter that nobody can foresee keeps a message from adding outputs of its own."""
    delimiter = uuid.uuid4().hex
    return f"{key}<<{delimiter}\n{value}\n{delimiter}\n"


def _command(text: str) -> str:
    """Text as the data of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


if __name__ == "__main__":
    sys.exit(main(os.environ))
