"""The job summary of one application, as GitHub's Markdown. Pure: text from objects.

Messages and diffs come from a cluster and from a file in a pull request, so none of it is trusted as markup.
"""

from __future__ import annotations

import html
import re
from typing import Any

from judge import Judgement, Outcome, condition

__all__ = ["summary"]

HEADLINES = {
    Outcome.READY: "✅ serves",
    Outcome.STALLED: "❌ was rejected",
    Outcome.WAITING: "✋ waits for an approval",
    Outcome.SUPERSEDED: "⚠️ was changed by someone else meanwhile",
    Outcome.TIMEOUT: "⏱️ did not settle in time",
    Outcome.DELETED: "❌ was deleted while it rolled out",
    Outcome.INVALID: "❌ could not be applied",
    Outcome.VALIDATED: "✅ is valid",
    Outcome.PENDING: "is rolling out",
}
MARKS = {"Passed": "✅", "Failed": "❌", "Error": "❌", "Inconclusive": "⚠️", "Waiting": "✋"}
DIFF_CHARACTERS = 60_000
"""A job summary may have 1 MiB; a CreditModel's diff has a few kB."""


def summary(name: str, judgement: Judgement, diff: str, resource: dict[str, Any] | None) -> str:
    """The whole summary. `resource` is the object as it was last seen; None when it never reached the cluster."""
    parts = [f"## CreditModel {_text(name)} {HEADLINES[judgement.outcome]}", _quote(judgement.message)]
    if resource is not None:
        parts += [_champion(resource, judgement), _gates(resource), _conditions(resource)]
    if judgement.outcome is not Outcome.INVALID:
        parts.append(_diff(diff))
    return "\n\n".join(part for part in parts if part) + "\n"


def _champion(resource: dict[str, Any], judgement: Judgement) -> str:
    active = resource.get("status", {}).get("active")
    if not active:
        return "No model serves."
    revision, digest, endpoint = (f"`{_code(active.get(key))}`" for key in ("revision", "digest", "endpoint"))
    line = f"Serving: {revision}, {digest}, at {endpoint}"
    unchanged = judgement.outcome in (Outcome.STALLED, Outcome.WAITING)
    return f"{line} (the champion, unchanged)" if unchanged else line


def _gates(resource: dict[str, Any]) -> str:
    gates = resource.get("status", {}).get("gates", [])
    if not gates:
        return ""
    rows = [_gate(gate) for gate in gates]
    return "\n".join(
        ["### Gates", "", "| gate | verdict | numbers against limits | message |", "|---|---|---|---|", *rows]
    )


def _gate(gate: dict[str, Any]) -> str:
    verdict = str(gate.get("verdict", ""))
    limited = [n for n in gate.get("numbers", []) if "limit" in n]
    numbers = "<br>".join(f"{_text(n['name'])} {_number(n['value'])} (limit {_number(n['limit'])})" for n in limited)
    cells = [
        _text(gate.get("name")),
        f"{MARKS.get(verdict, '')} {_text(verdict)}".strip(),
        numbers,
        _text(gate.get("message")),
    ]
    return f"| {' | '.join(cells)} |"


def _conditions(resource: dict[str, Any]) -> str:
    rows = [
        f"| {kind} | {_text(found.get('status'))} | {_text(found.get('reason'))} | {_text(found.get('message'))} |"
        for kind in ("Ready", "Stalled", "Available", "DriftDetected", "QualityDegraded", "RetrainingRequired")
        if (found := condition(resource, kind))
    ]
    return (
        "\n".join(["### Conditions", "", "| condition | status | reason | message |", "|---|---|---|---|", *rows])
        if rows
        else ""
    )


def _diff(diff: str) -> str:
    if not diff.strip():
        return "No difference from what the cluster had."
    shown = diff if len(diff) <= DIFF_CHARACTERS else diff[:DIFF_CHARACTERS] + "\n… cut here\n"
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"<details><summary>Difference</summary>\n\n{fence}diff\n{shown.rstrip()}\n{fence}\n\n</details>"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else _text(value)


def _quote(message: str) -> str:
    return "\n".join(f"> {_text(line)}" for line in message.splitlines() if line.strip())


def _code(value: object) -> str:
    """Text between backticks."""
    return re.sub(r"[`|\r\n]", " ", str(value))


def _text(value: object) -> str:
    """Text in a table's cell or a heading: neither markup nor a line break nor a mention."""
    plain = " ".join(str("" if value is None else value).split())
    return re.sub(r"([\\`*_\[\]|#@~])", r"\\\1", html.escape(plain, quote=False))
