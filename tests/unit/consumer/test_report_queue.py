"""Lines in which one goes at a time: over several consumers, whatever dies, and never for ever."""

from __future__ import annotations

import sqlite3
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from tests.unit.consumer.conftest import Desk, another
from vmhb_consumer.database import Database
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.schema import META, QUEUES, REVISIONS

T = TypeVar("T")

LINE = "masakari:cn1"


def turn(desk: Desk, letter: str, attempt: int = 1) -> Turn:
    """This fault's place."""
    fault = another(letter, recovery_attempt=attempt, instance_uuid=letter * 8 + "-8d5a-4d0e-9d62-0f2f8f6f3b21")
    return Turn(desk.database, fault, desk.clock)


def test_one_at_a_time(desk: Desk) -> None:
    """The first has it until it leaves; whoever waits hears who that is; other lines are others' affair."""
    first, second = turn(desk, "a"), turn(desk, "b")
    assert second.ahead(LINE) is None
    assert first.enter(LINE, 100.0) is None
    said = "recovery 1 of instance aaaaaaaa-8d5a-4d0e-9d62-0f2f8f6f3b21 is under way there"
    assert second.ahead(LINE) == second.enter(LINE, 100.0) == said
    assert first.ahead(LINE) is None
    assert second.enter("masakari:cn2", 100.0) is None
    assert second.leave(LINE), "its place in this one is not its own"
    assert second.ahead(LINE) == said
    assert first.leave(LINE) and first.leave(LINE)
    assert second.enter(LINE, 100.0) is None
    assert first.ahead(LINE) is not None


def test_it_is_over_by_itself(desk: Desk) -> None:
    """Of one that died, or whose end was not seen. Asked for again, as after a crash, it is not prolonged."""
    first, second = turn(desk, "a"), turn(desk, "b")
    first.enter(LINE, 100.0)
    desk.clock.now += 60.0
    assert first.enter(LINE, 100.0) is None
    desk.clock.now += 39.0
    assert second.enter(LINE, 100.0) is not None
    desk.clock.now += 1.0
    assert second.enter(LINE, 100.0) is None
    assert first.enter(LINE, 100.0) is not None, "it has lost its place"


def test_the_next_attempt_is_another_turn(desk: Desk) -> None:
    """Of the same fault: it has its own time. One that is over is renewed by whoever comes first, also by itself."""
    turn(desk, "a").enter(LINE, 100.0)
    desk.clock.now += 60.0
    again = turn(desk, "a", attempt=2)
    assert again.enter(LINE, 100.0) is None
    desk.clock.now += 99.0
    assert turn(desk, "b").ahead(LINE) is not None
    desk.clock.now += 1.0
    assert again.enter(LINE, 100.0) is None
    assert turn(desk, "b").enter(LINE, 100.0) is not None


def test_a_long_name(desk: Desk) -> None:
    """Of what the column holds, the same all over."""
    first, second, line = turn(desk, "a"), turn(desk, "b"), "x" * 300
    assert first.enter(line, 100.0) is None and second.ahead(line) is not None
    assert first.leave(line) and second.enter(line, 100.0) is None


def test_the_database_is_away(desk: Desk) -> None:
    """Nobody's turn, no exception; that it is over is to be said again."""
    shut = Turn(Database("sqlite://"), another("a"), desk.clock)
    assert shut.ahead(LINE) == shut.enter(LINE, 1.0) == "the database is away: it is not open yet"
    assert not shut.leave(LINE)


def test_all_at_once(desk: Desk) -> None:
    """Of many that enter in the same moment one has it."""
    entered: list[str] = []
    gate = threading.Barrier(8)

    def enter(letter: str) -> None:
        gate.wait()
        if turn(desk, letter).enter(LINE, 100.0) is None:
            entered.append(letter)

    threads = [threading.Thread(target=enter, args=(letter,)) for letter in "abcdef01"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 1


class Stale(Database):
    """The first look at the table finds what was there before somebody else wrote."""

    def __init__(self, database: Database) -> None:
        super().__init__("sqlite://")
        self._now = database
        self._before = database.run(lambda c: c.execute(sa.select(QUEUES)).mappings().all())

    def run(self, work: Callable[[sa.Connection], T]) -> T:
        """As there."""

        def stale(connection: sa.Connection) -> T:
            before, self._before = self._before, []
            if not before:
                return work(connection)
            real = connection.execute

            def execute(statement: Any) -> Any:
                if not isinstance(statement, sa.Select):
                    return real(statement)
                first = types.SimpleNamespace(first=lambda: before[0])
                return types.SimpleNamespace(mappings=lambda: first)

            return work(types.SimpleNamespace(execute=execute))  # type: ignore[arg-type]

        return self._now.run(stale)


def test_of_two_who_find_it_over_one_is_too_late(desk: Desk) -> None:
    """It says in its statement whose row it was, and until when: and looks again."""
    first, second = turn(desk, "a"), turn(desk, "b")
    first.enter(LINE, 100.0)
    desk.clock.now += 100.0
    stale = Turn(Stale(desk.database), another("c"), desk.clock)
    assert second.enter(LINE, 100.0) is None
    assert stale.enter(LINE, 100.0) is not None
    desk.clock.now += 100.0
    stale = Turn(Stale(desk.database), another("c"), desk.clock)
    assert second.enter(LINE, 100.0) is None, "renewed by the same fault"
    assert stale.enter(LINE, 100.0) is not None


def test_a_database_of_the_version_before(tmp_path: Path) -> None:
    """It gets the table, and nothing of it is touched."""
    path = tmp_path / "x"
    database = Database(f"sqlite:///{path}")
    database.open()
    database.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE vmhb_queues")
        raw.execute(f"DROP TABLE {REVISIONS}")
        raw.execute("UPDATE vmhb_meta SET value = '2' WHERE name = 'schema_version'")
    again = Database(f"sqlite:///{path}")
    again.open()
    version = sa.select(META.c.value).where(META.c.name == "schema_version")
    assert again.run(lambda c: c.execute(version).scalar()) == "3"
    assert again.run(lambda c: c.execute(sa.select(QUEUES)).all()) == []
    again.close()
