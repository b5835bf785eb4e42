"""Whether there is room for one more application. Bounded, whatever users do. No I/O, no clock: time is an argument.

Anybody may join, and may have many users (subordinate ones, say). So all users together leave room for root's services,
and a user's service that was here before finds its place again.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Seconds for which the place of one that left is kept for its user. A service that is restarted says STOPPING=1 first,
#: may take systemd's 90 s to end, and minutes until it is ready again.
KEPT = 600.0


class Places:
    """Those that are taken, which the caller knows, and those that are kept. Not thread-safe.

    At most so many in all, of all users other than root together (kept ones included), and of one of those.
    """

    def __init__(self, in_all: int, of_users: int, of_a_user: int) -> None:
        self._in_all, self._of_users, self._of_a_user = in_all, of_users, of_a_user
        self._kept: dict[tuple[int, str], float] = {}  # user and name -> until when; the oldest first

    def take(self, uid: int, name: str, taken: Sequence[int], now: float) -> bool:
        """Is there room for this user's application of this name? taken: whose all the others are, root's included."""
        if len(taken) >= self._in_all:
            return False
        if uid == 0:
            return True
        if taken.count(uid) >= self._of_a_user:
            return False
        self._expire(now)
        if self._kept.pop((uid, name), None) is not None:
            return True
        mine = [key for key in self._kept if key[0] == uid]
        full = len(taken) - taken.count(0) + len(self._kept) >= self._of_users
        if mine and (full or taken.count(uid) + len(mine) >= self._of_a_user):
            del self._kept[mine[0]]  # its user's other places are its user's to use
            return True
        return not full

    def keeps(self, uid: int, name: str, now: float) -> bool:
        """Is the place of this user's application of this name kept?"""
        return self._kept.get((uid, name), now) > now

    def leave(self, uid: int, name: str, now: float) -> None:
        """It left in good order: its place is kept for a while."""
        if uid:
            self._kept.pop((uid, name), None)
            self._kept[uid, name] = now + KEPT

    def _expire(self, now: float) -> None:
        self._kept = {key: until for key, until in self._kept.items() if until > now}
