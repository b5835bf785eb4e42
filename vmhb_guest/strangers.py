"""Those who may not join: what they say of their health is told, and nothing else. No I/O, no clock.

Nobody minds their silence or their end, and their word makes a report `degraded` at the worst: so no user of the
machine has it taken for dead, or recovered. Each is its unit and user, or, outside of units, its process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from vmhb_guest import names, units
from vmhb_guest.application import Groups
from vmhb_guest.applications import joins
from vmhb_guest.codec import MAX_NAME, MAX_TEXT, clean
from vmhb_guest.health import DEGRADED, HEALTHY, STATUSES, UNHEALTHY, Finding
from vmhb_guest.senders import HELPERS, Sender

#: Of all users together, and of one of them.
MAX_STRANGERS, MAX_OF_A_USER = 48, 8
#: Seconds for which the word of a unit stands where nobody can tell whether anybody is left in it.
STALE = 3600.0


@dataclasses.dataclass
class _Stranger:
    sender: Sender
    asked: str
    heard: float
    status: str = HEALTHY
    text: str = ""

    def finding(self, name: str) -> Finding:
        """At the worst degraded; whose word it is, is said."""
        said = f"says that it is unhealthy: {self.text}" if self.status == UNHEALTHY else self.text
        status = DEGRADED if self.status == UNHEALTHY else self.status
        return Finding(name, status, f"uid {self.sender.uid}: {said}" if said else f"uid {self.sender.uid}", aside=True)


class Strangers:
    """The table. Bounded. Not thread-safe."""

    def __init__(self, groups: Groups | None = None) -> None:
        self.refused = 0  #: messages of those for whom there is no room
        self._groups = groups or Groups()
        self._all: dict[tuple[str, int, int], _Stranger] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pid: int) -> bool:
        return any(one.sender.pid == pid for one in self._all.values())

    def living(self) -> list[Sender]:
        """The processes whose end must be noticed: of a unit, it is enough to look whether anybody is left in it."""
        return [one.sender for one in self._all.values() if not one.sender.unit]

    def hear(self, sender: Sender, said: Mapping[str, str], now: float) -> bool:
        """One message. Is the end of its sender to be noticed?"""
        if not sender.born or (sender.command in HELPERS and not sender.unit):
            return False  # a helper: of whom, nobody knows
        key = _key(sender)
        if said.get("STOPPING") == "1":
            self._all.pop(key, None)
            return False
        one = self._all.get(key)
        if one is None:
            if not joins(said) or not self._room(sender.uid):
                return False
            asked = clean(units.title(sender.unit) or sender.command, MAX_NAME) or str(sender.pid)
            one = self._all[key] = _Stranger(sender, asked, now)
        one.heard = now
        one.asked = clean(said.get("X-VMHB-NAME", ""), MAX_NAME) or one.asked
        if said.get("X-VMHB-HEALTH") in STATUSES:
            one.status = said["X-VMHB-HEALTH"]
        if "STATUS" in said:
            one.text = clean(said["STATUS"], MAX_TEXT)
        return not sender.unit

    def end(self, pid: int) -> None:
        """This process is no more, or has joined."""
        for key in [key for key, one in self._all.items() if one.sender.pid == pid]:
            del self._all[key]

    def tidy(self, now: float) -> None:
        """Drop the units in which nobody is left."""
        for key, one in list(self._all.items()):
            if one.sender.unit and (self._groups.empty(one.sender.unit) or now - one.heard > STALE):
                del self._all[key]

    def findings(self, taken: Collection[str]) -> list[Finding]:
        """What each says of itself, under a name that is none of these."""
        return [one.finding(name) for name, one in self._named(taken)]

    def describe(self, taken: Collection[str], now: float) -> list[dict[str, Any]]:
        """For people: rows as those of applications."""
        return [
            {
                "name": name,
                "pid": one.sender.pid,
                "uid": one.sender.uid,
                "unit": units.title(one.sender.unit) if one.sender.unit else None,
                "joined": False,
                "watchdog": None,
                "heard": round(max(now - one.heard, 0), 1),
                "status": one.finding(name).status,
                "message": one.finding(name).message,
            }
            for name, one in self._named(taken)
        ]

    def _named(self, taken: Collection[str]) -> list[tuple[str, _Stranger]]:
        used, named = set(taken), []
        for one in self._all.values():
            name = names.free(one.asked, one.sender.pid, used)
            used.add(name)
            named.append((name, one))
        return named

    def _room(self, uid: int) -> bool:
        mine = sum(one.sender.uid == uid for one in self._all.values())
        if mine < MAX_OF_A_USER and len(self._all) < MAX_STRANGERS:
            return True
        self.refused += 1
        return False


def _key(sender: Sender) -> tuple[str, int, int]:
    """Its unit and user; outside of units, its process."""
    return (sender.unit, sender.uid, 0) if sender.unit else ("", sender.pid, sender.born)
