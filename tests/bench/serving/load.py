"""Load on one URL for a while: wrk where it is installed, else a small asyncio client.

`python load.py URL BODY CONNECTIONS SECONDS` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local file = io.open("BODY", "rb")
wrk.body = file:read("*a")
file:close()
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f, "p999_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
"""


def with_wrk(url: str, body: Path, connections: int, seconds: float) -> dict[str, float]:
    """wrk with one thread."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.replace("BODY", str(body)))
        script.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "60s",
            "-s",
            script.name,
        ]
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 90, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class _Client(asyncio.Protocol):
    """Sends a request, waits for its answer, and sends the next."""

    def __init__(self, request: bytes, durations: list[float]) -> None:
        self._request, self._durations = request, durations
        self._received = bytearray()
        self._size = 0
        self._sent = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._size and (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = self._received[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            self._size = end + 4 + int(length)
        if self._size and len(self._received) >= self._size:
            self._durations.append(time.perf_counter() - self._sent)
            self._received.clear()
            self._size = 0
            self._send()


async def with_asyncio(url: str, body: Path, connections: int, seconds: float) -> dict[str, float]:
    """The same with Python: slower than a fast server, so that its figures are a lower bound."""
    address = urlsplit(url)
    content = await asyncio.to_thread(body.read_bytes)
    head = (
        f"POST {address.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    )
    request = f"{head}\r\n\r\n".encode() + content
    durations: list[float] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    clients = [
        await loop.create_connection(lambda: _Client(request, durations), address.hostname or "", address.port or 80)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - begun
    for transport, _ in clients:
        transport.abort()
    ordered = sorted(durations) or [float("inf")]

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3

    return {
        "requests": len(durations), "seconds": elapsed, "failed": 0,
        "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "p999_ms": quantile(0.999),
    }  # fmt: skip


def main() -> None:
    """Run the load that the arguments name."""
    url, body, connections, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    if shutil.which("wrk"):
        found = with_wrk(url, body, connections, seconds)
    else:
        found = asyncio.run(with_asyncio(url, body, connections, seconds))
    print(json.dumps(found | {"generator": "wrk" if shutil.which("wrk") else "asyncio"}))


if __name__ == "__main__":
    main()
