"""creditmodel-serve: serve one bundle over REST."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from creditmodel_inference.settings import Limits, LogSettings, Settings

__all__ = ["main", "parse"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 drained, 2 bad input, 3 bundle refused."""
    arguments = _parser().parse_args(argv)
    from creditmodel_inference import logs
    from creditmodel_inference.server import run

    logs.configure(arguments.log_level, arguments.log_format)
    return run(_settings(arguments))


def parse(argv: Sequence[str]) -> Settings:
    """The settings that a command line means. Exits with code 2 on a bad one."""
    return _settings(_parser().parse_args(argv))


def _settings(arguments: argparse.Namespace) -> Settings:
    log = None
    if arguments.scoring_log is not None:
        log = LogSettings(
            arguments.scoring_log,
            arguments.scoring_log_seconds,
            arguments.scoring_log_rows,
            arguments.scoring_log_sample_rate,
        )
    return Settings(
        bundle=arguments.bundle,
        digest=arguments.digest,
        revision=arguments.revision,
        host=arguments.host,
        port=arguments.port,
        limits=Limits(
            body_bytes=arguments.max_body_bytes,
            rows=arguments.max_rows,
            in_flight=arguments.max_in_flight,
            request_seconds=arguments.request_timeout,
            keep_alive_seconds=arguments.keep_alive,
            connection_age_seconds=arguments.max_connection_age,
        ),
        scoring_log=log,
        drain_seconds=arguments.drain_seconds,
        access_log=arguments.access_log,
        api_keys_file=arguments.api_keys_file,
        termination_log=arguments.termination_log,
        work_directory=arguments.work_directory,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="creditmodel-serve",
        description="Serve a credit-scoring bundle over REST. Prints its address; /healthz/ready tells when it is up.",
        epilog="Exit codes: 0 after a drain, 2 bad input, 3 the bundle was refused.",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--bundle", required=True, metavar="URI", help="file://, http(s)://, s3:// or gs://")
    model.add_argument("--digest", help="sha256:…; anything else at the URI is refused")
    model.add_argument("--revision", help="name of this revision in answers and logs (default: name and digest)")
    model.add_argument("--work-directory", type=Path, metavar="DIR", help="for the fetched bundle (default: TMPDIR)")
    model.add_argument("--termination-log", type=Path, metavar="PATH", help="file for the reason of a refusal")
    _add_server_arguments(parser)
    _add_log_arguments(parser)
    return parser


def _add_server_arguments(parser: argparse.ArgumentParser) -> None:
    limits = Limits()
    server = parser.add_argument_group("server")
    server.add_argument(
        "--api-keys-file",
        type=Path,
        metavar="PATH",
        help="ask for API keys: a line NAME SHA256 [REQUESTS-PER-SECOND] each",
    )
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    server.add_argument("--port", type=_whole(0, 65_535), default=8080, help="0: a free one (default: %(default)s)")
    for flag, default, text in (
        ("--max-body-bytes", limits.body_bytes, "longer bodies get 413"),
        ("--max-rows", limits.rows, "requests of more applicants get 413"),
        ("--max-in-flight", limits.in_flight, "requests beyond get 429"),
    ):
        server.add_argument(flag, type=_whole(1, 2**31), default=default, help=f"{text} (default: %(default)s)")
    for flag, seconds, text in (
        ("--request-timeout", limits.request_seconds, "for a request to arrive (then 408), for a client to read on"),
        ("--keep-alive", limits.keep_alive_seconds, "that an idle connection is kept"),
        ("--max-connection-age", limits.connection_age_seconds, "after which a client must connect again"),
        ("--drain-seconds", 5.0, "of answering on after SIGTERM, while load balancers notice"),
    ):
        server.add_argument(
            flag, type=_seconds, default=seconds, metavar="SECONDS", help=f"{text} (default: %(default)g)"
        )


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    logs = parser.add_argument_group("logs")
    logs.add_argument("--scoring-log", metavar="URI", help="directory for Parquet parts of every decision")
    logs.add_argument("--scoring-log-seconds", type=_positive, default=10.0, help="between parts (default: 10)")
    logs.add_argument("--scoring-log-rows", type=_whole(1, 2**31), default=32_768, help="in a part at most, about")
    logs.add_argument("--scoring-log-sample-rate", type=_share, default=1.0, help="share of requests (default: 1)")
    logs.add_argument("--access-log", action="store_true", help="log each request to score")
    logs.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    logs.add_argument("--log-format", choices=("auto", "json", "text"), default="auto")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return convert


def _number(text: str, low: float, high: float, meaning: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no {meaning}")
    return value


def _seconds(text: str) -> float:
    return _number(text, 0.0, 86_400.0, "number of seconds from 0 to 86400")


def _positive(text: str) -> float:
    return _number(text, 0.05, 86_400.0, "number of seconds from 0.05 to 86400")


def _share(text: str) -> float:
    return _number(text, 0.0, 1.0, "share from 0 to 1")
