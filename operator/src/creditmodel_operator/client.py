"""The few API calls that the operator makes, on the official client.

ApiFailure            the API server said no, or did not answer
├── Gone              the object is not there (404)
├── Conflict          somebody else was faster, or it exists already (409)
├── Refused           the request is wrong, and will be wrong again (400, 403, 422, …)
│   ├── Forbidden     not with the rights, or within the quota, that there are now (403)
│   ├── Blocked       not before something else goes or answers: a namesake's child, an admission webhook
│   └── Taken         an object of that name is there, and is somebody else's
├── Fenced            this replica may not write any more: another one may hold the Lease
└── Unavailable       try again later (429, 5xx, no answer); `retry_after` says how much later
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, Self

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config
from pydantic_core import from_json

from creditmodel_operator import api
from creditmodel_operator.children.common import Manifest
from creditmodel_operator.metrics import API_REQUESTS
from creditmodel_operator.names import FIELD_MANAGER
from creditmodel_operator.outage import Outage

__all__ = [
    "KINDS",
    "ApiFailure",
    "Blocked",
    "Client",
    "Conflict",
    "Fenced",
    "Forbidden",
    "Gone",
    "Refused",
    "Taken",
    "Unavailable",
    "configuration",
    "partial",
]

TIMEOUT_SECONDS = 15.0
PAGE = 50
"""Objects that a list is asked for at a time: this bounds the memory of a start."""
APPLY = "application/apply-patch+yaml"
_WEBHOOK = "failed calling webhook"
"""How an API server words it; the code is that of any internal error."""

KINDS: Mapping[str, tuple[str, str]] = {
    api.KIND: (f"/apis/{api.GROUP}/{api.VERSION}", api.PLURAL),
    api.APPROVAL_KIND: (f"/apis/{api.GROUP}/{api.VERSION}", api.APPROVAL_PLURAL),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Service": ("/api/v1", "services"),
    "Job": ("/apis/batch/v1", "jobs"),
    "CronJob": ("/apis/batch/v1", "cronjobs"),
    "Pod": ("/api/v1", "pods"),
    "Event": ("/api/v1", "events"),
}
"""Where each kind lies: a fixed table costs no discovery at start."""


class ApiFailure(Exception):
    """The API server said no, or did not answer."""

    longest_wait: ClassVar[float] = 4.0
    """Seconds between two attempts, at most, however often it has failed before."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Gone(ApiFailure):
    """The object is not there."""


class Conflict(ApiFailure):
    """Somebody else was faster, or it exists already."""


class Refused(ApiFailure):
    """The request is wrong, and will be wrong again until something else changes."""

    longest_wait = 120.0


class Forbidden(Refused):
    """Not with the rights, or within the quota, that there are now. Both are mended without a word to the operator."""

    longest_wait = 15.0


class Fenced(ApiFailure):
    """This replica may not write any more; nothing was sent."""


class Blocked(Refused):
    """Not before something else has happened: a deleted namesake's child goes, or an admission webhook answers."""

    longest_wait = 15.0


class Taken(Refused):
    """An object of that name is there, and is somebody else's."""


class Unavailable(ApiFailure):
    """No answer, or not now."""


async def configuration() -> kube.Configuration:
    """How to reach the API server: KUBECONFIG, or the pod's service account, or ~/.kube/config.

    Raises ConfigException when there is none of them.
    """
    found = kube.Configuration()
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        kube_config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
    else:
        await kube_config.load_kube_config(client_configuration=found)  # type: ignore[no-untyped-call]
    found.connection_pool_maxsize = 32
    # As Kopf's own session. Looking for proxies and a netrc takes a thread for every request.
    found.client_session_kwargs = {"trust_env": False}
    return found


class Client:
    """Server-side apply, status, delete and events. Every call has a timeout; a retry is the queue's affair."""

    _errors: ClassVar[Mapping[int, type[ApiFailure]]] = {
        403: Forbidden, 404: Gone, 409: Conflict, 410: Unavailable, 429: Unavailable
    }  # fmt: skip

    def __init__(self, configuration: kube.Configuration, may_write: Callable[[], bool] = lambda: True) -> None:
        self.api = kube.ApiClient(configuration)
        self.may_write = may_write
        self.outage = Outage()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()  # type: ignore[no-untyped-call]

    async def check(self) -> None:
        """Raises Gone while the API server does not serve CreditModels and ModelApprovals."""
        base, _ = KINDS[api.KIND]
        served = await self._request("GET", base)
        found = {resource["name"] for resource in served.get("resources", ())}
        if missing := {api.PLURAL, api.APPROVAL_PLURAL} - found:
            raise Gone(f"{base} has no {' and no '.join(sorted(missing))}")

    async def list(self, kind: str, namespace: str | None, selector: str) -> AsyncIterator[Manifest]:
        """The pages of a whole list (None: of every namespace). Their items carry no kind and no apiVersion."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._request("GET", _path(kind, namespace), query=query)
            if "items" not in page:
                raise Unavailable(f"GET {_path(kind, namespace)}: the answer is not a list: {str(page)[:80]}")
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply of an object, whole or partial; the object as it is now."""
        path = _path(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        return await self._request("PATCH", path, manifest, APPLY, {"fieldManager": manager, "force": "true"})

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply of the status subresource, and of nothing else."""
        path = _path(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", f"{path}/status", manifest, APPLY, query)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the very object that was seen; its dependants go after it. Raises Gone if it went before."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        await self._request("DELETE", _path(kind, namespace, name), body)

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """The object. Raises Gone where there is none."""
        return await self._request("GET", _path(kind, namespace, name))

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object. Raises Conflict if there is one of that name."""
        path, query = _path(manifest["kind"], manifest["metadata"]["namespace"]), {"fieldManager": FIELD_MANAGER}
        return await self._request("POST", path, manifest, query=query)

    async def _request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        before = self.outage.failures
        async with self.outage.turn() as mine:
            if not mine:
                raise Unavailable(f"{method} {path}: not sent, the API server gives no answers")
            if method != "GET" and not self.may_write():
                raise Fenced(f"{method} {path}: not sent, the Lease may be another replica's by now")
            try:
                document = await self._answered(method, path, body, content_type, query)
            except Unavailable as e:
                self.outage.failed(before, e.retry_after)
                raise
            except ApiFailure:
                self.outage.over()
                raise
            self.outage.over()
            return document

    async def _answered(
        self, method: str, path: str, body: Manifest | None, content_type: str, query: Mapping[str, str] | None
    ) -> Manifest:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        code = "none"
        try:
            request = await self.api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self.api.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = await response.read()  # type: ignore[no-untyped-call]
            code = str(response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{method} {path}: {type(e).__name__}: {e}") from e
        finally:
            API_REQUESTS.labels(method, code).inc()
        if response.status >= 400:
            raise self._failure(method, path, response.status, data, response.headers.get("Retry-After"))
        return _document(method, path, data)

    def _failure(self, method: str, path: str, status: int, data: bytes, retry_after: str | None) -> ApiFailure:
        default, message = Unavailable if status >= 500 else Refused, _message(data)
        if status >= 500 and _WEBHOOK in message:
            default = Blocked
        return self._errors.get(status, default)(f"{method} {path}: {status} {message}", _seconds(retry_after))


def _document(method: str, path: str, data: bytes) -> Manifest:
    """The body of a good answer; what a gateway says in the API server's place is none."""
    try:
        document: Manifest = from_json(data)
    except ValueError as e:
        raise Unavailable(f"{method} {path}: the answer is not JSON: {data[:80]!r}") from e
    return document


def _path(kind: str, namespace: str | None, name: str | None = None) -> str:
    base, plural = KINDS[kind]
    collection = f"{base}/{plural}" if namespace is None else f"{base}/namespaces/{namespace}/{plural}"
    return collection if name is None else f"{collection}/{name}"


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")


def _seconds(retry_after: str | None) -> float | None:
    try:
        return None if retry_after is None else min(float(retry_after), 300.0)
    except ValueError:
        return None


def partial(kind: str, namespace: str, name: str, **fields: Any) -> Manifest:
    """An object that carries nothing but what is applied to it."""
    base, _ = KINDS[kind]
    return {
        "apiVersion": base.removeprefix("/apis/").removeprefix("/api/"),
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        **fields,
    }
