"""The file in `nova/virt/` through which Nova finds our driver: written, looked at and removed. Never imports nova.

Nova puts `nova.virt.` before whatever `compute_driver` names. A wheel must not ship files there: it would hide an
editable Nova, which then has no other module. So the file is written where Nova is, when it is deployed.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: `[DEFAULT] compute_driver` in nova.conf of nova-compute.
COMPUTE_DRIVER = "vmhb.VmhbLibvirtDriver"
MODULE = "nova.virt.vmhb"

#: A file that begins with this is ours to overwrite and to remove.
MARK = "# Written by nova-vmhb-driver"
TEXT = f'''{MARK} install; taken away by nova-vmhb-driver remove. Do not edit.
"""Lets `compute_driver = {COMPUTE_DRIVER}` find nova-vmhb; without it, gives Nova's own libvirt driver."""

from oslo_log import log

try:
    from nova_vmhb.driver import VmhbLibvirtDriver
except Exception:
    log.getLogger(__name__).exception(
        "nova-vmhb cannot be loaded: new guests get no heartbeat channels from it. Going on with Nova's own libvirt "
        "driver. Install nova-vmhb into the Python that runs nova-compute, or set compute_driver = "
        "libvirt.LibvirtDriver and run nova-vmhb-driver remove."
    )
    from nova.virt.libvirt.driver import LibvirtDriver as VmhbLibvirtDriver  # noqa: F401
'''


class State(enum.Enum):
    """What is where the shim belongs."""

    ABSENT = "absent"
    INSTALLED = "installed"
    OUTDATED = "outdated"  # ours, with another text
    FOREIGN = "foreign"


class Foreign(Exception):
    """Something that is not ours is in the way. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Shim:
    """The shim of one Nova. folder: its `nova/virt`."""

    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "vmhb.py"

    def state(self) -> State:
        """Look at it. Raises OSError where it cannot be read."""
        if (self.folder / "vmhb" / "__init__.py").exists():
            return State.FOREIGN  # a package goes before a module of the same name
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return State.FOREIGN if self.path.is_symlink() else State.ABSENT
        except IsADirectoryError:
            return State.FOREIGN
        if text == TEXT.encode():
            return State.INSTALLED
        return State.OUTDATED if text.startswith(MARK.encode()) else State.FOREIGN

    def install(self) -> State:
        """Write it unless it is there, and tell how it was before. Raises Foreign, OSError."""
        before = self._ours()
        if before is not State.INSTALLED:
            self._write()
        return before

    def remove(self) -> State:
        """Remove it if it is there, and tell how it was before. Raises Foreign, OSError."""
        before = self._ours()
        if before is not State.ABSENT:
            self.path.unlink()
            Path(importlib.util.cache_from_source(str(self.path))).unlink(missing_ok=True)
        return before

    def _ours(self) -> State:
        state = self.state()
        if state is State.FOREIGN:
            raise Foreign(f"{self.path} is not ours, and is left alone: see what put it there, and take it away")
        return state

    def _write(self) -> None:
        """All of it or nothing: a nova-compute may be starting."""
        handle, name = tempfile.mkstemp(prefix=".vmhb-", suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(TEXT)
            os.chmod(name, 0o644)  # nova-compute runs as another user, and an image may be built with a umask
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise
