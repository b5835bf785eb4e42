"""One host and all that could act on its faults: a worker, a consumer with its reporter to Masakari, and a Masakari
that only notes. What became of a guest is judged from outside: by what was on the wire, and by what Masakari was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.functional.sites import Site, site_of
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.stage.cloud import FakeServer
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.control_plane import FaultConsumer
from tests.stage.masakari_stub import MasakariStub, Posted
from tests.stage.worker import WorkerProcess

#: The workers' second topic: the consumer reads the first one empty.
WATCH = "watch"


@dataclass(frozen=True)
class Acting:
    """See the module. All times are monotonic seconds."""

    site: Site
    worker: WorkerProcess
    consumer: FaultConsumer
    watch: ConsumerProcess
    masakari: MasakariStub

    def know(self, guests: Iterable[Guest], timeout: float = 120) -> None:
        """They are servers of the cloud, which may be recovered; the worker knows each well."""
        for guest in guests:
            if guest.uuid not in self.masakari.cloud.servers:
                self.masakari.cloud.server(uuid=guest.uuid, host=self.worker.host)
        for guest in guests:
            self.worker.wait_known(guest.uuid, timeout)

    def server(self, guest: Guest) -> FakeServer:
        """As Nova has it."""
        return self.masakari.cloud.servers[guest.uuid]

    def told(self, guest: Guest | None, since: float = 0.0) -> list[Notification]:
        """Of this guest's faults; None: of the host's own."""
        uuid = None if guest is None else guest.uuid
        return [one for one in self.watch.faults(since=since) if one.instance_uuid == uuid]

    def suspicions(self, change: str, since: float = 0.0) -> list[Notification]:
        """`host_suspect`, raised or cleared."""
        told = self.told(None, since)
        return [one for one in told if one.cause == "host_suspect" and one.event_type == f"vmhb.fault.{change}"]

    def recoveries(self, guest: Guest, since: float = 0.0) -> list[Notification]:
        """What recommended its recovery, reminders included."""
        return [one for one in self.told(guest, since) if one.recommended_action == "recover"]

    def open(self, guest: Guest) -> list[Notification]:
        """The last word of each of its faults that is not cleared."""
        last = {one.fault_id: one for one in self.told(guest)}
        return [one for one in last.values() if one.state != "cleared"]

    def posted(self, guest: Guest) -> list[Posted]:
        """What Masakari was told of it."""
        return self.masakari.posted(guest.uuid)


@contextmanager
def acting(
    broker: Broker,
    node: Node,
    name: str,
    folder: Path,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[Acting]:
    """In a virtual host and with a state of their own: of what was before, on this node, they know nothing.

    name: of the virtual host. folder: must not be there yet. options: the worker's.
    """
    folder.mkdir(parents=True)
    site = site_of(broker, name, folder)
    watch = site.reader(WATCH)
    with MasakariStub() as masakari:
        consumer = site.consumer(**masakari.options())
        given = {"vmhb_notifications": {"topics": f"vmhb_notifications, {WATCH}"}, **(options or {})}
        worker = WorkerProcess(folder / "worker", uri=node.uri, transport_url=site.url, host="compute-1", options=given)
        worker.where = node.inside  # where libvirt has put the application channels
        worker.start()
        try:
            yield Acting(site, worker, consumer, watch, masakari)
        finally:
            if not worker.ended:
                worker.go_on()
                worker.stop()
            site.close()
