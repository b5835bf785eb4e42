"""What the lab needs of the machine, and how to get it on Debian.

Knows nothing of the rest of the lab, and must work on a bare Debian 12.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping

PACKAGES = {  # package -> a file by which we know that it is there
    "libvirt-daemon": "/usr/sbin/libvirtd",
    "libvirt-daemon-driver-qemu": "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "libvirt-daemon-system": "/usr/lib/systemd/system/libvirtd.service",
    "libvirt-clients": "/usr/bin/virsh",
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "mariadb-server": "/usr/sbin/mariadbd",
    "postgresql-15": "/usr/lib/postgresql/15/bin/postgres",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "util-linux": "/usr/bin/unshare",
    "mount": "/usr/bin/mount",
}

DISK_MIB = 1800  # packages ~800, guest ~30 (~250 while it is built), Debian ~360 (~600), the lab's own files ~50
MEMORY_MIB = 1000  # RabbitMQ ~150, libvirtd ~50, ~180 for each guest

POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


def missing(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """What keeps the lab from running here, one sentence each; empty: nothing."""
    return [*_missing_of_the_machine(), *(f"Debian package {p} is missing." for p in _absent(packages))]


def install(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install the missing Debian packages, without starting the services that they bring."""
    absent = _absent(packages)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Always: the guest's own packages are downloaded by version from this list.
    subprocess.run(["apt-get", "-q", "update"], check=True, env=environment)
    if absent:
        with _no_service_starts():
            subprocess.run(
                ["apt-get", "-q", "-y", "--no-install-recommends", "install", *absent],
                check=True,
                env=environment,
            )


def _absent(packages: Mapping[str, str]) -> list[str]:
    return [package for package, path in packages.items() if not os.path.exists(path)]


def _missing_of_the_machine() -> Iterator[str]:
    if os.uname().machine != "x86_64":
        yield f"The guest is an x86_64 one, this machine is {os.uname().machine}."
    if not shutil.which("apt-get"):
        yield "The guest is built from Debian packages, and there is no apt-get here."
    if os.geteuid() != 0:
        yield "The lab must run as root: libvirtd does, in mount namespaces of its own."
    elif shutil.which("unshare"):
        done = subprocess.run(
            ["unshare", "--mount", "--uts", "--propagation", "private", "true"],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            yield (
                "Mount and UTS namespaces can't be made (CAP_SYS_ADMIN, in a container "
                f"--privileged): {done.stderr.strip()}"
            )
    free = shutil.disk_usage("/tmp").free >> 20
    if free < DISK_MIB:
        yield f"/tmp has {free} MiB free; the lab wants {DISK_MIB}."
    available = _available_memory()
    if available < MEMORY_MIB:
        yield f"{available} MiB of memory are available; a small lab wants {MEMORY_MIB}."


def _available_memory() -> int:
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid package scripts to start services, unless the machine has rules of its own.

    policy-rc.d is Debian's way (invoke-rc.d(8)): exit code 101 means "not allowed".
    """
    try:
        with open(POLICY, "x", encoding="ascii") as policy:
            policy.write("#!/bin/sh\n# Temporary: nova-vmhb's lab installs.\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
