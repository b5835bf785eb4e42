"""Who is monitored, and how: as the domain's XML says, at the worker's start and whenever it changes."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Figure
from tests.functional.conftest import POLICY, Guests, Workers, acks
from tests.lab import metadata
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

#: A flavor's, as an operator writes them.
SPECS: dict[str, object] = {"hw:heartbeat": True, "hw:heartbeat_interval": 1, "hw:heartbeat_timeout": 1}
#: Between a change of the domain and its effect.
AT_ONCE = 2.0

Define = Callable[..., Guest]


@pytest.fixture
def define(node: Node, image: Image) -> Iterator[Define]:
    """define(*metadata): a domain that is never started. Gone with the test."""
    defined: list[Guest] = []
    numbers = itertools.count(1)

    def make(*elements: str) -> Guest:
        one = Guest(node, f"defined-{next(numbers)}", metadata=elements, guest_image=image)
        one.define()
        defined.append(one)
        return one

    yield make
    for one in defined:
        node.virsh("undefine", one.name, check=False)


def policies(daemon: WorkerProcess) -> dict[str, dict[str, str]]:
    """Policy by uuid, of those that are monitored."""
    monitored = [one["instance_uuid"] for one in daemon.api.list(daemon.host) if "error" not in one]
    return {uuid: daemon.show(uuid)["policy"] for uuid in monitored}


def errors(daemon: WorkerProcess) -> dict[str, str]:
    """What is wrong, by uuid, with those that asked in vain."""
    return {one["instance_uuid"]: one["error"] for one in daemon.api.list(daemon.host) if "error" in one}


def lines(daemon: WorkerProcess, level: str, *texts: str) -> list[str]:
    """The lines of its log of this level in which each of these texts is."""
    read = daemon.log.read_text().splitlines()
    return [line for line in read if f" {level} " in line and all(text in line for text in texts)]


def set_ours(guest: Guest, **knobs: object) -> float:
    """Put our element into the running domain, or change the one that is there. Returns when."""
    element = re.sub(r"vmhb:|xmlns:vmhb='[^']*'|xmlns:vmhb=\"[^\"]*\"", "", metadata.heartbeat(**knobs))
    moment = time.monotonic()
    guest.node.virsh("metadata", guest.name, metadata.VMHB, "--key", "vmhb", "--set", element, "--live", "--config")
    return moment


def remove_ours(guest: Guest) -> float:
    """Take our element out of the running domain. Returns when."""
    moment = time.monotonic()
    guest.node.virsh("metadata", guest.name, metadata.VMHB, "--remove", "--live", "--config")
    return moment


def is_about(guest: Guest, event_type: str) -> Callable[[Notification], bool]:
    """For `Consumer.wait_for`."""
    return lambda n: bool(n.event_type == event_type and n.data.get("instance_uuid") == guest.uuid)


def test_who_asks_is_monitored(define: Define, worker: Workers) -> None:
    """Our element, or Nova's extra specs under either prefix that Nova uses; nobody who asks for nothing."""
    ours = define(metadata.heartbeat(interval=7))
    nova = define(metadata.nova({**SPECS, "hw:heartbeat_interval": 8, "hw:cpu_policy": "shared"}))
    rewritten = define(metadata.nova({**SPECS, "hw:heartbeat_interval": 9}, prefix="instance"))
    define()
    define(metadata.nova(None))
    define(metadata.nova({"hw:cpu_policy": "shared"}))
    define(metadata.nova({**SPECS, "hw:heartbeat": False}))
    define(metadata.heartbeat(heartbeat=False))
    daemon = worker()
    wait_until(lambda: len(policies(daemon)) >= 3, 10, "the worker has met them")
    found = {uuid: policy["interval"] for uuid, policy in policies(daemon).items()}
    assert found == {ours.uuid: "7", nova.uuid: "8", rewritten.uuid: "9"}
    assert errors(daemon) == {}


def test_our_element_goes_before_novas(define: Define, worker: Workers) -> None:
    """Where both are, ours counts, and alone: also where it says no."""
    both = define(metadata.heartbeat(interval=7), metadata.nova({**SPECS, "hw:heartbeat_threshold": 9}))
    define(metadata.heartbeat(heartbeat=False), metadata.nova(SPECS))
    daemon = worker()
    wait_until(lambda: bool(policies(daemon)), 10, "the worker has met them")
    (found,) = policies(daemon).items()
    assert (found[0], found[1]["interval"], found[1]["threshold"]) == (both.uuid, "7", "3")


def test_nonsense_costs_its_own_instance_only(define: Define, worker: Workers) -> None:
    """What makes no sense is not monitored, and one ERROR line tells instance, value and remedy. The others are."""
    well = define(metadata.heartbeat())
    ours = define(metadata.heartbeat(interval="often"))
    nova = define(metadata.nova({"hw:heartbeat": "perhaps"}))
    action = define(metadata.nova({**SPECS, "hw:heartbeat_action": "reboot"}))
    clamped = define(metadata.heartbeat(threshold=1000, color="blue"))
    daemon = worker()
    wait_until(lambda: len(policies(daemon)) >= 2 and len(errors(daemon)) >= 3, 10, "the worker has met them")
    assert {uuid: policy["threshold"] for uuid, policy in policies(daemon).items()} == {
        well.uuid: "3",
        clamped.uuid: "100",
    }
    wrong = {
        ours.uuid: ("hw:heartbeat_interval", "'often'", "a number of seconds"),
        nova.uuid: ("hw:heartbeat ", "'perhaps'", "say true or false"),
        action.uuid: ("hw:heartbeat_action", "'reboot'", "alarm, recover, recover_unresponsive"),
    }
    told = errors(daemon)
    assert set(told) == set(wrong)
    for uuid, texts in wrong.items():
        assert all(text in told[uuid] for text in texts), told[uuid]
        assert len(lines(daemon, "ERROR", uuid, *texts)) == 1
    assert len(lines(daemon, "ERROR")) == len(wrong)
    assert lines(daemon, "WARNING", clamped.uuid, "hw:heartbeat_threshold", "1000", "100")
    assert lines(daemon, "WARNING", clamped.uuid, "hw:heartbeat_color", "ignored")


def test_a_change_takes_effect_at_once(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """A running guest opts in, wants it otherwise, and opts out again, which closes its fault as unmonitored."""
    guest = guests.get(fresh=True, metadata=[])
    daemon = worker()
    time.sleep(1)
    assert not daemon.show(guest.uuid)

    asked = set_ours(guest, **POLICY)
    began = consumer.wait_for("established", is_about(guest, "vmhb.heartbeat.established"), 5, since=asked)
    figure("opted in until established, interval 1 s", began.at - asked, "s", AT_ONCE)
    daemon.wait_known(guest.uuid)

    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    guest.continue_agent()
    consumer.wait_fault("cleared", guest.uuid, 10, since=stopped)

    changed = set_ours(guest, interval=2, timeout=1, threshold=1)
    wait_until(lambda: daemon.show(guest.uuid)["policy"]["interval"] == "2", AT_ONCE, "the policy changes")
    figure("policy changed until it is in force", time.monotonic() - changed, "s", AT_ONCE)
    wait_until(lambda: acks(daemon, guest), 10, "it acknowledges")
    stopped = guest.stop_agent()
    again = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    figure("stopped agent until raised, interval 2, timeout 1, threshold 1", again.at - stopped, "s", 2 + 1 + 0.5)
    assert (again.threshold, again.misses, again.interval) == (1, 1, 2.0)
    assert again.fault_id != raised.fault_id

    gone = remove_ours(guest)
    cleared = consumer.wait_fault("cleared", guest.uuid, AT_ONCE, since=gone)
    assert (cleared.fault_id, cleared.resolution) == (again.fault_id, "unmonitored")
    ended = consumer.wait_for("ended", is_about(guest, "vmhb.heartbeat.ended"), AT_ONCE, since=gone)
    assert ended.reason
    assert not daemon.show(guest.uuid)


def test_nonsense_at_run_time(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """An instance that asked for something sensible and now doesn't: an error, monitoring ends, and may begin again."""
    guest, other = guests.get(fresh=True), guests.get()
    daemon = worker()
    for each in (guest, other):
        wait_until(lambda each=each: acks(daemon, each), 15, "it acknowledges")  # type: ignore[misc]
    changed = set_ours(guest, interval="1 s")
    ended = consumer.wait_for("ended", is_about(guest, "vmhb.heartbeat.ended"), AT_ONCE, since=changed)
    assert "'1 s'" in ended.reason
    assert set(errors(daemon)) == {guest.uuid} and other.uuid in policies(daemon)
    assert len(lines(daemon, "ERROR", guest.uuid, "hw:heartbeat_interval", "'1 s'", "a number of seconds")) == 1
    set_ours(guest, **POLICY)
    wait_until(lambda: acks(daemon, guest), 10, "it is monitored again")
    assert errors(daemon) == {}
    assert [n for n in consumer.read if n.at >= changed and is_about(other, n.event_type)(n)] == []


def test_novas_own_rewriting_changes_nothing(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """Nova writes its element anew, under another prefix, when an interface is attached. Names come from it, too."""
    element = metadata.nova(SPECS, display_name="shop <1>", flavor="m1.shop", project="a" * 32)
    guest = guests.get(fresh=True, metadata=[element])
    daemon = worker()
    daemon.wait_known(guest.uuid)
    anew = element.replace("nova:", "instance:").replace(":nova=", ":instance=")
    guest.node.virsh("metadata", guest.name, metadata.NOVA, "--key", "vm", "--set", anew, "--live", "--config")
    assert "<instance:instance" in guest.node.virsh("dumpxml", guest.name)
    time.sleep(2)
    assert acks(daemon, guest) and not lines(daemon, "INFO", guest.uuid, "policy changed")
    killed = guest.kill_qemu()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=killed)
    assert (raised.display_name, raised.flavor_name) == ("shop <1>", "m1.shop")
    assert raised.data["project_id"] == raised.project_id == "a" * 32  # the latter is the context's


def test_domains_come_and_go(define: Define, worker: Workers, consumer: ConsumerProcess, figure: Figure) -> None:
    """Defined while the worker runs: found. Undefined: forgotten after gone_grace, and its fault closed as deleted."""
    daemon = worker(verdict={"gone_grace": 1})
    guest = define(metadata.heartbeat(**POLICY))
    defined = time.monotonic()
    wait_until(lambda: guest.uuid in policies(daemon), AT_ONCE, "it is found")
    figure("defined until found", time.monotonic() - defined, "s", AT_ONCE)
    assert daemon.show(guest.uuid)["state"] == "gone"
    guest.start()
    wait_until(lambda: acks(daemon, guest), 60, "it acknowledges")
    killed = guest.kill_qemu()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=killed)
    guest.wait_state("shut off")
    guest.undefine()
    undefined = time.monotonic()
    cleared = consumer.wait_fault("cleared", guest.uuid, 20, since=killed)
    figure("undefined until deleted, gone_grace 1 s", cleared.at - undefined, "s", 1 + 10 + 1)
    assert (cleared.fault_id, cleared.resolution) == (raised.fault_id, "deleted")
    assert not daemon.show(guest.uuid)
