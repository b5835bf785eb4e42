"""What each role installs is what its modules import: nothing is missing, and nobody gets what he has no use for."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: Extra -> what it is for: packages and modules, with all that these import of ours.
ROLES = {
    "client": ("vmhb_common",),
    "worker": ("vmhb_worker",),
    "consumer": ("vmhb_consumer",),
    "nova": ("nova_vmhb.extra_specs", "nova_vmhb.driver", "nova_vmhb.cmd"),
    "vitrage": ("nova_vmhb.vitrage",),
}
#: masakari-engine's is no role of an extra: it has all that it loads.
MASAKARI = ("nova_vmhb.masakari_tasks",)
#: How a library is imported -> how it is installed, where that is not the same with dots for underscores.
INSTALLED_AS = {
    **{"keystoneauth1": "keystoneauth1", "libvirt": "libvirt-python", "libvirt_qemu": "libvirt-python"},
    **{"novaclient": "python-novaclient", "openstack": "openstacksdk", "sqlalchemy": "SQLAlchemy"},
}
#: The service in whose Python this is loaded: it is there, and so is what it requires itself.
HOSTS = {"nova": {"nova"}, "vitrage": {"vitrage", "oslo.config", "oslo.log", "oslo.messaging", "oslo.utils"}}
#: Required, and imported by none of these modules: by name, and why.
BESIDE = {
    "client": {"stevedore": "the consumer's instances half finds its reporters' options by it"},
    "consumer": {"PyMySQL": "SQLAlchemy's driver for MariaDB, which is the database of several"},
    "vitrage": {
        "networkx": "the last one that Vitrage works with",
        "python-novaclient": "Vitrage asks Nova with it, and does not require it",
    },
}


def extras() -> dict[str, dict[str, str]]:
    """Extra -> library -> what is asked of it: bounds, and extras of its own."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found: dict[str, dict[str, str]] = {}
    for extra, text in setup["extras"].items():
        rows = [re.fullmatch(r"([\w.-]+)(.*)", row) for row in text.split("\n") if row.strip()]
        found[extra] = {row[1]: row[2] for row in rows if row}
    return found


def files_of(names: tuple[str, ...]) -> Iterator[Path]:
    """The files of these packages and modules."""
    for name in names:
        path = ROOT / name.replace(".", "/")
        yield from path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]


def imports_of(path: Path) -> Iterator[str]:
    """What a file imports, wherever in it; by text, too, as in `import_module("x")`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            yield from (str(one.value) for one in node.args if isinstance(one, ast.Constant))


def libraries_of(names: tuple[str, ...]) -> set[str]:
    """What these modules import that is neither Python's nor ours, and what those of ours import that they import."""
    waiting, seen, found = list(files_of(names)), set[Path](), set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            top = name.partition(".")[0]
            if (ROOT / top).is_dir():
                waiting += ours(name)
            elif top not in sys.stdlib_module_names:
                found.add(INSTALLED_AS.get(top, top.replace("_", ".")))
    return found


def ours(name: str) -> Iterator[Path]:
    """The file of a module of ours, or of the package that a name is of."""
    for one in (name, name.rpartition(".")[0]):
        path = ROOT / one.replace(".", "/")
        if path.with_suffix(".py").exists():
            yield path.with_suffix(".py")
            return
        if (path / "__init__.py").exists():
            yield path / "__init__.py"
            return


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_what_it_imports_and_no_more(role: str) -> None:
    """An import that is new needs a row in setup.cfg, and one that is gone leaves it."""
    imported = libraries_of(ROLES[role])
    host = HOSTS.get(role, set())
    assert imported - host == extras()[role].keys() - host - BESIDE.get(role, {}).keys()
    assert not imported & BESIDE.get(role, {}).keys()


def test_nothing_is_required_of_everybody() -> None:
    """What Nova and Masakari load must bring nothing into their Python that they have not; see the extras."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    assert libraries_of(MASAKARI) <= {
        *("masakari", "python-novaclient"),
        *("oslo.config", "oslo.log", "oslo.messaging", "oslo.utils"),
    }


def test_what_several_require_is_required_alike() -> None:
    """One bound for each library, whoever asks for it."""
    asked: dict[str, set[str]] = {}
    for role in ROLES:
        for name, bounds in extras()[role].items():
            asked.setdefault(name, set()).add(bounds)
    assert {name: bounds for name, bounds in asked.items() if len(bounds) > 1} == {}


def test_the_hooks_load_little() -> None:
    """The test above can fail: what only the consumer imports, Nova's hooks do not."""
    assert libraries_of(ROLES["nova"]) == {"nova", "lxml", "oslo.log"}
    assert {"SQLAlchemy", "oslo.db", "stevedore"} <= libraries_of(ROLES["consumer"])
    assert "libvirt-python" in libraries_of(ROLES["worker"])
