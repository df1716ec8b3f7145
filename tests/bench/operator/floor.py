"""The floor: a bare Kopf handler that creates the children of each CreditModel at once, and does nothing else.

Run by run.py with KUBECONFIG and FLOOR_CHILDREN, a JSON list of manifests in which @NAME@ stands for the CreditModel's
name. FLOOR_HANDLER says which handler it is: `create`, as Kopf's documentation writes it, for which Kopf notes on the
object what it has handled, and posts two Events; or `event`, without either, the least that can be had of Kopf.
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
HANDLER = os.environ["FLOOR_HANDLER"]
MODELS = ("creditmodel.dev", "v1alpha1", "creditmodels")
registry = kopf.OperatorRegistry()
kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)


@kopf.on.startup(registry=registry)
async def begin(memo: kopf.Memo, settings: kopf.OperatorSettings, **_: Any) -> None:
    """Connect once, and read what is to be created."""
    settings.posting.enabled = HANDLER == "create"
    await kube_config.load_kube_config()  # type: ignore[no-untyped-call]
    memo.api = kube.ApiClient()
    memo.children = CHILDREN


async def create(name: str, namespace: str | None, uid: str, memo: kopf.Memo, **_: Any) -> None:
    """Create every child of a CreditModel."""
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


if HANDLER == "create":
    kopf.on.create(*MODELS, registry=registry)(create)
else:

    @kopf.on.event(*MODELS, registry=registry)
    async def see(type: str, **given: Any) -> None:  # noqa: A002
        """Create the children of what is new."""
        if type not in ("MODIFIED", "DELETED"):
            await create(**given)


if __name__ == "__main__":
    asyncio.run(
        kopf.operator(
            registry=registry, clusterwide=False, namespaces=[os.environ["FLOOR_NAMESPACE"]], standalone=True,
            memo=kopf.Memo(),
        )
    )  # fmt: skip
