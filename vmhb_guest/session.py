"""The guest's end of the protocol: what the host says, and what is answered. No I/O, no clock: time is an argument."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from vmhb_guest import codec
from vmhb_guest.budget import Budget
from vmhb_guest.codec import MAX_NAME, MAX_NONCE, MAX_TEXT, VERSION, BadMessage, clean
from vmhb_guest.faults import Faults
from vmhb_guest.health import Report

LOG = logging.getLogger(__name__)

#: Challenges answered of those that were read at once. The host never has more of them unanswered; what is older than
#: that was asked in another life.
MAX_CHALLENGES = 64
#: Errors sent at once; one a second afterwards. Two sides that do not understand each other stay quiet.
ERRORS = 8
#: Bytes that wait for a host that does not read. Beyond that, the oldest whole messages go.
MAX_OUTPUT = 32768
#: Seconds between challenges that a welcome may speak of, more than any policy has: JSON's numbers have no end.
MAX_INTERVAL = 86400.0


class Session:
    """One guest's side. Not thread-safe.

    `report` is asked for the state of health whenever a challenge is answered: it must return at once.
    """

    def __init__(self, name: str, report: Callable[[], Report], faults: Faults | None = None) -> None:
        self.name = clean(name, MAX_NAME) or "guest"
        self.connected = False
        self.acks = 0
        self.withheld = 0  #: challenges not answered, for an application that is silent, or since we have left
        self.bad = 0  #: lines that were no messages
        self.interval: float | None = None  #: seconds, as the host's welcome said
        self.challenged_at: float | None = None  #: monotonic seconds
        self.last_error = ""  #: what the host last objected to
        self.last_notice = ""
        self.left = ""  #: why we have left, and answer no more
        self._report = report
        self._faults = faults or Faults()
        self._lines = codec.Lines()
        self._output: list[bytes] = []
        self._begun = False  # the first of the output is half written
        self._errors = Budget(ERRORS)

    # -- the connection

    def connect(self) -> None:
        """The host is there, for the first time or again.

        What it said may have been read before: Linux tells that it is there on another queue than what it says. So what
        was read and answered meanwhile is kept.
        """
        self.connected = True
        self._errors.fill()
        self._put("hello", version=VERSION, name=self.name, system=sys.platform)
        if self.left:
            self.goodbye(self.left)  # it may be another host, or have been away when we said so

    def disconnect(self) -> None:
        """It is away, and half a line of either side is void. Whole answers are kept: late ones do no harm."""
        self.connected = False
        self._lines.forget()
        if self._begun:
            del self._output[0]
        self._begun = False
        self._output = [line for line in self._output if not line.lstrip().startswith(b'{"type":"hello"')]
        if self.output and not self.output.startswith(b"\n"):
            self._output[0] = b"\n" + self._output[0]

    @property
    def too_long(self) -> int:
        """Lines that were dropped for their length."""
        return self._lines.too_long

    # -- what is to be written

    @property
    def output(self) -> bytes:
        """What is to be written next: one message, or what is left of it; empty for nothing."""
        return self._output[0] if self._output else b""

    def written(self, count: int) -> None:
        """So many bytes of `output` are on their way."""
        rest = self._output[0][count:]
        self._begun = bool(rest)
        self._output[:1] = [rest] if rest else []

    # -- what was read

    def receive(self, data: bytes, now: float) -> None:
        """Take what the host sent. All that is to be answered is in `output` afterwards."""
        challenges: list[tuple[int, str, bool]] = []
        for line in self._lines.feed(data):
            with self._faults.of("a message of the host's"):
                self._take(line, challenges, now)
        for seq, nonce, health in challenges[-MAX_CHALLENGES:]:
            self.challenged_at = now
            with self._faults.of("the answer to a challenge"):
                self._answer(seq, nonce, health)

    def maintenance(self, seconds: float, reason: str) -> None:
        """Ask the host not to mind our silence for so long; 0: it is over."""
        whole = int(seconds) if float(seconds).is_integer() else seconds
        self._put("maintenance", seconds=whole, reason=clean(reason, MAX_TEXT))

    def goodbye(self, reason: str) -> None:
        """Leave monitoring, on purpose."""
        self._put("goodbye", reason=clean(reason, MAX_TEXT))

    def leave(self, reason: str) -> None:
        """Leave monitoring, and answer nothing from now on: the host takes an answer for our return.

        Unless it does not let us go: then it goes on to wait for answers, and has them.
        """
        self.left = clean(reason, MAX_TEXT) or "goodbye"
        if self.connected:
            self.goodbye(self.left)

    def stay(self) -> None:
        """We have not left after all."""
        self.left = ""

    def _take(self, line: bytes, challenges: list[tuple[int, str, bool]], now: float) -> None:
        try:
            message = codec.decode(line)
            if message["type"] == "challenge":
                challenges.append(self._challenge(message))
            else:
                self._told(message)
        except BadMessage as error:
            self.bad += 1
            # A line that is no message is dropped: it may be half of one, of an earlier life.
            if error.code != "not_json":
                self._object(error, now)

    def _challenge(self, message: dict[str, Any]) -> tuple[int, str, bool]:
        seq = codec.field(message, "seq", int)
        nonce = codec.field(message, "nonce", str)
        health = codec.field(message, "health", bool) if "health" in message else False
        if not 0 < len(nonce) <= MAX_NONCE or not nonce.isprintable():
            raise BadMessage("bad_message", f"challenge: nonce is not 1 to {MAX_NONCE} printable characters")
        if not 0 <= seq < 2**53:
            raise BadMessage("bad_message", "challenge: seq is not a whole number from 0 to 2^53 - 1")
        return seq, nonce, health

    def _answer(self, seq: int, nonce: str, health: bool) -> None:
        if self.left:
            self.withheld += 1
            return
        report = self._report()
        if health:
            self._put("ack", seq=seq, nonce=nonce, health=report.message())
        elif report.silent:
            # Nobody asked how we are, so there is no other way to say that an application does not answer.
            self.withheld += 1
            return
        else:
            self._put("ack", seq=seq, nonce=nonce)
        self.acks += 1

    def _told(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "welcome":
            version = codec.field(message, "version", int)
            if version != VERSION:
                raise BadMessage("bad_message", f"welcome: version {version}, this side speaks {VERSION}")
            interval = codec.field(message, "interval", float)
            if not 0 < interval <= MAX_INTERVAL:  # before it becomes a float, for which a whole number may be too large
                raise BadMessage("bad_message", f"welcome: interval is not a time of up to {MAX_INTERVAL:g} seconds")
            self.interval = float(interval)
        elif kind == "error":
            code, detail = (_text(message.get(name)) for name in ("code", "detail"))
            self.last_error = clean(f"{code}: {detail}", MAX_TEXT)
            LOG.warning("the host objects: %s", self.last_error)
            if self.left and code == "refused" and detail.startswith("goodbye"):
                self.stay()
        elif kind == "notice":
            self.last_notice = clean(codec.field(message, "event", str), MAX_TEXT)
            LOG.info("the host says: %s", self.last_notice)
        else:
            raise BadMessage("unknown_type", f"{clean(kind, MAX_NAME)} is not known here")

    def _object(self, error: BadMessage, now: float) -> None:
        if self._errors.take(now):
            self._put("error", code=error.code, detail=clean(str(error), MAX_TEXT))

    def _put(self, type_: str, **fields: Any) -> None:
        line = codec.encode(type_, **fields)
        # The newline before it is for a host that came again unnoticed; between messages that go together there is one.
        self._output.append(line if not self._output else line[1:])
        while sum(map(len, self._output)) > MAX_OUTPUT:
            del self._output[1 if self._begun else 0]


def _text(value: object) -> str:
    """What is no text is not said: to spell it out may take long, or be too deep."""
    return value if isinstance(value, str) else ""
