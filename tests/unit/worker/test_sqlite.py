"""The SQLite file: what comes back, what is refused, and who owns it."""

from __future__ import annotations

import copy
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.fakes import a_fault, a_row
from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_worker.delivery.sqlite import KEPT_BROKEN, Corrupt, Database, Lock, StoreError, set_aside
from vmhb_worker.delivery.tables import TABLES, Content
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
    rows = {number: replace(a_row(number), payload=f'"{"x" * 2000}"') for number in range(1, 20)}
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


def spoil(path: Path, *statements: str) -> None:
    """What somebody, or a disk, did to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def without(content: Content, table: str, *keys: object) -> Content:
    rest = copy.deepcopy(content)
    for key in keys:
        del rest.table(table)[key]
    return rest


#: What was done, and whom that costs.
SPOILT: list[tuple[str, str, tuple[object, ...]]] = [
    *(
        (f"UPDATE faults SET record = {record} WHERE fault_id = 'f1'", "faults", ("f1",))  # noqa: S608
        for record in (
            *("'nul'", "'null'", "'[]'", "'{}'", "NULL", "x'00ff'", "CAST(x'ff7b7d' AS TEXT)", "7", "1e400", "''"),
            'replace(record, \'"state": "\', \'"state": "x\')',
            "replace(record, '2026-', '2O26-')",
            "replace(replace(record, '2026-01-02', '0001-01-01'), '+00:00', '+23:59')",  # in no year there
            "replace(record, '+00:00', '')",  # no zone
            "replace(record, '2026-', '٢٠٢٦-')",
            *(
                f"json_set(record, '$.{name}', {value})"
                for name, value in (
                    ("threshold", "'three'"),
                    ("interval", "'1'"),
                    ("drill", "'no'"),
                    ("evidence", "'x'"),
                    ("instance_uuid", "5"),
                    ("misses", "3.5"),
                    ("host", "json('{}')"),
                    ("cause", "json('null')"),
                )
            ),
            "replace(record, '\"misses\": 3', '\"misses\": 1' || hex(zeroblob(3000)))",
            "replace(record, '\"cn1\"', '\"\\ud800\"')",
            "replace(record, '\"interval\": 10.0', '\"interval\": NaN')",
            "printf('%.*c', 100000, '[')",
        )
    ),
    ("UPDATE rows SET payload = '{' WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET payload = NULL WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET payload = printf('%.*c', 100000, '[') WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET topic = x'ff' WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET message_id = CAST(x'ff' AS TEXT) WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET created = 'soon' WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET created = 1e18 WHERE id = 1", "rows", (1,)),
    ("UPDATE rows SET created = 9e999 WHERE id = 1", "rows", (1,)),
    ("UPDATE instances SET boot = x'ff' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET established = 'maybe' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET waiting_wall = 'x' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET waiting_wall = -9e999 WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET maintenance = '[[1]]' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET maintenance = '[[1, NaN]]' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET departed = 5.5 WHERE uuid = 'i1'", "instances", ()),  # as text, by the column's own rule
    ("UPDATE instances SET uuid = CAST(x'ff' AS TEXT) WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET uuid = x'ff' WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE instances SET uuid = NULL WHERE uuid = 'i1'", "instances", ("i1",)),
    ("UPDATE probes SET period = 'often'", "probes", ("i1",)),
    ("UPDATE probes SET period = -1", "probes", ("i1",)),
    ("UPDATE probes SET period = 9223372036854775807", "probes", ("i1",)),
    ("UPDATE announce SET owed = x'03'", "announce", ("f2",)),
]


@pytest.mark.parametrize(("done", "table", "lost"), SPOILT, ids=lambda one: one[:60] if isinstance(one, str) else "")
def test_a_row_that_makes_no_sense_costs_itself(
    path: Path, done: str, table: str, lost: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite keeps no checksums: pages may be in order and what is in them not. A worker must not fail to start by it,
    nor try for ever to send what no broker can be given, nor forget anything else. It is set aside, counted, said."""
    database = Database(path)
    database.write(EVERYTHING)
    database.close()
    spoil(path, done)
    with closing(Database(path)) as database:
        if lost:
            assert database.load() == without(EVERYTHING, table, *lost)
        assert (database.set_aside, len(database.load().table(table))) == (
            len(lost),
            len(EVERYTHING.table(table)) - len(lost),
        )
        kept = database._connection.execute("SELECT of_table, why, row FROM set_aside").fetchall()
    assert [name for name, _, _ in kept] == [table] * len(lost)
    assert sum("could not be read" in one.getMessage() for one in caplog.records) == len(lost)
    assert all(why and row for _, why, row in kept)


def test_a_table_that_is_missing_is_found(path: Path) -> None:
    """Then it is another file than ours."""
    Database(path).close()
    spoil(path, "DROP TABLE probes")
    with closing(Database(path)) as database, pytest.raises(Corrupt):
        database.load()


def test_what_is_set_aside_is_bounded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file in which everything is spoilt is not kept twice, nor told of row by row."""
    database = Database(path)
    database.write(Content(rows={number: a_row(number) for number in range(1, 1301)}))
    database.close()
    spoil(path, "UPDATE rows SET payload = '{' WHERE id <> 7")
    with closing(Database(path)) as database:
        assert list(database.load().rows) == [7]
        assert database._connection.execute("SELECT count(*) FROM set_aside").fetchone() == (1000,)
        assert database.set_aside == 1299
    assert len(caplog.records) == 1
    with closing(Database(path)) as database:
        assert (list(database.load().rows), database.set_aside) == ([7], 0)


#: A value that SQLite takes, or chokes on, and that is another one when it comes back, if it does.
UNWRITABLE = [
    ("instances", "i9", InstanceRow("i9", boot="\ud800")),
    ("instances", "i9", InstanceRow("i9", waiting_wall=float("nan"))),
    ("instances", "i9", InstanceRow("i9", maintenance=((float("inf"), 1.0),))),
    ("instances", "i9", InstanceRow("i9", left=5)),  # type: ignore[arg-type]
    ("faults", "f9", a_fault("f9", misses=10**5000)),
    ("faults", "f9", a_fault("f9", interval=float("nan"))),
    ("faults", "f9", a_fault("f9", raised_at=datetime(2026, 1, 1))),
    ("faults", "f9", a_fault("f9", host="h\ud800")),
    ("faults", "f9", a_fault("f9", evidence={"deep": None})),
    ("probes", "i9", 2**70),
    ("announce", "f9", -1),
    ("rows", 9, replace(a_row(9), payload="{")),
    ("rows", 9, replace(a_row(9), project_id="\udcff")),
    ("rows", 9, replace(a_row(9), created=float("inf"))),
]


@pytest.mark.parametrize(("table", "key", "value"), UNWRITABLE, ids=lambda one: one if isinstance(one, str) else "")
def test_what_could_not_be_read_back_is_refused_at_the_door(
    path: Path, table: str, key: object, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """One such value, and the file would be degraded for all others: it stays in memory, counted, and said once."""
    if isinstance(value, Fault) and "deep" in value.evidence:
        for _ in range(100_000):
            value.evidence["deep"] = [value.evidence["deep"]]
    with closing(Database(path)) as database:
        for _ in range(3):
            changes = copy.deepcopy(EVERYTHING)
            changes.table(table)[key] = value
            database.write(changes)
        assert database.load() == EVERYTHING
        assert database.set_aside == 1
    assert len([one for one in caplog.records if "could not be read again" in one.getMessage()]) == 1


def test_every_table_has_a_value_that_is_not_let_in() -> None:
    """Whoever adds a table decides what its values must be."""
    names = {table.name for table in TABLES}
    assert names == {table for table, _, _ in UNWRITABLE} == {table for _, table, _ in SPOILT}


def test_the_file_is_its_owners(path: Path) -> None:
    """Whoever made it, and whatever the umask: it has tenants' names in it, and what their guests said."""
    before = os.umask(0)
    try:
        path.touch(mode=0o644)
        with closing(Database(path)) as database:
            database.write(EVERYTHING)
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        Lock(path.parent / "made").release()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(modes, 0o600)
    assert {path.name, f"{path.name}-wal"} <= modes.keys()
    assert stat.S_IMODE((path.parent / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((path.parent / "made" / "vmhb.lock").stat().st_mode) == 0o600


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
