"""The composition root of the consumer: makes its halves, runs them, and ends them in time."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from oslo_config import cfg

from nova_vmhb.conf import nova_notifications
from nova_vmhb.consumer.instances import Instances
from vmhb_worker import program, systemd

LOG = logging.getLogger(__name__)

#: Seconds that all halves have to end, together: less than the 2 s in which SIGTERM is obeyed.
END = 1.0


class Half(Protocol):
    """A part of the consumer that runs in threads of its own. Both return at once, or within `timeout` seconds."""

    def start(self) -> None: ...
    def stop(self, timeout: float) -> None: ...


def run(conf: cfg.ConfigOpts) -> int:
    """Run until SIGTERM or SIGINT. Exit code."""
    return Consumer([Instances(conf, nova_notifications.settings(conf))]).run()


class Consumer:
    """One consumer, from its halves to its end. `stop` from any thread or signal handler."""

    def __init__(self, halves: Sequence[Half]) -> None:
        self._halves = halves
        self._stopping = threading.Event()

    def run(self, signals: bool = True) -> int:
        """Run until `stop`. signals: obey SIGTERM and SIGINT; only the main thread can."""
        if signals:
            signal.signal(signal.SIGTERM, lambda *_: self.stop())
            signal.signal(signal.SIGINT, lambda *_: self.stop())
        for half in self._halves:
            half.start()
        LOG.info("nova-vmhb-consumer %s is running", program.version())
        systemd.ready("listening")
        self._stopping.wait()
        systemd.stopping()
        LOG.info("ending")
        until = time.monotonic() + END
        for half in self._halves:
            half.stop(max(0.0, until - time.monotonic()))
        LOG.info("ended")
        return 0

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()
