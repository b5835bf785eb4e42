"""libvirt's events -> ours: one table.

Callbacks run on libvirt's event thread and hold up every other event and keepalive meanwhile: they translate, hand
over and return. None of them calls libvirt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import libvirt
from oslo_log import log as logging

from vmhb_common.model.policy import Channel
from vmhb_worker.adapters.libvirt import constants
from vmhb_worker.adapters.libvirt.connection import Connection
from vmhb_worker.core import lifecycle, spoken_of
from vmhb_worker.core.bounded import Ration
from vmhb_worker.core.events import Booted, Event, MemoryFailed, PortChanged, Silenced, Unsilenced, WatchdogFired
from vmhb_worker.core.silences import JOB
from vmhb_worker.core.spoken_of import Whom
from vmhb_worker.core.suspicion import JOB_BELIEVED

try:
    import libvirt_qemu
except ImportError:  # packaged apart by some distributions
    libvirt_qemu = None

LOG = logging.getLogger(__name__)

#: Our own state in the domain's metadata: what we wrote ourselves is no news.
STATE_NAMESPACE = "urn:openstack:vmhb:state:1"
#: Which port is which channel.
PORTS = {"org.qemu.guest_agent.0": Channel.AGENT, "org.openstack.vmhb.0": Channel.APPLICATION}


#: Of events that are not understood so many lines are logged at once, and then one a minute. Of libvirt's thread.
_LINES = Ration(10, 60.0)


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says. changed: the domain's description may be another one now."""

    event: Event | None = None
    changed: bool = False


def _on_lifecycle(event: int, detail: int) -> Told:
    return Told(lifecycle.event_of(*constants.lifecycle(event, detail)), changed=True)


def _on_metadata(_kind: int, namespace: str | None) -> Told:
    return Told(changed=namespace != STATE_NAMESPACE)


def _on_io_error(_path: str, _alias: str, action: int, _reason: str) -> Told:
    return Told(spoken_of.IO_ERRORS.get(constants.io_error(action)))


def _on_migration_pass(_number: int) -> Told:
    return Told(
        Silenced(JOB, "libvirt copies its memory: migration, save, dump or snapshot", time.monotonic() + JOB_BELIEVED)
    )


def _on_port(channel: Channel, state: int, reason: int) -> Told:
    """What is not said of the port itself, the live XML tells."""
    named = constants.port(state, reason)
    if spoken_of.PORT_EVENTS.get(named) is not Whom.PORT:
        return Told(changed=True)
    return Told(PortChanged(named[0] == "connected", channel))


def _on_channel(*args: Any) -> Told:
    # libvirt-python 12.8 drops the channel's name, which libvirt tells first: the live XML knows.
    if len(args) == 3 and args[0] in PORTS:
        return _on_port(PORTS[args[0]], args[1], args[2])
    return Told(changed=True)


#: VIR_DOMAIN_EVENT_ID_* -> the callback's own arguments -> what they say. All others: `spoken_of.NOT_HEARD`.
EVENTS: dict[str, Callable[..., Told]] = {
    "LIFECYCLE": _on_lifecycle,
    "REBOOT": lambda: Told(Booted()),
    "AGENT_LIFECYCLE": partial(_on_port, Channel.AGENT),
    "CHANNEL_LIFECYCLE": _on_channel,
    "METADATA_CHANGE": _on_metadata,
    "JOB_COMPLETED": lambda _statistics: Told(Unsilenced(JOB)),
    "MIGRATION_ITERATION": _on_migration_pass,
    "IO_ERROR_REASON": _on_io_error,
    "WATCHDOG": lambda action: Told(WatchdogFired(constants.watchdog(action))),
    "MEMORY_FAILURE": lambda *failure: Told(MemoryFailed(*constants.memory_failure(*failure))),
    "CONTROL_ERROR": lambda: Told(changed=True),
    "DEVICE_ADDED": lambda _alias: Told(changed=True),
    "DEVICE_REMOVED": lambda _alias: Told(changed=True),
}


def port_changed(details: str | None, channels: dict[str, Channel] | None) -> Told:
    """QEMU's VSERPORT_CHANGE: `details` is JSON from QEMU, with the device's alias.

    channels: alias -> channel, of the domain's last description; None where it has none yet. The agent's channel is
    libvirt's to watch: AGENT_LIFECYCLE.
    """
    change = json.loads(details or "{}")
    if channels is None:
        return Told(changed=True)
    if channels.get(change.get("id")) is not Channel.APPLICATION:
        return Told()
    return Told(PortChanged(bool(change.get("open")), Channel.APPLICATION))


#: (uuid, what happened, is the description due again)
Tell = Callable[[str, Event | None, bool], None]


def subscribe(connection: Connection, tell: Tell, channels: Callable[[str], dict[str, Channel] | None]) -> None:
    """Have everything told that this libvirtd tells. Raises libvirtError when it refuses lifecycle events.

    channels: the domain's alias -> channel; called on libvirt's event thread.
    """
    for name, translate in EVENTS.items():
        number = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}", None)
        if number is None:
            LOG.info("This libvirt-python knows no %s events, it is older than they are: going without", name)
            continue
        try:
            connection.subscribe(number, _callback(translate, tell))
        except libvirt.libvirtError as error:
            if name == "LIFECYCLE":
                raise
            LOG.info("libvirt tells no %s events, going without: %s", name, error)
    _subscribe_ports(connection, tell, channels)


def _not_understood(what: str) -> None:
    """A guest can have some events told as often as it likes."""
    left_out = _LINES.take(time.monotonic())
    if left_out is not None:
        LOG.exception("%s (%d such lines were left out before this one)", what, left_out)


def _callback(translate: Callable[..., Told], tell: Tell) -> Callable[..., None]:
    def callback(_connection: Any, domain: Any, *args: Any) -> None:
        uuid = domain.UUIDString()  # known to the object: no call
        try:
            told = translate(*args[:-1])
            tell(uuid, told.event, told.changed)
        except Exception:
            # libvirt-python would print it to stderr and go on; at least it shall be seen in the log.
            _not_understood(f"instance {uuid}: a libvirt event was not understood: {args!r:.200}")

    return callback


def _subscribe_ports(connection: Connection, tell: Tell, channels: Callable[[str], dict[str, Channel] | None]) -> None:
    """The only news of a port that is not the agent's before libvirt 12.4: works, officially unsupported."""

    def callback(_connection: Any, domain: Any, _event: str, _seconds: int, _micros: int, details: str, _: Any) -> None:
        uuid = domain.UUIDString()
        try:
            told = port_changed(details, channels(uuid))
            tell(uuid, told.event, told.changed)
        except Exception:
            _not_understood(f"instance {uuid}: a QEMU event was not understood: {details!r:.200}")

    try:
        number = libvirt_qemu.qemuMonitorEventRegister(connection.raw, None, "VSERPORT_CHANGE", callback, None)
    except (AttributeError, libvirt.libvirtError) as error:
        LOG.info("no news of application channels from QEMU, going without: %s", error)
        return
    connection.undo(lambda: libvirt_qemu.qemuMonitorEventDeregister(connection.raw, number))
