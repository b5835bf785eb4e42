"""What root runs is root's alone: the program, what its first line names, and every folder on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vmhb_guest import trust
from vmhb_guest.checks import Checks, read_settings
from vmhb_guest.health import DEGRADED, HEALTHY

NOBODY = 65534


def everybody_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def its_group_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def another_user_has_it(path: Path) -> None:
    os.chown(path, NOBODY, -1, follow_symlinks=False)


HARM = [everybody_may_write, its_group_may_write, *([another_user_has_it] if os.getuid() == 0 else [])]

#: A check's first line -> what of the folder that it is in and names must be root's alone.
LINES = {
    "#!/bin/sh": ("checks/one", "checks"),
    "#!{bin}/own": ("checks/one", "checks", "bin/own", "bin"),
    "#!  \t{bin}/own  -e": ("checks/one", "checks", "bin/own", "bin"),
    "#!{bin}/script": ("checks/one", "checks", "bin/script", "bin/own", "bin"),
    "#!/usr/bin/env own": ("checks/one", "checks", "bin/own", "bin"),
    "#!/usr/bin/env -S A=1 own -e": ("checks/one", "checks", "bin/own", "bin"),
    "#!/usr/bin/env {bin}/own": ("checks/one", "checks", "bin/own", "bin"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checks, and interpreters of our own, which are found before all others."""
    for name in ("checks", "bin"):
        (tmp_path / name).mkdir(mode=0o755)
    shutil.copy("/bin/sh", tmp_path / "bin/own")
    (tmp_path / "bin/script").write_text(f"#!{tmp_path}/bin/own\n")
    (tmp_path / "bin/script").chmod(0o755)
    monkeypatch.setenv("PATH", f"/no/such/folder:{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def check(place: Path, line: str = "#!/bin/sh") -> Path:
    path = place / "checks/one"
    path.write_text(f"{line.format(bin=place / 'bin')}\nexit 0\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked"])
def test_every_part_counts(place: Path, line: str, linked: bool) -> None:
    """Of each, whoever may write it could be root."""
    called = path = check(place, line)
    if linked:
        (place / "links").mkdir()
        called = place / "links/one"
        called.symlink_to("../checks/one")
    assert trust.of_program(str(called)) == ""
    for part in LINES[line]:
        for harm in HARM:
            one = place / part
            mode = one.stat().st_mode
            harm(one)
            assert str(one) in trust.of_program(str(called)), (part, harm.__name__)
            os.chown(one, os.getuid(), -1)
            one.chmod(mode)
    assert trust.of_program(str(path)) == ""


def test_folders_further_up_and_links(place: Path) -> None:
    """A folder where each keeps their own will do on the way, but not around a program, nor around what is missing."""
    path = check(place)
    place.chmod(0o1777)
    assert trust.of_program(str(path)) == ""
    place.chmod(0o777)
    assert str(place) in trust.of_program(str(path))
    place.chmod(0o1777)
    (place / "checks").chmod(0o1777)
    assert "others than root may write to" in trust.of_program(str(path))
    assert "others than root may write to" in trust.of_path(str(place / "missing/more"))
    (place / "checks").chmod(0o755)
    with pytest.raises(FileNotFoundError):
        trust.of_path(str(place / "checks/missing"))
    place.chmod(0o755)
    (place / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        trust.of_path(str(place / "loop"))
    if os.getuid() == 0:
        (place / "link").symlink_to("checks/one")
        another_user_has_it(place / "link")
        assert "is not root's but of uid 65534" in trust.of_path(str(place / "link"))


@pytest.mark.parametrize(
    "text", [b"", b"#!", b"#!\n", b"#! /usr/bin/env", b"#!/usr/bin/env nowhere", b"\x7fELF\0", b"#!" + b"x" * 999]
)
def test_first_lines_that_name_nothing(place: Path, text: bytes) -> None:
    """There is nothing to look at; whether it runs is seen by running it."""
    path = check(place)
    path.write_bytes(text)
    try:
        assert trust.of_program(str(path)) == ""
    except OSError as error:
        assert error.errno in (2, 36)  # as long as no name may be


def test_scripts_without_end(place: Path) -> None:
    """The kernel takes so many in a row, and so do we."""
    path = check(place)
    path.write_text(f"#!{path}\n")
    assert "too many scripts" in trust.of_program(str(path))
    os.mkfifo(place / "checks/pipe", 0o600)
    assert trust.of_program(str(place / "checks/pipe")) == "", "it is not waited for"


def seen(place: Path, ready: Callable[[Checks], bool]) -> dict[str, tuple[str, str]]:
    checks = Checks(str(place / "checks"))
    checks.start()
    try:
        for _ in range(3000):
            if ready(checks):
                break
            checks._ended.wait(0.02)
        return {one.name: (one.status, one.message) for one in checks.findings()}
    finally:
        checks.stop()


def test_a_check_is_not_run(place: Path) -> None:
    """It is told, which, why, and what to do; that is not to say that the machine is unhealthy."""
    ran = place / "ran"
    path = check(place)
    path.write_text(f"#!/bin/sh\ntouch {ran}\n")
    everybody_may_write(path)
    found = seen(place, lambda checks: bool(checks.findings()))
    why = f"others than root may write to {path} (mode 0757): chmod go-w it"
    assert found == {"one": (DEGRADED, f"not run: {why}"[:255])} and not ran.exists()


def test_a_folder_that_others_may_write_to(place: Path) -> None:
    """None of it is run."""
    check(place)
    (place / "checks").chmod(0o775)
    found = seen(place, lambda checks: bool(checks.findings()))
    assert found["checks.d"][0] == DEGRADED and found["checks.d"][1].startswith(
        "none is run: others than root may write"
    )
    (place / "checks").chmod(0o755)
    assert seen(place, lambda checks: bool(checks.findings())) == {"one": (HEALTHY, "")}


def test_settings_of_others(place: Path) -> None:
    """Are not read, and that is said."""
    path = check(place)
    conf = path.with_name("one.conf")
    conf.write_text("interval = 7\n")
    assert read_settings(str(path)).interval == 7.0
    everybody_may_write(conf)
    assert read_settings(str(path)).interval == 30.0 and "are not read" in read_settings(str(path)).problem
