"""Those who may not join: their own word on their health, and nothing else. A table, no process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.application import Groups
from vmhb_guest.codec import MAX_NAME
from vmhb_guest.health import DEGRADED, HEALTHY, UNHEALTHY, Finding, merge
from vmhb_guest.senders import Sender
from vmhb_guest.strangers import MAX_OF_A_USER, MAX_STRANGERS, STALE, Strangers

ONE = Sender(100, 1000, "job", 5000)
WEB = "/system.slice/web.service"


def in_unit(pid: int, uid: int = 33) -> Sender:
    return Sender(pid, uid, "sh", pid, None, WEB, "web.service")


class Tree(Groups):
    """Of control groups."""

    def __init__(self) -> None:
        self.left: set[str] = set()

    def empty(self, unit: str) -> bool:
        return unit in self.left


def found(table: Strangers, *taken: str) -> dict[str, tuple[str, str]]:
    return {one.name: (one.status, one.message) for one in table.findings(taken)}


def test_its_own_word() -> None:
    """Until it says otherwise, says that it stops, or ends. It is asked for nothing else."""
    table = Strangers()
    assert table.hear(ONE, {"READY": "1", "WATCHDOG_USEC": "50000"}, 0)
    assert (
        found(table) == {"job": (HEALTHY, "uid 1000")} and 100 in table and [one.pid for one in table.living()] == [100]
    )
    table.hear(ONE, {"X-VMHB-HEALTH": "unhealthy", "STATUS": "no\x1bdisk"}, 1e9)
    assert found(table) == {"job": (DEGRADED, "uid 1000: says that it is unhealthy: no disk")}
    assert not any(one.silent for one in table.findings(()))
    table.hear(ONE, {"X-VMHB-HEALTH": "degraded", "STATUS": "slow", "X-VMHB-NAME": "billing"}, 1e9)
    assert found(table, "billing") == {"billing[100]": (DEGRADED, "uid 1000: slow")}
    assert not table.hear(ONE, {"STOPPING": "1"}, 1e9) and not found(table)
    table.hear(ONE, {"READY": "1"}, 1e9)
    table.end(100)
    assert not found(table)


def test_who_is_none() -> None:
    """One that has ended, helpers of nobody knows whom, and words that join nobody."""
    table = Strangers()
    for sender in (Sender(1, 1000, "", 0), Sender(1, 1000, "systemd-notify", 7)):
        assert not table.hear(sender, {"READY": "1"}, 0)
    assert not table.hear(ONE, {"STATUS": "x"}, 0) and not table.hear(ONE, {"STOPPING": "1"}, 0)
    assert len(table) == 0


def test_a_unit() -> None:
    """It is the unit and the user, whoever speaks, as long as anybody is left in it, or an hour."""
    tree = Tree()
    table = Strangers(tree)
    assert not table.hear(in_unit(100), {"X-VMHB-HEALTH": "degraded"}, 0), "no process of it is watched"
    table.hear(in_unit(101), {"X-VMHB-HEALTH": "healthy", "STATUS": "well"}, 1)
    table.hear(in_unit(102, uid=34), {"X-VMHB-HEALTH": "degraded"}, 1)
    assert found(table) == {"web": (HEALTHY, "uid 33: well"), "web[102]": (DEGRADED, "uid 34")}
    assert [row["unit"] for row in table.describe((), 2)] == ["web", "web"]
    table.tidy(STALE + 1)
    assert len(table) == 2
    tree.left.add(WEB)
    table.tidy(2)
    assert len(table) == 0
    tree.left.clear()
    table.hear(in_unit(100), {"READY": "1"}, 0)
    table.tidy(STALE + 1)
    assert len(table) == 0


def test_room() -> None:
    """Bounded: for a user, and in all."""
    table = Strangers()
    for number in range(200):
        table.hear(Sender(1000 + number, 1000 + number // 20, "x", 1), {"READY": "1"}, 0)
    assert len(table) == MAX_STRANGERS and table.refused == 200 - MAX_STRANGERS
    assert {uid: sum(row["uid"] == uid for row in table.describe((), 0)) for uid in (1000, 1001)} == dict.fromkeys(
        (1000, 1001), MAX_OF_A_USER
    )


def test_they_come_last() -> None:
    """Whatever they say of themselves: nothing that speaks for the machine is left out of a report for them."""
    own = [Finding(f"own{number}", HEALTHY) for number in range(10)]
    report = merge([Finding("x", DEGRADED, aside=True), Finding("y", UNHEALTHY), *own])
    assert report.findings[0].name == "y" and report.findings[-1].name == "x" and report.status == UNHEALTHY
    many = merge([*own, *(Finding(f"x{number}", DEGRADED, aside=True) for number in range(40))])
    checks = many.message()["checks"]
    assert [row["name"] for row in checks[:10]] == [one.name for one in own]
    assert checks[-1] == {"name": "vmhb-guest", "status": DEGRADED, "message": "34 more are not shown"}


SENDERS = st.builds(
    lambda pid, uid, command, born, unit: Sender(pid, uid, command, born, None, unit),
    *(st.integers(1, 5), st.integers(1, 3), st.sampled_from(["a", "", "systemd-notify"]), st.integers(0, 2)),
    st.sampled_from(["", WEB]),
)
WORDS = st.sampled_from(["READY", "STATUS", "STOPPING", "X-VMHB-NAME", "X-VMHB-HEALTH"])
VALUES = st.sampled_from(["1", "unhealthy", "b" * 64, "b" * 61 + "[1]", "\u202e", "²"]) | st.text(max_size=70)


@EXAMPLES
@given(st.lists(st.tuples(SENDERS, st.dictionaries(WORDS, VALUES, max_size=4)), max_size=30), st.sets(VALUES))
def test_whatever_is_said(story: list[tuple[Sender, dict[str, str]]], taken: set[str]) -> None:
    """Never unhealthy, never silent, names that nobody else has."""
    table = Strangers()
    for number, (sender, said) in enumerate(story):
        table.hear(sender, said, float(number))
        findings = table.findings(taken)
        names = [one.name for one in findings]
        assert len({*names}) == len(names) <= MAX_STRANGERS and not taken.intersection(names)
        assert all(0 < len(name) <= MAX_NAME for name in names)
        assert all(one.status in (HEALTHY, DEGRADED) and one.aside and not one.silent for one in findings)
