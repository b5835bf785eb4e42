"""The composition root of the consumer: makes its halves, runs them, and ends them in time."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from oslo_config import cfg

from vmhb_common.app import command_line, systemd
from vmhb_consumer import settings
from vmhb_consumer.conf import consumer as options
from vmhb_consumer.conf import nova_notifications
from vmhb_consumer.nova_listener import Instances
from vmhb_consumer.reporters import loader

LOG = logging.getLogger(__name__)

#: Seconds that all halves have to end, together: less than the 2 s in which SIGTERM is obeyed.
END = 1.0


class Half(Protocol):
    """A part of the consumer that runs in threads of its own. Both return at once, or within `timeout` seconds."""

    def start(self) -> None: ...
    def stop(self, timeout: float) -> None: ...


def run(conf: cfg.ConfigOpts) -> int:
    """Run until SIGTERM or SIGINT. Exit code: 0, or 1 where it refuses to run."""
    consumer = Consumer()
    try:
        halves = options.halves(conf)
        if settings.Half.INSTANCES in halves:
            consumer.add(Instances(conf, nova_notifications.settings(conf)))
        if settings.Half.FAULTS in halves:
            consumer.add(_faults(conf, consumer.refuse))
    except (ValueError, ImportError) as error:
        LOG.critical("%s", error)
        return 1
    return consumer.run()


def _faults(conf: cfg.ConfigOpts, refuse: Callable[[str], None]) -> Half:
    try:
        from vmhb_consumer import faults_half as faults  # noqa: PLC0415 - the other half does without what this one needs
    except ImportError as error:
        raise ImportError(
            f"{error}: the faults half needs nova-vmhb[consumer]; install it, or say [consumer] halves = instances"
        ) from error
    wanted = options.settings(conf)
    reporters = loader.make(conf, wanted.reporters, loader.installed(), faults.now)
    return faults.make(conf, wanted, reporters, refuse)


class Consumer:
    """One consumer, from its halves to its end. `stop` and `refuse` from any thread or signal handler."""

    def __init__(self, halves: Sequence[Half] = ()) -> None:
        self._halves = list(halves)
        self._stopping = threading.Event()
        self._code = 0

    def add(self, half: Half) -> None:
        """Before `run`."""
        self._halves.append(half)

    def refuse(self, why: str) -> None:
        """End `run` soon, with exit code 1: we must not run."""
        LOG.critical("%s", why)
        self._code = 1
        self._stopping.set()

    def run(self, signals: bool = True) -> int:
        """Run until `stop`. signals: obey SIGTERM and SIGINT; only the main thread can."""
        if signals:
            signal.signal(signal.SIGTERM, lambda *_: self.stop())
            signal.signal(signal.SIGINT, lambda *_: self.stop())
        for half in self._halves:
            half.start()
        LOG.info("nova-vmhb-consumer %s is running", command_line.version())
        systemd.ready("listening")
        self._stopping.wait()
        systemd.stopping()
        LOG.info("ending")
        until = time.monotonic() + END
        for half in self._halves:
            half.stop(max(0.0, until - time.monotonic()))
        LOG.info("ended")
        return self._code

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()
