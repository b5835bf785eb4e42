"""The SQLite file: what comes back, what is refused, and who owns it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.fakes import a_fault, a_row
from vmhb_common.model.fault import FaultState, Resolution
from vmhb_worker.delivery.sqlite import KEPT_BROKEN, Content, Corrupt, Database, Lock, StoreError, set_aside
from vmhb_worker.interfaces import InstanceRow

ROOT = Path(__file__).parent.parents[2]

EVERYTHING = Content(
    instances={
        "i1": InstanceRow("i1", True, "boot-1", True, 12.5, False),
        "i2": InstanceRow("i2", away=True),
        "i3": InstanceRow("i3", boot="boot-3", host_boot="monday"),
    },
    faults={
        "f1": a_fault("f1", occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)),
        "f2": a_fault("f2", state=FaultState.CLEARED, resolution=Resolution.RECOVERED, health={"status": "ok"}),
    },
    announce={"f2": 3},
    probes={"i1": 10},
    rows={1: a_row(1, "f1"), 2: replace(a_row(2), project_id=None)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a file."""
    return tmp_path / "vmhb.sqlite"


def test_everything_comes_back(path: Path) -> None:
    """A restart changes nothing: not a microsecond, not a type."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    assert Database(path).load() == EVERYTHING


def test_changes_replace_and_remove(path: Path) -> None:
    """None removes a key, whether it is there or not."""
    database = Database(path)
    database.write(EVERYTHING)
    database.write(Content(instances={"i1": None, "i2": InstanceRow("i2", True), "i3": None}, rows={1: None}))
    assert database.load().instances == {"i2": InstanceRow("i2", True)}
    assert list(database.load().rows) == [2]


def test_difference_is_what_makes_one_of_the_other(path: Path) -> None:
    """After trouble, only what differs is written."""
    database = Database(path)
    database.write(EVERYTHING)
    wanted = Content(instances={"i2": InstanceRow("i2", True)}, faults=dict(EVERYTHING.faults), rows={3: a_row(3)})
    changes = database.load().difference(wanted)
    assert changes.faults == {}
    database.write(changes)
    assert database.load() == wanted


def test_failed_transaction_leaves_nothing(path: Path) -> None:
    """All of a commit, or nothing: here SQLite runs out of pages half way."""
    database = Database(path)
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    rows = {number: replace(a_row(number), payload="x" * 2000) for number in range(1, 20)}
    with pytest.raises(sqlite3.OperationalError, match="full"):
        database.write(Content(instances={"i1": InstanceRow("i1")}, rows={**rows}))
    assert database.load() == Content()
    database.write(Content(instances={"i1": InstanceRow("i1")}))
    assert list(database.load().instances) == ["i1"]


def test_an_older_layout_is_upgraded(path: Path) -> None:
    """What it holds is kept: there was no application that could leave."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    old = sqlite3.connect(path)
    old.execute("ALTER TABLE instances DROP COLUMN departed")
    old.execute("ALTER TABLE instances DROP COLUMN maintenance")
    old.execute("PRAGMA user_version = 1")
    old.close()
    database = Database(path)
    assert database.load() == EVERYTHING
    row = InstanceRow("i1", True, left="bye", maintenance=((1.0, 2.5),))
    database.write(Content(instances={"i1": row}))
    assert database.load().instances["i1"] == row
    database.close()
    assert Database(path).load().instances["i1"] == row


def test_who_is_away_has_a_table_that_older_workers_do_not_know(path: Path) -> None:
    """The layout is as it was, so that a worker of before goes on with this file; one that it wrote has nobody away."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    old = sqlite3.connect(path)
    assert old.execute("PRAGMA user_version").fetchone() == (2,)
    assert len(old.execute("PRAGMA table_info(instances)").fetchall()) == 8
    old.execute("INSERT INTO away VALUES ('i9')")  # whose instance an older worker has forgotten
    old.execute("DELETE FROM away WHERE uuid = 'i2'")
    old.commit()
    old.close()
    database = Database(path)
    assert database.load().instances == {**EVERYTHING.instances, "i2": InstanceRow("i2")}
    database.close()
    old = sqlite3.connect(path)
    old.execute("DROP TABLE away")
    old.close()
    assert Database(path).load().instances["i2"] == InstanceRow("i2")


def test_which_boot_of_the_host_it_ran_in_has_a_table_that_older_workers_do_not_know(path: Path) -> None:
    """What an older worker wrote since, of another life of its QEMU, ran in a boot of the host that nobody knows."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    old = sqlite3.connect(path)
    assert old.execute("PRAGMA user_version").fetchone() == (2,)
    old.execute("INSERT INTO host_boots VALUES ('i9', 'boot-9', 'monday')")  # whom an older worker has forgotten
    old.execute("UPDATE instances SET boot = 'boot-4' WHERE uuid = 'i3'")
    old.commit()
    old.close()
    database = Database(path)
    assert database.load().instances["i3"] == InstanceRow("i3", boot="boot-4")
    for row in (InstanceRow("i3", boot="boot-4", host_boot="tuesday"), InstanceRow("i3", boot="boot-4")):
        database.write(Content(instances={"i3": row, "i1": None}))
        assert database.load().instances["i3"] == row
    database.close()
    old = sqlite3.connect(path)
    old.execute("DROP TABLE host_boots")
    old.close()
    assert Database(path).load().instances["i2"] == EVERYTHING.instances["i2"]


def test_newer_layout_is_refused(path: Path) -> None:
    """An older worker would lose what it does not know."""
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"vmhb\.sqlite has layout 99, and this version of the worker knows 2"):
        Database(path)


def test_text_is_no_database(path: Path) -> None:
    """A file that never was a database is corrupt."""
    path.write_text("hello " * 1000)
    with pytest.raises(Corrupt):
        Database(path)


def test_overwritten_page_is_found(path: Path) -> None:
    """Damage in the middle is seen when the file is opened, not days later."""
    database = Database(path)
    database.write(Content(rows={number: a_row(number) for number in range(1, 200)}))
    database.close()
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\x5a" * 8192)
    with pytest.raises(Corrupt):
        Database(path)


@pytest.mark.parametrize(
    "spoilt",
    [
        "UPDATE faults SET record = 'nul'",
        "UPDATE faults SET record = 'null'",
        "UPDATE faults SET record = '[]'",
        "UPDATE faults SET record = '{}'",
        'UPDATE faults SET record = replace(record, \'"state": "\', \'"state": "x\')',
        "UPDATE faults SET record = replace(record, '2026-', '2O26-')",
        "UPDATE faults SET record = CAST(x'ff7b7d' AS TEXT)",
        "UPDATE rows SET payload = '{'",
        "UPDATE rows SET payload = NULL",
        "DROP TABLE probes",
    ],
)
def test_content_that_makes_no_sense_is_found(path: Path, spoilt: str) -> None:
    """SQLite keeps no checksums: pages may be in order and what is in them not. A worker must not fail to start by it,
    again and again, nor try to send for ever what no broker can be given."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(spoilt)
    database = Database(path)
    with closing(database), pytest.raises(Corrupt):
        database.load()


def test_broken_files_are_numbered_and_bounded(path: Path) -> None:
    """Evidence is kept, but a disk that breaks every file is not filled with it."""
    for number in range(1, KEPT_BROKEN + 3):
        path.write_text(str(number))
        aside = set_aside(path)
    assert aside.name == f"vmhb.sqlite.broken-{KEPT_BROKEN}"
    assert len(list(path.parent.glob("*.broken-*"))) == KEPT_BROKEN
    assert not path.exists()


def test_record_of_an_older_version_is_read(path: Path) -> None:
    """A fault's field that is newer than the record gets a default, so that an upgrade never keeps the worker down."""
    database = Database(path)
    database.write(Content(faults={"f1": a_fault("f1")}))
    database._connection.execute("UPDATE faults SET record = json_remove(record, '$.health', '$.flavor_name')")
    assert database.load().faults == {"f1": a_fault("f1", flavor_name=None)}


def test_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    """Two processes never share a store."""
    program = f"import pathlib, vmhb_worker.delivery.sqlite as s; s.Lock(pathlib.Path({str(tmp_path)!r}))"
    lock = Lock(tmp_path)
    child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"{tmp_path}/vmhb.lock is held by process {os.getpid()}" in child.stderr
    lock.release()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    """A state_path that can't be one is an error that says so."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="state_path must be a folder"):
        Lock(tmp_path / "file" / "below")
