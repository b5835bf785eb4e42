"""`db sync` on real servers: from what older consumers left behind, interrupted in every way; what services say before
and after it; backup and restore.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes import a_fault
from tests.functional.sites import database_server, new_database
from tests.lab.mariadb import MariaDB
from tests.lab.postgresql import BIN, PostgreSQL
from tests.lab.processes import wait_until
from tests.stage.tables import OLD, differences, execute, found_in, lay, picture, steps_with, undeclared
from vmhb_consumer.database import Database, Refused, Stuck
from vmhb_consumer.repository import Records
from vmhb_consumer.schema import GENERATION
from vmhb_consumer.standing import Found
from vmhb_consumer.upgrade import Steps

pytestmark = pytest.mark.patient

OURS = Found("0003", GENERATION)
EXTRA = 'add_column("vmhb_faults", sa.Column("extra", sa.Integer))'


@pytest.fixture(scope="module", params=["mariadb", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[MariaDB | PostgreSQL]:
    """Of all tests here; each has a database of its own."""
    with database_server(request.param) as one:
        yield one


@pytest.fixture
def url(server: MariaDB | PostgreSQL, request: pytest.FixtureRequest) -> str:
    """An empty one."""
    return new_database(server, request)


def synced(url: str, steps: Steps | None = None) -> list[str]:
    """What `db sync` has done."""
    database = Database(url, steps=steps)
    try:
        return database.sync()
    finally:
        database.close()


def opened(url: str, steps: Steps | None = None) -> None:
    """As a consumer opens it, and ends again. Raises Refused."""
    database = Database(url, steps=steps)
    try:
        database.open()
    finally:
        database.close()


@pytest.mark.parametrize("version", ["none", *OLD])
def test_from_before(url: str, version: str) -> None:
    """A consumer refuses it, and changes nothing; after `db sync`, which may be run again, it has what is needed."""
    if version != "none":
        lay(url, version)
    engine = sa.create_engine(url)
    before = picture(engine)
    with pytest.raises(Refused, match="run `nova-vmhb-manage db sync` of this version"):
        opened(url)
    assert picture(engine) == before
    engine.dispose()
    assert synced(url) == ["0001", "0002", "0003"]
    assert synced(url) == []
    opened(url)
    assert differences(url) == []
    assert found_in(url) == OURS


def test_steps_only_add(url: str) -> None:
    """As the test of this name for SQLite, where types and constraints are others."""
    assert undeclared(url, Steps()) == []


def test_ahead_and_behind(url: str, tmp_path: Path) -> None:
    """An older consumer goes on beside what was added; the newer one waits for it."""
    newer = steps_with(tmp_path, r0004=EXTRA)
    synced(url)
    with pytest.raises(Refused, match="has tables of revision 0003, and this program needs 0004: run"):
        opened(url, newer)
    assert synced(url, newer) == ["0004"]
    opened(url, newer)
    opened(url)
    assert synced(url) == []


def test_no_privilege(server: MariaDB | PostgreSQL, url: str) -> None:
    """Who may not is told what it takes. What consumers need afterwards is to read and write rows."""
    small = _small_user(server, url)
    lay(url, "1")
    _may_write(server, url)
    with pytest.raises(Stuck, match=r"the step to revision 0001 failed, it has no revision yet: .*it takes a user who"):
        synced(small)
    assert found_in(url) == Found(None, 1)
    synced(url)
    _may_write(server, url)
    database = Database(small)
    database.open()
    Records(database, lambda change, fault: ["one"], [], 300.0).take(a_fault(), a_fault().raised_at.timestamp())
    database.close()


def _small_user(server: MariaDB | PostgreSQL, url: str) -> str:
    """The same database as somebody who may do nothing yet."""
    name = "small"
    if isinstance(server, MariaDB):
        execute(url, f"CREATE USER IF NOT EXISTS '{name}'@'127.0.0.1' IDENTIFIED BY 'x'")
    else:
        execute(url, f"CREATE USER {name} PASSWORD 'x'")
    return sa.make_url(url).set(username=name, password="x").render_as_string(hide_password=False)


def _may_write(server: MariaDB | PostgreSQL, url: str) -> None:
    rights = "SELECT, INSERT, UPDATE, DELETE"
    if isinstance(server, MariaDB):
        execute(url, f"GRANT {rights} ON `{sa.make_url(url).database}`.* TO 'small'@'127.0.0.1'")
    else:
        execute(url, f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO small")
        execute(url, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO small")


def test_a_table_that_somebody_holds(url: str, tmp_path: Path) -> None:
    """It is not waited for long, since all others would wait behind us; and nothing of it is taken for done."""
    synced(url)
    newer = steps_with(tmp_path, r0004=EXTRA)
    holder = sa.create_engine(url)
    with holder.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM vmhb_faults")  # a transaction that has read, and goes on
        with pytest.raises(Stuck, match=r"revision 0004 failed, it stays at revision 0003: .*somebody holds a table"):
            synced(url, newer)
    holder.dispose()
    assert found_in(url) == OURS
    assert synced(url, newer) == ["0004"]


def test_a_second_statement_that_fails(server: MariaDB | PostgreSQL, url: str, tmp_path: Path) -> None:
    """MariaDB keeps what the first has done; no new consumer takes that for the whole, and mended it goes on."""
    synced(url)
    body = f'{EXTRA}\nop.drop_table("nowhere")'
    bad, good = steps_with(tmp_path, r0004=body), steps_with(tmp_path, r0004=f"{EXTRA}\n{EXTRA.replace('extra', 'x')}")
    with pytest.raises(
        Stuck, match=r"revision 0004 failed, it stays at revision 0003: .*run it again: it goes on where"
    ):
        synced(url, bad)
    half = ["remove_column"] if isinstance(server, MariaDB) else []
    assert [difference[0] for difference in differences(url)] == half
    with pytest.raises(Refused, match="this program needs 0004"):
        opened(url, good)
    opened(url)
    assert synced(url, good) == ["0004"]
    opened(url, good)


@pytest.mark.parametrize("version", ["1", "3"])
def test_killed_in_between(url: str, tmp_path: Path, version: str) -> None:
    """At each of its statements: the next `db sync` finishes it, and no lock stays behind."""
    lay(url, version)
    for at in range(1, 4):
        body = f"{EXTRA}\nos.kill(os.getpid(), 9)\n{EXTRA}"
        folder = steps_with(tmp_path / f"{version}-{at}", r0004=body).folder
        _kill_before(folder / "versions", at)
        program = (
            "import sys; from pathlib import Path; from vmhb_consumer.database import Database; "
            "from vmhb_consumer.upgrade import Steps; Database(sys.argv[1], steps=Steps(Path(sys.argv[2]))).sync()"
        )
        done = subprocess.run([sys.executable, "-c", program, url, str(folder)], check=False)
        assert done.returncode == -9
        with pytest.raises(Refused):
            opened(url, steps_with(tmp_path / f"good-{at}", r0004=EXTRA))
    synced(url)
    opened(url)
    assert synced(url, steps_with(tmp_path, r0004=EXTRA)) == ["0004"]


def _kill_before(versions: Path, at: int) -> None:
    """In this one of our steps as well, after its first statement."""
    (path,) = (one for one in versions.glob("*.py") if f'\nrevision = "000{at}"\n' in one.read_text())
    text = path.read_text()
    first = text.index("    )\n", text.index("    create_table(")) + len("    )\n")
    path.write_text(f"{text[:first]}    import os; os.kill(os.getpid(), 9)\n{text[first:]}")


def program(folder: Path, url: str, name: str, *arguments: str) -> subprocess.Popen[str]:
    """One of ours, as an operator has it. Its broker is not there: this is about the database."""
    config = folder / "consumer.conf"
    text = f"[DEFAULT]\ntransport_url = rabbit://127.0.0.1:1/\nhost = ctl\nstate_path = {folder}\n"
    config.write_text(f"{text}[consumer]\nhalves = faults\nreporters = log\n[database]\nconnection = {url}\n")
    command = [sys.executable, "-m", f"vmhb_consumer.cmd.{name}", f"--config-file={config}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ran(folder: Path, url: str, name: str, *arguments: str) -> tuple[int, str]:
    """The same, to its end: exit code, and what it said."""
    process = program(folder, url, name, *arguments)
    said = "".join(process.communicate(timeout=120))
    return process.returncode, said


def test_the_programs(url: str, tmp_path: Path) -> None:
    """A consumer refuses to run before the tables are made, and each says what to run; afterwards none of them does."""
    remedy = "has none of our tables: run `nova-vmhb-manage db sync` of this version"
    code, said = ran(tmp_path, url, "consumer")
    assert code == 1 and remedy in said
    code, said = ran(tmp_path, url, "status", "upgrade", "check", "--json")
    assert code == 2 and remedy in said
    assert remedy in ran(tmp_path, url, "consumer", "--check-config")[1]
    assert ran(tmp_path, url, "manage", "db", "version") == (0, _version_of("none", url, "has none of our tables: "))
    assert ran(tmp_path, url, "manage", "db", "sync")[0] == 0
    assert ran(tmp_path, url, "status", "upgrade", "check")[0] == 0
    assert "[database]" not in ran(tmp_path, url, "consumer", "--check-config")[1]
    assert ran(tmp_path, url, "manage", "db", "version") == (0, _version_of("0003", url, "is what this program needs"))
    assert ran(tmp_path, url, "manage", "recoveries", "show")[0] == 0


def _version_of(first: str, url: str, text: str) -> str:
    more = "`nova-vmhb-manage db sync` makes them" if first == "none" else ""
    return f"{first}\n{sa.make_url(url).render_as_string()} {text}{more}\n"


def test_two_at_once(url: str, tmp_path: Path) -> None:
    """As on two controllers at the same time: one does it, the other finds it done."""
    both = [program(tmp_path, url, "manage", "db", "sync") for _ in range(2)]
    said = [one.communicate(timeout=120) for one in both]
    assert [wrong for _, wrong in said] == ["", ""]
    assert sorted("nothing to do" in told for told, _ in said) == [False, True]
    assert differences(url) == []


def test_one_that_does_not_end(url: str) -> None:
    """Another one waits for it, and goes on then."""
    synced(url)
    lock, free = _LOCKS[sa.make_url(url).get_backend_name()]
    holder = sa.create_engine(url)
    with holder.connect() as connection:
        connection.exec_driver_sql(lock)
        waiting = threading.Thread(target=synced, args=(url, Steps()))
        execute(url, "DROP TABLE vmhb_revisions")
        waiting.start()
        waiting.join(2)
        assert waiting.is_alive() and found_in(url).revision is None
        connection.exec_driver_sql(free)
        wait_until(lambda: found_in(url) == OURS, 30, "it goes on")
        waiting.join(10)
    holder.dispose()


_LOCKS = {
    "mysql": (
        "SELECT GET_LOCK(CONCAT('vmhb.', LEFT(DATABASE(), 50)), 1)",
        "SELECT RELEASE_LOCK(CONCAT('vmhb.', LEFT(DATABASE(), 50)))",
    ),
    "postgresql": ("SELECT pg_advisory_lock(1986881634)", "SELECT pg_advisory_unlock(1986881634)"),
}


def test_backup_and_restore(server: MariaDB | PostgreSQL, url: str, tmp_path: Path) -> None:
    """Taken while consumers write, put into an empty database: the same faults, and the same database to others."""
    synced(url)
    database = Database(url)
    database.open()
    records = Records(database, lambda change, fault: ["one"], [], 300.0)
    records.take(a_fault(), a_fault().raised_at.timestamp())
    identity = database.identity
    copy, file = server.make("restored_" + str(sa.make_url(url).database)[:40]), tmp_path / "backup"
    secret = {"MYSQL_PWD": getattr(server, "password", "")}
    with file.open("w") as written:
        subprocess.run(_dump(server, url), stdout=written, check=True, env=secret)
    database.close()
    with file.open() as read:
        subprocess.run(_load(server, copy), stdin=read, stdout=subprocess.DEVNULL, check=True, env=secret)
    restored = Database(copy)
    restored.open()
    assert restored.identity == identity
    assert Records(restored, lambda change, fault: [], [], 300.0).active() == [a_fault()]
    restored.close()
    assert synced(copy) == [] and differences(copy) == []


def _dump(server: MariaDB | PostgreSQL, url: str) -> list[str]:
    """As docs/consumer.rst has it."""
    name = str(sa.make_url(url).database)
    if isinstance(server, MariaDB):
        return ["/usr/bin/mariadb-dump", *_at(server), "--single-transaction", name]
    return [str(BIN / "pg_dump"), *_at(server), name]


def _load(server: MariaDB | PostgreSQL, url: str) -> list[str]:
    name = str(sa.make_url(url).database)
    if isinstance(server, MariaDB):
        return ["/usr/bin/mariadb", *_at(server), name]
    return [str(BIN / "psql"), *_at(server), "--quiet", "--set=ON_ERROR_STOP=1", name]


def _at(server: MariaDB | PostgreSQL) -> list[str]:
    if isinstance(server, MariaDB):
        return ["--no-defaults", "--host=127.0.0.1", f"--port={server.port}", f"--user={server.user}"]
    return ["--host=127.0.0.1", f"--port={server.port}", "--username=postgres"]
