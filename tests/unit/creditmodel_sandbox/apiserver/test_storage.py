"""The database: what survives, and what watchers can ask for again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.apiserver.errors import ApiError
from creditmodel_sandbox.apiserver.storage import Store

JSON = dict[str, Any]

WRITER = """
import sys
from pathlib import Path
from creditmodel_sandbox.apiserver.storage import Store

store = Store(Path(sys.argv[1]), lambda storage, obj: {})
for number in range(10**9):
    record = store.put("things", ("ns", f"t{number % 7}"), {"metadata": {}, "number": number})
    print(record.rv, number, flush=True)
"""


def open_store(path: Path, history: int = 1000) -> Store:
    return Store(path / "objects.db", lambda _storage, obj: {"kind": obj.get("kind", "")}, history)


def put(store: Store, name: str, **content: Any) -> int:
    return store.put("things", ("ns", name), {"metadata": {"labels": {"a": "b"}}, **content}).rv


def test_every_write_gets_a_higher_version(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    versions = [put(store, "a"), put(store, "b"), put(store, "a"), store.remove("things", ("ns", "a")).rv]
    assert versions == sorted(set(versions))


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    version = put(store, "a", number=1)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ApiError, match="cannot be written: database or disk is full; nothing has changed"):
        put(store, "b", text="x" * 100_000)
    assert (store.rv, store.get("things", ("ns", "b"))) == (version, None)
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert put(store, "b") == version + 1


def test_objects_and_version_survive_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, "a", number=1)
    put(store, "b")
    last = store.remove("things", ("ns", "b")).rv
    store.close()
    again = open_store(tmp_path)
    record = again.get("things", ("ns", "a"))
    assert record is not None
    assert record.object()["number"] == 1
    assert record.labels == {"a": "b"}
    assert again.get("things", ("ns", "b")) is None
    assert put(again, "c") == last + 1
    again.close()


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(200)]
        writer.send_signal(signal.SIGKILL)
        lines += [line for line in writer.stdout.readlines() if line.endswith("\n")]
    version, number = map(int, lines[-1].split())
    store = open_store(tmp_path)
    assert store.rv >= version
    numbers = [record.object()["number"] for record in store.collection("things").records.values()]
    assert max(numbers) >= number
    assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1))
    store.close()


def test_a_reader_cannot_change_what_is_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, "a", inner={"k": "v"})
    record = store.get("things", ("ns", "a"))
    assert record is not None
    record.object()["inner"]["k"] = "changed"
    assert record.object()["inner"] == {"k": "v"}
    store.close()


def test_events_before_compaction_are_expired(tmp_path: Path) -> None:
    store = open_store(tmp_path, history=5)
    versions = [put(store, f"t{number}") for number in range(20)]
    collection = store.collection("things")
    assert [event.rv for event in collection.since(versions[-3])] == versions[-2:]
    with pytest.raises(ApiError, match="too old resource version") as caught:
        collection.since(versions[0])
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    store.close()


def test_a_snapshot_is_the_past(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, "kept", number=1)
    version = put(store, "gone")
    put(store, "kept", number=2)
    put(store, "new")
    store.remove("things", ("ns", "gone"))
    past = store.collection("things").snapshot(version)
    assert sorted(name for _, name in past) == ["gone", "kept"]
    assert past["ns", "kept"].object()["number"] == 1
    store.close()


def test_a_version_from_the_future_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(ApiError, match="Too large resource version"):
        store.check_known(store.rv + 1)
    store.close()
