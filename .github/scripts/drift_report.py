"""What every CreditModel of a cluster says of drift: a job summary, and the whole of it as JSON.

Usage: drift_report.py OUT.json. Reads with kubectl; exit code 0 whatever the models say, 2 where they cannot be read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "rows", "table"]

CONDITIONS = ("DriftDetected", "QualityDegraded", "RetrainingRequired")


def main(out: Path, summary: str | None) -> int:
    """Write OUT and the summary; the return value is the exit code."""
    command = ["kubectl", "get", "creditmodels.creditmodel.dev", "--all-namespaces", "-o", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as e:
        print(f"::error::kubectl cannot be run: {e}")
        return 2
    if done.returncode:
        print(f"::error::kubectl: {done.stderr.strip().splitlines()[-1:]}")
        return 2
    found = rows(json.loads(done.stdout)["items"])
    out.write_text(json.dumps(found, indent=2) + "\n")
    text = table(found)
    print(text)
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    return 0


def rows(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record a model, those that need retraining first."""
    found = [_row(model) for model in models]
    return sorted(found, key=lambda r: (r["RetrainingRequired"]["status"] != "True", r["namespace"], r["name"]))


def _row(model: dict[str, Any]) -> dict[str, Any]:
    status = model.get("status", {})
    by_type = {c["type"]: c for c in status.get("conditions", [])}
    conditions = {
        kind: {
            key: by_type.get(kind, {}).get(key, default) for key, default in (("status", "Unknown"), ("message", ""))
        }
        for kind in CONDITIONS
    }
    names = {key: model["metadata"][key] for key in ("namespace", "name")}
    drift = {"revision": (status.get("active") or {}).get("revision"), "drift": status.get("drift")}
    return {**names, **drift, **conditions}


def table(found: list[dict[str, Any]]) -> str:
    """The job summary, in GitHub's Markdown."""
    if not found:
        return "## Drift\n\nThe cluster has no CreditModel.\n"
    head = ["## Drift", "", "| model | serves | PSI max | drift | quality | retraining |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(_line(row) for row in found)]) + "\n"


def _line(row: dict[str, Any]) -> str:
    psi = (row["drift"] or {}).get("psiMax")
    shown = f"{psi:.3g}" if isinstance(psi, int | float) else ""
    retraining = row["RetrainingRequired"]
    cells = [f"{row['namespace']}/{row['name']}", row["revision"] or "nothing", shown]
    cells += [row["DriftDetected"]["status"], row["QualityDegraded"]["status"]]
    cells.append(
        f"{retraining['status']}: {retraining['message']}" if retraining["status"] == "True" else retraining["status"]
    )
    return f"| {' | '.join(_text(cell) for cell in cells)} |"


def _text(value: str) -> str:
    return re.sub(r"([\\`*_\[\]|#@~<>])", r"\\\1", " ".join(value.split()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: drift_report.py OUT.json", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), os.environ.get("GITHUB_STEP_SUMMARY")))
