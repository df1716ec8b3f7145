from __future__ import annotations

from typing import Any


def test_an_object_is_created_read_and_deleted(apiserver: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = apiserver.post(path, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert apiserver.get(f"{path}/a") == made
    apiserver.delete(f"{path}/a")
    assert apiserver.request("GET", f"{path}/a").code == 404
