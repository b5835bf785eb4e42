"""The shim, and the command that writes it, on a model of Nova: as much of it as an import takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nova_vmhb.cmd import driver
from nova_vmhb.shim import MARK, TEXT, Foreign, Shim, State

ROOT = Path(__file__).parent.parent.parent.parent

STOCK = "class LibvirtDriver:\n    def _set_qemu_guest_agent(self, guest, flavor, instance, image_meta): pass\n"
FOREIGN = "# The work of somebody else.\n"


@pytest.fixture
def virt(tmp_path: Path) -> Path:
    """The folder nova/virt of an installation under tmp_path."""
    folder = tmp_path / "nova" / "virt"
    (folder / "libvirt").mkdir(parents=True)
    for package in (folder.parent, folder, folder / "libvirt"):
        (package / "__init__.py").touch()
    (folder / "driver.py").touch()
    (folder / "libvirt" / "driver.py").write_text(STOCK)
    (folder / "libvirt" / "config.py").write_text("")
    return folder


def run(what: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """The command, where Python finds this Nova."""
    search = os.pathsep.join(map(str, [*path, ROOT]))
    return subprocess.run(
        [sys.executable, "-m", "nova_vmhb.cmd.driver", what],
        cwd="/",  # what is here is found by PYTHONPATH, and last
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


def broken(folder: Path) -> Path:
    """A nova_vmhb that cannot be imported, to be found before the real one."""
    package = folder / "broken"
    (package / "nova_vmhb").mkdir(parents=True)
    (package / "nova_vmhb" / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    return package


def test_it_comes_and_goes(virt: Path) -> None:
    """As often as one likes, and nothing is left behind."""
    before = sorted(virt.rglob("*"))
    ours = Shim(virt)
    assert ours.state() is State.ABSENT
    assert ours.install() is State.ABSENT
    assert ours.install() is State.INSTALLED
    assert ours.path.stat().st_mode & 0o777 == 0o644
    assert ours.remove() is State.INSTALLED
    assert ours.remove() is State.ABSENT
    assert sorted(virt.rglob("*")) == before


def test_an_older_one_is_replaced(virt: Path) -> None:
    """What bears our mark is ours, whatever it says."""
    ours = Shim(virt)
    ours.path.write_text(f"{MARK} of old\n")
    assert ours.install() is State.OUTDATED
    assert ours.path.read_text() == TEXT
    ours.path.write_text(f"{MARK} of old\n")
    assert ours.remove() is State.OUTDATED
    assert not ours.path.exists()


def foreign_file(folder: Path) -> None:
    (folder / "vmhb.py").write_text(FOREIGN)


def foreign_package(folder: Path) -> None:
    (folder / "vmhb").mkdir()
    (folder / "vmhb" / "__init__.py").write_text(FOREIGN)


def foreign_folder(folder: Path) -> None:
    (folder / "vmhb.py").mkdir()


def foreign_link(folder: Path) -> None:
    (folder / "vmhb.py").symlink_to("nowhere")


@pytest.mark.parametrize("put", [foreign_file, foreign_package, foreign_folder, foreign_link])
def test_what_is_not_ours_is_left_alone(virt: Path, put: Callable[[Path], None]) -> None:
    """Neither overwritten nor removed; and the command says so."""
    put(virt)
    before = sorted(virt.rglob("*"))
    for act in (Shim(virt).install, Shim(virt).remove):
        with pytest.raises(Foreign, match="is not ours"):
            act()
    for what in ("install", "status", "remove"):
        assert driver.run([what], lambda: virt) == driver.REFUSED
    assert sorted(virt.rglob("*")) == before


def test_a_write_that_fails_leaves_nothing(virt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nova-compute that starts meanwhile sees all of it or nothing."""

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    before = sorted(virt.rglob("*"))
    assert driver.run(["install"], lambda: virt) == driver.REFUSED
    assert sorted(virt.rglob("*")) == before


def test_the_command(virt: Path) -> None:
    """What an operator sees. (This model of Nova is too small for our driver, so status finds it broken.)"""
    path = virt / "vmhb.py"
    status = run("status", virt.parent.parent)
    assert (status.returncode, status.stdout) == (1, f"{path}: not installed. Run: nova-vmhb-driver install\n")
    install = run("install", virt.parent.parent)
    assert install.returncode == 0
    assert install.stdout.splitlines() == [
        f"{path}: written",
        "Now set [DEFAULT] compute_driver = vmhb.VmhbLibvirtDriver in nova.conf, and restart nova-compute.",
    ]
    assert run("install", virt.parent.parent).stdout == f"{path}: already there\n"
    remove = run("remove", virt.parent.parent)
    assert remove.returncode == 0
    assert remove.stdout.startswith(f"{path}: removed\n")
    assert run("remove", virt.parent.parent).stdout == f"{path}: was not there\n"


def test_without_our_package_nova_goes_on(virt: Path, tmp_path: Path) -> None:
    """The shim gives the stock driver and logs an error; status shows both."""
    search = [broken(tmp_path), virt.parent.parent]
    Shim(virt).install()
    status = run("status", *search[1:])
    assert status.returncode == 2
    load = subprocess.run(
        [sys.executable, "-c", "from nova.virt.vmhb import VmhbLibvirtDriver as d; print(d.__module__)"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, search))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert load.stdout == "nova.virt.libvirt.driver\n"
    assert "nova-vmhb cannot be loaded" in load.stderr
    assert "half installed" in load.stderr


def test_no_nova(tmp_path: Path) -> None:
    """The message says which Python has none, and what to do."""
    answer = run("install", tmp_path)
    assert answer.returncode == 2
    assert "cannot import nova" in answer.stderr
    assert "the Python that runs nova-compute" in answer.stderr


def test_half_a_nova(virt: Path) -> None:
    """Another package's share in nova.virt is not Nova."""
    (virt / "driver.py").unlink()
    answer = run("install", virt.parent.parent)
    assert answer.returncode == 2
    assert "damaged" in answer.stderr


def test_nova_virt_in_several_folders(virt: Path, tmp_path: Path) -> None:
    """Before 2025.1 nova.virt was a namespace: the shim goes where Nova's own modules are."""
    (virt / "__init__.py").unlink()
    other = tmp_path / "other" / "nova"
    (other / "virt").mkdir(parents=True)
    (virt.parent / "__init__.py").write_text(f"__path__.insert(0, {str(other)!r})\n")
    answer = run("install", tmp_path)
    assert answer.returncode == 0
    assert (virt / "vmhb.py").exists()
