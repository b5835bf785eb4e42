"""Every message of ours names its exchange: one that goes to oslo.messaging's default is lost, and nothing says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: What is installed, and what stands in the tests for the other ends of its connections.
PLACES = ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_worker", "tests/stage")
SOURCES = [path for name in PLACES for path in (ROOT / name).rglob("*.py")]
#: These take the exchange from [DEFAULT] control_exchange, whatever they are told. The tests' Nova does as Nova does.
BY_DEFAULT = {"Notifier", "set_transport_defaults"}
NOVA_ITSELF = ROOT / "tests/stage/control_plane.py"


def left_to_the_default(source: str, allowed: frozenset[str] = frozenset()) -> Iterator[str]:
    """The calls in this source that leave the exchange to oslo.messaging's default."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in BY_DEFAULT - allowed:
            yield f"line {node.lineno}: {name} has no exchange of its own"
        # A target without a topic says which version an endpoint speaks, and is not sent to.
        elif name == "Target" and (node.args or "topic" in given or None in given):
            exchange = given.get("exchange")
            if exchange is None or (isinstance(exchange, ast.Constant) and not exchange.value):
                yield f"line {node.lineno}: a target with a topic and without an exchange"


def test_everything_names_its_exchange() -> None:
    """Wherever we send to, and wherever we listen."""
    found = []
    for path in SOURCES:
        allowed = frozenset({"Notifier"} if path == NOVA_ITSELF else ())
        found += [f"{path.relative_to(ROOT)} {said}" for said in left_to_the_default(path.read_text(), allowed)]
    assert not found, "\n".join(found)


def test_there_are_some() -> None:
    """The test above has something to look at: both ends of the RPC, the faults, Nova's notifications."""
    naming = {path.relative_to(ROOT).as_posix() for path in SOURCES if "Target(exchange=" in path.read_text()}
    assert {
        "vmhb_worker/adapters/rpc_server.py",
        "vmhb_common/worker_api.py",
        "vmhb_common/messaging/publisher.py",
        "vmhb_consumer/nova_listener.py",
    } <= naming


@pytest.mark.parametrize(
    "source",
    [
        "messaging.Target(topic='t')",
        "messaging.Target(topic='t', exchange=None)",
        "messaging.Target(topic='t', exchange='')",
        "Target(topic='t', server='s', version='1.0')",
        "Target(None, 't')",
        "Target(**everything)",
        "oslo_messaging.Notifier(transport, topics=['t'])",
    ],
)
def test_one_that_does_not_is_found(source: str) -> None:
    """The test above can fail."""
    assert list(left_to_the_default(source))


@pytest.mark.parametrize("source", ["Target(topic='t', exchange=EXCHANGE)", "Target(version='1.0')", "Target"])
def test_one_that_does_is_not(source: str) -> None:
    """And it refuses nothing else."""
    assert not list(left_to_the_default(source))
