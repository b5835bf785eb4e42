"""Who may join, and so speak for this machine: by the kernel's word on a sender, a setting, /etc/passwd and /etc/group.

Root may, and whoever this daemon runs as. Anybody else's end or silence is nothing to the cloud: see strangers.py.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence

from vmhb_guest import processes
from vmhb_guest.codec import MAX_TEXT, clean
from vmhb_guest.faults import Faults

LOG = logging.getLogger(__name__)

#: Who may join where nothing else is said; and the word for all.
USUAL, EVERYBODY = ("@vmhb",), "everybody"
#: Words of the setting, and bytes read of a file of users or groups.
MAX_WORDS, MUCH = 64, 1 << 20
#: Seconds between two looks at those files.
LOOK = 2.0

#: A user's or, after an @, a group's name or number.
_WORD = re.compile(r"@?(?:[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,62}\$?)")


@dataclasses.dataclass(frozen=True)
class Members:
    """Those who may, by number."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    everybody: bool = False
    unknown: tuple[str, ...] = ()  #: words of the setting that name nobody here

    def may(self, uid: int, groups: Collection[int] = ()) -> bool:
        """May a process of this user's, which is in these groups, join?"""
        return uid == 0 or self.everybody or uid in self.users or not self.groups.isdisjoint(groups)


def words(text: str) -> tuple[str, ...]:
    """The setting: names or numbers of users, and of groups after an @, with commas or spaces between them.

    ValueError for a word that is none.
    """
    found = tuple(text.replace(",", " ").split())
    for word in found:
        if word != EVERYBODY and not _WORD.fullmatch(word):
            raise ValueError(f"{clean(word, MAX_TEXT)!r} is no user, no @group, and not {EVERYBODY!r}")
    if len(found) > MAX_WORDS:
        raise ValueError(f"{len(found)} words, at most {MAX_WORDS}: name a group")
    return found


def find(asked: Sequence[str], folder: str = "/etc") -> Members:
    """Whom these words mean. Reads two files; a user is in a group by either, or by its process's own groups."""
    users = {row[0]: (int(row[2]), int(row[3])) for row in _rows(os.path.join(folder, "passwd"), 4, (2, 3))}
    groups = {row[0]: (int(row[2]), row[3].split(",")) for row in _rows(os.path.join(folder, "group"), 4, (2,))}
    uids, gids, unknown = {os.geteuid()}, set(), []
    for word in asked:
        name = word.lstrip("@")
        if word == EVERYBODY:
            continue
        if not word.startswith("@"):
            found = {int(name)} if name.isdigit() else {users[name][0]} if name in users else set()
            uids |= found
        else:
            gid, named = (int(name), []) if name.isdigit() else groups.get(name, (-1, []))
            found = {gid} - {-1}
            gids |= found
            uids |= {users[user][0] for user in named if user in users}
            uids |= {uid for uid, own in users.values() if own == gid}
        if not found:
            unknown.append(word)
    return Members(frozenset(uids), frozenset(gids), EVERYBODY in asked, tuple(unknown))


def _rows(path: str, fields: int, numbers: Sequence[int]) -> Iterator[list[str]]:
    """The rows of a file such as /etc/passwd that have so many fields, and numbers in these; none without a file."""
    try:
        with open(path, "rb") as file:
            text = file.read(MUCH).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= fields and all(re.fullmatch("[0-9]{1,10}", row[number]) for number in numbers):
            yield row


class Register:
    """The members as they are now. `members` may be read on any thread; a thread of its own looks at the files."""

    def __init__(self, asked: Sequence[str], *, folder: str = "/etc", faults: Faults | None = None) -> None:
        self.members = Members()  # root alone, until `start`
        self.asked = tuple(asked)
        self._folder = folder
        self._faults = faults or Faults()
        self._seen: object = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="members", daemon=True)

    def start(self) -> None:
        """Look now, and whenever the files have changed."""
        self._look()
        for word in self.members.unknown:
            usual = self.asked == USUAL
            LOG.log(logging.INFO if usual else logging.WARNING, "there is no %s here, so none of it may join", word)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()

    def may(self, pid: int, uid: int, gid: int = -1) -> bool:
        """May this sender join? By the kernel's word on its message; else by its process, as long as that lives."""
        members = self.members
        if members.may(uid, (gid,)):
            return True
        owner = processes.owner(pid) if members.groups else processes.Owner()
        return uid in owner.users and members.may(uid, owner.groups)

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            with self._faults.of("a look for who may join"):
                self._look()

    def _look(self) -> None:
        seen = [self._state(name) for name in ("passwd", "group")]
        if seen != self._seen:
            self.members = find(self.asked, self._folder)
            self._seen = seen

    def _state(self, name: str) -> tuple[int, ...]:
        try:
            one = os.stat(os.path.join(self._folder, name))
        except OSError:
            return ()
        return one.st_mtime_ns, one.st_size, one.st_ino
