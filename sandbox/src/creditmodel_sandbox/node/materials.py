"""Fetches what a pod reads from the API: ConfigMaps, Secrets, service account tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from creditmodel_sandbox.client import ApiError, Client, ClientError
from creditmodel_sandbox.node.environment import ConfigError, Materials
from creditmodel_sandbox.node.volumes import data_of, references, token_requests
from creditmodel_sandbox.objects import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS

__all__ = ["Fetcher"]

_KINDS = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}
REFRESH_AT = 0.8


class Fetcher:
    """Keeps the newest materials of one pod."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: Materials | None = None
        self.tokens_due: float | None = None
        """When a token should be renewed."""

    async def fetch(self, pod: Mapping[str, Any]) -> Materials:
        """What the pod reads now; what it read before while the API server is away. ConfigError without a token."""
        try:
            objects = {reference: await self._data(pod, *reference) for reference in references(pod)}
            tokens = {request: await self._token(pod, *request) for request in token_requests(pod)}
        except ClientError:
            if self._known is None:
                raise
            return self._known
        self._known = Materials({key: data for key, data in objects.items() if data is not None}, tokens)
        return self._known

    async def _data(self, pod: Mapping[str, Any], kind: str, name: str) -> dict[str, bytes] | None:
        try:
            return data_of(await self._client.get(_KINDS[kind], pod["metadata"]["namespace"], name))
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    async def _token(self, pod: Mapping[str, Any], audience: str, seconds: int) -> bytes:
        metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            answer = await self._client.create(SERVICE_ACCOUNTS, metadata["namespace"], body, account, "token")
        except ApiError as e:
            raise ConfigError(f"no token for the service account {account}: {e}") from e
        self.tokens_due = time.time() + REFRESH_AT * seconds
        return str(answer["status"]["token"]).encode()
