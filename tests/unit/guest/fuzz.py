"""Nonsense for the guest's ears, both of them: `python -m tests.unit.guest.fuzz SECONDS [SEED]`.

Messages that are nearly right, and cut anywhere. What is checked: nothing raises, every answer is a legal line, tables
are bounded. What is told: how much was tried, and by how much memory grew after the first tenth of it.
"""

from __future__ import annotations

import json
import logging
import random
import re
import signal
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vmhb_guest import notify
from vmhb_guest.application import MAX_PROCESSES
from vmhb_guest.applications import MAX_APPLICATIONS, Applications, Sender
from vmhb_guest.codec import MAX_LINE, MAX_NAME
from vmhb_guest.conformance import schema
from vmhb_guest.faults import Faults
from vmhb_guest.health import DEGRADED, HEALTHY, merge
from vmhb_guest.session import Session
from vmhb_guest.strangers import MAX_STRANGERS, Strangers
from vmhb_guest.units import Told, Word

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
    b"MAINPID=7\nREADY=1",
)
#: What users make of numbers and names: every spelling, every length around the limit, and what the daemon itself makes
#: of a name that is taken, by the numbers of processes that there are here.
NUMBERS = ("²", "1①", "٣٤", "𝟗", "+1", "1_0", "-1", "nan", "1e999", "9" * 19, "9" * 4000, " 1", "")
LENGTHS = (1, 49, 50, 51, 52, 53, 54, 55, 59, 60, 61, 62, 63, 64, 65)
MARKS = ("", "[{pid}]", "'[{pid}]", "[{pid}.2]", "[{pid}.3]", "[", "]", '"', "\u202e", "\0")
#: Numbers that the host may send, in the place of any.
LARGE = (b"1" + b"0" * 400, b"1e999", b"-1", b"1e-400", b"[" * 500)
ROUND = 200
#: Seconds that a round may take, a few ms as a rule, on however busy a machine: beyond that something hangs.
PATIENCE = 20.0
#: Processes that join: few, so that their numbers are met again in names.
PROCESSES = 12
#: Where they are, and what systemd says of that.
UNITS, WORDS = ("", "/a.service", "/b.service"), tuple(Word)


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
    tried, table, strangers = Tried(), Applications(), Strangers()
    # A fault that the daemon would survive is found here all the same.
    faults = Faults()
    session = Session("fuzzed", lambda: merge([*table.findings(0.0), *strangers.findings(())]), faults)
    session.connect()
    tracemalloc.start()
    try:
        base = 0
        for number, mark in enumerate(rounds):
            if mark:
                base = tracemalloc.get_traced_memory()[0]
            with _patience():
                for _ in range(ROUND):
                    _feed(session, table, strangers, chance, number * 0.01, tried)
                # What was remembered by then is what the next daemon knows.
                Applications().load(json.loads(json.dumps(table.dump(number * 0.01))), number * 0.01)
        assert faults.count == 0
        tried.grown = tracemalloc.get_traced_memory()[0] - base
    finally:
        tracemalloc.stop()
    return tried


def _feed(
    session: Session, table: Applications, strangers: Strangers, chance: random.Random, now: float, tried: Tried
) -> None:
    data = _mutated(chance.choice(FROM_HOST), chance)
    if chance.random() < 0.05:
        data = re.sub(rb":\d+", lambda _: b":" + chance.choice(LARGE), data, count=1)
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
    assert session.interval is None or 0 < session.interval < 1e6
    mutated = chance.random() < 0.5
    said = notify.parse(_mutated(chance.choice(FROM_APPLICATIONS), chance) if mutated else _made(chance))
    pid = chance.randrange(1, 100) if mutated else chance.randrange(1, PROCESSES)
    sender = _sender(pid, chance, main=chance.random() < 0.2)
    # Who may join, or has, as the daemon's gate has it.
    if sender.uid < 5 or table.speaks(sender) or table.admits(sender, said, now):
        table.hear(sender, said, now)
    else:
        strangers.hear(sender, said, now)
    if chance.random() < 0.1:
        ends = chance.choice([pid, *(one.pid for one in (*table.living(), *strangers.living()))])
        table.end(ends, now)
        strangers.end(ends)
    if chance.random() < 0.1:
        table.waits(pid, now)
    for unit in table.asks(now):
        table.told(unit, Told(chance.choice(WORDS), chance.choice([0.0, now])), now, now)
    _consistent(table)
    assert len(table) <= MAX_APPLICATIONS
    if chance.random() < 0.1:
        found = table.findings(now)
        aside = strangers.findings([one.name for one in found])
        assert len(aside) <= MAX_STRANGERS and all(one.status in (HEALTHY, DEGRADED) for one in aside)
        names = [one.name for one in (*found, *aside)]
        assert len(set(names)) == len(names) and all(0 < len(name) <= MAX_NAME for name in names)


def _sender(pid: int, chance: random.Random, *, main: bool) -> Sender:
    """A process, in a unit or in none, that says of itself or of another one that it is the service, or nothing."""
    unit = chance.choice(UNITS)
    keeper = f"{unit[1:]}" if unit else chance.choice(["", "a.scope"])
    of = _sender(chance.choice([pid, chance.randrange(1, PROCESSES)]), chance, main=False) if main else None
    program, command = chance.choice("abc"), chance.choice(["c", "systemd-notify"])
    return Sender(pid, chance.randrange(9), command, chance.randrange(3), None, unit, keeper, program, of)


def _consistent(table: Applications) -> None:
    """Each process speaks for one application at most, and all that are watched do."""
    living = [sender.pid for sender in table.living()]
    assert len(living) == len(set(living)) <= MAX_APPLICATIONS * MAX_PROCESSES
    assert all(pid in table for pid in living)


def _made(chance: random.Random) -> bytes:
    """A message that is right but for its name and its number."""
    name = "b" * chance.choice(LENGTHS)
    mark = chance.choice(MARKS).format(pid=chance.randrange(1, PROCESSES))
    if chance.random() < 0.7:  # cut, as the daemon does it
        name = name[: max(MAX_NAME - len(mark), 0)]
    rows = [f"X-VMHB-NAME={name}{mark}"]
    if chance.random() < 0.2:
        rows.append(f"WATCHDOG_USEC={chance.choice(NUMBERS)}")
    return "\n".join(rows).encode()


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


@contextmanager
def _patience() -> Iterator[None]:
    """What hangs is found, and where. In the main thread."""

    def over(_number: int, _frame: object) -> None:
        raise AssertionError(f"a round took more than {PATIENCE:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
