"""Pods and Services as small as they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def _pod(
    name: str = "p", *, labels: dict[str, str] | None = None, status: dict[str, Any] | None = None, **spec: Any
) -> Any:
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": labels or {}, "generation": 2}
    spec = {"containers": [{"name": "main", "image": "i", "command": ["x"]}], **spec}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


@pytest.fixture
def pod() -> Callable[..., Any]:
    return _pod
