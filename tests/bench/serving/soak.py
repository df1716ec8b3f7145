"""A million requests: is any of them failed, does memory grow, is every row in the scoring log?

The last line is one JSON object; the exit code is 1 where one of the answers is the wrong one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.bench.serving.run import Subject, bodies, measure, rss_mb, running, serve_command

HERE = Path(__file__).parent
CONNECTIONS = 32
SETTLED = 100_000
"""Requests after which everything that grows once has grown."""

MAX_GROWTH_MB = 16.0
WINDOW_SECONDS = 2.0


def logged_rows(log: Path) -> int:
    """Rows in all parts of a scoring log."""
    import pyarrow.dataset as ds

    return int(ds.dataset(log, partitioning="hive").count_rows()) if log.exists() else 0


def dropped_rows(url: str) -> int:
    """Rows that the server says it dropped."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a loopback address of our own
        text = answer.read().decode()
    found = re.search(r"^creditmodel_scoring_log_dropped_rows_total (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def soak(bundle: Path, directory: Path, total: int) -> dict[str, Any]:
    """Send the requests and tell what was seen."""
    log = directory / "log"
    server = Subject("creditmodel-serve")
    body = bodies(bundle, directory)[1]
    done, windows = 0, 0
    memory: list[tuple[int, float]] = []
    with running(server, serve_command(bundle, log), "/v1/score", "/healthz/ready"):
        while done < total:
            measure(server, "soak", body, CONNECTIONS, WINDOW_SECONDS)
            done += round(server.figures["soak"][-1]["requests"])
            windows += 1
            memory.append((done, rss_mb(server.pid)))
            if sys.stderr.isatty():
                print(f"\r{done:>9} requests, {memory[-1][1]:.0f} MB", end="", file=sys.stderr)
        dropped = dropped_rows(server.url.replace("/v1/score", "/metrics"))
    settled = next(megabytes for requests, megabytes in memory if requests >= min(SETTLED, total))
    return {
        "requests": done,
        "failed": 0,  # `measure` raises on the first one
        "rps": round(server.median("soak", "rps")),
        "rss_mb_100k": round(settled, 1),
        "rss_mb_end": round(memory[-1][1], 1),
        "rss_mb_max": round(max(megabytes for _, megabytes in memory), 1),
        "logged_rows": logged_rows(log),
        "dropped_rows": dropped,
        # wrk is cut off with a request under way on each connection: answered and logged, but not counted by it.
        "uncounted_rows_at_most": windows * CONNECTIONS,
    }


def faults(found: dict[str, Any]) -> list[str]:
    """What is wrong with these figures."""
    wrong = []
    growth = found["rss_mb_end"] - found["rss_mb_100k"]
    if growth > MAX_GROWTH_MB:
        wrong.append(f"memory grew by {growth:.1f} MB after the first {SETTLED} requests")
    surplus = found["logged_rows"] + found["dropped_rows"] - found["requests"]
    if not 0 <= surplus <= found["uncounted_rows_at_most"]:
        wrong.append(f"the scoring log and what it dropped differ from the requests by {surplus} rows")
    return wrong


def main() -> int:
    """Run the soak; 0 when nothing failed, grew or was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a bundle's directory (default: the sample bundle)")
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        bundle = arguments.bundle or directory / "bundle"
        if arguments.bundle is None:
            subprocess.run([sys.executable, str(HERE / "sample_bundle.py"), str(bundle)], check=True, timeout=120)
        found = soak(bundle, directory, arguments.requests)
    wrong = faults(found)
    print()
    for fault in wrong:
        print(fault)
    print(json.dumps(found))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
