"""Bodies as clients with generated types write them."""

from __future__ import annotations

import pytest

from creditmodel_sandbox.apiserver.errors import ApiError
from creditmodel_sandbox.apiserver.protobuf import decode_object


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version.encode()) + field(2, kind.encode())) + field(2, raw)


def test_a_secret_keeps_its_bytes_as_base64() -> None:
    metadata = field(1, b"b") + field(11, field(1, b"app") + field(2, b"x")) + field(8, b"")
    raw = field(1, metadata) + field(2, field(1, b"key") + field(2, b"value")) + field(3, b"Opaque")
    assert decode_object(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "b", "labels": {"app": "x"}},
        "data": {"key": "dmFsdWU="},
        "type": "Opaque",
    }


def test_optional_zeroes_and_negative_numbers_survive() -> None:
    container = field(1, b"c") + field(8, field(2, field(1, b"cpu") + field(2, field(1, b"500m"))))
    security = field(10, field(1, b"RuntimeDefault"))
    pod = field(2, container) + field(14, security) + field(25, (1 << 64) - 5)
    spec = field(7, 0) + field(6, field(2, pod))
    job = decode_object(envelope("batch/v1", "Job", field(1, field(1, b"j")) + field(2, spec)))
    assert job["spec"]["backoffLimit"] == 0
    template = job["spec"]["template"]["spec"]
    assert template["containers"] == [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]
    assert template["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert template["priority"] == -5


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (envelope("v1", "Secret", field(1, b"\x0a\xff")), 400),
        (envelope("v1", "Secret", b"\x0a"), 400),
        (envelope("v1", "Secret", field(900, 1)), 501),
        (envelope("example.com/v1", "Gadget", b""), 501),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        decode_object(body)
    assert caught.value.code == code
