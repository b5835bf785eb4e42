"""A log that never blocks: lines go to a thread of its own, and are counted where that can't keep up."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import TextIO

#: Lines that wait for whoever reads our standard error.
MAX_WAITING = 1000


class Patient(logging.Handler):
    """Hands lines over, and drops those for which there is no room."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self.dropped = 0
        self._out = out
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1

    def finish(self, seconds: float = 1.0) -> None:
        """Write what waits, if that can be done in this time."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if line is None:
                return
            try:
                print(line, file=self._out, flush=True)
            except (OSError, ValueError):
                self.dropped += 1


def begin(level: int) -> Patient:
    """Log to standard error; a service manager adds time and name."""
    handler = Patient(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    return handler
