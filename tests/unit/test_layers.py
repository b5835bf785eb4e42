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

PARTS = {
    "engine": {"engine", "changes", "desk", "inbox", "instance", "periods", "roster"},
    "delivery": {"outbox", "store", "backlog", "journal", "notifications"},
}
#: Contracts: every part may import these. They import nothing of ours but each other.
SHARED = {"core", "contracts", "settings", "objects", "crashpoint", "no_eventlet", "rpcapi", "brokers"}
#: The composition root and the programs: they may import everything, and only they name the global configuration.
WIRES = {"service", "cmd", "program"}
ALLOWED = {("rpcapi", "conf")}  # the client's one option

#: In the core, time comes in as an argument, and what is to be done goes out as a value.
IMPURE = {
    *("time", "threading", "_thread", "concurrent", "multiprocessing", "asyncio", "subprocess", "sched"),
    *("socket", "select", "selectors", "ssl", "logging", "random", "secrets", "os", "signal", "sqlite3"),
}
CLOCKS = {"now", "utcnow", "today"}


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
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "vmhb_worker" else (base,)


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
