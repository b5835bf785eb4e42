"""`nova-vmhb-driver install|status|remove`: the shim of the Nova that this Python imports."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nova_vmhb.shim import COMPUTE_DRIVER, MODULE, Foreign, Shim, State

#: Exit codes. REFUSED: nothing was changed, and somebody has to look.
GOOD, TO_DO, REFUSED = 0, 1, 2

#: What nova-compute does when it starts, in a process of its own: what is loaded tells which driver it would get.
#: Nothing is loaded from the folder that one happens to be in: -P, which Python 3.10 has not.
_LOAD = (
    "import sys; sys.path[:] = filter(None, sys.path)\n"
    f"from {MODULE} import VmhbLibvirtDriver as driver; print(driver.__module__, driver.__name__, sep='.')"
)
_LOADED = "nova_vmhb.driver.VmhbLibvirtDriver"
_LOAD_SECONDS = 120


class NotFound(Exception):
    """There is no Nova to write to. The text says what to do."""


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], find: Callable[[], Path] | None = None) -> int:
    """Exit code: 0 it is as asked for; 1 status only: `install` is to do; 2 refused or broken, see the message."""
    parser = argparse.ArgumentParser(
        prog="nova-vmhb-driver",
        description="Let Nova find nova-vmhb's libvirt driver. Run it with the Python that runs nova-compute.",
        epilog=f"Then, in nova-compute's nova.conf: [DEFAULT] compute_driver = {COMPUTE_DRIVER}",
    )
    parser.add_argument(
        "what",
        choices=("install", "status", "remove"),
        help="install: write nova/virt/vmhb.py, as often as you like; status: is it there, and does it work? (0 yes, "
        "1 not installed, 2 broken); remove: take it away",
    )
    what = parser.parse_args(arguments).what
    try:
        return _COMMANDS[what](Shim((find or nova_virt)()))
    except (NotFound, Foreign, OSError) as error:
        print(f"nova-vmhb-driver {what}: {error}", file=sys.stderr)
        return REFUSED


def nova_virt() -> Path:
    """The folder that `nova.virt` is imported from; its modules are not imported. Raises NotFound."""
    try:
        spec = importlib.util.find_spec("nova.virt")
    except ImportError as error:
        raise NotFound(
            f"{sys.executable} cannot import nova ({error}): install nova-vmhb into the Python that runs nova-compute, "
            "and run its nova-vmhb-driver"
        ) from None
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        if (folder / "driver.py").exists():  # Nova before 2025.1: others may have a share in nova.virt
            return folder
    raise NotFound(f"{sys.executable} finds a nova without nova.virt.driver: its installation is damaged")


def _install(shim: Shim) -> int:
    before = shim.install()
    said = {State.ABSENT: "written", State.OUTDATED: "brought up to date", State.INSTALLED: "already there"}
    print(f"{shim.path}: {said[before]}")
    if before is State.ABSENT:
        print(f"Now set [DEFAULT] compute_driver = {COMPUTE_DRIVER} in nova.conf, and restart nova-compute.")
    return GOOD


def _status(shim: Shim) -> int:
    state = shim.state()
    if state is State.FOREIGN:
        print(f"{shim.path}: not ours. nova-vmhb-driver neither overwrites nor removes it.")
        return REFUSED
    if state is not State.INSTALLED:
        text = "not installed" if state is State.ABSENT else "of another version of nova-vmhb"
        print(f"{shim.path}: {text}. Run: nova-vmhb-driver install")
        return TO_DO
    loaded, complaint = _load()
    if loaded != _LOADED:
        print(f"{shim.path}: installed, but gives {loaded or 'no driver at all'}: nova-vmhb cannot be loaded:")
        print(complaint)
        return REFUSED
    print(f"{shim.path}: installed, and gives {loaded}")
    print(f"nova-compute uses it where nova.conf says [DEFAULT] compute_driver = {COMPUTE_DRIVER}")
    return GOOD


def _remove(shim: Shim) -> int:
    before = shim.remove()
    print(f"{shim.path}: {'was not there' if before is State.ABSENT else 'removed'}")
    if before is not State.ABSENT:
        print("nova-compute starts again once nova.conf says [DEFAULT] compute_driver = libvirt.LibvirtDriver")
    return GOOD


def _load() -> tuple[str, str]:
    """Which driver a nova-compute that starts now would get, and what it would say on the way."""
    try:
        done = subprocess.run(  # noqa: S603 -- ourselves, and a constant
            [sys.executable, "-c", _LOAD],
            capture_output=True,
            text=True,
            timeout=_LOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_LOAD_SECONDS} s"
    last = done.stdout.strip().splitlines()[-1:]
    return "".join(last), done.stderr.strip()


_COMMANDS: dict[str, Callable[[Shim], int]] = {"install": _install, "status": _status, "remove": _remove}

if __name__ == "__main__":
    main()
