"""What the next daemon must know: what is not to be read is nobody else's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.applications import Applications
from vmhb_guest.faults import Faults
from vmhb_guest.health import HEALTHY
from vmhb_guest.memory import Memory
from vmhb_guest.senders import Sender


def row(**other: Any) -> dict[str, Any]:
    """Of an application that is remembered, but for that."""
    table = Applications()
    table.hear(Sender(7, 33, "server", 5), {"READY": "1", "X-VMHB-NAME": "one"}, 0)
    return {**table.dump()[0], **other}


@pytest.mark.parametrize("text", ["", "{}", "7", "[", "[" * 100_000, "\xff", '{"a": [NaN]}'])
def test_a_file_that_is_none(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line says so; nobody is remembered."""
    (tmp_path / "file").write_bytes(text.encode("latin-1"))
    assert Memory(str(tmp_path / "file")).read() == []
    assert len(caplog.messages) == 1 and "can't be read" in caplog.messages[0]
    assert Memory(str(tmp_path / "missing")).read() == [] and len(caplog.messages) == 1


def test_a_file_that_others_may_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Or whose folder they may: it says nothing. A folder such as /tmp will do further up."""
    folder = tmp_path / "vmhb"
    folder.mkdir(mode=0o755)
    tmp_path.chmod(0o1777)
    Memory(str(folder / "file")).write([row()])
    assert len(Memory(str(folder / "file")).read()) == 1
    folder.chmod(0o1777)
    assert Memory(str(folder / "file")).read() == []
    assert f"others than root may write to {folder}" in caplog.messages[0]


def test_what_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Is said once, and again when it has changed."""
    memory = Memory(str(tmp_path / "no/file"))
    for rows in ([{"a": 1}], [{"a": 1}], [{"a": 2}]):
        memory.write(rows)
    assert len(caplog.messages) == 2
    memory = Memory(str(tmp_path / "file"))
    memory.write([{"a": 1}])
    assert Memory(str(tmp_path / "file")).read() == [{"a": 1}]


BAD: tuple[Any, ...] = (
    *(None, 7, "x", [], {}, row(sender={}), row(sender={"pid": "7", "uid": 0, "command": "", "born": 1})),
    *(row(interval="soon"), row(interval=float("nan")), row(interval=[]), row(processes=[{}]), row(processes=7)),
    *(row(sender={"pid": -1, "uid": 0, "command": "", "born": 1}), row(unit=None, keeper=[], sender=[])),
    row(sender={"pid": 7, "uid": 0, "command": 7, "born": 1}),
)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_one_row_is_no_others(bad: Any) -> None:
    """It is set aside, and counted."""
    faults = Faults()
    table = Applications(guard=faults.of)
    good = row(sender={"pid": 8, "uid": 33, "command": "x", "born": 1}, processes=[], name="good")
    table.load([bad, good, bad], 0)
    assert [one.name for one in table.findings(0)] == ["good"] and faults.count == 2


def test_names_of_rows_are_ones_own() -> None:
    """Also where a file has one twice."""
    table = Applications()
    table.load([row(), row(processes=[]), row(name="", asked="", processes=[])], 0)
    names = [one.name for one in table.findings(0)]
    assert len({*names}) == 3 and all(names)
    assert {one.status for one in table.findings(0)} == {HEALTHY}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda one: st.lists(one, max_size=2)
)


@EXAMPLES
@given(st.dictionaries(st.sampled_from([*row(), "x"]), JSON, max_size=4), st.booleans())
def test_whatever_is_in_a_row(other: dict[str, Any], whole: bool) -> None:
    """Taken or set aside; what is taken can be judged, told and remembered again."""
    table = Applications(guard=Faults().of)
    table.load([row(**other) if whole else other], 0)
    assert len(table.findings(1.0)) == len(table.describe(1.0)) == len(table.dump(1.0)) == len(table)
    assert all(isinstance(one.name, str) and one.name for one in table.findings(1e9))
