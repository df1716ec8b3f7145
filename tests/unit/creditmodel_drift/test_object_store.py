"""What only an object store can do wrong: no bucket, no permission, nobody there. Part of `make test-object-store`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from creditmodel_bundle.measurement import Failure, parse
from creditmodel_drift.cli import main

Applicants = Callable[..., pa.Table]


@pytest.mark.parametrize(
    ("changed", "uri", "words"),
    [
        (
            {},
            "s3://no-such-bucket/log",
            "cannot be listed: there is no bucket no-such-bucket",
        ),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "{root}/log", "cannot be listed: .*(ACCESS_DENIED|403)"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "{root}/log", "cannot be listed: .*(ACCESS_DENIED|403)"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "{root}/log", "cannot be listed: .*"),
    ],
)
def test_a_store_that_cannot_be_listed_is_no_empty_log(
    changed: dict[str, str], uri: str, words: str, stored: Callable[[Path], str], log: Any, applicants: Applicants,
    bundle: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    log(applicants(800))
    root = stored(tmp_path)
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    place, begun = tmp_path / "measurement.json", time.monotonic()
    current = uri.replace("{root}", root)
    assert main(["--bundle", str(bundle[0]), "--current", current, "--measurement", str(place)]) == 2
    failure = parse(place.read_bytes())
    assert isinstance(failure, Failure)
    print(failure.error.message)
    assert failure.error.reason == "NoUsableData"
    assert re.search(words, failure.error.message)
    assert time.monotonic() - begun < 120


def test_bundle_log_and_reports_may_all_lie_in_the_store(
    stored: Callable[[Path], str],
    store: Any,
    log: Any,
    applicants: Applicants,
    bundle: tuple[Path, str],
    tmp_path: Path,
) -> None:
    log(applicants(800))
    root, model = stored(tmp_path), stored(bundle[0])
    for run in range(3):
        reports = ["--json", f"{root}/reports/{run}.json", "--keep-reports", "2", "--sample-rows", "1"]
        assert main(["--bundle", model, "--digest", bundle[1], "--current", f"{root}/log", *reports]) == 0
    listed = store.filesystem().get_file_info(fs.FileSelector(f"{root.removeprefix('s3://')}/reports"))
    assert {found.base_name for found in listed} == {"1.json", "2.json"}
    with store.filesystem().open_input_stream(listed[0].path) as report:
        assert json.loads(report.read())["rows"] == 800
