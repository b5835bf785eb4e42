"""SIGTERM ends a process in time, whichever of its threads takes the signal and whatever hangs; in processes of their
own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vmhb_common
from vmhb_common.app.ending import LAST_WORD, LIMIT, PROMISED

ROOT = Path(vmhb_common.__file__).parent.parent

#: Until a signal that was sent is in force, and for Python to begin: a bound for tests, on a busy machine.
PATIENCE = 30.0

#: What comes before each program: `another_takes(signal)` has a thread that is not the main one take it.
BEFORE = """
import logging, os, signal, threading, time
from vmhb_common.app.ending import Ending

def another_takes(number):
    # Once the main thread waits.
    threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), number)).start()

def ready():
    print("ready", flush=True)

stopping = threading.Event()
"""
#: A program that ends as ours do: see `command_line.main`.
ORDERLY = "stopping.wait(); print('ended in order', flush=True); os._exit(ending.code)"


def run(program: str, *signals: signal.Signals) -> tuple[int, str, str, float]:
    """Run it, and send these once it says that it is ready. Exit code, what it said, what it logged, and seconds from
    when it was ready to its end."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", BEFORE + program],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what comes right after the first line is not to be taken with it: `communicate` would not see it
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        began = time.monotonic()
        for number in signals:
            child.send_signal(number)
        try:
            said, logged = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
        return child.returncode, said.decode(), logged.decode(), time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_another_thread_takes(number: signal.Signals) -> None:
    """The main thread waits for a lock, and is woken all the same: Python's own handlers would wait with it."""
    program = f"""
ending = Ending(stopping.set, {PATIENCE})
ending.obey_signals()
ready()
another_takes({int(number)})
{ORDERLY}
"""
    code, said, logged, _ = run(program)
    assert (code, said, logged) == (0, "ended in order\n", "")


def test_signals_from_outside_any_number() -> None:
    """One at the heels of the other: there is no lock that the second would find taken by the first."""
    program = f"ending = Ending(stopping.set, {PATIENCE})\nending.obey_signals()\nready()\n{ORDERLY}"
    code, said, logged, _ = run(program, *[signal.SIGTERM, signal.SIGINT] * 20)
    assert (code, said, logged) == (0, "ended in order\n", "")


def test_others_signals_end_nothing() -> None:
    """A plugin has a handler of its own: what it is told is its affair."""
    program = f"""
ending = Ending(stopping.set, 0.0)
ending.obey_signals()
signal.signal(signal.SIGUSR1, lambda *_: None)
ready()
another_takes(signal.SIGUSR1)
print("stopping" if stopping.wait(0.6) else "going on", flush=True)
another_takes(signal.SIGTERM)
stopping.wait()
time.sleep({PATIENCE})
"""
    code, said, _, _ = run(program)
    assert (code, said) == (0, "going on\n")


#: Two errands, of which the first hangs.
ERRANDS = """
from vmhb_common.app.ending import Errand, errands, hold_signals
began = threading.Event()
def hangs():
    began.set()
    threading.Event().wait()
"""


@pytest.mark.parametrize("number", ["SIGHUP", "SIGUSR2"])
def test_errands(number: str) -> None:
    """Whichever thread takes the signal, and though the main one waits: it is done, and ends nothing."""
    program = f"""{ERRANDS}
done = threading.Event()
ending = Ending(stopping.set, {PATIENCE})
ending.obey_signals(errands(done.set, done.set))
ready()
another_takes(signal.{number})
print("done" if done.wait({PATIENCE}) else "nothing", flush=True)
another_takes(signal.SIGTERM)
{ORDERLY}
"""
    code, said, logged, _ = run(program)
    assert (code, said, logged) == (0, "done\nended in order\n", "")


@pytest.mark.parametrize("error", ["ValueError('a bug')", "SystemExit(2)"])
def test_an_errand_that_hangs_or_fails(error: str) -> None:
    """It holds up neither the other one nor the end; and one that fails is done again when it is asked for again."""
    program = f"""{ERRANDS}
failed, tries = threading.Semaphore(0), []
def fails():
    tries.append(1)
    failed.release()
    raise {error}
logging.basicConfig(format="%(levelname)s %(message)s")
ending = Ending(stopping.set, {PATIENCE})
ending.obey_signals(errands(hangs, fails))
ready()
another_takes(signal.SIGHUP)
assert began.wait({PATIENCE})
for _ in range(2):
    another_takes(signal.SIGUSR2)
    assert failed.acquire(timeout={PATIENCE})
time.sleep(0.3)
print(len(tries), flush=True)
another_takes(signal.SIGTERM)
{ORDERLY}
"""
    code, said, logged, _ = run(program)
    assert (code, said) == (0, "2\nended in order\n")
    assert logged.count("ERROR vmhb-report: an error of our own; going on") == 2


def test_signals_that_come_before_anybody_is_there() -> None:
    """While a program starts, they kill it no more than later; what they ask for is done once it is there."""
    program = f"""{ERRANDS}
done = threading.Event()
hold_signals()
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGUSR2)
ending = Ending(stopping.set, {PATIENCE})
ending.obey_signals(errands(done.set, lambda: None))
ready()
print("done" if done.wait({PATIENCE}) else "nothing", flush=True)
another_takes(signal.SIGTERM)
{ORDERLY}
"""
    code, said, logged, _ = run(program)
    assert (code, said, logged) == (0, "done\nended in order\n", "")


def hung(what: str, limit: float = 0.2, begun: str = "another_takes(signal.SIGTERM)") -> str:
    """A program whose end hangs."""
    return f"""
logging.basicConfig(format="%(levelname)s %(message)s")
ending = Ending(stopping.set, {limit})
ending.obey_signals()
ready()
{begun}
stopping.wait()
{what}
"""


def test_an_end_that_hangs() -> None:
    """The process is ended as it is, with the exit code that it would have had; what it hung in is said."""
    code, _, logged, seconds = run(hung("def hangs():\n    threading.Event().wait()\nhangs()"))
    assert code == 0
    assert seconds >= 0.2
    assert logged.startswith("ERROR no end after 0.2 s: ended as it is. The main thread was at\n")
    assert ", in hangs\n" in logged


def test_an_end_that_we_begin_ourselves() -> None:
    """No signal, but a reason not to run: in time as well, and with its code, whatever is said later."""
    code, _, _, _ = run(hung(f"time.sleep({2 * PATIENCE})", begun="ending.begin(1); ending.begin(0)"))
    assert code == 1


def test_a_log_that_hangs() -> None:
    """Nobody reads what we say, and whoever says something holds the lock: it ends in the dark."""
    hangs = "logging.getLogger().handlers[0].acquire(); threading.Event().wait()"
    code, _, logged, _ = run(hung(hangs))
    assert (code, logged) == (0, "")


def test_a_thread_that_leaves_no_time() -> None:
    """Others compute without end: nobody is held up but for their turns. (A last word is not promised.)"""
    busy = """
def computes():
    while True:
        pass
for _ in range(8):
    threading.Thread(target=computes, daemon=True).start()
"""
    code, _, _, _ = run(hung(f"{busy}time.sleep({2 * PATIENCE})"))
    assert code == 0


def test_limits_add_up() -> None:
    """What is promised holds more than what is given. (What each program's parts are given: see their own tests.)"""
    assert LIMIT + LAST_WORD < PROMISED


def test_no_program_of_ours_has_handlers_of_its_own() -> None:
    """They would wait for the main thread. (vmhb-guest's wakes up every second, and nova_vmhb is a guest of others.)"""
    packages = ("vmhb_common", "vmhb_consumer", "vmhb_worker")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    handle = {str(file.relative_to(ROOT)) for file in files if re.search(r"\bsignal\.signal\(", file.read_text())}
    assert handle == {"vmhb_common/app/ending.py"}
