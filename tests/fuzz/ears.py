"""The process that is fuzzed: inputs as libFuzzer makes them, and what is held of whatever they meet. Its arguments are
libFuzzer's options, see `__main__`.

Of the worker: nothing is raised; no more than one line is kept, whatever comes; what comes out can be told, logged in
one line, and, where it is a message, said again as the same message. Of vmhb-guest: nothing is raised, every answer is
a legal line, tables and output are bounded. The first byte of an input says whose ear it is for.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["vmhb_common", "vmhb_worker", "vmhb_guest"]):
    from vmhb_guest import notify
    from vmhb_guest.applications import MAX_APPLICATIONS, Applications, Sender
    from vmhb_guest.codec import MAX_LINE, MAX_NAME
    from vmhb_guest.conformance import schema
    from vmhb_guest.faults import Faults
    from vmhb_guest.health import Report
    from vmhb_guest.session import MAX_OUTPUT, Session
    from vmhb_guest.units import Told, Word
    from vmhb_worker.core.codec import LINE_LIMIT, Codec, Objection, encode
    from vmhb_worker.core.guest_exec import GuestExec
    from vmhb_worker.core.health_watch import HealthWatch
    from vmhb_worker.core.protocol import FROM_GUEST, Ack, Error, Health


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


EARS = (_channel, _agent, _check, _guest, _application)


def one(data: bytes) -> None:
    """One input."""
    if data:
        EARS[data[0] % len(EARS)](data[1:])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
