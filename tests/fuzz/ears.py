"""The process that is fuzzed: inputs as libFuzzer makes them, and what is held of whatever they meet. Its arguments are
libFuzzer's options, see `__main__`.

Of the worker: nothing is raised; no more than one line is kept, whatever comes; what comes out can be told, logged in
one line, and, where it is a message, said again as the same message. Of vmhb-guest: nothing is raised, every answer is
a legal line, tables and output are bounded. Of the control plane: see `control`. The first byte of an input says whose
ear it is for.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import logging
import sys
from typing import Any

import atheris

from tests.fuzz.seeds import KEPT_FAULT

with atheris.instrument_imports(include=["vmhb_common", "vmhb_consumer", "vmhb_worker", "vmhb_guest"]):
    from tests.fuzz import control
    from vmhb_guest import members, notify
    from vmhb_guest.applications import MAX_APPLICATIONS, Applications, Sender
    from vmhb_guest.codec import MAX_LINE, MAX_NAME
    from vmhb_guest.conformance import schema
    from vmhb_guest.faults import Faults
    from vmhb_guest.health import DEGRADED, HEALTHY, Report
    from vmhb_guest.session import MAX_OUTPUT, Session
    from vmhb_guest.strangers import Strangers
    from vmhb_guest.units import Told, Word
    from vmhb_worker.adapters.guest_agent import check_reply
    from vmhb_worker.core import guest_system
    from vmhb_worker.core.codec import LINE_LIMIT, Codec, Objection, encode
    from vmhb_worker.core.freeze import Freeze
    from vmhb_worker.core.guest_exec import GuestExec
    from vmhb_worker.core.guest_text import clean
    from vmhb_worker.core.health_watch import HealthWatch
    from vmhb_worker.core.protocol import FROM_GUEST, Ack, Error, Health
    from vmhb_worker.delivery.tables import TABLES, Unreadable


# -- the worker's ears


def _channel(data: bytes) -> None:
    """The application channel, in pieces."""
    codec, watch = Codec(FROM_GUEST), HealthWatch(bad=False)
    step = 1 + (data[0] if data else 0)
    for at in range(0, len(data), step):
        for message in codec.receive(data[at : at + step]):
            _sound(message)
            if isinstance(message, Ack) and message.health:
                _report(watch, message.health)
        assert len(codec._tail) < LINE_LIMIT


def _sound(message: Any) -> None:
    assert "\n" not in repr(message)
    if isinstance(message, Objection):
        encode(Error(str(message.code), message.detail))
    elif not (isinstance(message, Ack) and message.health):  # which may be longer, said again: escapes
        assert Codec(FROM_GUEST).receive(encode(message))[0] in (message, *_without_refusal(message))


def _without_refusal(message: Any) -> tuple[Any, ...]:
    return (Ack(message.seq, message.nonce),) if isinstance(message, Ack) else ()


def _report(watch: HealthWatch, report: Health) -> None:
    watch.heard(report, 1, 100.0)
    assert "\n" not in json.dumps(report.told())


def _agent(data: bytes) -> None:
    """Replies of the guest agent, as they come."""
    text = data.decode("utf-8", "replace")
    _checked(text, '{"return": {"pid": 1}}', text)
    failure, detail = check_reply(text, 7)
    assert detail.isprintable() and (failure is None) == (not detail)
    guest_system.by_agent(text)
    freeze = Freeze()
    freeze.answered(text, refused=False, now=1.0)
    assert not freeze.too_long(1.0)


def _refused(data: bytes) -> None:
    """What the guest agent says in its errors, lone surrogates and all; and what a guest says of its system."""
    text = data.decode("utf-8", "surrogateescape")
    said = clean(text, 500)
    assert said.isprintable() and len(said) <= 500 and clean(said, 500) == said
    said.encode()
    check = GuestExec()
    check.step()
    ended = check.failed(True, said)
    assert ended is not None and ended.why.isprintable()
    guest_system.by_name(said)


def _stored(data: bytes) -> None:
    """A row of the worker's file, whatever has become of it: it is read as it was written, or set aside."""
    text = data.decode("utf-8", "surrogateescape")
    for table in TABLES:
        columns = [text] * len(table.names[1:])
        spoilt = json.dumps(KEPT_FAULT | _object(text)) if table.name == "faults" else text
        for row in (tuple(columns), (spoilt, *columns[1:])):
            try:
                value = table.read("key", row[: len(columns)])
            except Unreadable as error:
                assert str(error)
                continue
            again = table.written("key", value)
            assert table.read("key", again) == value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _check(data: bytes) -> None:
    """What a health check printed, in a reply as the agent makes it."""
    code, said = (data[0], data[1:]) if data else (0, b"")
    out = base64.b64encode(said).decode()
    ended = json.dumps({"return": {"exited": True, "exitcode": code, "out-data": out}})
    _checked('{"return": {"pid": 1}}', ended)


def _checked(*replies: str) -> None:
    check, watch = GuestExec(), HealthWatch(bad=False)
    for reply in replies:
        check.step()
        ended = check.replied(reply, 100.0)
        if ended is not None and ended.report is not None:
            _report(watch, ended.report)


# -- vmhb-guest's ears


def _guest(data: bytes) -> None:
    """Its port."""
    faults = Faults()
    session = Session("fuzzed", lambda: Report(()), faults)
    session.connect()
    step = 1 + (data[0] if data else 0)
    for at in range(0, len(data), step):
        session.receive(data[at : at + step], 0.0)
        assert sum(map(len, session._output)) <= MAX_OUTPUT
    assert faults.count == 0, "the daemon survives it, but nobody has thought of it"
    while line := session.output:
        message = json.loads(line)
        assert len(line.lstrip()) <= MAX_LINE and not schema.faults(message, message["type"]), line
        session.written(len(line))


def _application(data: bytes) -> None:
    """Its socket: datagrams of a few senders, in a unit or in none, who end now and then."""
    table = Applications()
    for number, datagram in enumerate(data.split(b"\0")):
        pid, home = 1 + number % 7, (("", ""), ("/a.service", "a.service"))[number % 2]
        sender = Sender(pid, number % 3, "c", 1, None, *home)
        said = notify.parse(datagram)
        main = Sender(1 + number % 5, number % 3, "c", 1, None, *home) if "MAINPID" in said else None
        table.hear(dataclasses.replace(sender, main=main), said, float(number))
        if number % 5 == 4:
            table.end(pid, float(number))
        for unit in table.asks(float(number)):
            table.told(unit, Told(tuple(Word)[number % len(Word)]), float(number), float(number))
    names = [one.name for one in table.findings(1e6)]
    assert len(set(names)) == len(names) <= MAX_APPLICATIONS and max(map(len, names), default=0) <= MAX_NAME
    assert all("\n" not in one.name + one.message for one in table.findings(1e6))
    Applications().load(json.loads(json.dumps(table.dump())), 0.0)


def _stranger(data: bytes) -> None:
    """The same, of users who may not join: they make nothing unhealthy, and nobody waits for them."""
    table = Strangers()
    for number, datagram in enumerate(data.split(b"\0")):
        pid, unit = 1 + number % 7, ("", "/a.service")[number % 2]
        table.hear(Sender(pid, number % 3, "c", 1, None, unit), notify.parse(datagram), float(number))
    found = table.findings({"c", "a"})
    names = [one.name for one in found]
    assert len({*names, "c", "a"}) == len(names) + 2 and max(map(len, names), default=0) <= MAX_NAME
    assert all(one.status in (HEALTHY, DEGRADED) and "\n" not in one.name + one.message for one in found)


def _remembered(data: bytes) -> None:
    """A daemon's memory, whoever wrote it: each row is taken or set aside; and the setting that says who may join."""
    with contextlib.suppress(ValueError):
        members.words(data.decode("utf-8", "replace"))
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        return
    table = Applications(guard=Faults().of)
    table.load(rows if isinstance(rows, list) else [rows], 0.0)
    names = [one.name for one in table.findings(1e6)]
    assert len({*names}) == len(names) == len(table.dump(1e6)) <= MAX_APPLICATIONS


EARS = (
    *(_channel, _agent, _check, _guest, _application, _stranger, _remembered, _refused, _stored),
    *(control.fault, control.nova, control.call),
)


def one(data: bytes) -> None:
    """One input."""
    if data:
        EARS[data[0] % len(EARS)](data[1:])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
