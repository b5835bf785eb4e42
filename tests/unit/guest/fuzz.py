"""Nonsense for the guest's ears, both of them: `python -m tests.unit.guest.fuzz SECONDS [SEED]`.

Messages that are nearly right, and cut anywhere. What is checked: nothing raises, every answer is a legal line, tables
are bounded. What is told: how much was tried, and by how much memory grew after the first tenth of it.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

from vmhb_guest import notify
from vmhb_guest.applications import MAX_APPLICATIONS, Applications, Sender
from vmhb_guest.codec import MAX_LINE
from vmhb_guest.conformance import schema
from vmhb_guest.health import Report
from vmhb_guest.session import Session

FROM_HOST = (
    b'{"type":"challenge","seq":1,"nonce":"abc","health":true}\n',
    b'{"type":"welcome","version":1,"interval":1,"timeout":1}\n',
    b'{"type":"error","code":"x","detail":"y"}\n',
    b'{"type":"notice","event":"e","deadline":null}\n',
    *(b"\n", b"[[[[", b"x" * 5000),
)
FROM_APPLICATIONS = (
    b"READY=1\nX-VMHB-NAME=a",
    b"WATCHDOG_USEC=500000\nWATCHDOG=1",
    b"STATUS=\xff\xfe",
    b"STOPPING=1",
    b"X-VMHB-HEALTH=unhealthy\nSTATUS=x",
)
ROUND = 200


@dataclass
class Tried:
    """How much it was."""

    inputs: int = 0
    size: int = 0  #: bytes
    answers: int = 0
    grown: int = 0  #: bytes


def run(rounds: Iterator[bool], seed: int) -> Tried:
    """As many rounds as `rounds` has; a True among them is where memory is counted from."""
    chance = random.Random(seed)
    tried, table = Tried(), Applications()
    session = Session("fuzzed", lambda: Report(tuple(table.findings(0.0))))
    session.connect()
    tracemalloc.start()
    try:
        base = 0
        for number, mark in enumerate(rounds):
            if mark:
                base = tracemalloc.get_traced_memory()[0]
            for _ in range(ROUND):
                _feed(session, table, chance, number * 0.01, tried)
        tried.grown = tracemalloc.get_traced_memory()[0] - base
    finally:
        tracemalloc.stop()
    return tried


def _feed(session: Session, table: Applications, chance: random.Random, now: float, tried: Tried) -> None:
    data = _mutated(chance.choice(FROM_HOST), chance)
    session.receive(data, now)
    tried.inputs += 1
    tried.size += len(data)
    if chance.random() < 0.01:
        session.disconnect()
        session.connect()
    while session.output and chance.random() < 0.9:
        line = session.output
        session.written(len(line))
        message = json.loads(line)
        assert len(line.lstrip()) <= MAX_LINE and not schema.faults(message, message["type"]), line
        tried.answers += 1
    said = notify.parse(_mutated(chance.choice(FROM_APPLICATIONS), chance))
    pid = chance.randrange(1, 100)
    table.hear(Sender(pid, chance.randrange(9), "c", chance.randrange(3)), said, now)
    if chance.random() < 0.1:
        table.end(pid)
    assert len(table) <= MAX_APPLICATIONS


def _mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            out[at : at + 1] = chance.randbytes(1)
        elif kind == 1:
            del out[at : at + chance.randrange(8)]
        elif kind == 2:
            out[at:at] = chance.randbytes(chance.randrange(8))
        else:
            out[at:at] = chance.choice(FROM_HOST)[: chance.randrange(60)]
    return bytes(out)


def _for(seconds: float) -> Iterator[bool]:
    began = time.monotonic()
    marked = False
    while (spent := time.monotonic() - began) < seconds:
        mark = not marked and spent > seconds / 10
        marked |= mark
        yield mark


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(run(_for(float(sys.argv[1])), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
