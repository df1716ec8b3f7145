"""What an operator of the server can set. Defaults suit a pod of one core."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Limits", "LogSettings", "Settings"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take. Beyond bytes and rows: 413. Beyond in-flight: 429. Beyond seconds: 408."""

    body_bytes: int = 8 * 1024 * 1024
    rows: int = 10_000
    in_flight: int = 512
    request_seconds: float = 10.0
    keep_alive_seconds: float = 30.0
    connection_age_seconds: float = 10.0

    @property
    def buffered_bytes(self) -> int:
        """Bodies held at once, over all clients."""
        return max(64 * 1024 * 1024, self.body_bytes)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The scoring log: where, how often a part is closed, and the share of requests that it holds."""

    uri: str
    seconds: float = 10.0
    rows: int = 32_768
    sample_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of a server's configuration."""

    bundle: str
    digest: str | None = None
    revision: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    limits: Limits = Limits()
    scoring_log: LogSettings | None = None
    drain_seconds: float = 5.0
    access_log: bool = False
    api_keys_file: Path | None = None
    termination_log: Path | None = None
    work_directory: Path | None = None
