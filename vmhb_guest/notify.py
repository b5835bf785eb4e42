"""The socket on which applications join: datagrams as sd_notify(3) has them, passed on to the service manager.

Who sent one is the kernel's word (SCM_CREDENTIALS), never the message's.
"""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import logging
import os
import socket
import stat
import struct
import threading

LOG = logging.getLogger(__name__)

#: Bytes of one datagram; a longer one is dropped.
MAX_MESSAGE = 4096
#: Datagrams that wait for a service manager that is slow: in all, of users other than root together (once of those that
#: are sheltered, once of the others), and of one of those. Beyond that, the newest is dropped: nobody's flood takes the
#: place of what root's services say, nor of what others do that may.
MAX_WAITING, MAX_OF_USERS, MAX_OF_A_USER = 384, 128, 32
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_NAMED, _NOBODY = socket.SCM_CREDENTIALS, (0, 0, 0)
#: Room for credentials and nothing else: descriptors that somebody sends never arrive here, the kernel closes them.
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size)
#: And for one descriptor: that of a barrier (sd_notify_barrier(3)), all of whose message this is.
_ROOM_FOR_ONE, BARRIER = _ROOM + socket.CMSG_SPACE(array.array("i").itemsize), b"BARRIER=1"
#: Datagrams that a socket holds, where that is not known: more than systemd lets it.
MUCH = 4096
#: Descriptors of others that we are about to close and that may take for ever: beyond that no barrier is taken.
MAX_CLOSING = 4


@dataclasses.dataclass(frozen=True)
class Datagram:
    """One that waits to be read. sender: pid, uid and gid. barrier: a descriptor comes with it, and is to be kept."""

    data: bytes
    sender: tuple[int, int, int]
    barrier: bool = False


class Mailbox:
    """Our end. Not thread-safe; nothing blocks."""

    def __init__(self, path: str) -> None:
        """Bind it; OSError where that can't be. Any user may send."""
        self.path = path
        self.dropped = 0  #: datagrams that were too long, or carried descriptors that are none of ours
        self._closing: list[threading.Thread] = []
        self._left: list[int] = []  # descriptors for which there was no thread that would close them
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        remove_socket(path)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 -- who sends is checked, not who may

    def look(self) -> Datagram | None:
        """The next datagram, which stays where it is until `take`; None for none. Of one to be dropped, no data."""
        try:
            data, extra, flags, _ = self.socket.recvmsg(MAX_MESSAGE, _ROOM, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        sender = next(
            (_CREDENTIALS.unpack(row[: _CREDENTIALS.size]) for _, kind, row in extra if kind == _NAMED), _NOBODY
        )
        carries = bool(flags & socket.MSG_CTRUNC)
        barrier = carries and data == BARRIER and self._closing_now() < MAX_CLOSING
        bad = flags & socket.MSG_TRUNC or (carries and not barrier) or sender[0] <= 0
        return Datagram(b"" if bad else data, sender, barrier)

    def skip(self) -> None:
        """Read the next one and throw it away, whatever it is. Never raises."""
        with contextlib.suppress(OSError):
            self.socket.recv(1)

    def take(self, one: Datagram, *, heard: bool) -> int:
        """Read it. heard: it is not thrown away. The descriptor of a barrier, which is the caller's then; else -1."""
        self.dropped += not one.data
        wanted = heard and one.barrier
        _, extra, _, _ = self.socket.recvmsg(1, _ROOM_FOR_ONE if wanted else _ROOM)
        fds = array.array("i")
        for _, kind, content in extra:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if len(fds) == 1 and _is_pipe(fds[0]):
            return fds[0]
        self._left, left = [], [*self._left, *fds]
        for fd in left:
            self._close(fd)
        return -1

    def _close(self, fd: int) -> None:
        """To close what is no pipe may take as long as whoever sent it likes: a file system may be theirs (FUSE)."""
        thread = threading.Thread(target=os.close, args=(fd,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no room for a thread: with the next one that is to be closed
            self._left.append(fd)
        else:
            self._closing.append(thread)

    def _closing_now(self) -> int:
        self._closing = [one for one in self._closing if one.is_alive() or one.ident is None]
        return len(self._closing) + len(self._left)

    def close(self) -> None:
        """Nobody can join any more."""
        self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Relay:
    """Passes on what services say to the service manager that started them, in their own name. Not thread-safe."""

    def __init__(self, address: str) -> None:
        """address: as in NOTIFY_SOCKET; "" for nobody."""
        self.lost = 0  #: datagrams that could not be passed on
        self.address = address if address[:1] in ("/", "@") else ""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._waiting: collections.deque[tuple[bytes, tuple[int, int, int], int, bool]] = collections.deque()
        self._socket: socket.socket | None = None
        if self.address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def say(self, data: bytes) -> None:
        """Tell the service manager this of ourselves. However many wait, there is room for it, and it goes first."""
        ours = (data, (os.getpid(), os.getuid(), os.getgid()), -1, True)
        if self._socket is not None and ours not in self._waiting:
            self._waiting.appendleft(ours)
        self.flush()

    @property
    def waiting(self) -> bool:
        """Is there something that the service manager had no room for? Then `flush` again, soon."""
        return bool(self._waiting)

    def send(self, data: bytes, sender: tuple[int, int, int], fd: int = -1, *, sheltered: bool = False) -> None:
        """Pass on a datagram, without what is meant for us alone. fd: the pipe of a barrier, which is ours from now on.
        sheltered: it has room beside what strangers say.

        Its other end sees that everybody has closed it when the service manager, too, has read the datagram.
        """
        lines = [line for line in data.split(b"\n") if line and not line.startswith(b"X-VMHB-")]
        if self._socket is None or not lines:
            _let_go(fd)
            return
        if not self._room(sender[1], sheltered):
            self.lost += 1
            _let_go(fd)
            return
        self._waiting.append((b"\n".join(lines), sender, fd, sheltered))
        self.flush()

    def _room(self, uid: int, sheltered: bool) -> bool:
        if uid == 0:
            return len(self._waiting) < MAX_WAITING
        users = [sender[1] for _, sender, _, other in self._waiting if sender[1] and other is sheltered]
        return len(users) < MAX_OF_USERS and users.count(uid) < MAX_OF_A_USER

    def flush(self) -> None:
        """Pass on what waits, as far as there is room for it."""
        while self._waiting and self._socket is not None:
            data, sender, fd, _ = self._waiting[0]
            extra: list[tuple[int, int, bytes | array.array[int]]]
            extra = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, _CREDENTIALS.pack(*sender))]
            if fd >= 0:
                extra.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd])))
            try:
                self._socket.sendmsg([data], extra, 0, self._address)
            except BlockingIOError:
                return
            except OSError as error:
                # It has ended, or we are not root: in our own name it would be somebody else's message.
                self.lost += 1
                LOG.debug("a message of pid %d can't be passed on: %s", sender[0], error)
            self._waiting.popleft()
            _let_go(fd)

    def close(self) -> None:
        """Pass on nothing more."""
        for _, _, fd, _ in self._waiting:
            _let_go(fd)
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Way:
    """Where services speak that vmhb-guest was put before (`vmhb-guest exec`): a symbolic link, to our socket while we
    read it, else to the service manager's own, so that no service is silent to its manager for want of us. Root's.
    """

    def __init__(self, link: str, manager: str) -> None:
        """link: the path that services have. manager: a second link, which says where the service manager reads."""
        self.link = link
        self.manager = manager

    def to_us(self, mailbox: str, address: str) -> None:
        """Services speak to `mailbox` from now on, and `address` is the service manager's."""
        if address.startswith("/"):  # an abstract name is none that a link could lead to
            _link(address, self.manager)
            _link(os.path.basename(mailbox), self.link)

    def to_manager(self) -> None:
        """They speak to the service manager itself."""
        if os.path.islink(self.link):
            _link(os.path.basename(self.manager), self.link)


def address_for(said: str, way: Way, mailbox: str) -> str | None:
    """What a program is to be told in NOTIFY_SOCKET, whose service manager said `said`; None: that, as it is."""
    try:
        manager = os.readlink(way.manager)
    except OSError:
        manager = ""
    if said and manager and said != manager:
        return None  # a user's own service manager, or a container's: what goes through us would never reach it
    address = way.link if said and manager else mailbox
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(address)
        return address
    return None


def parse(data: bytes) -> dict[str, str]:
    """The assignments of a datagram; of a name that is there twice, the last."""
    rows = (line.partition(b"=") for line in data.split(b"\n"))
    return {
        name.decode("ascii", "replace"): value.decode("utf-8", "replace")
        for name, equals, value in rows
        if name and equals
    }


def room() -> int:
    """How many datagrams a socket holds that is made now."""
    try:
        with open("/proc/sys/net/unix/max_dgram_qlen", "rb") as file:
            return int(file.read(20)) + 1  # one more than that waits: af_unix.c, unix_recvq_full
    except (OSError, ValueError):
        return MUCH


def remove_socket(path: str) -> None:
    """Remove what an earlier life left there; never anything but a socket."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _link(target: str, path: str) -> None:
    """In one step: whoever looks finds the old one or the new one."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, path)


def _is_pipe(fd: int) -> bool:
    """One without a name: to ask more of it may take as long as whoever sent it likes."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


def _let_go(fd: int) -> None:
    """Of a pipe: no need to wait."""
    if fd >= 0:
        os.close(fd)
