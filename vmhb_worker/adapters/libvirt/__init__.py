"""libvirt, behind the port `Hypervisor` of `interfaces`. Nothing outside this package imports libvirt.

| module | knows |
| --- | --- |
| `adapter` | which thread does what; the connections' life |
| `connection` | libvirt's event loop, one connection, and those for calls that may block |
| `event_map` | libvirt's events -> ours |
| `report_order` | the order in which reports leave (no libvirt) |
| `domains` | a domain's description; its QEMU's process is `process`'s (no libvirt) |
| `queries`, `pool` | the questions about one domain; who may wait for the answers (`pool`: no libvirt) |
| `provisioning` | what a running domain is given that it lacks: policy, channel |
| `agent_commands` | guest-agent commands, and libvirt's errors as failures |
| `constants` | libvirt's numbers -> the names that `core.lifecycle` uses |
| `check` | `--check-config` |
"""

from vmhb_worker.adapters.libvirt.adapter import LibvirtHypervisor
from vmhb_worker.adapters.libvirt.check import check

__all__ = ["LibvirtHypervisor", "check"]
