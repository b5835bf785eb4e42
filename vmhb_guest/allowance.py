"""How many datagrams of whom are listened to; the rest are thrown away unread, which costs next to nothing.

All users send to one socket, and it holds a few datagrams only (net.unix.max_dgram_qlen). So it is emptied as fast as
can be, whatever is in it: nobody's flood keeps others' words out, nor costs what it would cost to understand it. No
I/O, no clock: time is an argument.
"""

from __future__ import annotations

from vmhb_guest.budget import Budget

#: Datagrams at once, and a second afterwards. Of an application: what the shortest deadline needs, and as much
#: again for what else it says. Of a user's processes that have not joined, together: to join takes one or two.
JOINED, OF_A_USER = (100, 100.0), (32, 16.0)
#: Of each process of root's that has not joined; of each user that may join, and of each of a service of systemd's, in
#: which nobody is but who was put there; and of all others, together.
OF_ROOT, SHELTERED, OF_STRANGERS = (100, 100.0), (100, 100.0), (256, 128.0)
#: Senders remembered. Who is forgotten begins anew, which is no more than a newcomer may do.
MAX_SENDERS = 256


class Allowance:
    """Of all senders. Bounded. Not thread-safe."""

    def __init__(self) -> None:
        self.refused = 0  #: datagrams thrown away
        self._strangers = Budget(*OF_STRANGERS)
        self._of: dict[tuple[str, int], Budget] = {}  # who was heard last is last

    def take(self, pid: int, uid: int, *, joined: bool, now: float, shelter: str = "") -> bool:
        """Is one of this sender's listened to, now (monotonic seconds)? joined: as an application.

        shelter: it is counted with its user's of that name, and not with strangers; "" for none.
        """
        if joined:
            good = self._budget(("joined", pid), JOINED).take(now)
        elif uid == 0:
            good = self._budget(("root", pid), OF_ROOT).take(now)
        elif shelter:
            good = self._budget((f"in {shelter}", uid), SHELTERED).take(now)
        else:
            good = self._budget(("user", uid), OF_A_USER).take(now) and self._strangers.take(now)
        self.refused += not good
        return good

    def _budget(self, key: tuple[str, int], much: tuple[int, float]) -> Budget:
        budget = self._of.pop(key, None) or Budget(*much)
        self._of[key] = budget
        if len(self._of) > MAX_SENDERS:
            del self._of[next(iter(self._of))]
        return budget
