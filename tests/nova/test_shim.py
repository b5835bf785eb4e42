"""The shim in copies of the real Nova, installed in the ways that there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import nova.virt
import pytest
from nova.virt import driver as nova_driver
from nova.virt import fake

from nova_vmhb.shim import COMPUTE_DRIVER, Shim
from tests.nova.cloud import ComputeNode, running

ROOT = Path(__file__).parent.parent.parent
#: Where the rest of Nova, and all that it imports, is.
PACKAGES = Path(nova.virt.__file__).parent.parent.parent

#: Nothing is to come from a network.
_PIP = ("--no-index", "--disable-pip-version-check")

#: What nova-compute does with its option, as far as that goes without libvirt.
LOAD = f"""
from oslo_utils import importutils
driver = importutils.import_class("nova.virt.{COMPUTE_DRIVER}")
print(driver.__module__, driver.__name__)
"""


def copy_of_nova(packages: Path) -> Path:
    """Nova with a nova/virt of its own, and all else linked. Returns that."""
    home = packages / "nova"
    home.mkdir(parents=True)
    for entry in (PACKAGES / "nova").iterdir():
        if entry.name not in ("virt", "__pycache__"):
            (home / entry.name).symlink_to(entry)
    shutil.copytree(PACKAGES / "nova" / "virt", home / "virt", ignore=shutil.ignore_patterns("__pycache__"))
    return home / "virt"


@dataclass(frozen=True)
class Installation:
    """A Python and where it looks for Nova. virt: the folder where the shim belongs."""

    virt: Path
    python: str = sys.executable
    search: Sequence[Path] = ()

    def run(self, *arguments: str, before: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
        """Start this Python."""
        search = os.pathsep.join(map(str, [*before, *self.search, ROOT]))
        return subprocess.run(
            [self.python, "-P", *arguments],
            env={**os.environ, "PYTHONPATH": search},
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, what: str) -> subprocess.CompletedProcess[str]:
        """nova-vmhb-driver."""
        return self.run("-m", "nova_vmhb.cmd.driver", what)


def target(folder: Path) -> Installation:
    """`pip install --target`: Nova in a folder of its own, named by PYTHONPATH."""
    return Installation(copy_of_nova(folder / "target"), search=[folder / "target"])


def editable(folder: Path) -> Installation:
    """`pip install --editable`, as DevStack has it: a line in site-packages names Nova's repository."""
    repository = folder / "repository"
    return _environment(folder, copy_of_nova(repository), repository)


def editable_with_a_finder(folder: Path) -> Installation:
    """The same as today's pip and setuptools do it (PEP 660): an import hook knows where the repository is."""
    repository = folder / "repository"
    virt = copy_of_nova(repository)
    (repository / "setup.py").write_text("from setuptools import setup\nsetup(name='a-nova', packages=['nova'])\n")
    installation = _environment(folder, virt, rest=_without(folder, "nova"))
    done = installation.run("-m", "pip", "install", *_PIP, "--no-deps", "--no-build-isolation", "-e", str(repository))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((folder / "venv" / "lib").glob("python*/site-packages/__editable___a_nova*finder.py"))
    return installation


def environment(folder: Path) -> Installation:
    """A virtual environment that has Nova inside."""
    packages = folder / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    installation = _environment(folder, packages / "nova" / "virt")
    copy_of_nova(packages)
    return installation


def _environment(folder: Path, virt: Path, *lines: Path, rest: Path = PACKAGES) -> Installation:
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "paths.pth").write_text("".join(f"{line}\n" for line in (*lines, rest)))
    return Installation(virt, str(python))


def _without(folder: Path, *names: str) -> Path:
    """All that Nova's environment has, but for these, which are patterns."""
    rest = folder / "rest"
    rest.mkdir()
    for entry in PACKAGES.iterdir():
        if entry.suffix != ".pth" and not any(fnmatch(entry.name, name) for name in names):
            (rest / entry.name).symlink_to(entry)
    return rest


@pytest.mark.parametrize("install", [target, editable, editable_with_a_finder, environment])
def test_install_status_remove(tmp_path: Path, install: Callable[[Path], Installation]) -> None:
    """Beside the nova.virt that this Python imports, and nowhere else; and Nova then loads our driver."""
    nova_there = install(tmp_path)
    assert nova_there.command("status").returncode == 1
    written = nova_there.command("install")
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith(f"{nova_there.virt}/vmhb.py: written\n")
    assert (nova_there.virt / "vmhb.py").exists()
    assert not (PACKAGES / "nova" / "virt" / "vmhb.py").exists()
    status = nova_there.command("status")
    assert status.returncode == 0, status.stdout + status.stderr
    assert "installed, and gives nova_vmhb.driver.VmhbLibvirtDriver" in status.stdout
    assert nova_there.run("-c", LOAD).stdout.split() == ["nova_vmhb.driver", "VmhbLibvirtDriver"]
    assert nova_there.command("remove").returncode == 0
    gone = nova_there.run("-c", LOAD)
    assert "No module named 'nova.virt.vmhb'" in gone.stderr


def test_a_broken_package(tmp_path: Path) -> None:
    """nova-compute starts, with the stock driver and an error in its log."""
    nova_there = target(tmp_path)
    nova_there.command("install")
    half = tmp_path / "half" / "nova_vmhb"
    half.mkdir(parents=True)
    (half / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    loaded = nova_there.run("-c", LOAD, before=[half.parent])
    assert loaded.stdout.split() == ["nova.virt.libvirt.driver", "LibvirtDriver"]
    assert "nova-vmhb cannot be loaded" in loaded.stderr
    assert "half installed" in loaded.stderr


def test_no_eventlet_and_no_libvirt(tmp_path: Path) -> None:
    """A nova-compute with native threads refuses the first, where this release has them; Nova loads the second in its
    own time."""
    nova_there = target(tmp_path)
    nova_there.command("install")
    threads = "from nova import monkey_patch; monkey_patch.patch()\n"  # the environment says how: tests.nova
    refuse = "import sys; sys.modules['libvirt'] = None\n"
    loaded = nova_there.run("-c", threads + refuse + LOAD)
    assert loaded.stdout.split() == ["nova_vmhb.driver", "VmhbLibvirtDriver"], loaded.stderr


def test_nova_starts_with_what_the_shim_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nova's own loader takes the stock driver under our name, and makes one of it."""
    Shim(tmp_path).install()
    monkeypatch.setattr(nova.virt, "__path__", [*nova.virt.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nova.virt.vmhb", raising=False)
    monkeypatch.setitem(sys.modules, "nova_vmhb.driver", None)
    with running(ComputeNode()):
        driver = nova_driver.load_compute_driver(fake.FakeVirtAPI(), COMPUTE_DRIVER)
    assert type(driver).__module__ == "nova.virt.libvirt.driver"
    monkeypatch.delitem(sys.modules, "nova.virt.vmhb")


def wheels(folder: Path) -> Path:
    """A folder with our own wheel."""
    source = folder / "source"
    source.mkdir()
    for name in ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_worker", "etc"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "requirements.txt", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *_PIP, "--no-deps", "--no-build-isolation", "-w", "wheels", "./source"],
        cwd=folder,
        env={**os.environ, "PBR_VERSION": "0.0.1"},
        capture_output=True,
        check=True,
    )
    return folder / "wheels"


def documented(pattern: str) -> str:
    """The one line of docs/nova.rst that matches, without what comes before its group."""
    (found,) = re.findall(pattern, (ROOT / "docs" / "nova.rst").read_text(), re.MULTILINE)
    return str(found)


def test_the_snippets_of_the_documentation(tmp_path: Path) -> None:
    """Run as they stand, in a container's image and before nova-compute starts. Nova's environment has all we need."""
    packages = tmp_path / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    rest = _without(tmp_path, "nova", "nova_vmhb*", "vmhb_*", "__editable__*")
    python = Path(_environment(tmp_path, packages / "nova" / "virt", rest=rest).python)
    shim = copy_of_nova(packages) / "vmhb.py"
    (python.parent / "pip").write_text(f'#!/bin/sh\nexec {python} -m pip "$@"\n')
    (python.parent / "pip").chmod(0o755)
    environ = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
    }

    def shell(command: str) -> str:
        done = subprocess.run(["sh", "-c", command], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # The wheel is where COPY would have put it, in a folder of this test's.
    said = shell(documented("^    RUN (.+)$").replace("/tmp/", f"{wheels(tmp_path)}/"))
    assert f"{shim}: installed, and gives nova_vmhb.driver.VmhbLibvirtDriver" in said
    shim.unlink()
    # systemd's own prefixes go; the path is to be this environment's, says the text.
    program, arguments = documented("^    ExecStartPre=-[+](.+)$").split(maxsplit=1)
    assert program == "/usr/bin/nova-vmhb-driver"
    shell(f"{python.parent}/{Path(program).name} {arguments}")
    assert shim.exists()
