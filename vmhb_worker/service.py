"""The composition root: makes the parts, wires them, runs the engine in this thread, and ends it all in time."""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.app import report, systemd
from vmhb_common.app.command_line import Reading
from vmhb_common.app.ending import Ending, errands
from vmhb_common.messaging import broker, looks, publisher
from vmhb_common.messaging.callers import Callers
from vmhb_common.messaging.sender_keys import Own
from vmhb_common.model.senders import Role, name_of
from vmhb_worker import conf as options
from vmhb_worker.adapters.application_sockets import SocketChannels
from vmhb_worker.adapters.guest_agent import GuestAgent
from vmhb_worker.adapters.host_pressure import ProcPressure
from vmhb_worker.adapters.libvirt_lock import AlreadyWatchedError, Guard
from vmhb_worker.adapters.rpc_server import Server
from vmhb_worker.core.events import HypervisorUp, Report
from vmhb_worker.delivery.outbox import Outbox
from vmhb_worker.delivery.sqlite import StoreError
from vmhb_worker.engine.loop import Engine, Ports
from vmhb_worker.interfaces import Clock, Hypervisor, Post, Pressure
from vmhb_worker.settings import Settings

LOG = logging.getLogger(__name__)

#: Seconds that each part has to end, RPC beside the store: together less than `ending.LIMIT`.
STORE_END = 1.0
RPC_END = 0.3
HYPERVISOR_END = 0.2
#: A libvirt that has said nothing for so long (seconds) is no reason to be out of reach as well.
MUTE = 5.0
#: Seconds that a look at the broker may take, in the background, to say what is wrong with it.
CHECK = 10.0


def run(conf: cfg.ConfigOpts, reading: Reading) -> int:
    """Run until SIGTERM or SIGINT. Exit code: 0, or 1 when the worker refuses to run. SIGHUP has it read its
    configuration again, SIGUSR2 write a report of itself."""
    settings = options.settings(conf)
    try:
        from vmhb_worker.adapters.libvirt import LibvirtHypervisor  # noqa: PLC0415 - a simulation does without libvirt
    except ImportError as error:
        LOG.critical("libvirt-python cannot be imported (%s): install nova-vmhb[worker]", error)
        return 1
    calls = settings.agent.workers + settings.agent.slow_workers
    hypervisor = LibvirtHypervisor(settings.connection_uri, agent_calls=calls)
    worker = Worker(conf, settings, hypervisor, ProcPressure())
    write = report.set_up(conf, "vmhb-worker", _version(), {"How it is": lambda: worker.line.text})

    def read_again() -> None:
        if reading() and worker.engine is not None:
            settings = options.settings(conf)
            worker.engine.take_settings(settings)
            if worker.callers is not None:
                worker.callers.check = settings.senders.check

    return worker.run(errands=errands(read_again, write))


class Worker:
    """One worker, from its parts to its end. `stop` from any thread; the rest from one thread."""

    def __init__(
        self, conf: cfg.ConfigOpts, settings: Settings, hypervisor: Hypervisor, pressure: Pressure | None = None
    ) -> None:
        """pressure: None where guests are simulated, and this host has no say in how they are."""
        self._pressure = pressure
        self._conf = conf
        self._settings = settings
        self._hypervisor = hypervisor
        self._guard = Guard(hypervisor.folder)
        self._refused = False
        self._unserved = threading.Lock()  # taken for good by whoever starts the RPC server
        self.engine: Engine | None = None
        self.callers: Callers | None = None
        self.line = systemd.Line("worker")
        self.line.say("worker", f"connecting to {settings.connection_uri}")
        self._server: Server | None = None
        self._ending: Ending | None = None

    def run(self, signals: bool = True, errands: Mapping[int, Callable[[], object]] | None = None) -> int:
        """Run until `stop`. signals: obey SIGTERM and SIGINT, and `errands` by others; only the main thread can."""
        settings = self._settings
        own = Own(settings.senders.key, name_of(Role.WORKER, settings.host))
        sender = publisher.Sender(
            self._conf,
            settings.notifications.transport_url,
            settings.host,
            own=own,
            declare=not settings.own_queue_only,
        )
        store = Outbox(settings.state_path, settings.notifications.topics, sender.send)
        try:
            saved = store.load()
        except StoreError as error:
            LOG.critical("%s", error)
            return 1
        agent = GuestAgent(self._hypervisor.agent_command, settings.agent.workers + settings.agent.slow_workers)
        engine = self.engine = Engine(settings, self._ports(agent, store), saved)
        ending = self._ending = Ending(engine.stop)
        if signals:
            ending.obey_signals(errands)
        callers = self.callers = Callers(settings.host, settings.senders, own)
        server = self._server = Server(
            worker_api.get_transport(self._conf),
            settings.host,
            engine.call,
            self._unserved_why,
            callers,
            settings.own_queue_only,
        )
        self._check_topics()
        agent.open(engine.post)
        if self._pressure is not None:
            self._pressure.open(engine.post)
        self._hypervisor.open(self._guarded(engine.post))
        mute = threading.Timer(MUTE, self._serve)
        mute.daemon = True
        mute.start()
        LOG.info("vmhb-worker %s of host %s is running", _version(), settings.host)
        engine.run()
        systemd.stopping()
        LOG.info("ending")
        until = time.monotonic() + RPC_END
        server.end()
        store.close(STORE_END)
        server.join(until - time.monotonic())
        self._hypervisor.close(HYPERVISOR_END)
        if self._pressure is not None:
            self._pressure.close()
        LOG.info("ended")
        return ending.code

    @property
    def listening(self) -> bool:
        """Is its RPC served?"""
        return self._server is not None and self._server.listening.is_set()

    def stop(self, code: int = 0) -> None:
        """End `run` soon. code: the process's."""
        if self._ending is not None:
            self._ending.begin(code)

    def _ports(self, agent: GuestAgent, store: Outbox) -> Ports:
        watchdog = systemd.watchdog_interval()
        return Ports(
            hypervisor=self._hypervisor,
            agent=agent,
            channels=SocketChannels(self._settings.channel, time.monotonic),
            store=store,
            clock=Clock(time.monotonic, lambda: datetime.now(timezone.utc)),
            version=_version(),
            beat=_feed_watchdog,
            tell=lambda text: self.line.say("worker", text),
            watchdog=watchdog or float("inf"),
        )

    def _guarded(self, post: Post) -> Post:
        """Let nothing through of a libvirt that somebody else watches."""
        identity = self._hypervisor.identity

        def guarded(report: Report) -> None:
            if isinstance(report, HypervisorUp):
                known = identity()
                if known is None:
                    LOG.warning("libvirt does not tell its host's uuid: nothing keeps a second worker from watching it")
                try:
                    self._guard.take(known)
                except AlreadyWatchedError as error:
                    LOG.critical("%s", error)
                    self._refused = True
                    self.stop(code=1)
            self._serve()
            if not self._refused:
                post(report)

        return guarded

    def _serve(self) -> None:
        """Serve RPC, now that libvirt is ours, away or mute: before, calls may be meant for another worker here, and
        we may not run at all."""
        if self._server is not None and not self._refused and self._unserved.acquire(blocking=False):
            self.line.ready()
            self._server.start()

    def _unserved_why(self) -> str | None:
        settings = self._settings
        served = looks.serving(worker_api.EXCHANGE, worker_api.TOPIC, settings.host, settings.own_queue_only)
        return broker.check(self._conf, None, [served], CHECK)

    def _check_topics(self) -> None:
        """Say early, in the background, what would keep notifications from being delivered."""

        def check() -> None:
            where = self._settings.notifications
            risk = broker.durability(self._conf, where.transport_url)
            if risk:
                LOG.warning("%s", risk)
            makes = not self._settings.own_queue_only
            problem = publisher.check(self._conf, where.transport_url, where.topics, CHECK, declare=makes)
            if problem:
                LOG.error("notifications cannot be delivered now, and are kept: %s", problem)

        threading.Thread(target=check, name="check-broker", daemon=True).start()


def _feed_watchdog() -> None:
    systemd.alive()


def _version() -> str:
    try:
        return importlib.metadata.version("nova-vmhb")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
