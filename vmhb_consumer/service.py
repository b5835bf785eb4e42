"""The composition root of the consumer: makes its halves, runs them, and ends them in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from oslo_config import cfg

from vmhb_common.app import command_line, report, systemd
from vmhb_common.app.command_line import Reading
from vmhb_common.app.ending import Ending, errands
from vmhb_common.conf import senders
from vmhb_common.messaging.sender_keys import Own
from vmhb_common.model.senders import Role, name_of
from vmhb_consumer import settings
from vmhb_consumer.conf import consumer as options
from vmhb_consumer.conf import nova_notifications
from vmhb_consumer.nova_listener import Instances
from vmhb_consumer.reporters import loader

LOG = logging.getLogger(__name__)

#: Seconds that the halves have to end, side by side: less than `ending.LIMIT`.
END = 1.0


class Half(Protocol):
    """A part of the consumer that runs in threads of its own. All return at once, or within `timeout` seconds."""

    @property
    def known(self) -> threading.Event:
        """Set once it is known that nothing keeps it from ever running, or that this can't be told now."""

    def start(self) -> None: ...
    def read_again(self) -> None:
        """What may change while it runs is another, in the configuration that it was made with."""

    def stop(self, timeout: float) -> None: ...


def run(conf: cfg.ConfigOpts, reading: Reading) -> int:
    """Run until SIGTERM or SIGINT. Exit code: 0, or 1 where it refuses to run. SIGHUP has it read its configuration
    again, SIGUSR2 write a report of itself."""
    consumer = Consumer()
    try:
        halves = options.halves(conf)
        if settings.Half.INSTANCES in halves:
            own = Own(senders.settings(conf).key, name_of(Role.CONSUMER, conf.host))
            consumer.add(Instances(conf, nova_notifications.settings(conf), consumer.line, own))
        if settings.Half.FAULTS in halves:
            consumer.add(_faults(conf, consumer))
    except (ValueError, ImportError) as error:
        LOG.critical("%s", error)
        return 1
    write = report.set_up(conf, "nova-vmhb-consumer", command_line.version(), {"How it is": lambda: consumer.line.text})

    def read_again() -> None:
        if reading():
            consumer.read_again()

    return consumer.run(errands=errands(read_again, write))


def _faults(conf: cfg.ConfigOpts, consumer: Consumer) -> Half:
    try:
        from vmhb_consumer import faults_half as faults  # noqa: PLC0415 - the other half does without what this one needs
    except ImportError as error:
        raise ImportError(
            f"{error}: the faults half needs nova-vmhb[consumer]; install it, or say [consumer] halves = instances"
        ) from error
    wanted = options.settings(conf)
    reporters = loader.make(conf, wanted.reporters, loader.installed(), faults.now)
    for remark in faults.remarks(conf, reporters):
        LOG.warning("%s", remark)
    return faults.make(conf, wanted, reporters, consumer.refuse, consumer.line)


class Consumer:
    """One consumer, from its halves to its end. `stop` and `refuse` from any thread."""

    def __init__(self, halves: Sequence[Half] = ()) -> None:
        self._halves = list(halves)
        self._stopping = threading.Event()
        self._ending = Ending(self._stopping.set)
        self.line = systemd.Line("recoveries", "faults", "database", "instances")

    def add(self, half: Half) -> None:
        """Before `run`."""
        self._halves.append(half)

    def refuse(self, why: str) -> None:
        """End `run` soon, with exit code 1: we must not run."""
        LOG.critical("%s", why)
        self._ending.begin(1)

    def run(self, signals: bool = True, errands: Mapping[int, Callable[[], object]] | None = None) -> int:
        """Run until `stop`. signals: obey SIGTERM and SIGINT, and end in time after them, and `errands` by others; only
        the main thread can."""
        if signals:
            self._ending.obey_signals(errands)
        for half in self._halves:
            half.start()
        LOG.info("nova-vmhb-consumer %s is running", command_line.version())
        threading.Thread(target=self._say_ready, name="vmhb-ready", daemon=True).start()
        self._stopping.wait()
        systemd.stopping()
        LOG.info("ending")
        self._end_halves()
        LOG.info("ended")
        return self._ending.code

    def _say_ready(self) -> None:
        """Not where one of the halves must not run: that is not known at once."""
        for half in self._halves:
            half.known.wait()
        if not self._stopping.is_set():
            self.line.ready()

    def read_again(self) -> None:
        """The configuration has changed, in what may change while it runs."""
        for half in self._halves:
            try:
                half.read_again()
            except Exception:
                LOG.exception("an error of our own; the other half reads its configuration all the same")

    def stop(self) -> None:
        """End `run` soon."""
        self._ending.begin()

    def _end_halves(self) -> None:
        """All at once, so that none takes from another's time."""
        until = time.monotonic() + END
        ends = [threading.Thread(target=_end, args=(half,), name="vmhb-end-half", daemon=True) for half in self._halves]
        for end in ends:
            end.start()
        for end in ends:
            end.join(max(0.0, until - time.monotonic()))


def _end(half: Half) -> None:
    try:
        half.stop(END)
    except Exception:
        LOG.exception("an error of our own; the end goes on")
