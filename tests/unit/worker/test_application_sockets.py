"""The application channels on real sockets: a listener plays QEMU, and a guest behind it."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vmhb_worker.adapters.application_sockets import (
    CHUNK,
    LASTING,
    OUTPUT_LIMIT,
    RETRY_FIRST,
    RETRY_LAST,
    SocketChannels,
    in_words,
)
from vmhb_worker.core.events import ChannelDown, ChannelUp, Said
from vmhb_worker.core.protocol import Ack, Challenge, Error, Goodbye
from vmhb_worker.engine.inbox import Inbox
from vmhb_worker.settings import ChannelSettings

UUID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
#: Nothing here takes long; on a machine that is busy, everything does (seconds).
PATIENCE = 30.0


class Qemu:
    """Listens where QEMU would, and hands over what the guest says."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listen()
        self.guest: socket.socket | None = None

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(1)

    def accept(self) -> socket.socket:
        """The worker's connection."""
        self._listener.settimeout(PATIENCE)
        self.guest, _ = self._listener.accept()
        self.guest.settimeout(PATIENCE)
        return self.guest

    def say(self, data: bytes) -> None:
        assert self.guest is not None
        self.guest.sendall(data)

    def heard(self) -> list[Any]:
        """The lines of one read."""
        assert self.guest is not None
        return [json.loads(line) for line in self.guest.recv(65536).split(b"\n") if line]

    def dies(self) -> None:
        """Nobody listens any more, and its connections end."""
        self._listener.close()
        Path(self.path).unlink(missing_ok=True)
        if self.guest is not None:
            self.guest.close()


class Loop:
    """The engine's part: an inbox, turned until something has been left in it."""

    def __init__(self, settings: ChannelSettings | None = None) -> None:
        self.inbox = Inbox()
        self.channels = SocketChannels(settings or ChannelSettings(), time.monotonic)
        self.channels.open(self.inbox.leave, self.inbox)
        self.events: list[tuple[str, Any]] = []

    def turn(self) -> None:
        now = time.monotonic()
        self.inbox.wait(min(0.05, max(0.0, self.channels.deadline() - now)))
        self.channels.tick(time.monotonic())
        self.events += [(report.uuid, report.event) for report in self.inbox.drain()]

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.events
            self.turn()

    def of(self, kind: type[Any], uuid: str = UUID) -> list[Any]:
        return [event for which, event in self.events if which == uuid and isinstance(event, kind)]


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    one = Qemu(tmp_path / "channel")
    yield one
    one.dies()


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    yield one
    one.channels.close()


def connected(loop: Loop, qemu: Qemu) -> None:
    loop.channels.connect(UUID, qemu.path, 1.0)
    loop.until(lambda: loop.of(ChannelUp))
    assert qemu.accept().recv(1) == b"\n"


def test_a_challenge_goes_out_and_its_answer_comes_in(loop: Loop, qemu: Qemu) -> None:
    """First an empty line; then what is said goes out as a line, and what the guest says comes in as a message."""
    connected(loop, qemu)
    assert loop.channels.send(UUID, Challenge(1, "a-nonce", True))
    assert qemu.heard() == [{"type": "challenge", "seq": 1, "nonce": "a-nonce", "health": True}]
    qemu.say(b'\n{"type":"ack","seq":1,')
    loop.turn()
    qemu.say(b'"nonce":"a-nonce"}\n')
    loop.until(lambda: loop.of(Said))
    assert loop.of(Said) == [Said(Ack(1, "a-nonce"))]


class Deaf:
    """A codec that raises, as none does."""

    def __init__(self, codec: Any) -> None:
        self.counters = codec.counters

    def receive(self, data: bytes) -> list[Any]:
        raise RuntimeError("a bug about one line")

    def restart(self) -> None:
        """As it should."""


@pytest.mark.parametrize("how", ["when it is ready", "before it is judged", "when it is due"])
def test_a_fault_of_ours_about_one_connection_ends_that_one(
    how: str, loop: Loop, qemu: Qemu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made again, ever more rarely, and said now and then; its neighbour is heard all the while."""
    connected(loop, qemu)
    line = loop.channels._lines[UUID]
    if how == "when it is due":
        loop.channels._wake_at(line, time.monotonic())
        object.__setattr__(line, "allowance", None)
        loop.until(lambda: loop.of(ChannelDown))
    else:
        object.__setattr__(line, "codec", Deaf(line.codec))
        qemu.say(b"x\n")
        if how == "before it is judged":
            time.sleep(0.1)
            loop.channels.read(UUID)
        loop.until(lambda: loop.of(ChannelDown))
    assert loop.of(ChannelDown) == [ChannelDown("a fault of the worker's, see its log")]
    assert (line.mishaps, line.sock, "a fault of ours; the 1. so far" in caplog.text) == (1, None, True)
    beside = Qemu(tmp_path / "other")
    loop.channels.connect(OTHER, beside.path, 1.0)
    beside.accept()
    beside.say(b'{"type":"goodbye"}\n')
    loop.until(lambda: loop.of(Said, OTHER))
    loop.until(lambda: len(loop.of(ChannelUp)) == 2)
    beside.dies()


def test_where_nobody_listens_it_is_tried_again(loop: Loop, qemu: Qemu) -> None:
    """That nobody is there is told once; that somebody is, as soon as it is so."""
    qemu.dies()
    loop.channels.connect(UUID, qemu.path, 1.0)
    loop.until(lambda: loop.channels.totals.failures >= 3)
    assert loop.of(ChannelDown) == [ChannelDown("No such file or directory")]
    assert not loop.channels.send(UUID, Challenge(1, "n"))
    qemu.listen()
    loop.until(lambda: loop.of(ChannelUp))


def test_an_end_is_told_and_the_next_life_found(loop: Loop, qemu: Qemu) -> None:
    """QEMU closes the socket: told at once; half a line of that life does not spoil the first of the next."""
    connected(loop, qemu)
    qemu.say(b'{"type":"goodbye"')
    loop.turn()
    qemu.dies()
    loop.until(lambda: loop.of(ChannelDown))
    qemu.listen()
    loop.until(lambda: len(loop.of(ChannelUp)) == 2)
    qemu.accept()
    qemu.say(b'{"type":"goodbye","reason":"bye"}\n')
    loop.until(lambda: loop.of(Said))
    assert loop.of(Said) == [Said(Goodbye("bye"))]


def test_the_same_path_is_the_same_connection(loop: Loop, qemu: Qemu, tmp_path: Path) -> None:
    """To be told again of where it is connected changes nothing; another path is another connection."""
    connected(loop, qemu)
    loop.channels.connect(UUID, qemu.path, 5.0)
    assert loop.channels.totals.connects == 1
    other = Qemu(tmp_path / "other")
    loop.channels.connect(UUID, other.path, 1.0)
    loop.until(lambda: len(loop.of(ChannelUp)) == 2)
    assert qemu.guest is not None
    assert qemu.guest.recv(1) == b""
    other.dies()


def test_a_second_client_waits_for_the_first(loop: Loop, tmp_path: Path) -> None:
    """QEMU serves one; where its queue is full, nothing blocks, and it is tried again."""
    qemu = Qemu(tmp_path / "busy")
    others = []
    while True:
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.setblocking(False)
        others.append(other)
        try:
            other.connect(qemu.path)
        except BlockingIOError:
            break
    loop.channels.connect(UUID, qemu.path, 1.0)
    loop.until(lambda: loop.of(ChannelDown))
    assert "another client" in loop.of(ChannelDown)[0].why
    for other in others:
        other.close()
    qemu.dies()


def test_what_qemu_does_not_take_waits_within_bounds(loop: Loop, qemu: Qemu) -> None:
    """A guest that reads nothing holds up nobody and costs no more than its bound; what waited arrives whole."""
    connected(loop, qemu)
    said = 0
    while loop.channels.send(UUID, Challenge(said, "n" * 64)):
        said += 1
        assert loop.channels._lines[UUID].output.__len__() <= OUTPUT_LIMIT
    told = loop.channels.told(UUID)
    assert told is not None
    assert told["overflows"] == 1
    assert qemu.guest is not None
    got = b""
    while got.count(b"\n") < said:
        loop.turn()
        got += qemu.guest.recv(1 << 20)
    assert [json.loads(line)["seq"] for line in got.splitlines()] == list(range(said))
    loop.channels.send(UUID, Challenge(said, "n"))
    assert qemu.heard() == [{"type": "challenge", "seq": said, "nonce": "n", "health": False}]


def test_a_flood_is_read_no_faster_than_it_may_come(qemu: Qemu, tmp_path: Path) -> None:
    """Over its allowance a guest is not read; its neighbour is, and it is itself again when time has passed."""
    loop = Loop(ChannelSettings(burst=16, lines_per_beat=4.0))
    connected(loop, qemu)
    neighbour = Qemu(tmp_path / "neighbour")
    loop.channels.connect(OTHER, neighbour.path, 1.0)
    neighbour.accept()
    flood = b'{"type":"goodbye"}\n' * 2000
    assert qemu.guest is not None
    qemu.guest.setblocking(False)
    sent = qemu.guest.send(flood)
    neighbour.say(b'{"type":"goodbye","reason":"neighbour"}\n')
    loop.until(lambda: loop.of(Said, OTHER))
    loop.until(lambda: loop.channels.totals.throttled)
    taken = len(loop.of(Said))
    assert 16 < taken <= CHUNK / 18 + 1
    assert taken < sent / 19
    loop.channels.read(UUID)  # not even before it is judged
    loop.turn()
    assert len(loop.of(Said)) == taken
    loop.until(lambda: len(loop.of(Said)) > taken)
    loop.channels.close()
    neighbour.dies()


def test_read_before_it_is_judged(loop: Loop, qemu: Qemu) -> None:
    """What has come is had at once when it is asked for; where nothing has, nothing happens."""
    connected(loop, qemu)
    loop.channels.read(UUID)
    qemu.say(b'{"type":"goodbye"}\n{"type":"what"}\nnonsense\n')
    loop.channels.read(UUID)
    said = [report.event.message for report in loop.inbox.drain()]
    assert said[0] == Goodbye("")
    assert not isinstance(said[1], Error)  # to be objected to, which is decided elsewhere
    told = loop.channels.told(UUID)
    assert told is not None
    assert (told["unknown"], told["garbled"]) == (1, 1)
    loop.channels.forget(UUID)
    assert loop.channels.told(UUID) is None
    loop.channels.read(UUID)
    loop.channels.forget(UUID)


def test_an_end_while_something_waits(loop: Loop, qemu: Qemu) -> None:
    """What was meant for that life is dropped with it; the next one hears only what is said to it."""
    connected(loop, qemu)
    while loop.channels.send(UUID, Challenge(1, "old")):
        pass
    qemu.dies()
    loop.channels.send(UUID, Challenge(2, "into the void"))
    loop.until(lambda: loop.of(ChannelDown))
    qemu.listen()
    loop.until(lambda: len(loop.of(ChannelUp)) == 2)
    assert loop.channels.send(UUID, Challenge(3, "new"))
    qemu.accept()
    assert [said["nonce"] for said in qemu.heard()] == ["new"]


def test_an_end_is_seen_of_one_that_is_not_read(qemu: Qemu) -> None:
    """Over its allowance, its end is an end all the same."""
    loop = Loop(ChannelSettings(burst=16, lines_per_beat=4.0))
    connected(loop, qemu)
    qemu.say(b'{"type":"goodbye"}\n' * 100)
    loop.until(lambda: loop.channels.totals.throttled)
    qemu.dies()
    loop.until(lambda: loop.of(ChannelDown))
    loop.channels.close()


def test_who_was_too_loud_is_heard_again(qemu: Qemu) -> None:
    """After a while, and not for a line at a time."""
    loop = Loop(ChannelSettings(burst=16, lines_per_beat=1000.0))
    connected(loop, qemu)
    for _ in range(3):
        heard = len(loop.of(Said))
        qemu.say(b'{"type":"goodbye"}\n' * 30)
        loop.until(lambda heard=heard: len(loop.of(Said)) == heard + 30)  # type: ignore[misc]
    assert loop.channels.totals.throttled >= 1
    loop.channels.close()


def test_words_for_what_the_operator_can_change(tmp_path: Path) -> None:
    """A path that is no socket's, or too long for one, is tried again, and told with the system's own word."""
    loop = Loop()
    loop.channels.connect(UUID, str(tmp_path / ("x" * 200)), 1.0)
    (tmp_path / "file").write_text("no socket")
    loop.channels.connect(OTHER, str(tmp_path / "file"), 1.0)
    loop.until(lambda: loop.of(ChannelDown) and loop.of(ChannelDown, OTHER))
    assert "too long" in loop.of(ChannelDown)[0].why
    assert loop.of(ChannelDown, OTHER)[0].why == "Connection refused"
    assert "QEMU's group" in in_words(PermissionError(13, "Permission denied"))


class Retries:
    """The pauses between attempts, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.inbox = Inbox()
        self.channels = SocketChannels(ChannelSettings(), lambda: self.now)
        self.channels.open(self.inbox.leave, self.inbox)

    def pauses(self, number: int) -> list[float]:
        """The next so many of them."""
        pauses = []
        for _ in range(number):
            at = self.channels.deadline()
            pauses.append(at - self.now)
            self.now = at
            self.channels.tick(at)
        return pauses


@pytest.fixture
def retries() -> Iterator[Retries]:
    one = Retries()
    yield one
    one.channels.close()


def ever_longer(pauses: list[float]) -> bool:
    """Doubled up to the longest, and a random part of that."""
    whole = [min(RETRY_LAST, RETRY_FIRST * 2.0**attempt) for attempt in range(len(pauses))]
    return all(most / 2 <= pause <= most + 1e-6 for pause, most in zip(pauses, whole, strict=True))


def test_it_is_tried_ever_more_rarely(retries: Retries, tmp_path: Path) -> None:
    """From the first attempt on."""
    retries.channels.connect(UUID, str(tmp_path / "nobody"), 1.0)
    assert ever_longer(retries.pauses(12))


def test_a_good_connection_that_ended_is_tried_ever_more_rarely(retries: Retries, qemu: Qemu) -> None:
    """At once, and then ever more rarely."""
    retries.channels.connect(UUID, qemu.path, 1.0)
    qemu.accept()
    retries.now += 3600.0
    qemu.dies()
    while retries.channels.deadline() == math.inf:
        retries.inbox.wait(PATIENCE)
    assert ever_longer(retries.pauses(12))


def test_who_was_stopped_is_no_warning(retries: Retries, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A channel that is away is one only when it stays away; once, with its reason."""
    retries.channels.connect(UUID, str(tmp_path / "nobody"), 1.0)
    retries.pauses(LASTING - 2)
    assert not caplog.records
    retries.pauses(8)
    assert [record.getMessage() for record in caplog.records] == [
        f"instance {UUID}: application channel {tmp_path / 'nobody'}: No such file or directory"
    ]
