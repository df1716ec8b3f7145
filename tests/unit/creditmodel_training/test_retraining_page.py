"""What docs/retraining.md shows works as it is shown."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.storage import Bundle
from creditmodel_training.webhook import Receiver, request

PAGE = (Path(__file__).parents[3] / "docs" / "retraining.md").read_text()
STEPS = {line.split()[0]: line for line in re.findall(r"^- run: (.*)$", PAGE, re.MULTILINE)}
Verified = Callable[[dict[str, str], bytes, bytes], bool]


@pytest.fixture(scope="module")
def verified() -> Verified:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102 - the page's own snippet is what is tested
    found: Verified = namespace["verified"]
    return found


def test_the_snippet_verifies_what_is_sent_and_nothing_else(verified: Verified) -> None:
    event = {"id": "77fc3e72aa344ba9", "data": {}}
    now = int(time.time())
    headers, body = request(Receiver("https://hook", key="s3cret"), event, now)
    assert verified(headers, body, b"s3cret")
    assert not verified(headers, body + b" ", b"s3cret")
    assert not verified(headers | {"webhook-id": "another"}, body, b"s3cret")
    assert not verified(headers, body, b"another")
    old, old_body = request(Receiver("https://hook", key="s3cret"), event, now - 301)
    assert not verified(old, old_body, b"s3cret")


@pytest.fixture(scope="module")
def checkout(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pipeline has checked out: the bundle, and the scores of a week."""
    place = tmp_path_factory.mktemp("checkout")
    shutil.copytree(bundle.directory, place / "bundle")
    table = pq.read_table(bundle.path("reference.parquet"))
    (place / "scores").mkdir()
    write_scores(place, table)
    return place


def write_scores(place: Path, table: pa.Table) -> None:
    times = pa.array([int((time.time() - 3600) * 1e6)] * table.num_rows, pa.timestamp("us", "UTC"))
    pq.write_table(table.append_column("_time", times), place / "scores" / "part-0.parquet")


def run(step: str, place: Path) -> int:
    """The step as a shell on a runner has it."""
    program = Path(sys.executable).with_name(step.split()[0])
    command = f"{shlex.quote(str(program))} {step.partition(' ')[2]}"
    return subprocess.run(["/bin/sh", "-euc", command], cwd=place, check=False, timeout=200).returncode


@pytest.mark.full
def test_the_steps_of_the_page_pass_for_a_good_model(checkout: Path) -> None:
    assert run(STEPS["creditmodel-parity"] + " --rows 64", checkout) == 0
    assert run(STEPS["creditmodel-benchmark"] + " --rounds 5 --batch-sizes 1", checkout) == 0
    assert run(STEPS["creditmodel-drift"].partition(" --html")[0], checkout) == 0
    for report in ("parity.json", "benchmark.json"):
        assert json.loads((checkout / report).read_text())


def test_a_step_that_finds_something_fails_with_1_and_leaves_its_reports(checkout: Path) -> None:
    table = pq.read_table(checkout / "bundle" / "reference.parquet").slice(0, 1500)
    limit = table.column_names.index("credit_limit")
    lower = pc.divide(table["credit_limit"], 4).cast(table["credit_limit"].type)
    write_scores(checkout, table.set_column(limit, "credit_limit", lower))
    assert run(STEPS["creditmodel-drift"], checkout) == 1
    assert json.loads((checkout / "drift.json").read_text())
    assert "<html" in (checkout / "drift.html").read_text()[:200]
    assert run(STEPS["creditmodel-parity"] + " --rows 64 --rtol 0 --atol 0", checkout) == 1


def test_a_step_without_its_input_fails_with_2(checkout: Path) -> None:
    assert run(STEPS["creditmodel-parity"].replace("bundle ", "nowhere ", 1), checkout) == 2
    assert run(STEPS["creditmodel-drift"].replace("--bundle bundle", "--bundle nowhere"), checkout) == 2
