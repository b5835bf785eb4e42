"""The policy that is shipped, 10/5/3, on real guests: most operators will have no other.

Libvirt has time-outs of its own, which a policy with short times never meets: the same deeds as in the other modules,
at the defaults, and for longer than any of them.
"""

from __future__ import annotations

import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, Guests, Workers
from tests.functional.test_silences import migrate
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.unhurried

DEFAULTS: dict[str, object] = {"interval": 10, "timeout": 5, "threshold": 3, "action": "recover"}
#: From the last acknowledgement to the fault, at most: and a second for a busy machine.
BOUND = 3 * 10 + 5 + 1.0
#: Evidence that was on its way at the raise is there this much later.
FINAL = 4.0
#: A recovery is asked for this much later: whoever is silent may come back.
HOLD = 10.0


def verdicts(consumer: ConsumerProcess, guest: Guest, since: float) -> list[tuple[str, str, str | None]]:
    """What was said of it, one after the other: cause, recommended action, and why no more."""
    return [(n.cause, n.recommended_action, n.withheld) for n in consumer.faults(guest.uuid, since)]


def recovered(consumer: ConsumerProcess, guest: Guest, since: float) -> list[Notification]:
    """What asked for its recovery."""
    return [n for n in consumer.faults(guest.uuid, since) if n.recommended_action == "recover"]


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def test_the_dead_are_found_at_the_defaults_and_stay_dead(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """A kernel, and agents under three policies: raised in time, final soon, and for three minutes nothing that libvirt
    says to later challenges makes any of them alive, or something else."""
    policies = {
        "kernel, 10/5/3": (DEFAULTS, "guest_hung"),
        "agent, 10/5/3": ({**DEFAULTS, "action": "recover_unresponsive"}, "agent_unresponsive"),
        "agent, 10/10/3": ({**DEFAULTS, "timeout": 10}, "agent_unresponsive"),
        "agent, 6/6/3": ({**DEFAULTS, "interval": 6, "timeout": 6}, "agent_unresponsive"),
    }
    dead = {name: guests.get(fresh=True, policy=policy) for name, (policy, _) in policies.items()}
    daemon = worker(verdict=ALONE)
    for guest in dead.values():
        daemon.wait_known(guest.uuid)
    died = {name: guest.panic() if "kernel" in name else guest.stop_agent() for name, guest in dead.items()}
    for name, guest in dead.items():
        asked, cause = policies[name]
        bound = 3 * float(str(asked["interval"])) + float(str(asked["timeout"])) + 1.0
        raised = consumer.wait_fault("raised", guest.uuid, died[name] + bound + 5 - time.monotonic(), since=died[name])
        figure(f"{name}: until raised", raised.at - died[name], "s", bound)

        def is_final(n: Notification, guest: Guest = guest, cause: str = cause) -> bool:
            return bool(n.data.get("instance_uuid") == guest.uuid and n.cause == cause and n.withheld is None)

        final = consumer.wait_for(f"{name} is final", is_final, raised.at + 15 - time.monotonic(), since=died[name])
        figure(f"{name}: from raised to final", final.at - raised.at, "s")
    told = {name: verdicts(consumer, guest, died[name]) for name, guest in dead.items()}
    looks = 0
    while time.monotonic() < max(died.values()) + 180:
        for name, guest in dead.items():
            shown = daemon.show(guest.uuid)
            assert shown["state"] == "silent", (name, shown)
            assert shown["fault"]["cause"] == policies[name][1], (name, shown)
            assert verdicts(consumer, guest, died[name]) == told[name]
        looks += 1
        time.sleep(1.0)
    assert looks > 50
    assert told["kernel, 10/5/3"][-1] == ("guest_hung", "recover", None)
    assert told["agent, 10/5/3"][-1] == ("agent_unresponsive", "recover", None)


def test_nobody_misses_what_libvirt_did_not_ask(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """One line on the agent's port that libvirt cannot read, and it asks nobody any more; a check that prints 9 MB
    would do the same. The machines are well: skipped, said why, and nothing is asked for."""
    quick: dict[str, object] = {"action": "recover_unresponsive"}
    stray = {
        "10/5/3": guests.get(fresh=True, policy={**DEFAULTS, **quick}),
        "1/1/3": guests.get(fresh=True, policy=quick),
    }
    chatty = guests.get(fresh=True, memory=224, policy={**quick, "health_check": True})
    check = '#!/bin/sh\\nhead -c 9000000 /dev/zero | tr "\\\\000" x\\nexit {}\\n'
    chatty.run(
        f"mkdir -p /etc/vmhb; printf '{check.format(0)}' >/etc/vmhb/health-check; chmod +x /etc/vmhb/health-check"
    )
    daemon = worker()
    for guest in (*stray.values(), chatty):
        daemon.wait_known(guest.uuid)
    begun = time.monotonic()
    for guest in stray.values():
        guest.babble()
    for guest in stray.values():
        wait_until(
            lambda guest=guest: daemon.show(guest.uuid)["not_asked"] == "given up by libvirt",  # type: ignore[misc]
            40,
            f"libvirt gave up on {guest.name}'s agent",
        )
    sleep_until(begun + BOUND + 2 * FINAL)
    for name, guest in stray.items():
        shown = daemon.show(guest.uuid)
        assert (shown["misses"], verdicts(consumer, guest, begun)) == (0, []), name
        assert shown["skipped"] >= 3
        assert daemon.said(f"instance {guest.uuid}") and daemon.said("restart the agent in the guest")
    assert verdicts(consumer, chatty, begun) == []
    shown = daemon.show(chatty.uuid)
    assert shown["last_ack_age"] < 3
    assert shown["health"]["report"]["status"] == "healthy"
    bad = chatty.deed(
        f"printf '{check.format(2)}' >/etc/vmhb/hc; chmod +x /etc/vmhb/hc; mv /etc/vmhb/hc /etc/vmhb/health-check"
    )
    raised = consumer.wait_fault("raised", chatty.uuid, 30, since=bad)
    assert (raised.cause, raised.misses) == ("application_unhealthy", 0)
    for guest in stray.values():
        healed = guest.deed("kill -9 $(cat /run/babbler); rm -f /run/no-agent")
        wait_until(
            lambda guest=guest: (daemon.show(guest.uuid)["last_ack_age"] or 99) < time.monotonic() - healed,  # type: ignore[misc] # noqa: B023
            40,
            f"{guest.name}'s agent acknowledges",
        )
        assert recovered(consumer, guest, begun) == []


@pytest.mark.long
def test_a_dump_a_backup_and_a_pause_at_the_defaults(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, node: Node, figure: Figure
) -> None:
    """A guest that saves its crash dump is told of, and left alone; a backup job excuses nobody; a pause that nobody
    wants is an alarm, and over when it goes on."""
    disk = node.folder / "disk.img"
    with disk.open("wb") as image:
        image.truncate(64 << 20)
    dumps = guests.get(fresh=True, panic=True, on_crash="preserve", policy=DEFAULTS)
    backed_up = guests.get(fresh=True, disk=disk, policy=DEFAULTS)
    paused = guests.get(fresh=True, policy={**DEFAULTS, "action": "recover_unresponsive"})
    daemon = worker()
    for guest in (dumps, backed_up, paused):
        daemon.wait_known(guest.uuid)

    wish = node.folder / "backup.xml"
    wish.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{node.folder}/nbd.sock'/><disks><disk name='vda' "
        f"backup='yes' type='file'><scratch file='{node.folder}/scratch.qcow2'/></disk></disks></domainbackup>"
    )
    node.virsh("backup-begin", backed_up.name, str(wish))
    dumps.stop_agent()
    dumping = dumps.tell_panic(saves_dump=True)
    died = backed_up.panic()
    node.virsh("qemu-monitor-command", "--hmp", paused.name, "stop")
    stopped = time.monotonic()

    told = consumer.wait_fault("raised", dumps.uuid, 10, since=dumping)
    figure("a crash dump is told: until raised", told.at - dumping, "s")
    assert (told.cause, told.recommended_action, told.withheld) == ("guest_panicked", "alarm", "hold")
    assert told.evidence["panic"]["value"] == "crash_dump"
    nobodys = consumer.wait_fault("raised", paused.uuid, 10, since=stopped - 1)
    assert (nobodys.cause, nobodys.recommended_action) == ("paused_failed", "alarm")
    assert "unknown" in node.virsh("domstate", "--reason", paused.name)

    sleep_until(died + BOUND + HOLD + FINAL)
    assert "Backup" in node.virsh("domjobinfo", backed_up.name)
    assert verdicts(consumer, backed_up, died)[-1] == ("guest_hung", "recover", None)
    figure("kernel dies during a backup: until raised", consumer.faults(backed_up.uuid, died)[0].at - died, "s", BOUND)
    sleep_until(dumping + 2 * BOUND)
    assert recovered(consumer, dumps, dumping) == []
    assert verdicts(consumer, paused, stopped - 1) == [("paused_failed", "alarm", None)]

    node.virsh("qemu-monitor-command", "--hmp", paused.name, "cont")
    dumps.reset()  # as its crash kernel does when the dump is on its disk
    for guest in (paused, dumps):
        cleared = consumer.wait_fault("cleared", guest.uuid, 90, since=stopped - 1)
        assert cleared.resolution == "recovered"
        assert recovered(consumer, guest, dumping) == []


@pytest.fixture
def other_node() -> Iterator[Node]:
    with Node("other-node") as one:
        yield one


@pytest.mark.long
def test_the_target_of_a_post_copy_is_not_judged_before_its_memory_is_there(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, other_node: Node, tmp_path: pathlib.Path, node: Node
) -> None:
    """It runs there, and a part of its memory only the source has, which stands still for longer than any threshold:
    whoever reset it now would destroy that. When all of it is there, the guest answers."""
    guest = guests.get(fresh=True, policy={"action": "recover_unresponsive"})
    source, target = worker(host="source"), worker(host="target", uri=other_node.uri)
    source.wait_known(guest.uuid)
    busy = "dd if=/dev/urandom of=/run/fill bs=1M count=30; while :; do cat /run/fill >/dev/null; done"
    guest.begin(f"setsid sh -c '{busy}' </dev/null >/dev/null 2>&1 &")
    time.sleep(6)
    qemu, ended = guest.qemu_pid, threading.Event()
    slowly = ("--postcopy", "--bandwidth", "3", "--postcopy-bandwidth", "5", "--timeout", "4", "--timeout-postcopy")
    trouble: list[BaseException] = []

    def go() -> None:
        try:
            migrate(guest, other_node, tmp_path / "there.xml", *slowly)
        except BaseException as error:
            trouble.append(error)
        ended.set()

    begun = time.monotonic()
    threading.Thread(target=go, daemon=True).start()
    wait_until(
        lambda: _in_postcopy(target, guest) or ended.is_set(),
        90,
        "it runs there, without all of its memory",
        every=0.05,
    )
    assert not ended.is_set(), trouble
    node.processes.signal(qemu, signal.SIGSTOP)
    stalled = time.monotonic()
    try:
        while time.monotonic() < stalled + 20:
            assert "postcopy" in target.show(guest.uuid)["silences"]
            assert verdicts(consumer, guest, begun) == []
            time.sleep(0.5)
    finally:
        node.processes.signal(qemu, signal.SIGCONT)
    assert ended.wait(120) and not trouble, trouble
    wait_until(lambda: _well(target, guest), 60, "it answers there")
    assert verdicts(consumer, guest, begun) == []


def _in_postcopy(daemon: WorkerProcess, guest: Guest) -> bool:
    try:
        return "postcopy" in daemon.show(guest.uuid)["silences"]
    except (LookupError, LabError):
        return False


def _well(daemon: WorkerProcess, guest: Guest) -> bool:
    shown = daemon.show(guest.uuid)
    return bool(shown["state"] == "alive" and not shown["silences"] and (shown["last_ack_age"] or 99) < 3)
