"""What becomes of pods that are bound to a node of the sandbox, as the API shows it."""

from __future__ import annotations

import json
import time
import urllib.request
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

from creditmodel_sandbox.node.private import possible

SERVER = (
    "import http.server, os, pathlib, sys\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        ok = pathlib.Path(sys.argv[1] + self.path).exists()\n"
    "        self.send_response(200 if ok else 503); self.end_headers()\n"
    "    def log_message(self, *a): pass\n"
    "http.server.ThreadingHTTPServer((sys.argv[2], 8080), H).serve_forever()\n"
)
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def web(pods: Any, name: str, *, touch: str = "ready live", **container: Any) -> Any:
    """A server that answers 200 for files of its volume: it is made ready and live by touching them."""
    script = (
        f'cd /state && touch {touch} && exec python -c "$0" /state $(POD_IP)'
        if touch
        else 'exec python -c "$0" /state $(POD_IP)'
    )
    container = {
        "env": [POD_IP],
        "ports": [{"name": "http", "containerPort": 8080}],
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
        **container,
    }
    volume = {"name": "state", "emptyDir": {}}
    return pods.create(name, "sh", "-c", script, SERVER, labels={"app": "web"}, container=container, volumes=[volume])


def terminated(status: Any, index: int = 0) -> Any:
    return status["containerStatuses"][index]["state"]["terminated"]


def test_the_node_is_ready_and_says_what_it_has(pods: Any) -> None:
    pods.create("p", "true")
    pods.wait_phase("p", "Succeeded")
    node = pods.api.get(f"/api/v1/nodes/{pods.node.name}")
    ready = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert ready == {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == pods.node.name
    assert {"cpu", "memory", "pods"} <= node["status"]["allocatable"].keys()
    lease = pods.api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{pods.node.name}")
    assert lease["spec"]["holderIdentity"] == pods.node.name
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]


def test_a_pod_that_ends_well_has_succeeded_with_its_message_and_logs(pods: Any) -> None:
    pods.create("p", "sh", "-c", "echo one; echo two >&2; printf done > /dev/termination-log")
    status = pods.wait_phase("p", "Succeeded")
    end = terminated(status)
    assert (end["exitCode"], end["reason"], end["message"]) == (0, "Completed", "done")
    assert pods.logs("p") == "one\ntwo\n"
    assert pods.logs("p", query="tailLines=1") == "two\n"
    assert {c["type"]: c.get("reason") for c in status["conditions"]} == {
        "PodReadyToStartContainers": None, "Initialized": "PodCompleted", "Ready": "PodCompleted",
        "ContainersReady": "PodCompleted", "PodScheduled": None,
    }  # fmt: skip
    assert status["observedGeneration"] == 1


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 3", 3, "Error"), ("kill -9 $$$$", 137, "Error"), ("kill -15 $$$$", 143, "Error")],
)
def test_a_pod_that_fails_has_its_exit_code(pods: Any, script: str, code: int, reason: str) -> None:
    pods.create("p", "sh", "-c", script)
    end = terminated(pods.wait_phase("p", "Failed"))
    assert (end["exitCode"], end["reason"]) == (code, reason)


def test_the_end_of_the_log_stands_in_for_a_missing_message_on_error(pods: Any) -> None:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods.create("fails", "sh", "-c", "echo because; exit 1", container=fallback)
    pods.create("ends", "sh", "-c", "echo because", container=fallback)
    pods.create("long", "sh", "-c", "head -c 10000 /dev/zero | tr '\\0' x > /dev/termination-log")
    assert pods.message("fails", "Failed") == "because\n"
    assert pods.message("ends") == ""
    assert len(pods.message("long")) == 4096


def test_a_failed_init_container_fails_a_pod_that_never_restarts(pods: Any) -> None:
    init = {"name": "i", "image": "creditmodel-jobs:dev", "command": ["sh", "-c", "exit 4"]}
    pods.create("p", "true", initContainers=[init])
    status = pods.wait_phase("p", "Failed")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_crashing_container_is_restarted_with_growing_pauses(pods: Any) -> None:
    pods.create("p", "sh", "-c", "echo run; exit 5", restartPolicy="Always")
    pods.wait("p", lambda s: s["containerStatuses"][0]["restartCount"] >= 2)
    pod = pods.wait("p", lambda s: s["containerStatuses"][0]["state"].get("waiting"))
    shown = pod["status"]["containerStatuses"][0]
    assert shown["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert shown["lastState"]["terminated"]["exitCode"] == 5
    assert pod["status"]["phase"] == "Running"
    assert pods.logs("p", query="previous=true") == "run\n"


def test_variables_files_and_the_downward_api_reach_the_process(pods: Any) -> None:
    pods.create_object("configmaps", "ConfigMap", "cm", data={"k": "v", "file": "content"})
    pods.create_object("secrets", "Secret", "sec", stringData={"password": "hush"})
    script = (
        "import json, os; print(json.dumps({'env': dict(os.environ), 'file': open('/cfg/file').read(), "
        "'secret': open('/sec/password').read(), 'labels': open('/info/labels').read()}), "
        "file=open('/dev/termination-log', 'w'))"
    )
    env = [
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BOTH", "value": "$(K)/$(NAME)"},
        {"name": "WHERE", "value": "/cfg/file"},
        POD_IP,
    ]
    mounts = [{"name": n, "mountPath": f"/{n}"} for n in ("cfg", "sec", "info")]
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]
    volumes = [
        {"name": "cfg", "configMap": {"name": "cm"}},
        {"name": "sec", "secret": {"secretName": "sec"}},
        {"name": "info", "downwardAPI": {"items": items}},
    ]
    container = {"env": env, "volumeMounts": mounts}
    pods.create("p", "python", "-c", script, labels={"app": "x"}, container=container, volumes=volumes)
    said = json.loads(pods.message("p"))
    status = pods.get("p")["status"]
    assert (said["file"], said["secret"], said["labels"]) == ("content", "hush", "x")
    seen = said["env"]
    assert (seen["BOTH"], seen["HOSTNAME"], seen["POD_IP"]) == ("v/p", "p", status["podIP"])
    assert seen["WHERE"].endswith("/volumes/cfg/file")
    known = {"PATH", "HOME", "TMPDIR", "HOSTNAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
             "CREDITMODEL_SANDBOX_CONTAINER", "K", "NAME", "BOTH", "WHERE", "POD_IP", "LC_CTYPE"}  # fmt: skip
    assert seen.keys() <= known


@pytest.mark.parametrize(
    ("container", "reason", "message"),
    [
        ({"image": "nginx:1"}, "ErrImagePull", '"nginx:1" is not an image'),
        ({"command": None}, "CreateContainerError", "has no command"),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, "CreateContainerConfigError", 'configmap "none" not found'),
        (
            {"volumeMounts": [{"name": "claim", "mountPath": "/c"}]},
            "ContainerCreating",
            "persistentVolumeClaim is not supported",
        ),
    ],
)
def test_a_container_that_cannot_start_waits_and_says_why(pods: Any, container: Any, reason: str, message: str) -> None:
    volumes = [{"name": "claim", "persistentVolumeClaim": {"claimName": "c"}}] if "volumeMounts" in container else []
    pods.create("p", "true", container=container, volumes=volumes)
    pod = pods.wait("p", lambda s: s["containerStatuses"][0]["state"]["waiting"]["message"])
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == reason
    assert message in waiting["message"]
    assert pod["status"]["phase"] == "Pending"


def test_an_image_that_cannot_be_pulled_is_tried_again_less_and_less(pods: Any) -> None:
    pods.create("p", "true", container={"image": "nginx:1"})
    pods.wait("p", lambda s: s["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff")


def test_a_command_that_is_not_there_is_a_start_error(pods: Any) -> None:
    pods.create("p", "no-such-command")
    end = terminated(pods.wait_phase("p", "Failed"))
    assert (end["reason"], end["exitCode"]) == ("StartError", 128)
    assert 'exec: "no-such-command"' in end["message"]


def test_a_container_within_its_memory_limit_is_left_alone_however_much_it_shares(pods: Any) -> None:
    script = (
        "import os, time\nb = bytearray(40 << 20)\n"
        "for _ in range(4):\n    if os.fork() == 0: time.sleep(2); os._exit(0)\n"
        "time.sleep(2.5)"
    )
    pods.create("p", "python", "-c", script, container={"resources": {"limits": {"memory": "100Mi"}}})
    pods.wait_phase("p", "Succeeded")


def test_readiness_follows_its_probe(pods: Any) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    exec_switch = {
        "exec": {"command": ["sh", "-c", "test -e /state/stop && rm -f /state/ready; true"]},
        "periodSeconds": 1,
    }
    web(pods, "p", touch="live", readinessProbe=probe, livenessProbe=exec_switch)
    pods.wait_phase("p", "Running")
    assert pods.get("p")["status"]["containerStatuses"][0]["ready"] is False
    place = pods.node.directory / "pods" / pods.get("p")["metadata"]["uid"] / "volumes" / "state"
    (place / "ready").touch()
    status = pods.wait_ready("p")
    assert status["containerStatuses"][0]["ready"] is True
    (place / "stop").touch()
    pods.wait("p", lambda s: not s["containerStatuses"][0]["ready"])
    shown = {c["type"]: c for c in pods.get("p")["status"]["conditions"]}["ContainersReady"]
    assert (shown["status"], shown["reason"]) == ("False", "ContainersNotReady")


def test_a_container_that_is_no_longer_alive_is_restarted(pods: Any) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    pods.create(
        "p",
        "sleep",
        "1000",
        container={"livenessProbe": probe},
        restartPolicy="Always",
        terminationGracePeriodSeconds=1,
    )
    pod = pods.wait("p", lambda s: s["containerStatuses"][0]["restartCount"] >= 1)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 143


def test_the_other_probes_wait_for_startup(pods: Any) -> None:
    startup = {"exec": {"command": ["test", "-e", "/state/up"]}, "periodSeconds": 1, "failureThreshold": 30}
    liveness = {"exec": {"command": ["test", "-e", "/state/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    web(pods, "p", startupProbe=startup, livenessProbe=liveness)
    pods.wait_event("p", "Unhealthy", "Startup probe failed")
    shown = pods.get("p")["status"]["containerStatuses"][0]
    assert (shown["started"], shown["ready"], shown["restartCount"]) == (False, False, 0)
    (pods.node.directory / "pods" / pods.get("p")["metadata"]["uid"] / "volumes" / "state" / "up").touch()
    status = pods.wait_ready("p")
    assert (status["containerStatuses"][0]["started"], status["containerStatuses"][0]["restartCount"]) == (True, 0)


def test_deletion_asks_first_and_waits_for_the_answer(pods: Any) -> None:
    script = (
        "trap 'echo asked; sleep 0.5; echo done > /out/said; exit 0' TERM; touch /out/up; while :; do sleep 0.05; done"
    )
    container = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
    out = pods.node.directory / f"out-{pods.namespace}"
    volume = {"name": "out", "hostPath": {"path": str(out), "type": "DirectoryOrCreate"}}
    pods.create("p", "sh", "-c", script, container=container, volumes=[volume])
    pods.wait_phase("p", "Running")
    pods.until((out / "up").exists)
    pods.delete("p")
    pods.wait_gone("p")
    assert (out / "said").read_text() == "done\n"


def test_events_tell_what_happened(pods: Any) -> None:
    pods.create("p", "true")
    pods.create("q", "true", container={"image": "nginx"})
    pods.wait_phase("p", "Succeeded")
    pods.wait_event("p", "Started")
    pods.wait_event("q", "Failed")


def test_a_log_that_is_followed_ends_with_the_container(pods: Any) -> None:
    pods.create("p", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    pods.wait_phase("p", "Running", "Succeeded")
    assert pods.logs("p", query="follow=true") == "1\n2\n3\n"


def test_use_of_cpu_and_memory_is_told(pods: Any) -> None:
    pods.create("p", "python", "-c", "b = bytearray(50 << 20)\nwhile True: pass")
    pods.wait_phase("p", "Running")
    port = pods.api.get(f"/api/v1/nodes/{pods.node.name}")["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]

    def is_told() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/summary", timeout=60) as response:
            summary = json.load(response)
        pod = next(p for p in summary["pods"] if p["podRef"]["namespace"] == pods.namespace)
        busy = pod["containers"][0]["cpu"]["usageNanoCores"] > 100_000_000
        return bool(busy and pod["memory"]["workingSetBytes"] > 50 << 20)

    pods.until(is_told)


WHOAMI = (
    "import os\n"
    "from kubernetes import client, config\n"
    "config.load_incluster_config()\n"
    "name = client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username\n"
    "missing = set(os.environ['MACHINE'].split()) - set(os.listdir('/run'))\n"
    "print(name, missing, file=open('/dev/termination-log', 'w'))\n"
)


def test_an_in_cluster_client_finds_its_account_where_it_knows_it_to_be(pods: Any) -> None:
    """At a path that no argument or variable names, beside what the machine has at /run; nobody else sees it there."""
    authority = yaml.safe_load(pods.api.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    pods.create_object("configmaps", "ConfigMap", "kube-root-ca.crt", data={"ca.crt": b64decode(authority).decode()})
    container = {"env": [{"name": "MACHINE", "value": " ".join(path.name for path in Path("/run").iterdir())}]}
    pods.create("p", "python", "-c", WHOAMI, container=container, automountServiceAccountToken=True)
    if not possible():  # a node without CAP_SYS_ADMIN
        pods.wait_phase("p", "Failed")
        assert "ConfigException" in pods.logs("p")
        return
    assert pods.message("p") == f"system:serviceaccount:{pods.namespace}:default set()\n"
    assert not Path("/run/.machine").exists()


def test_a_service_account_token_is_mounted_and_opens_the_api(pods: Any) -> None:
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]
    volumes = [{"name": "t", "projected": {"sources": sources}}]
    mount = {"volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets/x"}]}
    account: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    account["automountServiceAccountToken"] = False
    pods.api.post(f"{pods.path}/serviceaccounts", account)
    script = "printf %s $(head -c 2 /var/run/secrets/x/token) > /dev/termination-log"
    pods.create("p", "sh", "-c", script, container=mount, volumes=volumes, serviceAccountName="robot")
    assert pods.message("p") == "ey"


def test_a_shorter_grace_period_given_later_is_honoured(pods: Any) -> None:
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    pods.create("p", "sh", "-c", deaf, terminationGracePeriodSeconds=300)
    pods.wait_log("p", "deaf")
    pods.delete("p")
    began = time.monotonic()
    pods.delete("p", gracePeriodSeconds=1)
    pods.wait_gone("p")
    assert time.monotonic() - began < 60


def test_the_processes_of_a_pod_that_is_removed_by_force_end_too(pods: Any) -> None:
    pods.create("p", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    pods.wait_phase("p", "Running")
    uid = pods.get("p")["metadata"]["uid"]
    pods.delete("p", gracePeriodSeconds=0)
    pods.wait_gone("p")
    pods.until(lambda: not (pods.node.directory / "pods" / uid).exists())  # removed when the last process is gone
