"""The worker's end of the protocol and vmhb-guest's, joined in memory; and what the worker says, against the schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

import vmhb_guest
from vmhb_guest.health import Finding, Report
from vmhb_guest.session import Session
from vmhb_worker.core.codec import GREETING, Codec, encode
from vmhb_worker.core.protocol import (
    Ack,
    Challenge,
    Check,
    Error,
    Goodbye,
    Health,
    Hello,
    Maintenance,
    Message,
    Notice,
    Status,
    Welcome,
)

SCHEMA = json.loads((Path(vmhb_guest.__file__).parent / "protocol-1.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "message",
    [
        Challenge(1, "0f"),
        Challenge(2**53 - 1, "n" * 64, True),
        Welcome(1, 0.2, 5.0),
        Error("refused", "d"),
        Notice("m", 1.0),
    ],
)
def test_what_the_worker_says_is_in_the_schema(message: Message) -> None:
    """What is written for others is what we keep to."""
    one = {"$ref": "#/$defs/from_host", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(one).validate(json.loads(encode(message)))


def test_both_ends_understand_each_other() -> None:
    """Challenges with and without health, words beside them, cut anywhere."""
    findings = (Finding("db", "unhealthy", "no connection"), Finding("web", "healthy"))
    guest, host = Session("web-1", lambda: Report(findings)), Codec()
    guest.connect()
    guest.maintenance(60.0, "index")
    words: tuple[Message, ...] = (Challenge(1, "a"), Challenge(2, "b", True), Welcome(1, 1.0, 1.0))
    said = GREETING + b"".join(encode(word) for word in words)
    for cut in range(0, len(said), 13):
        guest.receive(said[cut : cut + 13], 1.0)
    guest.goodbye("bye")
    heard = []
    while guest.output:
        heard += host.receive(guest.output[:7])
        guest.written(len(guest.output[:7]))
    report = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "no connection"), Check("web", Status.HEALTHY)))
    assert heard == [
        Hello(1, "web-1", system=sys.platform),
        Maintenance(60.0, "index"),
        Ack(1, "a"),
        Ack(2, "b", report),
        Goodbye("bye"),
    ]
    assert guest.interval == 1.0
    assert (host.counters.garbled, host.counters.bad, host.counters.unknown) == (0, 0, 0)
