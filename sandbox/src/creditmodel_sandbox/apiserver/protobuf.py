from __future__ import annotations
from typing import Any
from creditmodel_sandbox.apiserver.errors import not_implemented
PROTOBUF = "application/vnd.kubernetes.protobuf"
def decode_object(data: bytes) -> dict[str, Any]:
    raise not_implemented("protobuf")
