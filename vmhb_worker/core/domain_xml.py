"""What a domain's XML tells: who the instance is, what was asked for it, and its channels.

Policy is looked for in our own metadata element, else among the flavor's extra specs that Nova (2025.2 and later) puts
into its element; elements are matched by namespace, since Nova changes its prefix from `nova` to `instance` on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from uuid import UUID
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from vmhb_common.model.fault import Identity
from vmhb_common.model.moments import moment
from vmhb_common.model.policy import POLICY_NS, PORT_NAMES, Channel, knobs_of_extra_specs
from vmhb_worker.core import guest_system
from vmhb_worker.core.evidence import System

STATE_NS = "urn:openstack:vmhb:state:1"
NOVA_NS = "http://openstack.org/xmlns/libvirt/nova/1.1"
#: Newest first. A guest that an older Nova started keeps the older one until it is started anew.
NOVA_NAMESPACES = (NOVA_NS, "http://openstack.org/xmlns/libvirt/nova/1.0")

_OSINFO_NS = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
_PROPERTIES = "{*}image/{*}properties/{*}property"
_EXTRA_SPECS = "{*}flavor/{*}extraSpecs"
#: The attributes of our element that are no knobs. The second tells that it came by RPC, and when it was seen.
_VERSION, _OBSERVED_AT = "version", "observed_at"
#: Names that can be attributes beside these.
_ATTRIBUTE = re.compile(rf"(?!xml|(?:{_VERSION}|{_OBSERVED_AT})$)[a-z][a-z0-9_]*")
_CHANNELS = {name: channel for channel, name in PORT_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Port:
    """A channel's port. path: its socket on the host; open: does the guest hold it open (None: not running)."""

    path: str | None
    open: bool | None
    alias: str | None


@dataclass(frozen=True, slots=True)
class Travelled:
    """What an earlier host wrote into the domain: see `state_element`."""

    established: bool = False
    fault_id: str | None = None


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain, as its XML has it. asked: the knobs by their bare names, None where nobody asked for anything.

    decided: it says what is asked for, be it nothing. observed_at: when that was seen, where a worker wrote it since it
    was sent by RPC: in UTC; None where somebody else says it. channels: the names of all its virtio-serial ports, also
    of those that are no unix sockets, of which `ports` has none. serial_controller: there is one to plug a port into.
    rescued: Nova has it run another image, which need not answer. system: what runs in it, where that is told.
    """

    who: Identity
    asked: Mapping[str, str] | None
    ports: Mapping[Channel, Port] = field(default_factory=dict)
    balloon_period: int | None = None  # seconds, 0: no statistics; None: no balloon device
    travelled: Travelled = Travelled()
    decided: bool = False
    observed_at: datetime | None = None
    channels: frozenset[str] = frozenset()
    serial_controller: bool = False
    rescued: bool = False
    system: System | None = None


def read(xml: str) -> DomainView:
    """Read a domain's XML. Raises ValueError when it is none."""
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - written by libvirtd, which checked it
    except ElementTree.ParseError as error:
        raise ValueError(f"the domain's XML cannot be read: {error}") from None
    uuid = uuid_in(root.findtext("uuid"))
    if root.tag != "domain" or not uuid:
        raise ValueError(f"not a domain's XML: it begins with <{root.tag}> and has no uuid")
    metadata = root.find("metadata")
    nova = None if metadata is None else _novas(metadata)
    ours = None if metadata is None else metadata.find(f"{{{POLICY_NS}}}heartbeat")
    return DomainView(
        who=_identity(uuid, root, nova),
        asked=_asked(ours, nova),
        ports=_ports(root),
        balloon_period=_balloon_period(root),
        travelled=_travelled(metadata),
        decided=ours is not None or (nova is not None and nova.find(_EXTRA_SPECS) is not None),
        observed_at=None if ours is None else _time(ours.get(_OBSERVED_AT)),
        channels=frozenset(
            target.get("name", "") for target in root.iterfind("devices/channel/target[@type='virtio']")
        ),
        serial_controller=root.find("devices/controller[@type='virtio-serial']") is not None,
        system=_system(root, metadata, nova),
        rescued=any(_is_rescue_disk(source) for source in root.iterfind("devices/disk/source")),
    )


def policy_element(knobs: Mapping[str, str], observed_at: datetime) -> str:
    """The metadata element that asks for these knobs, each text that XML can carry. Without a prefix, as below.

    A name that cannot be an attribute is left out; no knob has one. observed_at: when they were seen, aware.
    """
    ours = {_VERSION: "1", _OBSERVED_AT: observed_at.isoformat()}
    given = {**ours, **{name: text for name, text in knobs.items() if _ATTRIBUTE.fullmatch(name)}}
    return "<heartbeat {}/>".format(" ".join(f"{name}={quoteattr(text)}" for name, text in given.items()))


def state_element(established: bool, fault_id: str | None) -> str:
    """The metadata element that travels with a migration. Written once per change, never per heartbeat.

    Without a prefix: libvirt puts the element into `STATE_NS` itself, and refuses one that names its namespace.
    """
    attributes = {"version": "1", "established": "true" if established else "false"}
    if fault_id:
        attributes["fault_id"] = fault_id
    text = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<state {text}/>"


def _novas(metadata: ElementTree.Element) -> ElementTree.Element | None:
    """Nova's element. Its namespace is looked at here and no further down: what is in it is all Nova's."""
    found = (metadata.find(f"{{{namespace}}}instance") for namespace in NOVA_NAMESPACES)
    return next((element for element in found if element is not None), None)


def _identity(uuid: str, root: ElementTree.Element, nova: ElementTree.Element | None) -> Identity:
    name = root.findtext("name")
    if nova is None:
        return Identity(uuid, name)
    flavor = nova.find("{*}flavor")
    project = nova.find("{*}owner/{*}project")
    return Identity(
        uuid,
        name,
        nova.findtext("{*}name"),
        None if project is None else project.get("uuid"),
        None if flavor is None else flavor.get("name"),
    )


def _asked(ours: ElementTree.Element | None, nova: ElementTree.Element | None) -> dict[str, str] | None:
    if ours is not None:
        asked = {name: value for name, value in ours.attrib.items() if name not in (_VERSION, _OBSERVED_AT)}
        return {"heartbeat": "true", **asked}  # the element is the wish; heartbeat='false' takes it back
    if nova is None:
        return None
    specs = nova.iterfind(f"{_EXTRA_SPECS}/{{*}}extraSpec")
    return knobs_of_extra_specs({spec.get("name", ""): spec.text or "" for spec in specs}) or None


def _time(text: str | None) -> datetime | None:
    try:
        when = None if text is None else moment(text)
        return None if when is None or when.tzinfo is None else when.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _ports(root: ElementTree.Element) -> dict[Channel, Port]:
    ports: dict[Channel, Port] = {}
    for element in root.iterfind("devices/channel[@type='unix']"):
        target = element.find("target[@type='virtio']")
        channel = None if target is None else _CHANNELS.get(target.get("name", ""))
        if target is None or channel is None or channel in ports:
            continue
        source, alias, state = element.find("source"), element.find("alias"), target.get("state")
        ports[channel] = Port(
            path=None if source is None else source.get("path"),
            open=None if state is None else state == "connected",
            alias=None if alias is None else alias.get("name"),
        )
    return ports


def _system(
    root: ElementTree.Element, metadata: ElementTree.Element | None, nova: ElementTree.Element | None
) -> System | None:
    """By the image's properties (Nova 2025.2 and later); by what Nova gives to Windows only; or by libosinfo's word."""
    properties = {} if nova is None else {one.get("name"): one.text for one in nova.iterfind(_PROPERTIES)}
    for name in ("os_type", "os_distro"):
        named = guest_system.by_name(properties.get(name))
        if named is not None:
            return named
    if root.find("features/hyperv") is not None:
        return System.WINDOWS
    osinfo = None if metadata is None else metadata.find(f".//{{{_OSINFO_NS}}}os")
    return None if osinfo is None else guest_system.by_osinfo_id(osinfo.get("id", ""))


def _is_rescue_disk(source: ElementTree.Element) -> bool:
    """Nova calls the disk that it rescues with so in all its backends: a file, an LVM volume, an image in Ceph."""
    return any(source.get(name, "").endswith("disk.rescue") for name in ("file", "dev", "name"))


def _balloon_period(root: ElementTree.Element) -> int | None:
    balloon = root.find("devices/memballoon")
    if balloon is None or balloon.get("model") in (None, "none"):
        return None
    stats = balloon.find("stats")
    period = "0" if stats is None else stats.get("period", "0")
    # No longer than libvirt's own type is wide, and no digits but ours.
    return int(period) if period.isascii() and period.isdecimal() and len(period) < 10 else 0


def _travelled(metadata: ElementTree.Element | None) -> Travelled:
    state = None if metadata is None else metadata.find(f"{{{STATE_NS}}}state")
    if state is None:
        return Travelled()
    return Travelled(state.get("established") == "true", uuid_in(state.get("fault_id")))


def uuid_in(text: str | None) -> str | None:
    """The uuid that this is, in its usual form; None where it is none."""
    try:
        found = str(UUID(text or ""))
    except ValueError:
        return None
    return found if found == (text or "").strip().lower() else None
