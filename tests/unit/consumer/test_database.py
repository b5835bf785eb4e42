"""A database that is away, and one that does not let us in: what is said of them, and how often."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_db import exception

from vmhb_consumer.database import SETTLED, Away, Database, _may_not


class Now:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def fails(_connection: sa.Connection) -> None:
    raise exception.DBConnectionError(OSError("no route"))


def answers(connection: sa.Connection) -> object:
    return connection.execute(sa.select(sa.literal(7))).scalar()


class Watched:
    """A database that is open, what is told of it, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.now = Now()
        self.told: list[str | None] = []
        self.database = Database(f"sqlite:///{folder / 'db'}", clock=self.now)
        self.database.tell = self.told.append
        self.database.open()

    def fails(self) -> None:
        with pytest.raises(Away):
            self.database.run(fails)

    def answers(self) -> None:
        assert self.database.run(answers) == 7


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    one = Watched(tmp_path)
    yield one
    one.database.close()


def test_away_is_told_once_whoever_meets_it(watched: Watched) -> None:
    """Whoever wants to know how it is hears of it when it goes, and when it is back."""
    for _ in range(3):
        watched.fails()
    watched.database.notice("and who asks otherwise")
    for _ in range(3):
        watched.answers()
    assert len(watched.told) == 1 and "no route" in str(watched.told[0])
    watched.now.at += SETTLED
    for _ in range(3):
        watched.answers()
    assert watched.told[1:] == [None]


def test_one_that_reads_and_does_not_write_is_away(watched: Watched) -> None:
    """After a fail-over, or with a full disk: what can be read says nothing of what can't be written."""
    for _ in range(60):
        watched.fails()
        watched.now.at += 1.0
        watched.answers()
    assert len(watched.told) == 1


class Driver(Exception):
    """As drivers raise."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args)
        vars(self).update(attributes)


def wrapped(error: Exception) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("SELECT 1", {}, error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(Driver(1045, "Access denied for user 'vmhb'@'localhost' (using password: YES)")),
        wrapped(Driver(1044, "Access denied for user 'vmhb' to database 'vmhb'")),
        wrapped(Driver(1142, "CREATE command denied to user 'vmhb' for table 'vmhb_meta'")),
        wrapped(Driver("permission denied for table vmhb_meta", pgcode="42501")),
        wrapped(Driver("denied", sqlstate="28P01")),
        wrapped(Driver('connection failed: FATAL:  password authentication failed for user "vmhb"')),
        wrapped(sqlite3.OperationalError("attempt to write a readonly database")),
        wrapped(sqlite3.OperationalError("unable to open database file")),
        exception.DBError(wrapped(Driver(1045, "Access denied"))),
    ],
)
def test_it_does_not_let_us(error: Exception) -> None:
    """No other try changes that."""
    assert _may_not(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(Driver(2003, "Can't connect to MySQL server on 'db-1' ([Errno 111] Connection refused)")),
        wrapped(Driver(1213, "Deadlock found when trying to get lock")),
        wrapped(Driver("server closed the connection unexpectedly", pgcode="57P01")),
        wrapped(sqlite3.OperationalError("database is locked")),
        OSError("no route"),
    ],
)
def test_it_is_only_away(error: Exception) -> None:
    """It may be there with the next try."""
    assert not _may_not(error)


# -- whose SQLite's files are ------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in folder.iterdir()}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    """Outside its unit as well, whatever the umask; the log and the memory that SQLite adds are no exception."""
    folder = tmp_path / "state"
    database = Database(f"sqlite:///{folder}/x.sqlite")
    database.open()
    assert modes(tmp_path) == {"state": "700"}

    def meanwhile(connection: sa.Connection) -> dict[str, str]:
        connection.execute(sa.text("update vmhb_meta set value = value"))
        return modes(folder)

    names = ("x.sqlite", "x.sqlite.lock", "x.sqlite-wal", "x.sqlite-shm")
    assert database.run(meanwhile) == dict.fromkeys(names, "600")
    database.close()


@pytest.mark.usefixtures("open_umask")
def test_those_of_a_release_before_are_so_from_the_next_start_on(tmp_path: Path) -> None:
    """Also what a consumer that was killed has left."""
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    database.close()
    for name in ("x.sqlite", "x.sqlite.lock", "x.sqlite-wal", "x.sqlite-shm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    again = Database(f"sqlite:///{tmp_path}/x.sqlite")
    again.open()
    assert set(modes(tmp_path).values()) == {"600"}
    again.close()


@pytest.mark.usefixtures("open_umask")
def test_those_that_are_made_beforehand(tmp_path: Path) -> None:
    """By `nova-vmhb-manage db sync`."""
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.sync()
    assert set(modes(tmp_path).values()) == {"600"}
    database.close()
