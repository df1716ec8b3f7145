"""The stand-in for controllers and nodes: ends every Job with a good measurement, readies every Deployment.

`python stub.py KUBECONFIG` runs until it is terminated. It does at once what a cluster takes seconds for, so that what
is measured is the operator.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from creditmodel_bundle.measurement import Artifact, Batch, Benchmark, EvaluationSummary, Parity, Timing, dump
from creditmodel_sandbox.client import Client, Informer, Resource, load_kubeconfig

JSON = dict[str, Any]
JOBS = Resource("batch/v1", "jobs", "Job")
PODS = Resource("v1", "pods", "Pod")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
GATE, DIGEST = "creditmodel.dev/gate", "creditmodel.dev/digest"
AT_A_TIME = 8


def measurement(gate: str, digest: str) -> str:
    """What a Job of `gate` says of a good model."""
    if gate == "artifact":
        evaluation = EvaluationSummary(auc=0.77, ks=0.41, gini=0.54, brier=0.13, rows=6000, holdout_sha256="ab")
        told = Artifact(
            tool="stub", digest=digest, name="m", model_version="1", files=7, bytes=1000, evaluation=evaluation
        )
        return dump(told).decode()
    if gate == "parity":
        hull = [(0.0, 1e-7), (2.0, 3e-7)]
        rows = {"rows": 4096, "edge_rows": 300, "decision_flips": 0, "reason_diffs": 0, "not_finite": 0}
        return dump(
            Parity(tool="stub", digest=digest, max_abs_diff=3e-7, max_rel_diff=1e-5, envelope=hull, **rows)
        ).decode()
    timing = Timing(median=0.03, p99=0.05)
    speed = {"onnx_rows_per_s": 3e4, "speedup": 3.7, "speedup_low": 3.5, "speedup_high": 3.9}
    batches = [Batch(batch=size, pytorch_ms=timing, onnx_ms=timing, **speed) for size in (1, 32)]
    return dump(Benchmark(tool="stub", digest=digest, rounds=30, threads=1, cpu="stub", batches=batches)).decode()


class Stub:
    """Works off what the watches bring, a few objects at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.due: asyncio.Queue[JSON] = asyncio.Queue()

    def changed(self, _: JSON | None, new: JSON | None) -> None:
        """Take up a Job that has not ended and a Deployment whose pods are not counted."""
        if new is None:
            return
        status = new.get("status") or {}
        if new["kind"] == "Job" and not status.get("conditions"):
            self.due.put_nowait(new)
        if new["kind"] == "Deployment" and status.get("observedGeneration") != new["metadata"]["generation"]:
            self.due.put_nowait(new)

    async def work(self) -> None:
        """Serve the queue for ever."""
        while True:
            obj = await self.due.get()
            await (self.end(obj) if obj["kind"] == "Job" else self.ready(obj))

    async def ready(self, deployment: JSON) -> None:
        """All pods of a Deployment are there and ready."""
        meta, total = deployment["metadata"], deployment["spec"]["replicas"]
        counts = {"replicas": total, "updatedReplicas": total, "readyReplicas": total, "availableReplicas": total}
        status = {"observedGeneration": meta["generation"], **counts}
        await self.client.patch(DEPLOYMENTS, meta["namespace"], meta["name"], {"status": status}, "status")

    async def end(self, job: JSON) -> None:
        """The Job's pod leaves its measurement, and the Job is complete."""
        meta, template = job["metadata"], job["spec"]["template"]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": meta["name"]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        pod = {"metadata": {"name": meta["name"], "labels": labels, "ownerReferences": [owner]}}
        pod["spec"] = {"containers": [{"name": "measure", "image": "stub"}], "restartPolicy": "Never"}
        await self.client.create(PODS, meta["namespace"], pod)
        message = measurement(meta["labels"][GATE], meta["annotations"][DIGEST])
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": message}}
        container = {
            "name": "measure", "image": "stub", "imageID": "", "ready": False, "restartCount": 0, "state": state
        }  # fmt: skip
        ended = {"phase": "Succeeded", "containerStatuses": [container]}
        await self.client.patch(PODS, meta["namespace"], meta["name"], {"status": ended}, "status")
        condition = {"type": "Complete", "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        done = {"conditions": [condition], "startTime": now, "completionTime": now}
        await self.client.patch(JOBS, meta["namespace"], meta["name"], {"status": done}, "status")


async def main(kubeconfig: str) -> None:
    """Run until terminated."""
    async with Client(load_kubeconfig(kubeconfig), "bench-stub") as client, asyncio.TaskGroup() as tasks:
        stub = Stub(client)
        for resource in (JOBS, DEPLOYMENTS):
            tasks.create_task(Informer(client, resource, stub.changed).run())
        for _ in range(AT_A_TIME):
            tasks.create_task(stub.work())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
