"""Names that nobody else has, whoever chooses the names around them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest import names
from vmhb_guest.applications import MAX_APPLICATIONS, Applications, Sender
from vmhb_guest.codec import MAX_NAME

#: The longest number that Linux gives a process.
PID = 4_194_304


def test_all_that_would_be_tried_is_taken() -> None:
    """As many as there can be: the name that is found is free, not too long, and says whose it is."""
    for length in range(1, MAX_NAME + 1):
        wanted, taken = "b" * length, set[str]()
        for _ in range(MAX_APPLICATIONS + 20):
            name = names.free(wanted, PID, taken)
            assert name not in taken and len(name) <= MAX_NAME
            assert name == wanted or (name.startswith("b") and f"[{PID}" in name and name.endswith("]"))
            taken.add(name)


#: Words that names are made of: what this module itself makes, all that it once made, and lengths around the limit.
WORDS = [
    "a",
    "b" * 50,
    "b" * 52,
    "b" * 55,
    "b" * 64,
    "[1]",
    "'[1]",
    "[1.2]",
    "[1.3]",
    "[2]",
    "[",
    "]",
    "'",
    "ä",
    "\U0001f9e8",
]
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join)


@EXAMPLES
@given(
    NAMES,
    st.integers(1, 3),
    st.sets(NAMES | st.builds(names.free, NAMES, st.integers(1, 3), st.just(set())), max_size=70),
)
def test_any_names(wanted: str, pid: int, taken: set[str]) -> None:
    """It ends, with a name that is free."""
    assert names.free(wanted[:MAX_NAME], pid, taken) not in taken


def test_every_order_in_which_four_can_join() -> None:
    """Four processes of a user, each under a name made for another of them, in every order and with every name."""
    chosen = ["b" * 64, "b" * 52 + "[1]", "b" * 50 + "'[1]", "b" * 61 + "[1]", "b" * 59 + "[1.2]"]
    for order in itertools.permutations(range(1, 5)):
        for said in itertools.product(chosen, repeat=4):
            table = Applications()
            for pid, name in zip(order, said, strict=True):
                table.hear(Sender(pid, 65534, "c", 1), {"X-VMHB-NAME": name}, 0)
            found = [one.name for one in table.findings(0)]
            assert len(set(found)) == 4 and max(map(len, found)) <= MAX_NAME
