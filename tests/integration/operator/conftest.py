"""The operator as a process on an API server, and a stub that ends its Jobs and readies its pods."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import ApiServer

JSON = dict[str, Any]
ROOT = Path(__file__).parents[3]
GROUP = "/apis/creditmodel.dev/v1alpha1"
NAME = "credit"
NAMELESS = Path(__file__).with_name("support") / "nameless"
DEADLINE = 150.0
"""Generous: a sweep on a busy machine is no measurement."""
PATHS = {
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "/api/v1/namespaces/{}/services",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
    "CreditModel": GROUP + "/namespaces/{}/creditmodels",
    "ModelApproval": GROUP + "/namespaces/{}/modelapprovals",
}


def digest_of(bundle: str) -> str:
    return "sha256:" + hashlib.sha256(bundle.encode()).hexdigest()


def revision_of(bundle: str) -> str:
    return f"{NAME}-{digest_of(bundle)[7:17]}"


def measurement(gate: str, bundle: str) -> JSON:
    """What a Job of `gate` measures of a good model."""
    common = {"schema_version": 1, "kind": gate, "tool": "stub 1", "digest": digest_of(bundle)}
    evaluation = {"auc": 0.77, "ks": 0.41, "gini": 0.54, "brier": 0.13, "rows": 6000, "holdout_sha256": "ab"}
    timing = {"median": 0.03, "p99": 0.05}
    speed = {"onnx_rows_per_s": 3e4, "speedup": 3.7, "speedup_low": 3.5, "speedup_high": 3.9}
    batches = [{"batch": batch, "pytorch_ms": timing, "onnx_ms": timing, **speed} for batch in (1, 32)]
    differences = {"max_abs_diff": 3e-7, "max_rel_diff": 1e-5, "envelope": [[0.0, 1e-7], [2.0, 3e-7]]}
    counts = {"rows": 4096, "edge_rows": 300, "decision_flips": 0, "reason_diffs": 0, "not_finite": 0}
    own: dict[str, JSON] = {
        "artifact": {"name": NAME, "model_version": bundle, "files": 7, "bytes": 1000, "evaluation": evaluation},
        "parity": differences | counts,
        "benchmark": {"rounds": 30, "threads": 1, "cpu": "stub", "batches": batches},
    }
    return common | own[gate]


@dataclass
class Operator:
    """A running operator process."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End the process; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(DEADLINE)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=DEADLINE) as answer:  # noqa: S310 - its own URL
            text = answer.read().decode()
        total = 0.0
        for line in text.splitlines():
            if re.match(rf"{name}(?:\{{|\s)", line) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def get(self, path: str) -> int:
        """The status of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=DEADLINE) as answer:  # noqa: S310 - its own URL
                return int(answer.status)
        except urllib.error.HTTPError as e:
            return e.code


@dataclass
class Ground:
    """One namespace of the API server, with one CreditModel in it."""

    server: ApiServer
    namespace: str
    start: Starter
    name: str = NAME

    # -- what people do

    def apply(self, bundle: str = "v1", **sections: Any) -> JSON:
        """Apply a CreditModel that names `bundle`."""
        model = {"uri": f"file:///models/{bundle}", "digest": digest_of(bundle)}
        document = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "CreditModel", "metadata": {"name": self.name}}
        answer = self.server.apply(
            f"{self.path('CreditModel')}/{self.name}", document | {"spec": {"model": model, **sections}}, "user", True
        )
        assert answer.code < 300, answer.body
        body: JSON = answer.body
        return body

    def decide_about(self, bundle: str, decision: str = "Approve") -> None:
        """Create a ModelApproval."""
        spec = {"creditModelName": NAME, "digest": digest_of(bundle), "decision": decision, "reason": "report 7"}
        head = {"apiVersion": "creditmodel.dev/v1alpha1", "kind": "ModelApproval"}
        metadata = {"name": f"{decision}-{bundle}".lower()}
        self.server.post(self.path("ModelApproval"), head | {"metadata": metadata, "spec": spec})

    def touch(self) -> None:
        """An edit that asks for nothing: the operator looks, and has nothing to do."""
        path = f"{self.path('CreditModel')}/{self.name}"
        self.server.patch(path, {"metadata": {"annotations": {"somebody/else": str(time.monotonic())}}})

    # -- what the stub does

    def step(self, **measured: JSON | str | None) -> None:
        """End every running gate Job as a good model does, or as told for its gate; ready every pod."""
        for job in self.objects("Job"):
            gate = job["metadata"]["labels"].get("creditmodel.dev/gate")
            if gate and not job.get("status", {}).get("conditions"):
                bundle = job["metadata"]["annotations"]["creditmodel.dev/uri"].rsplit("/", 1)[1]
                self.end_job(job, measured.get(gate, measurement(gate, bundle)))
        for deployment in self.objects("Deployment"):
            self.settle(deployment)

    def end_job(self, job: JSON, message: JSON | str | None, *, complete: bool = True, **condition: str) -> None:
        """The Job's pod leaves a termination message, and the Job ends."""
        text = message if isinstance(message, str) else "" if message is None else json.dumps(message)
        ended = {"exitCode": 0 if complete else 1, "reason": "Completed" if complete else "Error", "message": text}
        self.pod_of(
            job, {"phase": "Succeeded" if complete else "Failed", "containerStatuses": [_container(terminated=ended)]}
        )
        self.finish_job(job, complete=complete, **condition)

    def finish_job(self, job: JSON, *, complete: bool, **condition: str) -> None:
        """The Job has ended, whatever became of its pod."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        base = {
            "type": "Complete" if complete else "Failed",
            "status": "True",
            "lastTransitionTime": now,
            "lastProbeTime": now,
        }
        status: JSON = {"conditions": [base | condition], "startTime": now} | (
            {"completionTime": now} if complete else {}
        )
        self._write_status("Job", job["metadata"]["name"], status)

    def _write_status(self, kind: str, name: str, status: JSON) -> None:
        path = f"{self.path(kind)}/{name}/status"
        answer = self.server.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        assert answer.code in (200, 404), answer.body  # the operator may have deleted it meanwhile

    def pod_of(self, job: JSON, status: JSON) -> None:
        """The Job's pod, with a status."""
        meta, template = job["metadata"], job["spec"]["template"]
        name = f"{meta['name']}-pod"
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": meta["name"]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
        if self.server.request("GET", f"{self.path('Pod')}/{name}").code == 404:
            spec = {"containers": [{"name": "measure", "image": "stub"}], "restartPolicy": "Never"}
            self.server.post(self.path("Pod"), {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.server.patch(f"{self.path('Pod')}/{name}/status", {"status": status})

    def settle(self, deployment: JSON, ready: int | None = None) -> None:
        """The Deployment has all its pods, all ready or `ready` of them."""
        meta, total = deployment["metadata"], deployment["spec"]["replicas"]
        good = total if ready is None else ready
        counts = {"replicas": total, "updatedReplicas": total, "readyReplicas": good, "availableReplicas": good}
        status = {"observedGeneration": meta["generation"], **counts}
        seen = deployment.get("status", {})
        if any(seen.get(key) != value for key, value in status.items()):
            self._write_status("Deployment", meta["name"], status)

    def until(self, wanted: Callable[[], object], what: str, work: Callable[[], None] | None = None) -> None:
        """Wait for `wanted` to be true, with `work` done meanwhile (by default nothing)."""
        end = time.monotonic() + DEADLINE
        while not wanted():
            assert time.monotonic() < end, f"{what} did not come to pass\n{self.told()}"
            if work is not None:
                work()
            time.sleep(0.05)

    def hears(self, *reasons: str) -> list[str]:
        """Wait for Events, which come after the status that they tell of; the reasons of all there are."""
        self.until(lambda: set(reasons) <= set(self.events), f"Events {reasons}")
        return self.events

    def told(self) -> str:
        """What the operators logged last, and status: the reason of a failed test."""
        logs = [f"{operator.log.name}:\n{operator.log.read_text()[-2000:]}" for operator in self.start.running]
        return "\n".join([json.dumps(self.status), *logs])

    def ready(self, bundle: str) -> None:
        """Wait until `bundle` is champion and everything is settled."""
        self.until(lambda: self.is_ready(bundle), f"{bundle} Ready", self.step)

    def is_ready(self, bundle: str) -> bool:
        status = self.status
        current = status.get("observedGeneration") == self.model["metadata"]["generation"]
        serving = (status.get("active") or {}).get("digest") == digest_of(bundle)
        return current and serving and self.conditions.get("Ready") == "True"

    def measured(self, gate: str, bundle: str, **over: Any) -> JSON:
        """A good model's measurement with some numbers changed."""
        return {**measurement(gate, bundle), **over}

    # -- what can be seen

    def path(self, kind: str) -> str:
        return PATHS[kind].format(self.namespace)

    def objects(self, kind: str) -> list[JSON]:
        found: list[JSON] = self.server.get(self.path(kind))["items"]
        return found

    def names(self, kind: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.objects(kind)}

    @property
    def model(self) -> JSON:
        found: JSON = self.server.get(f"{self.path('CreditModel')}/{self.name}")
        return found

    @property
    def status(self) -> JSON:
        answer = self.server.request("GET", f"{self.path('CreditModel')}/{self.name}")
        found: JSON = answer.body.get("status", {}) if answer.code == 200 else {}
        return found

    @property
    def conditions(self) -> dict[str, str]:
        return {c["type"]: c["status"] for c in self.status.get("conditions", ())}

    def condition(self, name: str) -> JSON:
        found: JSON = next(c for c in self.status["conditions"] if c["type"] == name)
        return found

    @property
    def events(self) -> list[str]:
        """The reasons of all Events."""
        return [str(event["reason"]) for event in self.objects("Event")]

    @property
    def why(self) -> str:
        """What status says of being Ready or not; empty while it says nothing."""
        return next((str(c["message"]) for c in self.status.get("conditions", ()) if c["type"] == "Ready"), "")

    @property
    def selected(self) -> str | None:
        answer = self.server.request("GET", f"{self.path('Service')}/{self.name}")
        return answer.body["spec"]["selector"]["creditmodel.dev/revision"] if answer.code == 200 else None

    def snapshot(self) -> dict[str, str]:
        """Every object with its resource version: the same twice means that nothing was written."""
        kinds = [kind for kind in PATHS if kind not in ("Event", "Pod")]
        return {
            f"{kind}/{o['metadata']['name']}": o["metadata"]["resourceVersion"]
            for kind in kinds
            for o in self.objects(kind)
        }


def _container(**state: JSON) -> JSON:
    return {"name": "measure", "image": "stub", "imageID": "", "ready": False, "restartCount": 0, "state": state}


@pytest.fixture(scope="session")
def apiserver(given_cluster: ApiServer | None, request: pytest.FixtureRequest) -> ApiServer:
    """The API server that KUBECONFIG names, without controllers, which the stub plays; by default a sandbox's."""
    found: ApiServer = given_cluster or request.getfixturevalue("start_apiserver")()
    return found


@pytest.fixture(scope="session")
def crd(apiserver: ApiServer) -> None:
    """The CRD is installed and served."""
    install_crd(apiserver)


@pytest.fixture(scope="session")
def with_crd() -> Callable[[ApiServer], None]:
    """Installs the CRD on an API server of a test's own."""
    return install_crd


def install_crd(server: ApiServer) -> None:
    for file in (ROOT / "crds").glob("*.yaml"):
        document = yaml.safe_load(file.read_text())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{document['metadata']['name']}"
        assert server.apply(path, document, "tests", True).code < 300
    end = time.monotonic() + DEADLINE
    while server.request("GET", f"{GROUP}/creditmodels").code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass
class Starter:
    """Starts operators for one namespace."""

    kubeconfig: Path
    namespace: str
    directory: Path
    running: list[Operator] = field(default_factory=list)

    def __call__(
        self, *arguments: str, scope: tuple[str, ...] | None = None, kubeconfig: Path | None = None
    ) -> Operator:
        """An operator that answers, on this kubeconfig or another one."""
        log = self.directory / f"operator-{len(self.running)}.log"
        chosen = ("--namespace", self.namespace) if scope is None else scope
        command = [str(Path(sys.executable).parent / "creditmodel-operator"), "run", *chosen, *arguments]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig), "PYTHONPATH": str(NAMELESS)}
        with log.open("wb") as file:
            process = subprocess.Popen(command, stderr=file, stdout=file, env=environment, stdin=subprocess.DEVNULL)
        operator = Operator(process, log, "")
        self.running.append(operator)
        operator.url = _url(operator)
        return operator

    def stop(self) -> None:
        """End them all."""
        for operator in self.running:
            if operator.process.poll() is None:
                operator.process.send_signal(signal.SIGCONT)
                operator.process.terminate()
        for operator in self.running:
            operator.process.wait(DEADLINE)


@pytest.fixture
def start_operator(apiserver: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Starter]:
    """Starts operators for the test's namespace; they end with the test."""
    starter = Starter(apiserver.kubeconfig, namespace, tmp_path)
    yield starter
    starter.stop()


def _url(operator: Operator) -> str:
    end = time.monotonic() + DEADLINE
    while True:
        for line in operator.log.read_text().split("\n")[:-1]:  # the last one is being written
            if line.startswith("{") and "url" in (document := json.loads(line)):
                return str(document["url"])
        assert operator.process.poll() is None, operator.log.read_text()
        assert time.monotonic() < end, operator.log.read_text()
        time.sleep(0.05)


@pytest.fixture
def ground(apiserver: ApiServer, crd: None, namespace: str, start_operator: Starter) -> Ground:
    """A namespace without an operator yet."""
    return Ground(apiserver, namespace, start_operator)


@pytest.fixture(scope="module")
def grounds(
    apiserver: ApiServer, crd: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Ground]]:
    """Makes namespaces without an operator, each with an end of its own; on another server if one is given."""

    @contextmanager
    def make(server: ApiServer = apiserver) -> Iterator[Ground]:
        name = f"test-{secrets.token_hex(4)}"
        server.make_namespace(name)
        starter = Starter(server.kubeconfig, name, tmp_path_factory.mktemp(name))
        try:
            yield Ground(server, name, starter)
        finally:
            starter.stop()
            server.request("DELETE", f"/api/v1/namespaces/{name}")

    return make
