"""Where the demo's guests, its broker and its worker come from: the lab's real ones, or simulated ones."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import Consumer, ConsumerProcess, Notification, listen
from tools.lib.demo_application import SimulatedApplication
from vmhb_common import worker_api
from vmhb_common.model.policy import knobs_of_extra_specs
from vmhb_worker import conf as options
from vmhb_worker.adapters.simulated import SimulatedGuest, SimulatedHypervisor

#: What becomes of whom.
HANGS, PANICS, SICK, WELL = "web-1", "db-1", "pay-1", "app-1"
NAMES = (HANGS, PANICS, SICK, WELL)
#: Those that stand still when the host stalls.
STALL = (HANGS, SICK, WELL)
#: In SICK, which answers for it through a port of its own. The others' agents answer.
APPLICATION = "billing"
ANSWERS_ITSELF = {"hw:heartbeat_channel": "application", "hw:heartbeat_health_check": "true"}

HOST = "demo-node"
Say = Callable[[str], None]


class Stage(ABC):
    """A worker with four guests, and a consumer that reads what it says."""

    consumer: Consumer
    source: str  # where the consumer reads

    @abstractmethod
    def up(self, say: Say) -> None:
        """Bring it all up, and say how far it is."""

    @abstractmethod
    def down(self) -> str:
        """Bring it all down. Returns what could not be ended, "" when nothing."""

    @abstractmethod
    def uuid(self, name: str) -> str:
        """The instance's uuid."""

    @abstractmethod
    def stop_agent(self, name: str) -> float:
        """Stop the guest's agent dead; returns when."""

    @abstractmethod
    def continue_agent(self, name: str) -> float:
        """Let it go on; returns when."""

    @abstractmethod
    def panic(self, name: str) -> float:
        """Let the guest's kernel panic; returns when."""

    @abstractmethod
    def say(self, health: str, reason: str = "") -> float:
        """Have SICK's application say how it is; returns when."""

    @abstractmethod
    def stall(self) -> float:
        """Let the host stall: all QEMUs stand still, but that of PANICS, which is dead; returns when."""

    @abstractmethod
    def go_on(self) -> float:
        """Let it go on; returns when."""

    @property
    @abstractmethod
    def api(self) -> worker_api.WorkerAPI:
        """The worker's RPC."""

    def instances(self) -> list[dict[str, Any]]:
        """What the worker says of its instances, in the order of their names."""
        return sorted(self.api.list(HOST), key=lambda one: NAMES.index(one["display_name"]))

    def all_well(self) -> bool:
        """Does the worker know all four well: alive, how their kernels answer, and of the application?"""
        shown = {name: self.api.show(HOST, self.uuid(name)) or {} for name in NAMES}
        report = (shown[SICK].get("health") or {}).get("report") or {"checks": []}
        return any(check["name"] == APPLICATION for check in report["checks"]) and all(
            one.get("state") == "alive" and one.get("balloon_answers") for one in shown.values()
        )

    def consumer_tells(self, tell: Callable[[Notification], None]) -> None:
        """Have each notification told from now on."""
        self.consumer.told = tell


class RealStage(Stage):
    """Real libvirt, QEMU, qemu-ga, RabbitMQ, and a worker process; all of them private to the demo."""

    source = "RabbitMQ"

    def __init__(self, extra_specs: Mapping[str, str]) -> None:
        from tests.lab import metadata  # noqa: PLC0415 - the simulation does without the lab
        from tests.lab.broker import Broker  # noqa: PLC0415
        from tests.lab.guest import Guest  # noqa: PLC0415
        from tests.lab.node import Node  # noqa: PLC0415

        self._node, self._broker = Node(HOST), Broker()
        self._make: Callable[..., Guest] = lambda name, specs, **options: Guest(
            self._node, name, metadata=[metadata.nova({**extra_specs, **specs}, display_name=name)], **options
        )
        self._guests: dict[str, Guest] = {}
        self._application: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="vmhb-demo-")
        self._worker: Any = None

    def up(self, say: Say) -> None:
        from tests.lab import image  # noqa: PLC0415
        from tests.lab.application import Application  # noqa: PLC0415
        from tests.stage.worker import WorkerProcess  # noqa: PLC0415

        say("building two small guests, one with Python and vmhb-guest (kept for the next time)")
        image.build()
        with_python = image.build(applications=True)
        say("starting a libvirtd of our own, in its own mount namespace")
        self._node.start()
        say("starting a RabbitMQ of our own, on its own port")
        self._broker.start()
        self._guests = {name: self._make(name, {}) for name in NAMES}
        self._guests[SICK] = self._make(SICK, ANSWERS_ITSELF, application=True, memory=160, guest_image=with_python)
        for guest in self._guests.values():
            guest.define()
            guest.start()
        say("booting four guests under QEMU")
        for guest in self._guests.values():
            guest.wait_agent()
            say(f"{guest.name}: its guest agent answers")
        self._application = Application(self._guests[SICK], APPLICATION)
        self._application.start()
        say(f"{SICK}: an application, {APPLICATION}, joins vmhb-guest")
        self.consumer = ConsumerProcess(self._broker.transport_url)
        say("a consumer, in a process of its own, reads the topic vmhb_notifications")
        self._worker = WorkerProcess(
            Path(self._folder.name), uri=self._node.uri, transport_url=self._broker.transport_url, host=HOST
        )
        self._worker.where = self._node.inside  # the channels' sockets are where its libvirtd has put them
        self._worker.start()
        say("vmhb-worker runs")

    def down(self) -> str:
        families: dict[int, object] = {}
        for part in (self._node, self._broker):
            with contextlib.suppress(LabError):  # never came up
                families.update(part.processes.family())
        if self._worker is not None:
            self._worker.stop()
        if hasattr(self, "consumer") and isinstance(self.consumer, ConsumerProcess):
            self.consumer.close()
        self._node.stop()
        self._broker.stop()
        self._folder.cleanup()
        left = [pid for pid in families if Path(f"/proc/{pid}").exists()]
        return ", ".join(f"process {pid}" for pid in left)

    def uuid(self, name: str) -> str:
        return self._guests[name].uuid

    def stop_agent(self, name: str) -> float:
        return self._guests[name].stop_agent()

    def continue_agent(self, name: str) -> float:
        return self._guests[name].continue_agent()

    def panic(self, name: str) -> float:
        return self._guests[name].panic()

    def say(self, health: str, reason: str = "") -> float:
        at: float = self._application.say(health, reason)
        return at

    def stall(self) -> float:
        return max(self._guests[name].stop_qemu() for name in STALL)

    def go_on(self) -> float:
        return max(self._guests[name].continue_qemu() for name in STALL)

    @property
    def api(self) -> worker_api.WorkerAPI:
        api: worker_api.WorkerAPI = self._worker.api
        return api


class SimulatedStage(Stage):
    """The real worker over a simulated hypervisor, and messaging within this process."""

    source = "in process"

    URL = "fake:///"

    def __init__(self, extra_specs: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vmhb-demo-")
        self._guests = {name: SimulatedGuest(name, dict(knobs_of_extra_specs(extra_specs))) for name in NAMES}
        sick, socket = self._guests[SICK], Path(self._folder.name) / "application"
        sick.knobs.update(knobs_of_extra_specs(ANSWERS_ITSELF))
        sick.application = str(socket)
        self._application = SimulatedApplication(APPLICATION, socket)
        self._hypervisor = SimulatedHypervisor(self._guests.values())
        self._thread: threading.Thread | None = None

    def up(self, say: Say) -> None:
        from vmhb_worker.service import Worker  # noqa: PLC0415 - takes a while: say so first

        say("simulated: hypervisor, guests and broker are in this process; the worker is the real one")
        self.consumer = Consumer()
        self._listener = listen(self.URL, "vmhb_notifications", self.consumer.take)
        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
        self._api = worker_api.WorkerAPI(worker_api.get_transport(conf, self.URL))
        conf.set_override("transport_url", self.URL)
        conf.set_override("host", HOST)
        conf.set_override("state_path", self._folder.name)
        self._worker = Worker(conf, options.settings(conf), self._hypervisor)
        self._thread = threading.Thread(target=lambda: self._worker.run(signals=False), daemon=True)
        self._thread.start()
        wait_until(lambda: self._worker.listening, 10, "the worker runs")
        say("vmhb-worker runs")

    def down(self) -> str:
        if self._thread is None:
            return ""
        self._worker.stop()
        self._thread.join(5)
        left = "the worker's thread" if self._thread.is_alive() else ""
        self._application.close()
        self._folder.cleanup()
        return left

    def uuid(self, name: str) -> str:
        return self._guests[name].uuid

    def stop_agent(self, name: str) -> float:
        return self._hypervisor.stop_agent(self._guests[name])

    def continue_agent(self, name: str) -> float:
        return self._hypervisor.continue_agent(self._guests[name])

    def panic(self, name: str) -> float:
        return self._hypervisor.panic(self._guests[name])

    def say(self, health: str, reason: str = "") -> float:
        return self._application.say(health, reason)

    def stall(self) -> float:
        self._application.stall()
        return max(self._hypervisor.stop_qemu(self._guests[name]) for name in STALL)

    def go_on(self) -> float:
        self._application.go_on()
        return max(self._hypervisor.continue_qemu(self._guests[name]) for name in STALL)

    @property
    def api(self) -> worker_api.WorkerAPI:
        return self._api
