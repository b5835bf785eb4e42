"""How many recoveries are let through: each row of the table, and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from vmhb_consumer.recovery_limits import BUDGET, OBSERVE, PAUSE, PAUSED, ROWS, SHARE, Known, share, weigh
from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

LIMITS = RecoverySettings(max_concurrent=4, rate=2, recoveries=2, recovery_window=3600.0)
NOW = 1_767_355_200.0  # 2026-01-02 12:00:00 UTC
PAUSE_1H = Pause("storage is being moved", NOW - 60.0, NOW + 3600.0)

#: A row -> what makes it speak: what is known, the limits, and what they say together.
CASES: dict[str, tuple[Known, RecoverySettings, str, str, float | None]] = {
    "_budget": (
        Known(spent=[1.0, 2.0]),
        LIMITS,
        "the instance had 2 recoveries within 3600 s ([recovery] recoveries): another would hardly help, see to it",
        *(BUDGET, None),
    ),
    "_paused": (
        Known(pause=PAUSE_1H),
        LIMITS,
        "paused until 2026-01-02 13:00:00 UTC: storage is being moved",
        *(PAUSED, PAUSE),
    ),
    "_none_at_all": (
        Known(),
        replace(LIMITS, max_concurrent=0),
        "held: no recovery is begun at all ([recovery] max_concurrent = 0)",
        *("", PAUSE),
    ),
    "_all_places_taken": (
        Known(running=4),
        LIMITS,
        "held: 4 recoveries are under way ([recovery] max_concurrent)",
        *("", PAUSE),
    ),
    "_over_share": (
        Known(running=2, of_project=2, others_wait=True),
        LIMITS,
        "held, share: its project has 2 or more of 4 places, and another project waits ([recovery] max_concurrent)",
        *(SHARE, PAUSE),
    ),
    "_too_fast": (
        Known(recent=[5.0, 50.0]),
        LIMITS,
        "held: 2 recoveries began within a minute ([recovery] rate)",
        *("", 10.0),
    ),
    "_only_observed": (
        Known(),
        replace(LIMITS, observe_only=True),
        "observe: it would have been begun now ([recovery] observe_only)",
        *(OBSERVE, None),
    ),
}


def name_of(row: Callable[..., object]) -> str:
    """Of a row of the table."""
    return row.__name__


def test_every_row_has_its_case() -> None:
    """A row that is new is tested, or this fails; and no limit is without a row."""
    assert [name_of(row) for row in ROWS] == list(CASES)
    limits = {field.name for field in fields(RecoverySettings)} - {"recovery_time", "recovery_window", "action_ttl"}
    assert limits == {"max_concurrent", "rate", "recoveries", "observe_only"}


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_speaks(row: Callable[..., object]) -> None:
    """In its own words, for good or for a while; and none before it does."""
    known, limits, why, word, seconds = CASES[name_of(row)]
    assert weigh(known, limits, NOW) == Permit(False, why, seconds, word)
    assert next(name_of(one) for one in ROWS if one(known, limits, NOW)) == name_of(row)


def test_the_order() -> None:
    """All speak: what is final is said first, then the stop button; that it is only observed, once nothing else is."""
    known = Known(4, 4, [1.0, 2.0], [1.0, 2.0], others_wait=True, pause=PAUSE_1H)
    states = [
        known,
        replace(known, spent=[]),
        replace(known, spent=[], pause=None),
        replace(known, spent=[], pause=None, running=3),
        replace(known, spent=[], pause=None, running=3, of_project=1),
        Known(3, 1),
    ]
    said = [weigh(one, replace(LIMITS, observe_only=True), NOW).why.partition(":")[0] for one in states]
    assert said == [
        "the instance had 2 recoveries within 3600 s ([recovery] recoveries)",
        "paused until 2026-01-02 13",
        "held",
        "held, share",
        "held",
        "observe",
    ]
    assert weigh(states[-1], LIMITS, NOW).granted


def test_one_that_holds_a_place() -> None:
    """It was let through before: limits don't take that back, and the stop button does, in each of its forms."""
    known = Known(9, 9, [1.0] * 9, [1.0] * 9, has_place=True, others_wait=True)
    assert weigh(known, LIMITS, NOW).granted
    assert weigh(replace(known, pause=PAUSE_1H), LIMITS, NOW).withheld == PAUSED
    assert weigh(known, replace(LIMITS, max_concurrent=0), NOW).seconds == PAUSE
    assert weigh(known, replace(LIMITS, observe_only=True), NOW).withheld == OBSERVE


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5), (10000, 5000)])
def test_a_share_is_half(places: int, most: int) -> None:
    """Rounded up, and never nothing."""
    assert share(replace(LIMITS, max_concurrent=places)) == most


@pytest.mark.parametrize(
    ("places", "running", "mine", "others_wait", "granted"),
    [
        (10, 4, 4, True, True),  # up to half, whoever waits
        (10, 5, 5, True, False),
        (10, 5, 5, False, True),  # nobody else waits
        (10, 8, 8, False, True),
        (10, 9, 9, False, False),  # the last one is kept
        (10, 9, 4, False, True),  # for whoever is within its share
        (10, 9, 0, True, True),
        (10, 9, 5, False, False),
        (1, 0, 0, True, True),  # where there is one, there is nothing to share
        (2, 0, 0, True, True),
        (2, 1, 1, False, False),
        (2, 1, 0, True, True),
        (3, 2, 2, False, False),
        (3, 1, 1, True, True),
    ],
)
def test_share(places: int, running: int, mine: int, others_wait: bool, granted: bool) -> None:
    """While another project waits nobody is given more than half, and the last place is for one that has less."""
    limits = replace(LIMITS, max_concurrent=places, rate=99)
    permit = weigh(Known(running, mine, others_wait=others_wait), limits, NOW)
    assert permit.granted is granted
    assert permit.withheld == ("" if granted else SHARE)


def test_too_many_within_a_minute() -> None:
    """Until the oldest that counts is a minute old; the order of the ages does not matter."""
    assert weigh(Known(recent=[55.0, 20.0, 5.0]), LIMITS, NOW).seconds == 40.0
    assert weigh(Known(recent=[59.9, 59.9]), LIMITS, NOW).seconds == 1.0
    assert weigh(Known(recent=[50.0]), replace(LIMITS, rate=1), NOW).seconds == 10.0
    assert weigh(Known(recent=[50.0]), LIMITS, NOW).granted


def test_a_pause_ends_by_itself() -> None:
    """Whoever waits asks again when it is over, and is let through then."""
    assert weigh(Known(pause=PAUSE_1H), LIMITS, PAUSE_1H.until - 4.0).seconds == 4.0
    assert weigh(Known(pause=PAUSE_1H), LIMITS, PAUSE_1H.until - 0.1).seconds == 1.0
    assert weigh(Known(pause=PAUSE_1H), LIMITS, PAUSE_1H.until).granted


@pytest.mark.parametrize(
    ("known", "later"),
    [
        (Known(recent=[5.0, 50.0]), Known(recent=[6.0, 51.0])),
        (Known(8, 2, others_wait=True), Known(5, 4, others_wait=True)),
        (Known(pause=PAUSE_1H), Known(pause=PAUSE_1H)),
    ],
)
def test_the_text_stays_the_same(known: Known, later: Known) -> None:
    """A reason is logged once per text: numbers that change with each try would fill the log."""
    assert weigh(known, LIMITS, NOW).why == weigh(later, LIMITS, NOW + 7.0).why
