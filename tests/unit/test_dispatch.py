"""The tables that say who handles what are total: a kind that is new has its row, before the first of it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from vmhb_worker.core import events, monitor, protocol
from vmhb_worker.engine import loop, provisioner

#: Table, and the kinds that its rows are for. The engine's own reports, which no adapter sends, have a leading
#: underscore.
TABLES: dict[str, tuple[Mapping[type[Any], Any], Any]] = {
    "events": (monitor._HANDLERS, events.Event),
    "effects": (loop._EFFECTS, events.Effect),
    "reports": (loop._REPORTS, events.Report),
    "steps done": (provisioner._DONE, events.Step),
    "steps not done": (provisioner._NOT_DONE, events.Step),
    "messages": (protocol._FIELDS, protocol.Message),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_has_its_row(name: str) -> None:
    """And no row is for what there is not."""
    table, union = TABLES[name]
    rows = {kind for kind in table if not kind.__name__.startswith("_")}
    assert rows == set(get_args(union))


def test_a_row_that_is_missing_is_found() -> None:
    """The test above can fail."""
    assert len(get_args(events.Event)) > 20
    assert events.Tick in get_args(events.Event) and events.Ask in get_args(events.Effect)
