"""A kernel that dies while whoever is to answer is excused, and guests that look dead and are not; on real guests.

Each at the shipped defaults and at one second, over both channels where that makes a difference.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, Guests, Workers
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.unhurried

DEFAULTS: dict[str, object] = {"interval": 10, "timeout": 5, "threshold": 3, "action": "recover"}
QUICK: dict[str, object] = {"interval": 1, "timeout": 1, "threshold": 3, "action": "recover"}
APPLICATION: dict[str, object] = {"channel": "application"}
#: [verdict] probe_interval; a death behind an excuse is found this much later at most, and 5 s more (seconds).
PROBE_INTERVAL = 60.0
FOUND = PROBE_INTERVAL + 5.0
#: And this much on a machine that others use, too.
SLACK = 4.0
#: What was found once behind an excuse is found again, and its recovery held for a while.
CONFIRMED = 15.0 + 7.0 + 10.0


def told(consumer: ConsumerProcess, guest: Guest, since: float) -> list[tuple[str, str]]:
    """What was said of it: cause, and recommended action."""
    return [(n.cause, n.recommended_action) for n in consumer.faults(guest.uuid, since)]


def recovered(consumer: ConsumerProcess, guest: Guest, since: float) -> list[Notification]:
    return [n for n in consumer.faults(guest.uuid, since) if n.recommended_action == "recover"]


def watched(worker: Workers, *guests: Guest, **options: dict[str, object]) -> WorkerProcess:
    """A worker that knows them well. It runs where its node's libvirt puts the channels' sockets."""
    daemon = worker(start=False, **{"verdict": ALONE, **options})
    daemon.where = guests[0].node.inside
    daemon.start()
    for guest in guests:
        daemon.wait_known(guest.uuid)
    return daemon


def of_cause(consumer: ConsumerProcess, guest: Guest, cause: str, since: float, until: float) -> Notification:
    """The first that says so, until then (monotonic seconds)."""

    def says_so(n: Notification) -> bool:
        return bool(n.data.get("instance_uuid") == guest.uuid and n.cause == cause)

    return consumer.wait_for(f"{guest.name}: {cause}", says_so, max(1.0, until - time.monotonic()), since=since)


@contextlib.contextmanager
def freeze_that_hangs(node: Node, guest: Guest) -> Iterator[None]:
    """Somebody freezes its file systems, and the hook for that never ends: the agent is held."""
    hook = '#!/bin/sh\\necho "$1" >>/run/hook; sleep 100000\\n'
    guest.run(f"touch /run/no-agent; killall qemu-ga; sleep 1; printf '{hook}' >/tmp/hook; chmod +x /tmp/hook; true")
    port = "/dev/virtio-ports/org.qemu.guest_agent.0"
    guest.begin(f"setsid qemu-ga -m virtio-serial -p {port} -F/tmp/hook </dev/null >/run/ga.log 2>&1 &")
    wait_until(guest.agent_answers, 30, f"{guest.name}'s other agent answers")
    with subprocess.Popen(
        ["virsh", "-q", "-c", node.uri, "domfsfreeze", guest.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as freeze:
        try:
            wait_until(lambda: "freeze" in guest.run("cat /run/hook 2>/dev/null; true"), 20, "the hook runs")
            yield
        finally:
            freeze.kill()


def test_a_kernel_that_dies_behind_an_excuse(
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    node: Node,
    application_image: Image,
    figure: Figure,
) -> None:
    """Its agent is held, or gone; its application has said goodbye: it is found dead all the same, and recovered."""
    held = guests.get(fresh=True, policy=DEFAULTS)
    gone = guests.get(fresh=True, policy=DEFAULTS)
    gone_quick = guests.get(fresh=True, policy=QUICK)
    left = guests.get(
        fresh=True, application=True, memory=160, guest_image=application_image, policy={**DEFAULTS, **APPLICATION}
    )
    daemon = watched(worker, held, gone, gone_quick, left)
    with freeze_that_hangs(node, held):
        for guest in (gone, gone_quick):
            guest.kill_agent(restart=False)
        left.deed("touch /run/no-guest; killall -TERM vmhb-guest")
        wait_until(lambda: "goodbye" in daemon.show(left.uuid)["silences"], 20, "its application has left")
        time.sleep(20)  # its balloon outlives the port by a period
        began = time.monotonic()
        died = {guest: guest.panic() for guest in (held, gone, gone_quick, left)}
        for guest, at in died.items():
            found = of_cause(consumer, guest, "guest_hung", began - 1, at + FOUND + 30 + SLACK)
            bound = FOUND + (30.0 if guest is held else 0.0)  # libvirt tells after 30 s that the agent is held
            figure(f"{guest.name}: until found dead behind its excuse", found.at - at, "s", bound + SLACK)

        def all_asked_for() -> bool:
            return all(recovered(consumer, guest, began - 1) for guest in died)

        wait_until(all_asked_for, FOUND + CONFIRMED, "their recoveries are asked for", every=0.5)


@pytest.mark.long
def test_who_lives_behind_an_excuse_is_left_alone(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, node: Node
) -> None:
    """The agent is held for minutes, and another's is gone: alarms at most, and nothing once they are back."""
    held, gone = guests.get(fresh=True, policy=DEFAULTS), guests.get(fresh=True, policy=QUICK)
    options: dict[str, dict[str, object]] = {"agent": {"exit_settle_time": 20}}
    daemon = watched(worker, held, gone, **options, verdict={**ALONE, "probe_interval": 15})
    with freeze_that_hangs(node, held):
        began = gone.kill_agent(restart=False)
        time.sleep(100)
        assert told(consumer, gone, began) == [("agent_exited", "alarm")]
        assert recovered(consumer, held, began) == []
        shown = daemon.show(held.uuid)
        assert (shown["state"], bool(shown["excused"])) == ("missing", True), shown
    gone.allow_agent()
    assert consumer.wait_fault("cleared", gone.uuid, 20, since=began).resolution == "recovered"


@pytest.mark.long
@pytest.mark.parametrize("policy", [DEFAULTS, QUICK], ids=["10/5/3", "1/1/3"])
def test_a_balloon_whose_driver_had_left(
    policy: dict[str, object], guests: Guests, worker: Workers, consumer: ConsumerProcess
) -> None:
    """Unbound by the guest's root; a minute later its agent hangs. Its kernel lives, and is not called dead."""
    guest = guests.get(fresh=True, policy=policy)
    watched(worker, guest)
    guest.run("cd /sys/bus/virtio/drivers/virtio_balloon; for d in virtio*; do echo $d >unbind; done; true")
    time.sleep(30)
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, 45, since=stopped)
    time.sleep(15)
    assert {cause for cause, _ in told(consumer, guest, stopped)} == {"guest_silent"}
    assert recovered(consumer, guest, stopped) == []
    assert consumer.faults(guest.uuid, stopped)[-1].evidence["balloon_fresh"]["value"] is False
    assert raised.evidence["system"]["value"] == "linux"


@pytest.mark.long
@pytest.mark.parametrize("channel", ["agent", "application"])
def test_a_guest_that_falls_asleep(
    channel: str, guests: Guests, worker: Workers, consumer: ConsumerProcess, application_image: Image
) -> None:
    """s2idle, which sends no event: an alarm of no weight. (A guest that cannot do it is skipped, and said so.)"""
    policy = {**QUICK, "action": "recover_unresponsive", "channel": channel}
    guest = guests.get(fresh=True, application=True, memory=160, guest_image=application_image, policy=policy)
    if "freeze" not in guest.run("cat /sys/power/state; true"):
        pytest.skip("this guest's kernel has no s2idle")
    watched(worker, guest)
    slept = guest.begin("echo freeze >/sys/power/state")
    asleep = of_cause(consumer, guest, "asleep", slept, slept + 40)
    assert (asleep.severity, asleep.recommended_action) == ("info", "alarm")
    time.sleep(70)  # it is looked at once more
    assert recovered(consumer, guest, slept) == []
    assert consumer.faults(guest.uuid, slept)[-1].cause == "asleep"


@pytest.mark.long
def test_a_qemu_that_hangs_and_a_libvirtd_that_is_restarted(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, node: Node, figure: Figure
) -> None:
    """libvirt says then that its agent is not connected: that is no word of the guest's."""
    guest = guests.get(fresh=True, policy=QUICK)
    watched(worker, guest)
    stopped = guest.stop_qemu()
    node.restart_libvirtd(kill=True)
    found = of_cause(consumer, guest, "qemu_hung", stopped, stopped + 90)
    figure("QEMU stopped, libvirtd restarted: until qemu_hung", found.at - stopped, "s", 90)
    guest.continue_qemu()
    assert consumer.wait_fault("cleared", guest.uuid, 90, since=stopped).resolution == "recovered"
    assert recovered(consumer, guest, stopped) == []


@pytest.mark.long
def test_a_second_trouble_is_looked_into_at_once(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """Its agent hangs and comes back; seconds later its kernel dies: known as soon as the first was. After a boot, too.

    Its balloon is probed four times a minute at most, whatever happens: so the last of these comes later.
    """
    guest = guests.get(fresh=True, policy=QUICK)
    watched(worker, guest)
    stopped = guest.stop_agent()
    consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    guest.continue_agent()
    consumer.wait_fault("cleared", guest.uuid, 20, since=stopped)
    time.sleep(3)
    for what in ("second trouble", "after a new boot"):
        died = guest.panic()
        found = of_cause(consumer, guest, "guest_hung", died, died + 20)
        figure(f"{what}: until guest_hung", found.at - died, "s", 12)
        guest.reset()
        guest.wait_ready()
        consumer.wait_fault("cleared", guest.uuid, 60, since=died)
        time.sleep(45)


@pytest.mark.long
def test_a_guest_that_is_starved_is_not_dead(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """Its QEMU has one hundredth of a processor, by its own quota: an alarm at most; all is well when it has more."""
    guest = guests.get(fresh=True, policy={**QUICK, "action": "recover_unresponsive"})
    daemon = watched(worker, guest)
    began = time.monotonic()
    starving = threading.Event()

    def starve() -> None:
        """As by a quota: it runs for 5 ms of each 500."""
        while not starving.wait(0.005):
            with contextlib.suppress(LabError):
                guest.stop_qemu()
                time.sleep(0.495)
                guest.continue_qemu()

    thread = threading.Thread(target=starve)
    thread.start()
    time.sleep(60)
    starving.set()
    thread.join()
    with contextlib.suppress(LabError):
        guest.continue_qemu()
    assert recovered(consumer, guest, began) == []
    wait_until(lambda: (daemon.show(guest.uuid)["last_ack_age"] or 99) < 3, 60, "it answers again")
