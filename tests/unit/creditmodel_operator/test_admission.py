"""The admission policy for approvals: valid by the published schemas, and its expressions say yes and no rightly.

The API server's `authorizer` is stood in for by a string that each call appends to.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cel_expr_python import cel

from creditmodel_operator import api

JSON = dict[str, Any]
FOLDER = Path(__file__).parents[3] / "manifests" / "approval"
MAY_EDIT = {f"{verb}/creditmodel.dev/creditmodels/risk/{verb}" for verb in ("create", "update", "patch")}
"""Users who are named after the one thing that they may do."""
QUESTION, LIMIT = 350_000, 1_000_000
"""What Kubernetes' library for CEL charges for a question to the authorizer, and allows an expression to cost."""


def built() -> dict[str, JSON]:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=True, timeout=60)
    return {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}


def environment(asked: list[str]) -> Any:
    """CEL with an `authorizer` that notes what it is asked."""
    text, yes = cel.Type.STRING, cel.Type.BOOL
    steps = ("group", "resource", "namespace", "check")
    functions = [
        cel.FunctionDecl(name, [cel.Overload(f"authorizer_{name}", text, [text, text], True, lambda a, b: f"{a}/{b}")])
        for name in steps
    ]

    def answer(question: str) -> bool:
        asked.append(question)
        return question in MAY_EDIT

    allowed = cel.Overload("authorizer_allowed", yes, [text], True, answer)
    functions.append(cel.FunctionDecl("allowed", [allowed]))
    variables = {"object": cel.Type.DYN, "request": cel.Type.DYN, "authorizer": text, "variables": cel.Type.DYN}
    return cel.NewEnv(variables=variables, functions=functions)


def admitted(user: str, spec: JSON) -> bool:
    request = {"userInfo": {"username": user}, "namespace": "risk"}
    data: JSON = {"object": {"spec": spec}, "request": request, "authorizer": user, "variables": {}}
    policy = built()["ValidatingAdmissionPolicy"]["spec"]
    asked: list[str] = []
    env = environment(asked)
    for variable in policy["variables"]:
        data["variables"] |= {variable["name"]: env.compile(variable["expression"]).eval(data=data).value()}
    verdicts = []
    for rule in policy["validations"]:
        message = env.compile(rule["messageExpression"]).eval(data=data).value()
        assert "risk" in message or user in message
        asked.clear()
        verdicts.append(env.compile(rule["expression"]).eval(data=data).value())
        assert len(asked) * QUESTION < LIMIT, f"too dear: {rule['expression']}"
    return all(verdicts)


def test_policy_and_binding_are_valid_and_belong_together() -> None:
    found = built()
    for item in found.values():
        kubernetes_validate.validate(item, "1.36", strict=True)
    policy, binding = found["ValidatingAdmissionPolicy"], found["ValidatingAdmissionPolicyBinding"]
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["resources"], rule["operations"]) == ([api.APPROVAL_PLURAL], ["CREATE"])


@pytest.mark.parametrize(
    ("user", "spec", "expected"),
    [
        pytest.param("officer", {"approver": "officer"}, True, id="an officer in their own name"),
        pytest.param("officer", {"approver": "somebody"}, False, id="an officer in another's name"),
        pytest.param("officer", {}, False, id="an officer without a name"),
        pytest.param("create", {"approver": "create"}, False, id="who may create CreditModels"),
        pytest.param("update", {"approver": "update"}, False, id="who may update CreditModels"),
        pytest.param("patch", {"approver": "patch"}, False, id="who may patch CreditModels"),
    ],
)
def test_an_approval_is_let_in_only_from_who_it_names_and_never_from_an_author(
    user: str, spec: JSON, expected: bool
) -> None:
    assert admitted(user, spec) is expected
