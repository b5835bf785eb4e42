"""What the cloud needs of the machine, besides what the lab needs. Must work on a bare Debian 12."""

from __future__ import annotations

from tests.lab import requirements as lab

PACKAGES = {
    **lab.PACKAGES,
    "mariadb-server-core": "/usr/sbin/mariadbd",
    "mariadb-client-core": "/usr/bin/mariadb",
    "qemu-utils": "/usr/bin/qemu-img",
}


def missing() -> list[str]:
    """What keeps the cloud from running here, one sentence each."""
    return lab.missing(PACKAGES)


def install() -> None:
    """Install the missing Debian packages; no service starts."""
    lab.install(PACKAGES)
