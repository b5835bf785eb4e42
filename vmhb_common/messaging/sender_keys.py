"""Keys of senders in files: one's own, and those of all who are trusted. Knows no message.

One's own is a file of one line, for its owner alone. Trusted are lines `<role>:<host> <key>`, in a file, or in all
files `*.keys` of a folder: several lines of one name are several keys of it, as while a key is replaced. A line that is
taken away is revoked. Files are read again once they have changed, within LOOK seconds, without a restart.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vmhb_common.messaging import signing
from vmhb_common.messaging.signing import KEY, NoCryptography, PrivateKey
from vmhb_common.model.senders import Forged, Role, SenderCheck, SenderSettings, Signature

LOG = logging.getLogger(__name__)

#: Seconds until it is looked again whether a file has changed.
LOOK = 2.0
#: Of a folder, the files that count.
PATTERN = "*.keys"
#: More than the keys of any cloud, and bounded.
MAX_FILE = 16 * 1024 * 1024
_NAME = re.compile(rf"(?:{'|'.join(Role)}):[!-~]{{1,255}}")


class BadKey(ValueError):
    """The text names the file, or the line, and the remedy."""


def line_of(name: str, public: bytes) -> str:
    """A trusted sender, as a line."""
    return f"{a_name(name)} {base64.b64encode(public).decode('ascii')}"


def a_name(text: str) -> str:
    """Raises BadKey."""
    if _NAME.fullmatch(text):
        return text
    raise BadKey(f"{text[:80]!a} is no sender's name: say worker:HOST or consumer:HOST, HOST being [DEFAULT] host")


def read_line(line: str) -> tuple[str, bytes]:
    """(name, public key). Raises BadKey."""
    name, _, text = line.strip().partition(" ")
    return a_name(name), _key(text.strip(), "a public key")


def _key(text: str, what: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY:
        raise BadKey(f"{text[:20]!a}... is not {what}: {KEY} bytes in base64, as vmhb-keys writes them")
    return found


def read_trusted(path: Path) -> tuple[dict[str, set[bytes]], list[str]]:
    """All that are trusted, by name; and what is wrong, line by line: such a line counts for nothing. Raises OSError
    where there is no such file, or it can't be read."""
    found: dict[str, set[bytes]] = {}
    wrong = []
    for file in _files(path):
        if file.stat().st_mode & stat.S_IWOTH:
            wrong.append(f"{file} may be written by everybody, and none of it counts: chmod 644 {file}")
            continue
        for number, line in enumerate(_text(file).splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                name, key = read_line(line)
            except BadKey as error:
                wrong.append(f"{file}, line {number}: {error}")
            else:
                found.setdefault(name, set()).add(key)
    return found, wrong


def _files(path: Path) -> list[Path]:
    return sorted(path.glob(PATTERN)) if path.is_dir() else [path]


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_FILE).decode("ascii", "replace")


def read_own(path: Path) -> PrivateKey:
    """Raises BadKey, OSError, NoCryptography."""
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadKey(f"{path} may be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
    return PrivateKey(_key(_text(path).strip(), f"a private key ({path})"))


def write_own(path: Path) -> PrivateKey:
    """A new one, in a file that is not there yet. Raises OSError, NoCryptography."""
    seed = os.urandom(KEY)
    key = PrivateKey(seed)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(base64.b64encode(seed) + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    return key


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """In one step: who reads it meanwhile reads the old ones, or these. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    new.chmod(0o644)
    os.replace(new, path)


def problems(settings: SenderSettings) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the files of keys, for `--check-config`: option, its value, and what to do."""
    try:
        read_own(settings.key)
    except FileNotFoundError:
        pass  # it does not sign
    except (OSError, BadKey, NoCryptography) as error:
        yield "sender_key", str(settings.key), str(error)
    try:
        keys, wrong = read_trusted(settings.trusted)
    except FileNotFoundError:
        keys, wrong = {}, []
    except OSError as error:
        keys, wrong = {}, [str(error)]
    yield from (("senders", str(settings.trusted), text) for text in wrong[:10])
    if keys and settings.check is not SenderCheck.OFF:
        try:
            PrivateKey(bytes(KEY))
        except NoCryptography as error:
            yield "sender_check", str(settings.check), str(error)
    if settings.check is SenderCheck.ENFORCE and not keys:
        remedy = "nobody is trusted, so nobody is heard: vmhb-keys trust, or sender_check = warn"
        yield "senders", str(settings.trusted), remedy


class _Watched:
    """Files that are read again once they have changed."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self.path = path
        self._now = now
        self._looked = float("-inf")
        self._seen: Any = None

    def changed(self) -> bool:
        """Since the last time that it was said so; at first it has."""
        if self._now() - self._looked < LOOK:
            return False
        self._looked = self._now()
        before, self._seen = self._seen, tuple(self._signs())
        return bool(self._seen != before)

    def _signs(self) -> Iterator[Any]:
        yield self.path
        try:
            for file in [self.path, *_files(self.path)]:
                found = file.stat()
                yield file, found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
        except OSError as error:
            yield str(error)


class Own:
    """One's own key. Threads: any."""

    def __init__(self, path: Path, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """name: as whom it is signed. Reads nothing yet."""
        self._watched = _Watched(path, now)
        self._name = name
        self._lock = threading.Lock()
        self._key: PrivateKey | None = None

    def sign(self, kind: str, content: Mapping[str, Any]) -> str | None:
        """None where there is no key that can be used; why not is said once. Raises nothing else than what is no JSON
        brings with it."""
        with self._lock:
            if self._watched.changed():
                self._key = self._read()
            key = self._key
        return None if key is None else key.sign(self._name, kind, content)

    def _read(self) -> PrivateKey | None:
        path = self._watched.path
        try:
            key = read_own(path)
        except FileNotFoundError:
            LOG.info("what we send is not signed: there is no key %s; to sign it: vmhb-keys make", path)
        except (OSError, BadKey, NoCryptography) as error:
            LOG.error("what we send is not signed: %s", error)
        else:
            LOG.info("what we send is signed as %s, with %s", self._name, path)
            return key
        return None


class Trusted:
    """The keys of all who are trusted. Threads: any."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Reads nothing yet."""
        self._watched = _Watched(path, now)
        self._lock = threading.Lock()
        self._keys: Mapping[str, set[bytes]] = {}

    def check(self, seal: Any, kind: str, content: Mapping[str, Any]) -> Signature:
        """As `signing.check`. Raises nothing."""
        try:
            return signing.check(seal, kind, content, self._current())
        except NoCryptography as error:
            return Forged(f"signed, which can't be checked: {error}")

    @property
    def anybody(self) -> bool:
        """Is anybody trusted? Before, nothing can be checked."""
        return bool(self._current())

    def _current(self) -> Mapping[str, set[bytes]]:
        with self._lock:
            if self._watched.changed():
                self._keys = self._read()
            return self._keys

    def _read(self) -> Mapping[str, set[bytes]]:
        path = self._watched.path
        try:
            keys, wrong = read_trusted(path)
        except FileNotFoundError:
            LOG.info("no sender is trusted by its key: there is no %s", path)
            return {}
        except OSError as error:
            # Whoever was trusted stays so: a file that can't be read revokes nobody, and says nothing new.
            LOG.error("the keys of senders can't be read, the last ones that were read count: %s", error)
            return self._keys
        for text in wrong[:10]:
            LOG.error("a sender's key counts for nothing: %s", text)
        LOG.info("%d senders are trusted by their keys, of %s", len(keys), path)
        return keys
