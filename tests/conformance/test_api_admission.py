"""What the admission plugins that every cluster has decide on a new pod."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

import pytest

JSON = dict[str, Any]
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


@pytest.fixture
def robot(apiserver: Any, namespace: str) -> str:
    """The name of a service account."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    apiserver.post(accounts, {"metadata": {"name": "robot"}, "imagePullSecrets": [{"name": "registry"}]})
    return "robot"


def pod(**spec: Any) -> JSON:
    container = {"name": "c", "image": "example.invalid/none:1"}
    body = {"schedulerName": "no-such-scheduler", "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": body}


def made(apiserver: Any, pods: str, **spec: Any) -> JSON:
    """A new pod as the server would store it."""
    found: JSON = apiserver.post(f"{pods}?dryRun=All", pod(**spec))["spec"]
    return found


def test_a_pod_of_an_account_that_is_not_there_is_forbidden(apiserver: Any, pods: str, namespace: str) -> None:
    answer = apiserver.request("POST", pods, pod(serviceAccountName="nobody"))
    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
    why = f'error looking up service account {namespace}/nobody: serviceaccount "nobody" not found'
    assert answer.body["message"] == f'pods "p" is forbidden: {why}'


def test_a_pod_waits_a_moment_for_the_account_of_a_new_namespace(apiserver: Any) -> None:
    name = f"test-{secrets.token_hex(4)}"
    apiserver.post("/api/v1/namespaces", {"metadata": {"name": name}})
    account = {"metadata": {"name": "default"}, "automountServiceAccountToken": False}
    later = threading.Timer(0.1, apiserver.request, ("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account))
    later.start()  # where a controller makes the account, this comes too late
    try:
        assert made(apiserver, f"/api/v1/namespaces/{name}/pods")["serviceAccountName"] == "default"
    finally:
        later.join()
        apiserver.delete(f"/api/v1/namespaces/{name}")


def test_a_pod_without_an_account_gets_the_default_one(apiserver: Any, pods: str) -> None:
    assert made(apiserver, pods)["serviceAccountName"] == "default"


def test_the_token_of_the_account_is_mounted_in_every_container(apiserver: Any, pods: str, robot: str) -> None:
    first = [{"name": "i", "image": "example.invalid/none:1"}]
    spec = made(apiserver, pods, serviceAccountName=robot, initContainers=first)
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    token, certificate, namespace = volume["projected"]["sources"]
    assert token == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    assert certificate["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] == "metadata.namespace"
    mount = {"name": volume["name"], "mountPath": TOKEN_PATH, "readOnly": True}
    assert [c["volumeMounts"] for c in (*spec["initContainers"], *spec["containers"])] == [[mount], [mount]]


def test_no_token_is_mounted_where_the_pod_or_the_account_says_so(
    apiserver: Any, pods: str, namespace: str, robot: str
) -> None:
    assert "volumes" not in made(apiserver, pods, serviceAccountName=robot, automountServiceAccountToken=False)
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{robot}"
    apiserver.patch(account, {"automountServiceAccountToken": False})

    def is_seen() -> bool:  # the plugin reads accounts from a cache
        return "volumes" not in made(apiserver, pods, serviceAccountName=robot)

    wait_until(is_seen)
    assert "volumes" in made(apiserver, pods, serviceAccountName=robot, automountServiceAccountToken=True)


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_account_lends_its_pull_secrets(apiserver: Any, pods: str, robot: str) -> None:
    assert made(apiserver, pods, serviceAccountName=robot)["imagePullSecrets"] == [{"name": "registry"}]
    own = [{"name": "own"}]
    assert made(apiserver, pods, serviceAccountName=robot, imagePullSecrets=own)["imagePullSecrets"] == own


def test_a_pod_tolerates_an_unhealthy_node_for_five_minutes(apiserver: Any, pods: str, robot: str) -> None:
    shared = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    expected = [{"key": f"node.kubernetes.io/{why}", **shared} for why in ("not-ready", "unreachable")]
    assert made(apiserver, pods, serviceAccountName=robot)["tolerations"] == expected


def test_a_priority_class_must_be_there(apiserver: Any, pods: str, robot: str) -> None:
    assert made(apiserver, pods, serviceAccountName=robot, priorityClassName="system-node-critical")["priority"] > 10**9
    answer = apiserver.request("POST", pods, pod(serviceAccountName=robot, priorityClassName="none"))
    assert answer.code == 403
    assert "no PriorityClass with name none was found" in answer.body["message"]


def test_a_runtime_class_must_be_there(apiserver: Any, pods: str, robot: str) -> None:
    answer = apiserver.request("POST", pods, pod(serviceAccountName=robot, runtimeClassName="none"))
    assert answer.code == 403
    assert 'RuntimeClass "none" not found' in answer.body["message"]


def test_what_admission_adds_has_no_owner(apiserver: Any, pods: str, robot: str) -> None:
    answer = apiserver.post(f"{pods}?dryRun=All&fieldManager=one", pod(serviceAccountName=robot))
    (entry,) = [entry for entry in answer["metadata"]["managedFields"] if entry["manager"] == "one"]
    owned = entry["fieldsV1"]["f:spec"]
    assert "f:serviceAccountName" in owned
    assert not {"f:volumes", "f:tolerations", "f:priority"} & set(owned)
