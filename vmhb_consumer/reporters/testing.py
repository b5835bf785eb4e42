"""The kit for tests of a reporter: faults, options, a consumer in miniature, an HTTP server, and the cases all must
pass.

A reporter that speaks HTTP is tested by a class of a few lines, with pytest:

    class TestMine(HttpContract):
        reporter = MyReporter

        def values(self, backend):
            return {"url": backend.url}

`Contract` has the cases of any other reporter. Needs nothing that the consumer does not need.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, ClassVar

from oslo_config import cfg

from vmhb_common.model.fault import Change, Fault, FaultState, Resolution, cleared, reminded
from vmhb_common.objects import fault_as_told, parse_fault
from vmhb_consumer.reporters import telling
from vmhb_consumer.reporters.base import Case, Permit, Reporter
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.reporters.telling import Told

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
GRANTED = Permit(True)


# -- faults ------------------------------------------------------------------------------------------------------------


def a_fault(**changed: Any) -> Fault:
    """The raise of a fault that is for people: its flavor asks for no recovery."""
    values: dict[str, Any] = {
        "fault_id": "0b7f0b6e-5b7d-4d4b-9a57-0c8f5b1f7c11",
        "sequence": 1,
        "state": FaultState.RAISED,
        "severity": "critical",
        "occurred_at": NOON,
        "cause": "guest_hung",
        "confidence": "high",
        "recommended_action": "alarm",
        "withheld": None,
        "recovery_attempt": 0,
        "drill": False,
        "resolution": None,
        "host": "cn1",
        "instance_uuid": "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21",
        "instance_name": "instance-00000001",
        "display_name": "wéb",
        "project_id": "p1",
        "flavor_name": "m1.small",
        "channel": "agent",
        "misses": 3,
        "skipped": 0,
        "threshold": 3,
        "interval": 10.0,
        "timeout": 5.0,
        "last_ack_at": NOON,
        "suspected_at": NOON,
        "raised_at": NOON,
        "cleared_at": None,
        "reason": "the guest's kernel no longer answers",
        "evidence": {"io": {"value": "unavailable", "reason": "hung"}},
    }
    return Fault(**(values | changed))


def next_of(fault: Fault, **changed: Any) -> Fault:
    """Its next change."""
    return replace(fault, sequence=fault.sequence + 1, **changed)


def reminder_of(fault: Fault) -> Fault:
    """The same fault again."""
    return reminded(fault, fault.occurred_at)


def clear_of(fault: Fault, resolution: Resolution = Resolution.RECOVERED) -> Fault:
    """Its end."""
    return cleared(fault, resolution, fault.occurred_at)


#: Fields that are one word of a list: a newer worker may have another one.
WORDS = ("severity", "cause", "confidence", "recommended_action", "withheld", "channel")


def newer(fault: Fault, *names: str) -> Fault:
    """As a newer worker sends it, and the consumer hands it on: these fields have words that nobody here knows."""
    payload = fault_as_told(fault, "1.9")
    payload["vmhb_object.data"] |= {**dict.fromkeys(names, "brand_new"), "invented_later": {"x": [1]}}
    return parse_fault(payload)


# -- options -----------------------------------------------------------------------------------------------------------


def options_of(reporter: type[Reporter], **values: Any) -> Any:
    """Its group, with these values and defaults otherwise. Raises what oslo.config does where a value is none."""
    conf = cfg.ConfigOpts()
    group = f"reporter_{reporter.name}"
    conf.register_group(cfg.OptGroup(group))
    conf.register_opts(reporter.options(), group=group)
    conf([], project="nova-vmhb", default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        conf.set_override(name, value, group=group)
    return conf[group]


# -- a consumer --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    fault: Fault
    told: Told = telling.NOTHING
    memo: Mapping[str, Any] = field(default_factory=dict)


class Consumer:
    """A consumer in miniature: it decides by the same rules what its one reporter is handed, and keeps what it was
    told.

    handed: what it was handed so far, as `Case`s. permit: the answer to `Case.permit`.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.handed: list[Case] = []
        self.permit = GRANTED
        self._known: dict[str, _Known] = {}

    def hears(self, fault: Fault) -> Outcome | None:
        """A notification of a worker's; what came of the last try, or None where the reporter is not handed it. What is
        to be tried again at once is; for all else that comes `Later`, hand it in again."""
        known = self._known.get(fault.fault_id) or _Known(fault)
        new = fault.fault_id not in self._known
        change = self._change(new, fault)
        same = replace(fault, sequence=known.fault.sequence, occurred_at=known.fault.occurred_at) == known.fault
        known.fault = fault
        self._known[fault.fault_id] = known
        handed = telling.handed(known.told, change, same and not new and change is Change.UPDATED)
        if handed is None or not self._wanted(handed.change, fault):
            return None
        return self._deliver(known, handed)

    def missed(self, fault: Fault) -> None:
        """A notification that came while this reporter was not there."""
        self._known[fault.fault_id] = _Known(fault)

    def _permit(self) -> Permit:
        return self.permit

    def _change(self, new: bool, fault: Fault) -> Change:
        if fault.state is FaultState.CLEARED:
            return Change.CLEARED
        return Change.RAISED if new else Change.UPDATED

    def _wanted(self, change: Change, fault: Fault) -> bool:
        return not (fault.drill and self.reporter.acts) and self.reporter.wants(change, fault)

    def _deliver(self, known: _Known, handed: telling.Handed) -> Outcome:
        fault = known.fault
        for attempt in range(1, 10):
            case = Case(
                *(handed.change, fault, fault, fault.occurred_at, attempt, known.memo), self._permit, handed.reminder
            )
            self.handed.append(case)
            outcome: Any = self.reporter.deliver(case)
            if not isinstance(outcome, Done | Later | Refused):
                raise AssertionError(f"deliver returned {outcome!r}, which is none of Done, Later and Refused")
            known.memo = known.memo if outcome.memo is None else outcome.memo
            known.told = telling.after(known.told, outcome)
            if not (isinstance(outcome, Later) and outcome.retry_in == 0.0 and outcome.memo is not None):
                return outcome
        raise AssertionError(f"deliver wants to be called again at once, for ever: {outcome!r}")


# -- an HTTP server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A request. headers: by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. delay: seconds before it begins. drip: seconds between two bytes of it. raw: this in
    the place of HTTP, whatever it is."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    raw: bytes | None = None


class Backend:
    """An HTTP server on this machine. Use as a context manager. replies: what to answer, one after the other; `reply`
    once there are no more. received: requests so far."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply or Reply()
        self.replies: list[Reply] = []
        self.received: list[Received] = []
        self._stopping = threading.Event()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_any(self) -> None:
                backend._take(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_any

            def log_message(self, *_arguments: Any) -> None:
                """Nowhere."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Backend:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody listens any more."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._server.shutdown()
            self._server.server_close()

    def _take(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(str(handler.command), handler.path, headers, body))
        reply = self.replies.pop(0) if self.replies else self.reply
        self._stopping.wait(reply.delay)
        with contextlib.suppress(OSError):  # the client has gone
            self._answer(handler.connection, reply)
        handler.close_connection = True

    def _answer(self, connection: socket.socket, reply: Reply) -> None:
        given = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), "Connection": "close"}
        given |= reply.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        data = f"HTTP/1.1 {reply.status} Status\r\n{head}\r\n".encode() + reply.body
        data = data if reply.raw is None else reply.raw
        if not reply.drip:
            connection.sendall(data)
            return
        for byte in data:
            connection.sendall(bytes([byte]))
            if self._stopping.wait(reply.drip):
                return


def nobody() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# -- the cases ---------------------------------------------------------------------------------------------------------


def check(holds: bool, why: str) -> None:
    """Like `assert`, whose text is kept by every test runner."""
    if not holds:
        raise AssertionError(why)


class Contract:
    """What every reporter keeps to. Subclass it, say which, and have pytest run it."""

    reporter: ClassVar[type[Reporter]]
    #: The raise of a fault that it wants.
    fault: Fault = a_fault()

    @contextlib.contextmanager
    def consumer(self, **values: Any) -> Iterator[Consumer]:
        """One with the reporter, whose backend takes everything. values: options that differ."""
        yield Consumer(self.reporter(options_of(self.reporter, **values), lambda: NOON))

    def test_its_name_and_options(self) -> None:
        """Each option says what it is for: the sample configuration is made of it."""
        one = self.reporter
        check(bool(one.name) and bool(one.summary), f"{one.__name__} needs a name and a summary")
        check(one.name.isidentifier(), f"{one.name!r} is not fit for [reporter_{one.name}]")
        for opt in one.options():
            check(bool(opt.help), f"option {opt.name} has no help")
            check(not opt.required, f"option {opt.name} is required of everybody: raise ValueError in __init__ instead")

    def test_a_life(self) -> None:
        """A raise, an update and a clear are delivered."""
        with self.consumer() as consumer:
            fault = self.fault
            self._done(consumer.hears(fault), "the raise")
            worse = next_of(fault, confidence="low")
            consumer.hears(worse)
            self._taken(consumer, clear_of(worse))
            changes = [case.change for case in consumer.handed]
            check(changes[0] is Change.RAISED, f"the first was {changes[0]}")

    def test_a_fault_whose_recovery_is_asked_for_later(self) -> None:
        """It was told of the raise: so it wants the clear, whatever the fault looks like by then."""
        with self.consumer() as consumer:
            self._done(consumer.hears(self.fault), "the raise")
            asked = next_of(self.fault, recommended_action="recover", withheld=None, recovery_attempt=1)
            consumer.hears(asked)
            self._taken(consumer, clear_of(asked))

    def test_newer_words(self) -> None:
        """A newer worker's words stop nothing: neither does `wants` raise, nor `deliver`."""
        for name in WORDS:
            with self.consumer() as consumer:
                fault = newer(self.fault, name)
                for one in (fault, next_of(fault, misses=9), clear_of(next_of(fault, misses=9))):
                    outcome = consumer.hears(one)
                    check(outcome is None or isinstance(outcome, Done), f"{name} = brand_new: {outcome!r}")

    def test_first_heard_as_an_update(self) -> None:
        """It was away, or is new: what it hears first is handed to it as the raise."""
        with self.consumer() as consumer:
            consumer.missed(self.fault)
            self._done(consumer.hears(reminder_of(self.fault)), "what it hears first")
            check(consumer.handed[0].change is Change.RAISED, "it was not handed as the raise")

    def test_reminders(self) -> None:
        """Only where it has nothing; and delivering one again, as after a crash, does no harm."""
        with self.consumer() as consumer:
            self._done(consumer.hears(self.fault), "the raise")
            check(consumer.hears(reminder_of(self.fault)) is None, "a reminder of what it has was handed to it")
            again = consumer.reporter.deliver(consumer.handed[0])
            check(isinstance(again, Done), f"the raise once more, as after a crash: {again!r}")

    def test_faults_without_an_instance(self) -> None:
        """A host's fault has no instance, project or name."""
        gone = dict.fromkeys(("instance_uuid", "instance_name", "display_name", "project_id", "flavor_name", "channel"))
        with self.consumer() as consumer:
            outcome = consumer.hears(replace(self.fault, cause="worker_lost", **gone))  # type: ignore[arg-type]
            check(outcome is None or isinstance(outcome, Done), f"a host's fault: {outcome!r}")

    @staticmethod
    def _done(outcome: Outcome | None, what: str) -> None:
        check(outcome is not None, f"it does not want {what}; set `fault` to one that it wants")
        check(isinstance(outcome, Done), f"{what}: {outcome!r}")

    @staticmethod
    def _taken(consumer: Consumer, over: Fault) -> None:
        outcome = consumer.hears(over)
        check(outcome is not None, "it does not want the clear of a fault that it was told of")
        check(isinstance(outcome, Done), f"the clear: {outcome!r}")


class HttpContract(Contract):
    """The same, and what HTTP can do to a reporter."""

    #: Seconds that a try may take, with `fast`.
    patience: ClassVar[float] = 5.0
    #: Options by which a try ends soon, of a backend that does not answer.
    fast: ClassVar[Mapping[str, Any]] = {"timeout": 1.0}
    #: Is that what the backend answers where it has taken a change?
    good: ClassVar[Reply] = Reply()
    #: Statuses after which the change is tried again, and for which it is refused.
    later: ClassVar[tuple[int, ...]] = (401, 403, 404, 408, 429, 500, 502, 503, 504)
    refused: ClassVar[tuple[int, ...]] = (400, 413, 422)

    def values(self, backend: Backend) -> dict[str, Any]:
        """Options by which it talks to this backend."""
        return {"url": backend.url}

    @contextlib.contextmanager
    def consumer(self, **values: Any) -> Iterator[Consumer]:
        """As there."""
        with self.backend() as (_backend, consumer):
            yield consumer

    @contextlib.contextmanager
    def backend(self, reply: Reply | None = None) -> Iterator[tuple[Backend, Consumer]]:
        """A backend that answers this, and a consumer whose reporter talks to it."""
        with Backend(reply or self.good) as backend:
            options = options_of(self.reporter, **{**self.fast, **self.values(backend)})
            yield backend, Consumer(self.reporter(options, lambda: NOON))

    def test_the_same_again_is_the_same(self) -> None:
        """By what the request says, the backend knows a change that it has had before."""
        with self.backend() as (backend, consumer):
            self._done(consumer.hears(self.fault), "the raise")
            consumer.reporter.deliver(consumer.handed[0])
            count = len(backend.received)
            first, second = backend.received[: count // 2], backend.received[count // 2 :]
            check([one.body for one in first] == [one.body for one in second], "the second try is another request")

    def test_what_it_is_answered(self) -> None:
        """What another try may change is tried again; what it can't is refused, and the next change has its turn."""
        for statuses, kind in ((self.later, Later), (self.refused, Refused)):
            for status in statuses:
                with self.backend(Reply(status, b"no")) as (_backend, consumer):
                    outcome = consumer.hears(self.fault)
                    check(isinstance(outcome, kind), f"{status}: {outcome!r}, and {kind.__name__} is right")
                    check(consumer.hears(clear_of(self.fault)) is None, f"{status}: the clear of what it never had")

    def test_a_redirect_is_not_followed(self) -> None:
        """It would carry credentials elsewhere, and make a GET of a POST."""
        with Backend() as other:
            for status in (301, 302, 307, 308):
                with self.backend(Reply(status, b"", {"Location": other.url})) as (_backend, consumer):
                    outcome = consumer.hears(self.fault)
                    check(not isinstance(outcome, Done), f"{status} is no success")
            check(not other.received, "it was followed")

    def test_nobody_listens(self) -> None:
        """It is away: tried again, and told once it is back; `check` says so."""
        with self.backend() as (backend, consumer):
            backend.close()
            outcome = consumer.hears(self.fault)
            check(isinstance(outcome, Later), f"away: {outcome!r}")
            check(bool(consumer.reporter.check()), "`check` finds nothing wrong")

    def test_too_slow(self) -> None:
        """An answer that does not come, or comes a byte at a time, is not waited for beyond `timeout`."""
        for reply in (Reply(delay=30.0), Reply(drip=0.1)):
            with self.backend(reply) as (_backend, consumer):
                began = time.monotonic()
                outcome = consumer.hears(self.fault)
                took = time.monotonic() - began
                check(took < self.patience, f"it took {took:.1f} s")
                check(isinstance(outcome, Later), f"too slow: {outcome!r}")

    def test_garbage(self) -> None:
        """What is no HTTP is no success, and no exception."""
        for raw in (
            b"",
            b"\xff\xfe\x00 nonsense\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 99999,
        ):
            with self.backend(Reply(raw=raw)) as (_backend, consumer):
                outcome = consumer.hears(self.fault)
                check(isinstance(outcome, Later), f"{raw[:20]!r}: {outcome!r}")

    def test_huge_and_unreadable_answers(self) -> None:
        """An answer is read within bounds, and its charset may be one that there is not."""
        headers = {"Content-Type": "text/html; charset=no-such"}
        for body, more in ((b"x" * 20_000_000, {}), (b"\xff\xfe\xff", headers), (b"[" * 30_000, {})):
            for status in (self.good.status, 500):
                with self.backend(Reply(status, body, more)) as (_backend, consumer):
                    outcome = consumer.hears(self.fault)
                    text = "" if outcome is None or isinstance(outcome, Done) else outcome.why
                    check(len(text) < 5000, f"its text has {len(text)} characters")


def every_case(of: type[Contract]) -> list[Callable[[], None]]:
    """The cases, for whoever runs them without pytest."""
    one = of()
    return [getattr(one, name) for name in dir(one) if name.startswith("test_")]
