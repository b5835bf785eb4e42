"""Which panic device a guest gets that is to have one: by its architecture. Pure.

Through it a guest's kernel tells that it dies, which nobody has to find out then. Only what a stock Linux has a driver
for; Hyper-V's way of telling (the model `hyperv`) is not offered, since it says nothing of crash dumps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Model:
    """name: libvirt's; "": libvirt gives every guest of the architecture one by itself. since: the oldest libvirt."""

    name: str
    since: Version = (0, 0, 0)


_BY_ITSELF = Model("")
#: On x86 a port that drivers of Linux and of Windows know; elsewhere a PCI device, which Linux 5.13 and later know.
MODELS: Mapping[str, Model] = {
    "i686": Model("isa"),
    "x86_64": Model("isa"),
    "aarch64": Model("pvpanic", (9, 1, 0)),
    "ppc64": _BY_ITSELF,
    "ppc64le": _BY_ITSELF,
    "s390": _BY_ITSELF,
    "s390x": _BY_ITSELF,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """model: what the guest gets, "": nothing from us. why: why it has none at all, "": it has one."""

    model: str = ""
    why: str = ""


def choose(arch: str | None, has_libvirt: Callable[[Version], bool]) -> Choice:
    """For a guest of this architecture, by Nova's name. has_libvirt: is the host's at least of this version?"""
    model = MODELS.get(arch or "")
    if model is None:
        return Choice(why=f"none is known for {arch or 'an unknown architecture'}")
    if not has_libvirt(model.since):
        return Choice(why=f"for {arch} it takes libvirt {'.'.join(map(str, model.since))}")
    return Choice(model.name)
