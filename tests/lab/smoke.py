"""Tries the lab out: everything up, each hurt done and its effect seen, everything gone.

What it prints are measurements of this machine today. It judges the lab, not the worker.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from . import image, metadata
from .broker import Broker
from .guest import BOOT_TIMEOUT, Guest
from .node import Node
from .processes import LabError, wait_until

Step = Callable[[Guest], object]


def smoke() -> None:
    """Raise LabError at the first thing that is not as it should be."""
    with _said("guest image"):
        image.build()
    node, broker = Node(), Broker()
    try:
        with _said("libvirtd answers"):
            node.start()
        with _said("RabbitMQ is ready"):
            broker.start()
        folders = [node.folder, broker.folder]
        guests = _two_guests(node)
        for guest in guests:
            with _said(f"{guest.name} defined, booted, agent answers"):
                guest.define()
                guest.start()
                guest.wait_agent()
        victim, other = guests
        for hurt in HURTS:
            with _said((hurt.__doc__ or "").strip().splitlines()[0]):
                hurt(victim)
        with _said("libvirtd restarted, both guests found again"):
            node.restart_libvirtd()
            victim.wait_agent()
            other.wait_agent()
        with _said("libvirtd killed and started again"):
            node.restart_libvirtd(kill=True)
            other.wait_agent()
        with _said("libvirtd frozen for a second: nothing answers"):
            _frozen(node)
        with _said("RabbitMQ restarted on the same port"):
            broker.restart()
        with _said("RabbitMQ's alarms on and off"):
            _alarms(broker)
        family = {**node.processes.family(), **broker.processes.family()}
    finally:
        with _said("all down"):
            node.stop()
            broker.stop()
    remains = [f"process {pid} ({name})" for pid, name in family.items() if _same(pid, name)]
    remains += [str(folder) for folder in folders if folder.exists()]
    if remains:
        raise LabError(f"left behind: {', '.join(remains)}")
    print(f"nothing left of {len(family)} processes")


def crowd(number: int) -> None:
    """Boot ``number`` guests one after the other, then all at once; what do they cost idle?"""
    boot = image.build()
    with Node() as node:
        guests = [
            Guest(node, f"instance-{n:08x}", guest_image=boot, metadata=[metadata.heartbeat()])
            for n in range(1, number + 1)
        ]
        for guest in guests:
            guest.define()
        with _said(f"{number} guests, each started when the one before it was ready"):
            for guest in guests:
                guest.start()
                guest.wait_ready()
        for guest in guests:
            guest.wait_agent()
            guest.destroy()
        with _said(f"{number} guests, all at once"):
            for guest in guests:
                guest.start()
            for guest in guests:
                guest.wait_ready(300)
        for guest in guests:
            guest.wait_agent()
        before, started = _cpu_seconds(guests), time.monotonic()
        time.sleep(10)
        cost = (_cpu_seconds(guests) - before) / (time.monotonic() - started) / number
        memory = sum(_rss_mib(guest.qemu_pid) for guest in guests) / number
        print(f"idle: {cost:.2%} of a core and {memory:.0f} MiB for each guest")


def _two_guests(node: Node) -> list[Guest]:
    """One with our own metadata, one with Nova's."""
    specs = {"hw:heartbeat": True, "hw:heartbeat_interval": 1}
    return [
        Guest(node, "instance-00000001", metadata=[metadata.heartbeat(interval=1)]),
        Guest(node, "instance-00000002", metadata=[metadata.nova(specs)]),
    ]


def _agent_stopped(guest: Guest) -> None:
    """agent stopped and continued: no answer between"""
    guest.stop_agent()
    _expect(not guest.agent_answers(), "a stopped agent answered")
    guest.continue_agent()
    guest.wait_agent()


def _agent_killed(guest: Guest) -> None:
    """agent killed: port closed while it is gone, answers after it was allowed again"""
    guest.kill_agent(restart=False)
    wait_until(lambda: "disconnected" in _agent_channel(guest), 10, "agent's port closes")
    guest.allow_agent()
    guest.wait_agent()


def _suspended(guest: Guest) -> None:
    """suspended and resumed"""
    guest.suspend()
    guest.wait_state("paused")
    guest.resume()
    guest.wait_agent()


def _saved(guest: Guest) -> None:
    """managedsave and start: the same boot goes on"""
    boot = guest.run("cat /proc/sys/kernel/random/boot_id")
    guest.managedsave()
    guest.wait_state("shut off")
    guest.start()
    guest.wait_agent()
    _expect(guest.run("cat /proc/sys/kernel/random/boot_id") == boot, "it booted anew")


def _panicked(guest: Guest) -> None:
    """kernel panic: balloon silent, state running, until reset"""
    guest.node.virsh("dommemstat", guest.name, "--period", "1", "--live")
    seen = guest.balloon_updated()
    wait_until(lambda: guest.balloon_updated() > seen, 10, "the balloon answers before the panic")
    guest.panic()
    wait_until(lambda: "Kernel panic" in guest.console.read_text(), 10, "the kernel panics")
    seen, quiet_from = guest.balloon_updated(), time.monotonic()
    while time.monotonic() < quiet_from + 4:
        _expect(guest.balloon_updated() == seen, "the balloon of a panicked kernel answered")
        time.sleep(0.5)
    _expect(guest.state == "running", "a panicked guest is not 'running'")
    guest.reset()
    guest.wait_agent()


def _rebooted(guest: Guest) -> None:
    """rebooted at once"""
    boot = guest.run("cat /proc/sys/kernel/random/boot_id")
    guest.reboot()
    wait_until(lambda: _boot_id(guest) not in ("", boot), BOOT_TIMEOUT, "it comes back")
    guest.wait_agent()


def _rebooted_orderly(guest: Guest) -> None:
    """orderly reboot of 3 s: agent gone first, kernel alive meanwhile"""
    boot = guest.run("cat /proc/sys/kernel/random/boot_id")
    begun = guest.reboot(orderly=3)
    gone = wait_until(lambda: "disconnected" in _agent_channel(guest), 10, "agent's port closes")
    _expect(_boot_id(guest) == boot, "it was gone before its time")
    back = wait_until(lambda: _boot_id(guest) not in ("", boot), BOOT_TIMEOUT, "it comes back")
    _expect(gone - begun < 3 < back - begun, "not in this order")
    guest.wait_agent()


def _starved(guest: Guest) -> None:
    """starved for 6 s by a real-time loop"""
    begun = guest.starve(6)
    wait_until(lambda: not guest.agent_answers(), 3, "the agent starves")
    back = guest.wait_agent()
    _expect(back - begun > 5, "it was not starved for long")


def _powered_off(guest: Guest) -> None:
    """powered off from inside, started again"""
    guest.poweroff()
    guest.wait_state("shut off")
    guest.start()
    guest.wait_agent()


def _shut_down(guest: Guest) -> None:
    """virsh shutdown through the agent, which takes 2 s to comply"""
    guest.slow_stop(2)
    guest.node.virsh("shutdown", guest.name, "--mode", "agent")
    guest.wait_state("shut off")
    guest.start()
    guest.wait_agent()


def _qemu_stopped(guest: Guest) -> None:
    """QEMU stopped and continued: no answer between"""
    guest.stop_qemu()
    _expect(not guest.agent_answers(), "the agent of a stopped QEMU answered")
    guest.continue_qemu()
    guest.wait_agent()


def _qemu_killed(guest: Guest) -> None:
    """QEMU killed, started again"""
    guest.kill_qemu()
    guest.wait_state("shut off")
    guest.start()
    guest.wait_agent()


def _panic_device(guest: Guest) -> None:
    """with a panic device and on_crash=preserve: libvirt says crashed"""
    guest.destroy()
    guest.panic_device, guest.on_crash = True, "preserve"
    guest.define()
    guest.start()
    guest.wait_agent()
    guest.panic()
    guest.wait_state("crashed")
    guest.destroy()
    guest.start()
    guest.wait_agent()


HURTS: tuple[Step, ...] = (
    _agent_stopped,
    _agent_killed,
    _suspended,
    _saved,
    _panicked,
    _rebooted,
    _rebooted_orderly,
    _starved,
    _powered_off,
    _shut_down,
    _qemu_stopped,
    _qemu_killed,
    _panic_device,
)


def _frozen(node: Node) -> None:
    node.freeze()
    try:
        node.virsh("list", timeout=1)
    except LabError:
        return
    finally:
        node.thaw()
    raise LabError("a frozen libvirtd answered")


def _alarms(broker: Broker) -> None:
    for alarm in (broker.memory_alarm, broker.disk_alarm):
        alarm(True)
        wait_until(lambda: broker.alarms() != "", 20, "the alarm is on")
        alarm(False)
        wait_until(lambda: broker.alarms() == "", 20, "the alarm is off")


def _agent_channel(guest: Guest) -> str:
    """The live XML of the agent's channel."""
    _, _, rest = guest.node.virsh("dumpxml", guest.name).partition("name='org.qemu.guest_agent.0'")
    return rest.partition(">")[0]


def _boot_id(guest: Guest) -> str:
    try:
        return guest.run("cat /proc/sys/kernel/random/boot_id", 2)
    except LabError:
        return ""


def _expect(fact: bool, otherwise: str) -> None:
    if not fact:
        raise LabError(otherwise)


def _same(pid: int, name: str) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def _cpu_seconds(guests: list[Guest]) -> float:
    ticks = 0
    for guest in guests:
        fields = pathlib.Path(f"/proc/{guest.qemu_pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> int:
    resident = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE") >> 20


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:6.2f} s  {what}", flush=True)
