"""A database from before the consumer kept what reporters were told, on each kind of server that there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes import a_fault
from tests.lab.mariadb import MariaDB
from tests.lab.postgresql import PostgreSQL
from tests.stage.tables import execute
from vmhb_common.model.fault import Resolution, cleared
from vmhb_consumer.database import Database
from vmhb_consumer.outbox import Outbox
from vmhb_consumer.repository import Records

pytestmark = pytest.mark.patient

THEN = a_fault().raised_at.timestamp()


@pytest.fixture(scope="module", params=["mariadb", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[MariaDB | PostgreSQL]:
    """For the one test."""
    with MariaDB() if request.param == "mariadb" else PostgreSQL() as one:
        yield one


def told(outbox: Outbox) -> list[str]:
    """What the reporter is handed, and takes."""
    lines = []
    while (row := outbox.take("one", THEN)) is not None:
        assert outbox.done(row)
        lines.append(f"{row.change.name.lower()} {row.fault.sequence}")
    return lines


def test_from_version_1(server: MariaDB | PostgreSQL) -> None:
    """Everybody has heard of the faults in it; what is told from then on is kept for each."""
    url = server.make("told")
    before = Database(url)
    before.sync()
    old = a_fault()
    Records(before, lambda change, fault: ["one"], [], 300.0).take(old, THEN)
    before.close()
    execute(url, "DELETE FROM vmhb_outbox", "DROP TABLE vmhb_told", "DROP TABLE vmhb_revisions")
    execute(url, "UPDATE vmhb_meta SET value = '1' WHERE name = 'schema_version'")
    both = [Database(url), Database(url)]
    both[0].sync()
    for one in both:
        one.open()
    records = Records(both[0], lambda change, fault: ["one"], [], 300.0)
    outbox = Outbox(both[1], "me")
    outbox.live("here", THEN)
    new = a_fault("c" * 8 + "-5b7d-4d4b-9a57-0c8f5b1f7c11", instance_uuid=None)
    for fault in (replace(old, sequence=2), new, replace(new, sequence=2, cause="other"), replace(new, sequence=3)):
        records.take(fault, THEN)
    assert told(outbox) == ["raised 1", "updated 2", "updated 3"]
    records.take(cleared(replace(old, sequence=2), Resolution.RECOVERED, old.raised_at), THEN)
    records.take(replace(new, sequence=4), THEN)
    assert told(outbox) == ["cleared 3"], "no reminder of what it has"
    for one in both:
        one.close()
