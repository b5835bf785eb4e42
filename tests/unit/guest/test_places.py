"""Room for applications: whoever comes, leaves and comes back, the bounds hold, and who was there has a place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.places import KEPT, Places


def places() -> Places:
    """Six in all, four of users, two of one of them."""
    return Places(6, 4, 2)


def test_a_place_is_kept() -> None:
    """For its user and its name, for a while; nobody else has it meanwhile."""
    one = places()
    assert one.take(33, "billing", [], 0)
    one.leave(33, "billing", 0)
    assert not one.take(36, "x", [34, 34, 35], 1), "three and one that is kept"
    assert one.take(33, "billing", [34, 34, 35], 2)
    one.leave(33, "billing", 3)
    assert one.take(36, "x", [34, 34, 35], 3 + KEPT)


def test_what_is_kept_is_its_users_to_use() -> None:
    """Jobs that have another name each time never run out of places that their own user left."""
    one = places()
    for number in range(20):
        assert one.take(33, f"job{number}", [34, 34, 35], number)
        one.leave(33, f"job{number}", number)
    assert not one.take(33, "more", [33, 33], 30), "but it has no more than its own"


def test_root_has_its_own() -> None:
    """Places that users hold or left are none of it, up to all there are."""
    one = places()
    assert one.take(0, "x", [33, 33, 34, 34, 0], 0)
    assert not one.take(0, "x", [33, 33, 34, 34, 0, 0], 0)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 200), st.booleans()), max_size=80))
def test_whoever_comes_and_leaves(story: list[tuple[int, int, int, bool]]) -> None:
    """The bounds hold, also of what is kept; who left in good order within the time finds a place for that name."""
    one, there, now = places(), set[tuple[int, str]](), 0.0
    left: dict[tuple[int, str], float] = {}
    for uid, number, later, comes in story:
        now += later
        key = (uid, f"a{number}")
        if key in there and not comes:
            there.remove(key)
            one.leave(*key, now)
            left[key] = now
        elif key not in there and comes and one.take(*key, [user for user, _ in there], now):
            there.add(key)
        users = [user for user, _ in there if user]
        assert len(there) <= 6 and len(users) + len(one._kept) <= 4
        assert all(users.count(user) <= 2 for user in users)
        # Whose name none of its user's has come under since: it finds its place.
        for mine, at in left.items():
            if mine in one._kept and now < at + KEPT:
                taken = [user for user, _ in there]
                assert len(there) == 6 or taken.count(mine[0]) == 2 or _copy(one).take(*mine, taken, now)


def _copy(one: Places) -> Places:
    other = places()
    other._kept = dict(one._kept)
    return other
