"""What is not text, in arguments and in names: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.guest.daemons import ROOT, DaemonProcess

ODD = b"x\xff\xed\xa0\x80"
COMMANDS: tuple[tuple[bytes, ...], ...] = (
    *((b"status",), (b"forget", ODD), (b"goodbye", b"--reason", ODD), (b"maintenance", ODD), (b"exec", ODD), (ODD,)),
    *((b"run", b"--members", ODD), (b"run", b"--members", "²".encode()), (b"run", b"--port", ODD)),
)


@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
@pytest.mark.parametrize("words", COMMANDS, ids=repr)
def test_arguments(words: tuple[bytes, ...], locale: str, tmp_path: Path) -> None:
    """Of every command, in any locale, with no daemon there."""
    folder = os.fsencode(tmp_path / "run") + ODD
    command = [sys.executable.encode(), b"-m", b"vmhb_guest", b"--folder", folder, *words]
    env = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2) and done.stderr.strip(), "it says what is the matter"


def test_names(tmp_path: Path) -> None:
    """Of checks, in files' names; told to the host, to people and in the log."""
    with DaemonProcess(tmp_path) as daemon:
        path = os.fsencode(daemon.checks) + b"/" + ODD
        with open(path, "wb") as file:
            file.write(b"#!/bin/sh\nprintf '\\377'; exit 1\n")
        os.chmod(path, 0o755)
        daemon.start()
        daemon.until(lambda checks: len(checks) == 1)
        shown = daemon.command("status", LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (shown.returncode, shown.stderr) == (0, "") and "degraded" in shown.stdout
        daemon.host.ask(b"\xff\xfe\n")
        assert daemon.status()["faults"] == 0
    assert "Traceback" not in daemon.log.read_text()
