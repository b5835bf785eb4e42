"""What is installed: the entry points load, and the unit says what the worker relies on."""

from __future__ import annotations

import configparser
import importlib
import re
from pathlib import Path

from vmhb_consumer.settings import FaultSettings

ROOT = Path(__file__).parent.parent.parent


def test_entry_points_load() -> None:
    """Every entry point of setup.cfg names something that is there. Nova's and Masakari's need these to load."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    rows = [row for group in setup["entry_points"].values() for row in group.strip().splitlines()]
    assert rows
    for row in rows:
        module, _, name = row.split(" = ")[1].partition(":")
        if name and module != "nova_vmhb.masakari_tasks":
            assert callable(getattr(importlib.import_module(module), name))
        else:
            source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
            assert (f"class {name}(" if name else "def register() ") in source


def test_every_package_is_installed() -> None:
    """All of ours but vmhb-guest, which is a distribution of its own, and what only develops them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {*setup["files"]["packages"].split()} == packages - {"vmhb_guest", "tests", "tools", "benchmarks"}


def test_what_is_installed_is_there() -> None:
    """Every file that setup.cfg installs exists, and every sample for a backend is among them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    words = setup["files"]["data_files"].split()
    installed = {word for word in words if word.startswith("etc/") and (ROOT / word).is_file()}
    folders = ("aodh", "ceilometer", "mistral", "reporter", "vitrage")
    samples = {str(path.relative_to(ROOT)) for one in folders for path in (ROOT / "etc" / one).rglob("*.*")}
    assert samples <= installed
    assert not [word for word in words if word.startswith("etc/") and not (ROOT / word).exists()]
    assert "etc/rabbitmq/vmhb-rights" in installed


def service_of(unit: str) -> configparser.SectionProxy:
    """What a systemd unit of ours says of its service."""
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "etc/systemd" / unit)
    return parser["Service"]


def test_systemd_unit() -> None:
    """The unit feeds what the code expects: notify, a watchdog, restart, and the default state folder."""
    service = service_of("vmhb-worker.service")
    assert (service["Type"], service["WatchdogSec"], service["Restart"]) == ("notify", "30", "always")
    assert service["StateDirectory"] == "vmhb"
    consumer = service_of("nova-vmhb-consumer.service")
    assert f"/var/lib/{consumer['StateDirectory']}" == str(FaultSettings("").state_path)
    assert service["ExecStart"].split()[:2] == ["/usr/bin/vmhb-worker", "--config-file"]
    # SIGHUP, which reads the configuration again, and ends nothing: tests/functional/test_signals.py.
    assert service["ExecReload"] == consumer["ExecReload"] == "/bin/sh -c 'kill -HUP $MAINPID'"
    # psutil's, for openstacksdk: without it Masakari is never asked. tests/rollout has the whole of it.
    assert "AF_NETLINK" in consumer["RestrictAddressFamilies"].split()


def test_what_the_ansible_roles_carry_is_the_projects_own() -> None:
    """Links, so that there is one of each: whoever copies them as text hands a host a path in the place of a unit."""
    collection = ROOT / "deploy/ansible_collections/nova_vmhb/deploy"
    carried = [collection / "LICENSE", *collection.glob("roles/*/files/*")]
    assert len(carried) > 5
    for path in carried:
        assert path.is_symlink() and path.resolve().is_file(), f"{path.relative_to(ROOT)} is no link to a file"
        assert ROOT in path.resolve().parents and collection not in path.resolve().parents


def test_the_roles_bring_every_program_of_theirs() -> None:
    """Whoever was brought in by Ansible has the commands that the pages tell to run."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    programs = {row.split(" = ")[0] for row in setup["entry_points"]["console_scripts"].strip().splitlines()}
    roles = ROOT / "deploy/ansible_collections/nova_vmhb/deploy/roles"
    named = [
        word
        for path in roles.glob("*/tasks/main.yml")
        for words in re.findall(r"vmhb_install_commands: \[(.*)\]", path.read_text())
        for word in words.split(", ")
    ]
    assert {*named} == programs - {"nova-vmhb-driver"}  # of Nova's Python, which the hooks' role starts


def test_the_pages_lead_to_every_way_in() -> None:
    """Whoever begins with README.rst or the page about installation hears of packages and of the cloud's own tools."""
    begin, install = ((ROOT / name).read_text() for name in ("README.rst", "docs/install.rst"))
    assert "tools/packages" in begin and "docs/install.rst" in begin and "there are no packages" not in begin
    assert "tools/packages" in install
    assert all(f"<{page}.rst" in install for page in ("deploy", "operator", "consumer", "nova", "guest", "uninstall"))
    oldest = re.search(r"python_requires = >=(\S+)", (ROOT / "setup.cfg").read_text())
    assert oldest and f"Python {oldest[1]} or later" in install
