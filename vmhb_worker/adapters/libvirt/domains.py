"""What libvirt knows of a domain, read in two calls that never touch QEMU's monitor."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import libvirt
from oslo_log import log as logging

from vmhb_common.model.policy import Channel
from vmhb_worker.adapters.libvirt import constants
from vmhb_worker.adapters.libvirt.connection import Connection, gone
from vmhb_worker.adapters.libvirt.event_map import PORTS
from vmhb_worker.adapters.libvirt.process import Processes
from vmhb_worker.core.events import DomainForgotten, DomainSeen
from vmhb_worker.core.guest_text import clean

LOG = logging.getLogger(__name__)

#: Of an error so many characters are told.
ERROR_LIMIT = 300


class Domains:
    """Descriptions, and what must be remembered of the last one. Belongs to one thread, `channels` to any."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._channels: dict[str, dict[str, Channel]] = {}

    def channels(self, uuid: str) -> dict[str, Channel] | None:
        """Device alias -> channel, as of the last description; None when there was none of it running."""
        return self._channels.get(uuid)

    def all(self, connection: Connection) -> tuple[list[DomainSeen], list[str]]:
        """All domains, active and inactive; and the uuids of those that could not be read.

        Raises what it was when the connection does not serve.
        """
        seen: list[DomainSeen] = []
        unread: list[str] = []
        for raw in connection.raw.listAllDomains(0):
            uuid = raw.UUIDString()
            try:
                seen.append(self._read(raw, uuid))
            except Exception as error:  # whatever is wrong with this one: the others are read all the same
                if not connection.alive():
                    raise
                if not gone(error):
                    LOG.warning("instance %s: libvirt does not tell its XML, left out for now: %s", uuid, told(error))
                    unread.append(uuid)
        known = {domain.uuid for domain in seen}
        self._processes.keep(known)
        for uuid in self._channels.keys() - known:
            del self._channels[uuid]
        return seen, unread

    def one(self, connection: Connection, uuid: str) -> DomainSeen | DomainForgotten:
        """This domain. Raises libvirtError."""
        try:
            return self._read(connection.domain(uuid), uuid)
        except libvirt.libvirtError as error:
            connection.forget(uuid)
            if not gone(error):
                raise
        self._stopped(uuid)
        return DomainForgotten(uuid)

    def _read(self, raw: Any, uuid: str) -> DomainSeen:
        xml = raw.XMLDesc(0)
        # After the XML: a domain that stopped in between is told to have no life, never to have an old one.
        state, reason = constants.state(*raw.state()[:2])
        root = ElementTree.fromstring(xml)  # noqa: S314 - libvirt's own writing, not the guest's
        domain_id = root.get("id")
        boot = ""
        if domain_id is None or state == "shutoff":
            self._stopped(uuid)
        else:
            boot = self._processes.describe(uuid, root.findtext("name") or "", domain_id)
            self._channels[uuid] = _channels(root)
        return DomainSeen(uuid, xml, state, reason, boot, self._processes.host_boot)

    def _stopped(self, uuid: str) -> None:
        self._processes.forget(uuid)
        self._channels.pop(uuid, None)


def told(error: Exception) -> str:
    """libvirt's own words; of another, what it was as well."""
    words = error if isinstance(error, libvirt.libvirtError) else f"{type(error).__name__}: {error}"
    return clean(str(words), ERROR_LIMIT)


def _channels(root: ElementTree.Element) -> dict[str, Channel]:
    found: dict[str, Channel] = {}
    for channel in root.iterfind("./devices/channel"):
        target, alias = channel.find("target"), channel.find("alias")
        if target is not None and alias is not None and target.get("name") in PORTS:
            found[alias.get("name", "")] = PORTS[target.get("name", "")]
    return found
