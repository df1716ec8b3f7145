"""The action against a real API server, with the real kubectl and the CRD that is installed in clusters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODEL = {
    "apiVersion": "creditmodel.dev/v1alpha1",
    "kind": "CreditModel",
    "metadata": {"name": "loans"},
    "spec": {"model": {"uri": "s3://models/loans/1"}},
}


@pytest.fixture(scope="module")
def crd(kubectl: Callable[..., str]) -> None:
    kubectl("apply", "-f", str(ROOT / "crds"))
    kubectl("wait", "crd/creditmodels.creditmodel.dev", "--for=condition=Established", "--timeout=30s")


@pytest.fixture
def act(
    crd: None,
    apiserver: Any,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[str], ModuleType],
) -> Callable[..., tuple[int, str]]:
    """Runs the action on these objects (or this text); its exit code and job summary."""
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    monkeypatch.setenv("HOME", str(tmp_path))  # kubectl keeps what it learned of a server there, by its port
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(*objects: Any, **inputs: str) -> tuple[int, str]:
        file, written = tmp_path / "creditmodel.yaml", tmp_path / "summary.md"
        file.write_text("\n---\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects))
        written.unlink(missing_ok=True)
        given = {"INPUT_FILE": str(file), "INPUT_NAMESPACE": namespace, "GITHUB_STEP_SUMMARY": str(written)}
        code = action("apply_creditmodel").main(
            given | {f"INPUT_{key.upper()}": value for key, value in inputs.items()}
        )
        return code, written.read_text()

    return run


def changed(**spec: Any) -> dict[str, Any]:
    return {**MODEL, "spec": {**MODEL["spec"], **spec}}  # type: ignore[dict-item]  # MODEL["spec"] is a dict


def test_a_valid_resource_is_shown_and_not_stored(
    act: Callable[..., tuple[int, str]], kubectl: Callable[..., str], namespace: str
) -> None:
    code, summary = act(MODEL, mode="diff")
    assert code == 0
    assert "+    uri: s3://models/loans/1" in summary
    assert "NotFound" in kubectl("get", "creditmodel", "loans", "-n", namespace, fails=True)


def test_what_the_crds_rules_refuse_is_told_in_the_api_servers_words(act: Callable[..., tuple[int, str]]) -> None:
    code, summary = act(changed(serving={"replicas": {"min": 5, "max": 2}}))
    assert code == 2
    assert "could not be applied" in summary
    assert "spec.serving.replicas" in summary


def test_a_file_that_does_not_parse_is_refused(act: Callable[..., tuple[int, str]]) -> None:
    code, summary = act("kind: CreditModel\nmetadata: {name: x\n")
    assert code == 2
    assert "yaml: line" in summary


def test_two_resources_in_one_file_are_refused_and_neither_is_stored(
    act: Callable[..., tuple[int, str]], kubectl: Callable[..., str], namespace: str
) -> None:
    code, summary = act(MODEL, {**MODEL, "metadata": {"name": "cards"}})
    assert code == 2
    assert "must hold exactly one CreditModel" in summary
    assert kubectl("get", "creditmodels", "-n", namespace, "-o", "name") == ""


def test_without_an_operator_the_action_times_out_having_applied_it(
    act: Callable[..., tuple[int, str]], kubectl: Callable[..., str], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, summary = act(MODEL, timeout_seconds="1")
    assert code == 1
    assert "the operator has not looked at generation 1 yet" in summary
    assert kubectl("get", "creditmodel", "loans", "-n", namespace, "-o", "name").strip()


def test_a_field_that_someone_else_owns_is_taken_over_only_with_force(
    act: Callable[..., tuple[int, str]], kubectl: Callable[..., str], namespace: str
) -> None:
    other = json.dumps(changed(suspend=True))
    kubectl("apply", "--server-side", "--field-manager=someone", "-n", namespace, "-f", "-", stdin=other)
    code, summary = act(changed(suspend=False), mode="diff")
    assert code == 2
    assert 'conflict with "someone"' in summary
    code, summary = act(changed(suspend=False), mode="diff", force_conflicts="true")
    assert code == 0
    assert "+  suspend: false" in summary
