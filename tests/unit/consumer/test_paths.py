"""What is asked for with an administrator's token is what it is taken for: an id in a path is no other path."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vmhb_consumer
from tests.unit.consumer.fakes import NovaAnswers
from tests.unit.consumer.reporters.test_instance_ha import SHOWN, Cloud
from vmhb_consumer.doubt_rules import Unknown
from vmhb_consumer.nova_client import Nova
from vmhb_consumer.reporters.masakari_client import OpenStack, Unavailable

ROOT = Path(vmhb_consumer.__file__).parent
#: What makes of a value a part of a path that is one part.
MADE_BY = {"uuid_of", "quote"}
EVIL = ["", ".", "..", "../flavors", "a/b", "a?all_tenants=1", "a#b", "a%2fb", "\u0660" * 36, "\ud800"]


def paths() -> list[tuple[str, ast.JoinedStr]]:
    """Every path in the consumer that something is put into, and where it stands."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        and isinstance(node.values[0], ast.Constant)
        and str(node.values[0].value).startswith("/")
    ]


def test_whatever_is_put_into_a_path_is_parsed_or_quoted() -> None:
    """In every client and reporter; one that is new as well."""
    found = paths()
    assert len(found) >= 5
    bad = [
        f"{where}: {ast.unparse(value.value)}"
        for where, path in found
        for value in path.values
        if isinstance(value, ast.FormattedValue)
        and not (isinstance(value.value, ast.Call) and ast.unparse(value.value.func) in MADE_BY)
    ]
    assert not bad


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_nothing_is_asked_for_by_another_path(evil: str) -> None:
    """It is unknown, in one line that can be written down."""
    nova = NovaAnswers((200, {"server": SHOWN}))
    told = Nova(nova)(evil)
    assert isinstance(told, Unknown) and told.why.isprintable() and nova.asked == []
    cloud = Cloud((200, {"server": SHOWN}))
    with pytest.raises(Unavailable) as said:
        OpenStack(lambda: None, None, "internal", lambda *_: cloud).server(evil)  # type: ignore[arg-type, return-value]
    assert str(said.value).isprintable() and cloud.asked == []
