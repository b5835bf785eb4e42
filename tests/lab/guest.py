"""One guest: a domain like Nova's, and every way to hurt and to heal it.

Each deed returns its moment (monotonic seconds, the clock of all processes on the machine), so
that a test can tell how long a detection took. A deed inside the guest happens within some
milliseconds *after* its moment, a virsh command within some tens of them, a signal at once: a
detection time is never measured too short.
"""

from __future__ import annotations

import base64
import json
import pathlib
import signal
import time
import uuid
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from xml.sax.saxutils import escape

from . import image
from .control import Control
from .node import Node
from .processes import LabError, wait_until

AGENT_CHANNEL = """
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/org.qemu.guest_agent.0.{name}.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>"""

APPLICATION_CHANNEL = """
    <channel type='unix'>
      <target type='virtio' name='org.openstack.vmhb.0'/>
    </channel>"""

# Raw, and for libvirt's own jobs: the guests have no driver for it.
DISK = "<disk type='file'><driver type='raw'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>"

# As Nova writes it where the worker looks (channels, balloon, metadata, on_*); emulated, without
# disk, network, display and USB, so that an idle guest costs next to nothing.
DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>{metadata}</metadata>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/><apic/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <clock offset='utc'>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>{on_crash}</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='{console}' append='on'/>
      <target port='0'/>
    </serial>{channels}
    <channel type='unix'>
      <source mode='bind' path='{control}'/>
      <target type='virtio' name='org.openstack.vmhb.lab'/>
    </channel>
    {balloon}
    {panic}
    {disk}
  </devices>
</domain>
"""

# A boot takes 3 s of CPU time; on a machine with a load of 20, that is a minute.
BOOT_TIMEOUT = 180.0


class Guest:
    """A persistent domain on a node. Not thread-safe, but for ``run`` and the signals.

    ``balloon`` is the period of the statistics in seconds as Nova's ``mem_stats_period_seconds``
    (0: none asked for; None: no device). ``panic`` adds a panic device, which Nova never does;
    ``on_crash`` is then what libvirt does at a panic. ``cmdline`` is appended to the kernel's:
    ``panic=5`` makes it reboot after a panic, the default hangs for ever. ``memory`` is in MiB: with 78 there is
    no room to unpack the initramfs, and the kernel panics. ``disk``: an image for a disk of the domain's.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        *,
        metadata: Sequence[str] = (),
        agent: bool = True,
        application: bool = False,
        balloon: int | None = 10,
        panic: bool = False,
        on_crash: str = "destroy",
        memory: int = 112,
        cmdline: str = "",
        guest_image: image.Image | None = None,
        disk: pathlib.Path | None = None,
    ) -> None:
        self.node = node
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.metadata = tuple(metadata)
        self.agent = agent
        self.application = application
        self.balloon = balloon
        self.panic_device = panic
        self.on_crash = on_crash
        self.memory = memory
        # A kernel that is starved while it checks its timer takes that for broken hardware, and panics: no_timer_check.
        self.cmdline = f"console=ttyS0 quiet panic=0 no_timer_check {cmdline}".strip()
        self._image = guest_image
        self.disk = disk
        self._control = Control(node.folder / "control" / f"{name}.sock")

    def __repr__(self) -> str:
        return f"<Guest {self.name} {self.uuid} on {self.node.name}>"

    # The domain

    @property
    def xml(self) -> str:
        """The domain as it is defined."""
        boot = self._image or image.build()
        channels = AGENT_CHANNEL.format(name=self.name) if self.agent else ""
        channels += APPLICATION_CHANNEL if self.application else ""
        period = f"<stats period='{self.balloon}'/>" if self.balloon else ""
        model = "none" if self.balloon is None else "virtio"
        return DOMAIN.format(
            name=escape(self.name),
            uuid=self.uuid,
            metadata="\n".join(self.metadata),
            memory=self.memory,
            kernel=boot.kernel,
            initrd=boot.initrd,
            cmdline=escape(self.cmdline),
            on_crash=self.on_crash,
            console=self.console,
            channels=channels,
            control=self._control.path,
            balloon=f"<memballoon model='{model}'>{period}</memballoon>",
            panic="<panic model='isa'/>" if self.panic_device else "",
            disk="" if self.disk is None else DISK.format(path=self.disk),
        )

    @property
    def console(self) -> pathlib.Path:
        """What the guest's kernel and init said."""
        return self.node.folder / "console" / f"{self.name}.log"

    def last_words(self, lines: int = 20) -> str:
        """The end of what it wrote on its console."""
        if not self.console.exists():
            return "(nothing)"
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    @property
    def state(self) -> str:
        """libvirt's word for it: running, paused, shut off, crashed …"""
        return self.node.virsh("domstate", self.name).strip()

    def define(self) -> None:
        """Define the domain, or define it anew after an attribute was changed."""
        path = self.node.folder / f"{self.name}.xml"
        path.write_text(self.xml)
        self.node.virsh("define", str(path))

    def undefine(self) -> None:
        """Forget the domain and its saved memory; it must not be running."""
        self.node.virsh("undefine", self.name, "--managed-save")

    def start(self) -> float:
        """Power on, or go on from managedsave()."""
        moment = self._virsh("start")
        self._control.close()
        self._control.connect()
        return moment

    def boot(self) -> float:
        """Power on, and wait until the agent answers; when it did. For what comes before a test.

        One boot in hundreds never comes up under emulation: it is told by a warning, with the last words of the
        console, and the guest is reset, once.
        """
        self.start()
        try:
            return self.wait_agent(BOOT_TIMEOUT / 2)
        except LabError as error:
            warnings.warn(f"{self.name} is reset, since it did not boot: {error}", stacklevel=2)
        self.reset()
        return self.wait_agent()

    def destroy(self) -> float:
        """Power off at once, as pulling the plug."""
        return self._virsh("destroy")

    def suspend(self) -> float:
        """Pause the vCPUs."""
        return self._virsh("suspend")

    def resume(self) -> float:
        """Let the vCPUs go on."""
        return self._virsh("resume")

    def reset(self) -> float:
        """Press the reset button."""
        return self._virsh("reset")

    def managedsave(self) -> float:
        """Save memory to disk and stop; start() goes on from there."""
        return self._virsh("managedsave")

    def described(self, *flags: str) -> ET.Element:
        """Its XML: live, or as it is defined (``--inactive``)."""
        return ET.fromstring(self.node.virsh("dumpxml", self.name, *flags))

    def channels(self, name: str, *flags: str) -> list[ET.Element]:
        """Its channels of this name; flags as in ``described``."""
        found = self.described(*flags).iterfind("devices/channel")
        return [channel for channel in found if channel.find(f"target[@name='{name}']") is not None]

    def channel_socket(self, name: str = "org.openstack.vmhb.0") -> pathlib.Path:
        """The host's end of a channel, where libvirt put it; LabError when the domain has none."""
        source = self._live_channel(name).find("source")
        return self.node.outside("" if source is None else source.get("path", ""))

    def plug_channel(self, name: str = "org.openstack.vmhb.0") -> float:
        """Plug a channel into the running domain."""
        return self._device("attach-device", f"<channel type='unix'><target type='virtio' name='{name}'/></channel>")

    def unplug_channel(self, name: str = "org.openstack.vmhb.0") -> float:
        """Unplug it again."""
        return self._device("detach-device", ET.tostring(self._live_channel(name), "unicode"))

    # Waiting

    def wait_ready(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Wait until user space answers on the control port."""
        try:
            return self._control.begin("true", timeout)
        except LabError as error:
            raise LabError(f"{error}; it is {self.state}, and its console ends:\n{self.last_words()}") from error

    def wait_agent(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Wait until qemu-ga answers a guest-ping through libvirt; returns when it did."""
        deadline = time.monotonic() + timeout
        self.wait_ready(timeout)  # costs nothing, while each ping costs a virsh
        timeout = max(deadline - time.monotonic(), 1)
        return wait_until(self.agent_answers, timeout, f"{self.name}: agent answers", every=0.2)

    def wait_state(self, state: str, timeout: float = 30) -> float:
        """Wait for libvirt's word, e.g. ``shut off``."""
        return wait_until(lambda: self.state == state, timeout, f"{self.name} is {state}")

    def agent_answers(self) -> bool:
        """One guest-ping. With a hung agent it takes 5 s (libvirt's own guest-sync)."""
        ping = json.dumps({"execute": "guest-ping"})
        try:
            self.node.virsh("qemu-agent-command", "--timeout", "2", self.name, ping)
        except LabError:
            return False
        return True

    def balloon_updated(self) -> int:
        """When the guest's balloon driver last answered: seconds since 1970, 0 for never."""
        for line in self.node.virsh("dommemstat", self.name).splitlines():
            name, _, value = line.partition(" ")
            if name == "last_update":
                return int(value)
        return 0

    # Inside the guest, on the control port

    def run(self, command: str, timeout: float = 30) -> str:
        """Run a shell command in the guest; its output, or LabError if it failed."""
        done = self._control.run(command, timeout)
        if done.code:
            raise LabError(f"{self.name}: {command!r} ended with {done.code}: {done.output}")
        return done.output

    def begin(self, command: str, timeout: float = 30) -> float:
        """Run a shell command that need not end; returns the moment at which it began."""
        return self._control.begin(command, timeout)

    def stop_vmhb_guest(self) -> float:
        """SIGSTOP vmhb-guest (in the image with applications): its port stays open and nobody answers."""
        return self.deed("killall -STOP vmhb-guest")

    def continue_vmhb_guest(self) -> float:
        """SIGCONT vmhb-guest."""
        return self.deed("killall -CONT vmhb-guest")

    def kill_vmhb_guest(self, *, restart: bool = True) -> float:
        """SIGKILL vmhb-guest: its port closes. It is started again within 1 s, if ``restart``."""
        keep_away = "" if restart else "touch /run/no-guest;"
        return self.deed(f"{keep_away} killall -KILL vmhb-guest")

    def allow_vmhb_guest(self) -> float:
        """Let vmhb-guest be started (again); within 1 s."""
        return self.deed("rm -f /run/no-guest")

    def stop_agent(self) -> float:
        """SIGSTOP qemu-ga: its port stays open and nobody answers."""
        return self.deed("killall -STOP qemu-ga")

    def continue_agent(self) -> float:
        """SIGCONT qemu-ga."""
        return self.deed("killall -CONT qemu-ga")

    def kill_agent(self, *, restart: bool = True) -> float:
        """SIGKILL qemu-ga: its port closes. It is started again 1 s later, if ``restart``."""
        keep_away = "" if restart else "touch /run/no-agent;"
        return self.deed(f"{keep_away} killall -KILL qemu-ga")

    def allow_agent(self) -> float:
        """Let qemu-ga be started again after ``kill_agent(restart=False)``; within 1 s."""
        return self.deed("rm -f /run/no-agent")

    def panic(self) -> float:
        """Crash the kernel. It hangs, unless ``panic=N`` is on its command line."""
        return self.begin("echo c >/proc/sysrq-trigger")

    def tell_panic(self, *, saves_dump: bool) -> float:
        """Tell the panic device that the kernel panics, and perhaps that it saves a dump. Nothing else happens."""
        program = base64.b64encode(image.pvpanic().read_bytes()).decode()
        self.run(f"echo {program} | base64 -d >/run/pvpanic; chmod +x /run/pvpanic")
        return self.deed(f"/run/pvpanic {2 if saves_dump else 1}")

    def babble(self) -> float:
        """Instead of the agent, somebody holds its port who answers each line with nonsense; `allow_agent` ends it."""
        self.kill_agent(restart=False)
        port = "/dev/virtio-ports/org.qemu.guest_agent.0"
        free = "while pidof qemu-ga >/dev/null; do sleep 0.1; done; sleep 0.5"  # the agent has let go of it
        # While libvirt is not connected to its end, a read gives nothing at all.
        again = "while :; do read line <&3 && echo stray >&3 || sleep 0.1; done"
        answer = f"echo $$ >/run/babbler; {free}; exec 3<>{port}; {again}"
        return self.begin(f"setsid sh -c '{answer}' </dev/null >/dev/null 2>&1 &")

    def reboot(self, orderly: float | None = None) -> float:
        """Reboot at once; or as systemd does: end the agent, then take ``orderly`` seconds."""
        return self._leave("reboot", orderly)

    def poweroff(self, orderly: float | None = None) -> float:
        """Power off at once; or as systemd does: end the agent, then take ``orderly`` seconds."""
        return self._leave("poweroff", orderly)

    def starve(self, seconds: float) -> float:
        """Take the vCPU away from everything else in the guest, kernel threads included.

        A real-time loop under a watchdog of higher priority, so that it does end. Interrupts are
        still served; the balloon driver's work queue isn't. It takes hold within some 0.2 s.
        """
        loop = "chrt -f 98 sh -c 'while :; do :; done'"
        return self.begin(
            "echo -1 >/proc/sys/kernel/sched_rt_runtime_us;"
            f"setsid chrt -f 99 timeout -s KILL {seconds:g} {loop} </dev/null >/dev/null 2>&1 &"
        )

    def slow_stop(self, seconds: float) -> float:
        """Make every later shutdown through the agent take its time, as an orderly one does."""
        return self.deed(f"echo {seconds:g} >/run/stop-takes")

    # QEMU's process

    @property
    def qemu_pid(self) -> int:
        """QEMU's pid; LabError when the domain isn't active."""
        path = self.node.folder / "run" / "qemu" / f"{self.name}.pid"
        try:
            return int(path.read_text())
        except FileNotFoundError as error:
            raise LabError(f"{self.name} has no QEMU") from error

    def kill_qemu(self) -> float:
        """SIGKILL QEMU, as the kernel does when memory runs out."""
        return self.node.processes.signal(self.qemu_pid, signal.SIGKILL)

    def stop_qemu(self) -> float:
        """SIGSTOP QEMU: guest and monitor stand still, libvirt still calls it running."""
        return self.node.processes.signal(self.qemu_pid, signal.SIGSTOP)

    def continue_qemu(self) -> float:
        """SIGCONT QEMU."""
        return self.node.processes.signal(self.qemu_pid, signal.SIGCONT)

    def _live_channel(self, name: str) -> ET.Element:
        for channel in self.channels(name):
            return channel
        raise LabError(f"{self.name} has no channel {name}")

    def _device(self, deed: str, xml: str) -> float:
        path = self.node.folder / f"{self.name}-device.xml"
        path.write_text(xml)
        moment = time.monotonic()
        self.node.virsh(deed, self.name, str(path), "--live")
        return moment

    def _virsh(self, deed: str) -> float:
        moment = time.monotonic()
        self.node.virsh(deed, self.name)
        return moment

    def deed(self, command: str) -> float:
        """Run a shell command in the guest that must succeed; the moment at which it began."""
        done = self._control.run(command, 30)
        if done.code:
            raise LabError(f"{self.name}: {command!r} ended with {done.code}: {done.output}")
        return done.moment

    def _leave(self, verb: str, orderly: float | None) -> float:
        if orderly is None:
            return self.begin(f"{verb} -f")
        return self.begin(f"setsid orderly {verb} {orderly:g} </dev/null >/dev/null 2>&1 &")
