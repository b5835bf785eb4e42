"""What goes into a domain's XML, as Nova's own configuration objects. No I/O; decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lxml import etree
from nova.virt.libvirt import config

from vmhb_common.model.policy import KNOBS, POLICY_NS

#: The version of our element. A worker that does not know it may still read the attributes that it knows.
VERSION = "1"
_ORDER = {knob.name: place for place, knob in enumerate(KNOBS)}


class UnplacedChannel(config.LibvirtConfigGuestDevice):
    """A virtio-serial channel whose socket libvirt places, which makes a new one wherever the domain migrates to.

    Not Nova's own class for channels, which cannot do without a path.
    """

    def __init__(self, target_name: str) -> None:
        super().__init__(root_name="channel")
        self.target_name = target_name

    def format_dom(self) -> etree._Element:
        """The element."""
        channel = super().format_dom()
        channel.set("type", "unix")
        channel.append(etree.Element("target", type="virtio", name=self.target_name))
        return channel


class PanicDevice(config.LibvirtConfigGuestDevice):
    """Through which the guest's kernel tells that it dies. Nova has no class for it."""

    def __init__(self, model: str) -> None:
        super().__init__(root_name="panic")
        self.model = model

    def format_dom(self) -> etree._Element:
        """The element."""
        panic = super().format_dom()
        panic.set("model", self.model)
        return panic


class HeartbeatElement(config.LibvirtConfigObject):
    """The policy in the domain's metadata: one attribute for each knob that was asked for, by its bare name."""

    def __init__(self, knobs: Mapping[str, str]) -> None:
        super().__init__(root_name="heartbeat", ns_prefix="vmhb", ns_uri=POLICY_NS)
        self.knobs = knobs

    def format_dom(self) -> etree._Element:
        """The element. Raises ValueError for text that XML cannot carry."""
        element = super().format_dom()
        element.set("version", VERSION)
        for name in sorted(self.knobs, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)):
            element.set(name, self.knobs[name])
        return element


@contextmanager
def all_or_nothing(guest: config.LibvirtConfigGuest) -> Iterator[None]:
    """Whatever is raised inside leaves the guest's devices and metadata as they were."""
    lists: list[list[Any]] = [guest.devices, guest.metadata]
    before = [list(each) for each in lists]
    try:
        yield
    except BaseException:
        for each, as_it_was in zip(lists, before, strict=True):
            each[:] = as_it_was
        raise
