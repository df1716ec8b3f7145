"""The floor: a bare Kopf handler that creates the children of each CreditModel at once, and does nothing else.

Run by run.py with KUBECONFIG and FLOOR_CHILDREN, a JSON list of manifests in which @NAME@ stands for the CreditModel's
name.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import kopf
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config

PLURALS = {
    "Job": "jobs",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Service": "services",
}
CHILDREN = Path(os.environ["FLOOR_CHILDREN"]).read_text()
registry = kopf.OperatorRegistry()
kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)


@kopf.on.startup(registry=registry)
async def begin(memo: kopf.Memo, settings: kopf.OperatorSettings, **_: Any) -> None:
    """Connect once, and read what is to be created."""
    settings.posting.enabled = False
    await kube_config.load_kube_config()  # type: ignore[no-untyped-call]
    memo.api = kube.ApiClient()
    memo.children = CHILDREN


@kopf.on.event("creditmodel.dev", "v1alpha1", "creditmodels", registry=registry)
async def create(name: str, namespace: str | None, uid: str, memo: kopf.Memo, type: str, **_: Any) -> None:  # noqa: A002
    """Create every child of a CreditModel that is new."""
    if type in ("MODIFIED", "DELETED"):
        return
    for child in json.loads(memo.children.replace("@NAME@", name).replace("@UID@", uid)):
        base = "/api/v1" if child["apiVersion"] == "v1" else f"/apis/{child['apiVersion']}"
        path = f"{base}/namespaces/{namespace}/{PLURALS[child['kind']]}"
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        request = await memo.api.param_serialize(
            "POST", path, header_params=headers, body=child, auth_settings=["BearerToken"]
        )
        response = await memo.api.call_api(*request)
        await response.read()
        if response.status != 201:
            raise RuntimeError(f"POST {path}: {response.status}")


if __name__ == "__main__":
    asyncio.run(
        kopf.operator(
            registry=registry, clusterwide=False, namespaces=[os.environ["FLOOR_NAMESPACE"]], standalone=True,
            memo=kopf.Memo(),
        )
    )  # fmt: skip
