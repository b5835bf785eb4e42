"""What the tests of the deployment tools need of the machine. Must work on a bare Debian 12."""

from __future__ import annotations

from tests.cloud import requirements as cloud
from tests.lab import requirements as lab

PACKAGES = {
    **cloud.PACKAGES,
    "ansible": "/usr/bin/ansible-playbook",
    "ansible-lint": "/usr/bin/ansible-lint",
    "buildah": "/usr/bin/buildah",
    "podman": "/usr/bin/podman",
    "python3-bashate": "/usr/bin/bashate",
    "python3-pymysql": "/usr/lib/python3/dist-packages/pymysql/__init__.py",
    "runc": "/usr/sbin/runc",
    "shellcheck": "/usr/bin/shellcheck",
    "systemd-container": "/usr/bin/systemd-nspawn",
    "yamllint": "/usr/bin/yamllint",
}


def missing() -> list[str]:
    """What keeps them from running here, one sentence each."""
    return lab.missing(PACKAGES)


def install() -> None:
    """Install the missing Debian packages; no service starts."""
    lab.install(PACKAGES)
