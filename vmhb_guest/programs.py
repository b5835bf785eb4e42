"""Runs one program to its end, whatever it does: its output bounded, its time too, its children gone with it.

A limit on the size of files, say, is left to the program's own surroundings: no limits of ours are put on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

#: Bytes of output kept; what comes after them is read and thrown away.
MAX_OUTPUT = 4096
#: Seconds between two looks at a program that says nothing. A look that comes much later means that we were not
#: scheduled, and so, likely, wasn't the program: that time is not counted.
LOOK, LATE = 0.2, 0.5
#: Seconds that the kernel may take to end what was killed. After that it is left to itself.
DEATH = 5.0


class End(enum.Enum):
    """How it ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    HUNG = "hung"
    NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of it."""

    end: End
    number: int = 0  #: exit code, or the signal's number
    output: str = ""  #: standard output and error together
    seconds: float = 0.0


def _never() -> bool:
    return False


def run(
    program: str | Sequence[str],
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    over: Callable[[], bool] = _never,
    kept: int = MAX_OUTPUT,
) -> Outcome:
    """Run it, for `timeout` seconds at most, and no longer than until `over` says so. Blocks; any thread.

    program: its path, or that and its arguments. kept: bytes of its output.
    """
    try:
        # A session, and so a process group, of its own: what it starts is killed with it.
        process = subprocess.Popen(  # noqa: S603 -- an administrator put it there
            [program] if isinstance(program, str) else list(program),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Outcome(End.NOT_RUN, output=reason)
    with process:
        return _follow(process, timeout, clock, over, kept)


def _follow(
    process: subprocess.Popen[bytes], timeout: float, clock: Callable[[], float], over: Callable[[], bool], kept: int
) -> Outcome:
    pipe = process.stdout
    assert pipe is not None  # noqa: S101 -- asked for above
    os.set_blocking(pipe.fileno(), False)
    output = bytearray()
    spent, before = 0.0, clock()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while process.poll() is None and spent < timeout and not over():
            if selector.get_map():
                selector.select(min(LOOK, timeout - spent))
                if not _drain(pipe.fileno(), output, kept):
                    selector.unregister(pipe)
            else:
                # It closed its output and goes on.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(LOOK, timeout - spent))
            now = clock()
            spent += min(now - before, LOOK + LATE)
            before = now
    hung = process.poll() is None
    # Also what it left running, which would hold the pipe, and the machine.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _drain(pipe.fileno(), output, kept)
    text = output.decode("utf-8", "replace")
    if hung:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DEATH)
        return Outcome(End.HUNG, output=text, seconds=spent)
    code = process.returncode
    return Outcome(End.SIGNALLED if code < 0 else End.EXITED, abs(code), text, spent)


def _drain(fd: int, output: bytearray, kept: int) -> bool:
    """Read what there is, up to a bound, so that a program that writes without end has its time measured as well.

    False at the end of it.
    """
    for _ in range(64):
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        output += chunk[: kept - len(output)]
    return True
