"""KServe's own REST client, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput

from conftest import Served


def use(action: Callable[[InferenceRESTClient], Awaitable[Any]]) -> Any:
    """Do something with a client of protocol v2."""

    async def run() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=10)) as client:
            return await action(client)

    return asyncio.run(run())


def infer(served: Served, features: np.ndarray, *, binary: bool, **more: Any) -> InferResponse:
    tensor = InferInput("features", list(features.shape), "FP32")
    tensor.set_data_from_numpy(features, binary_data=binary)
    request = InferRequest("sample", [tensor], **more)
    return use(lambda client: client.infer(served.url, request, "sample"))


def check(answer: InferResponse, served: Served, rows: Any = slice(None)) -> None:
    found = {output.name: output.as_numpy() for output in answer.outputs}
    assert np.array_equal(found["probability"], served.column("probability").astype(np.float32)[rows])
    assert np.array_equal(found["points"], served.column("points")[rows])
    assert found["contributions"].shape == served.features[rows].shape
    assert answer.model_name == "sample"
    assert answer.parameters["digest"].startswith("sha256:")


def test_health(served: Served) -> None:
    assert use(lambda client: client.is_server_live(served.url))
    assert use(lambda client: client.is_server_ready(served.url))
    assert use(lambda client: client.is_model_ready(served.url, "sample"))
    assert not use(lambda client: client.is_model_ready(served.url, "other"))


@pytest.mark.parametrize("binary_out", [True, False])
def test_binary_tensors_go_in_and_any_come_out(served: Served, binary_out: bool) -> None:
    answer = infer(
        served, served.features, binary=True, request_id="k-1", parameters={"binary_data_output": binary_out}
    )
    check(answer, served)
    assert answer.id == "k-1"


def test_named_outputs_come_in_the_form_that_was_asked_for(served: Served) -> None:
    outputs = [RequestedOutput("points", {"binary_data": True}), RequestedOutput("log_odds", {"binary_data": False})]
    answer = infer(served, served.features, binary=True, request_outputs=outputs)
    assert [output.name for output in answer.outputs] == ["points", "log_odds"]
    assert np.array_equal(answer.outputs[0].as_numpy(), served.column("points"))


def test_json_tensors_go_in_and_come_out(served: Served) -> None:
    whole = ~np.isnan(served.features).any(axis=1)
    check(infer(served, served.features[whole], binary=False), served, whole)


def test_an_error_carries_what_the_server_says(served: Served) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="422") as caught:
        infer(served, served.features[:, :3], binary=True)
    assert caught.value.response.json()["error"] == "422: /inputs/0/shape does not fit the model"
