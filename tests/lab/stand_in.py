"""A guest without a QEMU: a domain whose emulator is ``stand_in_qemu.py``, so that a node may have a hundred.

libvirtd and all its answers are real. What cannot be had: anything inside the guest, and time that is stolen. Deeds
return their moment, as `Guest`'s do.
"""

from __future__ import annotations

import pathlib
import signal
import time
from xml.sax.saxutils import escape

from .guest import AGENT_CHANNEL, APPLICATION_CHANNEL, Guest
from .node import Node

PROGRAM = pathlib.Path(__file__).with_name("stand_in_qemu.py")
# Isolated and without site-packages: it starts in 40 ms instead of 100, and needs nothing that is installed.
INTERPRETER = "#!/usr/bin/python3 -ISE\n"

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>{metadata}</metadata>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'><timer name='hpet' present='no'/></clock>
  <on_crash>{on_crash}</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>{channels}
    <memballoon model='virtio'><stats period='{balloon}'/></memballoon>
  </devices>
</domain>
"""


def emulator(node: Node) -> pathlib.Path:
    """The program as libvirtd starts it, in the node's folder: executable, wherever the tests themselves are."""
    path = node.folder / "stand-in"
    if not path.exists():
        path.write_text(INTERPRETER + PROGRAM.read_text())
        path.chmod(0o755)
    return path


class StandIn(Guest):
    """One of them. `run` and its like are not for it: there is nothing inside."""

    @property
    def xml(self) -> str:
        """The domain as it is defined."""
        channels = AGENT_CHANNEL.format(name=self.name) if self.agent else ""
        return DOMAIN.format(
            name=escape(self.name),
            uuid=self.uuid,
            metadata="\n".join(self.metadata),
            memory=self.memory,
            on_crash=self.on_crash,
            emulator=emulator(self.node),
            channels=channels + (APPLICATION_CHANNEL if self.application else ""),
            balloon=self.balloon or 0,
        )

    def start(self) -> float:
        """Power on: its guest answers at once."""
        return self._virsh("start")

    def boot(self) -> float:
        """The same."""
        return self.start()

    def kernel_dies(self) -> float:
        """Nothing in the guest says anything any more, its balloon included."""
        return self._signal(signal.SIGUSR1)

    def kernel_panics(self) -> float:
        """The same, and its panic device says so."""
        return self._signal(signal.SIGRTMIN)

    def power_off(self) -> float:
        """By ACPI, as `virsh shutdown` asks for it."""
        moment = time.monotonic()
        self.node.virsh("shutdown", self.name, "--mode", "acpi")
        return moment

    def agents_hang(self) -> float:
        """Agent and application say nothing any more; the kernel lives."""
        return self._signal(signal.SIGUSR2)

    def go_on(self) -> float:
        """The guest's kernel, agent and application; QEMU itself, if it stood still."""
        self.continue_qemu()
        return self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> float:
        return self.node.processes.signal(self.qemu_pid, number)
