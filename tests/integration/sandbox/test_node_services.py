"""A Service's address on a node of the sandbox: who answers there, and that nobody is cut off when pods come and go."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

SERVER = (
    "import http.server, os, signal, sys, threading, time\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def do_GET(self):\n"
    "        body = os.environ['HOSTNAME'].encode()\n"
    "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
    "        if stopping.is_set(): self.send_header('Connection', 'close')\n"
    "        self.end_headers(); self.wfile.write(body)\n"
    "    def log_message(self, *a): pass\n"
    "class S(http.server.ThreadingHTTPServer):\n"
    "    request_queue_size = 128\n"
    "    block_on_close = True\n"
    "    daemon_threads = False\n"
    "stopping = threading.Event()\n"
    "server = S((sys.argv[1], 8080), H)\n"
    "def stop(*_):\n"
    "    stopping.set()\n"
    "    threading.Timer(0.3, server.shutdown).start()\n"
    "signal.signal(signal.SIGTERM, stop)\n"
    "server.serve_forever(0.05)\n"
    "server.server_close()\n"
)


def server(pods: Any, name: str, **more: Any) -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    container = {
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": probe,
        **more,
    }
    pods.create(name, "python", "-c", SERVER, "$(POD_IP)", labels={"app": "web"}, container=container)


def service(pods: Any, **spec: Any) -> tuple[str, int]:
    """The address of a Service over the pods labelled app=web."""
    spec = {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": "http"}], **spec}
    created = pods.create_object("services", "Service", "web", spec=spec)
    return created["spec"]["clusterIP"], 8080


def get(address: tuple[str, int], seconds: float = 60) -> str:
    """Who answers, waiting until somebody listens."""
    deadline = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection(*address, timeout=30)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        finally:
            connection.close()


def refused(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) != 0


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_service_answers_with_each_of_its_ready_pods_and_with_none_else(pods: Any) -> None:
    address = service(pods)
    assert refused(address)
    server(pods, "a")
    server(pods, "b")
    server(pods, "never-ready", readinessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1})
    for name in ("a", "b"):
        pods.wait_ready(name)
    wait_for(lambda: {get(address) for _ in range(4)} == {"a", "b"})
    assert sorted(get(address) for _ in range(10)) == ["a"] * 5 + ["b"] * 5


def test_moving_the_selector_moves_new_connections_and_keeps_open_ones(pods: Any) -> None:
    address = service(pods)
    server(pods, "a")
    pods.create("c", "python", "-c", SERVER, "$(POD_IP)", labels={"app": "new"}, container={
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    })  # fmt: skip
    pods.wait_ready("a")
    pods.wait_ready("c")
    assert get(address) == "a"
    kept = http.client.HTTPConnection(*address, timeout=30)
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"a"
    pods.api.patch(f"{pods.path}/services/web", {"spec": {"selector": {"app": "new"}}})
    wait_for(lambda: get(address) == "c")
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"a"
    kept.close()


def test_a_service_without_a_pod_left_refuses(pods: Any) -> None:
    address = service(pods)
    server(pods, "a")
    pods.wait_ready("a")
    assert get(address) == "a"
    pods.delete("a")
    pods.wait_gone("a")
    wait_for(lambda: refused(address))
    pods.api.delete(f"{pods.path}/services/web")


def test_publishing_pods_that_are_not_ready_reaches_them(pods: Any) -> None:
    address = service(pods, publishNotReadyAddresses=True)
    server(pods, "a", readinessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1})
    assert get(address) == "a"


class Load(threading.Thread):
    """Asks on kept-alive connections; reconnects only when the server announced the end of one."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.address, self.stop, self.answers, self.failures = address, threading.Event(), set[str](), list[str]()

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        while not self.stop.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                self.answers.add(response.read().decode())
            except (OSError, http.client.HTTPException) as e:
                self.failures.append(repr(e))
                connection.close()
            time.sleep(0.002)
        connection.close()


@pytest.mark.parametrize("clients", [4])
def test_no_request_fails_while_pods_are_replaced(pods: Any, clients: int) -> None:
    address = service(pods)
    server(pods, "v0")
    pods.wait_ready("v0")
    get(address)
    load = [Load(address) for _ in range(clients)]
    for thread in load:
        thread.start()
    for n in range(2):
        server(pods, f"v{n + 1}")
        pods.wait_ready(f"v{n + 1}")
        pods.delete(f"v{n}")
        pods.wait_gone(f"v{n}")
    wait_for(lambda: all("v2" in thread.answers for thread in load))
    for thread in load:
        thread.stop.set()
        thread.join()
    assert [thread.failures for thread in load] == [[]] * clients
    with contextlib.suppress(AssertionError):
        pods.delete("v2")


def test_a_service_whose_pods_are_all_on_another_node_is_left_to_that_node(pods: Any) -> None:
    """Of two nodes on one machine only one can have an address, and what goes through it ends with that node."""
    pods.create("theirs", "true", labels={"app": "theirs"}, nodeName="elsewhere")
    theirs = pods.create_object(
        "services", "Service", "theirs", spec={"selector": {"app": "theirs"}, "ports": [{"port": 8080}]}
    )
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [ready]}
    pods.api.patch(f"{pods.path}/pods/theirs/status", {"status": status})
    ours = service(pods)
    server(pods, "ours")
    assert get(ours) == "ours"  # which the node heard of later
    assert refused((theirs["spec"]["clusterIP"], 8080))
