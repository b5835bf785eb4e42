"""What a running domain is given that it lacks. It may block, as long as QEMU hangs or another job lasts."""

from __future__ import annotations

import libvirt

from vmhb_common.model.policy import POLICY_NS, PORT_NAMES, Channel
from vmhb_worker.adapters.libvirt.connection import Connection, gone
from vmhb_worker.core import domain_xml
from vmhb_worker.core.events import PlugChannel, Provisioned, Step, WritePolicy
from vmhb_worker.core.provisioning import lacks

#: libvirt places the socket, makes a new one wherever the domain migrates to, and gives the port its address.
CHANNEL = f"<channel type='unix'><target type='virtio' name='{PORT_NAMES[Channel.APPLICATION]}'/></channel>"

#: Another time it may be done: somebody else's job was in the way, or the domain stopped or left meanwhile.
_AGAIN = {libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_OPERATION_INVALID}


def carry_out(connection: Connection, uuid: str, step: Step) -> Provisioned:
    """Do it, unless it has been done, and say what came of it."""
    try:
        return _carry_out(connection, uuid, step)
    except libvirt.libvirtError as error:
        if gone(error):
            connection.forget(uuid)
            return Provisioned(uuid, step, False)
        again = error.get_error_code() in _AGAIN or not connection.alive()
        return Provisioned(uuid, step, False, str(error), again)
    except ValueError as error:  # no description of a domain
        return Provisioned(uuid, step, False, str(error), again=True)


def _carry_out(connection: Connection, uuid: str, step: Step) -> Provisioned:
    domain = connection.domain(uuid)
    if not domain.isActive():
        return Provisioned(uuid, step, False)
    if domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OK:
        return Provisioned(uuid, step, False, "libvirt is at something else with it", again=True)
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent() and lacks(domain_xml.read(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), step):
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    # Last of all, and nothing between this and the deed: where a channel of that name is there already, libvirt 9.0
    # refuses, and removes its socket. Nobody could connect to it any more until the domain is restarted.
    if not lacks(domain_xml.read(domain.XMLDesc(0)), step):
        return Provisioned(uuid, step, False)
    match step:
        case WritePolicy(element):
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "vmhb", POLICY_NS, flags)
        case PlugChannel():
            domain.attachDeviceFlags(CHANNEL, flags)
    return Provisioned(uuid, step, True)
