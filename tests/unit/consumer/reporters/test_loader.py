"""Reporters as plugins: which there are, and how they are made."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from oslo_config import cfg

from tests.fakes import a_fault
from tests.unit.consumer.fakes import ToldReporter
from vmhb_common.conf import groups
from vmhb_common.model.fault import Change, Resolution, cleared
from vmhb_common.objects import fault_payload
from vmhb_consumer.reporters import loader
from vmhb_consumer.reporters.base import Again, Case, Done, GiveUp, Later, Refused, Reporter, Withheld, outcome_of
from vmhb_consumer.reporters.loader import BadReporter, Installed
from vmhb_consumer.reporters.log import LogReporter

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


def now() -> datetime:
    return NOON


class Fussy(ToldReporter):
    """Refuses its options."""

    name = "fussy"

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return [cfg.StrOpt("url")]

    def __init__(self, options: object, _now: object) -> None:
        raise {"bug": RuntimeError("a bug")}.get(options.url, ValueError("say a url"))  # type: ignore[attr-defined]


THERE = Installed({"fussy": Fussy, "log": LogReporter, "told": ToldReporter}, {"broken": "ImportError: no module"})


def conf(**values: object) -> cfg.ConfigOpts:
    """With the groups of all of them."""
    one = cfg.ConfigOpts()
    groups.register(one, loader.groups(THERE))
    one([], default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        one.set_override(name, value, group="reporter_fussy")
    return one


def test_all_that_are_installed_load() -> None:
    """Each entry point is a reporter of that name, which says what it is and whose options have help."""
    there = loader.installed()
    assert "log" in there.reporters and not there.broken
    for group in loader.groups(there):
        assert group.HELP
        assert all(opt.help for opt in group.OPTS), group.GROUP


def test_each_sees_its_own_group_only() -> None:
    """In the order in which they are named, each once."""
    made = loader.make(conf(), ["told", "log", "told"], THERE, now)
    assert [(name, type(one)) for name, one in made.items()] == [("told", ToldReporter), ("log", LogReporter)]


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        ("tld", None, "reporters: tld: is not installed: there are fussy, log, told"),
        ("broken", None, "can't be loaded: ImportError: no module: install what it needs"),
        ("fussy", None, r"\[reporter_fussy\]: say a url"),
        ("fussy", "bug", "reporter fussy can't be made: RuntimeError: a bug"),
    ],
)
def test_one_that_cannot_be_used(name: str, url: str | None, says: str) -> None:
    """Which, why, and what to do."""
    with pytest.raises(BadReporter, match=says):
        loader.make(conf(url=url), [name], THERE, now)


def test_one_that_is_not_used_does_no_harm() -> None:
    """Its options are known all the same: misspelt ones are found."""
    assert {group.GROUP for group in loader.groups(THERE)} == {"reporter_fussy", "reporter_log", "reporter_told"}


def test_the_log_reporter(caplog: pytest.LogCaptureFixture) -> None:
    """One line with everything that is looked for; what a guest may have had a say in is escaped."""
    reporter = LogReporter(None, now)
    fault = a_fault(reason="evil\ntext")
    assert reporter.check() is None and reporter.wants(Change.RAISED, fault) and not reporter.acts
    with caplog.at_level(logging.INFO):
        assert reporter.deliver(Case(Change.RAISED, fault, fault, NOON, 1)) == Done()
    reporter.close()
    (record,) = caplog.records
    assert fault.fault_id in record.message and str(fault.instance_uuid) in record.message
    assert "\n" not in record.message


def test_what_reporters_used_to_raise() -> None:
    """It means what it meant: one with a memo has told its backend something, and reminders may help."""
    assert outcome_of(Again("busy", 1.0, {"n": 1})) == Later(1.0, "busy", {"n": 1}, known=True)
    assert outcome_of(Again("busy")) == Later(None, "busy")
    assert outcome_of(GiveUp("no")) == Refused("no", remind=True)
    assert outcome_of(Withheld("no", {"n": 1})) == Refused("no", rightly=True, remind=True, memo={"n": 1}, known=True)
    assert Reporter.acts, "one that does not say is not told of drills"


def test_what_a_reporter_hands_on() -> None:
    """All fields of the notification, and whether a recovery was ever asked for, which no field of the clear tells."""
    fault = replace(a_fault(), recommended_action="recover", recovery_attempt=1)
    over = cleared(fault, Resolution.RECOVERED, NOON)
    assert over.recommended_action == "none"
    told = Case(Change.CLEARED, over, over, NOON, 1).payload()
    assert told["event_type"] == "vmhb.fault.cleared"
    assert told["recovery_was_asked_for"] is True
    assert told["fault"] == fault_payload(over)["vmhb_object.data"]
    assert Case(Change.RAISED, a_fault(), a_fault(), NOON, 1).payload()["recovery_was_asked_for"] is False
