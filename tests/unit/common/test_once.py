"""What is news, and what is only said again; and libraries that say each try of theirs."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest

from vmhb_common.app.once import FORGET, MOST, RABBIT, SETTLED, Once, _Repeats, hush, same

#: Who says something here.
SPEAKING = (
    *(RABBIT, "vmhb_consumer.delivery", "urllib3.connectionpool", "openstackish"),
    *("keystoneauth.identity.generic.base", "keystoneauth.session", "oslo_db.sqlalchemy.exc_filters"),
)


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<HTTPConnection object at 0x7f3e1c>: refused", "<HTTPConnection object at 0x7f3e1d55>: refused"),
        ("unreachable. Trying again in 1 seconds.", "unreachable. Trying again in 15 seconds."),
        (
            "recovery 1 of instance 00000000-0000-0000-0000-000000000001: Nova can't be asked",
            "recovery 2 of instance 00000000-0000-0000-0000-000000000002: Nova can't be asked",
        ),
        ("failed (Request-ID: req-1a)", "failed (Request-ID: req-2b)"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    """What differs by chance."""
    assert same(one) == same(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AMQP server on mq-1:5672 is unreachable", "AMQP server on mq-2:5672 is unreachable"),
        ("Nova answers 500", "Nova answers 503"),
        ("Nova can't be asked", "Masakari can't be asked"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    """What tells somebody something."""
    assert same(one) != same(other)


def test_news() -> None:
    """The first time; and again once it had not happened for long, however long it went on before."""
    clock = Clock()
    once = Once(now=clock)
    assert once.new("down")
    for _ in range(10):
        clock.at += FORGET
        assert not once.new("down")
    clock.at += FORGET + 1
    assert once.new("down")


def test_each_for_itself() -> None:
    """Of another it is news, and of one of whom it is over, once that has settled."""
    clock = Clock()
    once = Once(now=clock)
    assert not once.knows("cn1")
    assert once.new("mute", "cn1") and once.new("mute", "cn2") and not once.new("mute", "cn1")
    once.over("cn1")
    assert not once.new("mute", "cn1"), "others of it may still be at it"
    once.over("cn1")
    clock.at += SETTLED + 1
    assert not once.knows("cn1") and once.knows("cn2")
    assert once.new("mute", "cn1") and not once.new("mute", "cn2")


def test_bounded() -> None:
    """Whoever has much to say makes us forget, and nothing worse."""
    once = Once()
    assert all(once.new(f"trouble of host-{number}x") for number in range(MOST + 1))
    assert once.new("trouble of host-0x")
    assert not once.new(f"trouble of host-{MOST}x")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock) -> Iterator[list[str]]:
    """What a handler of the root lets through, hushed."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    root, handler = logging.getLogger(), Handler(logging.INFO)
    loggers = [logging.getLogger(name) for name in SPEAKING]
    before = [(one.level, one.disabled) for one in loggers]
    for one in loggers:  # whatever other tests have made of them
        one.setLevel(logging.INFO)
        one.disabled = False
    root.addHandler(handler)
    _let_speak(root)
    once = Once(now=clock)
    hush(once)
    hush(once)  # as after each SIGHUP
    yield lines
    root.removeHandler(handler)
    _let_speak(root)
    for one, (level, disabled) in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.disabled = disabled


def _let_speak(root: logging.Logger) -> None:
    """pytest's own handlers outlive a test, and a program that ran in one has hushed them."""
    for one in root.handlers:
        one.filters = [each for each in one.filters if not isinstance(each, _Repeats)]


def test_a_broker_that_is_away(said: list[str], clock: Clock) -> None:
    """One line for each broker, in whichever of its ways the library says it, until it is over; ours are not hushed."""
    theirs, ours = logging.getLogger(RABBIT), logging.getLogger("vmhb_consumer.delivery")
    for seconds, why in enumerate(("[Errno 104] Connection reset by peer", "<RecoverableConnectionError: unknown>"), 1):
        away = "[%s] AMQP server on mq-1:5672 is unreachable: %s. Trying again in %d seconds."
        theirs.error(away, f"c-{seconds}", why, seconds)
        theirs.error("Connection failed: [Errno 111] Connection refused (retrying in 1.0 seconds)")
        theirs.error("Unable to connect to AMQP server on mq-1:5672 after 1 tries: [Errno 111] Connection refused")
        ours.warning("this is meant")
    theirs.error("[c-1] AMQP server on mq-2:5672 is unreachable: No route to host. Trying again in 1 seconds.")
    theirs.info("[%s] Reconnected to AMQP server on mq-1:5672 via [amqp] client", "c-1")
    theirs.error("[c-2] AMQP server on mq-1:5672 is unreachable: No route to host. Trying again in 1 seconds.")
    clock.at += SETTLED + 1
    theirs.error("[c-2] AMQP server on mq-1:5672 is unreachable: No route to host. Trying again in 1 seconds.")
    assert [line.partition(":5672")[0] for line in said] == [
        *("[c-1] AMQP server on mq-1", "this is meant", "this is meant", "[c-1] AMQP server on mq-2"),
        *("[c-1] Reconnected to AMQP server on mq-1", "[c-2] AMQP server on mq-1"),
    ]


@pytest.mark.parametrize(
    "reason",
    [
        "[c-1] AMQP server mq-1:5672 closed the connection. Check login credentials: Socket closed",
        "Unable to connect to AMQP server on mq-1:5672 after inf tries: (403) ACCESS_REFUSED - Login was refused",
        "[c-1] AMQP server on mq-1:5672 is unreachable: [SSL: CERTIFICATE_VERIFY_FAILED]. Trying again in 1 seconds.",
        "The broker has blocked the connection: low on memory",
        "Failed to consume message from queue: (406) PRECONDITION_FAILED",
    ],
)
def test_another_reason_is_news(said: list[str], reason: str) -> None:
    """Of a broker of which it is known that it is away, or was: once."""
    theirs = logging.getLogger(RABBIT)
    theirs.error("[c-1] AMQP server on mq-1:5672 is unreachable: ECONNREFUSED. Trying again in 1 seconds.")
    for number in range(3):
        theirs.error(reason.replace("c-1", f"c-{number}"))
    assert said[1:] == [reason.replace("c-1", "c-0")]


def test_other_libraries(said: list[str]) -> None:
    """Each complaint once, whatever it was raised by; what keystoneauth raises as well is not its to say."""
    wrapped = logging.getLogger("oslo_db.sqlalchemy.exc_filters")
    for number in range(3):
        logging.getLogger("urllib3.connectionpool").warning("Retrying after <object at 0x%x>", number)
        logging.getLogger("keystoneauth.session").warning("Failure: %s. Retrying in 1s.", "no route")
        logging.getLogger("keystoneauth.identity.generic.base").warning("Failed to discover available versions")
        logging.getLogger("keystoneauth.session").error("this is not meant for us")
        for error in (OSError("No space left on device"), OSError("table crashed")):
            wrapped.error("DBAPIError exception wrapped.", exc_info=error)
    first = ["Retrying after <object at 0x0>", "this is not meant for us"]
    assert said == [*first, *["DBAPIError exception wrapped."] * 2, *["this is not meant for us"] * 2]


def test_what_a_library_says_wrongly_is_no_fault_of_its_callers() -> None:
    """It is let through: logging itself tells of it, and raises nothing."""
    record = logging.LogRecord("urllib3.connectionpool", logging.WARNING, __file__, 1, "%d tries", ("no",), None)
    assert _Repeats(Once()).filter(record)


class Ended:
    """Has something to say when it is collected."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        logging.getLogger(RABBIT).error("Fail to reset the connection")


@pytest.mark.parametrize("of_ours", [RABBIT, "urllib3.connectionpool"])
def test_the_garbage_collector_has_something_to_say(said: list[str], of_ours: str) -> None:
    """In the very thread that is at it: that one goes on."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(200):
            Ended()
            logging.getLogger(of_ours).error("Connection refused by %s", "abcdefgh"[number % 8])
    finally:
        gc.set_threshold(*before)
    assert "Fail to reset the connection" in said


def test_several_handlers(said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A file and the journal: each has what is news, and neither what is not."""
    for _ in range(3):
        logging.getLogger("urllib3.connectionpool").warning("Retrying")
    assert said == caplog.messages == ["Retrying"]


def test_a_name_that_begins_alike_is_nobodys(said: list[str]) -> None:
    """`openstack` is no `openstack_dashboard`."""
    logging.getLogger("openstackish").error("x")
    logging.getLogger("openstackish").error("x")
    assert said == ["x", "x"]


def test_how_loud_it_is_said(clock: Clock) -> None:
    """As loud as it deserves, once; then for whoever looks into it."""
    once = Once(now=clock)
    assert [once.level(logging.WARNING, "away", "a") for _ in range(3)] == [logging.WARNING, *[logging.DEBUG] * 2]
    assert once.level(logging.INFO, "away", "b") == logging.INFO
