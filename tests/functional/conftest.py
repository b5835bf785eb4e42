"""What the functional tests share: one libvirtd, one RabbitMQ and one consumer a module; guests and workers as wanted.

    def test_something(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
        guest = guests.get()  # booted, its agent answers; monitored every second
        daemon = worker(agent={"exit_settle_time": 0.5})  # runs, with a fresh state folder
        daemon.wait_known(guest.uuid)
        stopped = guest.stop_agent()
        raised = consumer.wait_fault("raised", guest.uuid, 5, since=stopped)

A boot takes seconds, so a healthy guest that a test leaves behind is given to the next test that asks for one like it.
Each test begins with a worker that knows nothing, and must not rely on what another has done.
"""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import tell_log, tell_more
from tests.functional.hosts import Hosts
from tests.functional.sites import Site, site_of
from tests.lab import debian, metadata
from tests.lab import image as lab_image
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.masakari import Masakari
from tests.stage.worker import WorkerProcess

#: The policy of a guest that asks for no other: a fault 3 to 4.5 s after its last acknowledgement.
POLICY: dict[str, object] = {"interval": 1, "timeout": 1, "threshold": 3}
#: The same, in seconds: what a detection may take, from the deed to the notification in the consumer's hands.
DETECTION = 3 * 1 + 1 + 0.5
#: Each for itself, though many of a host fall silent together: the brake has tests of its own.
ALONE = {"brake_count": 100}
#: "No fault" means: none for this long, threshold x interval + timeout and a second more, and acks are back.
QUIET = 3 * 1 + 1 + 1.0
#: Emulated guests that run at a time: more would take each other's time on two processors.
ROOM = 4


@dataclass
class Guests:
    """Guests that run, at most ROOM of them."""

    node: Node
    image: Image
    _kept: list[tuple[dict[str, Any], Guest]] = field(default_factory=list)  # idle and healthy, the oldest first
    _lent: list[tuple[dict[str, Any] | None, Guest]] = field(default_factory=list)  # to this test
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def get(self, *, fresh: bool = False, wait: bool = True, **options: Any) -> Guest:
        """A guest for this test alone that runs and answers. `options`: those of `Guest`, and `policy`: over POLICY.

        fresh: it has just been booted, no worker has seen it, and nobody gets it afterwards: for a test that changes
        its domain. wait=False: it is booting, and fresh.
        """
        asked = dict(options)
        kept = next((one for one in self._kept if one[0] == asked), None)
        if kept is not None and not fresh and wait:
            self._kept.remove(kept)
            self._lent.append(kept)
            return kept[1]
        self._make_room()
        policy = {**POLICY, **options.pop("policy", {})}
        options.setdefault("metadata", [metadata.heartbeat(**policy)])
        options.setdefault("guest_image", self.image)
        guest = Guest(self.node, f"instance-{next(self._numbers):08x}", **options)
        self._lent.append((None if fresh or not wait else asked, guest))
        guest.define()
        if wait:
            guest.boot()
        else:
            guest.start()
        return guest

    @property
    def lent(self) -> list[Guest]:
        """Those that this test has."""
        return [guest for _asked, guest in self._lent]

    def remove(self, guest: Guest) -> None:
        """Destroy and forget it, in whatever state it is."""
        with contextlib.suppress(LabError):
            guest.continue_qemu()
        with contextlib.suppress(LabError):
            guest.destroy()
        with contextlib.suppress(LabError):
            guest.undefine()
        self._kept = [one for one in self._kept if one[1] is not guest]
        self._lent = [one for one in self._lent if one[1] is not guest]

    def end_test(self) -> None:
        """Keep those that are well, and remove the others."""
        for asked, guest in list(self._lent):
            if asked is not None and _well(guest):
                self._lent.remove((asked, guest))
                self._kept.append((asked, guest))
            else:
                self.remove(guest)

    def _make_room(self) -> None:
        while self._kept and len(self._kept) + len(self._lent) >= ROOM:
            self.remove(self._kept[0][1])


def _well(guest: Guest) -> bool:
    """Does it run and answer? One whose agent or QEMU is still stopped doesn't."""
    try:
        return guest.state == "running" and guest.run("echo well", 2).strip() == "well" and guest.agent_answers()
    except LabError:
        return False


#: worker(group={"option": value}, ...): a worker that runs, with these options, and a state folder of its own.
Workers = Callable[..., WorkerProcess]

_STARTED = pytest.StashKey[list[WorkerProcess]]()
_GUESTS = pytest.StashKey[Guests]()


@pytest.fixture(scope="session")
def image() -> Image:
    """The guest's kernel and initramfs."""
    return lab_image.build()


@pytest.fixture(scope="session")
def application_image() -> Image:
    """The same with Python and vmhb-guest, for `guests.get(application=True, memory=160, guest_image=...)`."""
    return lab_image.build(applications=True)


@pytest.fixture(scope="session")
def debian_image() -> Image:
    """Debian as it is, with systemd, udev and vmhb-guest: `guests.get(memory=debian.MEMORY, guest_image=...)`."""
    return debian.build()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A libvirtd with nothing in it. A test that stops or freezes it brings it back."""
    with Node() as one:
        yield one


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A RabbitMQ. A test that stops or freezes it brings it back."""
    with Broker() as one:
        yield one


@pytest.fixture
def site(broker: Broker, request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Site]:
    """A virtual host of the broker, for one test, and what the test runs in it."""
    one = site_of(broker, request.node.name, tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def transport_url(broker: Broker) -> str:
    """Of the broker, with durable queues, as operators are told to have them."""
    return f"{broker.transport_url}?amqp_durable_queues=true"


@pytest.fixture(scope="module")
def consumer(transport_url: str) -> Iterator[ConsumerProcess]:
    """Reads all notifications, in a process of its own."""
    one = ConsumerProcess(transport_url)
    yield one
    one.close()


@pytest.fixture(scope="module")
def all_guests(node: Node, image: Image) -> Guests:
    """Of the module. They end with the node."""
    return Guests(node, image)


@pytest.fixture
def guests(request: pytest.FixtureRequest, all_guests: Guests) -> Iterator[Guests]:
    """guests.get(...): see `Guests`."""
    request.node.stash[_GUESTS] = all_guests
    yield all_guests
    all_guests.end_test()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """hosts.at(guest): the conformance kit at its port."""
    one = Hosts()
    yield one
    for host in one.made:
        host.close()


@pytest.fixture
def worker(
    request: pytest.FixtureRequest,
    node: Node,
    transport_url: str,
    consumer: ConsumerProcess,
    tmp_path: pathlib.Path,
) -> Iterator[Workers]:
    """worker(agent={"exit_settle_time": 1}): start a worker; ended with the test, which shows its log if it failed.

    `uri`, `host`: of another node than the module's. `start=False`: only make it.
    """
    started: list[WorkerProcess] = []
    request.node.stash[_STARTED] = started

    def make(
        *, uri: str = node.uri, host: str = "lab-node", start: bool = True, **options: dict[str, object]
    ) -> WorkerProcess:
        folder = tmp_path / f"worker-{len(started) + 1}"
        one = WorkerProcess(folder, uri=uri, transport_url=transport_url, host=host, options=options)
        started.append(one)
        if start:
            one.start()
        return one

    yield make
    for one in started:
        if not one.ended:
            one.go_on()  # it may be paused
            one.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test that failed, show each worker's and consumer's log, each guest's console, and Masakari's log."""
    report = yield
    if report.failed and report.when == "call":
        given = getattr(item, "funcargs", {})
        lent = item.stash[_GUESTS].lent if _GUESTS in item.stash else []
        for guest in lent:
            tell_more(report, f"console of {guest.name}", guest.last_words())
        site = given.get("site")
        for one in (*item.stash.get(_STARTED, []), *(site.consumers if isinstance(site, Site) else ())):
            tell_log(report, f"log of {one.folder.name}", one.log)
        if isinstance(masakari := given.get("masakari"), Masakari):
            tell_more(report, "log of Masakari", masakari.log)
    return report


def faults(consumer: ConsumerProcess, guest: Guest, since: float) -> list[str]:
    """What was said of its faults since then, a line each: [] is what a healthy guest has."""
    return [str(one) for one in consumer.faults(guest.uuid, since)]


def assert_quiet(
    daemon: WorkerProcess, consumer: ConsumerProcess, guest: Guest, since: float, seconds: float = QUIET
) -> None:
    """Acks are (again) there, and for `seconds` from now there is no fault of this guest, nor was one since `since`."""
    wait_until(lambda: acks(daemon, guest), 60, f"{guest.name} is alive and acknowledges", every=0.2)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert faults(consumer, guest, since) == []
        time.sleep(0.1)
    assert acks(daemon, guest), daemon.show(guest.uuid)


def acks(daemon: WorkerProcess, guest: Guest) -> bool:
    """Is it alive to the worker, not silenced, and its last acknowledgement no older than two intervals and a bit?"""
    shown = daemon.show(guest.uuid)
    age = shown.get("last_ack_age")
    return shown.get("state") == "alive" and not shown["silences"] and age is not None and age <= 2.5
