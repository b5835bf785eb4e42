"""Which panic device a guest gets."""

from __future__ import annotations

import pytest

from nova_vmhb.panic_device import MODELS, Choice, Version, choose


def newer(version: Version) -> bool:
    """A host whose libvirt is new enough for everything."""
    return True


@pytest.mark.parametrize(
    ("arch", "model"),
    [
        *(("x86_64", "isa"), ("i686", "isa"), ("aarch64", "pvpanic")),
        # libvirt gives them one by itself, and refuses another.
        *(("s390x", ""), ("s390", ""), ("ppc64le", ""), ("ppc64", "")),
    ],
)
def test_each_architecture_has_its_own(arch: str, model: str) -> None:
    """And hears no complaint."""
    assert choose(arch, newer) == Choice(model)


@pytest.mark.parametrize(
    ("installed", "model"), [((9, 0, 0), ""), ((9, 1, 0), "pvpanic"), ((10, 0, 0), "pvpanic"), ((8, 10, 0), "")]
)
def test_an_older_libvirt_knows_none_for_arm(installed: Version, model: str) -> None:
    """It would refuse the whole domain; on x86 each libvirt that Nova takes knows the port."""
    choice = choose("aarch64", lambda version: installed >= version)
    assert choice.model == model
    assert ("9.1.0" in choice.why) is (not model)
    assert choose("x86_64", lambda version: installed >= version) == Choice("isa")


@pytest.mark.parametrize("arch", ["riscv64", "loongarch64", "mips", "", None])
def test_an_architecture_that_is_not_known_has_none(arch: str | None) -> None:
    """Which says why, by name where it has one."""
    choice = choose(arch, newer)
    assert not choice.model
    assert (arch or "an unknown architecture") in choice.why


def test_hyper_vs_is_never_chosen() -> None:
    """It says nothing of crash dumps."""
    assert {model.name for model in MODELS.values()} == {"", "isa", "pvpanic"}
