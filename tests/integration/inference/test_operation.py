"""Starting, refusing, draining, limits on a client's time, and the scoring log."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from creditmodel_bundle.manifest import seal

Row = dict[str, Any]


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def refusal(server: Any) -> str:
    assert server.process.wait(30) == 3
    text: str = server.log.read_text()
    return [line for line in text.splitlines() if line.startswith("creditmodel-serve: ")][-1]


def changed(bundle: Path, directory: Path, name: str, change: Callable[[bytes], bytes], *, sealed: bool) -> Path:
    shutil.copytree(bundle, directory)
    path = directory / name
    path.write_bytes(change(path.read_bytes()))
    if sealed:
        seal(directory, "sample", "1.0")
    return directory


def test_a_bundle_with_another_digest_is_refused(start: Callable[..., Any], bundle: Path, tmp_path: Path) -> None:
    message = tmp_path / "message"
    server = start(bundle, "--digest", f"sha256:{'0' * 64}", "--termination-log", str(message))
    assert "DigestMismatch: " in refusal(server)
    assert message.read_text().startswith("DigestMismatch: ")


def test_a_bundle_with_one_flipped_byte_is_refused(start: Callable[..., Any], bundle: Path, tmp_path: Path) -> None:
    damaged = changed(
        bundle, tmp_path / "damaged", "model.onnx", lambda b: b[:500] + bytes([b[500] ^ 1]) + b[501:], sealed=False
    )
    assert "Corrupt: model.onnx" in refusal(start(damaged))


def test_golden_rows_that_are_not_reproduced_keep_a_server_from_ever_being_ready(
    start: Callable[..., Any], bundle: Path, tmp_path: Path
) -> None:
    def shift(raw: bytes) -> bytes:
        document = json.loads(raw)
        document["rows"][7]["probability"] += 0.001
        return json.dumps(document).encode()

    server = start(changed(bundle, tmp_path / "shifted", "golden.json", shift, sealed=True))
    seen: list[Any] = []

    def told() -> bool:
        answer = server.request("GET", "/healthz/ready")
        assert answer.status == 503
        assert server.score({}).status == 503
        seen.append(answer.json)
        return bool(answer.json["status"] == "refused")

    eventually(told)
    assert "golden row 7 is not reproduced: probability" in seen[-1]["reason"]
    assert "GoldenRowsDiffer: golden row 7" in refusal(server)


def test_an_unreachable_bundle_is_refused_in_one_line(start: Callable[..., Any], tmp_path: Path) -> None:
    line = refusal(start(tmp_path / "nothing"))
    assert line.startswith("creditmodel-serve: Unreachable: ")


def test_a_work_directory_that_is_not_there_is_a_refusal_and_not_a_server_that_never_gets_ready(
    start: Callable[..., Any], bundle: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "nowhere"
    line = refusal(start(bundle, "--work-directory", str(directory)))
    assert f"NotStored: the bundle cannot be stored in {directory}: No such file or directory" in line


def test_bad_arguments_exit_with_2(start: Callable[..., Any], bundle: Path) -> None:
    import subprocess
    import sys

    command = [str(Path(sys.executable).with_name("creditmodel-serve")), "--bundle", bundle.as_uri()]
    for arguments in (
        ["--port", "70000"],
        ["--max-rows", "0"],
        ["--scoring-log-sample-rate", "2"],
        ["--host", "192.0.2.1"],
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_drain_fails_no_request(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    server = start(bundle, "--drain-seconds", "3", "--scoring-log", log.as_uri())
    server.wait_ready()
    body = json.dumps({"applicants": applicants(1)}).encode()
    stopping = threading.Event()
    outcomes: list[int] = []
    failures: list[str] = []

    def client() -> None:
        connection = server.connect()
        while not stopping.is_set():
            try:
                connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                outcomes.append(response.status)
                if response.will_close:
                    connection.close()
                    connection = server.connect()
            except OSError as e:  # http.client's own errors are not: a refused connection ends the test's client
                if not stopping.is_set():
                    failures.append(repr(e))
                break
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    eventually(lambda: len(outcomes) > 200)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: server.request("GET", "/healthz/ready").status == 503)
    drained_from = len(outcomes)
    eventually(lambda: len(outcomes) > drained_from + 20)
    # The balancer has noticed by now: no new requests, and what is in flight is finished.
    stopping.set()
    for thread in clients:
        thread.join(30)
    assert server.process.wait(30) == 0
    assert not failures
    assert set(outcomes) == {200}
    assert ds.dataset(log, partitioning="hive").count_rows() == len(outcomes)


def test_a_store_that_hangs_does_not_delay_a_stop(start: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:
        server = start(f"http://127.0.0.1:{store.getsockname()[1]}/bundle")
        connection, _ = store.accept()
        with connection:
            answer = server.request("GET", "/healthz/ready")
            assert (answer.status, answer.json["status"]) == (503, "starting")
            assert server.request("GET", "/healthz/live").status == 200
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 20, "a fetch is given up after 30 s"


def test_a_second_signal_stops_at_once(start: Callable[..., Any], bundle: Path) -> None:
    server = start(bundle, "--drain-seconds", "600")
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: server.request("GET", "/healthz/ready").status == 503)
    assert server.stop() == 0


def test_a_kept_alive_connection_is_told_to_close_when_it_is_old(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]]
) -> None:
    server = start(bundle, "--max-connection-age", "0.5")
    server.wait_ready()
    body = json.dumps({"applicants": applicants(1)}).encode()
    connection = server.connect()
    begun = time.monotonic()
    answers = 0
    while True:
        connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        answers += 1
        if response.will_close:
            break
        assert time.monotonic() - begun < 30
    connection.close()
    assert answers > 1
    assert time.monotonic() - begun > 0.3


def test_an_old_idle_connection_is_closed_so_that_its_client_comes_back_elsewhere(
    start: Callable[..., Any], bundle: Path
) -> None:
    server = start(bundle, "--max-connection-age", "0.1")
    server.wait_ready()
    with socket.create_connection(server.address, timeout=60) as client:
        assert client.recv(1) == b""


def test_a_slow_client_is_told_and_closed(start: Callable[..., Any], bundle: Path) -> None:
    server = start(bundle, "--request-timeout", "0.5")
    server.wait_ready()
    for stream in (
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-le",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{",
        (
            b"POST /v1/score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            b"content-type: application/json\r\n\r\n1\r\n{\r\n"
        ),
    ):
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(stream)
            answer = client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 408 ")
            while client.recv(65_536):
                pass
    assert server.request("GET", "/healthz/live").status == 200


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]]
) -> None:
    server = start(bundle, "--request-timeout", "2")  # enough to take the request in, also on a busy machine
    server.wait_ready()
    body = json.dumps({"applicants": applicants(100) * 100}).encode()
    head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(server.address)
        client.sendall(head % len(body) + body)
        address = f":{client.getsockname()[1]:04X}"

        def is_held() -> bool:
            """Whether a process has the server's end of this connection open: then it has an inode."""
            connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
            return any(fields[2].endswith(address) and fields[9] != "0" for fields in connections)

        assert is_held()
        eventually(lambda: not is_held())


def test_what_a_client_holds_open_is_bounded(start: Callable[..., Any], bundle: Path) -> None:
    server = start(bundle, "--max-in-flight", "2", "--request-timeout", "20")
    server.wait_ready()
    head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    held = [socket.create_connection(server.address, timeout=60) for _ in range(2)]
    for client in held:
        client.sendall(head)
    in_flight = "creditmodel_in_flight 2.0"
    eventually(lambda: in_flight in server.request("GET", "/metrics").body.decode())
    answer = server.request("POST", "/v1/score", b" " * 100_000, content_type="application/json")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    for client in held:
        client.close()
    eventually(lambda: in_flight not in server.request("GET", "/metrics").body.decode())


def read_log(directory: Path) -> list[Row]:
    rows: list[Row] = ds.dataset(directory, partitioning="hive").to_table().to_pylist()
    return rows


def test_the_log_has_inputs_outputs_reasons_and_errors(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    server = start(
        bundle,
        "--revision",
        "r7",
        "--scoring-log",
        tmp_path.as_uri(),
        "--scoring-log-seconds",
        "0.1",
        "--drain-seconds",
        "0",
    )
    server.wait_ready()
    rows = applicants(200, seed=4)
    answers = server.score(*rows, request_id="big").json["results"]
    small = server.score(rows[3], request_id="small").json["results"][0]
    assert server.score(rows[0] | {"sex": 9}, request_id="bad").status == 422
    many_bad = server.score(*rows, rows[0] | {"sex": 9})
    assert server.stop() == 0
    logged = read_log(tmp_path)
    assert {path.relative_to(tmp_path).parts[1] for path in tmp_path.rglob("*.parquet")} == {"revision=r7"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    big = sorted((row for row in logged if row["_request_id"] == "big"), key=lambda row: row["_row"])
    for asked, answer, row in zip(rows, answers, big, strict=True):
        assert {name: row[name] for name in asked} == asked
        assert (row["_probability"], row["_log_odds"], row["_points"], row["_decision"]) == (
            answer["probability"], answer["log_odds"], answer["points"], answer["decision"],
        )  # fmt: skip
        assert row["_reasons"] == [reason["code"] for reason in answer["reasons"]]
        assert row["_error"] is None
        assert row["_latency_us"] > 0
    (one,) = (row for row in logged if row["_request_id"] == "small")
    assert one["_probability"] == small["probability"] == big[3]["_probability"]
    bad, other = (row for row in logged if row["_error"] is not None)
    assert other["_request_id"] == many_bad.headers["x-request-id"] == many_bad.json["request_id"]
    assert "/applicants/0/sex" in bad["_error"]
    assert bad["_probability"] is bad["_decision"] is bad["age"] is None


def test_parts_are_closed_while_the_server_runs(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    server = start(bundle, "--scoring-log", tmp_path.as_uri(), "--scoring-log-seconds", "0.1")
    server.wait_ready()
    for count in (1, 2):
        server.score(*applicants(1))
        eventually(lambda: len(list(tmp_path.rglob("*.parquet"))) == count)  # noqa: B023 - called within the turn


def test_a_dead_sink_costs_rows_and_never_requests(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    sink = tmp_path / "file"
    sink.write_text("in the way of a directory")
    server = start(bundle, "--scoring-log", sink.as_uri(), "--scoring-log-seconds", "0.1", "--drain-seconds", "0")
    server.wait_ready()
    body = json.dumps({"applicants": applicants(100)}).encode()
    connection: http.client.HTTPConnection = server.connect()

    def sample(name: str) -> float:
        text = server.request("GET", "/metrics").body.decode()
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))

    for _ in range(50):
        connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()
    eventually(lambda: sample("creditmodel_scoring_log_failures_total") > 0)
    assert sample("creditmodel_scoring_log_queue_rows") == 5_000
    assert server.stop() == 0
    assert "5000 rows are lost" in server.log.read_text()


def test_a_sink_that_hangs_leaves_latency_as_it_is(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"applicants": applicants(1)}).encode()
    with socket.create_server(("127.0.0.1", 0)) as store:  # accepts connections, and never answers
        plain = start(bundle, "--drain-seconds", "0")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        logged = start(bundle, "--drain-seconds", "0", "--scoring-log", "s3://log/x", "--scoring-log-seconds", "0.1")
        servers = [plain, logged]
        durations: dict[str, list[float]] = {plain.url: [], logged.url: []}
        for server in servers:
            server.wait_ready()
        assert logged.score(*applicants(1)).status == 200
        store.settimeout(30)
        held, _ = store.accept()
        with held:
            connections = [server.connect() for server in servers]
            for _ in range(300):
                for server, connection in zip(servers, connections, strict=True):
                    begun = time.perf_counter()
                    connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
                    response = connection.getresponse()
                    response.read()
                    durations[server.url].append(time.perf_counter() - begun)
                    assert response.status == 200
            text = logged.request("GET", "/metrics").body.decode()
        assert "creditmodel_scoring_log_queue_rows 301.0" in text
        for connection in connections:
            connection.close()
        for server in servers:
            server.process.kill()
    usual, with_log = (sorted(found) for found in durations.values())
    # What waited for the sink would wait for seconds; a busy machine holds up one of the two for less.
    assert with_log[150] < 2 * usual[150] + 0.01
    assert with_log[296] < 5 * usual[296] + 0.5


@pytest.mark.parametrize("rate", ["0", "1"])
def test_the_sample_rate_decides_what_is_logged(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]], tmp_path: Path, rate: str
) -> None:
    server = start(
        bundle, "--scoring-log", tmp_path.as_uri(), "--scoring-log-sample-rate", rate, "--drain-seconds", "0"
    )
    server.wait_ready()
    server.score(*applicants(5))
    assert server.stop() == 0
    assert len(list(tmp_path.rglob("*.parquet"))) == int(rate)


def test_a_restart_changes_no_answer(
    start: Callable[..., Any], bundle: Path, applicants: Callable[..., list[Row]]
) -> None:
    rows = applicants(40, seed=6)
    first, second = start(bundle), start(bundle)
    for server in (first, second):
        server.wait_ready()
    assert first.score(*rows).json["results"] == second.score(*reversed(rows)).json["results"][::-1]
