"""Who may import whom: rules about folders. To see why an import is refused, read its folder's row in `ROOMS`.

A new module in a folder that is there needs nothing here. A new folder needs a row, or a test fails. A module that has
a row of its own is an exception from its folder's.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.lib import run_tests

ROOT = Path(__file__).parent.parent.parent
#: What is installed on our hosts. vmhb_guest is installed in guests, and has rules of its own.
PACKAGES = ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_worker")
GUEST_ROOT = ROOT / "vmhb_guest"


@dataclass(frozen=True)
class Room:
    """What the modules of one folder may import.

    ours: of our own, besides the folder itself: folders, or single modules; a folder named `x.*` with all below it.
    pure: of everything else only the standard library, without its clocks, threads, files and logs.
    strangers: its modules do not import each other either.
    """

    ours: tuple[str, ...] = ()
    pure: bool = False
    strangers: bool = False


COMMON = "vmhb_common.*"
#: What the worker's parts know of each other.
CONTRACTS = ("vmhb_worker.core", "vmhb_worker.interfaces", "vmhb_worker.settings")

ROOMS = {
    # What all share imports none of them. The model is pure; nothing in it knows how it is sent, stored or asked for.
    "vmhb_common": Room((COMMON,)),
    "vmhb_common.model": Room(pure=True),
    "vmhb_common.objects": Room(("vmhb_common.model", "vmhb_common.messaging.no_eventlet")),
    "vmhb_common.messaging": Room(("vmhb_common.model", "vmhb_common.app.ration")),
    "vmhb_common.conf": Room(("vmhb_common.model",)),
    "vmhb_common.cmd": Room(("vmhb_common.messaging",)),
    "vmhb_common.app": Room(("vmhb_common.conf", "vmhb_common.messaging.limited", "vmhb_common.messaging.no_eventlet")),
    # The worker. At its top stand the contracts; what does I/O is handed to the engine by service.py.
    "vmhb_worker": Room((COMMON, "vmhb_worker.core")),
    "vmhb_worker.core": Room(("vmhb_common.model",), pure=True),
    "vmhb_worker.engine": Room((COMMON, *CONTRACTS)),
    "vmhb_worker.delivery": Room((COMMON, *CONTRACTS)),
    "vmhb_worker.adapters": Room((COMMON, *CONTRACTS), strangers=True),
    "vmhb_worker.adapters.libvirt": Room((COMMON, *CONTRACTS)),
    "vmhb_worker.conf": Room((COMMON, *CONTRACTS)),
    "vmhb_worker.cmd": Room((COMMON, "vmhb_worker.*")),
    "vmhb_worker.service": Room((COMMON, "vmhb_worker.*")),
    "vmhb_worker.rpcapi": Room(("vmhb_common.worker_api",)),
    # The control plane. A reporter knows the contract, faults, and what it is handed; nothing of the consumer.
    "vmhb_consumer": Room((COMMON, "vmhb_consumer.*")),
    "vmhb_consumer.reporters": Room((COMMON,)),
    # Steps stay as they were when they were done first: they know no table as it is now.
    "vmhb_consumer.migrations": Room(("vmhb_consumer.schema",)),
    "vmhb_consumer.migrations.versions": Room(("vmhb_consumer.migrations.steps",), strangers=True),
    "vmhb_consumer.conf": Room(
        (COMMON, "vmhb_consumer.settings", "vmhb_consumer.nova_operations", "vmhb_consumer.reporters.loader")
    ),
    "vmhb_consumer.cmd": Room((COMMON, "vmhb_consumer.*")),
    # Other services' processes load these, each its own: no more of ours than it must.
    "nova_vmhb": Room(("vmhb_common.model",)),
    "nova_vmhb.cmd": Room(("nova_vmhb.shim",)),
    "nova_vmhb.masakari_tasks": Room(("nova_vmhb.last_moment",), strangers=True),
    "nova_vmhb.last_moment": Room(pure=True, strangers=True),
    "nova_vmhb.vitrage": Room(),
    "nova_vmhb.vitrage.vmhb": Room(("nova_vmhb.vitrage",)),
    "nova_vmhb.vitrage.notifiers": Room(),
    "nova_vmhb.vitrage.notifiers.vmhb_aodh": Room(("nova_vmhb.vitrage",)),
}

#: What decides, outside the folders that are pure.
DECIDERS = {
    *("nova_vmhb.panic_device", "nova_vmhb.wanted_policy"),
    *("vmhb_consumer.reporters.masakari_rules", "vmhb_consumer.reporters.answers"),
    *("vmhb_consumer.door", "vmhb_consumer.reporters.telling", "vmhb_consumer.reporters.outcomes"),
    *("vmhb_consumer.nova_notification", "vmhb_consumer.nova_operations", "vmhb_consumer.fault_rules"),
    *("vmhb_consumer.recovery_limits", "vmhb_consumer.doubt_rules", "vmhb_consumer.stop_button"),
    *("vmhb_consumer.last_word", "vmhb_consumer.standing"),
}

#: The libraries that have a home, and nobody else knows: a folder, or a module.
HOMES: dict[str, tuple[str, ...]] = {
    "eventlet": (),  # nova-compute refuses it
    "vmhb_guest": (),
    "libvirt": ("vmhb_worker.adapters.libvirt",),
    "libvirt_qemu": ("vmhb_worker.adapters.libvirt",),
    "nova": ("nova_vmhb.driver", "nova_vmhb.extra_specs", "nova_vmhb.guest_config"),
    "lxml": ("nova_vmhb.guest_config",),
    "vitrage": ("nova_vmhb.vitrage",),
    **dict.fromkeys(("masakari", "taskflow", "novaclient"), ("nova_vmhb.masakari_tasks",)),
    **dict.fromkeys(("sqlalchemy", "oslo_db", "keystoneauth1", "openstack"), ("vmhb_consumer",)),
    "cryptography": ("vmhb_common.messaging.signing",),
    "alembic": ("vmhb_consumer.upgrade", "vmhb_consumer.migrations"),
    "oslo_upgradecheck": ("vmhb_consumer.cmd.status",),
}

#: These name the global configuration: the programs, and what another service makes without arguments.
CONFIGURED = {
    *("vmhb_worker.service", "vmhb_worker.cmd", "vmhb_consumer.service", "vmhb_consumer.cmd"),
    *("vmhb_common.app.command_line", "nova_vmhb.driver", "nova_vmhb.masakari_tasks"),
    *("nova_vmhb.vitrage.vmhb.driver", "nova_vmhb.vitrage.notifiers.vmhb_aodh.notifier"),
}
#: These put everything together, so they are imported by each other and by nobody else.
WIRES = ("cmd", "service")

#: What runs in a guest: the syntax of this Python, and what its image is sure to have. Anything newer, larger (asyncio)
#: or missing from Debian's python3-minimal but json and its like stays out.
GUEST_PYTHON = (3, 8)
FOR_GUESTS = {
    *("__future__", "argparse", "array", "collections", "collections.abc", "contextlib", "dataclasses", "enum"),
    *("errno", "faulthandler", "fcntl", "functools", "itertools", "json", "logging", "os", "pkgutil", "queue", "re"),
    *("secrets", "select", "selectors", "signal", "socket", "stat", "struct", "subprocess", "sys", "threading"),
    *("time", "traceback", "typing"),
}
#: Of it, what decides: no I/O, no clock.
GUEST_PURE = {
    *("allowance", "application", "applications", "budget", "codec", "health", "names", "places", "senders"),
    *("session", "strangers", "units", "watermark"),
}

#: In the core, time comes in as an argument, and what is to be done goes out as a value.
IMPURE = {
    *("time", "threading", "_thread", "concurrent", "multiprocessing", "asyncio", "subprocess", "sched"),
    *("socket", "select", "selectors", "ssl", "logging", "random", "secrets", "os", "signal", "sqlite3"),
}
CLOCKS = {"now", "utcnow", "today"}


def folder_of(module: str) -> str:
    """The folder that a module stands in: itself where it is a package."""
    return module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


def module_of(name: str) -> str:
    """The module that is imported as, or with, this name: `x.y.Thing` is of x.y."""
    while "." in name and not ((path := ROOT / name.replace(".", "/")).is_dir() or path.with_suffix(".py").exists()):
        name = name.rpartition(".")[0]
    return name


def is_in(module: str, places: tuple[str, ...] | set[str]) -> bool:
    """Is this module one of these, or below one of them?"""
    return any(f"{module}.".startswith(f"{place}.") for place in places)


def violations(module: str, source: str) -> Iterator[str]:
    """The rules that this source breaks, as the module of this name."""
    folder = folder_of(module)
    room = ROOMS.get(module) or ROOMS.get(folder)
    if room is None:
        yield f"{module}: the folder {folder} has no rule: give it a row in ROOMS"
        return
    tree = ast.parse(source)
    pure = room.pure or module in DECIDERS
    for name in _imports(tree):
        why = [*_refused_of_ours(module, room, name)] if is_in(name, {*PACKAGES}) else [*_refused(module, pure, name)]
        yield from (f"{module} imports {name}: {one}" for one in why)
    if not is_in(module, CONFIGURED) and any(_names_the_global_configuration(node) for node in ast.walk(tree)):
        yield f"{module} names cfg.CONF: configuration is handed in, by service.py and cmd/"
    if pure and any(isinstance(node, ast.Attribute) and node.attr in CLOCKS for node in ast.walk(tree)):
        yield f"{module} reads a clock: time comes in as an argument"


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from vmhb_worker import engine` imports the engine, not the package.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            yield from (str(one.value) for one in node.args if isinstance(one, ast.Constant))


def _refused(module: str, pure: bool, name: str) -> Iterator[str]:
    top = name.partition(".")[0]
    if not top:
        yield "write imports in full"
    if top in HOMES and not is_in(module, HOMES[top]):
        yield f"only {', '.join(HOMES[top]) or 'nobody'} may know {top}"
    if pure and (top in IMPURE or top not in sys.stdlib_module_names):
        yield "what decides is pure, and of the standard library only"


def _refused_of_ours(module: str, room: Room, name: str) -> Iterator[str]:
    other = module_of(name)
    folder, home = folder_of(other), folder_of(module)
    wired = [part for part in other.split(".") if part in WIRES]
    if wired and not is_in(module, {f"{module.partition('.')[0]}.{wire}" for wire in WIRES}):
        yield "what puts everything together is imported by nobody else"
    if folder == home and (other in {module, home} or not room.strangers):
        return
    if not any(_grants(one, other, folder) for one in room.ours):
        yield f"{home} may import of ours: {', '.join((*room.ours, *(() if room.strangers else ('itself',)))) or '-'}"


def _grants(one: str, other: str, folder: str) -> bool:
    if one.endswith(".*"):
        return is_in(other, (one.removesuffix(".*"),))
    return one in (other, folder)


def guest_violations(module: str, source: str) -> Iterator[str]:
    """The same for a module of vmhb_guest."""
    try:
        tree = ast.parse(source, feature_version=GUEST_PYTHON)
    except SyntaxError as error:
        yield f"{module}: not in Python {GUEST_PYTHON[0]}.{GUEST_PYTHON[1]}: {error.msg}"
        return
    for name in _modules(tree):
        if not name.startswith("vmhb_guest") and name not in FOR_GUESTS:
            yield f"{module} imports {name}: FOR_GUESTS has it not"
        if module.removeprefix("vmhb_guest.") in GUEST_PURE and name.partition(".")[0] in IMPURE - {"logging"}:
            yield f"{module} imports {name}: what decides is pure"


def _modules(tree: ast.AST) -> Iterator[str]:
    """What the import statements name: not what is taken out of a module, nor what is imported when it is needed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _names_the_global_configuration(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "oslo_config.cfg" and any(alias.name == "CONF" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "CONF"


def name_of(path: Path) -> str:
    """The name under which this file is imported."""
    return ".".join(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")


def test_everybody_keeps_to_the_layers() -> None:
    """What decides does no I/O; what does I/O decides nothing; no process loads another's code."""
    found: list[str] = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        found += violations(name_of(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_the_workers_tests_need_no_consumer() -> None:
    """They run where only the worker's libraries are; so do its fakes."""
    units = ROOT / "tests/unit"
    found = [
        ROOT / "tests/fakes.py",
        *(path for name in ("common", "core", "worker") for path in (units / name).rglob("*.py")),
    ]
    found += units.glob("test_engine*.py")
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in found
        for name in _modules(ast.parse(path.read_text(encoding="utf-8")))
        if is_in(name, {"vmhb_consumer", "tests.unit.consumer", "sqlalchemy", "oslo_db"})
    ]
    assert len(found) > 40
    assert not wrong


def test_only_the_worker_serialises_strictly() -> None:
    """What others hand on may have a newer worker's words, at which `fault_payload` raises: they have
    `fault_as_told`."""
    found = {
        name_of(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "fault_payload"
        in {name.rpartition(".")[2] for name in _imports(ast.parse(path.read_text(encoding="utf-8")))}
    }
    assert found == {"vmhb_common.objects", "vmhb_worker.engine.unit_of_work"}


def test_every_rule_is_about_something() -> None:
    """A folder or a module that is gone leaves the tables, and every package of ours is looked at."""
    named = {*ROOMS, *DECIDERS, *CONFIGURED, *(home for homes in HOMES.values() for home in homes)}
    named |= {one.removesuffix(".*") for room in ROOMS.values() for one in room.ours}
    assert {name for name in named if module_of(name) != name} == set()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {*PACKAGES, "vmhb_guest", "tests", "tools", "benchmarks"}


def test_every_branch_of_what_decides_is_tested() -> None:
    """Whatever the rules call pure is held to that, and nothing is that they don't."""
    pure = {name for name, room in ROOMS.items() if room.pure} | DECIDERS
    files = {name.replace(".", "/") + ("/*" if folder_of(name) == name else ".py") for name in pure}
    assert set(run_tests.decides()) == files


def test_what_runs_in_guests_is_small_and_old() -> None:
    """Any image's Python runs it, from 3.8 on, and nothing else has to be installed."""
    found: list[str] = []
    for path in sorted(GUEST_ROOT.rglob("*.py")):
        found += guest_violations(name_of(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("vmhb_guest.daemon", "from vmhb_worker.core import codec", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "import nova_vmhb", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "import vmhb_common.model.policy", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "import asyncio", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "import tomllib", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "match x:\n    case 1: pass", "not in Python 3.8"),
        ("vmhb_guest.daemon", "with (a as b, c as d): pass", "not in Python 3.8"),
        ("vmhb_guest.session", "import time", "pure"),
        ("vmhb_guest.health", "import os", "pure"),
    ],
)
def test_a_bad_module_of_the_guest_is_found(module: str, source: str, says: str) -> None:
    """The test above can fail."""
    assert any(says in violation for violation in guest_violations(module, source))


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("vmhb_consumer.nova_listener", "from vmhb_worker.engine import loop", "may import of ours"),
        ("vmhb_consumer.nova_listener", "from vmhb_worker.core import monitor", "may import of ours"),
        ("vmhb_consumer.nova_listener", "import vmhb_worker", "may import of ours"),
        ("vmhb_consumer.nova_listener", "from nova_vmhb import wanted_policy", "may import of ours"),
        ("vmhb_consumer.nova_listener", "import nova.conf", "may know nova"),
        ("vmhb_consumer.nova_listener", "from oslo_config import cfg\nx = cfg.CONF", "cfg.CONF"),
        ("vmhb_consumer.nova_listener", "from vmhb_consumer import service", "nobody else"),
        ("vmhb_consumer.nova_operations", "import logging", "pure"),
        ("vmhb_consumer.nova_operations", "import oslo_messaging", "pure"),
        ("vmhb_consumer.nova_operations", "from datetime import datetime\nx = datetime.now()", "clock"),
        ("vmhb_consumer.fault_rules", "import sqlalchemy", "pure"),
        ("vmhb_consumer.doubt_rules", "import time\nx = time.time()", "pure"),
        ("vmhb_consumer.reporters.log", "from vmhb_consumer import outbox", "may import of ours"),
        ("vmhb_consumer.reporters.aodh", "from vitrage import messaging", "may know vitrage"),
        ("vmhb_consumer.reporters.masakari_rules", "from openstack import connection", "pure"),
        ("vmhb_consumer.reporters.masakari", "import masakari.conf", "may know masakari"),
        ("vmhb_consumer.conf.consumer", "from vmhb_consumer import outbox", "may import of ours"),
        ("nova_vmhb.masakari_tasks", "from vmhb_common.model import policy", "may import of ours"),
        ("nova_vmhb.masakari_tasks", "from nova_vmhb import wanted_policy", "may import of ours"),
        ("nova_vmhb.last_moment", "from vmhb_common.model import causes", "may import of ours: -"),
        ("nova_vmhb.last_moment", "import time", "pure"),
        ("nova_vmhb.vitrage.vmhb.driver", "from vmhb_common import objects", "may import of ours"),
        ("nova_vmhb.vitrage.vmhb.driver", "from nova_vmhb import wanted_policy", "may import of ours"),
        ("nova_vmhb.driver", "from vmhb_worker.core import domain_xml", "may import of ours"),
        ("nova_vmhb.driver", "from vmhb_common import worker_api", "may import of ours"),
        ("nova_vmhb.driver", "from vmhb_consumer import nova_operations", "may import of ours"),
        ("nova_vmhb.driver", "import libvirt", "may know libvirt"),
        ("nova_vmhb.driver", "import eventlet", "nobody may know eventlet"),
        ("nova_vmhb.extra_specs", "import sqlalchemy", "may know sqlalchemy"),
    ],
)
def test_a_bad_module_beside_the_worker_is_found(module: str, source: str, says: str) -> None:
    """The test above can fail."""
    assert any(says in violation for violation in violations(module, source))


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("vmhb_common.model.newcomer", "import time", "pure"),
        ("vmhb_common.model.newcomer", "from vmhb_common.conf import types", "may import of ours"),
        ("vmhb_common.newcomer", "from vmhb_worker import settings", "may import of ours"),
        ("vmhb_common.newcomer", "import importlib\nimportlib.import_module('vmhb_worker.service')", "of ours"),
        ("vmhb_common.newroom.newcomer", "", "has no rule"),
        ("vmhb_worker.newroom.newcomer", "", "has no rule"),
        ("vmhb_worker.core.newroom.newcomer", "", "has no rule"),
        ("vmhb_worker.core.monitor", "import time", "pure"),
        ("vmhb_worker.core.monitor", "import os.path", "pure"),
        ("vmhb_worker.core.monitor", "from oslo_utils import uuidutils", "pure"),
        ("vmhb_worker.core.monitor", "def f():\n    from vmhb_worker.settings import Settings", "may import of ours"),
        ("vmhb_worker.core.monitor", "from vmhb_common import objects", "may import of ours"),
        ("vmhb_worker.core.monitor", "from datetime import datetime\nx = datetime.now()", "clock"),
        (
            "vmhb_worker.adapters.guest_agent",
            "from vmhb_worker.adapters.libvirt.pool import Pool",
            "may import of ours",
        ),
        ("vmhb_worker.adapters.guest_agent", "from vmhb_worker.adapters import rpc_server", "may import of ours"),
        ("vmhb_worker.adapters.guest_agent", "from vmhb_worker.delivery import outbox", "may import of ours"),
        ("vmhb_worker.adapters.libvirt.pool", "from vmhb_worker.adapters import guest_agent", "may import of ours"),
        ("vmhb_worker.adapters.newcomer", "from vmhb_worker.adapters.rpc_server import Server", "may import of ours"),
        ("vmhb_worker.delivery.sqlite", "import vmhb_worker.engine.loop", "may import of ours"),
        ("vmhb_worker.delivery.outbox", "from vmhb_worker.adapters import simulated", "may import of ours"),
        ("vmhb_worker.engine.loop", "from vmhb_worker.adapters import guest_agent", "may import of ours"),
        ("vmhb_worker.engine.loop", "from vmhb_worker.delivery import outbox", "may import of ours"),
        ("vmhb_worker.engine.loop", "from vmhb_worker import service", "nobody else"),
        ("vmhb_worker.interfaces", "from vmhb_worker.engine.loop import Engine", "may import of ours"),
        ("vmhb_worker.interfaces", "from vmhb_worker import service", "nobody else"),
        ("vmhb_worker.adapters.guest_agent", "import libvirt_qemu", "may know libvirt_qemu"),
        ("vmhb_worker.adapters.guest_agent", "from . import rpc_server", "in full"),
        ("vmhb_worker.adapters.rpc_server", "import eventlet", "nobody may know eventlet"),
        ("vmhb_worker.adapters.libvirt.adapter", "from nova.virt import driver", "may know nova"),
        ("vmhb_worker.adapters.libvirt.adapter", "from nova_vmhb import wanted_policy", "may import of ours"),
        ("vmhb_worker.delivery.outbox", "from oslo_config import cfg\nx = cfg.CONF", "cfg.CONF"),
        ("vmhb_worker.delivery.outbox", "from oslo_config.cfg import CONF", "cfg.CONF"),
        ("vmhb_worker.delivery.sqlite", "import sqlalchemy", "may know sqlalchemy"),
    ],
)
def test_a_bad_module_is_found(module: str, source: str, says: str) -> None:
    """The test above can fail."""
    assert any(says in violation for violation in violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vmhb_worker.core.monitor", "import math\nfrom vmhb_worker.core import events"),
        ("vmhb_worker.core.monitor", "from vmhb_common.model.policy import Action"),
        ("vmhb_worker.engine.loop", "from vmhb_worker.core import events\nfrom vmhb_worker.engine import instance"),
        ("vmhb_worker.engine.loop", "from vmhb_worker.interfaces import Clock\nfrom vmhb_common import objects"),
        ("vmhb_worker.adapters.libvirt.adapter", "import libvirt\nfrom vmhb_worker.adapters.libvirt.pool import Pool"),
        (
            "vmhb_worker.service",
            "from oslo_config import cfg\nfrom vmhb_worker.engine import loop\n"
            "from vmhb_worker.adapters import rpc_server\nx = cfg.CONF",
        ),
        ("vmhb_worker.cmd.worker", "from vmhb_worker import service"),
        ("vmhb_worker", ""),
    ],
)
def test_a_good_module_is_not(module: str, source: str) -> None:
    """And it does not refuse what is allowed."""
    assert not list(violations(module, source))
