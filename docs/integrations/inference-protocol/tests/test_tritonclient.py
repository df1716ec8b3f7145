"""Triton's own HTTP clients, blocking and asynchronous, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from conftest import ROWS, Served

OUTPUTS = ("probability", "log_odds", "contributions", "points")


@pytest.fixture
def client(served: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(urlsplit(served.url).netloc, concurrency=4) as made:
        yield made


def tensor(features: np.ndarray, *, binary: bool, datatype: str = "FP32") -> triton.InferInput:
    made = triton.InferInput("features", list(features.shape), datatype)
    made.set_data_from_numpy(features, binary_data=binary)
    return made


def wanted(*, binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]


def check(answer: triton.InferResult, served: Served) -> None:
    assert np.array_equal(answer.as_numpy("probability"), served.column("probability").astype(np.float32))
    assert np.array_equal(answer.as_numpy("log_odds"), served.column("log_odds").astype(np.float32))
    assert np.array_equal(answer.as_numpy("points"), served.column("points"))
    assert answer.as_numpy("points").dtype == np.int32
    assert answer.as_numpy("contributions").shape == served.features.shape


def test_health_and_metadata(client: triton.InferenceServerClient, served: Served) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sample")
    assert client.is_model_ready("sample", "1.0")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("sample", "1.0")
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, served.features.shape[1]]}]
    assert [output["name"] for output in metadata["outputs"]] == list(OUTPUTS)


@pytest.mark.parametrize("binary_out", [True, False])
def test_binary_tensors_go_in_and_any_come_out(
    client: triton.InferenceServerClient, served: Served, binary_out: bool
) -> None:
    inputs = [tensor(served.features, binary=True)]
    answer = client.infer("sample", inputs, outputs=wanted(binary=binary_out), request_id="call-1")
    check(answer, served)
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("call-1", "sample", "1.0")
    assert ("binary_data_size" in answer.get_output("points").get("parameters", {})) is binary_out


def test_without_named_outputs_all_come_as_bytes(client: triton.InferenceServerClient, served: Served) -> None:
    check(client.infer("sample", [tensor(served.features, binary=True)], model_version="1.0"), served)


@pytest.mark.parametrize("binary_out", [True, False])
def test_json_tensors_go_in(client: triton.InferenceServerClient, served: Served, binary_out: bool) -> None:
    # JSON has no NaN: a row without gaps.
    features = served.features.copy()
    whole = ~np.isnan(features).any(axis=1)
    answer = client.infer("sample", [tensor(features[whole], binary=False)], outputs=wanted(binary=binary_out))
    assert np.array_equal(answer.as_numpy("points"), served.column("points")[whole])


def test_double_precision_goes_in(client: triton.InferenceServerClient, served: Served) -> None:
    check(client.infer("sample", [tensor(served.features.astype(np.float64), binary=True, datatype="FP64")]), served)


def test_calls_in_parallel_get_their_own_rows(client: triton.InferenceServerClient, served: Served) -> None:
    calls = [client.async_infer("sample", [tensor(served.features[i : i + 1], binary=True)]) for i in range(ROWS)]
    points = [int(call.get_result().as_numpy("points")[0]) for call in calls]
    assert points == served.column("points").tolist()


def test_an_error_says_what_the_server_says(client: triton.InferenceServerClient, served: Served) -> None:
    with pytest.raises(InferenceServerException, match=r"422: /inputs/0/shape does not fit the model") as caught:
        client.infer("sample", [tensor(served.features[:, :3], binary=True)])
    assert caught.value.status() == "422"
    with pytest.raises(InferenceServerException, match="The model served here is sample"):
        client.infer("other", [tensor(served.features, binary=True)])
    with pytest.raises(InferenceServerException, match="send the body uncompressed"):
        client.infer("sample", [tensor(served.features, binary=True)], request_compression_algorithm="gzip")
    with pytest.raises(InferenceServerException, match="There is no /v2/repository/index"):
        client.get_model_repository_index()


def test_an_answer_may_be_asked_for_compressed(client: triton.InferenceServerClient, served: Served) -> None:
    inputs = [tensor(served.features, binary=True)]
    check(client.infer("sample", inputs, response_compression_algorithm="gzip"), served)


def test_the_asynchronous_client_gets_the_same(served: Served) -> None:
    import asyncio

    async def call() -> triton.InferResult:
        async with triton_aio.InferenceServerClient(urlsplit(served.url).netloc) as client:
            assert await client.is_model_ready("sample")
            return await client.infer("sample", [tensor(served.features, binary=True)], outputs=wanted(binary=True))

    check(asyncio.run(call()), served)
