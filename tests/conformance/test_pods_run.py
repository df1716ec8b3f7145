"""What becomes of a pod on a cluster that runs pods. Statements of the Kubernetes documentation, for any 1.36 cluster.

Takes a kubeconfig (KUBECONFIG), an image with Python and a shell (CREDITMODEL_JOBS_IMAGE) and patience
(CONFORMANCE_TIMEOUT, seconds). A cluster without a ready node is joined by a node of the sandbox; without a kubeconfig
the API server is the sandbox's too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

JSON = dict[str, Any]
IMAGE = os.environ.get("CREDITMODEL_JOBS_IMAGE", "creditmodel-jobs:dev")
TIMEOUT = float(os.environ.get("CONFORMANCE_TIMEOUT", "120"))
SCRATCH: JSON = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT: JSON = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
SWITCHES: JSON = {"volumes": [{"name": "v", "configMap": {"name": "cm"}}]}
"""Files that a test adds and takes away while the pod runs."""


@pytest.fixture(scope="session")
def apiserver(running_cluster: tuple[Any, JSON]) -> Any:
    """A cluster that runs pods."""
    return running_cluster[0]


class Pods:
    """Pods of one namespace."""

    def __init__(self, api: Any, namespace: str, placement: JSON) -> None:
        self.api, self.path, self._placement = api, f"/api/v1/namespaces/{namespace}", placement

    def create(
        self, script: str, name: str = "p", container: JSON | None = None, labels: JSON | None = None, **spec: Any
    ) -> None:
        main = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **(container or {})}
        always = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [main]}
        spec = {**always, **self._placement, **spec}
        metadata = {"name": name, "labels": labels or {}}
        self.api.post(f"{self.path}/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def config_map(self, **data: str) -> None:
        self.api.post(
            f"{self.path}/configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": data},
        )

    def switch(self, **data: str | None) -> None:
        """Change the ConfigMap; None takes a key away."""
        self.api.patch(f"{self.path}/configmaps/cm", {"data": data})

    def wait(self, condition: Callable[[JSON], object], name: str = "p") -> JSON:
        """The pod's status once it fulfils the condition."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            status: JSON = self.api.get(f"{self.path}/pods/{name}").get("status", {})
            try:
                if condition(status):
                    return status
            except (KeyError, IndexError):
                pass
            assert time.monotonic() < deadline, json.dumps(status, indent=1)
            time.sleep(0.1)

    def phase(self, phase: str, name: str = "p") -> JSON:
        ends = {"Succeeded", "Failed", phase}
        status = self.wait(lambda status: status.get("phase") in ends, name)
        assert status["phase"] == phase, status
        return status

    def delete(self, name: str = "p") -> float:
        """Delete the pod; the seconds until it was gone."""
        began = time.monotonic()
        self.api.delete(f"{self.path}/pods/{name}")
        while self.api.request("GET", f"{self.path}/pods/{name}").code != 404:
            assert time.monotonic() - began < TIMEOUT
            time.sleep(0.1)
        return time.monotonic() - began

    def log(self, query: str = "", name: str = "p") -> str:
        answer = self.api.request("GET", f"{self.path}/pods/{name}/log?{query}")
        assert answer.code == 200, answer
        return str(answer.body)


@pytest.fixture
def pods(running_cluster: tuple[Any, JSON], namespace: str) -> Pods:
    api, placement = running_cluster
    return Pods(api, namespace, placement)


def main(status: JSON) -> JSON:
    found: JSON = status["containerStatuses"][0]
    return found


def terminated(status: JSON) -> JSON:
    found: JSON = main(status)["state"]["terminated"]
    return found


def conditions(status: JSON) -> dict[str, tuple[str, str | None]]:
    return {c["type"]: (c["status"], c.get("reason")) for c in status["conditions"]}


def test_a_container_that_exits_with_0_makes_the_pod_succeed(pods: Pods) -> None:
    pods.create("exit 0")
    status = pods.phase("Succeeded")
    assert (terminated(status)["exitCode"], terminated(status)["reason"]) == (0, "Completed")
    assert conditions(status)["Ready"] == ("False", "PodCompleted")
    assert main(status)["ready"] is False
    assert status["qosClass"] == "BestEffort"


def test_a_container_that_exits_with_an_error_makes_the_pod_fail(pods: Pods) -> None:
    pods.create("exit 3")
    status = pods.phase("Failed")
    assert (terminated(status)["exitCode"], terminated(status)["reason"]) == (3, "Error")


def test_the_termination_message_is_what_the_container_wrote(pods: Pods) -> None:
    pods.create("printf result > /dev/termination-log")
    assert terminated(pods.phase("Succeeded"))["message"] == "result"


def test_the_termination_message_path_can_be_chosen(pods: Pods) -> None:
    pods.create("printf result > /tmp/said", container={"terminationMessagePath": "/tmp/said"})
    assert terminated(pods.phase("Succeeded"))["message"] == "result"


def test_the_log_stands_in_for_the_message_of_a_failure(pods: Pods) -> None:
    pods.create("echo because; exit 1", container={"terminationMessagePolicy": "FallbackToLogsOnError"})
    assert terminated(pods.phase("Failed"))["message"] == "because\n"


def test_a_termination_message_has_at_most_4096_bytes(pods: Pods) -> None:
    pods.create("head -c 9000 /dev/zero | tr '\\0' x > /dev/termination-log")
    assert len(terminated(pods.phase("Succeeded"))["message"]) == 4096


def _init(name: str, script: str) -> JSON:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **MOUNT}


def test_init_containers_run_in_order_and_before_the_container(pods: Pods) -> None:
    inits = [_init("a", "printf a >> /v/x"), _init("b", "printf b >> /v/x")]
    pods.create("printf c >> /v/x; cat /v/x > /dev/termination-log", container=MOUNT, initContainers=inits, **SCRATCH)
    status = pods.phase("Succeeded")
    assert terminated(status)["message"] == "abc"
    assert [s["state"]["terminated"]["exitCode"] for s in status["initContainerStatuses"]] == [0, 0]


def test_a_failing_init_container_fails_a_pod_that_never_restarts(pods: Pods) -> None:
    pods.create("true", initContainers=[_init("a", "exit 4")], container=MOUNT, **SCRATCH)
    status = pods.phase("Failed")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert main(status)["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(status)["Initialized"][0] == "False"


def test_a_restartable_init_container_runs_beside_the_container_and_does_not_keep_the_pod(pods: Pods) -> None:
    sidecar = {**_init("s", "touch /v/up; trap 'exit 0' TERM; while :; do sleep 0.1; done"), "restartPolicy": "Always"}
    script = "until test -e /v/up; do sleep 0.1; done"
    pods.create(script, container=MOUNT, initContainers=[sidecar], **SCRATCH)
    pods.phase("Succeeded")


def test_a_crashing_container_is_restarted_and_backs_off(pods: Pods) -> None:
    pods.create("echo run; exit 5", restartPolicy="Always")
    status = pods.wait(lambda s: main(s)["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    assert status["phase"] == "Running"
    assert main(status)["lastState"]["terminated"]["exitCode"] == 5
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady")
    pods.wait(lambda s: main(s)["restartCount"] >= 1)
    assert pods.log("previous=true") == "run\n"


def test_on_failure_restarts_until_it_succeeds(pods: Pods) -> None:
    script = "test -e /v/x && exit 0; touch /v/x; exit 1"
    pods.create(script, container=MOUNT, restartPolicy="OnFailure", **SCRATCH)
    assert main(pods.phase("Succeeded"))["restartCount"] == 1


def test_an_image_that_cannot_be_pulled_leaves_the_pod_pending(pods: Pods) -> None:
    pods.create("true", container={"image": "registry.invalid/none/none:none"})
    reasons = {"ErrImagePull", "ImagePullBackOff"}
    status = pods.wait(lambda s: main(s)["state"]["waiting"]["reason"] in reasons)
    assert status["phase"] == "Pending"


def test_a_missing_config_map_is_a_configuration_error_until_it_is_there(pods: Pods) -> None:
    pods.create("true", container={"envFrom": [{"configMapRef": {"name": "cm"}}]})
    pods.wait(lambda s: main(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    pods.config_map(A="1")
    pods.phase("Succeeded")


def test_variables_expand_in_order_and_dollars_are_escaped(pods: Pods) -> None:
    pods.config_map(k="value", n="2")
    fields = {"NAME": "metadata.name", "LABEL": "metadata.labels['app']", "IP": "status.podIP", "NODE": "spec.nodeName"}
    env = [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in fields.items()]
    env += [
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "none", "optional": True}}},
        {"name": "BOTH", "value": "$(K)-$(NAME)-$(LATER)-$$(K)"},
        {"name": "LATER", "value": "x"},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
    ]
    script = 'echo "$NAME $LABEL $K $BOTH $CPU $P_n ${NONE-unset} $(K)"; echo "$IP $NODE"'
    source = {"envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}]}
    container = {"env": env, "resources": {"requests": {"cpu": "10m"}}, **source}
    pods.create(script, container=container, labels={"app": "a"})
    status = pods.phase("Succeeded")
    first, second = pods.log().splitlines()
    assert first == "p a value value-p-$(LATER)-$(K) 10 2 unset value"
    assert second.split()[0] == status["podIP"]


def test_a_mounted_config_map_shows_its_keys_and_follows_its_changes(pods: Pods) -> None:
    pods.config_map(k="one")
    pods.create('cat /v/k; until [ "$$(cat /v/k)" = two ]; do sleep 0.2; done', container=MOUNT, **SWITCHES)
    pods.phase("Running")
    pods.switch(k="two")
    pods.phase("Succeeded")


def test_a_pod_is_ready_only_while_its_readiness_probe_says_so(pods: Pods) -> None:
    pods.config_map(k="v")
    probe = {"exec": {"command": ["test", "-e", "/v/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    pods.create("sleep 1000", container={**MOUNT, "readinessProbe": probe}, terminationGracePeriodSeconds=0, **SWITCHES)
    status = pods.wait(lambda s: main(s)["started"])
    assert status["phase"] == "Running"
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady")
    assert main(status)["ready"] is False
    pods.switch(ready="yes")
    pods.wait(lambda s: main(s)["ready"] and conditions(s)["Ready"][0] == "True")
    pods.switch(ready=None)
    pods.wait(lambda s: not main(s)["ready"] and conditions(s)["ContainersReady"] == ("False", "ContainersNotReady"))


def test_a_container_that_fails_its_liveness_probe_is_restarted(pods: Pods) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    container = {"livenessProbe": probe}
    pods.create("sleep 1000", container=container, restartPolicy="Always", terminationGracePeriodSeconds=1)
    status = pods.wait(lambda s: main(s)["restartCount"] >= 1)
    assert main(status)["lastState"]["terminated"]["exitCode"] in {137, 143}


def test_a_container_is_started_once_its_startup_probe_succeeds(pods: Pods) -> None:
    pods.config_map(k="v")
    probe = {"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1, "failureThreshold": 300}
    pods.create("sleep 1000", container={**MOUNT, "startupProbe": probe}, terminationGracePeriodSeconds=0, **SWITCHES)
    status = pods.phase("Running")
    assert (main(status)["started"], main(status)["ready"]) == (False, False)
    pods.switch(up="yes")
    pods.wait(lambda s: main(s)["started"] and main(s)["ready"])


def test_a_running_pod_has_addresses_and_true_conditions(pods: Pods) -> None:
    pods.create("sleep 1000", terminationGracePeriodSeconds=0)
    status = pods.wait(lambda s: conditions(s)["Ready"][0] == "True")
    kinds = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    assert {kind: conditions(status)[kind][0] for kind in kinds} == dict.fromkeys(kinds, "True")
    assert status["podIP"] in [entry["ip"] for entry in status["podIPs"]]
    assert status["hostIP"]
    assert status["startTime"]
    assert main(status)["state"]["running"]["startedAt"]
    assert status["observedGeneration"] == 1


def test_a_pod_past_its_deadline_has_failed(pods: Pods) -> None:
    pods.create("sleep 1000", activeDeadlineSeconds=1, terminationGracePeriodSeconds=1)
    assert pods.phase("Failed")["reason"] == "DeadlineExceeded"


def test_a_container_over_its_memory_limit_is_oom_killed(pods: Pods) -> None:
    command = {"command": ["python3", "-c", "b = bytearray(500 << 20); import time; time.sleep(60)"]}
    pods.create("", container={**command, "resources": {"limits": {"memory": "96Mi"}}})
    end = terminated(pods.phase("Failed"))
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)


def test_a_deleted_pod_is_asked_to_end_and_says_how_it_did_before_it_goes(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1}
    script = "trap 'exit 7' TERM; touch /v/up; while :; do sleep 0.1; done"
    pods.create(script, container={**MOUNT, "readinessProbe": probe}, **SCRATCH)
    pods.wait(lambda s: main(s)["ready"])
    listed = pods.api.get(f"{pods.path}/pods")
    version = listed["metadata"]["resourceVersion"]
    assert pods.delete() < 25
    connection = pods.api.connect()
    query = f"watch=true&resourceVersion={version}&timeoutSeconds=1"
    connection.request("GET", f"{pods.path}/pods?{query}", headers=pods.api.headers)
    events = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    assert events[-1]["type"] == "DELETED"
    last = events[-1]["object"]["status"]
    assert (last["phase"], terminated(last)["exitCode"]) == ("Failed", 7)


def test_a_container_that_does_not_end_is_killed_after_the_grace_period(pods: Pods) -> None:
    pods.create("trap '' TERM; echo deaf; while :; do sleep 0.1; done", terminationGracePeriodSeconds=2)
    pods.phase("Running")
    deadline = time.monotonic() + TIMEOUT
    while "deaf" not in pods.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 1.5 < pods.delete() < 25


def test_logs_can_be_shortened_and_stamped(pods: Pods) -> None:
    pods.create("echo one; echo two >&2; echo three")
    pods.phase("Succeeded")
    assert sorted(pods.log().splitlines()) == ["one", "three", "two"]
    assert pods.log("tailLines=1") == "three\n"
    assert pods.log("limitBytes=2") == "on"
    assert all(line[4] == "-" and "T" in line.split()[0] for line in pods.log("timestamps=true").splitlines())


def test_a_pod_that_fits_nowhere_stays_pending_and_says_unschedulable(pods: Pods) -> None:
    pods.create("true", container={"resources": {"requests": {"cpu": "100000"}}})
    status = pods.wait(lambda s: conditions(s)["PodScheduled"] == ("False", "Unschedulable"))
    assert status["phase"] == "Pending"


SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["HOSTNAME"].encode())
http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler).serve_forever()
"""
CLIENT = """
import sys, time, urllib.request
found = set()
for _ in range(60):
    try:
        found.add(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
    except OSError as e:
        found.add("refused" if isinstance(getattr(e, "reason", e), ConnectionRefusedError) else repr(e))
    if sys.argv[2] in found: time.sleep(0.01)
    else: time.sleep(0.5)
print(*sorted(found - {"refused"}) or found)
"""


def _server(pods: Pods, name: str, ready: str) -> None:
    """A pod that answers with its name, and is ready while the command succeeds."""
    container = {
        "command": ["python3", "-c", SERVER],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["sh", "-c", ready]}, "periodSeconds": 1},
    }
    pods.create("", name, container=container, labels={"app": "web"}, terminationGracePeriodSeconds=0)


def _service(pods: Pods) -> str:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 8000, "targetPort": "http"}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    return f"{pods.api.post(f'{pods.path}/services', body)['spec']['clusterIP']}:8000"


def test_a_service_forwards_to_its_ready_pods_and_to_no_other(pods: Pods) -> None:
    address = _service(pods)
    for name, ready in (("a", "true"), ("b", "true"), ("c", "false")):
        _server(pods, name, ready)
    for name in ("a", "b"):
        pods.wait(lambda s: main(s)["ready"], name)
    pods.create("", "client", container={"command": ["python3", "-c", CLIENT, f"http://{address}", "a"]})
    pods.phase("Succeeded", "client")
    assert pods.log(name="client") == "a b\n"


def test_a_service_without_a_ready_pod_refuses(pods: Pods) -> None:
    address = _service(pods)
    _server(pods, "c", "false")
    pods.phase("Running", "c")
    pods.create("", "client", container={"command": ["python3", "-c", CLIENT, f"http://{address}", "refused"]})
    pods.phase("Succeeded", "client")
    assert pods.log(name="client") == "refused\n"
