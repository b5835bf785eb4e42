"""The packages of worker, consumer, hooks and client: for Debian's own libraries, and with libraries of their own.

Built, looked at by that Debian's lintian, installed and purged there; and booted by its systemd.
There is neither libvirt nor a broker.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.container import Container
from tests.packages.conftest import got
from tools.lib import roots, service_packages
from tools.lib.roots import Recipe, Root

#: Where they are installed, with all that they depend on. Those that bring their own depend on next to nothing, and are
#: installed where they were built.
INSTALLED_IN = {
    **service_packages.BUNDLED,
    "sid": Recipe(
        "sid-run",
        "sid",
        (
            *(
                "python3-amqp",
                "python3-keystoneauth1",
                "python3-kombu",
                "python3-libvirt",
                "python3-lxml",
                "python3-nova",
            ),
            *("python3-openstacksdk", "python3-oslo.config", "python3-oslo.db", "python3-oslo.log"),
            *("python3-oslo.messaging", "python3-oslo.service", "python3-oslo.utils", "python3-oslo.versionedobjects"),
            *("python3-alembic", "python3-oslo.reports", "python3-oslo.upgradecheck"),
            *("python3-pymysql", "python3-sqlalchemy", "python3-stevedore"),
            *("dbus", "lintian", "logrotate", "systemd", "systemd-sysv"),
        ),
    ),
}
SERVICES = ("vmhb-worker", "nova-vmhb-consumer")
PROGRAMS = (*SERVICES, "nova-vmhb-manage", "nova-vmhb-status")


@functools.cache
def _built(suite: str) -> Path:
    return service_packages.build(suite)


@pytest.fixture(params=INSTALLED_IN)
def suite(request: pytest.FixtureRequest) -> str:
    """Debian's."""
    return str(request.param)


@pytest.fixture
def root(suite: str) -> Iterator[Root]:
    """One of that suite, with the packages in /share/built, and not yet installed."""
    built = got(lambda: _built(suite))
    got(lambda: roots.made(INSTALLED_IN[suite]))
    with roots.entered(INSTALLED_IN[suite]) as one:
        shutil.copytree(built, one.share / "built")
        yield one


def _install(root: Root) -> None:
    """By dpkg, which insists on what they depend on: all of it is there, and nothing is downloaded."""
    root.run("dpkg -i built/*.deb")


def test_lintian(root: Root, suite: str) -> None:
    """Of that Debian: no error and no warning; what is overridden is of the environment of its own, and says why."""
    said = root.run("lintian --allow-root --tag-display-limit 0 --show-overrides built/*.changes", check=False)
    hints = [line for line in said.splitlines() if re.match(r"[EWO]: ", line)]
    assert [line for line in hints if not line.startswith("O: ")] == [], said
    overridden = {line.split(" ")[1].rstrip(":") for line in hints}
    assert overridden <= ({"nova-vmhb-environment", "nova-vmhb"} if suite in service_packages.BUNDLED else set()), said


def test_installed(root: Root, suite: str) -> None:
    """The programs run, and find all that they import; secrets are nobody else's to read; all of it is purged."""
    before = root.run("find / -xdev ! -path '/share/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/var/*'").split("\n")
    _install(root)
    for program in PROGRAMS:
        assert "usage" in root.run(f"{program} --help").lower()
    for service, group in (("vmhb-worker", "root"), ("nova-vmhb-consumer", "vmhb")):
        assert root.run(f"stat -c '%a %U %G' /etc/vmhb/{service}.conf") == f"640 root {group}\n"
        said = root.run(f"{service} --config-file /etc/vmhb/{service}.conf --check-config", check=False)
        assert "unknown option" not in said and "Traceback" not in said, said
    assert root.run("id -nu vmhb") == "vmhb\n"
    root.run("logrotate --debug /etc/logrotate.d/vmhb-worker /etc/logrotate.d/nova-vmhb-consumer")
    root.run("systemd-analyze verify --man=no vmhb-worker.service nova-vmhb-consumer.service")
    root.run("dpkg --purge nova-vmhb-hooks nova-vmhb-consumer vmhb-worker nova-vmhb-environment python3-nova-vmhb")
    after = root.run("find / -xdev ! -path '/share/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/var/*'").split("\n")
    left = {path for path in set(after) - set(before) if "vmhb" in path}
    assert left == set()


def test_hooks(root: Root, suite: str) -> None:
    """Nova finds the driver, and its API our validators. Where Nova is older than our bounds no hooks are offered."""
    _install(root)
    if suite in service_packages.BUNDLED:
        assert not list((root.share / "built").glob("nova-vmhb-hooks_*"))
        return
    assert root.run("nova-vmhb-driver status")
    load = (
        "from nova.api.validation.extra_specs import validators as v; v.load_validators(); print(sorted(v.VALIDATORS))"
    )
    assert "hw:heartbeat_interval" in root.run(f'python3 -c "{load}"')


def test_booted(suite: str, tmp_path: Path) -> None:
    """By systemd: both are started by their installation, run, as who they should, and are stopped by their removal."""
    built = got(lambda: _built(suite))
    lower = got(lambda: roots.made(INSTALLED_IN[suite]))
    share = tmp_path / "share"
    shutil.copytree(built, share)
    with Container(share, lower) as one:
        one.run("dpkg -i /share/*.deb", timeout=300)
        for service in SERVICES:
            shown = one.shown(service)
            said = one.run(f"journalctl -q -o cat -u {service}")
            assert (shown["LoadState"], shown["UnitFileState"]) == ("loaded", "enabled")
            assert (shown["NRestarts"], shown["ActiveState"]) in (("0", "active"), ("0", "activating")), said
        assert one.run("ps -o user= -C nova-vmhb-consum | sort -u", check=False).split() in (["vmhb"], [])
        one.run("dpkg --purge nova-vmhb-hooks nova-vmhb-consumer vmhb-worker", timeout=120)
        assert one.run("systemctl list-units --all --plain --no-legend '*vmhb*'").strip() == ""
        assert one.run("ls -d /var/lib/vmhb* /var/log/vmhb* 2>/dev/null || true") == ""
