"""A worker that is newer than the consumer has words that nobody here knows: they are handed on as they came."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from oslo_config import cfg

from nova_vmhb.vitrage import faults as vitrage
from tests.fakes import a_fault
from vmhb_common.model.fault import Change, Fault, cleared
from vmhb_common.model.fault import Resolution as Over
from vmhb_common.objects import FaultPayload, fault_payload, parse_fault
from vmhb_consumer import fault_rules
from vmhb_consumer.reporters import aodh, masakari_rules, mistral
from vmhb_consumer.reporters.base import CannotBeMade, Case, Refused, made
from vmhb_consumer.reporters.loader import installed
from vmhb_consumer.reporters.log import LogReporter
from vmhb_consumer.reporters.testing import options_of
from vmhb_consumer.reporters.webhook import WebhookReporter

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
#: Every field that is one word of a list, but `state`: what is neither raised nor cleared can't be kept.
WORDS = sorted(
    name
    for name, kind in FaultPayload.fields.items()
    if type(kind).__name__ == "EnumField" and name not in ("state", "resolution")
)


def newer(name: str) -> Fault:
    """As it comes out of the database: with a word, and a field, that came after this consumer."""
    payload = fault_payload(a_fault())
    payload["vmhb_object.version"] = "1.9"
    payload["vmhb_object.data"] |= {name: "brand_new", "invented_later": {"x": [1]}}
    return fault_rules.unpacked(fault_rules.packed(fault_rules.checked(parse_fault(payload))))


def by_mistral(fault: Fault) -> Any:
    case = Case(Change.RAISED, fault, fault, NOON, 1)
    assert mistral.recovery("w", case).input["fault"] == mistral.told("w", case).input["fault"]
    return mistral.told("w", case).input["fault"]


def by_the_webhook(fault: Fault) -> Any:
    mine = WebhookReporter(options_of(WebhookReporter, url="http://127.0.0.1:1/"), lambda: NOON)
    return json.loads(mine.request(Case(Change.RAISED, fault, fault, NOON, 1)).body)["fault"]


def by_aodh(fault: Fault) -> Any:
    return {name: value for name, _type, value in aodh.event(Change.RAISED, fault, "p")["traits"]}


def by_vitrage(fault: Fault) -> Any:
    return vitrage.entity(fault_rules.primitive(fault))


def by_the_topics(fault: Fault) -> Any:
    return json.loads(json.dumps(fault_rules.primitive(fault), allow_nan=False))["vmhb_object.data"]


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize(
    "tell", [by_mistral, by_aodh, by_the_webhook, by_vitrage, by_the_topics], ids=lambda tell: tell.__name__
)
def test_it_is_told_as_it_came(tell: Callable[[Fault], Any], name: str) -> None:
    """Nobody stumbles over it, and whoever tells of this field at all tells this word."""
    assert tell(newer(name)).get(name, "brand_new") == "brand_new"


@pytest.mark.parametrize("name", WORDS)
def test_masakari_and_the_log(name: str) -> None:
    """Masakari is told of the event that any silence is; the log has it as a line."""
    fault = newer(name)
    assert masakari_rules.event_of(fault) == masakari_rules.SILENT
    LogReporter(None, lambda: NOON).deliver(Case(Change.RAISED, fault, fault, NOON, 1))


def test_what_stumbles_over_a_word_would_be_seen() -> None:
    """The strict serialiser, which the worker has for its own faults, is what reporters must not use."""
    assert len(WORDS) == 6
    with pytest.raises(ValueError):
        fault_payload(newer("cause"))


def test_every_reporter_is_looked_at() -> None:
    """One that is new is to be looked at here, too."""
    assert sorted(installed().reporters) == ["aodh", "log", "masakari", "mistral", "webhook"]


def test_a_resolution_that_is_unknown_confirms_nothing() -> None:
    """The one word that is not handed on: only `recovered` says that a guest answers again."""
    payload = fault_payload(cleared(a_fault(), Over.RECOVERED, NOON))
    payload["vmhb_object.data"]["resolution"] = "brand_new"
    fault = fault_rules.checked(parse_fault(payload))
    assert fault.resolution is None
    assert by_mistral(fault)["resolution"] is None


def test_what_cannot_be_made_is_refused_once() -> None:
    """An error is the same with each try; the fault's next change is not to wait behind it."""
    broken = replace(a_fault(), raised_at=None)  # type: ignore[arg-type]
    with pytest.raises(CannotBeMade, match=r"an event can't be made of fault .* \(1\): AttributeError: .* Upgrade it"):
        made(lambda: by_aodh(broken), "an event", broken)
    assert made(lambda: 7, "an event", a_fault()) == 7


def test_an_execution_that_cannot_be_made() -> None:
    """Mistral is asked for nothing, and not for ever."""
    early = replace(a_fault(), occurred_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
    conf = cfg.ConfigOpts()
    conf.register_opts(mistral.MistralReporter.options(), group="reporter_mistral")
    conf([], default_config_files=[], default_config_dirs=[])
    for name, value in {"auth_type": "none", "endpoint_override": "http://127.0.0.1:1/v2", "workflow": "w"}.items():
        conf.set_override(name, value, group="reporter_mistral")
    mine = mistral.MistralReporter(conf.reporter_mistral, lambda: NOON)
    outcome = mine.deliver(Case(Change.RAISED, early, early, NOON, 1))
    assert isinstance(outcome, Refused) and "an execution's input can't be made" in outcome.why
