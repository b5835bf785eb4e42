"""The steps of the consumer's tables: from whatever older consumers left behind to ours, on SQLite; and what a step may
do. The same on MariaDB and PostgreSQL: tests/functional/test_database_upgrade.py.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.stage.tables import OLD, differences, execute, found_in, lay, steps_with, undeclared
from tests.unit.consumer.conftest import Desk, another
from vmhb_consumer import upgrade
from vmhb_consumer.database import Database, Refused, Stuck
from vmhb_consumer.recovery_places import OF_THE_BOARD, Board
from vmhb_consumer.schema import GENERATION, GENERATIONS
from vmhb_consumer.standing import Found
from vmhb_consumer.stop_button import Pause
from vmhb_consumer.upgrade import FOLDER, Steps

#: Each step, and what it was when it was first run anywhere: it is never changed, one is added.
FINGERPRINTS = {
    "first_tables.py": "51044ab4dd437d08",
    "stop_button.py": "c6ad92846967f4d2",
    "what_was_told.py": "58402124cc72b293",
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database that is not there yet."""
    return f"sqlite:///{tmp_path / 'db'}"


def opened(url: str, steps: Steps | None = None) -> Database:
    """As a consumer opens it."""
    database = Database(url, steps=steps)
    database.open()
    return database


@pytest.mark.parametrize("version", ["none", *OLD])
def test_from_before(url: str, version: str) -> None:
    """Whatever it was, it has the tables that the program uses, and is known as the same database."""
    if version != "none":
        lay(url, version)
    database = opened(url)
    assert database.identity == "11111111-2222-4333-8444-555555555555" or version == "none"
    assert database.known.generation == GENERATION
    database.close()
    assert differences(url) == []
    assert found_in(url) == Found("0003", GENERATION)


def test_what_was_told_is_filled_in_once(url: str) -> None:
    """Of faults that came after version 2 there are no rows for everybody: nobody was told of them unseen."""
    lay(url, "2")
    execute(url, "INSERT INTO vmhb_faults VALUES ('f', 1, 'raised', 'h', NULL, NULL, 0, 0.0, 0.0, 0.0, '{}')")
    database = opened(url)
    assert database.run(lambda c: c.exec_driver_sql("SELECT count(*) FROM vmhb_told").scalar()) == 0
    database.close()


def test_a_table_of_ours_that_lacks_its_index(url: str) -> None:
    """As a consumer that was killed while it made them left it: what lacks is made."""
    lay(url, "3")
    execute(url, "DROP INDEX vmhb_outbox_due", "DROP TABLE vmhb_queues")
    opened(url).close()
    assert differences(url) == []


def test_made_in_part(url: str) -> None:
    """Tables, and no row in them: killed in its very first start."""
    lay(url, "3")
    execute(url, "DELETE FROM vmhb_meta", "DROP TABLE vmhb_permits")
    opened(url).close()
    assert differences(url) == []
    assert found_in(url) == Found("0003", GENERATION)


# -- ahead, and behind -------------------------------------------------------------------------------------------------


def test_ahead_by_an_addition(url: str, tmp_path: Path) -> None:
    """A program that does not know the last step goes on; one that knows it does, too."""
    newer = steps_with(tmp_path, r0004='add_column("vmhb_faults", sa.Column("extra", sa.Integer))')
    opened(url, newer).close()
    database = opened(url)
    assert database.found() == Found("0004", GENERATION)
    assert database.sync() == []
    database.close()


def test_ahead_by_more(url: str, tmp_path: Path) -> None:
    """One that takes something away keeps out who does not know of it."""
    newer = steps_with(tmp_path, r0004="set_generation(99)")
    newer.bring(sa.create_engine(url))
    with pytest.raises(Refused, match="for programs of generation 99 and later, and this one is of 3: upgrade"):
        opened(url)


def test_a_revision_that_is_not_true(url: str) -> None:
    """The program looks itself, and names what it lacks."""
    opened(url).close()
    execute(url, "DROP TABLE vmhb_pauses", "ALTER TABLE vmhb_outbox DROP COLUMN problem")
    database = Database(url)
    with pytest.raises(Refused, match=r"lacks the column vmhb_outbox.problem, the table vmhb_pauses, which"):
        database.open()
    database.close()
    opened_by_hand = Database(url)
    with pytest.raises(Refused, match="lacks"):
        opened_by_hand.sync()
    opened_by_hand.close()


@pytest.mark.parametrize("row", ["schema_version", "database_id", "permits"])
def test_a_row_that_is_not_there(url: str, row: str) -> None:
    """Without its row `permits` would lock nothing, say."""
    opened(url).close()
    execute(url, f"DELETE FROM vmhb_meta WHERE name = '{row}'")  # noqa: S608 -- a word of the table above
    with pytest.raises(Refused, match=f"lacks the row {row} of vmhb_meta"):
        opened(url)


def test_two_revisions(url: str) -> None:
    """An older backup was loaded over a newer database: that is said, whoever meets it."""
    opened(url).close()
    execute(url, "INSERT INTO vmhb_revisions VALUES ('0002')")
    for meet in (Database.open, Database.sync, Database.visit):
        database = Database(url)
        with pytest.raises(Refused, match="was it restored over another one"):
            meet(database)
        database.close()


def test_the_stop_button_between_two_versions(url: str, tmp_path: Path) -> None:
    """The next is installed, and its step was not run yet: recoveries can be stopped all the same, and nothing else."""
    opened(url).close()
    newer = Database(url, steps=steps_with(tmp_path, r0004='add_column("vmhb_faults", sa.Column("extra", sa.Integer))'))
    newer.visit(OF_THE_BOARD)
    Board(newer).press(Pause("storage is away", 0.0, 9e9, "me"))
    with pytest.raises(Refused, match="this program needs 0004"):
        newer.visit()
    newer.close()
    older = opened(url)
    assert Board(older).pause() is not None
    older.close()


def test_a_step_that_fails(url: str, tmp_path: Path) -> None:
    """It is said which and why; what it did is undone, the database is as it was; mended, it goes on."""
    opened(url).close()
    first = 'add_column("vmhb_faults", sa.Column("extra", sa.Integer))\n'
    bad = steps_with(tmp_path, r0004=first + 'op.drop_table("nowhere")')
    database = Database(url, steps=bad)
    with pytest.raises(Stuck, match=r"the step to revision 0004 failed, it stays at revision 0003: .*no such table"):
        database.open()
    database.close()
    assert differences(url) == []
    assert found_in(url) == Found("0003", GENERATION)
    opened(url).close()
    opened(url, steps_with(tmp_path, r0004=first)).close()
    assert found_in(url) == Found("0004", GENERATION)


def test_a_file_that_may_not_be_written(url: str, tmp_path: Path) -> None:
    """The same, with a remedy."""
    lay(url, "1")
    with pytest.raises(upgrade.Halted, match=r"it has no revision yet: .*readonly database: it takes a user who may"):
        Steps().bring(sa.create_engine(f"sqlite:///file:{tmp_path / 'db'}?mode=ro&uri=true"))


def test_held_by_somebody(url: str) -> None:
    """It is not waited for without end, and nothing is changed."""
    lay(url, "1")
    holder = sa.create_engine(url)
    with holder.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(upgrade.Halted, match="database is locked: somebody holds a table: see"):
            Steps().bring(sa.create_engine(f"{url}?timeout=0.1"))
    holder.dispose()
    assert found_in(url) == Found(None, 1)
    opened(url).close()


def test_a_copy_of_sqlite(tmp_path: Path) -> None:
    """Made beside a consumer by the command in the docs, and put back: the same database, with what was in its log."""
    page = Path(__file__).parents[3] / "docs/consumer.rst"
    (line,) = (line.strip() for line in page.read_text().splitlines() if ".backup(" in line)
    place, name = "/var/lib/vmhb-consumer/", "nova-vmhb-consumer.sqlite"
    assert place + name in line
    running = opened(f"sqlite:///{tmp_path / name}")
    desk = Desk(running)
    desk.take(another("a"))
    subprocess.run(line.replace(place, f"{tmp_path}/"), shell=True, check=True, cwd=tmp_path)  # noqa: S602 -- the docs'
    desk.take(another("b"))
    restored = opened(f"sqlite:///{tmp_path / 'vmhb.sqlite'}")
    assert restored.identity == running.identity
    assert Desk(restored).open() == ["a1"] and desk.open() == ["a1", "b1"]
    restored.close()
    running.close()


# -- what a step may do ------------------------------------------------------------------------------------------------


def modules() -> list[Any]:
    """Of our steps, from the first to the last."""
    return [step.module for step in Steps().scripts]


def number(release: str) -> tuple[int, ...]:
    """For comparing."""
    return tuple(map(int, release.split(".")))


def hasty(step: Any, generations: Any = GENERATIONS) -> str | None:
    """What is wrong with a step that takes away: it comes in the release that stopped to use that, or before it."""
    needs = getattr(step, "contracts", None)
    if needs is None or number(generations.get(needs, step.release)) < number(step.release):
        return None
    return f"{step.revision} contracts in release {step.release}: programs of generation {needs} must be in one before"


def test_steps_only_add(url: str) -> None:
    """Programs from before such a step go on beside it. One that takes away says for whom that is."""
    assert undeclared(url, Steps()) == []


def test_what_is_taken_away_was_given_up_a_release_before() -> None:
    """So at any time the release before can be run beside this one's tables."""
    assert [problem for step in modules() if (problem := hasty(step))] == []
    releases = [number(step.release) for step in modules()]
    assert releases == sorted(releases)
    assert [number(GENERATIONS[one]) for one in sorted(GENERATIONS)] == sorted(map(number, GENERATIONS.values()))


BATCH = 'with op.batch_alter_table("vmhb_faults") as table:\n    '


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('op.drop_table("vmhb_memos")', "the table vmhb_memos is gone"),
        ('op.rename_table("vmhb_memos", "vmhb_notes")', "the table vmhb_memos is gone"),
        ('op.drop_column("vmhb_outbox", "problem")', "the column vmhb_outbox.problem is gone"),
        ('op.execute("ALTER TABLE vmhb_outbox RENAME problem TO why")', "the column vmhb_outbox.problem is gone"),
        (f'{BATCH}table.alter_column("host", type_=sa.String(64))', "vmhb_faults.host was VARCHAR(255), and is"),
        (f'{BATCH}table.alter_column("channel", nullable=False)', "vmhb_faults.channel must not be NULL any more"),
        (
            "op.execute(\"ALTER TABLE vmhb_memos ADD COLUMN x TEXT NOT NULL DEFAULT ''\")\n"
            'with op.batch_alter_table("vmhb_memos") as table:\n    table.alter_column("x", server_default=None)',
            "the new column vmhb_memos.x must be written, by who does not know it",
        ),
        (
            'op.create_index("x", "vmhb_faults", ["host"], unique=True)',
            "vmhb_faults demands more of a row: unique host",
        ),
        (f'{BATCH}table.create_check_constraint("x", "sequence > 0")', "vmhb_faults demands more of a row: check"),
        (
            f'{BATCH}table.create_foreign_key("x", "vmhb_workers", ["host"], ["host"])',
            "vmhb_faults demands more of a row: foreign key host",
        ),
        ('op.execute("DELETE FROM vmhb_faults")', "a row of vmhb_faults is gone, or another"),
        ("op.execute(\"UPDATE vmhb_faults SET host = 'x'\")", "a row of vmhb_faults is gone, or another"),
    ],
)
def test_what_a_step_must_not(url: str, tmp_path: Path, body: str, says: str) -> None:
    """The test of our steps can fail."""
    problems = undeclared(url, steps_with(tmp_path, r0004=body))
    assert len(problems) == 1 and problems[0].startswith(f"0004: {says}")


def test_what_is_declared_is_done(url: str, tmp_path: Path) -> None:
    """A step that says for whom its tables are writes it down, too: else older programs would go on."""
    folder = steps_with(tmp_path, r0004='op.drop_table("vmhb_memos")').folder
    with (folder / "versions/r0004.py").open("a") as file:
        file.write("\n\ncontracts = 4\n")
    assert undeclared(url, Steps(folder)) == ["0004: contracts = 4, and the generation is 3: set_generation(4)"]


@pytest.mark.parametrize(
    "body",
    [
        'create_table("vmhb_more", sa.Column("x", sa.Integer, primary_key=True), sa.Index("vmhb_more_x", "x"))',
        'add_column("vmhb_faults", sa.Column("x", sa.String(64)))',
        'add_column("vmhb_faults", sa.Column("x", sa.Integer, nullable=False, server_default="0"))',
        'create_index("vmhb_faults_host", "vmhb_faults", "host")',
        'fill_in("more", "1")',
    ],
)
def test_what_a_step_may(url: str, tmp_path: Path, body: str) -> None:
    """Done twice, it is done once: so may the part be that was done when it was stopped."""
    assert undeclared(url, steps_with(tmp_path, r0004=f"{body}\n{body}")) == []


class Late:
    """A step that takes away what generation 4 does without."""

    revision, contracts = "0009", 4
    release = "0.3.0"


def test_too_hasty() -> None:
    """Not in the release that gave it up, nor where nobody has."""
    assert hasty(Late, {4: "0.2.0"}) is None
    said = "0009 contracts in release 0.3.0: programs of generation 4 must be in one before"
    assert hasty(Late, {4: "0.3.0"}) == hasty(Late, {3: "0.1.0"}) == said


def test_no_step_is_changed() -> None:
    """Databases that have done it would never see the change: add a step."""
    found = {path.name: _fingerprint(path) for path in (FOLDER / "versions").glob("*.py") if path.stem != "__init__"}
    assert found == FINGERPRINTS


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
