"""What a client sees of a running server."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

Row = dict[str, Any]
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")


def test_an_answer_has_score_decision_reasons_and_the_models_identity(server: Any, bundle: Any, sample: Any) -> None:
    golden = json.loads((bundle / "golden.json").read_text())["rows"][0]
    answer = server.score(golden["features"], request_id="case-17")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["request_id"] == answer.headers["x-request-id"] == "case-17"
    model = answer.json["model"]
    assert (model["name"], model["version"], model["revision"]) == ("sample", "1.0", "sample-r1")
    assert model["digest"] == answer.headers["x-model-digest"]
    (result,) = answer.json["results"]
    assert result["probability"] == pytest.approx(golden["probability"], abs=1e-6)
    assert (result["points"], result["decision"]) == (golden["points"], golden["decision"])
    assert [reason["code"] for reason in result["reasons"]] == golden["reasons"]
    assert result["cutoff"]["decision"] == result["decision"]


def test_a_batch_equals_its_rows_whatever_the_way(server: Any, applicants: Callable[..., list[Row]]) -> None:
    rows = applicants(150, seed=8)
    single = [server.score(row).json["results"][0] for row in rows[:30]]
    assert server.score(*rows).json["results"][:30] == single  # over 64 KiB: through ASGI
    assert server.score(*rows[:30]).json["results"] == single
    order = random.Random(3).sample(range(30), 30)  # noqa: S311 - a shuffle
    assert server.score(*[rows[i] for i in order]).json["results"] == [single[i] for i in order]


def test_a_chunked_body_gets_the_same_answer(server: Any, applicants: Callable[..., list[Row]]) -> None:
    row = applicants(1)[0]
    connection = server.connect()
    body = json.dumps({"applicants": [row]}).encode()
    connection.request(
        "POST", "/v1/score", iter([body[:10], body[10:]]), {"content-type": "application/json"}, encode_chunked=True
    )
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["results"] == server.score(row).json["results"]


def test_concurrent_clients_share_calls_and_get_their_own_answers(
    server: Any, applicants: Callable[..., list[Row]]
) -> None:
    rows = applicants(64, seed=5)
    expected = server.score(*rows).json["results"]
    found: dict[int, Any] = {}

    def client(offset: int) -> None:
        for i in range(offset, 64, 8):
            answer = server.score(rows[i], request_id=f"row-{i}").json
            assert answer["request_id"] == f"row-{i}"
            found[i] = answer["results"][0]

    threads = [threading.Thread(target=client, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found[i] for i in range(64)] == expected


def exchange(server: Any, *request: bytes) -> bytes:
    """Bytes to the server, in as many parts, and everything it answers until it closes."""
    with socket.create_connection(server.address, timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in request:
            client.sendall(part)
        received = bytearray()
        while part := client.recv(65_536):
            received += part
    return bytes(received)


def post(body: bytes, *headers: str, close: bool = False) -> bytes:
    head = ["POST /v1/score HTTP/1.1", "host: x", f"content-length: {len(body)}", "content-type: application/json"]
    head += [*headers, *(["connection: close"] if close else [])]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def test_pipelined_requests_are_answered_in_their_order(server: Any, applicants: Callable[..., list[Row]]) -> None:
    row = applicants(1)[0]

    def body(name: str) -> bytes:
        return json.dumps({"applicants": [row], "request_id": name}).encode()

    ready = b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\n\r\n"
    stream = (
        post(body("a")) + post(body("b")) + ready + post(b"{") + post(body("c")) + ready + post(body("d"), close=True)
    )
    answers = exchange(server, stream)
    marks = [b'"request_id":"a"', b'"request_id":"b"', b'"status":"ready"', b"not JSON", b'"request_id":"c"',
             b'"status":"ready"', b'"request_id":"d"']  # fmt: skip
    position = 0
    for mark in marks:
        position = answers.index(mark, position) + 1
    assert answers.count(b"HTTP/1.1 ") == len(marks)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nowhere", None, {}, 404),
        ("GET", "/docs/../cli.py", None, {}, 404),
        ("GET", "/v1/score", None, {}, 405),
        ("DELETE", "/v1/model", None, {}, 405),
        ("PUT", "/v1/score", b"{}", {}, 405),
        ("OPTIONS", "/v1/score", None, {}, 405),
        ("POST", "/v1/score/", b"{}", {}, 404),
        ("POST", "/v1/score", b"{}", {}, 415),
        ("POST", "/v1/score", b"{}", {"content_type": "text/plain"}, 415),
        ("POST", "/v1/score", b"{}", {"content_type": "application/json; charset=latin-1"}, 415),
        ("POST", "/v1/score", b"{}", {"content_type": "application/json", "content_encoding": "gzip"}, 415),
        ("POST", "/v1/score", b"{", {"content_type": "application/json"}, 400),
        ("POST", "/v1/score", b"{}", {"content_type": "application/json; charset=UTF-8"}, 422),
        ("POST", "/v1/score", b"{}", {"content_type": "application/json", "x_request_id": "a b"}, 422),
        ("POST", "/v1/score", b" " * 1_000_001, {"content_type": "application/json"}, 413),
        ("POST", "/v1/score", b" " * 900_000, {"content_type": "application/json"}, 400),
    ],
)
def test_every_error_is_a_problem_document(
    server: Any, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    answer = server.request(method, path, body, **headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["type"].startswith("urn:creditmodel:problem:")
    assert answer.json["detail"]
    assert answer.headers["x-request-id"]


def test_too_many_rows_are_refused_with_the_limit(server: Any, applicants: Callable[..., list[Row]]) -> None:
    answer = server.score(*applicants(1) * 501)
    assert (answer.status, answer.json["errors"][0]["allowed"]) == (413, {"maximum": 500})


def test_a_violation_is_told_with_path_kind_and_allowed_values(
    server: Any, applicants: Callable[..., list[Row]]
) -> None:
    answer = server.score(applicants(1)[0] | {"sex": 9})
    assert answer.status == 422
    assert answer.json["errors"] == [
        {
            "path": "/applicants/0/sex", "kind": "category", "allowed": [1, 2],
            "message": "is 9, which is none of the allowed categories",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "stream",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 200_000,
        b"CONNECT bank:443 HTTP/1.1\r\nhost: bank:443\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n",
    ],
)
def test_what_is_not_http_is_answered_and_the_connection_closed(server: Any, stream: bytes) -> None:
    answer = exchange(server, stream)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ", b"HTTP/1.1 431 "))
    assert b"problem+json" in answer
    assert server.request("GET", "/healthz/ready").status == 200


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score?way=asgi"])
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, h2c"])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(
    server: Any, applicants: Callable[..., list[Row]], path: str, protocol: str
) -> None:
    offer = f"{path} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}".encode()
    body = json.dumps({"applicants": applicants(1)}).encode()
    first, last = (post(body, close=close).replace(b"/v1/score HTTP/1.1", offer, 1) for close in (False, True))
    answers = exchange(server, first + last[:40], last[40:-9], last[-9:])
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2


def test_many_offers_in_one_pipeline_are_answered_one_after_another(server: Any) -> None:
    offer = b"GET /healthz/live HTTP/1.1\r\nhost: x\r\nconnection: %s\r\nupgrade: h2c\r\n\r\n"
    answers = exchange(server, offer % b"upgrade" * 1_500 + offer % b"upgrade, close")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1_501


@pytest.mark.parametrize("path", [b"/healthz/ready", b"/v1/model", b"/docs", b"/nothing"])
def test_a_head_request_has_the_head_of_the_get_request(server: Any, path: bytes) -> None:
    def ask(method: bytes) -> tuple[dict[bytes, bytes], bytes]:
        answer = exchange(server, method + b" " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        found = dict(line.split(b": ", 1) for line in headers)
        return {b"status": status, **{n: found[n] for n in (b"content-type", b"content-length")}}, body

    with_body, without = ask(b"GET"), ask(b"HEAD")
    assert without == (with_body[0], b"")
    assert int(with_body[0][b"content-length"]) == len(with_body[1])


def test_a_head_request_is_refused_without_a_body(server: Any) -> None:
    answer = exchange(server, b"HEAD /v1/score HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert not body


def test_a_chunked_body_without_end_is_refused_at_the_limit(server: Any) -> None:
    head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with socket.create_connection(server.address, timeout=60) as client:
        client.sendall(head)
        client.setblocking(False)
        answer = b""
        while not answer and sent < 100:  # six times the limit
            try:
                client.send(chunk)
                sent += 1
            except BlockingIOError:
                client.settimeout(20)
                answer = client.recv(65_536)
                break
            except OSError:
                break
        client.settimeout(20)
        answer = answer or client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.request("GET", "/healthz/ready").status == 200


def test_a_length_that_lies_low_leaves_a_rest_that_is_no_request(
    server: Any, applicants: Callable[..., list[Row]]
) -> None:
    body = json.dumps({"applicants": applicants(1)}).encode()
    lying = post(body).replace(b"content-length: %d" % len(body), b"content-length: %d" % (len(body) - 3))
    first, _, second = exchange(server, lying).partition(b"HTTP/1.1 400 Bad Request")[2].partition(b"HTTP/1.1 ")
    assert b"not JSON" in first
    assert second.startswith(b"400 ")
    assert server.request("GET", "/healthz/ready").status == 200


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(server: Any, applicants: Callable[..., list[Row]]) -> None:
    body = json.dumps({"applicants": applicants(150)}).encode()
    for stream in (post(body)[: len(body) // 2], post(body)):
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(stream)
    assert server.score(applicants(1)[0]).status == 200


@pytest.fixture(scope="module")
def bulk_server(start: Callable[..., Any], bundle: Any) -> Any:
    """A server without limits of its own."""
    made = start(bundle, "--drain-seconds", "0")
    made.wait_ready()
    return made


def test_a_client_that_leaves_in_the_middle_of_a_long_answer_leaves_nothing_behind(
    bulk_server: Any, applicants: Callable[..., list[Row]]
) -> None:
    server = bulk_server
    large = post(json.dumps({"applicants": applicants(500) * 20}).encode())
    for _ in range(2):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(server.address)
            client.sendall(large)
            assert client.recv(64).startswith(b"HTTP/1.1 200 ")
    assert server.score(applicants(1)[0]).status == 200
    assert "Traceback" not in server.log.read_text()


def test_a_long_answer_announces_its_length_also_to_http_1_0(
    bulk_server: Any, applicants: Callable[..., list[Row]]
) -> None:
    large = post(json.dumps({"applicants": applicants(500) * 5}).encode(), close=True)
    heads, bodies = zip(
        *(exchange(bulk_server, large.replace(b"HTTP/1.1", version, 1)).split(b"\r\n\r\n", 1) for version in VERSIONS),
        strict=True,
    )
    assert bodies[0].partition(b"results")[2] == bodies[1].partition(b"results")[2]
    for head, body in zip(heads, bodies, strict=True):
        assert b"\r\ncontent-length: %d\r\n" % len(body) in head
        assert len(json.loads(body)["results"]) == 2_500


def test_other_clients_are_answered_while_a_large_request_is_worked_on(
    bulk_server: Any, applicants: Callable[..., list[Row]]
) -> None:
    server = bulk_server
    large = post(json.dumps({"applicants": applicants(500) * 20}).encode(), close=True)
    small = post(json.dumps({"applicants": applicants(1)}).encode())
    answered: list[float] = []
    stopping = threading.Event()

    def ask() -> None:
        with socket.create_connection(server.address, timeout=60) as client:
            while not stopping.is_set():
                client.sendall(small)
                client.recv(65_536)
                answered.append(time.perf_counter())

    def longest_silence() -> float:
        """The longest that the small client waited, as a share of the time that the large request took."""
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(large)
            begun = time.perf_counter()
            assert client.recv(64).startswith(b"HTTP/1.1 200 ")
            ended = time.perf_counter()
        moments = [begun, *(moment for moment in answered if begun < moment < ended), ended]
        return max(later - earlier for earlier, later in pairwise(moments)) / (ended - begun)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        # Once is enough: a busy machine may hold up the server itself.
        assert any(longest_silence() < 0.4 for _ in range(8))
    finally:
        stopping.set()
        thread.join(30)


def test_a_body_announced_too_large_is_refused_before_it_is_sent(server: Any) -> None:
    stream = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 1000001\r\nexpect: 100-continue\r\n\r\n"
    assert exchange(server, stream).startswith(b"HTTP/1.1 413 ")


def test_http_1_0_is_answered_and_closed(server: Any, applicants: Callable[..., list[Row]]) -> None:
    body = json.dumps({"applicants": applicants(1)}).encode()
    stream = post(body).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert b'"results"' in exchange(server, stream)


def test_metrics_count_requests_rows_decisions_and_violations(
    start: Callable[..., Any], bundle: Any, applicants: Callable[..., list[Row]]
) -> None:
    server = start(bundle)
    server.wait_ready()
    server.score(*applicants(3))
    server.score(applicants(1)[0] | {"age": 1, "made-up": 2})
    text = server.request("GET", "/metrics").body.decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("creditmodel_"))
    assert samples['creditmodel_requests_total{code="200",route="/v1/score"}'] == "1.0"
    assert samples['creditmodel_requests_total{code="422",route="/v1/score"}'] == "1.0"
    assert samples["creditmodel_rows_total"] == "3.0"
    assert samples["creditmodel_probability_count"] == "3.0"
    assert samples['creditmodel_request_duration_seconds_count{route="/v1/score"}'] == "2.0"
    assert sum(float(n) for name, n in samples.items() if name.startswith("creditmodel_decisions_total")) == 3
    assert samples['creditmodel_violations_total{field="age",kind="range"}'] == "1.0"
    assert samples['creditmodel_violations_total{field="other",kind="unknown"}'] == "1.0"
    assert any(name.startswith("creditmodel_model_info{") for name in samples)
    assert "made-up" not in text


def test_the_pages_need_nothing_from_elsewhere(server: Any) -> None:
    page = server.request("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("docs.js", "docs.css"):
        asset = server.request("GET", f"/docs/{name}")
        assert asset.status == 200
        assert b"http" not in asset.body.replace(b"https://", b"http") or name == "docs.js"
    assert b"//" not in page.body.replace(b"<!doctype", b"")


def test_the_openapi_document_speaks_of_the_models_own_fields(server: Any) -> None:
    document = server.request("GET", "/openapi.json").json
    properties = document["components"]["schemas"]["Applicant"]["properties"]
    assert properties["age"]["minimum"] == 18
    assert properties["home"]["enum"] == ["own", "rent", "é", None]
    example = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert server.score(*example["applicants"]).status == 200


def test_the_model_page_gives_identity_and_contract(server: Any) -> None:
    document = server.request("GET", "/v1/model").json
    assert document["model"]["name"] == "sample"
    assert [feature["name"] for feature in document["contract"]["features"]][:2] == ["limit", "age"]
