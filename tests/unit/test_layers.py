"""Who may import whom. To see why an import is refused, read the rule; to add a module, add nothing.

A module at the top of vmhb_worker is a part of its own, unless a row of PARTS says that it belongs to one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "vmhb_worker"
NOVA_ROOT = ROOT.parent / "nova_vmhb"
GUEST_ROOT = ROOT.parent / "vmhb_guest"

PARTS = {
    "engine": {"engine", "changes", "desk", "inbox", "instance", "periods", "provisioner", "roster"},
    "delivery": {"outbox", "store", "backlog", "journal", "notifications"},
}
#: Contracts: every part may import these. They import nothing of ours but each other.
SHARED = {"core", "contracts", "settings", "objects", "crashpoint", "no_eventlet", "rpcapi", "brokers", "limited"}
#: The composition root and the programs: they may import everything, and only they name the global configuration.
WIRES = {"service", "cmd", "program"}
ALLOWED = {("rpcapi", "conf")}  # the client's one option

#: Of the worker, what runs in Nova or beside it may import these, and nothing that these do not say.
FOR_NOVA = {
    *("core.policy", "core.protocol", "objects", "rpcapi", "no_eventlet", "limited", "systemd"),
    *("brokers", "program", "conf.groups", "conf.kinds", "conf.problems", "conf.upgrade_levels"),
    # What faults are, and how they are published: the consumer closes and raises some itself.
    *("core.fault", "core.verdict", "crashpoint", "notifications", "conf.notifications"),
}
#: Of nova_vmhb: these may import Nova, these name the global configuration, and these are pure. Vitrage makes its
#: plugins without arguments, so they have no choice.
IN_NOVA = {"driver", "extra_specs", "guest_config"}
#: Runs in Masakari's engine, in its Python: only it knows Masakari, names its CONF, and imports nothing of ours but
#: what decides for it, which imports nothing.
IN_MASAKARI = {"masakari_tasks"}
FOR_MASAKARI = ("nova_vmhb.last_moment",)
MASAKARIS = {"masakari", "taskflow", "novaclient"}
NOVA_WIRES = {
    *("consumer.service", "cmd.consumer", "driver", "masakari_tasks"),
    *("vitrage.vmhb.driver", "vitrage.notifiers.vmhb_aodh.notifier"),
}
NOVA_PURE = {
    *("answers", "asked", "last_moment", "reporters.recovery"),
    *(f"consumer.{name}" for name in ("notification", "actions", "book", "brake", "door", "upkeep")),
}
#: Each reporter by itself: it knows the contract, faults, and what it is handed.
REPORTERS = "reporters."
FOR_REPORTERS = {"nova_vmhb.reporters", "nova_vmhb.asked", "nova_vmhb.answers"}

#: What runs in a guest: the syntax of this Python, and what its image is sure to have. Anything newer, larger (asyncio)
#: or missing from Debian's python3-minimal but json and its like stays out.
GUEST_PYTHON = (3, 8)
FOR_GUESTS = {
    *("__future__", "argparse", "array", "collections", "collections.abc", "contextlib", "dataclasses", "enum"),
    *(
        "errno",
        "faulthandler",
        "fcntl",
        "functools",
        "itertools",
        "json",
        "logging",
        "os",
        "pkgutil",
        "queue",
        "re",
        "secrets",
        "select",
    ),
    *(
        "selectors",
        "signal",
        "socket",
        "stat",
        "struct",
        "subprocess",
        "sys",
        "threading",
        "time",
        "traceback",
        "typing",
    ),
}
#: Of it, what decides: no I/O, no clock.
GUEST_PURE = {"allowance", "budget", "codec", "health", "names", "places", "session", "applications"}

#: In the core, time comes in as an argument, and what is to be done goes out as a value.
IMPURE = {
    *("time", "threading", "_thread", "concurrent", "multiprocessing", "asyncio", "subprocess", "sched"),
    *("socket", "select", "selectors", "ssl", "logging", "random", "secrets", "os", "signal", "sqlite3"),
}
CLOCKS = {"now", "utcnow", "today"}
PACKAGES = {
    *("vmhb_worker", "vmhb_worker.core", "vmhb_worker.conf"),
    *("nova_vmhb", "nova_vmhb.consumer", "nova_vmhb.conf", "nova_vmhb.reporters"),
}


def part_of(module: str) -> str:
    """The part that `vmhb_worker.x.y` belongs to."""
    top = module.removeprefix("vmhb_worker").removeprefix(".").partition(".")[0]
    return next((part for part, modules in PARTS.items() if top in modules), top)


def violations(module: str, source: str) -> Iterator[str]:
    """The rules that this source breaks, as the module of this name."""
    part = part_of(module)
    tree = ast.parse(source)
    for name in _imports(tree):
        yield from (f"{module} imports {name}: {why}" for why in _refused(part, name))
    if part not in WIRES and any(_names_the_global_configuration(node) for node in ast.walk(tree)):
        yield f"{module} names cfg.CONF: configuration is handed in, by service.py and cmd/"
    if part == "core" and any(isinstance(node, ast.Attribute) and node.attr in CLOCKS for node in ast.walk(tree)):
        yield f"{module} reads a clock: time comes in as an argument"


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from vmhb_worker import engine` imports the engine, not the package.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base in PACKAGES else (base,)


def _refused(part: str, name: str) -> Iterator[str]:
    top = name.partition(".")[0]
    if not top:
        yield "write imports in full"
    if top in ("eventlet", "nova", "nova_vmhb", "vmhb_guest"):
        yield "not in the worker, anywhere"
    if top.startswith("libvirt") and part != "hypervisor":
        yield "libvirt is the hypervisor's affair"
    if part == "core" and (top in IMPURE or top not in {*sys.stdlib_module_names, "vmhb_worker"}):
        yield "the core is pure, and of the standard library only"
    if top == "vmhb_worker":
        yield from _refused_of_ours(part, part_of(name))


def _refused_of_ours(part: str, other: str) -> Iterator[str]:
    if other in {part, ""} or part in WIRES or (part, other) in ALLOWED:
        return
    if part == "core":
        yield "the core knows nothing of ours outside itself"
    elif other not in SHARED:
        yield "parts know the contracts, never each other"


def nova_violations(module: str, source: str) -> Iterator[str]:
    """The same for a module of nova_vmhb."""
    name = module.removeprefix("nova_vmhb").removeprefix(".")
    tree = ast.parse(source)
    for imported in _imports(tree):
        yield from (f"{module} imports {imported}: {why}" for why in _refused_for_nova(name, imported))
    if name not in NOVA_WIRES and any(_names_the_global_configuration(node) for node in ast.walk(tree)):
        yield f"{module} names cfg.CONF: configuration is handed in"
    if name in NOVA_PURE and any(isinstance(node, ast.Attribute) and node.attr in CLOCKS for node in ast.walk(tree)):
        yield f"{module} reads a clock: time comes in as an argument"


def _refused_for_nova(name: str, imported: str) -> Iterator[str]:
    top, _, rest = imported.partition(".")
    if not top:
        yield "write imports in full"
    if top in ("eventlet", "vmhb_guest") or top.startswith("libvirt"):
        yield "not in Nova's processes, and not beside them"
    if top == "nova" and name not in IN_NOVA:
        yield "only what runs in Nova's processes knows Nova"
    if top == "vmhb_worker" and not any(f"{rest}.".startswith(f"{allowed}.") for allowed in FOR_NOVA):
        yield "of the worker only what FOR_NOVA names"
    if (
        name.partition(".")[0] == "vitrage"
        and top in ("vmhb_worker", "nova_vmhb")
        and not f"{rest}.".startswith("vitrage.")
    ):
        yield "in Vitrage's Python there is nothing else of ours"
    if top == "vitrage" and name.partition(".")[0] != "vitrage":
        yield "only what runs in Vitrage's processes knows Vitrage"
    if name in NOVA_PURE and (top in IMPURE or top not in {*sys.stdlib_module_names, "vmhb_worker", "nova_vmhb"}):
        yield "what decides is pure"
    if name.startswith(REPORTERS) and top == "nova_vmhb" and not imported.startswith(tuple(FOR_REPORTERS)):
        yield "reporters know the contract, and nothing of the consumer"
    yield from _refused_for_masakari(name, top, imported)
    if name in IN_NOVA and rest.startswith(("consumer", "conf")) and top == "nova_vmhb":
        yield "Nova's processes know nothing of the consumer"


def _refused_for_masakari(name: str, top: str, imported: str) -> Iterator[str]:
    if top in MASAKARIS and name not in IN_MASAKARI:
        yield "only what runs in Masakari's processes knows Masakari"
    if name in IN_MASAKARI and top in ("nova_vmhb", "vmhb_worker") and not imported.startswith(FOR_MASAKARI):
        yield "Masakari's Python has nothing of ours but this"
    if f"nova_vmhb.{name}" in FOR_MASAKARI and top in ("nova_vmhb", "vmhb_worker"):
        yield "Masakari's Python has nothing of ours but this"


def guest_violations(module: str, source: str) -> Iterator[str]:
    """The same for a module of vmhb_guest."""
    try:
        tree = ast.parse(source, feature_version=GUEST_PYTHON)
    except SyntaxError as error:
        yield f"{module}: not in Python {GUEST_PYTHON[0]}.{GUEST_PYTHON[1]}: {error.msg}"
        return
    for name in _imports(tree):
        if not name.startswith("vmhb_guest") and name not in FOR_GUESTS:
            yield f"{module} imports {name}: FOR_GUESTS has it not"
        if module.removeprefix("vmhb_guest.") in GUEST_PURE and name.partition(".")[0] in IMPURE - {"logging"}:
            yield f"{module} imports {name}: what decides is pure"


def _names_the_global_configuration(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "oslo_config.cfg" and any(alias.name == "CONF" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "CONF"


def test_everybody_keeps_to_the_layers() -> None:
    """What decides does no I/O; what does I/O decides nothing, and can be replaced by itself."""
    found: list[str] = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT.parent).with_suffix("")
        module = ".".join(part for part in relative.parts if part != "__init__")
        found += violations(module, path.read_text())
    assert not found, "\n".join(found)


def test_what_runs_in_nova_and_beside_it_keeps_to_its_own() -> None:
    """Nova's processes load no more of ours than they must; the consumer needs neither Nova nor libvirt."""
    found: list[str] = []
    for path in sorted(NOVA_ROOT.rglob("*.py")):
        relative = path.relative_to(NOVA_ROOT.parent).with_suffix("")
        module = ".".join(part for part in relative.parts if part != "__init__")
        found += nova_violations(module, path.read_text())
    assert not found, "\n".join(found)


def test_what_runs_in_guests_is_small_and_old() -> None:
    """Any image's Python runs it, from 3.8 on, and nothing else has to be installed."""
    found: list[str] = []
    for path in sorted(GUEST_ROOT.rglob("*.py")):
        relative = path.relative_to(GUEST_ROOT.parent).with_suffix("")
        found += guest_violations(".".join(part for part in relative.parts if part != "__init__"), path.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("vmhb_guest.daemon", "from vmhb_worker.core import codec", "FOR_GUESTS"),
        ("vmhb_guest.daemon", "import nova_vmhb", "FOR_GUESTS"),
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
        ("nova_vmhb.consumer.instances", "from vmhb_worker import engine", "FOR_NOVA"),
        ("nova_vmhb.consumer.instances", "from vmhb_worker.core import monitor", "FOR_NOVA"),
        ("nova_vmhb.consumer.instances", "from vmhb_worker.rpc import Server", "FOR_NOVA"),
        ("nova_vmhb.consumer.instances", "import nova.conf", "knows Nova"),
        ("nova_vmhb.consumer.instances", "from oslo_config import cfg\nx = cfg.CONF", "cfg.CONF"),
        ("nova_vmhb.consumer.actions", "import logging", "pure"),
        ("nova_vmhb.consumer.actions", "import oslo_messaging", "pure"),
        ("nova_vmhb.consumer.actions", "from datetime import datetime\nx = datetime.now()", "clock"),
        ("nova_vmhb.vitrage.vmhb.driver", "from nova_vmhb.reporters import base", "nothing else of ours"),
        ("nova_vmhb.vitrage.vmhb.driver", "from vmhb_worker import objects", "nothing else of ours"),
        ("nova_vmhb.reporters.aodh", "from vitrage import messaging", "knows Vitrage"),
        ("nova_vmhb.consumer.book", "import sqlalchemy", "pure"),
        ("nova_vmhb.consumer.upkeep", "import time\nx = time.time()", "pure"),
        ("nova_vmhb.reporters.log", "from nova_vmhb.consumer import outbox", "nothing of the consumer"),
        ("nova_vmhb.reporters.recovery", "from openstack import connection", "pure"),
        ("nova_vmhb.reporters.masakari", "import masakari.conf", "knows Masakari"),
        ("nova_vmhb.masakari_tasks", "from nova_vmhb.reporters import recovery", "nothing of ours"),
        ("nova_vmhb.last_moment", "from vmhb_worker.core import verdict", "nothing of ours"),
        ("nova_vmhb.last_moment", "import time", "pure"),
        ("nova_vmhb.driver", "import libvirt", "not in Nova's processes"),
        ("nova_vmhb.driver", "import eventlet", "not in Nova's processes"),
        ("nova_vmhb.driver", "from nova_vmhb.consumer import actions", "nothing of the consumer"),
    ],
)
def test_a_bad_module_of_novas_is_found(module: str, source: str, says: str) -> None:
    """The test above can fail."""
    assert any(says in violation for violation in nova_violations(module, source))


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("vmhb_worker.core.monitor", "import time", "pure"),
        ("vmhb_worker.core.monitor", "import os.path", "pure"),
        ("vmhb_worker.core.monitor", "from oslo_utils import uuidutils", "pure"),
        ("vmhb_worker.core.monitor", "def f():\n    from vmhb_worker.settings import Settings", "outside itself"),
        ("vmhb_worker.core.monitor", "from datetime import datetime\nx = datetime.now()", "clock"),
        ("vmhb_worker.agent", "from vmhb_worker.hypervisor.pool import Pool", "never each other"),
        ("vmhb_worker.agent", "from vmhb_worker import outbox", "never each other"),
        ("vmhb_worker.store", "import vmhb_worker.engine", "never each other"),
        ("vmhb_worker.contracts", "from vmhb_worker.engine import Engine", "never each other"),
        ("vmhb_worker.newcomer", "from vmhb_worker.rpc import Server", "never each other"),
        ("vmhb_worker.agent", "import libvirt_qemu", "hypervisor's affair"),
        ("vmhb_worker.agent", "from . import store", "in full"),
        ("vmhb_worker.rpc", "import eventlet", "not in the worker"),
        ("vmhb_worker.hypervisor.adapter", "from nova.virt import driver", "not in the worker"),
        ("vmhb_worker.outbox", "from oslo_config import cfg\nx = cfg.CONF", "cfg.CONF"),
        ("vmhb_worker.outbox", "from oslo_config.cfg import CONF", "cfg.CONF"),
    ],
)
def test_a_bad_module_is_found(module: str, source: str, says: str) -> None:
    """The test above can fail."""
    assert any(says in violation for violation in violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vmhb_worker.core.monitor", "import math\nfrom vmhb_worker.core import events"),
        ("vmhb_worker.engine", "from vmhb_worker.core import events\nfrom vmhb_worker.instance import Instance"),
        ("vmhb_worker.hypervisor.adapter", "import libvirt\nfrom vmhb_worker.hypervisor.pool import Pool"),
        ("vmhb_worker.service", "from oslo_config import cfg\nfrom vmhb_worker import engine, rpc\nx = cfg.CONF"),
        ("vmhb_worker", ""),
    ],
)
def test_a_good_module_is_not(module: str, source: str) -> None:
    """And it does not refuse what is allowed."""
    assert not list(violations(module, source))
