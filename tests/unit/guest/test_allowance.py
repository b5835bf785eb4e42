"""Whose datagrams are listened to while somebody floods: a clock that is moved, no socket."""

from __future__ import annotations

from vmhb_guest.allowance import JOINED, MAX_SENDERS, OF_A_USER, OF_ROOT, OF_STRANGERS, Allowance
from vmhb_guest.applications import MIN_INTERVAL
from vmhb_guest.notify import MAX_OF_A_USER, MAX_OF_USERS, MAX_WAITING

NOBODY = 65534


def listened(allowance: Allowance, count: int, pid: int, uid: int, *, joined: bool = False, now: float = 1000.0) -> int:
    """How many of so many."""
    return sum(allowance.take(pid, uid, joined=joined, now=now) for _ in range(count))


def test_a_flood_is_nobody_elses() -> None:
    """So many of a user's, by however many processes; root's, other users' and all applications' are heard as ever."""
    allowance = Allowance()
    assert sum(listened(allowance, 100, pid, NOBODY) for pid in range(50)) == OF_A_USER[0]
    assert allowance.refused == 5000 - OF_A_USER[0]
    assert listened(allowance, 20, 7, NOBODY, joined=True) == 20, "an application of the same user's"
    assert listened(allowance, 20, 8, 33) == listened(allowance, 20, 9, 0) == 20
    assert listened(allowance, 100, 1, NOBODY, now=1001.0) == OF_A_USER[1]


def test_many_users_are_strangers_together() -> None:
    """Who has thousands of users has no more to say for it; root and all applications are heard as ever."""
    allowance = Allowance()
    assert sum(listened(allowance, 5, 100, uid) for uid in range(100_000, 165_536)) == OF_STRANGERS[0]
    assert listened(allowance, 20, 7, 33, joined=True) == listened(allowance, 20, 9, 0) == 20
    assert len(allowance._of) <= MAX_SENDERS


def test_one_of_roots_that_floods() -> None:
    """It is that process's, not root's."""
    allowance = Allowance()
    assert listened(allowance, 1000, 50, 0) == OF_ROOT[0]
    assert listened(allowance, 20, 51, 0) == 20


def test_the_shortest_deadline_can_be_kept() -> None:
    """An application may feed twice in the shortest deadline there is, for ever, and say as much besides."""
    assert JOINED[1] >= 2 * 2 / MIN_INTERVAL


def test_rooms_of_the_relay() -> None:
    """Users leave half of what waits for the service manager to root's services, and none takes all of the users'."""
    assert MAX_OF_USERS <= MAX_WAITING / 2 and MAX_OF_A_USER <= MAX_OF_USERS / 2
