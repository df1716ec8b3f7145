"""Open Inference Protocol v2 over REST, JSON and binary tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder

Row = dict[str, Any]
Post = Callable[..., Any]


@pytest.fixture(scope="module")
def encoded(bundle: Path, applicants: Callable[..., list[Row]]) -> Any:
    encoder = Encoder(Contract.read(bundle / "contract.json"))
    return np.array([encoder.encode(row) for row in applicants(5)], np.float32)


@pytest.fixture
def infer(server: Any) -> Post:
    def post(document: Any, binary: bytes = b"", model: str = "sample") -> Any:
        head = json.dumps(document).encode()
        headers = {"inference_header_content_length": str(len(head))} if binary else {}
        return server.request(
            "POST", f"/v2/models/{model}/infer", head + binary, content_type="application/json", **headers
        )

    return post


def tensor(rows: Any, **more: Any) -> Row:
    data = [None if value != value else float(value) for value in rows.reshape(-1)]
    return {"name": "features", "datatype": "FP32", "shape": list(rows.shape), "data": data} | more


def outputs_of(document: Any) -> dict[str, Any]:
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in document["outputs"]}


def test_metadata_and_health_are_there(server: Any) -> None:
    assert server.request("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    assert server.request("GET", "/v2/health/live").status == 200
    assert server.request("GET", "/v2/health/ready").json == {"ready": True}
    assert server.request("GET", "/v2/models/sample/ready").json == {"name": "sample", "ready": True}
    metadata = server.request("GET", "/v2/models/sample").json
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 23]}]
    assert metadata == server.request("GET", "/v2/models/sample/versions/1.0").json


def test_another_model_or_version_is_not_found(server: Any, infer: Post, encoded: Any) -> None:
    assert server.request("GET", "/v2/models/other").status == 404
    assert server.request("GET", "/v2/models/sample/versions/9/ready").status == 404
    assert infer({"inputs": [tensor(encoded)]}, model="other").status == 404


def test_inference_gives_the_bits_that_scoring_gives(
    server: Any, infer: Post, encoded: Any, applicants: Callable[..., list[Row]]
) -> None:
    scored = server.score(*applicants(5)).json["results"]
    answer = infer({"id": "call-1", "inputs": [tensor(encoded)]})
    assert answer.status == 200
    assert answer.json["id"] == "call-1"
    found = outputs_of(answer.json)
    assert set(found) == {"probability", "log_odds", "contributions", "points"}
    assert found["probability"].tolist() == [result["probability"] for result in scored]
    assert found["points"].tolist() == [result["points"] for result in scored]
    assert found["contributions"].shape == (5, 23)


def test_binary_tensors_in_and_out_equal_json(infer: Post, encoded: Any) -> None:
    as_json = outputs_of(infer({"inputs": [tensor(encoded)]}).json)
    raw = encoded.astype("<f4").tobytes()
    features = {"name": "features", "datatype": "FP32", "shape": [5, 23], "parameters": {"binary_data_size": len(raw)}}
    request = {
        "inputs": [features],
        "outputs": [
            {"name": "points", "parameters": {"binary_data": True}},
            {"name": "log_odds"},
            {"name": "contributions", "parameters": {"binary_data": True}},
        ],
    }
    answer = infer(request, raw)
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    head, binary = json.loads(answer.body[:size]), answer.body[size:]
    points, log_odds, contributions = head["outputs"]
    assert log_odds["data"] == as_json["log_odds"].tolist()
    assert list(struct.unpack("<5i", binary[:20])) == as_json["points"].tolist()
    assert points["parameters"] == {"binary_data_size": 20}
    assert np.array_equal(np.frombuffer(binary[20:], "<f4").reshape(5, 23), as_json["contributions"].astype(np.float32))
    assert contributions["shape"] == [5, 23]


def test_all_outputs_come_as_bytes_when_the_request_says_so(infer: Post, encoded: Any) -> None:
    answer = infer({"inputs": [tensor(encoded)], "parameters": {"binary_data_output": True}})
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [20, 20, 460, 20]


@pytest.mark.parametrize(
    ("change", "status", "path"),
    [
        ({"shape": [5, 22]}, 422, "/inputs/0/shape"),
        ({"shape": [-5, 23]}, 422, "/inputs/0/shape"),
        ({"shape": [4, 23]}, 422, "/inputs/0/data"),
        ({"shape": [501, 23]}, 413, None),
        ({"datatype": "BYTES"}, 422, "/inputs/0/datatype"),
        ({"name": "x"}, 422, "/inputs"),
        ({"data": "text"}, 422, "/inputs/0/data"),
        ({"data": [[1], [2, 3]]}, 422, "/inputs/0/data"),
        ({"data": [1e39] * 115}, 422, "/inputs/0/data/0"),
        ({"data": [True] * 115}, 422, "/inputs/0/data"),
        ({"data": []}, 422, "/inputs/0/data"),
        ({"data": None}, 422, "/inputs/0/data"),
        ({"shape": [2**62, 2**62]}, 422, "/inputs/0/shape"),
        ({"shape": [2**63, 23]}, 413, None),
        ({"shape": [115]}, 422, "/inputs/0/shape"),
        ({"shape": [5, 23, 1]}, 422, "/inputs/0/shape"),
        ({"shape": []}, 422, "/inputs/0/shape"),
        ({"shape": ["5", "23"]}, 422, ""),
        ({"datatype": "BOOL"}, 422, "/inputs/0/datatype"),
        ({"parameters": {"binary_data_size": -460}}, 422, "/inputs/0/parameters/binary_data_size"),
        ({"parameters": {"binary_data_size": 1e400}}, 400, None),
        ({"parameters": {"binary_data_size": 460}}, 422, "/inputs/0/parameters/binary_data_size"),
        ({"parameters": {"binary_data_size": "x"}}, 422, "/inputs/0/parameters/binary_data_size"),
    ],
)
def test_a_request_that_does_not_fit_is_told_where(
    infer: Post, encoded: Any, change: Row, status: int, path: str | None
) -> None:
    answer = infer({"inputs": [tensor(encoded) | change]})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    if path is not None:
        assert answer.json["errors"][0]["path"] == path


def test_rows_come_flat_or_one_by_one_and_in_any_numeric_type(infer: Post, encoded: Any) -> None:
    whole = np.where(np.isnan(encoded), 0, np.floor(encoded))
    whole[:, 0] = 100
    flat = infer({"inputs": [tensor(whole)]}).json["outputs"]
    by_row = [[float(value) for value in row] for row in whole]
    assert infer({"inputs": [tensor(whole, data=by_row)]}).json["outputs"] == flat
    for datatype, kind in (("FP64", "<f8"), ("INT64", "<i8"), ("INT32", "<i4")):
        raw = whole.astype(kind).tobytes()
        features = {"name": "features", "datatype": datatype, "shape": [5, 23]}
        answer = infer({"inputs": [features | {"parameters": {"binary_data_size": len(raw)}}]}, raw)
        assert answer.json["outputs"] == flat


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [(0, 1_000_001.0, "range"), (0, None, "missing"), (1, 30.5, "type"), (4, 3.0, "category"), (6, 1.0, "category")],
)
def test_a_row_outside_the_contract_is_refused_here_too(
    infer: Post, encoded: Any, column: int, value: float | None, kind: str
) -> None:
    features = tensor(encoded)
    features["data"][2 * 23 + column] = value
    answer = infer({"inputs": [features]})
    assert answer.status == 422
    (error,) = answer.json["errors"]
    assert (error["path"], error["kind"]) == (f"/inputs/0/data/{2 * 23 + column}", kind)


def test_a_value_on_its_bound_may_have_been_rounded_to_float32(infer: Post, encoded: Any) -> None:
    at_the_edge = encoded.copy()
    at_the_edge[:, 0] = 1_000_000
    assert infer({"inputs": [tensor(at_the_edge)]}).status == 200


def test_what_is_scored_by_tensor_is_logged_and_counted_like_any_other(
    start: Callable[..., Any], bundle: Path, encoded: Any, tmp_path: Path
) -> None:
    server = start(bundle, "--scoring-log", tmp_path.as_uri(), "--drain-seconds", "0")
    server.wait_ready()

    def infer(document: Any, **headers: str) -> Any:
        body = json.dumps(document).encode()
        return server.request("POST", "/v2/models/sample/infer", body, content_type="application/json", **headers)

    assert infer({"id": "call-7", "inputs": [tensor(encoded)]}).headers["x-request-id"] == "call-7"
    assert infer({"id": "not loggable", "inputs": [tensor(encoded)]}, x_request_id="mine").status == 200
    bad = infer({"inputs": [tensor(encoded, shape=[1, 1])]}, x_request_id="bad")
    assert (bad.status, bad.headers["x-request-id"], bad.json["request_id"]) == (422, "bad", "bad")
    text = server.request("GET", "/metrics").body.decode()
    assert "creditmodel_rows_total 10.0" in text
    assert 'creditmodel_requests_total{code="200",route="/v2/models/{name}/infer"} 2.0' in text
    assert server.stop() == 0
    rows = ds.dataset(tmp_path, partitioning="hive").to_table().to_pylist()
    assert [row["_request_id"] for row in rows].count("call-7") == 5
    assert [row["_request_id"] for row in rows].count("mine") == 5
    (error,) = (row["_error"] for row in rows if row["_request_id"] == "bad")
    assert error.startswith("422: /inputs/0/shape")


def test_every_error_has_the_form_of_the_protocol_and_of_problem_details(
    server: Any, infer: Post, encoded: Any
) -> None:
    path = "/v2/models/sample/infer"
    compressed = server.request("POST", path, b"{}", content_type="application/json", content_encoding="gzip")
    wrong = infer({"inputs": [tensor(encoded, datatype="BYTES")]})
    large = server.request("POST", path, b" " * 1_000_001, content_type="application/json")
    other = server.request("GET", "/v2/models/other")
    for answer, status in ((compressed, 415), (wrong, 422), (large, 413), (other, 404)):
        assert answer.status == answer.json["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["error"].startswith(f"{status}: ")


@pytest.mark.parametrize(
    "document",
    [
        '{"inputs": [%s], "inputs": [%s]}',
        '{"id": "a", "id": "b", "inputs": [%s]}',
        '{"parameters": {"x": 1, "x": 2}, "inputs": [%s]}',
    ],
)
def test_a_repeated_key_is_refused(server: Any, encoded: Any, document: str) -> None:
    features = json.dumps(tensor(encoded))
    body = document.replace("%s", features).encode()
    answer = server.request("POST", "/v2/models/sample/infer", body, content_type="application/json")
    assert (answer.status, answer.json["errors"][0]["kind"]) == (422, "duplicate")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b"\xef\xbb\xbf{}", b"[" * 500_000, b'{"inputs": [' + b'{"parameters":' * 50_000,
     b'{"inputs": []}', b'{"inputs": [{}]}', b'{"inputs": null}', b'{"id": 1, "inputs": []}',
     b'{"inputs": [], "parameters": {"x": NaN}}', b'{"inputs": [], "outputs": 1}'],
)  # fmt: skip
def test_what_is_no_inference_request_is_told_so(server: Any, body: bytes) -> None:
    answer = server.request("POST", "/v2/models/sample/infer", body, content_type="application/json")
    assert answer.status in (400, 422)
    assert answer.json["error"]


def test_nan_in_json_is_told_how_a_missing_value_is_written(infer: Post, encoded: Any) -> None:
    answer = infer({"inputs": [tensor(encoded, data=[float("nan")] * encoded.size)]})  # as tritonclient writes it
    assert answer.status == 400
    assert answer.json["detail"] == "The body is not JSON: NaN is no JSON number; a missing value is null."
    answer = infer({"inputs": [tensor(encoded, data=[float("nan")] * 20_000)]})
    assert answer.json["detail"].endswith("; a missing value is null.")


def test_an_unknown_output_and_a_bad_header_length_are_refused(server: Any, infer: Post, encoded: Any) -> None:
    answer = infer({"inputs": [tensor(encoded)], "outputs": [{"name": "odds"}]})
    assert (answer.status, answer.json["errors"][0]["path"]) == (422, "/outputs/0/name")
    for length in ("99999", "-1", "x", "1e3"):
        answer = server.request("POST", "/v2/models/sample/infer", b"{}", inference_header_content_length=length)
        assert answer.status == 400
