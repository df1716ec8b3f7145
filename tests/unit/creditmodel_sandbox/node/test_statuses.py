from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.lifecycle import Record, decide
from creditmodel_sandbox.node.statuses import RecordFile

POD: Any = {"metadata": {}, "spec": {"containers": [{"name": "main"}]}}


def running(crashes: int) -> Record:
    record = Record("main", crashes=crashes)
    record.running(100.0, crashes, "c://1")
    return record


def test_what_ended_with_its_node_starts_again_without_a_back_off(tmp_path: Path) -> None:
    RecordFile(tmp_path).save([running(crashes=4)], "127.0.0.9")
    records, address = RecordFile(tmp_path).recover(POD, ["main"])
    assert (records["main"].kind, records["main"].exit_code, address) == ("terminated", 137, "127.0.0.9")
    assert decide(POD["spec"], records, records["main"].ended).start == ("main",)


def test_a_record_that_the_disk_did_not_take_is_saved_by_the_next_step(tmp_path: Path) -> None:
    file, in_the_way = RecordFile(tmp_path), tmp_path / "record.new"
    in_the_way.mkdir()
    with pytest.raises(OSError, match="record"):
        file.save([running(crashes=0)], "127.0.0.9")
    in_the_way.rmdir()
    file.save([running(crashes=0)], "127.0.0.9")
    assert RecordFile(tmp_path).recover(POD, ["main"])[1] == "127.0.0.9"
