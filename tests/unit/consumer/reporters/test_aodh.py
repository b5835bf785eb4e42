"""The Aodh reporter: what it publishes, for whom, and what it does when it can't."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import a_fault
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.reporters.aodh import AodhReporter, event
from vmhb_consumer.reporters.base import Case, Done, Later

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


class Broker:
    """A transport that keeps what it is given, or raises."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.error: Exception | None = None

    def _send_notification(self, target: Any, ctxt: Any, message: Any, **_: Any) -> None:
        if self.error:
            raise self.error
        self.sent.append((target.topic, ctxt, message))

    _send = _send_notification

    def cleanup(self) -> None:
        """As a transport."""

    _driver = None


def options(**values: Any) -> Any:
    """The group, as oslo.config makes it."""
    conf = cfg.ConfigOpts()
    conf.register_opts(AodhReporter.options(), group="reporter_aodh")
    conf([], default_config_files=[], default_config_dirs=[])
    for name, value in {"transport_url": "rabbit://u:p@h/", **values}.items():
        conf.set_override(name, value, group="reporter_aodh")
    return conf.reporter_aodh


def reporter(broker: Broker, **values: Any) -> AodhReporter:
    return AodhReporter(options(**values), lambda: NOON, connect=lambda conf, url: broker)


def case(fault: Fault, change: Change = Change.RAISED) -> Case:
    return Case(change=change, fault=fault, latest=fault, received_at=NOON, attempt=1)


def test_an_event_is_as_the_listener_wants_it() -> None:
    """Its queue, its priority, and a list of events whose traits are [name, type, value]."""
    broker = Broker()
    fault = a_fault()
    reporter(broker).deliver(case(fault))
    ((topic, ctxt, message),) = broker.sent
    assert (topic, ctxt["project_id"]) == ("alarm.all.sample", fault.project_id)
    assert (message["priority"], message["event_type"]) == ("SAMPLE", "event")
    (told,) = message["payload"]
    assert told["event_type"] == "vmhb.fault.raised"
    traits = {name: (kind, value) for name, kind, value in told["traits"]}
    assert traits["project_id"] == traits["tenant_id"] == (1, fault.project_id)
    assert traits["resource_id"] == (1, fault.instance_uuid)
    assert traits["sequence"] == (2, fault.sequence)
    assert traits["drill"] == (1, "False")
    assert traits["occurred_at"] == (4, fault.occurred_at.replace(tzinfo=None).isoformat())


def test_told_twice_it_is_the_same() -> None:
    """Who keys on message_id sees a duplicate as one; the next change is another."""
    fault = a_fault()
    once, again = (event(Change.RAISED, fault, "p")["message_id"] for _ in range(2))
    assert once == again
    assert event(Change.UPDATED, replace(fault, sequence=fault.sequence + 1), "p")["message_id"] != once


def test_what_no_project_sees_is_not_wanted() -> None:
    """A host's fault has no project: it goes to the operator's, where there is one."""
    fault = a_fault(project_id=None, instance_uuid=None)
    assert not reporter(Broker()).wants(Change.RAISED, fault)
    broker = Broker()
    mine = reporter(broker, host_project_id="ops")
    assert mine.wants(Change.RAISED, fault)
    mine.deliver(case(fault))
    assert ["project_id", 1, "ops"] in broker.sent[0][2]["payload"][0]["traits"]


def test_a_broker_that_refuses_is_tried_again() -> None:
    """Nothing is taken for delivered that was not; the next try makes a new connection."""
    broker = Broker()
    mine = reporter(broker)
    broker.error = OSError("gone")
    outcome = mine.deliver(case(a_fault()))
    assert isinstance(outcome, Later) and "gone" in outcome.why
    broker.error = None
    assert mine.deliver(case(a_fault())) == Done()
    assert len(broker.sent) == 1


@pytest.mark.parametrize("url", [None, "not a url"])
def test_no_broker_is_said_at_once(url: str | None) -> None:
    """With the option's name."""
    with pytest.raises(ValueError, match="transport_url"):
        AodhReporter(options(transport_url=url), lambda: NOON)
