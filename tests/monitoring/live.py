"""make check-monitoring: a real Prometheus scrapes the operator on a sandbox, and an alert fires.

Takes the rules and the ports from manifests/monitoring as they are; only the waiting (`for`) is shortened, so that
nobody waits for it. Then every query of every dashboard is asked of that Prometheus. Exits 0 if all of it was seen to
happen, 1 if not, 2 where Prometheus is not installed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from checks.prometheus import VARIABLES, dashboard_queries
from creditmodel_sandbox.instance import free_port
from harness.cluster import ROOT, Cluster, operator, sandbox
from harness.kubectl import Timeout, until
from harness.process import background

MONITORING = ROOT / "manifests" / "monitoring"
EXPECTED = "CreditModelGateFailed"
MODEL = {
    "apiVersion": "creditmodel.dev/v1alpha1",
    "kind": "CreditModel",
    "metadata": {"name": "loans", "namespace": "default"},
}


def main() -> int:
    if shutil.which("prometheus") is None:
        print("prometheus is not there (Debian, Ubuntu: apt install prometheus).", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="creditmodel-monitoring-")))
        ours = Cluster(stack.enter_context(sandbox("monitoring", work / "sandbox")), work)
        ours.kubectl()("apply", "-f", str(ROOT / "crds"))
        port = free_port()
        stack.enter_context(operator(ours.kubeconfig, work / "operator.log", "--metrics-port", str(port)))
        url = stack.enter_context(prometheus(work, port))
        try:
            return watch(ours, url)
        except Timeout as e:
            print(f"FAILED: {e}; {EXPECTED} is {alert(url, EXPECTED) or 'inactive'}", file=sys.stderr)
            return 1


def watch(ours: Cluster, url: str) -> int:
    """Let a gate refuse a bundle, wait for the alert, and ask every query; the return value is the exit code."""
    until(lambda: up(url), "the operator to be scraped", 60)
    refused = ours.work / "bundle"
    refused.mkdir()
    (refused / "manifest.json").write_text("{}")  # no bundle: its artifact gate says so
    ours.kubectl().apply({**MODEL, "spec": {"model": {"uri": refused.as_uri()}}})
    until(lambda: alert(url, EXPECTED).get("state") == "firing", f"{EXPECTED} to fire", 90)
    print(f"{EXPECTED} fires: {alert(url, EXPECTED)['annotations']['summary']}")
    rules = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
    sick = [rule["name"] for rule in rules if rule["health"] != "ok"]
    queries = list(dashboards())
    strange = [f"{where}: {error}" for where, query in queries if (error := refusal(url, query))]
    print(f"{len(rules)} rules evaluated, {len(queries)} queries of dashboards answered")
    for line in (*sick, *strange):
        print(f"FAILED: {line}", file=sys.stderr)
    return int(bool(sick or strange))


def dashboards() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query with Grafana's variables filled in."""
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel, query in dashboard_queries(path):
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield f"{path.stem}: {panel}", query


@contextmanager
def prometheus(work: Path, target: int) -> Iterator[str]:
    """A Prometheus that scrapes the operator at this port; yields its URL."""
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["for"] = "1s"
    (work / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "operator", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (work / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = ["prometheus", f"--config.file={work / 'prometheus.yaml'}", f"--storage.tsdb.path={work / 'data'}"]
    with background([*command, f"--web.listen-address=127.0.0.1:{port}"], work / "prometheus.log"):
        url = f"http://127.0.0.1:{port}/api/v1/"
        until(lambda: answers(url), "Prometheus to answer", 60)
        yield url


def ask(url: str, what: str, **parameters: str) -> dict[str, Any]:
    """The data of one call of Prometheus' API."""
    with urllib.request.urlopen(f"{url}{what}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:  # noqa: S310 - loopback
        found: dict[str, Any] = json.load(answer)["data"]
    return found


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "status/buildinfo"))
    except OSError:
        return False


def up(url: str) -> bool:
    """Whether the operator was scraped, and tells of itself."""
    return bool(ask(url, "query", query="creditmodel_operator_build_info")["result"])


def alert(url: str, name: str) -> dict[str, Any]:
    """The alert of this name; empty where it is neither pending nor firing."""
    return next((a for a in ask(url, "alerts")["alerts"] if a["labels"]["alertname"] == name), {})


def refusal(url: str, query: str) -> str:
    """Why Prometheus does not answer a query; empty when it does."""
    try:
        ask(url, "query", query=query)
    except urllib.error.HTTPError as e:
        return str(json.load(e)["error"])
    return ""


if __name__ == "__main__":
    sys.exit(main())
