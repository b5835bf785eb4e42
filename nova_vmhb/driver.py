"""The hook in nova-compute: Nova's libvirt driver, which gives an instance its channels and its policy at spawn.

Nova loads it as `nova.virt.vmhb`, a file that `nova-vmhb-driver install` writes. Imports neither libvirt, which Nova
loads in its own time, nor eventlet, which a nova-compute with native threads refuses.

The one method that is overridden has had this signature since 2015, and is called for whatever makes Nova write a
domain's XML anew: spawn, hard reboot, start, rebuild, rescue, resize, unshelve, evacuation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nova.virt.libvirt import driver
from oslo_log import log

from nova_vmhb.guest_config import HeartbeatElement, PanicDevice, UnplacedChannel, all_or_nothing
from nova_vmhb.panic_device import choose
from nova_vmhb.wanted_policy import asked
from vmhb_common.model.policy import PORT_NAMES, Channel

LOG = log.getLogger(__name__)


class VmhbLibvirtDriver(driver.LibvirtDriver):
    """`compute_driver = vmhb.VmhbLibvirtDriver`. What no flavor asks for is as in the stock driver."""

    #: Why guests of this host have no panic device, as far as that was logged: it is the same for all of them.
    _without_panic_device: ClassVar[set[str]] = set()

    def _set_qemu_guest_agent(self, guest: Any, flavor: Any, instance: Any, image_meta: Any) -> None:
        super()._set_qemu_guest_agent(guest, flavor, instance, image_meta)
        try:
            with all_or_nothing(guest):
                self._add_heartbeat(guest, flavor, instance)
        except Exception:
            # Monitoring is not worth a spawn.
            LOG.exception(
                "nova-vmhb failed: the guest gets neither heartbeat channel nor policy from it, and is otherwise as "
                "the stock driver makes it",
                instance=instance,
            )

    def _add_heartbeat(self, guest: Any, flavor: Any, instance: Any) -> None:
        if not any(name.startswith("hw:heartbeat") for name in flavor.extra_specs):
            return  # and the instance's metadata, which may take a look into the database, is not needed
        wish = asked(flavor.extra_specs, instance.system_metadata)
        if wish is None:
            return
        for warning in wish.warnings:
            LOG.warning("%s", warning, instance=instance)
        if wish.error:
            LOG.error("will not be monitored: %s", wish.error, instance=instance)
        for channel in wish.channels:
            self._add_channel(guest, instance, channel)
        if wish.panic_device:
            self._add_panic_device(guest)
        element = HeartbeatElement(wish.knobs)
        element.format_dom()  # what XML cannot carry is to be found here, not when Nova writes the whole
        guest.metadata.append(element)

    def _add_channel(self, guest: Any, instance: Any, channel: Channel) -> None:
        name = PORT_NAMES[channel]
        if name in {getattr(device, "target_name", None) for device in guest.devices}:
            return  # the image asked for it as well
        if channel is Channel.AGENT:
            self._add_qga_device(guest, instance)  # Nova's own, at the path where others look for it
        else:
            guest.add_device(UnplacedChannel(name))

    def _add_panic_device(self, guest: Any) -> None:
        if any(getattr(device, "root_name", None) == "panic" for device in guest.devices):
            return  # somebody else gave it one
        choice = choose(guest.os_arch, lambda version: self._host.has_min_version(lv_ver=version))
        if choice.why and choice.why not in self._without_panic_device:
            self._without_panic_device.add(choice.why)
            LOG.warning("hw:heartbeat_panic_device: guests of this host get no panic device: %s", choice.why)
        if choice.model:
            guest.add_device(PanicDevice(choice.model))
