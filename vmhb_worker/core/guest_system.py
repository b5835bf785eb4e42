"""What runs in a guest, as far as its balloon is concerned: by its domain, its image's properties, or its own word.

A guest that lies about it harms nobody but itself. What is not known is None, and never taken for anything.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from vmhb_worker.core.events import AgentCommand
from vmhb_worker.core.evidence import Reading, System, unavailable
from vmhb_worker.core.guest_exec import STEP_TIMEOUT

#: The stock agent's command; it is asked once in a boot, where nothing else tells.
OSINFO = json.dumps({"execute": "guest-get-osinfo"})
#: Those of `os_distro` (libosinfo's short names) and of agents' ids that are neither Linux nor Windows.
_OTHERS: tuple[str, ...] = (
    *("freebsd", "openbsd", "netbsd", "dragonfly", "solaris", "opensolaris", "openindiana", "sunos"),
    *("macos", "darwin", "msdos", "freedos", "netware", "haiku", "minix", "aix", "hurd"),
)
#: So often in a boot the agent is asked, where nobody else says it.
_ASKS = 3
#: Whose operating systems libosinfo's ids name by their makers' hosts.
_MAKERS = {
    "microsoft.com": System.WINDOWS,
    "freebsd.org": System.OTHER,
    "openbsd.org": System.OTHER,
    "netbsd.org": System.OTHER,
    "dragonflybsd.org": System.OTHER,
    "oracle.com/solaris": System.OTHER,
    "sun.com": System.OTHER,
    "apple.com": System.OTHER,
    "novell.com": System.OTHER,
    "haiku-os.org": System.OTHER,
    "libosinfo.org/unknown": System.OTHER,
}


def by_name(name: str | None) -> System | None:
    """Of an image's `os_type` or `os_distro`, or as a program in the guest calls its platform."""
    name = (name or "").strip().lower()
    if not name or name == "unknown":
        return None
    if name.startswith(("win", "mswin", "cygwin")):
        return System.WINDOWS
    return System.OTHER if name.startswith(_OTHERS) else System.LINUX


def by_osinfo_id(url: str) -> System | None:
    """Of libosinfo's element in the domain's metadata."""
    parts = urlsplit(url)
    where = f"{parts.netloc}{parts.path}".removeprefix("www.")
    if not parts.netloc:
        return None
    return next((system for maker, system in _MAKERS.items() if where.startswith(maker)), System.LINUX)


def by_agent(reply: str) -> System | None:
    """Of what the stock agent says. Linux is told by its kernel's version, whose texts begin with a #: distributions
    are too many."""
    try:
        told = json.loads(reply)["return"]
        name, kernel = str(told.get("id", "")), str(told.get("kernel-version", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if name.lower() == "mswindows":
        return System.WINDOWS
    if name.lower().startswith(_OTHERS):
        return System.OTHER
    return System.LINUX if kernel.startswith("#") else None


class GuestSystem:
    """Of one instance. Belongs to its monitor. of_domain: what its domain tells."""

    __slots__ = ("_asks", "_said", "asking", "of_domain")

    def __init__(self) -> None:
        self.of_domain: System | None = None
        self._said: System | None = None  # by itself, in this boot
        self._asks = _ASKS  # that its agent is still worth
        self.asking = False

    def question(self) -> AgentCommand | None:
        """The agent has just answered: what it is to be asked, if anything."""
        if not self._asks or (self.of_domain or self._said) is not None:
            return None
        self._asks -= 1
        self.asking = True
        return AgentCommand(OSINFO, STEP_TIMEOUT)

    def answered(self, reply: str | None, refused: bool) -> None:
        """The question came to its end. refused: by the agent, which will not say it the next time either."""
        self.asking = False
        self._said = None if reply is None else by_agent(reply)
        if refused:
            self._asks = 0

    def says(self, name: str) -> None:
        """Its application says so itself."""
        self._said = by_name(name)

    def rebooted(self) -> None:
        """It may be another."""
        self._said, self._asks = None, _ASKS

    def reading(self) -> Reading:
        """For the evidence."""
        told = self.of_domain or self._said
        return unavailable("nobody has said what runs in it") if told is None else Reading(told)
