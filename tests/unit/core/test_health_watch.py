"""When an application is unhealthy, and when it is no longer."""

from __future__ import annotations

from vmhb_worker.core.absence import DAY, Maintenances
from vmhb_worker.core.health_watch import HealthWatch, Turn, in_words
from vmhb_worker.core.instance_state import Spell
from vmhb_worker.core.protocol import Check, Health, Status
from vmhb_worker.core.witnesses import OtherChannel

GOOD, FAIR = Health(Status.HEALTHY), Health(Status.DEGRADED)
BAD = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "gone"), Check("web", Status.HEALTHY)))
WORSE = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY), Check("web", Status.UNHEALTHY)))


def test_so_many_in_a_row() -> None:
    """One that is well in between begins anew, both ways; degraded is not unhealthy."""
    watch = HealthWatch(False)
    turns = [watch.heard(report, 3, 1.0) for report in (BAD, BAD, FAIR, BAD, BAD, BAD)]
    assert turns == [Turn.NONE] * 5 + [Turn.BAD]
    assert [watch.heard(report, 3, 60.9) for report in (BAD, WORSE)] == [Turn.NONE, Turn.NONE]
    turns = [watch.heard(report, 3, 61.0) for report in (BAD, WORSE, BAD, GOOD, GOOD, BAD, FAIR, GOOD, GOOD)]
    assert turns == [Turn.NONE, Turn.NEWS, *[Turn.NONE] * 6, Turn.WELL]
    assert (watch.bad, watch.at) == (False, 61.0)


def test_none_at_all() -> None:
    """So many without a word end what was found, and accuse nobody."""
    watch = HealthWatch(True)
    assert [watch.missed("why", 2) for _ in range(3)] == [Turn.NONE, Turn.UNKNOWN, Turn.NONE]
    assert watch.told(3.0) == {"unhealthy": False, "report": None, "age": None, "unavailable": "why"}
    watch.heard(GOOD, 2, 3.0)
    watch.drop()
    assert watch.report is None


def test_one_that_says_nothing_about_it() -> None:
    """It neither counts, for or against, nor starts the counting anew."""
    watch = HealthWatch(False)
    turns = [watch.heard(BAD, 3, 1.0), watch.heard(BAD, 3, 1.0)]
    turns += [watch.missed("why", 3, stands) for stands in (True, False, True, False, False)]
    assert [*turns, watch.heard(BAD, 3, 2.0)] == [Turn.NONE] * 7 + [Turn.BAD]
    assert [watch.missed("why", 2, stands=True) for _ in range(100)] == [Turn.NONE] * 100
    assert [watch.missed("why", 2, stands) for stands in (False, True, False)] == [Turn.NONE, Turn.NONE, Turn.UNKNOWN]
    watch = HealthWatch(True)
    turns = [watch.heard(GOOD, 2, 3.0), watch.missed("why", 2, stands=True), watch.heard(GOOD, 2, 4.0)]
    assert turns == [Turn.NONE, Turn.NONE, Turn.WELL]


def test_reasons_in_words() -> None:
    """What is wrong, or that nothing more was said."""
    assert in_words(BAD) == "db: gone"
    assert in_words(WORSE) == "db; web"
    assert in_words(Health(Status.UNHEALTHY)) == "it says unhealthy, and no more"


def test_maintenance_over_a_day() -> None:
    """What lies more than a day back is not counted."""
    times = Maintenances(100.0, (Spell(-DAY - 50.0, -DAY + 20.0), Spell(0.0, 30.0)))
    assert times.left(0.0) == 80.0
    assert times.left(30.0) == 70.0
    assert times.begin(500.0, 30.0) == 70.0
    assert times.begin(500.0, 30.0) == 70.0
    assert times.spells[-1] == Spell(30.0, 100.0)
    assert times.begin(1.0, 100.0) == 0.0
    assert times.begin(500.0, DAY + 50.0) == 50.0
    times.end(DAY + 50.0)
    assert times.until == 100.0
    empty = Maintenances(0.0, ())
    empty.end(1.0)
    assert empty.begin(5.0, 1.0) == 0.0
    assert empty.until < 0.0


def test_the_other_channel_is_asked_once_at_a_time() -> None:
    """And only where there is one."""
    other = OtherChannel()
    assert not other.ask(0.0)
    other.present = True
    assert other.ask(0.0)
    assert not other.ask(0.0)
    assert (other.pending, other.overdue(14.9), other.overdue(15.0), other.overdue(16.0)) == (True, False, True, False)
    other.answered(None, "busy", 16.0)
    assert other.said.told(16.0) == {"value": "unavailable", "reason": "busy"}
    other.forget()
    assert other.said.why == "not asked"
