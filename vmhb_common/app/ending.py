"""What a process of ours is told by signals: to end, which it does in time whatever hangs in it, and what else somebody
gave it to do. Knows nothing of what runs.

Python carries out a signal's handler in the main thread, once that runs Python again; one that waits is woken only
where it is the main thread itself that the kernel hands the signal to. Any other may be handed it: Linux means the main
thread, but until that has got a CPU a thread that sets its signal mask, as each does that starts another one, takes the
signal before it. Then the handler waits for as long as the main thread does: of a consumer that began a thread for each
thing it told, on a busy host, 6 of 15 did not obey. So no handler does anything here. What Python itself writes into a
socket, in whichever thread, is read by a thread of its own, which also sees to it that there is an end.

That end loses nothing that was promised: it is what `kill -9` makes, and is provided for as that is. What is stored is
stored; what was read from a broker and not acknowledged comes again; what was not confirmed is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

LOG = logging.getLogger(__name__)

#: Seconds in which SIGTERM is obeyed, whatever hangs: what docs, units and tests promise.
PROMISED = 2.0
#: Seconds from a signal until the process is ended as it is: a rest is for a host that is busy.
LIMIT = 1.7
#: Seconds for a log that may be what hangs.
LAST_WORD = 0.1
#: What is obeyed.
SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: What kills a process that is not there for them, and what is asked for by them: `Ending.obey_signals`.
ERRANDS = (signal.SIGHUP, signal.SIGUSR2)

#: In the socket, beside the numbers of signals: we end by ourselves.
_BY_OURSELVES = 0
#: Of ERRANDS, those that came while they were held.
_HELD: set[int] = set()


def hold_signals() -> None:
    """From now on ERRANDS kill nobody: they wait for `Ending.obey_signals`. From the main thread; first of all."""
    for number in ERRANDS:
        signal.signal(number, lambda number, _frame: _HELD.add(number))


class Errand:
    """Something to do when a signal asks for it, in a thread of its own: nothing that it waits for holds up another, or
    the end. Asked for while it is done, it is done once more, and no more than that."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        """work: BLOCKS. Whatever it raises is logged, and ends nothing."""
        self._name = name
        self._work = work
        self._asked = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def ask(self) -> None:
        """Returns at once. Any thread."""
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                self._work()
            except BaseException:  # SystemExit as well: a thread would end by it, in silence
                LOG.exception("%s: an error of our own; going on", self._name)


def errands(read_again: Callable[[], object], write_report: Callable[[], object]) -> dict[int, Callable[[], object]]:
    """For `Ending.obey_signals`, as operators of OpenStack's services know them. Both BLOCK."""
    return {
        signal.SIGHUP: Errand("vmhb-read-again", read_again).ask,
        signal.SIGUSR2: Errand("vmhb-report", write_report).ask,
    }


class Ending:
    """One process's. `begin` from any thread; `obey_signals` from the main thread."""

    def __init__(
        self, stop: Callable[[], None], limit: float = LIMIT, leave: Callable[[int], object] = os._exit
    ) -> None:
        """stop: ends what runs, soon; any thread, any number of times; returns at once. leave: ends the process."""
        self._stop = stop
        self._limit = limit
        self._leave = leave
        self._tell: socket.socket | None = None
        self.code = 0

    def obey_signals(self, errands: Mapping[int, Callable[[], object]] | None = None) -> None:
        """SIGTERM and SIGINT, from now on. And after one of them, or `begin`, the process has ended within `limit`
        seconds. errands: what other signals, those of ERRANDS, ask for; each returns at once, as `Errand.ask` does."""
        asked = dict(errands or {})
        told, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        signal.set_wakeup_fd(self._tell.fileno(), warn_on_full_buffer=False)
        for number in (*SIGNALS, *asked):
            signal.signal(number, lambda *_: None)
        for number in asked.keys() & _HELD:
            asked[number]()
        threading.Thread(target=self._run, args=(told, asked), name="vmhb-ending", daemon=True).start()

    def begin(self, code: int = 0) -> None:
        """End, soon. code: the process's, unless another one was said before."""
        self.code = self.code or code
        self._stop()
        if self._tell is not None:
            with contextlib.suppress(OSError):  # full: it has begun long ago
                self._tell.send(bytes([_BY_OURSELVES]))

    def _run(self, told: socket.socket, errands: Mapping[int, Callable[[], object]]) -> None:
        # Somebody's plugin may handle other signals.
        while not {_BY_OURSELVES, *SIGNALS} & (came := {*told.recv(4096)}):
            for number in came & errands.keys():
                errands[number]()
        self._stop()
        time.sleep(self._limit)
        saying = threading.Thread(target=self._say, name="vmhb-last-word", daemon=True)
        saying.start()
        saying.join(LAST_WORD)
        self._leave(self.code)

    def _say(self) -> None:
        main = sys._current_frames().get(threading.main_thread().ident or 0)
        where = "".join(traceback.format_stack(main)).rstrip()
        LOG.error("no end after %g s: ended as it is. The main thread was at\n%s", self._limit, where)
