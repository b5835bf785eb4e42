"""Reporters as plugins: which there are, and how they are made."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from oslo_config import cfg

from tests.fakes import a_fault
from tests.unit.consumer.fakes import ToldReporter
from vmhb_common.conf import groups
from vmhb_common.model.fault import Change
from vmhb_consumer.reporters import loader as plugins
from vmhb_consumer.reporters.base import Again, Case, GiveUp, Reporter, Withheld
from vmhb_consumer.reporters.loader import BadReporter, Installed
from vmhb_consumer.reporters.log import LogReporter

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


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
    groups.register(one, plugins.groups(THERE))
    one([], default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        one.set_override(name, value, group="reporter_fussy")
    return one


def test_all_that_are_installed_load() -> None:
    """Each entry point is a reporter of that name, which says what it is and whose options have help."""
    there = plugins.installed()
    assert "log" in there.reporters and not there.broken
    for group in plugins.groups(there):
        assert group.HELP
        assert all(opt.help for opt in group.OPTS), group.GROUP


def test_each_sees_its_own_group_only() -> None:
    """In the order in which they are named, each once."""
    made = plugins.make(conf(), ["told", "log", "told"], THERE, now)
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
        plugins.make(conf(url=url), [name], THERE, now)


def test_one_that_is_not_used_does_no_harm() -> None:
    """Its options are known all the same: misspelt ones are found."""
    assert {group.GROUP for group in plugins.groups(THERE)} == {"reporter_fussy", "reporter_log", "reporter_told"}


def test_the_log_reporter(caplog: pytest.LogCaptureFixture) -> None:
    """One line with everything that is looked for; what a guest may have had a say in is escaped."""
    reporter = LogReporter(None, now)
    fault = a_fault(reason="evil\ntext")
    assert reporter.check() is None and reporter.wants(Change.RAISED, fault) and not reporter.acts
    with caplog.at_level(logging.INFO):
        reporter.deliver(Case(Change.RAISED, fault, fault, NOON, 1))
    reporter.close()
    (record,) = caplog.records
    assert fault.fault_id in record.message and str(fault.instance_uuid) in record.message
    assert "\n" not in record.message


def test_the_contracts_exceptions() -> None:
    """Withheld is a GiveUp that is no failure; memos are theirs."""
    assert issubclass(Withheld, GiveUp)
    assert Again("busy", 1.0, {"n": 1}).memo == Withheld("no", {"n": 1}).memo == {"n": 1}
    assert GiveUp("no").memo is None
    assert Reporter.acts, "one that does not say is not told of drills"
