"""Ray Serve with one replica; its many processes share the servers' core here: `serve.py BUNDLE`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import ray
from model import free_port
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, logging_config={"enable_access_log": False})
class Scoring:
    """The graph as a deployment."""

    def __init__(self, bundle: str) -> None:
        from model import Model

        self.graph = Model(bundle)

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        return {"probabilities": self.graph.probabilities((await request.json())["rows"])}


port = free_port()
ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1",
    runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
)  # fmt: skip
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(Scoring.bind(str(Path(sys.argv[1]).resolve())))
print(f"http://127.0.0.1:{port}", flush=True)
while True:
    time.sleep(60)
