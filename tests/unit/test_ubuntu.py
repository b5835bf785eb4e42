"""A Python that this machine has not: where it comes from, and how one that can't be had is told. `tools/test bounds`
makes the root and runs in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.lib import prepare, roots, run_tests, ubuntu
from tools.lib.prepare import Environment

#: Of a Python that nobody has, not even Ubuntu.
NOWHERE = Environment(".venv-nowhere", (), python="3.1")


def test_the_oldest_python_can_be_had() -> None:
    """There is a release for it: what `tools/test bounds` runs does not depend on what the machine has."""
    assert prepare.OLDEST.python in ubuntu.SUITES
    assert ubuntu.SUITES[prepare.OLDEST.python] in ubuntu.key(prepare.OLDEST.python)
    assert {ubuntu.key(one) for one in ubuntu.SUITES} != {ubuntu.key("3.1")}


def test_one_that_can_not_be_had_is_skipped_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what was looked for, and where; it counts as skipped, and never as passed."""
    job = run_tests.Job("bounds", "nowhere", run_tests.Run.oldest, NOWHERE, "unit")
    folders = run_tests._prepare([job])
    (tally,) = run_tests._run([job], folders, ())
    assert (folders, tally.passed, tally.failed, tally.skipped) == ({}, 0, 0, 1)
    said = capsys.readouterr().out
    assert "!! nowhere: SKIPPED, nothing of it was tested. .venv-nowhere can't be made: there is no Python 3.1" in said
    assert "none of Ubuntu's: none of the releases that are known here has Python 3.1" in said


def test_an_archive_that_is_away_is_no_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the archive does is a reason; what we do wrong is raised, and fails."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def broken(*_: object) -> Path:
        raise roots.BrokenMirror("E: Failed to fetch this")

    def wrong(*_: object) -> Path:
        raise roots.Failed("of ours")

    monkeypatch.setattr(roots, "kept", broken)
    assert ubuntu.unavailable("3.10") == "its archive is broken: E: Failed to fetch this"
    monkeypatch.setattr(roots, "kept", wrong)
    with pytest.raises(roots.Failed):
        ubuntu.unavailable("3.10")


@pytest.mark.parametrize(("user", "has", "why"), [(1000, "/usr/bin/x", "only root"), (0, "", "mmdebstrap")])
def test_where_no_root_can_be_made(user: int, has: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not allow it, or lacks the programs."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda _: has)
    assert why in ubuntu.unavailable("3.10")


def test_the_keys_are_those_we_know(tmp_path: Path) -> None:
    """Whoever stands between us and the archive hands out none of their own; one that is not there is the archive's
    fault."""
    package = tmp_path / "served.deb"
    with pytest.raises(roots.BrokenMirror, match="No such file"):
        ubuntu._keyring(tmp_path, package.as_uri())
    package.write_bytes(b"somebody else's")
    with pytest.raises(roots.BrokenMirror, match=hashlib.sha256(b"somebody else's").hexdigest()):
        ubuntu._keyring(tmp_path, package.as_uri())


def test_the_script_hands_on_what_it_is_given(tmp_path: Path) -> None:
    """Words as they are, whatever is in them."""
    script = tmp_path / "python"
    script.write_text(ubuntu.script(["printf", "<%s>", "it's", "two words"]))
    done = subprocess.run(["sh", str(script), "-m", "a b", "$HOME"], check=True, capture_output=True, text=True)
    assert done.stdout == "<it's><two words><-m><a b><$HOME>"


def test_nothing_of_this_machine_is_handed_on() -> None:
    """Its certificates, its wheels and its home are not there; what tests and pbr are told is."""
    given = {"HOME": "/h", "PIP_CERT": "/c", "PIP_FIND_LINKS": "/w", "PBR_VERSION": "1", "VMHB_TEST_PATIENCE": "3"}
    assert ubuntu.handed_on(given) == {"PBR_VERSION": "1", "VMHB_TEST_PATIENCE": "3"}


def test_the_machines_certificates_are_believed(tmp_path: Path) -> None:
    """Its index may have one that it alone knows; where it has none, the root's own stay."""
    ubuntu.believe(tmp_path, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    certificates = tmp_path / "ours"
    certificates.write_text("of this machine")
    ubuntu.believe(tmp_path, certificates)
    assert (tmp_path / ubuntu.FOR_PIP["PIP_CERT"].lstrip("/")).read_text() == "of this machine"


@pytest.mark.parametrize(
    ("said", "theirs"),
    [("E: Failed to fetch http://a/InRelease  Could not connect to a", True), ("E: Unable to locate package x", False)],
)
def test_what_apt_says_of_a_broken_archive_is_read(
    said: str, theirs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdebstrap is not told to be quiet: apt's words, by which a broken archive is known, would be missing."""
    program = tmp_path / "mmdebstrap"
    program.write_text(f'#!/bin/sh\ncase " $* " in *" --quiet "*) ;; *) echo "{said}";; esac\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(roots.BrokenMirror if theirs else roots.Failed, match="E: "):
        roots.bootstrap("jammy", ["x"], tmp_path / "root", "http://a")
