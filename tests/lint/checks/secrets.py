"""Secrets in the repository: known forms of tokens and keys everywhere, passwords and random strings outside of code.

There is no baseline. A line that only looks like a secret ends with the comment `pragma: allowlist secret`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import get_plugins, transient_settings

from checks.common import Outcome, files

__all__ = ["secrets"]

TOKENS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "JwtTokenDetector",
    "NpmDetector",
    "PrivateKeyDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TwilioKeyDetector",
)
GUESSES = ("BasicAuthDetector", "KeywordDetector", "Base64HighEntropyString", "HexHighEntropyString")
"""Not in Python, where ruff looks for passwords (S105 to S107), and not in tests, which are full of such strings."""
HARMLESS = (
    r"(?i)sha256",
    r"uses: \S+@[0-9a-f]{40} # v",
    r"id-token: [\"']?write",
    r"retryToken: ",
    r"secretKeyRef",
    r"automountServiceAccountToken",
    r"bcdfghjklmnpqrstvwxz2456789",
)
"""Digests and commits, as random as a key; fields that only have such a name; the letters of Kubernetes' own names."""
BINARY = (".parquet", ".onnx", ".pt", ".png")


def secrets(root: Path) -> Outcome:
    """Every line that looks like a secret."""
    everything = [path for path in files(root, "*") if path.suffix not in BINARY]
    code = [path for path in everything if path.suffix == ".py" or "tests" in path.relative_to(root).parts]
    guessed = _scan(root, sorted({*everything} - {*code}), TOKENS + GUESSES)
    return Outcome((*guessed, *_scan(root, _suspicious(code), TOKENS)))


def _suspicious(paths: list[Path]) -> list[Path]:
    """The files that any form of a token occurs in at all: scanning line by line takes a hundred times as long."""
    with transient_settings({"plugins_used": [{"name": name} for name in TOKENS]}):
        forms = [form for plugin in get_plugins() for form in plugin.denylist]
    return [path for path in paths if any(form.search(path.read_text(errors="replace")) for form in forms)]


def _scan(root: Path, paths: list[Path], detectors: tuple[str, ...]) -> Iterator[str]:
    settings = {
        "plugins_used": [{"name": name} for name in detectors],
        "filters_used": [
            {"path": "detect_secrets.filters.allowlist.is_line_allowlisted"},
            {"path": "detect_secrets.filters.heuristic.is_indirect_reference"},
            {"path": "detect_secrets.filters.heuristic.is_templated_secret"},
            {"path": "detect_secrets.filters.regex.should_exclude_line", "pattern": list(HARMLESS)},
        ],
    }
    with transient_settings(settings):
        collection = SecretsCollection()
        for path in paths:
            collection.scan_file(str(path))
    for name, secret in collection:
        yield f"{Path(name).relative_to(root)}:{secret.line_number}: looks like a secret ({secret.type})"
