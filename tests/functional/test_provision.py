"""What the worker gives to running domains: the policy that came by RPC, and the application channel. Hints by RPC."""

from __future__ import annotations

import queue
import socket
import time
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

from tests.conftest import Figure
from tests.functional.conftest import POLICY, QUIET, Guests, Workers, acks, assert_quiet
from tests.lab import metadata
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess
from vmhb_worker.adapters.libvirt import LibvirtHypervisor
from vmhb_worker.core.events import HypervisorUp, PlugChannel, Provisioned, Report

#: The policy, as a consumer sends it.
KNOBS = {"heartbeat": "true", **{name: str(value) for name, value in POLICY.items()}}
APPLICATION = {**KNOBS, "channel": "application"}
#: libvirt has this long for what it is at with a domain (seconds).
PATIENCE = 5.0
PORT = "org.openstack.vmhb.0"
#: Between a call and its effect.
AT_ONCE = 2.0
#: Long enough for whatever might come of it.
SETTLED = 1.5

NO_CONTROLLER = "no virtio-serial controller"
PLUGGED = "its application channel is plugged in"
WRITTEN = "the policy that was sent for it is in its domain"


def ports(guest: Guest, *flags: str) -> list[ElementTree.Element]:
    """Its channels of the application's name."""
    return guest.channels(PORT, *flags)


def path_of(channel: ElementTree.Element) -> str:
    """Its socket's."""
    source = channel.find("source")
    assert source is not None
    return source.get("path", "")


def element(guest: Guest, *flags: str) -> dict[str, str] | None:
    """The attributes of our element."""
    ours = guest.described(*flags).find(f"metadata/{{{metadata.VMHB}}}heartbeat")
    return None if ours is None else dict(ours.attrib)


def connects(guest: Guest, path: str) -> bool:
    """Does its socket take a connection?"""
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(guest.node.outside(path)))
        except OSError:
            return False
        return True


def lines(daemon: WorkerProcess, guest: Guest, text: str) -> int:
    """How often its log says this of the guest."""
    return sum(guest.uuid in line and text in line for line in daemon.log.read_text().splitlines())


def test_configure_on_a_bare_domain(guests: Guests, worker: Workers, figure: Figure) -> None:
    """One that says nothing is given the policy, live and as defined, and monitored; once, however often it is sent."""
    guest = guests.get(fresh=True, metadata=[])
    daemon = worker()
    assert not daemon.show(guest.uuid)
    sent = time.monotonic()
    now = datetime.now(timezone.utc)
    daemon.api.configure(daemon.host, guest.uuid, {**KNOBS, "colour": "<blue>"}, observed_at=now)
    wait_until(lambda: daemon.show(guest.uuid).get("state") == "alive", 5, "it acknowledges", every=0.02)
    figure("configure until alive, interval 1 s", time.monotonic() - sent, "s", AT_ONCE)
    written = {"version": "1", "observed_at": now.isoformat(), **KNOBS, "colour": "<blue>"}
    assert (element(guest), element(guest, "--inactive")) == (written, written)
    for earlier in (0, 5):  # an older flavor's, that was held up
        before = now - timedelta(seconds=earlier)
        daemon.api.configure(daemon.host, guest.uuid, {**KNOBS, "interval": "7"}, observed_at=before)
    time.sleep(SETTLED)
    assert element(guest) == written and daemon.show(guest.uuid)["policy"]["interval"] == "1"
    assert lines(daemon, guest, WRITTEN) == 1
    daemon.api.configure(daemon.host, guest.uuid, {**KNOBS, "interval": "2"}, observed_at=datetime.now(timezone.utc))
    newer = "it is monitored by the newer flavor"
    wait_until(lambda: daemon.show(guest.uuid)["policy"]["interval"] == "2", 5, newer, every=0.02)
    assert [(element(guest, *flags) or {})["interval"] for flags in ((), ("--inactive",))] == ["2", "2"]
    assert ports(guest) == []


def test_configure_leaves_alone_who_speaks_for_himself(guests: Guests, worker: Workers) -> None:
    """Nova's extra specs go before what is sent: also where there is no heartbeat among them."""
    asks = guests.get(fresh=True, metadata=[metadata.nova({"hw:heartbeat": True, "hw:heartbeat_interval": 5})])
    silent = guests.get(fresh=True, metadata=[metadata.nova({"hw:cpu_policy": "shared"})])
    daemon = worker()
    for guest in (asks, silent):
        daemon.api.configure(daemon.host, guest.uuid, KNOBS)
    time.sleep(SETTLED)
    assert element(asks) is None and element(silent) is None
    assert daemon.show(asks.uuid)["policy"]["interval"] == "5" and not daemon.show(silent.uuid)


def test_configure_before_the_domain_is_here(node: Node, image: Image, worker: Workers) -> None:
    """Nova tells of it before libvirt does: kept until the domain is here and runs."""
    daemon = worker()
    guest = Guest(node, "early", guest_image=image)
    daemon.api.configure(daemon.host, guest.uuid, KNOBS)
    daemon.show(guest.uuid)  # has been heard
    guest.define()
    time.sleep(SETTLED)
    assert element(guest) is None
    guest.start()
    try:
        wait_until(lambda: element(guest) is not None, AT_ONCE, "its policy is written")
        wait_until(lambda: acks(daemon, guest), 120, "it acknowledges", every=0.2)
    finally:
        guest.destroy()
        guest.undefine()


def test_the_channel_is_plugged_in_once(guests: Guests, worker: Workers, figure: Figure) -> None:
    """A domain whose policy wants it gets one port with a socket, live and as defined: no second one, no new socket.

    It holds through calls that say the same, news of the domain, a restart of the worker, and managed save.
    """
    guest = guests.get(fresh=True, metadata=[])
    daemon = worker()
    api = daemon.api  # waits until it is served: the start is not what is measured
    sent = time.monotonic()
    api.configure(daemon.host, guest.uuid, APPLICATION)
    wait_until(lambda: len(ports(guest)) == 1, 5, "the channel is there", every=0.02)
    figure("configure until the channel is plugged in", time.monotonic() - sent, "s", AT_ONCE)
    wait_until(lambda: lines(daemon, guest, PLUGGED) == 1, AT_ONCE, "the worker says so")
    (plugged,) = ports(guest)
    assert plugged.get("type") == "unix"
    path = path_of(plugged)
    assert path and connects(guest, path)
    wait_until(lambda: PORT in guest.run("cat /sys/class/virtio-ports/*/name"), 5, "the guest sees its port")
    (defined,) = ports(guest, "--inactive")
    assert defined.find("source") is None, "libvirt is to place it anew at each start"
    assert daemon.show(guest.uuid)["state"] == "waiting", "for whoever opens the port in the guest"

    for _ in range(2):
        daemon.api.configure(daemon.host, guest.uuid, APPLICATION)
    guest.node.virsh("metadata", guest.name, "urn:somebody", "--live", "--key", "k", "--set", "<mark/>")
    guest.suspend()
    guest.resume()
    daemon.stop()
    daemon.start()
    daemon.show(guest.uuid)
    time.sleep(SETTLED)
    assert [path_of(channel) for channel in ports(guest)] == [path]
    assert len(ports(guest, "--inactive")) == 1
    assert connects(guest, path)

    guest.managedsave()
    guest.start()
    time.sleep(SETTLED)
    (restored,) = ports(guest)
    assert connects(guest, path_of(restored)) and len(ports(guest, "--inactive")) == 1
    policy = element(guest)
    assert policy is not None and datetime.fromisoformat(policy.pop("observed_at")) <= datetime.now(timezone.utc)
    assert policy == {"version": "1", **APPLICATION}
    assert lines(daemon, guest, PLUGGED) == 1
    assert 1 <= lines(daemon, guest, WRITTEN) <= 3  # once, and for each call that is newer


def test_a_channel_that_is_there_keeps_its_socket(guests: Guests, worker: Workers) -> None:
    """Of a domain that was born with it: nothing is done, and its defined one is left as it is."""
    guest = guests.get(fresh=True, application=True, metadata=[])
    (born,) = ports(guest)
    daemon = worker()
    daemon.api.configure(daemon.host, guest.uuid, APPLICATION)
    wait_until(lambda: element(guest) is not None, AT_ONCE, "its policy is written")
    daemon.api.configure(daemon.host, guest.uuid, APPLICATION)
    time.sleep(SETTLED)
    assert [path_of(channel) for channel in ports(guest)] == [path_of(born)]
    assert connects(guest, path_of(born))
    assert lines(daemon, guest, "plugged in") == 0


def give(node: Node, *guests: Guest, times: int = 1) -> list[bool]:
    """Have the adapter plug the channel in, whatever the engine would have known; was anything changed, each time?"""
    reports: queue.Queue[Report] = queue.Queue()
    hypervisor = LibvirtHypervisor(node.uri)
    hypervisor.open(reports.put)

    def wait(kind: type[Report]) -> Report:
        while not isinstance(report := reports.get(timeout=10), kind):
            pass
        return report

    told: list[Provisioned] = []

    def settled(guest: Guest) -> bool:
        hypervisor.provision(guest.uuid, PlugChannel())
        report = wait(Provisioned)
        assert isinstance(report, Provisioned) and report.uuid == guest.uuid, report
        told.append(report)
        return not report.again  # libvirt is at something else with this domain: the engine asks again, too

    changed = []
    wait(HypervisorUp)
    for guest in guests * times:
        wait_until(lambda guest=guest: settled(guest), PATIENCE, "libvirt has time for it", every=0.1)  # type: ignore[misc]
        assert told[-1].failure is None, told[-1]
        changed.append(told[-1].changed)
    hypervisor.close(5)
    return changed


def test_the_agents_channel_is_not_disturbed(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, node: Node
) -> None:
    """A guest whose agent is asked every second goes on answering while another port is plugged in beside it.

    The adapter looks for itself, right before: asked again, it does nothing.
    """
    guest, born = guests.get(fresh=True), guests.get(fresh=True, application=True)
    daemon = worker()
    for each in (guest, born):
        wait_until(lambda each=each: acks(daemon, each), 30, "it acknowledges")  # type: ignore[misc]
    agents = path_of(guest.described().findall("devices/channel")[0])
    paths = [path_of(port) for port in ports(born)]
    begun = time.monotonic()
    assert give(node, guest, born, times=3) == [True, False] + 2 * [False, False]
    assert path_of(guest.described().findall("devices/channel")[0]) == agents, "the agent's channel is the first"
    paths = [path_of(port) for port in ports(guest)] + paths
    assert [path_of(port) for each in (guest, born) for port in ports(each)] == paths and len(paths) == 2
    assert connects(guest, paths[0]) and connects(born, paths[1])
    for each in (guest, born):
        assert len(ports(each, "--inactive")) == 1
        assert_quiet(daemon, consumer, each, begun, seconds=QUIET / 2)
        assert daemon.show(each.uuid)["misses"] == 0


def test_without_a_controller_it_is_said_once(node: Node, image: Image, worker: Workers) -> None:
    """There is nothing to plug it into: one line with the remedy, however often it is seen."""
    guest = Bare(node, "bare", guest_image=image, agent=False)
    guest.define()
    guest.node.virsh("start", guest.name)
    try:
        daemon = worker()
        for _ in range(3):
            daemon.api.configure(daemon.host, guest.uuid, APPLICATION)
        wait_until(lambda: lines(daemon, guest, NO_CONTROLLER) == 1, 5, "it is said")
        guest.node.virsh("suspend", guest.name)
        guest.node.virsh("resume", guest.name)
        time.sleep(SETTLED)
        assert lines(daemon, guest, NO_CONTROLLER) == 1
        assert ports(guest) == ports(guest, "--inactive") == []
    finally:
        guest.destroy()
        guest.undefine()


class Bare(Guest):
    """Without any channel, so that libvirt gives it no controller for one."""

    @property
    def xml(self) -> str:
        """As it is defined."""
        root = ElementTree.fromstring(super().xml)
        devices = root.find("devices")
        assert devices is not None
        for channel in devices.findall("channel"):
            devices.remove(channel)
        return ElementTree.tostring(root, encoding="unicode")


def test_hints_by_rpc(guests: Guests, worker: Workers, node: Node, image: Image) -> None:
    """Kept for who is not here yet; refused where the end came first, or where it is over; ended by their own end."""
    guest = guests.get()
    later = Guest(node, "later", metadata=[metadata.heartbeat(**POLICY)], guest_image=image)
    daemon = worker()
    wait_until(lambda: acks(daemon, guest), 30, "it acknowledges")
    api, host, now = daemon.api, daemon.host, datetime.now(timezone.utc)

    def expect(one: Guest, key: str, observed_at: datetime, timeout: float = 60) -> None:
        api.expect_silence(host, one.uuid, key=key, reason=key, timeout=timeout, observed_at=observed_at)

    def heard() -> set[str]:
        """Once whatever was cast has been: of those that are told, the last is told last."""
        time.sleep(0.5)  # the casts are taken by several threads
        return set(daemon.show(guest.uuid)["silences"])

    api.end_silence(host, guest.uuid, key="overtaken", observed_at=now)
    time.sleep(0.5)
    expect(guest, "overtaken", now - timedelta(seconds=1))
    expect(guest, "stale", now - timedelta(seconds=61))
    expect(guest, "planned", now)
    expect(later, "announced", now)
    expect(later, "short", now, timeout=3)
    assert heard() == {"hint:planned"}
    api.end_silence(host, guest.uuid, key="planned", observed_at=now + timedelta(seconds=1))
    assert heard() == set()
    time.sleep(max(0.0, 3 - (datetime.now(timezone.utc) - now).total_seconds()))
    later.define()
    try:
        wait_until(lambda: bool(daemon.show(later.uuid)), AT_ONCE, "it is found")
        assert set(daemon.show(later.uuid)["silences"]) == {"hint:announced"}
    finally:
        later.undefine()


def test_stale_hints_found_after_a_restart_do_nothing(guests: Guests, worker: Workers) -> None:
    """The queue keeps what came while the worker was away; what is over by then is over."""
    guest = guests.get()
    daemon = worker()
    wait_until(lambda: acks(daemon, guest), 30, "it acknowledges")
    api = daemon.api
    daemon.stop()
    now = datetime.now(timezone.utc)
    api.expect_silence(daemon.host, guest.uuid, key="stale", reason="r", timeout=2, observed_at=now)
    api.expect_silence(daemon.host, guest.uuid, key="valid", reason="r", timeout=60, observed_at=now)
    time.sleep(2)
    daemon.start()
    wait_until(lambda: bool(daemon.show(guest.uuid).get("silences")), 10, "the queue is read")
    time.sleep(0.5)
    assert {key for key in daemon.show(guest.uuid)["silences"] if key.startswith("hint:")} == {"hint:valid"}
    api.end_silence(daemon.host, guest.uuid, key="valid", observed_at=datetime.now(timezone.utc))
    wait_until(lambda: acks(daemon, guest), 30, "it acknowledges")
