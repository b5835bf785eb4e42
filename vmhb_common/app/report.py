"""What a process says of itself when SIGUSR2 asks for it: OpenStack's Guru Meditation Report, by oslo.reports. Knows
nothing of what runs: who does adds sections.

oslo.reports' own handler would wait for the main thread, which may be what hangs: only what it does is taken, in a
thread of ours.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from oslo_config import cfg

from vmhb_common.messaging.no_eventlet import without_eventlet

LOG = logging.getLogger(__name__)

GROUP = "oslo_reports"


@contextmanager
def _without_greenlet() -> Iterator[None]:
    """It looks for greenlet, for a section about threads of a kind that we have not, and would load it."""
    if "greenlet" in sys.modules:
        yield
        return
    sys.modules["greenlet"] = None  # type: ignore[assignment] # documented: makes its import an ImportError
    try:
        yield
    finally:
        del sys.modules["greenlet"]


class _Version:
    """As oslo.reports wants it."""

    def __init__(self, program: str, version: str) -> None:
        self._program = program
        self._version = version

    def vendor_string(self) -> str:
        return "nova-vmhb"

    def product_string(self) -> str:
        return self._program

    def version_string_with_package(self) -> str:
        return self._version


def set_up(
    conf: cfg.ConfigOpts, program: str, version: str, sections: Mapping[str, Callable[[], str]]
) -> Callable[[], None]:
    """Returns what writes a report: it BLOCKS, and raises nothing. Once in a process, after the configuration was read.

    sections: title -> its text, besides what every report has: all threads' stacks, the processes, the configuration
    without its secrets. Written to stderr, or into [oslo_reports] log_dir; also when file_event_handler is touched.
    """
    with _without_greenlet(), without_eventlet():
        options = importlib.import_module("oslo_reports.opts")
        report: Any = importlib.import_module("oslo_reports.guru_meditation_report").TextGuruMeditation
    options.set_defaults(conf)
    for title, text in {"Names of threads": _threads, **sections}.items():
        report.register_section(title, text)
    whose = _Version(program, version)
    try:
        report.setup_autorun(whose, program, conf=conf, setup_signal=False)
    except OSError as error:
        file = conf[GROUP].file_event_handler
        LOG.error("[oslo_reports] file_event_handler: %s: %s: make it, or leave it out", file, error.strerror)
    return lambda: report.handle_signal(whose, program, conf[GROUP].log_dir, None)


def _threads() -> str:
    """The stacks are told by number."""
    return "\n".join(f"{thread.ident}: {thread.name}" for thread in threading.enumerate())
