"""Ears: one datagram that can't be read is that one only, floods leave room for others, nobody is judged too early."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import pytest

from vmhb_guest import processes, units
from vmhb_guest.allowance import OF_A_USER, OF_STRANGERS, SHELTERED
from vmhb_guest.ears import HEARD, Ears, Heard
from vmhb_guest.faults import Faults
from vmhb_guest.members import Members, Register
from vmhb_guest.notify import MUCH, Datagram, Mailbox, room
from vmhb_guest.watermark import Watermark

NOBODY, MEMBER, GROUP = 65534, 4711, 4712
GONE = 2**22 + 7  #: no process has this number


class Box(Mailbox):
    """A mailbox that holds what it is given; of two kinds of poison, one can't be looked at, and one not be taken."""

    def __init__(self) -> None:
        self.dropped = 0
        self.waits: collections.deque[Datagram] = collections.deque()

    def put(self, data: bytes, uid: int, gid: int = NOBODY, *, pid: int = GONE, times: int = 1) -> None:
        self.waits.extend([Datagram(data, (pid, uid, gid))] * times)

    def look(self) -> Datagram | None:
        if self.waits and self.waits[0].data == b"look":
            raise OverflowError("a datagram that nobody thought of")
        return self.waits[0] if self.waits else None

    def take(self, one: Datagram, *, heard: bool) -> int:
        self.waits.popleft()
        if one.data == b"take":
            raise RuntimeError("can't start new thread")
        return -1

    def skip(self) -> None:
        self.waits.popleft()


class Listening:
    """Ears that hear a box, and what was heard."""

    def __init__(self, holds: int = 512) -> None:
        self.now, self.heard = 100.0, list[Heard]()
        self.faults = Faults()
        register = Register(())
        register.members = Members(frozenset({MEMBER}), frozenset({GROUP}))
        self.ears = Ears(register, self.faults, lambda _pid: False, self._listen, clock=lambda: self.now)
        self.box = self.ears._mailbox = Box()
        self.ears._all = Watermark(holds, self.now)

    def _listen(self, one: Heard, now: float) -> None:
        assert now == self.now
        if one.data == b"listen":
            raise ZeroDivisionError("a datagram")
        self.heard.append(one)

    def of(self, uid: int) -> int:
        return sum(one.sender[1] == uid for one in self.heard)


@pytest.mark.parametrize("poison", [b"look", b"take", b"listen"])
def test_poison(poison: bytes) -> None:
    """It is taken all the same, and counted; those before and after it are heard."""
    all_ = Listening()
    for data in (b"a", poison, poison, b"b"):
        all_.box.put(data, 0)
    all_.ears.hear()
    assert [one.data for one in all_.heard] == [b"a", b"b"] and all_.faults.count == 2
    assert not all_.box.waits and all_.ears.until == all_.now


def test_nobody_is_judged_for_what_waits() -> None:
    """Whatever the socket holds, and however much comes: all is heard up to `until`, which goes on."""
    all_ = Listening(holds=2 * HEARD)
    all_.box.put(b"x", 0, times=2 * HEARD)
    all_.now = 101.0
    all_.ears.hear()
    assert all_.ears.until == 100.0, "some of what was sent before waits"
    all_.now = 102.0
    all_.box.put(b"x", 0, times=2 * HEARD)
    all_.ears.hear()
    all_.now = 103.0
    all_.ears.hear()
    assert all_.ears.until == 101.0, "what waits was sent later"
    for _ in range(3):
        all_.ears.hear()
    assert all_.ears.until == 103.0


def test_members_are_heard_beside_floods() -> None:
    """By user, by the group that a message came with; a user's flood is that user's, that of many is strangers'."""
    all_ = Listening()
    for uid in range(100_000, 100_100):
        all_.box.put(b"flood", uid, times=5)
    all_.box.put(b"flood", NOBODY, times=100)
    all_.box.put(b"word", MEMBER, times=20)
    all_.box.put(b"word", 1000, GROUP, times=20)
    all_.box.put(b"word", 0, times=20)
    all_.ears.hear()
    assert [all_.of(uid) for uid in (MEMBER, 1000, 0)] == [20, 20, 20]
    strangers = [one for one in all_.heard if not one.sheltered]
    assert len(strangers) == OF_STRANGERS[0] and all_.of(NOBODY) <= OF_A_USER[0]
    all_.box.put(b"flood", MEMBER, times=1000)
    all_.ears.hear()
    assert all_.of(MEMBER) == SHELTERED[0], "a member's flood is its own, too"


@pytest.mark.parametrize(
    ("cgroup", "sheltered"),
    [
        ("0::/system.slice/web.service", True),
        ("0::/system.slice/web.service/worker", True),
        ("0::/user.slice/user-1000.slice/session-3.scope", False),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", False),
        ("0::/user.slice/user-1000.slice/user@1000.service", False),
        ("0::/system.slice/docker-0123.scope", False),
        ("0::/machine.slice/libpod-0123.scope/system.slice/web.service", False),
        ("0::/lxc.payload.box/system.slice/web.service", False),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-0123.scope", False),
        ("0::/../outside.service", False),
        ("0::/", False),
    ],
)
def test_who_is_in_a_service_of_systemds(cgroup: str, sheltered: bool) -> None:
    """Nobody gets into one but who was put there: so it is no stranger's room. Containers and users make their own."""
    assert bool(units.own_service(units.home(cgroup))) is sheltered


def test_what_is_remembered_of_processes() -> None:
    """A flood of a process costs one look at it; those are bounded, and end."""
    all_ = Listening()
    for pid in range(GONE, GONE + 1500):
        all_.box.put(b"x", 1000, pid=pid)
    for _ in range(2):
        all_.ears.hear()
    assert len(all_.ears._known) <= 1024


def test_how_much_a_socket_holds() -> None:
    """As Linux says; one more waits than its limit."""
    limit = Path("/proc/sys/net/unix/max_dgram_qlen")
    assert room() == (int(limit.read_text()) + 1 if limit.exists() else MUCH)


def test_whose_a_process_is() -> None:
    """By each of its users and groups; nobody's where it has ended. A sender whose number another's has is nobody."""
    mine = processes.owner(os.getpid())
    assert os.getuid() in mine.users and os.getgid() in mine.groups and {*os.getgroups()} <= mine.groups
    assert processes.owner(GONE) == processes.Owner()
    assert processes.look(os.getpid(), os.getuid(), closely=True).born
    assert not processes.look(os.getpid(), os.getuid() + 1, closely=True).born
    assert not processes.look(GONE, 0, closely=True).born
