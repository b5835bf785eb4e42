"""One worker for one libvirt, and nobody else on the host can keep it from that."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhb_worker.adapters.libvirt_lock import FOLDER, AlreadyWatchedError, Guard

#: Anybody.
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else as well")


@pytest.fixture
def identity() -> str:
    """A host's uuid of its own for each test: the names are the machine's."""
    return str(uuid.uuid4())


@pytest.fixture
def guards() -> Iterator[list[Guard]]:
    """Those that end with the test."""
    made: list[Guard] = []
    yield made
    for guard in made:
        guard.release()


def taken(guards: list[Guard], folder: Path | None, identity: str | None) -> Guard:
    guard = Guard(folder)
    guards.append(guard)
    guard.take(identity)
    return guard


def lock(folder: Path, identity: str) -> Path:
    return folder / FOLDER / f"{identity}.lock"


#: Takes a name in the abstract namespace as this uid, and keeps it until its input ends.
SQUAT = """
import os, socket, sys
os.setgroups([]); os.setresgid(*3 * [int(sys.argv[1])]); os.setresuid(*3 * [int(sys.argv[1])])
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
one.bind("\\0" + sys.argv[2]); print(flush=True); sys.stdin.read()
"""


def squat(identity: str, uid: int) -> subprocess.Popen[bytes]:
    """Somebody who holds the name that was the lock."""
    command = [sys.executable, "-c", SQUAT, str(uid), f"nova-vmhb/worker/{identity}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_second_worker_is_refused(tmp_path: Path, identity: str, guards: list[Guard]) -> None:
    """By name and number, until the first one is gone; another host's libvirt is another's business."""
    first = taken(guards, tmp_path, identity)
    first.take(identity)
    with pytest.raises(AlreadyWatchedError, match=rf"process '{os.getpid()}', watches this libvirt .*{identity}"):
        taken(guards, tmp_path, identity)
    taken(guards, tmp_path, str(uuid.uuid4()))
    first.release()
    taken(guards, tmp_path, identity)


def test_containers_have_libvirts_folder_in_common(tmp_path: Path, identity: str, guards: list[Guard]) -> None:
    """Each has a /run of its own, and maybe a network: what both must have is the folder of libvirt's sockets."""
    taken(guards, tmp_path, identity)
    mounted = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    mounted.symlink_to(tmp_path)
    # In another network namespace there is no such name.
    guard = Guard(mounted)
    with pytest.raises(AlreadyWatchedError, match=r"\.lock"):
        guard.take(identity)


def test_nobody_else_may_enter(tmp_path: Path, identity: str, guards: list[Guard]) -> None:
    """Whoever can open a file can hold its lock: its folder is 0700, whatever it was, and the file 0600."""
    (tmp_path / FOLDER).mkdir(mode=0o777)
    (tmp_path / FOLDER).chmod(0o777)
    taken(guards, tmp_path, identity)
    path = lock(tmp_path, identity)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@needs_root
def test_any_users_name_keeps_no_worker_from_its_start(
    tmp_path: Path, identity: str, guards: list[Guard], caplog: pytest.LogCaptureFixture
) -> None:
    """The name that was the lock is anybody's to take: it is said whose it is, once, and the file counts."""
    somebody = squat(identity, NOBODY)
    try:
        guard = taken(guards, tmp_path, identity)
        guard.take(identity)
        with pytest.raises(AlreadyWatchedError):
            taken(guards, tmp_path, identity)
    finally:
        somebody.communicate()
    assert [one.getMessage() for one in caplog.records if "uid 65534, which is no worker's" in one.getMessage()]
    assert len(caplog.records) == 1


def test_a_worker_of_before_is_another_worker(tmp_path: Path, identity: str, guards: list[Guard]) -> None:
    """It knows nothing of the file, and holds the name: of root's, or of our own user."""
    older = squat(identity, os.geteuid()) if os.geteuid() == 0 else None
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if older is None:
            name.bind(f"\0nova-vmhb/worker/{identity}")
        with pytest.raises(AlreadyWatchedError, match=identity):
            taken(guards, tmp_path, identity)
    finally:
        name.close()
        if older is not None:
            older.communicate()
    taken(guards, tmp_path, identity)  # and nothing is left of the attempt


def test_a_worker_of_before_finds_ours(tmp_path: Path, identity: str, guards: list[Guard]) -> None:
    """A host that goes back to the version of before: it goes by the name."""
    taken(guards, tmp_path, identity)
    older = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with pytest.raises(OSError, match="in use"):
        older.bind(f"\0nova-vmhb/worker/{identity}")
    older.close()


@needs_root
def test_a_folder_that_somebody_else_made_is_not_trusted(
    tmp_path: Path, identity: str, guards: list[Guard], caplog: pytest.LogCaptureFixture
) -> None:
    """He may hold what is in it: it is said what to do, and the name is the lock."""
    place = tmp_path / FOLDER
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    taken(guards, tmp_path, identity)
    assert "belongs to uid 65534: remove it" in caplog.text
    with pytest.raises(AlreadyWatchedError):
        taken(guards, tmp_path, identity)


@pytest.mark.parametrize("what", ["missing", "file", "link"])
def test_a_folder_that_cannot_be_used(
    what: str, tmp_path: Path, identity: str, guards: list[Guard], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, with the remedy, and the worker runs: a libvirt that nobody watches is worse."""
    folder = tmp_path / "libvirt"
    if what != "missing":
        folder.mkdir()
        place = folder / FOLDER
        place.touch() if what == "file" else place.symlink_to(tmp_path)
    taken(guards, folder, identity)
    assert "two workers could watch this libvirt" in caplog.text
    assert f"let the worker write to {folder}" in caplog.text
    with pytest.raises(AlreadyWatchedError):
        taken(guards, folder, identity)


def test_a_libvirt_of_another_host(identity: str, guards: list[Guard]) -> None:
    """Has no folder here: the name is all there is. One without an identity cannot be told from others."""
    taken(guards, None, identity)
    with pytest.raises(AlreadyWatchedError):
        taken(guards, None, identity)
    taken(guards, None, None)
    taken(guards, None, None)


def test_what_is_called_like_a_path_is_no_path(tmp_path: Path, guards: list[Guard]) -> None:
    """libvirt says a uuid; whatever it says, the file is in our folder."""
    taken(guards, tmp_path, "../../etc/x")
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["______etc_x.lock"]
