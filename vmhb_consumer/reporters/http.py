"""HTTP for a reporter without Keystone: options of its own group, one request, and what its answer means.

With the standard library alone. Everything is bounded: the whole of a request by `timeout`, however slowly an answer
drips; an answer by LIMIT. Redirects are not followed: a POST would become a GET, and a token would go to somebody else.
Proxies of the environment are not used.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from typing import Any, ClassVar
from urllib.parse import urlsplit

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_consumer.reporters.base import CannotBeMade, Case, Reporter, made
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused

#: Bytes that are read of an answer's body; the rest is nobody's concern.
LIMIT = 64 * 1024
#: Of an answer, in a log line.
SHOWN = 200
#: `Reporter.check` may take 4 s.
CHECK = 3.5
#: Seconds that a server may have us wait, by `Retry-After`.
MAX_RETRY_AFTER = 3600.0

#: Answers that another try of the same request can't change. 401, 403 and 404 are none: an operator mends them, and
#: what waited is told then. Proxies answer 404 and 5xx while what is behind them is being redeployed.
REFUSING = frozenset({400, 405, 410, 411, 413, 414, 415, 422, 431})

TLS: Sequence[cfg.Opt] = (
    cfg.StrOpt("cafile", help=prose("CA certificates, PEM, to verify HTTPS servers with. By default the system's.")),
    cfg.StrOpt("certfile", help=prose("Our own certificate, PEM, where servers ask for one.")),
    cfg.StrOpt("keyfile", help=prose("The key of certfile, PEM.")),
    cfg.BoolOpt("insecure", default=False, help=prose("Take any server's certificate. For tests only.")),
)
TIMEOUT = seconds_opt(
    "timeout",
    20.0,
    1.0,
    60.0,
    """
How long a server may take to answer one request; afterwards it is tried again.

Raise it where the service is slow but does answer; nobody else waits meanwhile.

Seconds, 1 to 60.
""",
)
#: A secret, since many a service has its users' keys in it.
URL = cfg.StrOpt("url", secret=True, help=prose("Where to send to, http://… or https://…. Required."))


def options() -> Sequence[cfg.Opt]:
    """What `Client` wants in a reporter's group."""
    return (URL, *TLS, TIMEOUT)


class Unreachable(Exception):
    """No answer. The text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. path: appended to the URL's, such as `/events`; with a query, if any."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. body: LIMIT bytes at most; whole: was that all of it?"""

    status: int
    headers: Message
    body: bytes
    whole: bool = True

    @property
    def text(self) -> str:
        """In the charset that the server names, UTF-8 otherwise; what can't be read is replaced."""
        charset = self.headers.get_content_charset() or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except (LookupError, ValueError):  # a charset that there is not, or that is none for text
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """ValueError where it is none."""
        if not self.whole:
            raise ValueError(f"more than {LIMIT} bytes")
        try:
            return json.loads(self.text)
        except RecursionError as error:
            raise ValueError("too deep") from error

    @property
    def shown(self) -> str:
        """Fit for a log line."""
        return f"{self.status} {self.text[:SHOWN]!a}"


def outcome_of(answer: Answer, backend: str, remedies: Mapping[int, str] | None = None) -> Outcome:
    """What an answer means for the change that was sent. backend: its name, for people. remedies: by status, what an
    operator should do. Reads no body: one that another status goes with than is meant needs its own reading."""
    status = answer.status
    if 200 <= status < 300:
        return Done()
    why = f"{backend} says {answer.shown}"
    if remedies and status in remedies:
        why = f"{why}: {remedies[status]}"
    if 300 <= status < 400:
        where = ascii(answer.headers.get("Location", ""))[:SHOWN]
        return Later(None, f"{why}: redirects are not followed; say where it is in url: {where}")
    if status in REFUSING:
        return Refused(why)
    return Later(_retry_after(answer), why)


def _retry_after(answer: Answer) -> float | None:
    """Seconds; a date is not read, and we back off."""
    said = answer.headers.get("Retry-After", "").strip()
    return min(float(said), MAX_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,9}", said, re.ASCII) else None


@dataclass(frozen=True, slots=True)
class _Place:
    secure: bool
    host: str
    port: int
    path: str


def _place(url: str | None) -> _Place:
    """ValueError with one sentence where it is none."""
    if not url:
        raise ValueError("url is missing: say where to send to, https://…")
    if not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ValueError("url has white space, or what is not ASCII: write it with %-escapes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url is none: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url is none that begins with http:// or https://, and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url has a user or password in it, which would be seen in logs: use the options for that")
    if parts.fragment:
        raise ValueError("url has a fragment (#…), which is never sent: leave it out")
    secure = parts.scheme == "https"
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return _Place(secure, parts.hostname, (443 if secure else 80) if port is None else port, path)


class Client:
    """One server. A connection for each request: faults are rare, and certificates may be replaced meanwhile. Any
    thread."""

    def __init__(self, group: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """group: with the options above. Connects to nothing. ValueError where one makes no sense."""
        self._at = _place(group.url)
        self._group = group
        self._clock = clock
        if group.keyfile and not group.certfile:
            raise ValueError("keyfile without certfile: say both, or put both into certfile")
        if self._at.secure:
            try:
                self._context()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise ValueError(f"cafile, certfile or keyfile can't be used: {error}") from error

    def send(self, request: Request) -> Answer:
        """BLOCKS for `timeout` at most, but for the name's look-up. Raises Unreachable."""
        with self._connected(self._group.timeout) as (connection, until):
            headers = {"User-Agent": "nova-vmhb", **request.headers}
            connection.request(request.method, _joined(self._at.path, request.path), request.body, headers)
            answer = connection.getresponse()
            body, whole = self._read(answer, until)
            return Answer(answer.status, answer.headers, body, whole)

    def check(self) -> str | None:
        """BLOCKS for CHECK at most. Connects, by TLS where that is asked for, and sends nothing."""
        try:
            with self._connected(min(CHECK, self._group.timeout)):
                return None
        except Unreachable as error:
            return f"{error}: check url, and cafile, certfile and keyfile"

    @contextlib.contextmanager
    def _connected(self, seconds: float) -> Iterator[tuple[http.client.HTTPConnection, float]]:
        """Until then, by the clock, everything has to be done: the connection is cut by another thread."""
        until = self._clock() + seconds
        place = self._at
        cut = None
        connection: http.client.HTTPConnection | None = None
        try:
            connection = (
                http.client.HTTPSConnection(place.host, place.port, timeout=seconds, context=self._context())
                if place.secure
                else http.client.HTTPConnection(place.host, place.port, timeout=seconds)
            )
            connection.connect()
            cut = threading.Timer(max(0.0, until - self._clock()), _cut, [connection.sock])
            cut.daemon = True
            cut.start()
            yield connection, until
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = self._clock() >= until
            why = f"no answer within {seconds:g} s" if late else f"{type(error).__name__}: {error!s:.{SHOWN}}"
            raise Unreachable(f"{place.host}:{place.port} can't be asked: {' '.join(why.split())}") from error
        finally:
            if cut is not None:
                cut.cancel()
            if connection is not None:
                connection.close()

    def _read(self, answer: http.client.HTTPResponse, until: float) -> tuple[bytes, bool]:
        """Its body, as far as it comes. The status is there: what is missing of the body changes nothing."""
        parts: list[bytes] = []
        size = 0
        try:
            while size <= LIMIT and self._clock() < until:
                part = answer.read1(LIMIT + 1 - size)
                if not part:
                    return b"".join(parts), not answer.length and self._clock() < until
                parts.append(part)
                size += len(part)
        except (OSError, http.client.HTTPException, ValueError):
            pass
        return b"".join(parts)[:LIMIT], False

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._group.cafile)
        if self._group.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._group.certfile:
            # Without a password nobody is asked for one at a terminal that there is not.
            context.load_cert_chain(self._group.certfile, self._group.keyfile, password=lambda: "")
        return context


def _joined(base: str, path: str) -> str:
    return base if not path else f"{base.rstrip('/')}{path}"


def _cut(sock: socket.socket | None) -> None:
    """Whoever reads from it, or writes, is woken."""
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which forgets that there was TLS while another thread reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class HttpReporter(Reporter):
    """A reporter that sends one request for each change. To write one: name, summary, and `request`; `webhook` is
    one."""

    #: By status, what an operator should do where the backend answers so.
    remedies: ClassVar[Mapping[int, str]] = {
        401: "check the credentials",
        403: "check what our user may do",
        404: "check url",
    }

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Where, TLS, and how long. One that has more adds them: `[*super().options(), …]`."""
        return options()

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """As the contract says."""
        self.client = Client(options)

    @abstractmethod
    def request(self, case: Case) -> Request:
        """What to send for this change. The same at each try of the same change."""

    def answered(self, answer: Answer, case: Case) -> Outcome:
        """What an answer means. Override it where more than the status tells."""
        return outcome_of(answer, self.name, self.remedies)

    def check(self) -> str | None:
        """Is the server there?"""
        return self.client.check()

    def deliver(self, case: Case) -> Outcome:
        """As the contract says."""
        try:
            request = made(lambda: self.request(case), "a request", case.fault)
            answer = self.client.send(request)
        except CannotBeMade as error:
            return Refused(str(error))
        except Unreachable as error:
            return Later(None, str(error))
        return self.answered(answer, case)


def json_body(value: Any) -> bytes:
    """UTF-8, as any JSON parser reads it. ValueError where it holds what JSON has not."""
    return json.dumps(value, allow_nan=False, sort_keys=True).encode()
