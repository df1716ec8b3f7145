"""Tokens of service accounts, as TokenRequest and TokenReview document them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

JSON = dict[str, Any]


@pytest.fixture
def robot(apiserver: Any, namespace: str) -> str:
    """The path of a service account."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    apiserver.post(accounts, {"metadata": {"name": "robot"}})
    return f"{accounts}/robot"


def request(**spec: Any) -> JSON:
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def review(apiserver: Any, token: str) -> JSON:
    """What the server says of a token."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status: JSON = apiserver.post("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
    return status


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_token_names_its_account_until_the_account_goes(apiserver: Any, namespace: str, robot: str) -> None:
    status = apiserver.post(f"{robot}/token", request(expirationSeconds=600))["status"]
    assert status["expirationTimestamp"].endswith("Z")
    found = review(apiserver, status["token"])
    assert found["authenticated"] is True
    assert found["user"]["username"] == f"system:serviceaccount:{namespace}:robot"
    assert {"system:serviceaccounts", f"system:serviceaccounts:{namespace}"} <= set(found["user"]["groups"])
    apiserver.delete(robot)
    wait_until(lambda: not review(apiserver, status["token"]).get("authenticated"))  # answers are kept for seconds


def test_a_token_dies_with_the_object_that_it_is_bound_to(apiserver: Any, namespace: str, robot: str) -> None:
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    uid = apiserver.post(secrets, {"metadata": {"name": "s"}})["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Secret", "name": "s"}
    token = apiserver.post(f"{robot}/token", request(boundObjectRef={**bound, "uid": uid}))["status"]["token"]
    assert review(apiserver, token)["authenticated"] is True
    other = {**bound, "uid": "00000000-0000-4000-8000-000000000000"}
    assert apiserver.request("POST", f"{robot}/token", request(boundObjectRef=other)).code == 409
    apiserver.delete(f"{secrets}/s")
    wait_until(lambda: not review(apiserver, token).get("authenticated"))
    answer = apiserver.request("POST", f"{robot}/token", request(boundObjectRef=bound))
    assert (answer.code, answer.body["message"]) == (404, 'secrets "s" not found')


def test_a_token_lives_ten_minutes_at_least(apiserver: Any, robot: str) -> None:
    answer = apiserver.request("POST", f"{robot}/token", request(expirationSeconds=599))
    assert answer.code == 422
    assert "may not specify a duration less than 10 minutes" in answer.body["message"]


def test_a_text_that_is_no_token_is_not_authenticated(apiserver: Any) -> None:
    assert not review(apiserver, "nonsense").get("authenticated")
