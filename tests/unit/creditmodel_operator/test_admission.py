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
MAY_EDIT = "author/creditmodel.dev/creditmodels/risk/update"


def built() -> dict[str, JSON]:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=True, timeout=60)
    return {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}


def environment() -> Any:
    text, yes = cel.Type.STRING, cel.Type.BOOL
    steps = ("group", "resource", "namespace", "check")
    functions = [
        cel.FunctionDecl(name, [cel.Overload(f"authorizer_{name}", text, [text, text], True, lambda a, b: f"{a}/{b}")])
        for name in steps
    ]
    allowed = cel.Overload("authorizer_allowed", yes, [text], True, lambda path: path == MAY_EDIT)
    functions.append(cel.FunctionDecl("allowed", [allowed]))
    variables = {"object": cel.Type.DYN, "request": cel.Type.DYN, "authorizer": text}
    return cel.NewEnv(variables=variables, functions=functions)


def admitted(user: str, spec: JSON) -> list[bool]:
    request = {"userInfo": {"username": user}, "namespace": "risk"}
    data = {"object": {"spec": spec}, "request": request, "authorizer": user}
    rules = built()["ValidatingAdmissionPolicy"]["spec"]["validations"]
    env = environment()
    messages = [env.compile(rule["messageExpression"]).eval(data=data).value() for rule in rules]
    assert all("risk" in message or user in message for message in messages)
    return [env.compile(rule["expression"]).eval(data=data).value() for rule in rules]


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
        pytest.param("officer", {"approver": "officer"}, [True, True], id="an officer in their own name"),
        pytest.param("officer", {"approver": "somebody"}, [False, True], id="an officer in another's name"),
        pytest.param("officer", {}, [False, True], id="an officer without a name"),
        pytest.param("author", {"approver": "author"}, [True, False], id="who may change CreditModels"),
    ],
)
def test_an_approval_is_let_in_only_from_who_it_names_and_never_from_an_author(
    user: str, spec: JSON, expected: list[bool]
) -> None:
    assert admitted(user, spec) == expected
