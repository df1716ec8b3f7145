"""Bodies made to be expensive: each has an answer, and costs no more than a good body of its size would."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_inference import native
from creditmodel_inference.batches import Batches
from creditmodel_inference.errors import Problem
from creditmodel_inference.intake import CAREFUL_BYTES, Intake
from creditmodel_inference.steps import Steps, at_once
from creditmodel_inference.tensors import TensorReader

Row = dict[str, Any]
Read = Callable[[bytes], Steps[Any]]
LONG = 1_000_000
PART = 250_000


def many(contract: Contract, max_rows: int = 10_000) -> Read:
    """The reader of large requests, given a body in the parts in which a connection would bring it."""
    batches = Batches(Intake(contract, max_rows))

    def read(body: bytes) -> Steps[Any]:
        reader = batches.reader()
        for start in range(0, len(body), PART):
            yield from reader.add(body[start : start + PART])
        return (yield from reader.finish())

    return read


def repeated(unit: bytes, size: int) -> bytes:
    """A list of applicants that are all `unit`."""
    return b'{"applicants":[' + b",".join([unit] * (size // (len(unit) + 1))) + b"]}"


def keys(size: int, each: int = 1) -> bytes:
    """Members of an object, every key `each` times."""
    return b",".join(b'"k%d":1' % (i // each) for i in range(size // 11))


def bodies(row: bytes, size: int) -> dict[str, bytes]:
    one = b'{"applicants":[%b]}'
    return {
        "nested lists": b"[" * size,
        "nested objects": b'{"a":' * (size // 5),
        "nested value": b'{"applicants":[{"age":' + b"[" * size,
        "empty objects": repeated(b"{}", size),
        "empty lists": repeated(b"[]", size),
        "numbers": repeated(b"1", size),
        "digits": one % (b'{"age":' + b"9" * size + b"}"),
        "decimals": one % row.replace(b'"age": ', b'"age": 0.' + b"1" * size, 1),
        "exponent": one % (b'{"limit":1e' + b"9" * size + b"}"),
        "text": one % (b'{"home":"' + b"x" * size + b'"}'),
        "escapes": one % (b'{"home":"' + b"\\\\" * (size // 2) + b'"}'),
        "text of cuts": one % (b'{"home":"' + b"}," * (size // 2) + b'"}'),
        "no UTF-8": one % (b'{"home":"' + b"\xff" * size + b'"}'),
        "unknown keys": one % (b"{" + keys(size) + b"}"),
        "repeated keys": one % (b"{" + keys(size, each=2) + b"}"),
        "one key": one % (b"{" + b",".join([b'"age":30'] * (size // 9)) + b"}"),
        "keys of the request": b"{" + keys(size) + b"}",
        "a repeated key": repeated(row, size).replace(b'"age"', b'"age":30,"age"', 1),
        "a bad end": repeated(row, size)[:-2] + b',{"age":1}]}',
        "no end": repeated(row, size)[:-2],
        "a second list": repeated(row, size)[:-1] + b',"x":[1]}',
        "quotes": b'"' * size,
        "commas": b'{"applicants":[' + b"," * size + b"]}",
    }


def tensors(size: int) -> dict[str, bytes]:
    one = b'{"inputs":[{"name":"features","shape":[1,23],"datatype":"FP32","data":%b}]}'
    return {
        "too many numbers": one % (b"[" + b",".join([b"1.5"] * (size // 4)) + b"]"),
        "empty rows": one % (b"[" + b",".join([b"[]"] * (size // 3)) + b"]"),
        "texts": one % (b"[" + b",".join([b'"x"'] * (size // 4)) + b"]"),
        "digits": one % (b"[" + b"9" * size + b"]"),
        "nested lists": one % (b"[" * size),
        "parameters": b'{"parameters":{' + keys(size) + b'},"inputs":[]}',
        "a long shape": (one % b"[1]").replace(b"[1,23]", b"[" + b",".join([b"1"] * (size // 2)) + b"]"),
        "a wide shape": (one % b"[1]").replace(b"[1,23]", b"[1," + b"9" * size + b"]"),
        "inputs": b'{"inputs":[' + b",".join([b'{"name":"features"}'] * (size // 20)) + b"]}",
        "outputs": b'{"outputs":[' + b",".join([b'{"name":"points"}'] * (size // 18)) + b'],"inputs":[]}',
    }


def cost(read: Read, body: bytes) -> tuple[float, int | None]:
    """Processor seconds of this thread, the least of three, and the status of the problem."""
    seconds, status = [], None
    for _ in range(3):
        begun = time.thread_time()
        try:
            at_once(read(body))
        except Problem as problem:
            status = int(problem.status) if len(problem.body("id")) < 100_000 else None
        seconds.append(time.thread_time() - begun)
    return min(seconds), status


def peak_bytes(read: Read, body: bytes) -> int:
    tracemalloc.start()
    try:
        at_once(read(body))
    except Problem:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.fixture(scope="module")
def row(applicants: Callable[..., list[Row]]) -> bytes:
    return json.dumps(applicants(1)[0]).encode()


@pytest.mark.parametrize(("size", "times"), [(LONG, 5), (CAREFUL_BYTES - 5_000, 80)])
def test_no_body_costs_much_more_than_a_good_one_of_its_size(
    contract: Contract, row: bytes, size: int, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = many(contract)
    # What reading in C declines is read in Python: a good one is measured there too.
    monkeypatch.setattr(native, "LIBRARY", None)
    good, status = cost(many(contract), repeated(row, size))
    assert status is None
    for name, body in bodies(row, size).items():
        seconds, status = cost(read, body)
        assert status in (400, 413, 422), name
        assert seconds < times * good + 0.002, name


def test_no_tensor_costs_much_more_than_a_good_one_of_its_size(contract: Contract) -> None:
    read = TensorReader(contract, 10_000).read
    numbers = b"[" + b",".join([b"1"] * (LONG // 2)) + b"]"
    begun = time.thread_time()
    json.loads(numbers)
    good = time.thread_time() - begun
    for name, body in tensors(LONG).items():
        seconds, status = cost(lambda body: read(body, None), body)
        assert status in (400, 413, 422), name
        assert seconds < 5 * good + 0.002, name


def test_no_body_takes_many_times_its_size_in_memory(contract: Contract, row: bytes) -> None:
    read, reader = many(contract), TensorReader(contract, 10_000)
    for name, body in bodies(row, LONG).items():
        assert peak_bytes(read, body) < 8 * LONG, name
    for name, body in tensors(LONG).items():
        assert peak_bytes(lambda body: reader.read(body, None), body) < 8 * LONG, name


@pytest.mark.parametrize("readers", ["score", "infer"])
def test_a_large_request_is_read_in_short_steps(
    contract: Contract, row: bytes, applicants: Callable[..., list[Row]], readers: str
) -> None:
    count = 5_000 if readers == "score" else 20_000
    body = json.dumps({"applicants": applicants(100) * (count // 100)}).encode()
    width = len(contract.features)
    good = [100, 30, 0, 0, 1, 0, 0] + [1] * (width - 7)
    tensor = {"name": "features", "shape": [count, width], "datatype": "FP32", "data": good * count}
    text = json.dumps({"inputs": [tensor]}).encode().replace(b" ", b"")

    def durations() -> list[float]:
        steps: Steps[Any] = (
            many(contract, count)(body) if readers == "score" else TensorReader(contract, count).read(text, None)
        )
        found: list[float] = []
        while True:
            begun = time.thread_time()
            try:
                next(steps)
            except StopIteration:
                return found
            found.append(time.thread_time() - begun)

    # The last step joins what was read. No other does most of the work; a disturbed run says nothing.
    runs = [durations() for _ in range(3)]
    assert all(len(run) > 5 for run in runs)
    assert min(max(run) / sum(run) for run in runs) < 0.5


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("-0.0", 0.0),
        ("0e5", 0.0),
        ("1E2", 100.0),
        ("100.000", 100.0),
        ("1e-400", 0.0),
        ("9007199254740993e-11", 90071.99254740993),
    ],
)
def test_a_number_may_be_written_in_any_way_that_json_has(
    contract: Contract, applicants: Callable[..., list[Row]], written: str, meant: float
) -> None:
    text = json.dumps({"applicants": [applicants(1)[0] | {"limit": 77}]}).replace('"limit": 77', f'"limit": {written}')
    assert Intake(contract, 10).read(text.encode()).rows[0][0] == meant


def test_an_integer_beyond_2_to_the_53_is_held_to_its_range_like_any_other(
    contract: Contract, applicants: Callable[..., list[Row]]
) -> None:
    for integer in (2**53 + 1, 2**63, -(2**64) - 1):
        text = json.dumps({"applicants": [applicants(1)[0] | {"bill_1": integer}]}).encode()
        with pytest.raises(Problem) as caught:
            Intake(contract, 10).read(text)
        assert [(error.path, error.kind) for error in caught.value.errors] == [("/applicants/0/bill_1", "range")]
