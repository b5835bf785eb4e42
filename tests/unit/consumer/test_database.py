"""A database that is away, and one that does not let us in: what is said of them, and how often."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_db import exception

from vmhb_consumer.database import Away, Database, _may_not


def test_away_is_told_once_whoever_meets_it(tmp_path: Path) -> None:
    """Whoever wants to know how it is hears of it when it goes, and when it is back."""
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    told: list[str | None] = []
    database.tell = told.append
    database.open()

    def fails(_connection: sa.Connection) -> None:
        raise exception.DBConnectionError(OSError("no route"))

    for _ in range(3):
        with pytest.raises(Away):
            database.run(fails)
    database.notice("and who asks otherwise")
    for _ in range(3):
        assert database.run(lambda connection: connection.execute(sa.select(sa.literal(7))).scalar()) == 7
    assert told == [told[0], None] and "no route" in str(told[0])
    database.close()


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
